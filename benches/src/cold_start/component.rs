//! The subject as a component: compiled first, from its artifact on disk, and prepared in memory.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use coracle_sandbox::{
    ArtifactCache, Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Exit, MemoryBudget, Output,
    OutputSink, Prepared, StdStream,
};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Empty};

use super::{Starts, Subject, Way};
use crate::cleanup::Directory;
use crate::proc::{own_cpu_time, pss};
use crate::report::{Row, Side};

/// Instances that are held to see what one takes.
const HELD: u32 = 200;

/// What all ways share.
pub(super) struct Component(Arc<Shared>);

struct Shared {
    engine: Engine,
    prepared: Prepared,
    image: PathBuf,
    digest: String,
    /// An artifact cache that holds it.
    warm: Directory,
    arguments: Vec<String>,
    serves: bool,
}

impl Component {
    pub(super) async fn new(subject: &Subject) -> anyhow::Result<Self> {
        let engine = Engine::new(&EngineConfig::default())?;
        let warm = Directory::new()?;
        let digest = subject.image.display().to_string();
        let prepared =
            ArtifactCache::open(engine.clone(), warm.path())?.prepare(&digest, &subject.image).await?;
        Ok(Self(Arc::new(Shared {
            engine,
            prepared,
            image: subject.image.clone(),
            digest,
            warm,
            arguments: subject.arguments.clone(),
            serves: subject.serves,
        })))
    }

    /// Starts it once. What serves must answer; of a command, how it ended.
    pub(super) async fn try_out(&self) -> anyhow::Result<Option<Ended>> {
        let Shared { prepared, image, serves, .. } = &*self.0;
        let what = || format!("cannot start {}", image.display());
        if *serves {
            return self.0.answer(prepared).await.map(|_| None).with_context(what);
        }
        self.0.run(prepared).await.map(Some).with_context(what)
    }

    pub(super) fn in_memory(&self) -> impl Way + use<> {
        InMemory(Arc::clone(&self.0))
    }

    pub(super) fn on_disk(&self) -> impl Way + use<> {
        FromDisk(Arc::clone(&self.0))
    }

    pub(super) fn cold(&self) -> impl Way + use<> {
        Cold(Arc::clone(&self.0))
    }
}

impl Shared {
    fn container(&self, prepared: &Prepared, output: Arc<dyn Output>) -> anyhow::Result<Container> {
        let spec = ContainerSpec {
            args: [String::from("component")].into_iter().chain(self.arguments.iter().cloned()).collect(),
            cpu: CpuBudget::capped(1024),
            memory: MemoryBudget::new(64 << 20),
            output,
            ..ContainerSpec::default()
        };
        Ok(Container::new(prepared, spec)?)
    }

    /// From a prepared component to its first answer, or its end.
    async fn answer(&self, prepared: &Prepared) -> anyhow::Result<Vec<u8>> {
        if self.serves {
            let container = self.container(prepared, Arc::new(Written::default()))?;
            let request = http::Request::get("/").header("host", "localhost").body(Empty::new())?;
            let response = container.handle(request).await?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|error| anyhow!("the body: {error}"))?
                .to_bytes();
            return Ok([format!("{status}\n").into_bytes(), body.to_vec()].concat());
        }
        Ok(self.run(prepared).await?.answer())
    }

    /// From a prepared component to its end.
    async fn run(&self, prepared: &Prepared) -> anyhow::Result<Ended> {
        let written = Arc::new(Written::default());
        let exit = self.container(prepared, written.clone())?.run().await;
        let take = |stream: &Mutex<Vec<u8>>| {
            std::mem::take(&mut *stream.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let (stdout, stderr) = (take(&written.stdout), take(&written.stderr));
        match exit {
            Exit::Code(code) => Ok(Ended { code, stdout, stderr }),
            killed => {
                let stderr = String::from_utf8_lossy(&stderr);
                bail!("it did not come to its end: {killed} {}", stderr.trim())
            }
        }
    }

    fn command(&self) -> String {
        match self.serves {
            true => "Container::new, Container::handle(GET /)".to_owned(),
            false => format!("Container::new, Container::run({})", self.arguments.join(" ")),
        }
    }
}

/// How a command ended.
pub(super) struct Ended {
    pub(super) code: u32,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Ended {
    /// What is compared: the exit code and standard output. What a program complains of is its own business.
    pub(super) fn answer(&self) -> Vec<u8> {
        [format!("exit {}\n", self.code).as_bytes(), &self.stdout].concat()
    }
}

/// Collects what is written.
#[derive(Default)]
struct Written {
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

/// One stream of it.
struct Stream(Arc<Mutex<Vec<u8>>>);

impl Output for Written {
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink> {
        Box::new(Stream(Arc::clone(match stream {
            StdStream::Stdout => &self.stdout,
            StdStream::Stderr => &self.stderr,
        })))
    }
}

impl OutputSink for Stream {
    fn write(&mut self, bytes: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
    }

    fn poll_ready(&mut self, _cx: &mut std::task::Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// Starts so many at once on the runtime's workers, all due at the same moment.
async fn at_once<F>(count: usize, start: impl Fn() -> F) -> anyhow::Result<Starts>
where
    F: Future<Output = anyhow::Result<Vec<u8>>> + Send + 'static,
{
    let starts: Vec<F> = (0..count).map(|_| start()).collect();
    let due = Instant::now();
    if count == 1 {
        // Where it is called from: a task of its own would be handed to another thread first.
        let mut all = Vec::new();
        for start in starts {
            let answer = start.await?;
            all.push((due.elapsed(), answer));
        }
        return Ok(all);
    }
    let tasks: Vec<_> = starts
        .into_iter()
        .map(|start| {
            tokio::spawn(async move {
                let answer = start.await?;
                anyhow::Ok((due.elapsed(), answer))
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.push(task.await??);
    }
    Ok(all)
}

struct InMemory(Arc<Shared>);

impl Way for InMemory {
    fn row(&self) -> Row {
        Row::new("memory", "component, prepared in memory", Side::Ours, self.0.command()).with_settings(
            "fuel metering, a CPU cap of one core, 64 MiB; a new container with a fresh instance",
        )
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(at_once(count, || {
            let shared = Arc::clone(&self.0);
            async move { shared.answer(&shared.prepared).await }
        }))
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(own_cpu_time())
    }

    fn memory(&self) -> BoxFuture<'_, anyhow::Result<Option<f64>>> {
        Box::pin(async {
            if !self.0.serves {
                return Ok(None);
            }
            let me = std::process::id();
            let before = pss(me)?;
            let mut held = Vec::new();
            for _ in 0..HELD {
                let container = self.0.container(&self.0.prepared, Arc::new(Written::default()))?;
                let instance = container.instantiate().await.map_err(|exit| anyhow!("{exit}"))?;
                held.push((container, instance));
            }
            #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
            let bytes = pss(me)?.saturating_sub(before) as f64;
            Ok(Some(bytes / f64::from(HELD)))
        })
    }

    fn reads_files(&self) -> bool {
        false
    }
}

struct FromDisk(Arc<Shared>);

impl Way for FromDisk {
    fn row(&self) -> Row {
        Row::new(
            "disk",
            "component, artifact on disk",
            Side::Ours,
            format!("ArtifactCache::prepare, {}", self.0.command()),
        )
        .with_settings("a cache of its own for each start, so that nothing is shared; the same limits")
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(at_once(count, || {
            let shared = Arc::clone(&self.0);
            let cache = ArtifactCache::open(shared.engine.clone(), shared.warm.path());
            async move {
                let cache = cache?;
                let prepared = cache.prepare(&shared.digest, &shared.image).await?;
                anyhow::ensure!(cache.stats().disk_hits == 1, "the artifact was not found on disk");
                shared.answer(&prepared).await
            }
        }))
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(own_cpu_time())
    }

    fn reads_files(&self) -> bool {
        true
    }
}

struct Cold(Arc<Shared>);

impl Way for Cold {
    fn row(&self) -> Row {
        Row::new(
            "cold",
            "component, compiled first",
            Side::Ours,
            format!("ArtifactCache::prepare without an artifact, {}", self.0.command()),
        )
        .with_settings("what the first start of an image on a node costs, once; the same limits")
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(at_once(count, || {
            let shared = Arc::clone(&self.0);
            let empty = Directory::new().context("no place for an artifact");
            async move {
                let empty = empty?;
                let cache = ArtifactCache::open(shared.engine.clone(), empty.path())?;
                let prepared = cache.prepare(&shared.digest, &shared.image).await?;
                shared.answer(&prepared).await
            }
        }))
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(own_cpu_time())
    }

    fn reads_files(&self) -> bool {
        true
    }
}
