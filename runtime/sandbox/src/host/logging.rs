//! `wasi:logging`: lines on standard error, with their level and context.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use super::HostState;
use crate::output::StdStream;

/// The interface, as toolchains name it: with the version of its draft, and without any.
const LOGGING: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "guests make the values")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for interface in LOGGING {
        linker.instance(interface)?.func_wrap_async(
            "log",
            |mut store: StoreContextMut<'_, HostState>,
             (level, context, message): (Level, String, String)| {
                Box::new(async move {
                    let line = line(level, &context, &message);
                    let output = store.data_mut().output(StdStream::Stderr);
                    let mut rest = line.as_bytes();
                    while !rest.is_empty() {
                        let written = std::future::poll_fn(|cx| output.poll_write(cx, rest)).await;
                        rest = rest.get(written..).unwrap_or_default();
                    }
                    Ok(())
                })
            },
        )?;
    }
    Ok(())
}

/// One line per message: a message must not pass for several.
fn line(level: Level, context: &str, message: &str) -> String {
    let context = if context.is_empty() { String::new() } else { format!(" {context}:") };
    let mut line = format!("{}{context} {message}", level.name()).replace(['\n', '\r'], " ");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(line(Level::Warn, "db", "slow"), "WARN db: slow\n");
        assert_eq!(line(Level::Info, "", "a\nb"), "INFO a b\n");
    }
}
