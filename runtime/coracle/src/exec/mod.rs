//! Commands inside running tasks: what the API asks the agent for, and `coracle exec`.

mod client;
mod host;

pub(crate) use client::exec;
pub(crate) use host::AgentCommands;
