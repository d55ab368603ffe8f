//! Where components are compiled: in this process, or in a child of it under limits.
//!
//! A compiler is a large program that somebody else's bytes steer: they can make it run for minutes, take
//! gigabytes, or crash it. In a child process all of that costs one compilation, and nothing that runs. The child
//! is the same program, started again (see [`compile_child`]), because only the same compiler makes artifacts this
//! process can load.
//!
//! The parent writes one line of JSON to the child's standard input, and the component behind it. The child limits
//! itself before it reads the component, and writes the artifact to the file the line names; what it has to say
//! against the component goes there instead, and its exit code tells which of both it was. However else it ends,
//! it failed, and the parent works out why. The pipe stays open as long as the parent lives and waits: when it is
//! closed, the child gives up.
//!
//! This guards the process, not the artifact: a component that takes the compiler over can write any machine
//! code it likes, as it could if it were compiled here.

use crate::code::{Code, Refusal};
use crate::engine::{CompileSettings, Engine, Flavour};
use crate::prepare::PrepareError;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Where an [`ArtifactCache`](crate::ArtifactCache) compiles what it does not have.
#[derive(Clone, Debug, Default)]
pub enum Compiler {
    /// In this process, without limits: for components from people you trust.
    #[default]
    InProcess,
    /// In a child process for each component.
    Child(CompilerProcess),
}

/// How to start a compiler, and what it may use.
#[derive(Clone, Debug)]
pub struct CompilerProcess {
    /// The program: one that calls [`compile_child`] when it is started with these arguments.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// What one compilation may use.
    pub limits: CompileLimits,
}

impl CompilerProcess {
    /// This very program, even if its file has been replaced since it was started.
    pub fn this_program(args: impl IntoIterator<Item = impl Into<OsString>>, limits: CompileLimits) -> Self {
        CompilerProcess {
            program: PathBuf::from("/proc/self/exe"),
            args: args.into_iter().map(Into::into).collect(),
            limits,
        }
    }
}

/// What one compilation may use. The defaults let pass the largest programs seen (an FPGA synthesiser of 25 MB took
/// 95 s and 1.7 GB) and little that is larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time over all threads; whole seconds, rounded up. The default is 5 minutes.
    pub cpu_time: Duration,
    /// Time on the clock, waiting for a processor included. The default is 10 minutes.
    pub wall_time: Duration,
    /// Writable memory, in bytes. The default is 4 GiB.
    pub memory: u64,
    /// The largest artifact, in bytes. The default is 2 GiB.
    pub artifact: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits {
            cpu_time: Duration::from_secs(300),
            wall_time: Duration::from_secs(600),
            memory: 4 << 30,
            artifact: 2 << 30,
        }
    }
}

/// The limit a compilation exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompileLimit {
    /// [`CompileLimits::cpu_time`].
    CpuTime(Duration),
    /// [`CompileLimits::wall_time`].
    WallTime(Duration),
    /// [`CompileLimits::memory`].
    Memory(u64),
    /// [`CompileLimits::artifact`].
    Artifact(u64),
}

impl fmt::Display for CompileLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileLimit::CpuTime(time) => write!(f, "{} s of CPU time", time.as_secs_f64()),
            CompileLimit::WallTime(time) => write!(f, "{} s", time.as_secs_f64()),
            CompileLimit::Memory(bytes) => write!(f, "{} MiB of memory", bytes >> 20),
            CompileLimit::Artifact(bytes) => write!(f, "{} MiB for its machine code", bytes >> 20),
        }
    }
}

/// The child's exit code if the output file holds words instead of machine code: BSD's `EX_DATAERR`.
const REFUSED: i32 = 65;

/// The child's exit code if it is not about the component.
const FAILED: i32 = 1;

/// What is read of the child's standard error, and the longest refusal, in bytes.
const LONGEST_WORDS: u64 = 64 << 10;

impl Compiler {
    /// Compiles `wasm` into the file `output`, which is there and empty; answers for which flavour of the engine.
    pub(crate) async fn compile(
        &self,
        engine: &Engine,
        wasm: Vec<u8>,
        output: &Path,
    ) -> Result<Flavour, PrepareError> {
        let wasm = Arc::new(wasm);
        match self.attempt(engine, Flavour::Plain, &wasm, output).await {
            // Validation goes before compilation, so that attempt did not cost much.
            Err(Refusal::NeedsConcurrency(_)) => {
                self.attempt(engine, Flavour::Concurrent, &wasm, output).await?;
                Ok(Flavour::Concurrent)
            }
            attempt => Ok(attempt.map(|()| Flavour::Plain)?),
        }
    }

    async fn attempt(
        &self,
        engine: &Engine,
        flavour: Flavour,
        wasm: &Arc<Vec<u8>>,
        output: &Path,
    ) -> Result<(), Refusal> {
        let other = |error: PrepareError| Refusal::Other(error);
        let runtime = engine.runtime(flavour).map_err(|error| other(error.into()))?;
        match self {
            Compiler::InProcess => {
                let (compiler, wasm, output) = (runtime.wasmtime.clone(), wasm.clone(), output.to_owned());
                let compile = move || {
                    let code = Code::precompile(&compiler, &wasm)?;
                    std::fs::write(&output, code).map_err(|error| other(cannot_write(&output, &error)))
                };
                tokio::task::spawn_blocking(compile)
                    .await
                    .map_err(|error| other(PrepareError::CompilerFailed(error.to_string())))?
            }
            Compiler::Child(process) => process.compile(runtime.settings, wasm, output).await,
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> PrepareError {
    PrepareError::Io(format!("cannot write the artifact {}: {error}", path.display()))
}

impl CompilerProcess {
    async fn compile(&self, settings: CompileSettings, wasm: &[u8], output: &Path) -> Result<(), Refusal> {
        let order =
            Order { settings, limits: self.limits, length: wasm.len() as u64, output: output.to_owned() };
        let mut header = order.to_json().to_string();
        header.push('\n');
        let failed = |what: &str, error: &io::Error| {
            let text = format!("cannot {what} {}: {error}", self.program.display());
            Refusal::Other(PrepareError::CompilerFailed(text))
        };
        let mut child = Command::new(&self.program)
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| failed("start", &error))?;
        let talk = converse(&mut child, header.as_bytes(), wasm);
        let Ok(ended) = timeout(self.limits.wall_time, talk).await else {
            // It is gone when this returns, and with it what it used.
            let _ = child.kill().await;
            let limit = CompileLimit::WallTime(self.limits.wall_time);
            return Err(Refusal::Other(PrepareError::CompileLimit(limit)));
        };
        let (status, words) = ended.map_err(|error| failed("talk to", &error))?;
        self.judge(status, &words, output)
    }

    fn judge(&self, status: ExitStatus, words: &str, output: &Path) -> Result<(), Refusal> {
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(REFUSED) {
            return Err(refusal(output).unwrap_or_else(|| {
                Refusal::Other(PrepareError::CompilerFailed("it refused without a reason".to_owned()))
            }));
        }
        let limits = &self.limits;
        let killed_by = |signal: Signal| status.signal() == Some(signal.as_raw());
        // Rust's allocator and its threads say so when there is no memory, and abort.
        let out_of_memory = ["memory allocation of", "out of memory", "Cannot allocate memory"]
            .iter()
            .any(|words_of_it| words.contains(words_of_it));
        Err(Refusal::Other(if killed_by(Signal::XCPU) {
            PrepareError::CompileLimit(CompileLimit::CpuTime(limits.cpu_time))
        } else if killed_by(Signal::XFSZ) {
            PrepareError::CompileLimit(CompileLimit::Artifact(limits.artifact))
        } else if out_of_memory {
            PrepareError::CompileLimit(CompileLimit::Memory(limits.memory))
        } else {
            let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            PrepareError::CompilerFailed(format!("{status} {last}").trim_end().to_owned())
        }))
    }
}

/// Writes everything to the child, and waits for its end; answers what it said on standard error.
async fn converse(child: &mut Child, header: &[u8], wasm: &[u8]) -> io::Result<(ExitStatus, String)> {
    // Open until the child has ended.
    let mut stdin = child.stdin.take();
    let stderr = child.stderr.take();
    let feed = async {
        if let Some(stdin) = &mut stdin {
            // A child that dies does not read to the end; how it ended says more than this error.
            let _ = stdin.write_all(header).await;
            let _ = stdin.write_all(wasm).await;
        }
    };
    let listen = async {
        let mut words = Vec::new();
        if let Some(stderr) = stderr {
            let _ = stderr.take(LONGEST_WORDS).read_to_end(&mut words).await;
        }
        words
    };
    let ((), words, status) = tokio::join!(feed, listen, child.wait());
    Ok((status?, String::from_utf8_lossy(&words).into_owned()))
}

/// What the child wrote instead of an artifact.
fn refusal(output: &Path) -> Option<Refusal> {
    let mut text = String::new();
    File::open(output).ok()?.take(LONGEST_WORDS).read_to_string(&mut text).ok()?;
    let words: Value = serde_json::from_str(&text).ok()?;
    let reason = words["reason"].as_str()?.to_owned();
    Some(match words["kind"].as_str()? {
        "async" => Refusal::NeedsConcurrency(reason),
        "invalid" => Refusal::Other(PrepareError::Invalid(reason)),
        _ => Refusal::Other(PrepareError::CompilerFailed(reason)),
    })
}

/// The child's side of [`refusal`].
fn refuse(output: &mut File, refusal: &Refusal) -> io::Result<()> {
    let (kind, mut reason) = match refusal {
        Refusal::NeedsConcurrency(reason) => ("async", reason.clone()),
        Refusal::Other(PrepareError::Invalid(reason)) => ("invalid", reason.clone()),
        Refusal::Other(other) => ("other", other.to_string()),
    };
    // Room for what JSON makes of quotes, and of control characters in names.
    let end = (LONGEST_WORDS / 8) as usize;
    if reason.len() > end {
        reason.truncate(reason.floor_char_boundary(end));
    }
    output.write_all(json!({ "kind": kind, "reason": reason }).to_string().as_bytes())
}

/// What the parent tells the child.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    settings: CompileSettings,
    limits: CompileLimits,
    /// Bytes of the component.
    length: u64,
    output: PathBuf,
}

impl Order {
    fn to_json(&self) -> Value {
        json!({
            "settings": self.settings.to_json(),
            "cpu_s": self.limits.cpu_time.as_nanos().div_ceil(1_000_000_000).max(1) as u64,
            "memory": self.limits.memory,
            "artifact": self.limits.artifact,
            "length": self.length,
            "output": self.output,
        })
    }

    fn from_json(order: &Value) -> Option<Order> {
        let number = |name: &str| order[name].as_u64();
        Some(Order {
            settings: CompileSettings::from_json(&order["settings"])?,
            limits: CompileLimits {
                cpu_time: Duration::from_secs(number("cpu_s")?),
                memory: number("memory")?,
                artifact: number("artifact")?,
                ..CompileLimits::default()
            },
            length: number("length")?,
            output: PathBuf::from(order["output"].as_str()?),
        })
    }
}

/// What a [`CompilerProcess`] does: compiles one component from standard input, and ends the process.
///
/// To be called first thing, before there are threads, by a program that was started with the arguments the
/// [`CompilerProcess`] names. It lowers the whole process's resource limits.
pub fn compile_child() -> ! {
    let code = run_child().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "{error}");
        FAILED
    });
    std::process::exit(code)
}

fn run_child() -> io::Result<i32> {
    let mut input = io::stdin().lock();
    let mut header = Vec::new();
    input.by_ref().take(LONGEST_WORDS).read_until(b'\n', &mut header)?;
    let order = serde_json::from_slice(&header)
        .ok()
        .and_then(|order| Order::from_json(&order))
        .ok_or_else(|| io::Error::other("standard input does not begin with an order to compile"))?;
    limit(&order.limits)?;
    let mut wasm = Vec::new();
    input.take(order.length).read_to_end(&mut wasm)?;
    end_with_parent();
    let mut output = OpenOptions::new().write(true).open(&order.output)?;
    let compiled = order
        .settings
        .compiler()
        .map_err(|error| Refusal::Other(PrepareError::CompilerFailed(format!("{error:#}"))))
        .and_then(|compiler| Code::precompile(&compiler, &wasm));
    match compiled {
        Ok(code) => {
            output.write_all(&code)?;
            Ok(0)
        }
        Err(refusal) => {
            refuse(&mut output, &refusal)?;
            Ok(REFUSED)
        }
    }
}

/// Nobody waits for what an orphan compiles.
fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::stdin().lock().read(&mut [0]);
        std::process::exit(1);
    });
}

fn limit(limits: &CompileLimits) -> io::Result<()> {
    let fixed = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    let cpu = limits.cpu_time.as_secs();
    // At the soft limit comes a signal that says why, at the hard one SIGKILL.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 5) })?;
    // Writable memory, not addresses: files that are mapped and what is only reserved do no harm.
    setrlimit(Resource::Data, fixed(limits.memory))?;
    setrlimit(Resource::Fsize, fixed(limits.artifact))?;
    setrlimit(Resource::Core, fixed(0))?;
    setrlimit(Resource::Nofile, fixed(64))?;
    // What runs already comes first.
    let _ = rustix::process::nice(10);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> CompilerProcess {
        CompilerProcess::this_program(["compile"], CompileLimits::default())
    }

    fn settings() -> CompileSettings {
        CompileSettings {
            flavour: Flavour::Concurrent,
            inline_up_to: 250,
            metered: true,
            reservation: 4 << 30,
            max_wasm_stack: 512 << 10,
            images: true,
        }
    }

    #[test]
    fn an_order_survives_the_pipe() {
        let order = Order {
            settings: settings(),
            limits: CompileLimits { memory: 1 << 30, ..CompileLimits::default() },
            length: 7,
            output: PathBuf::from("/tmp/with \"quotes\""),
        };
        assert_eq!(Order::from_json(&order.to_json()), Some(order));
        assert_eq!(Order::from_json(&json!({})), None);
    }

    #[test]
    fn what_a_child_refuses_arrives_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let told = |refusal: Refusal| {
            refuse(&mut File::create(&output).unwrap(), &refusal).unwrap();
            let refused = ExitStatus::from_raw(REFUSED << 8);
            process().judge(refused, "", &output).unwrap_err()
        };
        for refusal in [
            Refusal::NeedsConcurrency("a".into()),
            Refusal::Other(PrepareError::Invalid("a\"\n".into())),
            Refusal::Other(PrepareError::CompilerFailed("a".into())),
        ] {
            let words = PrepareError::from(refusal.clone()).to_string();
            assert!(PrepareError::from(told(refusal)).to_string().contains(&words), "{words}");
        }
        let long = PrepareError::Invalid("\u{1}".repeat(1 << 20));
        let Refusal::Other(PrepareError::Invalid(text)) = told(Refusal::Other(long)) else { panic!() };
        assert_eq!(text.len(), 8192);
    }

    #[test]
    fn a_dead_child_tells_by_its_death() {
        let judge = |raw: i32, words: &str| {
            let refusal =
                process().judge(ExitStatus::from_raw(raw), words, Path::new("/nowhere")).unwrap_err();
            PrepareError::from(refusal).to_string()
        };
        assert!(judge(Signal::XCPU.as_raw(), "").contains("300 s of CPU time"));
        assert!(judge(Signal::XFSZ.as_raw(), "").contains("2048 MiB for its machine code"));
        assert!(
            judge(Signal::ABORT.as_raw(), "memory allocation of 9 bytes failed")
                .contains("4096 MiB of memory")
        );
        assert!(judge(Signal::SEGV.as_raw(), "").contains("signal: 11"));
        let panic = judge(101 << 8, "thread 'main' panicked at x\nindex out of bounds\n\n");
        assert!(panic.contains("exit status: 101") && panic.contains("index out of bounds"), "{panic}");
    }
}
