//! The router as a client sees it: served over in-memory connections, spoken to in raw HTTP, with a
//! paused clock. Time passes only when everybody waits, so a time-out takes no time and a hang ends.

pub(crate) mod harness;

mod access_log;
mod bodies;
mod groups;
mod http1;
mod in_process;
mod lifecycle;
mod listeners;
mod protocols;
mod refusals;
mod routing;
mod smuggling;
mod tls;
mod upgrades;
