//! Whose fault it was.

use crate::exit::{Exit, HandleError, TrapKind};

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The caller's fault: there is no such function, or the arguments don't fit it. The guest saw nothing of it.
    #[error("{0}")]
    Call(String),
    /// The guest's fault: it trapped, or exited. Its instance is gone.
    #[error("the plugin failed: {0}")]
    Guest(Exit),
    /// A limit was reached: fuel, memory or time. Its instance is gone.
    #[error("the plugin reached a limit: {0}")]
    Limit(Exit),
    /// A host function failed or panicked, or the guest misused one. Its instance is gone.
    #[error("the host failed: {0}")]
    Host(String),
    /// All instances are busy, and too many calls wait already or this one waited too long. Later it may work.
    #[error("all instances are busy")]
    Busy,
    /// The plugin has been killed.
    #[error("the plugin has been stopped")]
    Closed,
}

impl From<Exit> for CallError {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::OutOfFuel { .. } | Exit::OutOfMemory { .. } | Exit::TimedOut { .. } => {
                CallError::Limit(exit)
            }
            Exit::Killed => CallError::Closed,
            Exit::Trap(trap) if matches!(trap.kind, TrapKind::Host(_)) => CallError::Host(trap.message),
            Exit::Trap(_) | Exit::Code(_) => CallError::Guest(exit),
        }
    }
}

impl From<HandleError> for CallError {
    fn from(refused: HandleError) -> Self {
        match refused {
            HandleError::Stopping => CallError::Closed,
            _ => CallError::Busy,
        }
    }
}

/// Why a call came to no result, for those who tell an exit from a refusal.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// There was no instance for it.
    Refused(CallError),
    /// Its instance ended, or took too long.
    Ended(Exit),
}

impl From<CallError> for Unfinished {
    fn from(error: CallError) -> Self {
        Unfinished::Refused(error)
    }
}

impl From<Unfinished> for CallError {
    fn from(unfinished: Unfinished) -> Self {
        match unfinished {
            Unfinished::Refused(error) => error,
            Unfinished::Ended(exit) => exit.into(),
        }
    }
}
