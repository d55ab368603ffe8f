//! HTTP load: closed-loop, where each connection sends its next request when the last one is answered,
//! and at a fixed rate.
//!
//! Written on bare sockets, so that the client costs as little as it can on a machine it shares with
//! the server: a request is one prepared buffer, and of the answer only the status and the length are
//! read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What a stretch of load came to.
pub(crate) struct Outcome {
    pub(crate) requests_per_second: f64,
    /// Latencies in microseconds.
    pub(crate) latency: Histogram<u64>,
}

/// Loads `GET /` at `address` with so many connections for so long. Any answer but 200 is an error.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    host: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let deadline = begun + duration;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let clients: Vec<_> =
        (0..connections).map(|_| tokio::spawn(client(address, request.clone(), deadline))).collect();
    let mut latency = Histogram::new(3)?;
    for client in clients {
        latency.add(client.await??)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "fewer requests than a float has digits")]
    let requests_per_second = latency.len() as f64 / seconds;
    Ok(Outcome { requests_per_second, latency })
}

/// Loads `GET /` at a fixed rate, whatever the answers take. Latency counts from the moment a request was
/// due, so a stall is seen by all the requests it held up (no coordinated omission).
pub(crate) async fn fixed_rate(
    address: SocketAddr,
    host: &str,
    per_second: u32,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let request: Arc<str> = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into();
    let idle: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    // A thread of its own ticks: tokio's timers are a millisecond wide.
    let (tick, mut ticks) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut due = begun;
        while due < begun + duration {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // The end of the load is the end of the ticks.
            if tick.send(due).is_err() {
                return;
            }
            due += Duration::from_secs(1) / per_second;
        }
    });
    let mut requests = Vec::new();
    while let Some(due) = ticks.recv().await {
        let (request, idle) = (Arc::clone(&request), Arc::clone(&idle));
        requests.push(tokio::spawn(async move {
            let kept = idle.lock().ok().and_then(|mut idle| idle.pop());
            let mut stream = match kept {
                Some(stream) => stream,
                None => TcpStream::connect(address).await?,
            };
            stream.set_nodelay(true)?;
            stream.write_all(request.as_bytes()).await?;
            read_answer(&mut stream, &mut Vec::with_capacity(4096)).await?;
            let micros = u64::try_from(due.elapsed().as_micros())?;
            if let Ok(mut idle) = idle.lock() {
                idle.push(stream);
            }
            anyhow::Ok(micros)
        }));
    }
    let mut latency = Histogram::new(3)?;
    for request in requests {
        latency.record(request.await??)?;
    }
    Ok(Outcome { requests_per_second: f64::from(per_second), latency })
}

async fn client(address: SocketAddr, request: String, deadline: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut latency = Histogram::new(3)?;
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    while Instant::now() < deadline {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut buffer).await?;
        latency.record(u64::try_from(begun.elapsed().as_micros())?)?;
    }
    Ok(latency)
}

/// Reads one whole answer, with a length or chunked.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
    buffer.clear();
    let head_end = loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection after {:?}", String::from_utf8_lossy(buffer));
        }
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let head = std::str::from_utf8(&buffer[..head_end])?;
    if !head.starts_with("HTTP/1.1 200") {
        bail!("the server answered {:?}", String::from_utf8_lossy(buffer));
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse::<usize>().context("bad content-length"))
        .transpose()?;
    let is_whole = |buffer: &[u8]| match length {
        Some(length) => buffer.len() >= head_end + length,
        None => buffer.ends_with(b"\r\n0\r\n\r\n"),
    };
    while !is_whole(buffer) {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection in the middle of a body");
        }
    }
    Ok(())
}
