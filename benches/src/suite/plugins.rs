//! Calling a plugin: the sandbox as a library beside a native library, a process for every call, and Extism, all doing
//! what the example plugin `words` does.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use coracle_fixtures::example_words;
use coracle_sandbox::wasmtime::StoreContextMut;
use coracle_sandbox::{
    Container, ContainerSpec, CpuBudget, Engine, EngineConfig, HostFunctions, HostState, MemoryBudget,
    Plugin, Prepared,
};
use serde_json::json;

use crate::bench::Context;
use crate::cleanup::{self, Directory};
use crate::containers::compile;
use crate::peers::find;
use crate::proc::pss;
use crate::report::{Findings, Measure, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, all_pairs, conclude};

/// Instances that are held to see what one takes.
const HELD: u32 = 100;

/// What every call is given: 64 words.
fn text() -> String {
    let words = ["on", "the", "origin", "of", "species", "by", "means", "of"];
    words.repeat(8).join(" ")
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let calls: u32 = context.pick(20, 5000);
    let text: Arc<str> = text().into();
    let directory = Directory::new()?;
    let prepared = prepare()?;
    let mut memory = Table::new(
        "memory",
        "Memory of an idle plugin instance",
        "PSS of the host's process with 100 more instances of words, divided by 100.",
        Unit::Bytes,
    );
    let plugin = Arc::new(Plugin::new(&prepared, spec())?);
    let label = "Coracle's sandbox";
    let row = Row::new("sandbox", label, Whose::Ours, "Plugin::call(\"summarize\", [text])").with_settings(
        "a component; every limit on: fuel, memory, time; arguments and result as JSON; it also calls a function of the \
         host each time, which the others don't",
    );
    memory.rows.push(
        held(&prepared, Row::new("sandbox", label, Whose::Ours, "100 × Container::instantiate")).await?,
    );
    let mut sides = vec![Side::new(row, {
        let text = Arc::clone(&text);
        move || sandbox_turn(Arc::clone(&plugin), Arc::clone(&text), calls)
    })];
    match native_library(directory.path()) {
        Ok(library) => {
            let row = Row::new("dylib", "native library", Whose::Bound, "libloading: summarize_words(text)")
                .with_settings("no isolation, no limits: what it breaks is the host's");
            let (library, text) = (Arc::new(library), Arc::clone(&text));
            sides.push(Side::new(row, move || std::future::ready(library_turn(&library, &text, calls))));
        }
        Err(error) => findings.leave_out("a native library", format!("{error:#}")),
    }
    match compile_program(directory.path()) {
        Ok(program) => {
            let row = Row::new("process", "a process per call", Whose::Peer, "words_program < text")
                .with_settings("fork, exec, a pipe each way; no limits");
            let text = Arc::clone(&text);
            let calls = calls.min(context.pick(3, 300));
            sides.push(Side::new(row, move || std::future::ready(process_turn(&program, &text, calls))));
        }
        Err(error) => findings.leave_out("a process per call", format!("{error:#}")),
    }
    match extism(directory.path()) {
        Ok((host, plugin)) => {
            let row = Row::new("extism", "Extism", Whose::Peer, "coracle-bench-extism words.wasm CALLS TEXT")
                .with_settings(
                    "one instance for all calls, its default; no fuel, no time-out, no memory limit",
                );
            let once = extism_call(&host, &plugin, &text, 1)?;
            let row_of_memory = Row::new("extism", "Extism", Whose::Peer, "100 × Plugin::new_from_compiled");
            memory.rows.push(row_of_memory.with_turns(vec![once.memory]));
            let text = Arc::clone(&text);
            sides.push(Side::new(row, move || {
                std::future::ready(
                    extism_call(&host, &plugin, &text, calls)
                        .map(|done| Turn::of_times(done.times, done.answer)),
                )
            }));
        }
        Err(error) => findings.leave_out("Extism", format!("{error:#}")),
    }
    context.interleave(&mut sides, context.pick(1, 5)).await;
    let table = Table::new(
        "call",
        "Calling a plugin that counts words",
        "One call after the other with 64 words of text, from the host's call to the answer in its hands.",
        Unit::Seconds,
    );
    let pairs = all_pairs(&sides);
    findings.tables = vec![conclude(table, sides, &pairs), memory];
    Ok(findings)
}

fn prepare() -> anyhow::Result<Prepared> {
    let host = HostFunctions::new(
        || (),
        |linker| {
            linker.root().func_wrap("log", |_: StoreContextMut<'_, HostState>, (_line,): (String,)| Ok(()))
        },
    );
    Ok(Engine::new(&EngineConfig::default())?.prepare_with(&std::fs::read(example_words())?, &host)?)
}

fn spec() -> ContainerSpec {
    ContainerSpec {
        cpu: CpuBudget::capped(16 * 1024),
        memory: MemoryBudget::new(1 << 30),
        fuel_per_run: Some(100_000_000),
        run_timeout: Some(Duration::from_secs(10)),
        ..ContainerSpec::default()
    }
}

async fn held(prepared: &Prepared, row: Row) -> anyhow::Result<Row> {
    let container = Container::new(prepared, spec())?;
    let me = std::process::id();
    let before = pss(me)?;
    let mut held = Vec::new();
    for _ in 0..HELD {
        held.push(container.instantiate().await.map_err(|exit| anyhow!("{exit}"))?);
    }
    #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
    let each = pss(me)?.saturating_sub(before) as f64 / f64::from(HELD);
    Ok(Row { measure: Measure::of_turns(vec![each], None), ..row })
}

async fn sandbox_turn(plugin: Arc<Plugin>, text: Arc<str>, calls: u32) -> anyhow::Result<Turn> {
    let arguments = json!([&*text]);
    let (mut times, mut answer) = (Times::default(), String::new());
    for _ in 0..calls {
        let begun = Instant::now();
        let value = plugin.call("summarize", &arguments).await?;
        times.record(begun.elapsed());
        let now = format!("{} {}", value["words"], value["longest"].as_str().unwrap_or_default());
        if !answer.is_empty() && now != answer {
            bail!("another answer: {now}");
        }
        answer = now;
    }
    Ok(Turn::of_times(times, answer))
}

const WORDS: &str = include_str!("../../native/words.rs");

/// A source of ours with what it includes in its place.
fn whole(source: &str) -> String {
    source.replace("include!(\"words.rs\");", WORDS)
}

fn native_library(directory: &Path) -> anyhow::Result<libloading::Library> {
    let file = directory.join("libwords.so");
    let source = whole(include_str!("../../native/words_dylib.rs"));
    compile(directory, "words_dylib", &source, &["--crate-type", "cdylib"], &file)?;
    #[expect(unsafe_code, reason = "loading foreign code runs it: that is what this row is about")]
    // SAFETY: it has just been built from a source of ours, which has no constructors.
    let library = unsafe { libloading::Library::new(&file) };
    Ok(library?)
}

fn library_turn(library: &libloading::Library, text: &str, calls: u32) -> anyhow::Result<Turn> {
    type Summarize = unsafe extern "C" fn(*const u8, usize, *mut usize) -> u32;
    #[expect(unsafe_code, reason = "a symbol's type is the host's claim")]
    // SAFETY: the source beside this crate declares it like that.
    let summarize = unsafe { library.get::<Summarize>(b"summarize_words\0") }?;
    let (mut times, mut answer) = (Times::default(), String::new());
    for _ in 0..calls {
        let mut range = [0; 2];
        let begun = Instant::now();
        #[expect(unsafe_code, reason = "native plugins are called without a net")]
        // SAFETY: the text has its length, and there is room for two numbers.
        let words = unsafe { summarize(text.as_ptr(), text.len(), range.as_mut_ptr()) };
        times.record(begun.elapsed());
        answer = format!("{words} {}", text.get(range[0]..range[1]).context("a range of the text")?);
    }
    Ok(Turn::of_times(times, answer))
}

fn compile_program(directory: &Path) -> anyhow::Result<PathBuf> {
    let file = directory.join("words_program");
    compile(directory, "words_program", &whole(include_str!("../../native/words_program.rs")), &[], &file)?;
    Ok(file)
}

fn process_turn(program: &Path, text: &str, calls: u32) -> anyhow::Result<Turn> {
    let (mut times, mut answer) = (Times::default(), String::new());
    for _ in 0..calls {
        let begun = Instant::now();
        let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("it was asked for")?.write_all(text.as_bytes())?;
        answer.clear();
        child.stdout.take().context("it was asked for")?.read_to_string(&mut answer)?;
        let status = child.wait()?;
        times.record(begun.elapsed());
        if !status.success() {
            bail!("it ended by {status}");
        }
    }
    Ok(Turn::of_times(times, answer))
}

/// The program that hosts Extism, if it has been built, and the plugin for it.
fn extism(directory: &Path) -> anyhow::Result<(PathBuf, PathBuf)> {
    const HOST: &str = "coracle-bench-extism";
    let built = crate::peers::sources().map(|root| root.join("benches/extism/target/release").join(HOST));
    let host = built.filter(|path| path.is_file()).or_else(|| find(HOST));
    let host = host.context("it is built by benches/setup.sh, and has not been")?;
    let plugin = directory.join("words.wasm");
    let source = whole(include_str!("../../native/words_extism.rs"));
    // The linker itself, which gives a core module; the target's usual one makes a component of it.
    let options = [
        "--target",
        "wasm32-wasip2",
        "--crate-type",
        "cdylib",
        "-C",
        "linker=rust-lld",
        "-C",
        "linker-flavor=wasm-ld",
    ];
    compile(directory, "words_extism", &source, &options, &plugin)?;
    Ok((host, plugin))
}

/// What a run of the host came to.
struct Called {
    answer: String,
    memory: f64,
    times: Times,
}

fn extism_call(host: &Path, plugin: &Path, text: &str, calls: u32) -> anyhow::Result<Called> {
    let output = cleanup::output(Command::new(host).arg(plugin).arg(calls.to_string()).arg(text))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let printed = String::from_utf8(output.stdout)?;
    let mut lines = printed.lines().filter(|line| !line.is_empty());
    let answer = lines.next().context("no answer")?.to_owned();
    let memory = lines.next().context("no memory")?.parse()?;
    let times =
        lines.map(|line| Ok(Duration::from_nanos(line.parse()?))).collect::<anyhow::Result<Times>>()?;
    Ok(Called { answer, memory, times })
}
