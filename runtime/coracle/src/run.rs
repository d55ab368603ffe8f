//! `coracle run`: one component under limits, no server. A command runs to its exit code; an HTTP
//! component is served until Ctrl-C.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use coracle_agent::KeyValueSource as _;
use coracle_sandbox::{
    ArtifactCache, Container, ContainerError, ContainerSpec, CpuBudget, Directory, Engine, EngineConfig,
    Exit, HandleError, Input, MemoryBudget, Metric, Metrics, Mount, Network, Output, OutputSink, Prepared,
    ResponseBody, StdStream,
};
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::cli::RunArgs;
use crate::config::artifact_cache;
use crate::keyvalue::KeyValueStores;
use crate::output::note;
use crate::up::Signals;

/// How long an HTTP component may take until its answer begins, when `--timeout` does not say.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// What the key-value store of `--keyvalue` may hold, in bytes: as much as that of a task.
const KEYVALUE_LIMIT: u64 = 1 << 30;
/// How long requests get to finish at Ctrl-C.
const DRAIN: Duration = Duration::from_secs(10);
/// What a shell reports for a program that SIGPIPE ended.
const BROKEN_PIPE: u8 = 128 + 13;

pub(crate) async fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let prepared = prepare(&args.component).await?;
    prepared.require_entry_point().with_context(|| format!("cannot run {}", args.component.display()))?;
    let serve = prepared.exports().http;
    let output = Arc::new(PassThrough::default());
    let spec = ContainerSpec { output: Arc::clone(&output) as _, ..spec(&args, serve)? };
    let container = Container::new(&prepared, spec).map_err(|error| match error {
        ContainerError::NotGranted { grant: "keyvalue", .. } => {
            anyhow::Error::new(error).context("it has no key-value store; --keyvalue FILE gives it one")
        }
        error => error.into(),
    })?;
    if serve { serve_http(container, &args).await } else { run_command(container, &output).await }
}

/// Compiles the component, or takes the machine code an earlier run compiled.
async fn prepare(component: &Path) -> anyhow::Result<Prepared> {
    let engine = Engine::new(&EngineConfig::default())?;
    let path = component.to_owned();
    let digest = tokio::task::spawn_blocking(move || coracle_registry::digest_file(&path))
        .await?
        .with_context(|| format!("cannot read {}", component.display()))?;
    let prepared = match cache_dir() {
        Some(dir) => {
            let cache = ArtifactCache::with_config(engine, &dir, artifact_cache(None, None, None))?;
            cache.prepare(&digest, component).await
        }
        None => engine.prepare_bytes(&tokio::fs::read(component).await?),
    };
    prepared.with_context(|| format!("cannot run {}", component.display()))
}

/// Where compiled components are kept for the next time, if there is a place for that.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
    Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("coracle/artifacts"))
}

fn spec(args: &RunArgs, serve: bool) -> anyhow::Result<ContainerSpec> {
    let name = args
        .component
        .file_stem()
        .map_or_else(|| "component".to_owned(), |stem| stem.to_string_lossy().into());
    let argv = std::iter::once(name).chain(args.args.iter().cloned()).collect();
    let env: Vec<_> = args.env.iter().map(|text| parse_env(text)).collect::<anyhow::Result<_>>()?;
    let keyvalue = args.keyvalue.as_deref().map(KeyValueStores::open).transpose()?;
    Ok(ContainerSpec {
        args: argv,
        // As in a task.
        config: Some(env.clone().into()),
        env,
        keyvalue: keyvalue.map(|stores| stores.open("run", KEYVALUE_LIMIT)),
        metrics: Some(Arc::new(Logged)),
        mounts: args.dir.iter().map(|text| parse_mount(text)).collect::<anyhow::Result<_>>()?,
        network: Network::to(args.allow_net.iter().map(String::as_str)).context("--allow-net")?,
        input: if serve { Input::Empty } else { Input::Inherited },
        cpu: args.cpu.map_or_else(CpuBudget::unlimited, CpuBudget::capped),
        memory: MemoryBudget::new(u64::from(args.memory) << 20),
        fuel_per_run: args.fuel,
        fuel_per_request: args.fuel,
        run_timeout: args.timeout,
        request_timeout: args.timeout.unwrap_or(REQUEST_TIMEOUT),
        ..ContainerSpec::default()
    })
}

fn parse_env(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some(("", _)) => bail!("--env {text:?} has no name; write NAME=VALUE"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            let value =
                std::env::var(text).with_context(|| format!("--env {text}: no such variable here"))?;
            Ok((text.to_owned(), value))
        }
    }
}

fn parse_mount(text: &str) -> anyhow::Result<Mount> {
    let (host, guest) = text
        .split_once("::")
        .with_context(|| format!("--dir {text:?} is not written HOST::GUEST or HOST::GUEST:ro"))?;
    let (guest, read_only) = match guest.strip_suffix(":ro") {
        Some(guest) => (guest, true),
        None => (guest, false),
    };
    if host.is_empty() || guest.is_empty() {
        bail!("--dir {text:?} must name a directory here and one in the component");
    }
    let directory =
        Directory::open(host).with_context(|| format!("--dir {text:?}: {host} can't be opened"))?;
    Ok(Mount { read_only, ..Mount::new(directory, guest) })
}

async fn run_command(container: Container, output: &PassThrough) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    let mut run = std::pin::pin!(container.run());
    let mut told = false;
    let exit = loop {
        tokio::select! {
            exit = &mut run => break exit,
            signal = stop.wait() => {
                // What listens ends by itself, unless somebody insists.
                if told || !container.request_stop() {
                    return Ok(signal.exit_code());
                }
                told = true;
                note!("Told to stop; Ctrl-C again ends it at once.");
            }
            () = output.reader_gone.notified() => return Ok(ExitCode::from(BROKEN_PIPE)),
        }
    };
    if !matches!(exit, Exit::Code(_)) {
        note!("coracle: {exit}");
    }
    Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(1)))
}

async fn serve_http(container: Container, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}; choose another address with --listen", args.listen))?;
    note!("Serving {} on http://{}/ (Ctrl-C stops)", args.component.display(), listener.local_addr()?);
    let graceful = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new());
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            exit = container.fatal() => {
                note!("coracle: {exit}");
                return Ok(ExitCode::from(u8::try_from(exit.code()).unwrap_or(1)));
            }
            _ = stop.wait() => break,
        };
        // Small answers must not wait for more to send.
        let _ = stream.set_nodelay(true);
        let container = container.clone();
        let service = service_fn(move |request| {
            let container = container.clone();
            async move { Ok::<_, std::convert::Infallible>(answer(container.handle(request).await)) }
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("connection: {error}");
            }
        });
    }
    tokio::select! {
        drained = tokio::time::timeout(DRAIN, graceful.shutdown()) => if drained.is_err() {
            note!("coracle: some requests were still being answered after {} seconds", DRAIN.as_secs());
        },
        signal = stop.wait() => return Ok(signal.exit_code()),
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(result: Result<http::Response<ResponseBody>, HandleError>) -> http::Response<ResponseBody> {
    let error = match result {
        Ok(response) => {
            return response.map(|body| {
                body.map_err(|error| {
                    note!("coracle: while answering: {error}");
                    error
                })
                .boxed_unsync()
            });
        }
        Err(error) => error,
    };
    note!("coracle: {error}");
    let status = match error {
        HandleError::Overloaded { .. } | HandleError::Stopping => http::StatusCode::SERVICE_UNAVAILABLE,
        HandleError::TimedOut { .. } => http::StatusCode::GATEWAY_TIMEOUT,
        HandleError::RequestBody(_) => http::StatusCode::BAD_REQUEST,
        _ => http::StatusCode::BAD_GATEWAY,
    };
    let body = Full::new(Bytes::from(format!("{error}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = http::Response::new(body);
    *response.status_mut() = status;
    response
}

/// Nobody reads the component's figures here but who follows the log.
struct Logged;

impl Metrics for Logged {
    fn record(&self, metric: &Metric<'_>) -> Result<(), String> {
        tracing::debug!(kind = ?metric.kind, labels = ?metric.labels, "{} {}", metric.name, metric.value);
        Ok(())
    }
}

/// The component's output is this process's.
#[derive(Default)]
struct PassThrough {
    /// Told when nobody reads our standard output any more.
    reader_gone: Arc<Notify>,
}

impl Output for PassThrough {
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(PassThroughSink { stream, reader_gone: Arc::clone(&self.reader_gone) })
    }
}

struct PassThroughSink {
    stream: StdStream,
    reader_gone: Arc<Notify>,
}

impl OutputSink for PassThroughSink {
    fn write(&mut self, bytes: &[u8]) {
        let written = match self.stream {
            StdStream::Stdout => std::io::stdout().write_all(bytes).and_then(|()| std::io::stdout().flush()),
            // Whoever closes this one does not want to hear of anything.
            StdStream::Stderr => std::io::stderr().write_all(bytes).or(Ok(())),
        };
        // Like a native program, which SIGPIPE would end here.
        if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
            self.reader_gone.notify_one();
        }
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_and_directories() {
        assert_eq!(parse_env("A=b=c").unwrap(), ("A".into(), "b=c".into()));
        assert!(parse_env("=x").is_err());
        assert!(parse_env("CORACLE_SURELY_NOT_SET").is_err());
        let dir = tempfile::tempdir().unwrap();
        let host = dir.path().display();
        let mount = parse_mount(&format!("{host}::/data:ro")).unwrap();
        assert_eq!((mount.guest.as_str(), mount.read_only), ("/data", true));
        for bad in ["/tmp", "::/x", "/tmp::", "/surely/not/there::/x"] {
            assert!(parse_mount(bad).is_err(), "{bad}");
        }
    }
}
