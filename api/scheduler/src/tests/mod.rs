//! The scheduler against a pretended cluster in virtual time.

mod alarms;
mod checker;
mod failures;
pub(crate) mod harness;
mod lifetime;
mod placement;
mod properties;
mod rollout;
mod services;
mod shifting;
mod simulation;
mod targets;
mod task_sets;
