//! The subject as a program of this machine: in threads of the bench, one per start, that spawn and then ask.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::{Arc, Barrier, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use futures_util::future::BoxFuture;

use super::{Starts, Way};
use crate::containers::{Address, Engine, ErrorOutput, Native, Place, Process, Started};
use crate::proc::{children_cpu_time, own_cpu_time, pss_of};
use crate::report::{Row, Side};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a program of the user's may take as a bare process, which is the fastest way to start it.
const PATIENCE_AT_FIRST: Duration = Duration::from_secs(30);

/// A program, and what starts it.
pub(super) struct Program {
    engine: Arc<dyn Engine>,
    native: Arc<Native>,
    /// Places that are ready; made when they are first needed.
    places: Mutex<Vec<Ready>>,
}

/// A place, and the file for what is written to standard error there.
struct Ready {
    place: Box<dyn Place>,
    errors: ErrorOutput,
}

impl Program {
    pub(super) fn new(engine: Arc<dyn Engine>, native: Arc<Native>) -> Self {
        Self { engine, native, places: Mutex::default() }
    }

    fn take_places(&self, count: usize) -> anyhow::Result<Vec<Ready>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        while places.len() < count {
            places.push(Ready { place: self.engine.place(&self.native)?, errors: ErrorOutput::new()? });
        }
        let rest = places.len() - count;
        Ok(places.split_off(rest))
    }

    fn give_back(&self, places: Vec<Ready>) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).extend(places);
    }

    fn start_all(&self, count: usize) -> anyhow::Result<Starts> {
        let mut places = self.take_places(count)?;
        for ready in &places {
            ready.place.address().iter().try_for_each(Address::ensure_silent)?;
        }
        let results = all_at_once(&mut places, |ready, due| start(ready, due, count, self.native.exit_code));
        let mut all = Vec::new();
        for (ready, result) in places.iter_mut().zip(results) {
            let (took, answer, started) = result?;
            if let Some(mut started) = started {
                ready.place.stop(started.child());
            }
            all.push((took, answer));
        }
        // After an error they are dropped instead: who knows what is left in them.
        self.give_back(places);
        Ok(all)
    }
}

/// Does this for every place, each on a thread of its own, all due at the same moment.
pub(super) fn all_at_once<P: Send, T: Send>(
    places: &mut [P],
    start: impl Fn(&mut P, Instant) -> T + Sync,
) -> Vec<T> {
    if let [place] = places {
        return vec![start(place, Instant::now())];
    }
    let barrier = Barrier::new(places.len() + 1);
    let due = OnceLock::new();
    std::thread::scope(|scope| {
        let threads: Vec<_> = places
            .iter_mut()
            .map(|place| {
                scope.spawn(|| {
                    barrier.wait();
                    start(place, *due.get_or_init(Instant::now))
                })
            })
            .collect();
        due.get_or_init(Instant::now);
        barrier.wait();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// How long it took, what it answered, and what still runs.
type Start = anyhow::Result<(Duration, Vec<u8>, Option<Started>)>;

/// Starts one, and waits for its answer, or for its end with this exit code.
fn start(ready: &mut Ready, due: Instant, at_once: usize, exit_code: i32) -> Start {
    let mut command = ready.place.command();
    command.stderr(ready.errors.emptied()?);
    let Some(address) = ready.place.address() else {
        let mut started = Started::spawn(command.stdout(Stdio::piped()))?;
        let mut output = Vec::new();
        started.child().stdout.take().context("it was asked for")?.read_to_end(&mut output)?;
        let status = started.child().wait()?;
        let took = due.elapsed();
        let ended =
            if status.code() == Some(exit_code) { Ok(()) } else { Err(anyhow!("it ended: {status}")) };
        ready.errors.explain(ended)?;
        return Ok((took, [format!("exit {exit_code}\n").into_bytes(), output].concat(), None));
    };
    let mut started = Started::spawn(command.stdout(Stdio::null()))?;
    let answer = ready.errors.explain(await_answer(&address, started.child(), at_once))?;
    Ok((due.elapsed(), answer, Some(started)))
}

/// Runs a program of the user's once as it is: one that serves must answer, one that does not must end. With which
/// exit code, is remembered.
pub(super) fn try_out(native: &mut Native) -> anyhow::Result<()> {
    let place = Process.place(native)?;
    let mut errors = ErrorOutput::new()?;
    let mut command = place.command();
    let mut started = Started::spawn(command.stdout(Stdio::null()).stderr(errors.emptied()?))?;
    let Some(address) = place.address() else {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = started.child().try_wait()? {
                break status;
            }
            if begun.elapsed() > PATIENCE_AT_FIRST {
                bail!("it did not end within {PATIENCE_AT_FIRST:?}, but its component is a command");
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        native.exit_code = errors.explain(status.code().with_context(|| format!("it ended by {status}")))?;
        return Ok(());
    };
    errors
        .explain(await_answer_for(PATIENCE_AT_FIRST, &address, started.child(), 1))
        .context("a server must answer GET / at 127.0.0.1 and the port in the environment variable PORT")
        .map(drop)
}

/// Asks `GET /` until there is an answer, more seldom where many ask at once; the status and the body.
pub(crate) fn await_answer(
    address: &Address,
    process: &mut Child,
    at_once: usize,
) -> anyhow::Result<Vec<u8>> {
    await_answer_for(PATIENCE, address, process, at_once)
}

fn await_answer_for(
    patience: Duration,
    address: &Address,
    process: &mut Child,
    at_once: usize,
) -> anyhow::Result<Vec<u8>> {
    let pause = match at_once {
        1 => Duration::from_micros(100),
        2..=10 => Duration::from_millis(1),
        _ => Duration::from_millis(5),
    };
    let begun = Instant::now();
    loop {
        match ask(address) {
            Ok(answer) => return Ok(answer),
            Err(error) if begun.elapsed() > patience => bail!("no answer within {patience:?}: {error:#}"),
            Err(_) => {}
        }
        if let Some(status) = process.try_wait()? {
            bail!("it ended before it answered: {status}");
        }
        std::thread::sleep(pause);
    }
}

fn ask(address: &Address) -> anyhow::Result<Vec<u8>> {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    match address {
        Address::Socket(path) => {
            let mut stream = UnixStream::connect(path)?;
            stream.write_all(REQUEST)?;
            stream.read_to_end(&mut answer)?;
        }
        Address::Port(port) => {
            let mut stream = TcpStream::connect(("127.0.0.1", *port))?;
            stream.write_all(REQUEST)?;
            stream.read_to_end(&mut answer)?;
        }
    }
    let head = answer.windows(4).position(|window| window == b"\r\n\r\n").context("no head")?;
    let status = std::str::from_utf8(&answer[..head])?.split(' ').nth(1).context("no status")?;
    Ok([format!("{status}\n").into_bytes(), answer[head + 4..].to_vec()].concat())
}

impl Way for Program {
    fn row(&self) -> Row {
        self.engine.row(&self.native)
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(async move { tokio::task::block_in_place(|| self.start_all(count)) })
    }

    fn cpu_time(&self) -> Option<Duration> {
        self.engine.has_children().then(children_cpu_time)
    }

    fn memory(&self) -> BoxFuture<'_, anyhow::Result<Option<f64>>> {
        let measure = || -> anyhow::Result<Option<f64>> {
            let mut places = self.take_places(1)?;
            let mut memory = None;
            for ready in &mut places {
                let (_, _, started) = start(ready, Instant::now(), 1, self.native.exit_code)?;
                if let Some(mut started) = started {
                    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
                    let bytes = pss_of(&ready.place.processes(started.child())) as f64;
                    memory = Some(bytes);
                    ready.place.stop(started.child());
                }
            }
            self.give_back(places);
            Ok(memory)
        };
        Box::pin(async move { tokio::task::block_in_place(measure) })
    }

    fn reads_files(&self) -> bool {
        true
    }
}

/// A thread that calls a function, for scale: the least that anything with a life of its own costs.
pub(super) struct Thread(pub(super) fn() -> Vec<u8>);

impl Way for Thread {
    fn row(&self) -> Row {
        Row::new("thread", "a thread that gives the same answer", Side::Bound, "std::thread::spawn, join")
            .with_settings("no isolation, no limits, no HTTP")
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(async move {
            tokio::task::block_in_place(|| {
                let due = Instant::now();
                let function = self.0;
                let threads: Vec<_> = (0..count)
                    .map(|_| {
                        std::thread::spawn(move || {
                            let answer = function();
                            (due.elapsed(), answer)
                        })
                    })
                    .collect();
                let join =
                    |thread: std::thread::JoinHandle<_>| thread.join().ok().context("the thread panicked");
                threads.into_iter().map(join).collect()
            })
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(own_cpu_time())
    }

    fn reads_files(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_due_at_once() {
        let mut places = [0; 20];
        let dues = all_at_once(&mut places, |place, due| {
            *place += 1;
            due
        });
        assert_eq!(dues.len(), 20);
        assert!(dues.iter().all(|due| *due == dues[0]), "a later one would be forgiven its wait");
        assert_eq!(places, [1; 20]);
    }
}
