//! Real components under the sandbox, the well-behaved and the hostile.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod artifacts;
mod commands;
mod compile;
mod files;
mod hostile;
mod limits;
mod links;
mod p3;
mod plugin;
mod prepare;
mod requests;
mod reuse;
mod services;
mod tls;

use bytes::Bytes;
use coracle_sandbox::{
    Container, ContainerSpec, Engine, EngineConfig, HandleError, LineSplitter, Output, OutputSink, Prepared,
    ResponseBody, StdStream,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// One engine and one compilation for all tests. Small, so that many test processes fit one address space.
static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(&EngineConfig { max_instances: 64, ..EngineConfig::default() }).unwrap());
static HTTP: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::http()));
static COMMAND: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::command()));

fn prepare(wasm: &Path) -> Prepared {
    ENGINE.prepare_bytes(&std::fs::read(wasm).unwrap()).unwrap()
}

fn http_guest(spec: ContainerSpec) -> Container {
    Container::new(&HTTP, spec).unwrap()
}

fn command_guest(args: &[&str], spec: ContainerSpec) -> Container {
    let args = std::iter::once("guest").chain(args.iter().copied()).map(str::to_owned).collect();
    Container::new(&COMMAND, ContainerSpec { args, ..spec }).unwrap()
}

async fn get(container: &Container, path: &str) -> Result<Response<ResponseBody>, HandleError> {
    let request = Request::get(path).header("host", "guest.example").body(Full::new(Bytes::new())).unwrap();
    container.handle(request).await
}

async fn text(response: Response<ResponseBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Waits for something that happens soon after what has been awaited.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(patience.await.is_ok(), "still not: {what}");
}

/// Collects lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(StdStream, String)>>>);

impl Lines {
    fn of(&self, stream: StdStream) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(of, _)| *of == stream).map(|(_, line)| line.clone()).collect()
    }
}

impl Output for Lines {
    fn open(&self, stream: StdStream) -> Box<dyn OutputSink> {
        let lines = self.0.clone();
        Box::new(LineSink(LineSplitter::new(move |line: &[u8]| {
            lines.lock().unwrap().push((stream, String::from_utf8_lossy(line).into_owned()));
        })))
    }
}

struct LineSink<F: FnMut(&[u8]) + Send>(LineSplitter<F>);

impl<F: FnMut(&[u8]) + Send> OutputSink for LineSink<F> {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}
