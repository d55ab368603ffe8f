//! What an operator may tune. Every bound the router has is here, with its unit and its default.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::access_log::AccessLogConfig;

use crate::sticky::CookieKey;

/// The bounds of a [`Router`](crate::Router).
///
/// The defaults follow an Application Load Balancer where it documents a number (16 KiB request line,
/// 64 KiB of headers, 60 s idle time-out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterConfig {
    /// Connections open at once. Past it, new ones wait in the kernel's backlog, and idle keep-alive
    /// connections are closed to make room. Default 8,192.
    pub max_connections: usize,
    /// Bytes of a request's URI; a longer one is answered 414. Default 16 KiB.
    pub max_uri_bytes: usize,
    /// Bytes of a request's head, request line included; a bigger one is answered 431. A head may hold
    /// 100 header fields, whatever their size. Default 64 KiB.
    pub max_head_bytes: usize,
    /// Bytes of responses buffered per connection of HTTP/2 before their targets are made to wait. Over HTTP/1.1
    /// what a target gives at once is written before more is asked for. Default 256 KiB.
    pub max_buffer_bytes: usize,
    /// Requests a client may have in flight over one connection of HTTP/2. Default 128.
    pub max_streams: u32,
    /// Time for a request's head, from its first byte. Default 10 s. Like the next two it is checked
    /// twice a second, so it may take half a second more.
    pub header_read_timeout: Duration,
    /// Time a connection may stay open without a request. Default 60 s.
    pub keep_alive_timeout: Duration,
    /// Time a client may make no progress on a body: it sends none of a request body the target is
    /// waiting for, or takes none of a response. The connection is then closed. Default 60 s.
    pub client_stall_timeout: Duration,
    /// Time a request waits for a newer table when its service has no target it could try: the service
    /// is being deployed or restarts after a crash. Default 1 s.
    pub empty_wait: Duration,
    /// Requests that may wait like that at once; the next is answered 503 immediately. Default 1,024.
    pub max_waiting: usize,
    /// Targets tried for one request before it is answered 503, when each says it is draining.
    /// Default 8.
    pub max_attempts: usize,
    /// Time a request is held while a first target is started for it, where the service or target group
    /// allows that. Default 30 s.
    pub activation_wait: Duration,
    /// Signs the cookies that keep clients on their targets. By default a random one, with which they are
    /// forgotten when the process ends.
    pub cookie_key: CookieKey,
    /// Where requests are logged, if they are. Default not.
    pub access_log: Option<AccessLogConfig>,
    /// Threads that serve the connections of clients, each its own. With 0 they are served on the runtime that serves the
    /// router. Default one for each processor.
    pub worker_threads: usize,
    /// Time requests in flight get to finish when the router shuts down. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_uri_bytes: 16 * 1024,
            max_head_bytes: 64 * 1024,
            max_buffer_bytes: 256 * 1024,
            max_streams: 128,
            header_read_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            client_stall_timeout: Duration::from_secs(60),
            empty_wait: Duration::from_secs(1),
            max_waiting: 1024,
            max_attempts: 8,
            activation_wait: Duration::from_secs(30),
            cookie_key: CookieKey::default(),
            access_log: None,
            worker_threads: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            drain_timeout: Duration::from_secs(30),
        }
    }
}
