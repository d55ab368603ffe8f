//! Log groups, streams and events: the storage model of CloudWatch Logs in one directory.
//!
//! A [`LogStore`] keeps events in an LSM tree (fjall), in the order (timestamp, arrival). Containers write
//! through a [`LogWriter`]: a bounded queue in front of one thread that commits whatever has gathered, so
//! that a busy node pays for one commit per batch and an idle one waits for nothing. Reading offers the
//! four questions the AWS clients ask: DescribeLogGroups, DescribeLogStreams, GetLogEvents and
//! FilterLogEvents, with their limits, tokens and error cases.
//!
//! What it deliberately does not know: the wire (JSON shapes and ARNs are the API's), accounts, tasks and
//! containers. A stream is a name to it. What is kept is bounded by [`LogStore::sweep`], which somebody has to
//! call now and then. Metric filters are absent.
//!
//! # What survives what
//!
//! A batch is written to the operating system before it becomes readable, and synced to the disk at most
//! 100 ms later. A killed process therefore loses nothing that was readable; a power loss may take the last
//! 100 ms of events, and never leaves half a batch. Groups and streams created explicitly are synced before
//! the call returns.
//!
//! # Precedence
//!
//! All of the store's threads yield to others of the machine (nice 5): a flood of lines costs those who write them
//! time, and not the requests beside it.
//!
//! # Blocking
//!
//! Every method of [`LogStore`] may wait for the disk: callers on an async runtime use `spawn_blocking`.
//! The methods of [`LogWriter`] don't block.

mod describe;
mod error;
mod keys;
mod model;
mod pattern;
mod read;
mod remove;
mod store;
mod token;
mod writer;

use rustix::process::setpriority_process;
use rustix::thread::gettid;

pub use describe::{DescribeGroups, DescribeStreams, OrderBy, Page};
pub use error::LogsError;
pub use model::{FilteredLogEvent, LogEvent, LogGroup, LogScope, LogStream, OutputLogEvent};
pub use pattern::FilterPattern;
pub use read::{EventsPage, FilterEvents, FilteredPage, GetEvents};
pub use remove::{RETENTION_DAYS, Swept};
pub use store::LogStore;
pub use writer::{LogWriter, QueueFull};

/// The largest message kept in one event, in bytes (256 KiB). A longer one becomes several events with the
/// same timestamp, in order, cut between characters.
pub const EVENT_BYTES_MAX: usize = 256 * 1024;

/// What an event counts beside its message towards sizes, in bytes; CloudWatch Logs' figure.
pub const EVENT_OVERHEAD_BYTES: usize = 26;

/// How much the store's threads yield to others.
const NICE: i32 = 5;

/// Lowers the precedence of the calling thread and of those it starts, which under Linux is always allowed.
fn step_back() {
    // Without it, floods only cost others more.
    let _ = setpriority_process(Some(gettid()), NICE);
}
