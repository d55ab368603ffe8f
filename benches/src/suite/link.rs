//! What a call of a linked container costs, as the calling component measures it: beside the least that a request over
//! loopback HTTP could, which is a connection that is kept, and a peer that reads and writes and does nothing else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use coracle_fixtures::{link_caller, link_policy};
use coracle_sandbox::{
    Container, ContainerSpec, CpuBudget, Engine, EngineConfig, Link, MemoryBudget, Output, OutputSink,
    Plugin, StdStream,
};
use tokio::sync::mpsc;

use crate::bench::Context;
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::turns::{Side, Turn, conclude};

/// The functions of the fixture, and what they carry.
const FUNCTIONS: [(&str, &str); 4] = [
    ("nothing", "no value"),
    ("add", "two integers, one back"),
    ("check", "a short text, a record back"),
    ("echo", "1 KiB there and back"),
];

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let calls = context.pick(100, 100_000);
    let mut sides = Vec::new();
    for (function, what) in FUNCTIONS {
        let row =
            Row::new(function, what, Whose::Ours, format!("{calls} × {function} by a linked container"))
                .with_settings(
                    "a store, limits and meters of its own on either side; by the caller's own clock",
                );
        sides.push(Side::new(row, move || async move {
            let nanos = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(linked(function, calls))
            });
            Ok(Turn::of_figure(seconds(nanos.await??), "called"))
        }));
    }
    let row = Row::new(
        "loopback",
        "loopback HTTP, 200 bytes, at least",
        Whose::Bound,
        "a request and an answer on a kept connection",
    );
    sides.push(Side::new(row, move || async move {
        let nanos = tokio::task::spawn_blocking(move || loopback(calls / 10));
        Ok(Turn::of_figure(seconds(nanos.await??), "asked"))
    }));
    context.interleave(&mut sides, context.pick(1, 5)).await;
    let table = Table::new(
        "call",
        "A call from one container of a task to another",
        "One call after the other. Loopback HTTP is the least it could be: a peer that reads and writes and does nothing \
         else. It does other work than the calls, so no ratio is printed.",
        Unit::Seconds,
    );
    Ok(Findings { tables: vec![conclude(table, sides, &[])], ..Findings::default() })
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of microseconds")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// Nanoseconds of one call, by the caller's own clock.
async fn linked(function: &str, calls: u32) -> anyhow::Result<u64> {
    let engine = Engine::new(&EngineConfig::default())?;
    // One task: its budgets are shared, as an agent shares them.
    let cpu = CpuBudget::capped(16 * 1024);
    let memory = MemoryBudget::new(512 << 20);
    let limits = || ContainerSpec {
        cpu: cpu.clone(),
        memory: memory.child(None),
        fuel_per_run: Some(1 << 50),
        fuel_per_request: Some(1 << 40),
        ..ContainerSpec::default()
    };
    let policy = Plugin::new(&engine.prepare_bytes(&std::fs::read(link_policy())?)?, limits())?;
    let caller = engine.prepare_open(&std::fs::read(link_caller())?)?;
    let (lines, mut printed) = mpsc::unbounded_channel();
    let spec = ContainerSpec {
        args: ["caller", "time", function, &calls.to_string()].map(str::to_owned).into(),
        links: vec![Link { interface: None, container: "policy".to_owned(), exports: policy }],
        output: Arc::new(Lines(lines)),
        ..limits()
    };
    let exit = Container::new(&caller, spec)?.run().await;
    anyhow::ensure!(exit.code() == 0, "the caller ended: {exit}");
    let mut text = Vec::new();
    while let Ok(bytes) = printed.try_recv() {
        text.extend(bytes);
    }
    Ok(String::from_utf8(text)?.trim().parse()?)
}

/// What a guest prints.
struct Lines(mpsc::UnboundedSender<Vec<u8>>);

impl Output for Lines {
    fn open(&self, _: StdStream) -> Box<dyn OutputSink> {
        Box::new(Lines(self.0.clone()))
    }
}

impl OutputSink for Lines {
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.send(bytes.to_vec());
    }

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// A request and an answer of the least that a client and a server send.
fn loopback(calls: u32) -> anyhow::Result<u64> {
    let request =
        b"GET /check?token=good HTTP/1.1\r\nhost: localhost:8080\r\nuser-agent: bench\r\naccept: */*\r\n\r\n";
    let answer =
        b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\ncontent-type: application/json\r\n\r\n{\"allowed\":true}";
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let server = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = vec![0; request.len()];
        for _ in 0..calls {
            stream.read_exact(&mut buffer)?;
            stream.write_all(answer)?;
        }
        Ok(())
    });
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; answer.len()];
    let begun = Instant::now();
    for _ in 0..calls {
        stream.write_all(request)?;
        stream.read_exact(&mut buffer)?;
    }
    let nanos = begun.elapsed().as_nanos() / u128::from(calls);
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(u64::try_from(nanos)?)
}
