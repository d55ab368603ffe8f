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
//!
//! To understand it in an hour, read in this order:
//!
//! | file | answers |
//! |---|---|
//! | `plan.rs` | what is done in one pass, and what a plan consists of |
//! | `classify.rs` | what a task counts as: one table of rules |
//! | `service/mod.rs` | how one service is kept as it should be: what follows what |
//! | `service/roll.rs` | what is started and what is stopped, within the bounds of `bounds.rs` |
//! | `service/start.rs`, `placement/` | which tasks are made, and where they go |
//! | `backoff.rs` | what counts as a failure, and how long a service waits after one |
//! | `service/give_up.rs`, `alarms.rs` | when a deployment is given up, and how it goes back |
//! | `service/shift.rs`, `hooks.rs`, `traffic.rs` | the stages of a blue/green, linear or canary deployment |
//! | `planner.rs` | which changed record makes whom be looked at again |
//! | `check.rs`, `after.rs`, `contain.rs` | what no plan may do, and what is left of one that does |
//!
//! The rest is one thing each: `deployment.rs` begins deployments and writes their records, `service/draft.rs` is a
//! service while it is being decided about, `service/targets.rs` registers tasks in target groups, `service/balance.rs`
//! evens out zones, `service/task_sets.rs` is for services that somebody outside directs, `retention.rs` forgets,
//! `reason.rs` has every text that people read.

mod after;
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
