//! What a bench is: a name, a line about it, and one function that answers with tables.
//!
//! To add one, write `suite/NAME.rs` with `pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings>`
//! and list it in [`BENCHES`]. It prints nothing: the harness prints what it answers.

use std::io::{IsTerminal as _, Write as _};
use std::pin::Pin;
use std::time::Instant;

use crate::report::{BenchResult, Findings, Row};
use crate::turns::{self, Side};
use crate::{cold_start, suite};

/// The future of a bench.
type Run<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Findings>> + Send + 'a>>;

/// One bench of the suite.
pub struct Bench {
    /// What it is called by.
    pub name: &'static str,
    /// What it measures, in a line.
    pub about: &'static str,
    /// Measures it.
    pub run: for<'a> fn(&'a Context) -> Run<'a>,
}

/// `bench!(name in module, "about")`.
macro_rules! bench {
    ($name:literal, $about:literal, $run:path) => {
        Bench { name: $name, about: $about, run: |context| Box::pin($run(context)) }
    };
}

/// The suite, in the order it is run.
pub const BENCHES: &[Bench] = &[
    bench!("cold-start", "from nothing to the first answer, beside containers", cold_start::run),
    bench!(
        "instantiate",
        "creating an instance with every limit, beside bare wasmtime",
        suite::instantiate::run
    ),
    bench!("artifact", "from an artifact on disk to the first answer", suite::artifact::run),
    bench!("startup", "from `coracle up` on existing state to the first answer", suite::startup::run),
    bench!("throughput", "requests per second and latency, beside `wasmtime serve`", suite::throughput::run),
    bench!("proxy", "the router as a reverse proxy, beside nginx and HAProxy", suite::proxy::run),
    bench!("cap", "how exactly CPU caps are kept", suite::cap::run),
    bench!("fairness", "how CPU shares divide the machine", suite::fairness::run),
    bench!("noisy", "latency of one service beside tasks that spin, leak and flood", suite::noisy::run),
    bench!("metering", "what metering costs real programs", suite::metering::run),
    bench!("density", "how many idle instances a GiB holds, beside containers", suite::density::run),
    bench!("plugins", "calling a plugin, beside a native library, a process and Extism", suite::plugins::run),
    bench!("sdk", "what the SDK costs a guest, beside the same program without it", suite::sdk::run),
    bench!("swap", "`coracle dev`: from a new .wasm to its first answer", suite::swap::run),
    bench!("link", "a call from one container of a task to another", suite::link::run),
    bench!("scheduler", "placements per second, convergence, and two million tasks", suite::scheduler::run),
    bench!("store", "durable writes per second, beside etcd", suite::store::run),
    bench!("api", "calls of the AWS API, and from one to a running task", suite::api::run),
    bench!("allocs", "what is allocated for one request", suite::allocs::run),
];

/// How a bench is to be run.
pub struct Context {
    /// Whether only to see that it still runs: everything short, every count small.
    pub quick: bool,
}

impl Context {
    /// One of two sizes.
    #[must_use]
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The row with what is aimed at, where its figure is to be relied on.
    #[must_use]
    pub fn with_goal(&self, row: Row, goal: f64) -> Row {
        if self.quick || cfg!(debug_assertions) { row } else { row.with_goal(goal) }
    }

    /// Says what is going on, on standard error and only to people.
    pub fn progress(&self, text: &str) {
        let mut terminal = std::io::stderr();
        if terminal.is_terminal() {
            // Over the line before, and erased to the end of the line.
            let _ = write!(terminal, "\r  {text}\x1b[K");
            let _ = terminal.flush();
        }
    }

    /// Lets sides take turns, see [`turns::interleave`], and says whose turn it is.
    pub async fn interleave(&self, sides: &mut [Side<'_>], turns: usize) {
        turns::interleave(sides, turns, |turn, label| {
            self.progress(&format!("turn {} of {turns}: {label}", turn + 1));
        })
        .await;
        self.progress("");
    }
}

/// Runs a bench. It may fail; the others go on.
pub async fn run(bench: &Bench, context: &Context) -> BenchResult {
    let begun = Instant::now();
    let outcome = (bench.run)(context).await;
    context.progress("");
    let (findings, failed) = match outcome {
        Ok(findings) => (findings, None),
        Err(error) => (Findings::default(), Some(format!("{error:#}"))),
    };
    BenchResult {
        name: bench.name.to_owned(),
        about: bench.about.to_owned(),
        seconds: begun.elapsed().as_secs_f64(),
        findings,
        failed,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let names: BTreeSet<_> = BENCHES.iter().map(|bench| bench.name).collect();
        assert_eq!(names.len(), BENCHES.len());
        for name in names {
            assert!(name.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-'), "{name}");
        }
    }
}
