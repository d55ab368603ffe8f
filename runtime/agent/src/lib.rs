//! Tasks on one node: assigned set in, observed set out.
//!
//! The [`Agent`] is handed everything its node should run as one value, again with each change, and makes it
//! so: it compares, starts and stops. Of every task it reports the whole picture whenever something about it
//! changes. It acts on what should be and what is, never on what happened in between, so a change that is missed
//! or seen twice makes no difference.
//!
//! | module | what it is |
//! |---|---|
//! | `agent` | the front door, and the one loop that owns the running tasks |
//! | `assignment` | pure: compares assigned with running |
//! | `resolve` | pure: what a task and its definition mean on this node (arguments, environment, limits) |
//! | `machine` | pure: the life of a task; events in, effects out |
//! | `driver` | one per task: does what the machine says, brings it events |
//! | `exec` | commands beside running containers |
//! | `handle`, `endpoints` | how the router gets requests into HTTP containers, and which there are |
//! | `usage`, `figures` | what tasks use, and what they count of their own |
//! | `metadata` | what a task can learn of itself |
//! | `health`, `shell`, `labels`, `logs`, `volumes`, `secrets`, `roles`, `network`, `keyvalue` | one part of a task definition each |
//!
//! This room deliberately does not know where images come from, where logs go, how requests get to the node, or
//! who decides what runs: images and logs are reached through the traits [`ImageSource`] and [`LogSink`], requests
//! come in through [`HttpHandle`]s. It persists nothing: a node that starts again starts empty.

mod agent;
mod assignment;
mod driver;
mod endpoints;
mod exec;
mod figures;
mod handle;
mod health;
mod images;
mod keyvalue;
mod labels;
mod logs;
mod machine;
mod metadata;
mod network;
mod probe;
mod requests;
mod resolve;
mod roles;
mod secrets;
mod shell;
mod usage;
mod volumes;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use agent::{Agent, AgentConfig, Clock, Facilities};
pub use endpoints::{Endpoint, EndpointTarget};
pub use exec::{ExecError, Execution};
pub use figures::{BUCKETS, Figure, GuestFigure};
pub use handle::{CallError, HttpHandle, SocketEntry, SocketHandle};
pub use images::{FetchedImage, ImageSource};
pub use keyvalue::KeyValueSource;
pub use logs::{LogSink, LogStream, LogTarget};
pub use requests::{ObservedRequest, RequestObserver};
pub use roles::RoleSource;
pub use secrets::SecretSource;
pub use usage::{TaskUsage, UsageGroup, UsageTotals};
