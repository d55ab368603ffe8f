//! What is confidential: Secrets Manager, and Systems Manager's Parameter Store.
//!
//! `manager` and `parameters` hold the actions; `read` is how a node gets at the values its tasks name. Values are
//! sealed before they go into the store and opened only for an answer.

pub(crate) mod manager;
pub(crate) mod parameters;
mod read;

pub use read::{SecretError, SecretReader};
