//! A plugin as a program: one call, from texts to an exit code.

use super::error::Unfinished;
use super::function::Function;
use super::{CallError, CallLimits, Plugin};
use crate::exit::{Exit, TrapInfo};
use crate::output::StdStream;
use std::future::poll_fn;
use wasmtime::component::Val;

/// A call that has been checked against the component's types.
pub struct Invocation {
    function: String,
    arguments: Vec<Val>,
}

impl Plugin {
    /// Checks a call whose arguments are words, as on a command line: JSON each, as [`call`](Self::call) takes it; for
    /// text and the names of cases a word is the text itself.
    ///
    /// # Errors
    /// [`CallError::Call`]: there is no such function, or the arguments don't fit it.
    pub fn invocation(&self, function: &str, words: &[String]) -> Result<Invocation, CallError> {
        let version = self.0.current.read().clone();
        let found = version.functions.find(function)?;
        let arguments = found.arguments(&found.of_words(words)?)?;
        Ok(Invocation { function: function.to_owned(), arguments })
    }

    /// Makes a call as a command is run: in its own time, with the fuel of one run. What it returns is written to its
    /// standard output, as JSON in one line; the exit code is 1 if that is the failure of a `result`, else 0.
    pub async fn run(&self, invocation: &Invocation) -> Exit {
        let version = self.0.current.read().clone();
        let ran = async {
            let function = version.functions.find(&invocation.function)?;
            let limits = version.limits(CallLimits::default());
            let results = version.enter(limits, function.called_with(&invocation.arguments)).await?;
            let failed = Function::is_failure(&results);
            let result = function.has_result().then(|| function.result(results)).transpose()?;
            Ok((failed, result))
        };
        let (failed, result) = match ran.await {
            Ok(ended) => ended,
            Err(Unfinished::Ended(exit)) => return exit,
            Err(Unfinished::Refused(CallError::Closed)) => return Exit::Killed,
            Err(Unfinished::Refused(error)) => return Exit::Trap(TrapInfo::host(error.to_string())),
        };
        if let Some(result) = result {
            let mut stdout = version.container.shared().spec.output.open(StdStream::Stdout);
            poll_fn(|cx| stdout.poll_ready(cx)).await;
            stdout.write(format!("{result}\n").as_bytes());
        }
        Exit::Code(failed.into())
    }
}
