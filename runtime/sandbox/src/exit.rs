//! How things end: exits of instances, and the reasons a request got no response.

use crate::link::LinkFailed;
use std::fmt;
use std::time::Duration;
use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned, or called `exit`: 0 to 255.
    Code(u32),
    /// It trapped.
    Trap(TrapInfo),
    /// It died because its memory budget refused to grow.
    OutOfMemory {
        /// The budget that was too small, in bytes.
        limit: u64,
        /// The most that was ever charged to that budget, in bytes.
        peak: u64,
    },
    /// It used up the fuel of one run or request.
    OutOfFuel {
        /// The fuel it had.
        limit: u64,
    },
    /// It was stopped from outside because it took too long.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// It was stopped from outside by [`Container::kill`](crate::Container::kill), or because nobody wanted its
    /// answer any more.
    Killed,
}

impl Exit {
    /// The exit code to report: the guest's own, or what a shell would show for the signal that fits best.
    ///
    /// | exit | code |
    /// |---|---|
    /// | `Code(n)` | n |
    /// | `Trap` | 134, as for SIGABRT |
    /// | `OutOfMemory`, `Killed` | 137, as for SIGKILL |
    /// | `OutOfFuel` | 152, as for SIGXCPU |
    /// | `TimedOut` | 124, as `timeout(1)` |
    pub fn code(&self) -> i32 {
        match self {
            Exit::Code(code) => i32::try_from(*code).unwrap_or(255),
            Exit::Trap(_) => 134,
            Exit::OutOfMemory { .. } | Exit::Killed => 137,
            Exit::OutOfFuel { .. } => 152,
            Exit::TimedOut { .. } => 124,
        }
    }

    /// Reads wasmtime's error. `fuel` and `oom` are what the instance's limits know about it.
    pub(crate) fn from_error(error: &wasmtime::Error, fuel_limit: u64, oom: Option<(u64, u64)>) -> Exit {
        if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
            // WASI's exit codes are a byte wide; keep the low one as every shell does.
            return Exit::Code(u32::from(code.to_le_bytes()[0]));
        }
        if let Some(Trap::OutOfFuel) = error.downcast_ref::<Trap>() {
            return Exit::OutOfFuel { limit: fuel_limit };
        }
        // Whatever the guest was refused before, this is not what it died of.
        let oom = oom.filter(|_| !error.is::<LinkFailed>());
        if let Some((limit, peak)) = oom {
            return Exit::OutOfMemory { limit, peak };
        }
        Exit::Trap(TrapInfo::from_error(error))
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exit::Code(0) => write!(f, "exited normally"),
            Exit::Code(code) => write!(f, "exited with code {code}"),
            Exit::Trap(trap) => write!(f, "{trap}"),
            // The text Amazon ECS shows, so that people recognise it.
            Exit::OutOfMemory { .. } => {
                write!(f, "OutOfMemoryError: Container killed due to memory usage")
            }
            Exit::OutOfFuel { limit } => write!(f, "out of fuel: used up its limit of {limit}"),
            Exit::TimedOut { after } => write!(f, "timed out after {}", Seconds(*after)),
            Exit::Killed => write!(f, "killed"),
        }
    }
}

/// A trap: what happened, and in which function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrapInfo {
    /// What happened.
    pub kind: TrapKind,
    /// The demangled wasm function it happened in, the panic machinery of the language skipped. `None` if the
    /// component carries no names.
    pub function: Option<String>,
    /// One line for people: kind, function and callers.
    pub message: String,
}

/// Functions that every panic passes through and that say nothing about whose fault it is.
const MACHINERY: &[&str] = &[
    "__rust_",
    "__rustc",
    "_rdl_",
    "alloc::alloc::handle_alloc_error",
    "alloc::raw_vec::handle_error",
    "core::cell::panic",
    "core::option::",
    "core::panicking",
    "core::result::",
    "core::slice::index::",
    "rust_begin_unwind",
    "rust_oom",
    "rust_panic",
    "std::alloc",
    "std::panicking",
    "std::process::abort",
    "std::sys::",
    "<alloc::raw_vec",
];

impl TrapInfo {
    fn from_error(error: &wasmtime::Error) -> TrapInfo {
        let kind = match error.downcast_ref::<Trap>() {
            Some(trap) => TrapKind::from(*trap),
            None if error.is::<LinkFailed>() => TrapKind::Linked(error.root_cause().to_string()),
            None => TrapKind::Host(error.root_cause().to_string()),
        };
        let mut names: Vec<String> = error
            .downcast_ref::<WasmBacktrace>()
            .map(|trace| {
                trace
                    .frames()
                    .iter()
                    .filter_map(|frame| frame.func_name())
                    .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
                    .collect()
            })
            .unwrap_or_default();
        // A recursion is shown once.
        names.dedup();
        let own = names
            .iter()
            .position(|name| name != "abort" && !MACHINERY.iter().any(|prefix| name.starts_with(prefix)))
            .unwrap_or(0);
        let mut interesting = names.into_iter().skip(own);
        let function = interesting.next();
        let mut message = format!("trap: {kind}");
        if let Some(function) = &function {
            message.push_str(" in ");
            message.push_str(function);
        }
        for (place, caller) in interesting.take(3).enumerate() {
            message.push_str(if place == 0 { ", called from " } else { " < " });
            message.push_str(&caller);
        }
        TrapInfo { kind, function, message }
    }

    /// A fault that is the host's, or the embedder's.
    pub(crate) fn host(reason: String) -> TrapInfo {
        let kind = TrapKind::Host(reason);
        TrapInfo { function: None, message: kind.to_string(), kind }
    }

    /// A panic of the host's own code while it worked for a guest.
    pub(crate) fn host_panic(payload: &(dyn std::any::Any + Send)) -> TrapInfo {
        let text = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        let kind = TrapKind::Host(format!("the host panicked: {text}"));
        TrapInfo { message: format!("trap: {kind}"), kind, function: None }
    }
}

impl fmt::Display for TrapInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// What kind of trap it was.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrapKind {
    /// `unreachable` was executed: a panic or an abort in most languages.
    Unreachable,
    /// The guest recursed too deeply.
    StackOverflow,
    /// A load or store outside linear memory.
    MemoryOutOfBounds,
    /// A table access outside the table.
    TableOutOfBounds,
    /// A call through a null function pointer.
    IndirectCallToNull,
    /// A call through a function pointer of another type.
    BadSignature,
    /// An integer overflow in a division.
    IntegerOverflow,
    /// A division by zero.
    IntegerDivisionByZero,
    /// A float that does not fit the integer it was converted to.
    BadConversionToInteger,
    /// The guest broke a rule of the component model, or another wasm trap; the text says which.
    Other(String),
    /// A call of a linked container failed; the text says which, and why.
    Linked(String),
    /// A host function failed, such as a stream used wrongly or a table of handles that is full.
    Host(String),
}

impl From<Trap> for TrapKind {
    fn from(trap: Trap) -> Self {
        match trap {
            Trap::UnreachableCodeReached => TrapKind::Unreachable,
            Trap::StackOverflow => TrapKind::StackOverflow,
            Trap::MemoryOutOfBounds => TrapKind::MemoryOutOfBounds,
            Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
            Trap::IndirectCallToNull => TrapKind::IndirectCallToNull,
            Trap::BadSignature => TrapKind::BadSignature,
            Trap::IntegerOverflow => TrapKind::IntegerOverflow,
            Trap::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
            Trap::BadConversionToInteger => TrapKind::BadConversionToInteger,
            other => {
                let text = other.to_string();
                TrapKind::Other(text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned())
            }
        }
    }
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrapKind::Unreachable => "unreachable",
            TrapKind::StackOverflow => "stack overflow",
            TrapKind::MemoryOutOfBounds => "out of bounds memory access",
            TrapKind::TableOutOfBounds => "out of bounds table access",
            TrapKind::IndirectCallToNull => "call of a null function pointer",
            TrapKind::BadSignature => "indirect call type mismatch",
            TrapKind::IntegerOverflow => "integer overflow",
            TrapKind::IntegerDivisionByZero => "integer divide by zero",
            TrapKind::BadConversionToInteger => "invalid conversion to integer",
            TrapKind::Other(text) | TrapKind::Linked(text) | TrapKind::Host(text) => text,
        })
    }
}

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// Too many requests wait already, or this one waited too long: 503.
    #[error("overloaded: too many requests are waiting")]
    Overloaded {
        /// When it makes sense to ask again.
        retry_after: Duration,
    },
    /// The container has been killed; the guest saw nothing of the request, so another may take it: 503.
    #[error("the container is stopping")]
    Stopping,
    /// The guest ended without a response: 502.
    #[error("{0}")]
    Guest(Exit),
    /// The guest returned without setting a response: 502.
    #[error("the guest returned without a response")]
    NoResponse,
    /// The guest's response is not one that can be sent on; the text says why: 502.
    #[error("invalid response: {0}")]
    InvalidResponse(String),
    /// No response head within the container's `request_timeout`: 504.
    #[error("no response within {}", Seconds(*after))]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The request itself is broken: 400.
    #[error("bad request: {0}")]
    RequestBody(String),
}

/// A duration as people write it: `60 s`, `1.5 s`, `250 ms`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < Duration::from_secs(1) {
            write!(f, "{} ms", self.0.as_millis())
        } else {
            write!(f, "{} s", self.0.as_secs_f64())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_follow_the_shell() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::OutOfMemory { limit: 1, peak: 1 }.code(), 137);
        assert_eq!(Exit::Killed.code(), 137);
        assert_eq!(Exit::TimedOut { after: Duration::from_secs(1) }.code(), 124);
    }

    #[test]
    fn texts_are_for_people() {
        let oom = Exit::OutOfMemory { limit: 1 << 20, peak: 1 << 20 };
        assert_eq!(oom.to_string(), "OutOfMemoryError: Container killed due to memory usage");
        let late = HandleError::TimedOut { after: Duration::from_millis(250) };
        assert_eq!(late.to_string(), "no response within 250 ms");
        assert_eq!(Exit::TimedOut { after: Duration::from_secs(90) }.to_string(), "timed out after 90 s");
    }

    #[test]
    fn a_trap_without_backtrace_still_names_its_kind() {
        let exit = Exit::from_error(&wasmtime::Error::from(Trap::StackOverflow), 0, None);
        let Exit::Trap(trap) = exit else { panic!("{exit:?}") };
        assert_eq!(trap.kind, TrapKind::StackOverflow);
        assert_eq!(trap.message, "trap: stack overflow");
    }
}
