//! The access log: one line for each request, in JSON or as Elastic Load Balancing writes it.
//!
//! A request hands over an [`Entry`] when it has ended, through a bounded queue; a thread of its own makes
//! lines of them and writes files. When the disk is slower than the traffic, entries are dropped and
//! counted: a log never makes a request wait.

mod format;
mod writer;

pub(crate) use format::civil;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Uri, Version};
use prometheus::IntCounter;

use crate::trace::TRACE_ID;

/// Entries that wait to be written. At a hundred thousand requests a second it is what comes in while the
/// disk stalls for a tenth of a second.
const MAX_QUEUED: usize = 10_000;

/// Where requests are logged, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The file that is written to. Full ones are renamed, by appending `.1`, `.2` and so on.
    pub path: PathBuf,
    /// What a line looks like.
    pub format: AccessLogFormat,
    /// Bytes after which a new file is begun. Default 64 MiB.
    pub max_file_bytes: u64,
    /// Full files that are kept; the oldest is deleted. Default 8.
    pub max_files: u32,
}

impl AccessLogConfig {
    /// JSON lines to `path`, with the default bounds.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, format: AccessLogFormat::Json, max_file_bytes: 64 * 1024 * 1024, max_files: 8 }
    }
}

/// What a line of the access log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// An object a line.
    #[default]
    Json,
    /// The fields of an Application Load Balancer's access log, in their order.
    LoadBalancer,
}

impl std::str::FromStr for AccessLogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "json" => Ok(Self::Json),
            "alb" => Ok(Self::LoadBalancer),
            _ => Err(format!("{text:?} is no format of access logs: json and alb are")),
        }
    }
}

/// The handle requests log by.
pub(crate) struct AccessLog {
    queue: SyncSender<Entry>,
    dropped: IntCounter,
}

impl AccessLog {
    /// Opens the file and starts the thread that writes it, which ends with the handle.
    pub(crate) fn open(config: AccessLogConfig, dropped: IntCounter) -> std::io::Result<Self> {
        let mut writer = writer::Writer::open(config)?;
        let (queue, entries) = sync_channel(MAX_QUEUED);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run(&entries))?;
        Ok(Self { queue, dropped })
    }

    pub(crate) fn write(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.inc();
        }
    }
}

/// What is told of one request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) client: SocketAddr,
    pub(crate) is_secure: bool,
    pub(crate) started: SystemTime,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) host: Option<HeaderValue>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) trace_id: Option<HeaderValue>,
    pub(crate) tls: Option<(HeaderValue, HeaderValue)>,
    /// The ARNs of the listener and its load balancer, on ports that have one.
    pub(crate) load_balancer: Option<Arc<str>>,
    /// The target group's ARN, or the service's name.
    pub(crate) backend: Option<Arc<str>>,
    pub(crate) target: Option<Arc<str>>,
    /// Bytes of the request's body, where its head tells.
    pub(crate) received: Option<u64>,
    pub(crate) outcome: Outcome,
}

/// How a request went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The status the client got; none if it left before.
    pub(crate) status: Option<u16>,
    /// The status of the target, if it answered.
    pub(crate) target_status: Option<u16>,
    /// What the router refused the request for.
    pub(crate) error: Option<&'static str>,
    /// Time from the head to a target's being called, from there to its answer's head, and from there to
    /// the end.
    pub(crate) until_called: Option<Duration>,
    pub(crate) until_answered: Option<Duration>,
    pub(crate) total: Duration,
    /// Bytes of the response's body that were sent.
    pub(crate) sent: u64,
}

impl Entry {
    pub(crate) fn of<B>(request: &Request<B>, client: SocketAddr, is_secure: bool) -> Self {
        let headers = request.headers();
        let received =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Self {
            client,
            is_secure,
            started: SystemTime::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            host: headers.get(header::HOST).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            trace_id: None,
            tls: None,
            load_balancer: None,
            backend: None,
            target: None,
            received,
            outcome: Outcome::default(),
        }
    }

    /// Takes what the router has put on the request.
    pub(crate) fn introduced(&mut self, headers: &HeaderMap) {
        self.trace_id = headers.get(TRACE_ID).cloned();
    }
}
