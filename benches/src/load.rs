//! HTTP load over a fixed number of kept connections: closed-loop, where each connection sends its next request when the
//! last one is answered, and at a fixed rate, where requests are due by the clock, whatever the answers take.
//!
//! Written on bare sockets, so that the client costs as little as it can on a machine it shares with
//! the server: a request is one prepared buffer, and of the answer only the status, the length and the body are
//! looked at. Every answer must be 200 and have the first one's body; anything else is counted as an error.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::stats::Times;
use crate::turns::Turn;

/// Errors after which a client gives up.
const PATIENCE: u64 = 1000;
/// How long after the last request of a fixed rate was due its answers are waited for.
const GRACE: Duration = Duration::from_secs(10);

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

/// Loads `GET /` at a fixed rate, over so many connections, whatever the answers take. Each connection has been opened,
/// and has had one request answered, before the first request is due.
///
/// A request that is due is sent on the connection that has been free the longest. With all of them waiting for answers
/// it waits too, as clients wait for a connection of their pool: a server that falls behind gets no more
/// connections than its peers do. Latency counts from the moment a request was due, so a stall is seen by all the
/// requests it held up (no coordinated omission). What is not answered ten seconds after the last one was due counts as
/// an error.
pub(crate) async fn fixed_rate(
    address: SocketAddr,
    host: &str,
    connections: usize,
    per_second: u32,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let request: Arc<str> = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into();
    let (done, outcome) = oneshot::channel();
    // All clients on one thread: several wake one another, which costs a fifth more of the processors that they share with
    // who is measured.
    std::thread::Builder::new().name("clients".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let load = |runtime: tokio::runtime::Runtime| {
            runtime.block_on(at_fixed_rate(address, request, connections, per_second, duration))
        };
        let _ = done.send(runtime.map_err(Into::into).and_then(load));
    })?;
    outcome.await?
}

async fn at_fixed_rate(
    address: SocketAddr,
    request: Arc<str>,
    connections: usize,
    per_second: u32,
    duration: Duration,
) -> anyhow::Result<Outcome> {
    let mut all = Outcome::default();
    let (mut opened, mut buffer) = (Vec::with_capacity(connections), Vec::with_capacity(4096));
    for _ in 0..connections {
        let mut connection = None;
        let first = ask(&mut connection, address, &request, &mut buffer);
        match tokio::time::timeout(GRACE, first).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => all.fail(format!("{error:#}")),
            Err(_) => bail!("no answer within {} seconds", GRACE.as_secs()),
        }
        opened.push(connection);
    }
    let schedule = Arc::new(Schedule::new(per_second, duration));
    let deadline = tokio::time::Instant::from_std(schedule.begun + duration + GRACE);
    let mut clients = JoinSet::new();
    for mut connection in opened {
        let (request, schedule) = (Arc::clone(&request), Arc::clone(&schedule));
        clients.spawn(async move {
            let (mut outcome, mut buffer) = (Outcome::default(), Vec::with_capacity(4096));
            let load = async {
                while let Some(due) = schedule.next().await {
                    let answer = ask(&mut connection, address, &request, &mut buffer).await;
                    outcome.count(answer, due.elapsed());
                }
            };
            let _unanswered = tokio::time::timeout_at(deadline, load).await;
            outcome
        });
    }
    std::thread::spawn({
        let schedule = Arc::clone(&schedule);
        move || schedule.keep(connections)
    });
    let errors_before = all.errors;
    while let Some(outcome) = clients.join_next().await {
        all.add(outcome?);
    }
    let unanswered = schedule.total.saturating_sub(all.latency.count() + all.errors - errors_before);
    if unanswered > 0 {
        all.errors += unanswered;
        all.error.get_or_insert(format!("no answer within {} seconds of the end", GRACE.as_secs()));
    }
    all.requests_per_second = f64::from(per_second);
    Ok(all)
}

/// When requests are due, and who sends which: each is sent by one of the clients.
struct Schedule {
    begun: Instant,
    per_second: u32,
    /// How many requests there are.
    total: u64,
    /// How many have been given to clients.
    given: AtomicU64,
    /// A permit for each that is due and has not been given. Clients wait in the order in which they came.
    due: Semaphore,
}

impl Schedule {
    /// One that begins now.
    fn new(per_second: u32, duration: Duration) -> Self {
        let total = duration.as_nanos() * u128::from(per_second) / 1_000_000_000;
        Self {
            begun: Instant::now(),
            per_second,
            total: u64::try_from(total).unwrap_or(u64::MAX),
            given: AtomicU64::new(0),
            due: Semaphore::new(0),
        }
    }

    /// When a request is due.
    fn due_at(&self, number: u64) -> Instant {
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(self.per_second);
        self.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Waits until the next request is due, and says since when; `None` after the last one.
    async fn next(&self) -> Option<Instant> {
        // It is never closed.
        self.due.acquire().await.ok()?.forget();
        let number = self.given.fetch_add(1, Ordering::Relaxed);
        (number < self.total).then(|| self.due_at(number))
    }

    /// Lets requests go when they are due, on a thread of its own because tokio's timers are a millisecond wide; and
    /// these clients home when there are no more. Whatever became due in a thread's sleep goes at once: a wake-up for each
    /// request would take the processor from those who are measured.
    fn keep(&self, clients: usize) {
        let mut gone = 0;
        while gone < self.total {
            std::thread::sleep(self.due_at(gone).saturating_duration_since(Instant::now()));
            let elapsed = self.begun.elapsed().as_nanos();
            let due = elapsed * u128::from(self.per_second) / 1_000_000_000 + 1;
            let due = u64::try_from(due).unwrap_or(u64::MAX).clamp(gone + 1, self.total);
            self.due.add_permits(usize::try_from(due - gone).unwrap_or(usize::MAX));
            gone = due;
        }
        self.due.add_permits(clients);
    }
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
        let outcome = fixed_rate(address, "x", 4, 100, Duration::from_millis(200)).await.unwrap();
        assert_eq!((outcome.latency.count(), outcome.errors), (20, 0), "{:?}", outcome.error);
    }

    #[tokio::test]
    async fn bad_answers_at_a_fixed_rate_are_counted() {
        const GOOD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
        let address = server(&[GOOD, GOOD, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"]).await;
        let outcome = fixed_rate(address, "x", 1, 1000, Duration::from_millis(30)).await.unwrap();
        assert_eq!((outcome.latency.count(), outcome.errors), (20, 10));
        assert!(outcome.error.unwrap().contains("503"));
    }

    #[test]
    fn requests_are_due_at_even_distances() {
        let schedule = Schedule::new(3, Duration::from_secs(2));
        let after = |number| schedule.due_at(number) - schedule.begun;
        assert_eq!(schedule.total, 6);
        assert_eq!(after(0), Duration::ZERO);
        assert_eq!(after(1), Duration::from_nanos(333_333_333));
        assert_eq!(after(3), Duration::from_secs(1), "distances do not add up to less than the rate");
        assert_eq!(Schedule::new(1000, Duration::from_micros(100)).total, 0);
    }

    #[tokio::test]
    async fn a_server_that_falls_behind_gets_no_more_connections_and_its_delay_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let gate = Arc::new(Semaphore::new(0));
        tokio::spawn({
            let (accepted, asked, gate) = (Arc::clone(&accepted), Arc::clone(&asked), Arc::clone(&gate));
            async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
                    tokio::spawn(async move {
                        let (mut buffer, mut is_first) = ([0; 1024], true);
                        while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                            if !std::mem::take(&mut is_first) {
                                asked.fetch_add(1, Ordering::Relaxed);
                                let _open = gate.acquire().await;
                            }
                            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na";
                            stream.write_all(answer).await.unwrap();
                        }
                    });
                }
            }
        });
        let duration = Duration::from_millis(100);
        let load = tokio::spawn(fixed_rate(address, "x", 2, 1000, duration));
        while asked.load(Ordering::Relaxed) < 2 {
            tokio::task::yield_now().await;
        }
        // Nothing is answered before all have been due.
        tokio::time::sleep(duration).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2, "each connection waits for its answer");
        gate.close();
        let outcome = load.await.unwrap().unwrap();
        assert_eq!((outcome.latency.count(), outcome.errors), (100, 0), "{:?}", outcome.error);
        assert_eq!(accepted.load(Ordering::Relaxed), 2);
        // The one in the middle was due halfway, and only then could it be answered.
        assert!(outcome.latency.median() > 0.045, "{}", outcome.latency.median());
    }
}
