//! `coracle dev`: from a component that has been built to its first answer, while somebody goes on asking. Each version is
//! another component, so each is compiled.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_fixtures::example_hello;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::peers::{Running, coracle_binary, exchange, poll};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, conclude};

/// How long the client that must not notice waits between two requests.
const PACE: Duration = Duration::from_millis(5);

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n";

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let swaps = context.pick(2, 10);
    let dir = Directory::new()?;
    let session = Arc::new(Session::start(dir.path())?);
    let row =
        Row::new("coracle", "coracle dev", Whose::Ours, "coracle dev, and rename(2) of a new hello.wasm")
            .with_settings(
                "a component of 82 KiB; a client asks every 5 ms meanwhile, and has to be answered 200",
            );
    let row = context.with_goal(row, 0.2);
    let mut version = 0;
    let mut sides = vec![Side::new(row, || {
        let session = Arc::clone(&session);
        let first = version + 1;
        version += swaps;
        async move { tokio::task::spawn_blocking(move || session.swap(first, swaps)).await? }
    })];
    context.interleave(&mut sides, context.pick(1, 3)).await;
    let table = Table::new(
        "swap",
        "From a new .wasm to its first answer, with `coracle dev`",
        "From the moment the file is there until the first answer of a task that runs it, asked every 2 ms. No request of the \
         client beside it may fail.",
        Unit::Seconds,
    )
    .linear();
    Ok(Findings { tables: vec![conclude(table, sides, &[])], ..Findings::default() })
}

/// A running `coracle dev`.
struct Session {
    dir: PathBuf,
    base: Vec<u8>,
    output: PathBuf,
    router: SocketAddr,
    /// The tasks that have answered: while one takes another's place, both do.
    tasks: Mutex<HashSet<String>>,
    _process: Running,
}

impl Session {
    fn start(root: &Path) -> anyhow::Result<Self> {
        let dir = root.join("hello");
        std::fs::create_dir(&dir)?;
        let base = std::fs::read(example_hello())?;
        std::fs::write(dir.join("coracle.toml"), "component = \"hello.wasm\"\n")?;
        put(&dir, &base, 0)?;
        let output = root.join("output");
        let mut command = Command::new(coracle_binary()?);
        command
            .args(["dev", "--api", "127.0.0.1:0", "--router", "127.0.0.1:0"])
            .current_dir(&dir)
            // Its state goes with the bench's, because it is not given the time to remove it.
            .env("TMPDIR", root)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&output)?);
        let process = Running::spawn(&mut command)?;
        let port = poll("the first version", || {
            let said = std::fs::read_to_string(&output).ok()?;
            let (_, rest) = said.split_once(".localhost:")?;
            rest.split_once('/')?.0.parse::<u16>().ok()
        })?;
        let router = SocketAddr::from(([127, 0, 0, 1], port));
        let session = Self { dir, base, output, router, tasks: Mutex::default(), _process: process };
        poll("the first answer", || session.new_task())?;
        Ok(session)
    }

    /// Swaps so many times, one after the other, beside a client.
    fn swap(&self, first: usize, swaps: usize) -> anyhow::Result<Turn> {
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let client = scope.spawn(|| self.ask_on(&is_over));
            let times = (first..first + swaps).try_fold(Times::default(), |mut times, version| {
                put(&self.dir, &self.base, version)?;
                let begun = Instant::now();
                poll("the new version", || self.new_task())?;
                times.record(begun.elapsed());
                // The next one begins when this one has ended.
                poll("the swap's end", || self.said("after it was built", version).then_some(()))?;
                anyhow::Ok(times)
            });
            is_over.store(true, Ordering::Relaxed);
            let (errors, error) = client.join().map_err(|_| anyhow::anyhow!("the client panicked"))?;
            Ok(Turn::of_times(times?, "swapped").with_errors(errors, error))
        })
    }

    /// Asks, and notes who answered if that task never has before.
    fn new_task(&self) -> Option<()> {
        let task = task(&exchange(self.router, REQUEST).ok()?)?;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(task).then_some(())
    }

    /// Asks until it is over, and answers how often that failed, and why at first.
    fn ask_on(&self, is_over: &AtomicBool) -> (u64, Option<String>) {
        let (mut errors, mut first) = (0, None);
        while !is_over.load(Ordering::Relaxed) {
            let failed = match exchange(self.router, REQUEST) {
                Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => None,
                Ok(answer) => Some(answer.lines().next().unwrap_or("no answer").to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if failed.is_some() {
                errors += 1;
                first = first.or(failed);
            }
            std::thread::sleep(PACE);
        }
        (errors, first)
    }

    /// Whether it has said something so many times.
    fn said(&self, text: &str, times: usize) -> bool {
        let said = std::fs::read_to_string(&self.output).unwrap_or_default();
        said.matches(text).count() >= times
    }
}

/// Which task gave an answer.
fn task(answer: &str) -> Option<String> {
    let (_, rest) = answer.split_once("x-coracle-task: ")?;
    Some(rest.split_once('\r')?.0.to_owned())
}

/// Puts a version of the component in place at once, as a build does: the same code, and bytes that are no
/// other version's.
fn put(dir: &Path, base: &[u8], version: usize) -> anyhow::Result<()> {
    let mut component = base.to_vec();
    // A custom section: its id, its size, the size of its name, its name, and what it holds.
    let text = format!("{}-{version:04}", std::process::id());
    component.extend([0, u8::try_from(2 + text.len())?, 1, b'v']);
    component.extend(text.as_bytes());
    let beside = dir.join(".hello.wasm");
    std::fs::write(&beside, component)?;
    Ok(std::fs::rename(beside, dir.join("hello.wasm"))?)
}
