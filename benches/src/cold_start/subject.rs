//! What is started: an example of ours in both forms, or a component of the user's and what it is held against.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coracle_fixtures::{example_batch, example_hello};
use coracle_sandbox::{Engine, EngineConfig};

use super::Way;
use super::api::{ScaledService, TaskRun, TaskToRunning};
use super::component::Component;
use super::program::{Program, Thread, try_out};
use crate::bench::Context;
use crate::containers::{self, Native, Speaks};
use crate::peers::coracle_binary;
use crate::report::Findings;

/// A program as a component and, if there is such, as one for this machine.
pub struct Subject {
    pub(super) name: &'static str,
    pub(super) title: String,
    pub(super) measured: &'static str,
    pub(super) image: PathBuf,
    /// Arguments of the component, without its own name.
    pub(super) arguments: Vec<String>,
    /// Whether it serves HTTP; else it runs to its exit.
    pub(super) serves: bool,
    native: anyhow::Result<Arc<Native>>,
    /// What a function does that does the same in this process, for scale.
    in_process: Option<fn() -> Vec<u8>>,
}

const MEASURED_HTTP: &str = "From the moment the start is due to the last byte of the first answer to GET /.";
const MEASURED_COMMAND: &str = "From the moment the start is due to the exit code and all of the output.";

/// What both forms of the command are asked.
const BATCH: &[&str] = &["primes", "10000"];

/// hello, as a program of this machine.
pub(crate) fn natively_hello() -> anyhow::Result<Native> {
    Native::build("hello", include_str!("../../native/hello.rs"), &[], &[], Speaks::SocketOrPort)
}

fn natively_batch() -> anyhow::Result<Native> {
    let crates = [("wasip2", include_str!("../../native/wasip2.rs"))];
    Native::build(
        "batch",
        include_str!("../../../examples/batch/src/main.rs"),
        &crates,
        BATCH,
        Speaks::Nothing,
    )
}

impl Subject {
    /// The examples: a server and a command.
    #[must_use]
    pub fn examples() -> Vec<Self> {
        vec![
            Self {
                name: "http",
                title: "hello, to the first answer".to_owned(),
                measured: MEASURED_HTTP,
                image: example_hello().to_owned(),
                arguments: Vec::new(),
                serves: true,
                native: natively_hello().map(Arc::new),
                in_process: Some(|| b"200\nHello from Coracle!\n".to_vec()),
            },
            Self {
                name: "command",
                title: "batch, to its exit".to_owned(),
                measured: MEASURED_COMMAND,
                image: example_batch().to_owned(),
                arguments: BATCH.iter().map(|argument| (*argument).to_owned()).collect(),
                serves: false,
                native: natively_batch().map(Arc::new),
                in_process: None,
            },
        ]
    }

    /// A component of the user's, and the command line of the same program for this machine.
    ///
    /// # Errors
    /// If it is no component that can be started, the program is not there, or it does not do as a bare process what
    /// such a program has to: answer at its port, or end.
    pub fn yours(image: &Path, command: &[String]) -> anyhow::Result<Self> {
        let image = image.canonicalize().with_context(|| format!("cannot find {}", image.display()))?;
        let unusable = || format!("cannot use {}", image.display());
        let bytes = std::fs::read(&image).with_context(unusable)?;
        let prepared = Engine::new(&EngineConfig::default())?.prepare_bytes(&bytes).with_context(unusable)?;
        let exports = prepared.exports();
        if !exports.http && !exports.command {
            bail!(
                "{} exports neither an HTTP handler nor wasi:cli/run: it can't be started",
                image.display()
            );
        }
        let (native, arguments) = match command {
            [] => (Err(anyhow::anyhow!("name the same program for this machine with --command")), &[][..]),
            [program, arguments @ ..] => {
                let path = crate::peers::find(program).unwrap_or_else(|| PathBuf::from(program));
                let path = path.canonicalize().with_context(|| format!("cannot find {program}"))?;
                let speaks = if exports.http { Speaks::Port } else { Speaks::Nothing };
                let mut native = Native::take(&path, arguments, speaks)?;
                try_out(&mut native).with_context(|| format!("cannot use {program} as a bare process"))?;
                (Ok(Arc::new(native)), arguments)
            }
        };
        let name = image.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (what, measured) = match exports.http {
            true => ("to the first answer", MEASURED_HTTP),
            false => ("to its exit", MEASURED_COMMAND),
        };
        Ok(Self {
            name: if exports.http { "http" } else { "command" },
            title: format!("{name}, {what}"),
            measured,
            image,
            arguments: arguments.to_vec(),
            serves: exports.http,
            native,
            in_process: None,
        })
    }

    /// Every way to start it.
    pub(super) async fn ways(
        &self,
        context: &Context,
        engines: &[Arc<dyn containers::Engine>],
        findings: &mut Findings,
    ) -> anyhow::Result<Vec<Box<dyn Way>>> {
        context.progress("preparing");
        let mut ways: Vec<Box<dyn Way>> = Vec::new();
        let component = Component::new(self).await?;
        let ended = component.try_out().await?;
        ways.extend([
            Box::new(component.in_memory()) as _,
            Box::new(component.on_disk()) as _,
            Box::new(component.cold()) as _,
        ]);
        let api = tokio::task::block_in_place(|| -> anyhow::Result<Vec<Box<dyn Way>>> {
            let binary = coracle_binary()?;
            let most = context.pick(10, 100);
            Ok(match ended {
                None => {
                    let service = ScaledService::start(&binary, self, most)?;
                    let task = TaskToRunning::start(&service);
                    vec![Box::new(service), Box::new(task)]
                }
                Some(ended) => vec![Box::new(TaskRun::start(&binary, self, ended)?)],
            })
        });
        match api {
            Ok(api) => ways.extend(api),
            Err(error) => {
                findings.leave_out(format!("{}: through the whole API", self.name), format!("{error:#}"));
            }
        }
        if let Some(function) = self.in_process {
            ways.push(Box::new(Thread(function)));
        }
        match &self.native {
            Ok(native) => {
                for engine in engines {
                    ways.push(Box::new(Program::new(Arc::clone(engine), Arc::clone(native))));
                }
            }
            Err(error) => {
                findings.leave_out(format!("{}: processes and containers", self.name), format!("{error:#}"));
            }
        }
        Ok(ways)
    }
}
