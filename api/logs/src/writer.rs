//! The way in for containers: a bounded queue, and one thread that commits what has gathered in it.
//!
//! The thread takes everything there is, and commits it in batches up to a bound; what arrives meanwhile is the next
//! batch. Batches thus grow with the load, and a single line waits for nobody. The queue is locked for a moment only,
//! however much is taken out of it: the thread yields to all others, and who adds a line must not wait for its turn.
//!
//! A full queue pushes back: [`LogWriter::poll_ready`] is pending until the thread has caught up, and a
//! container that floods its log waits there instead of filling memory or losing lines. Events are lost in
//! one case only, when the disk fails: containers then run on, and [`LogWriter::flush`] says so.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::error::LogsError;
use crate::model::LogEvent;
use crate::step_back;
use crate::store::LogStore;

/// The longest a committed event waits to be synced to the disk.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// The most one commit takes: bounds the memory of a batch and how long its first event waits.
const BATCH_EVENTS_MAX: usize = 8192;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What an event counts towards the queue's bytes beside its message: itself, about.
const QUEUED_EVENT_BYTES: usize = 128;

/// When the queue counts as full.
pub(crate) struct QueueLimits {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { events: 65_536, bytes: 16 * 1024 * 1024 }
    }
}

/// The queue is full; the event comes back.
#[derive(Debug, thiserror::Error)]
#[error("the log queue is full")]
pub struct QueueFull(
    /// The event that did not fit.
    pub LogEvent,
);

/// A handle to the queue. Clones share it, and events of one handle keep their order. The writing thread
/// ends with the last handle, after it has written everything; dropping that handle waits for it.
pub struct LogWriter {
    shared: Arc<Shared>,
    /// Tells the tasks that wait through this handle from the others.
    id: u64,
    thread: Arc<WriterThread>,
}

struct Shared {
    store: LogStore,
    limits: QueueLimits,
    queue: Mutex<Queue>,
    /// Signalled when there is something to write, and when the queue is closed.
    work: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Queue {
    events: VecDeque<LogEvent>,
    /// What counts towards the bounds: what is in the queue, and what the thread has taken out and not yet put into a
    /// batch.
    count: usize,
    bytes: usize,
    /// How many events were ever put in.
    enqueued: u64,
    /// Of the tasks waiting for room, by the handle they wait through.
    wakers: HashMap<u64, Vec<Waker>>,
    next_handle: u64,
    is_closed: bool,
    /// The thread is gone although the queue was not closed: events have nowhere to go.
    is_dead: bool,
}

#[derive(Clone, Default)]
struct Progress {
    /// How many events were ever taken out and dealt with, written or lost.
    done: u64,
    lost: u64,
    failure: Option<Arc<str>>,
}

impl Progress {
    fn fail(&mut self, reason: &str) {
        if self.failure.is_none() {
            tracing::error!(reason, "log events are being lost");
            self.failure = Some(reason.into());
        }
    }
}

/// Closes the queue and waits for the thread, when the last handle goes.
struct WriterThread {
    shared: Arc<Shared>,
    handle: Mutex<Option<JoinHandle<()>>>,
}

impl LogWriter {
    pub(crate) fn spawn(store: LogStore, limits: QueueLimits) -> Self {
        let shared = Arc::new(Shared {
            store,
            limits,
            queue: Mutex::new(Queue { next_handle: 1, ..Queue::default() }),
            work: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
        });
        let handle = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn({
                let shared = shared.clone();
                move || {
                    step_back();
                    let life = AssertUnwindSafe(|| shared.write_until_closed());
                    if catch_unwind(life).is_err() {
                        shared.give_up();
                    }
                }
            })
            .expect("the process may start one more thread");
        let thread = WriterThread { shared: shared.clone(), handle: Mutex::new(Some(handle)) };
        Self { shared, id: 0, thread: Arc::new(thread) }
    }

    /// Ready when the queue has room; else the task is woken once it has. Several tasks may wait through one
    /// handle. Room is not reserved: the queue may grow past its bound by what is sent between one readiness
    /// check and the next.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.shared.queue.lock();
        if !self.shared.is_full(&queue) {
            return Poll::Ready(());
        }
        let waiting = queue.wakers.entry(self.id).or_default();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until the queue has room; [`LogWriter::poll_ready`] as a future.
    pub async fn ready(&self) {
        poll_fn(|cx| self.poll_ready(cx)).await;
    }

    /// Puts an event into the queue, full or not: for those who have waited for
    /// [`LogWriter::poll_ready`] and whose burst is bounded otherwise. An event with a malformed name or a
    /// negative timestamp is dropped by the writing thread, with a warning in the program's own log.
    pub fn send(&self, event: LogEvent) {
        self.enqueue(&mut self.shared.queue.lock(), event);
    }

    /// Puts an event into the queue, or gives it back.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] with the event.
    pub fn try_send(&self, event: LogEvent) -> Result<(), QueueFull> {
        let mut queue = self.shared.queue.lock();
        if self.shared.is_full(&queue) {
            return Err(QueueFull(event));
        }
        self.enqueue(&mut queue, event);
        Ok(())
    }

    fn enqueue(&self, queue: &mut Queue, event: LogEvent) {
        queue.enqueued += 1;
        if queue.is_dead {
            return;
        }
        queue.count += 1;
        queue.bytes += queued_bytes(&event);
        queue.events.push_back(event);
        // The thread only sleeps on an empty queue.
        if queue.events.len() == 1 {
            self.shared.work.notify_one();
        }
    }

    /// Waits until everything put into the queue before this call, by any handle, is readable and survives
    /// the end of the process.
    ///
    /// # Errors
    ///
    /// [`LogsError::Lost`] if the disk failed, now or earlier in the life of this writer.
    pub async fn flush(&self) -> Result<(), LogsError> {
        let target = self.shared.queue.lock().enqueued;
        let mut progress = self.shared.progress.subscribe();
        let progress =
            progress.wait_for(|progress| progress.done >= target).await.expect("its sender is in self");
        match &progress.failure {
            None => Ok(()),
            Some(reason) => Err(LogsError::Lost { events: progress.lost, reason: reason.to_string() }),
        }
    }
}

impl Clone for LogWriter {
    fn clone(&self) -> Self {
        let mut queue = self.shared.queue.lock();
        let id = queue.next_handle;
        queue.next_handle += 1;
        drop(queue);
        Self { shared: self.shared.clone(), id, thread: self.thread.clone() }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.queue.lock().wakers.remove(&self.id);
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.shared.queue.lock().is_closed = true;
        self.shared.work.notify_one();
        if let Some(handle) = self.handle.lock().take() {
            // A panic was caught, and reported, inside the thread.
            let _ = handle.join();
        }
    }
}

impl Shared {
    fn is_full(&self, queue: &Queue) -> bool {
        queue.count >= self.limits.events || queue.bytes >= self.limits.bytes
    }

    /// The writing thread's life.
    fn write_until_closed(&self) {
        let mut sync_due = None;
        let mut taken = VecDeque::new();
        while self.take(&mut taken, sync_due) {
            while !taken.is_empty() {
                self.write(self.next_batch(&mut taken));
                sync_due.get_or_insert_with(|| Instant::now() + SYNC_INTERVAL);
                self.sync_if_due(&mut sync_due);
            }
            self.sync_if_due(&mut sync_due);
        }
        if sync_due.is_some() {
            self.sync();
        }
    }

    /// Takes all there is to write into an empty list; nothing when a sync is due. False when closed and empty. The list
    /// stays behind in its place, so that nobody has to make room while others wait.
    fn take(&self, taken: &mut VecDeque<LogEvent>, sync_due: Option<Instant>) -> bool {
        let mut queue = self.queue.lock();
        while queue.events.is_empty() {
            if queue.is_closed {
                return false;
            }
            match sync_due {
                None => self.work.wait(&mut queue),
                Some(due) => {
                    if self.work.wait_until(&mut queue, due).timed_out() {
                        break;
                    }
                }
            }
        }
        std::mem::swap(&mut queue.events, taken);
        true
    }

    /// What to write next of what has been taken.
    fn next_batch(&self, taken: &mut VecDeque<LogEvent>) -> Vec<LogEvent> {
        let fits = |bytes: &mut usize, event: &LogEvent| {
            let has_room = *bytes < BATCH_BYTES_MAX;
            *bytes += queued_bytes(event);
            Some(has_room).filter(|has_room| *has_room)
        };
        let count = taken.iter().take(BATCH_EVENTS_MAX).scan(0, fits).count();
        let batch: Vec<LogEvent> = taken.drain(..count).collect();
        let bytes: usize = batch.iter().map(queued_bytes).sum();
        let woken = {
            let mut queue = self.queue.lock();
            queue.count -= batch.len();
            queue.bytes -= bytes;
            // Woken at half: those who waited then get on for a while before they wait again.
            let has_room = queue.count <= self.limits.events / 2 && queue.bytes <= self.limits.bytes / 2;
            if has_room { std::mem::take(&mut queue.wakers) } else { HashMap::new() }
        };
        woken.into_values().flatten().for_each(Waker::wake);
        batch
    }

    fn sync_if_due(&self, sync_due: &mut Option<Instant>) {
        if sync_due.is_some_and(|due| due <= Instant::now()) {
            self.sync();
            *sync_due = None;
        }
    }

    fn write(&self, mut batch: Vec<LogEvent>) {
        let count = u64::try_from(batch.len()).expect("usize is at most 64 bits");
        batch.retain(|event| match event.validate() {
            Ok(()) => true,
            Err(reason) => {
                let (group, stream) = (&event.scope.group, &event.scope.stream);
                tracing::warn!(%group, %stream, %reason, "log event dropped");
                false
            }
        });
        let result = self.store.append_valid(&batch);
        self.progress.send_modify(|progress| {
            progress.done += count;
            if let Err(error) = result {
                progress.lost += count;
                progress.fail(&error.with_causes());
            }
        });
    }

    /// After the thread panicked: nobody waits for it any more.
    fn give_up(&self) {
        let woken = {
            let mut queue = self.queue.lock();
            queue.is_dead = true;
            queue.events.clear();
            queue.count = 0;
            queue.bytes = 0;
            std::mem::take(&mut queue.wakers)
        };
        woken.into_values().flatten().for_each(Waker::wake);
        self.progress.send_modify(|progress| {
            progress.lost += self.queue.lock().enqueued.saturating_sub(progress.done);
            progress.done = u64::MAX;
            progress.fail("the log writer panicked");
        });
    }

    fn sync(&self) {
        // The failure of a sync is one of the whole store: the next append reports it.
        if let Err(error) = self.store.sync() {
            tracing::error!(reason = %error.with_causes(), "log events may not be on the disk");
        }
    }
}

fn queued_bytes(event: &LogEvent) -> usize {
    event.message.len() + QUEUED_EVENT_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::model::LogScope;
    use crate::read::GetEvents;

    fn event(n: i64) -> LogEvent {
        let scope = LogScope { region: "r".into(), group: "g".into(), stream: "s".into() };
        LogEvent { scope, timestamp_ms: n, message: format!("line {n}") }
    }

    fn messages(store: &LogStore) -> Vec<String> {
        let query = GetEvents {
            region: "r".into(),
            group: "g".into(),
            stream: "s".into(),
            start_from_head: true,
            ..GetEvents::default()
        };
        store.get_events(&query).unwrap().events.into_iter().map(|event| event.message).collect()
    }

    #[derive(Default)]
    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// A full queue, its thread stuck on the store until the guard goes.
    fn fill(writer: &LogWriter) -> usize {
        let mut sent = 0;
        // The thread takes a batch out and then waits for the store; until it has, there is room again.
        loop {
            match writer.try_send(event(i64::try_from(sent).unwrap())) {
                Ok(()) => sent += 1,
                Err(QueueFull(_)) if sent > writer.shared.limits.events => return sent,
                Err(QueueFull(_)) => std::thread::yield_now(),
            }
        }
    }

    #[tokio::test]
    async fn a_full_queue_pushes_back_and_wakes_every_task() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = LogWriter::spawn(store.clone(), QueueLimits { events: 4, bytes: usize::MAX });
        let other = writer.clone();
        let wakes: [Arc<CountWakes>; 3] = Default::default();

        let stalled = store.stall();
        let sent = fill(&writer);
        for (handle, wakes) in [&writer, &writer, &other].into_iter().zip(&wakes) {
            let waker = Waker::from(wakes.clone());
            assert!(handle.poll_ready(&mut Context::from_waker(&waker)).is_pending());
            assert!(handle.poll_ready(&mut Context::from_waker(&waker)).is_pending());
        }
        // Unconditional sends still fit.
        writer.send(event(i64::try_from(sent).unwrap()));
        drop(stalled);

        writer.flush().await.unwrap();
        for wakes in &wakes {
            assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        }
        tokio::time::timeout(Duration::from_secs(10), writer.ready()).await.unwrap();
        let expected: Vec<_> = (0..=sent).map(|n| format!("line {n}")).collect();
        assert_eq!(messages(&store), expected);
    }

    #[tokio::test]
    async fn what_is_taken_out_counts_until_it_is_in_a_batch() {
        const LIMIT: usize = 2 * BATCH_EVENTS_MAX;
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = LogWriter::spawn(store.clone(), QueueLimits { events: LIMIT, bytes: usize::MAX });
        let stalled = store.stall();
        {
            let mut queue = writer.shared.queue.lock();
            (0..LIMIT).for_each(|_| writer.enqueue(&mut queue, event(1)));
        }
        while !writer.shared.queue.lock().events.is_empty() {
            std::thread::yield_now();
        }
        // The first batch waits for the store, the second one for the first.
        let mut sent = 0;
        while sent < BATCH_EVENTS_MAX {
            match writer.try_send(event(2)) {
                Ok(()) => sent += 1,
                Err(QueueFull(_)) => std::thread::yield_now(),
            }
        }
        assert!(writer.try_send(event(3)).is_err());
        drop(stalled);
        writer.flush().await.unwrap();
        assert_eq!(writer.shared.queue.lock().count, 0);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_bytes_too() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = LogWriter::spawn(store.clone(), QueueLimits { events: usize::MAX, bytes: 1000 });
        let stalled = store.stall();
        let large = || LogEvent { message: "x".repeat(900), ..event(1) };
        let mut sent = 0;
        while writer.try_send(large()).is_ok() {
            sent += 1;
        }
        assert!(sent <= 2, "at most one in flight and one in the queue, not {sent}");
        drop(stalled);
        writer.flush().await.unwrap();
        writer.try_send(large()).unwrap();
    }

    #[test]
    fn dropping_the_last_handle_writes_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = store.writer();
        let clone = writer.clone();
        drop(writer);
        (0..1000).for_each(|n| clone.send(event(n)));
        drop(clone);
        assert_eq!(messages(&store).len(), 1000);
    }

    #[tokio::test]
    async fn a_malformed_event_is_dropped_alone() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = store.writer();
        let stalled = store.stall();
        writer.send(event(0));
        writer.send(event(1));
        writer.send(event(-1));
        let scope = LogScope { stream: "a:b".into(), ..event(0).scope };
        writer.send(LogEvent { scope, ..event(0) });
        writer.send(event(2));
        drop(stalled);
        writer.flush().await.unwrap();
        assert_eq!(messages(&store), ["line 0", "line 1", "line 2"]);
    }

    #[tokio::test]
    async fn nobody_waits_for_a_thread_that_panicked() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path()).unwrap();
        let writer = store.writer();
        let stalled = store.stall();
        writer.send(event(0));
        writer.shared.give_up();
        drop(stalled);
        writer.send(event(1));
        writer.ready().await;
        let error = writer.flush().await.unwrap_err();
        assert!(error.to_string().contains("panicked"), "{error}");
    }
}
