//! Decides what should run where; pure.
//!
//! [`plan`] reads one snapshot of the state and answers with everything that should change, each
//! decision with its [`Reason`]; [`check_plan`] says which safety properties a plan would break. The
//! room has no clock, no randomness and no I/O of its own: the time and the ids come in, so that the
//! same snapshot, moment and seed always give the same plan. It does not know how changes are committed
//! nor how nodes run tasks.
//!
//! ```text
//! snapshot ─▶ lost tasks ─▶ unplaced tasks ─▶ each service: classify, count failures, diff ─▶ retention ─▶ plan
//!             (plan.rs)                       (classify.rs, backoff.rs, service/)          (retention.rs)
//! ```
//!
//! [`plan`] looks at everything; a [`Planner`] remembers what it has seen and looks only at what has changed since.
//! Where a task goes is decided in `placement/`. Start reading at `plan.rs`, then `service/mod.rs`, then
//! `placement/mod.rs`.

mod alarms;
mod backoff;
mod bounds;
mod check;
mod classify;
mod contain;
mod deployment;
pub mod placement;
mod plan;
mod planner;
mod reason;
mod retention;
mod rng;
mod service;
mod task;
#[cfg(test)]
mod tests;

pub use backoff::BackoffPolicy;
pub use bounds::{Bounds, failure_threshold};
pub use check::{Violation, check_plan};
pub use contain::contain;
pub use deployment::{NewDeployment, completed_reason, deploy, in_progress_reason, new_deployment};
pub use placement::query::{Expression, QueryError, Subject};
pub use placement::{HostPort, Need, Rooms, Shortage, Unplaceable, host_ports, node_takes_tasks};
pub use plan::{Plan, plan};
pub use planner::Planner;
pub use reason::Reason;
pub use retention::RetentionPolicy;
pub use rng::PlanRng;
pub use task::{NewTask, assign, new_task};
