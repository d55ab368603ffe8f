//! The control loops: read a snapshot, plan, check, commit, wake.
//!
//! The room is the shell around `coracle-scheduler`: it decides nothing. Its loops take no input but the
//! store's state and the time, so they do after a crash what they do on a quiet day. [`run`] plans;
//! [`node_link`] carries what a node should run to it, and what it saw back; [`target_link`] what the
//! router saw of targets; [`activation`] lets services follow their requests; [`alarms`] evaluates alarms. The room knows no node but
//! through records and channels, and no clock but the one it is given.

pub mod activation;
pub mod alarms;
pub mod node_link;
mod planning;
mod stop;
pub mod target_link;

pub use planning::{run, run_once};
