//! Where tasks go.
//!
//! ```text
//! Need (what a task needs) ─▶ Rooms::batch ─▶ Batch::place, once for each task ─▶ node, or Unplaceable
//!
//! 1. constraints   the node takes tasks, serves the cluster, is of the provider, has the platform;
//!                  memberOf, distinctInstance
//! 2. room          ports, memory, CPU units
//! 3. strategies    in sequence: each decides among those the ones before it leave equal
//! 4. default       most free memory, then most free CPU, then the id
//! ```
//!
//! [`Rooms`] is a working copy: each placement takes from it, so that those of one plan see each other.

mod batch;
mod need;
pub mod query;
mod rooms;
mod shortage;

pub use batch::Batch;
pub use need::{HostPort, Need, host_ports};
pub use rooms::{Rooms, node_takes_tasks};
pub use shortage::{Shortage, Unplaceable};
