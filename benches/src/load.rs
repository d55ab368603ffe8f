//! HTTP load: closed-loop, where each connection sends its next request when the last one is answered,
//! and at a fixed rate.
//!
//! Written on bare sockets, so that the client costs as little as it can on a machine it shares with
//! the server: a request is one prepared buffer, and of the answer only the status, the length and the body are
//! looked at. Every answer must be 200 and have the first one's body; anything else is counted as an error.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::stats::Times;
use crate::turns::Turn;

/// Errors after which a client gives up.
const PATIENCE: u64 = 1000;

/// What a stretch of load came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) requests_per_second: f64,
    /// How long the answered requests took.
    pub(crate) latency: Times,
    /// The body that all good answers had.
    pub(crate) body: Vec<u8>,
    /// Requests that were not answered by 200 and that body.
    pub(crate) errors: u64,
    /// The first of these.
    pub(crate) error: Option<String>,
}

impl Outcome {
    /// A turn whose figure is the rate.
    pub(crate) fn into_rate(self) -> Turn {
        let turn = Turn::of_figure(self.requests_per_second, self.body);
        turn.with_errors(self.errors, self.error)
    }

    /// A turn whose figure is the median latency.
    pub(crate) fn into_latency(self) -> Turn {
        Turn::of_times(self.latency, self.body).with_errors(self.errors, self.error)
    }

    fn count(&mut self, answer: anyhow::Result<Vec<u8>>, took: Duration) {
        match answer {
            Ok(body) if self.body.is_empty() || body == self.body => {
                self.body = body;
                self.latency.record(took);
            }
            Ok(body) => self.fail(format!("another body: {:?}", String::from_utf8_lossy(&body))),
            Err(error) => self.fail(format!("{error:#}")),
        }
    }

    fn fail(&mut self, error: String) {
        self.errors += 1;
        self.error.get_or_insert(error);
    }

    fn add(&mut self, other: Self) {
        self.latency.add(&other.latency);
        self.errors += other.errors;
        self.error = self.error.take().or(other.error);
        if self.body.is_empty() {
            self.body = other.body;
        } else if !other.body.is_empty() && other.body != self.body {
            self.fail(format!("another body: {:?}", String::from_utf8_lossy(&other.body)));
        }
    }
}

/// Loads `GET /` at `address` with so many connections for so long.
pub(crate) async fn closed_loop(
    address: SocketAddr,
    host: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let begun = Instant::now();
    let deadline = begun + duration;
    let request: Arc<str> = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into();
    let clients: Vec<_> =
        (0..connections).map(|_| tokio::spawn(client(address, Arc::clone(&request), deadline))).collect();
    let mut all = Outcome::default();
    for client in clients {
        all.add(client.await?);
    }
    #[expect(clippy::cast_precision_loss, reason = "fewer requests than a float has digits")]
    let answered = all.latency.count() as f64;
    all.requests_per_second = answered / begun.elapsed().as_secs_f64();
    Ok(all)
}

async fn client(address: SocketAddr, request: Arc<str>, deadline: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let mut buffer = Vec::with_capacity(4096);
    let mut connected = None;
    while Instant::now() < deadline && outcome.errors < PATIENCE {
        let begun = Instant::now();
        let answer = ask(&mut connected, address, &request, &mut buffer).await;
        outcome.count(answer, begun.elapsed());
    }
    outcome
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
            let mut connection = idle.lock().ok().and_then(|mut idle| idle.pop());
            let answer = ask(&mut connection, address, &request, &mut Vec::with_capacity(4096)).await;
            let took = due.elapsed();
            if let (Some(connection), Ok(mut idle)) = (connection, idle.lock()) {
                idle.push(connection);
            }
            (answer, took)
        }));
    }
    let mut all = Outcome { requests_per_second: f64::from(per_second), ..Outcome::default() };
    for request in requests {
        let (answer, took) = request.await?;
        all.count(answer, took);
    }
    Ok(all)
}

/// Sends a request on the connection, or on a new one, which is then kept if all went well.
pub(crate) async fn ask(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    request: &str,
    buffer: &mut Vec<u8>,
) -> anyhow::Result<Vec<u8>> {
    let mut stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream
        }
    };
    stream.write_all(request.as_bytes()).await?;
    let body = read_answer(&mut stream, buffer).await?;
    *connection = Some(stream);
    Ok(body)
}

/// Reads one whole answer, with a length or chunked, and gives its body as it came.
async fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Vec<u8>> {
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
        bail!("the server answered {:?}", head.lines().next().unwrap_or_default());
    }
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map(|(_, value)| value.trim().parse::<usize>().context("bad content-length"))
        .transpose()?;
    let is_whole = |buffer: &[u8]| match length {
        Some(length) => buffer.len() >= head_end + length,
        None => buffer.ends_with(b"\r\n0\r\n\r\n") || buffer[head_end..] == *b"0\r\n\r\n",
    };
    while !is_whole(buffer) {
        if stream.read_buf(buffer).await? == 0 {
            bail!("the server closed the connection in the middle of a body");
        }
    }
    let body = &buffer[head_end..];
    Ok(if length.is_some() { body.to_vec() } else { unchunked(body) })
}

/// What a whole chunked body holds.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(line) = body.windows(2).position(|window| window == b"\r\n") {
        let size =
            std::str::from_utf8(&body[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let rest = &body[line + 2..];
        match size {
            Some(size) if size > 0 && size + 2 <= rest.len() => {
                content.extend_from_slice(&rest[..size]);
                body = &rest[size + 2..];
            }
            _ => break,
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::net::TcpListener;

    use super::*;

    /// Answers every request by the next of these, over and over.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let next = Arc::new(AtomicUsize::new(0));
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let next = Arc::clone(&next);
                // Each by itself: a load opens a second connection while the first is kept.
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                        let answer = answers[next.fetch_add(1, Ordering::Relaxed) % answers.len()];
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    #[tokio::test]
    async fn chunked_and_counted_bodies_are_the_same() {
        let address = server(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ])
        .await;
        let outcome = closed_loop(address, "x", 1, Duration::from_millis(50)).await.unwrap();
        assert_eq!((outcome.errors, &outcome.body[..]), (0, &b"hello"[..]), "{:?}", outcome.error);
        assert!(outcome.latency.count() > 1);
    }

    #[tokio::test]
    async fn bad_answers_are_counted_and_the_load_goes_on() {
        let address = server(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
            "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nb",
        ])
        .await;
        let outcome = closed_loop(address, "x", 1, Duration::from_millis(50)).await.unwrap();
        assert!(outcome.latency.count() >= 1 && outcome.errors >= 2, "{}", outcome.errors);
        assert!(outcome.error.unwrap().contains("503"));
    }

    #[tokio::test]
    async fn a_fixed_rate_sends_what_is_due() {
        let address = server(&["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na"]).await;
        let outcome = fixed_rate(address, "x", 100, Duration::from_millis(200)).await.unwrap();
        assert_eq!(outcome.latency.count() + outcome.errors, 20);
    }
}
