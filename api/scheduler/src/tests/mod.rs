//! The scheduler against a pretended cluster in virtual time.

mod checker;
mod failures;
pub(crate) mod harness;
mod lifetime;
mod properties;
mod rollout;
mod services;
