//! The store itself: opening, appending, creating, clearing.

use std::collections::HashMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fjall::config::BlockSizePolicy;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::error::LogsError;
use crate::keys::{self, Counters, GroupMeta, Position, StreamMeta};
use crate::model::{self, LogEvent, LogScope};
use crate::writer::{LogWriter, QueueLimits};
use crate::{EVENT_BYTES_MAX, EVENT_OVERHEAD_BYTES, step_back};

/// How many bytes gather in memory before they are written as a sorted table. What has not been written
/// is read back from the journal when the store opens, so these bound how long that takes: less than a
/// second, after a crash in the middle of a flood about one.
const EVENTS_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
const INDEX_MEMTABLE_BYTES: u64 = 4 * 1024 * 1024;
/// Small records, rewritten with every batch.
const RECORDS_MEMTABLE_BYTES: u64 = 1024 * 1024;
/// How large the journals may grow together before they are made obsolete; the engine's minimum.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Events are read in runs: larger blocks compress better and cost fewer reads than the default of 4 KiB.
const EVENT_BLOCK_BYTES: u32 = 16 * 1024;

/// Log groups, streams and events in one directory. Clones share the store; the directory is released when
/// the last clone, and the last [`LogWriter`], is gone. Its methods block.
#[derive(Clone)]
pub struct LogStore {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) db: Database,
    /// Groups, streams and counters: one keyspace for all, because each costs time when the store opens.
    pub(crate) records: Keyspace,
    pub(crate) events: Keyspace,
    pub(crate) stream_events: Keyspace,
    /// Held by whoever writes: groups, streams and counters are read, changed and written back.
    pub(crate) writing: Mutex<Counters>,
    /// By group: up to which moment all events may be gone without a stream having to be looked at.
    pub(crate) streams_settled: Mutex<HashMap<u64, i64>>,
    appends: watch::Sender<u64>,
}

/// One consistent view of the store.
pub(crate) struct View<'a> {
    inner: &'a Inner,
    snapshot: fjall::Snapshot,
}

impl LogStore {
    /// Opens the store in `dir`, creating it if it does not exist. After a crash, everything that was
    /// readable before it is there again.
    ///
    /// # Errors
    ///
    /// [`LogsError::Io`] if the directory can't be read or written, or another process uses it.
    pub fn open(dir: &Path) -> Result<Self, LogsError> {
        // The threads of the database, which merge what was written, inherit their precedence from the one that opens it.
        let open = || {
            step_back();
            Database::builder(dir).max_journaling_size(JOURNAL_BYTES_MAX).open()
        };
        let db = std::thread::scope(|scope| scope.spawn(open).join())
            .unwrap_or_else(|panic| resume_unwind(panic))
            .map_err(LogsError::io("open the log store"))?;
        let keyspace = |name: &str, options: fn() -> KeyspaceCreateOptions| {
            db.keyspace(name, options).map_err(LogsError::io("open the log store"))
        };
        let records = || KeyspaceCreateOptions::default().max_memtable_size(RECORDS_MEMTABLE_BYTES);
        let index = || KeyspaceCreateOptions::default().max_memtable_size(INDEX_MEMTABLE_BYTES);
        // Every look-up of an event comes from the index and finds it: filters for misses are dead weight.
        let events = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(EVENTS_MEMTABLE_BYTES)
                .data_block_size_policy(BlockSizePolicy::all(EVENT_BLOCK_BYTES))
                .expect_point_read_hits(true)
        };
        let inner = Inner {
            records: keyspace("records", records)?,
            events: keyspace("events", events)?,
            stream_events: keyspace("stream_events", index)?,
            writing: Mutex::new(Counters { next_seq: 1, next_id: 1 }),
            streams_settled: Mutex::default(),
            appends: watch::Sender::new(0),
            db,
        };
        let counters = inner.records.get(keys::COUNTERS_KEY).map_err(LogsError::io("open the log store"))?;
        if let Some(counters) = counters {
            *inner.writing.lock() = keys::from_json(&counters)?;
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// A queue into this store and the thread that empties it; see [`LogWriter`]. One for the whole process
    /// is meant: each further one is another thread, and events of different writers have no order.
    pub fn writer(&self) -> LogWriter {
        LogWriter::spawn(self.clone(), QueueLimits::default())
    }

    /// Appends events in the given order, creating groups and streams as needed. All are readable when this
    /// returns, or none. A message above [`EVENT_BYTES_MAX`] becomes several events.
    ///
    /// # Errors
    ///
    /// [`LogsError::InvalidParameter`] for a malformed name or a negative timestamp, and nothing is
    /// appended; [`LogsError::Io`] when the disk fails, after which the store takes no more writes.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "events go into the store; who sends them is done with them"
    )]
    pub fn append(&self, batch: Vec<LogEvent>) -> Result<(), LogsError> {
        batch.iter().try_for_each(LogEvent::validate)?;
        self.append_valid(&batch)
    }

    /// Appends events that are known to be valid.
    pub(crate) fn append_valid(&self, batch: &[LogEvent]) -> Result<(), LogsError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut counters = self.inner.writing.lock();
        let mut append = Append::new(&self.inner, *counters);
        for event in batch {
            append.add(event)?;
        }
        // Numbers are used up even if the commit fails: what became of it is then unknown.
        *counters = append.counters;
        append.commit()?;
        drop(counters);
        self.inner.appends.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Creates an empty group. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`LogsError::AlreadyExists`], [`LogsError::InvalidParameter`], [`LogsError::Io`].
    pub fn create_group(&self, region: &str, group: &str) -> Result<(), LogsError> {
        model::validate_region(region)?;
        model::validate_group(group)?;
        let mut counters = self.inner.writing.lock();
        if self.inner.load_group(region, group)?.is_some() {
            return Err(LogsError::AlreadyExists { what: "log group" });
        }
        let mut append = Append::new(&self.inner, *counters);
        append.ensure_group(region, group)?;
        *counters = append.counters;
        append.commit()?;
        self.sync()
    }

    /// Creates an empty stream in an existing group. It is on disk when this returns.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::AlreadyExists`], [`LogsError::InvalidParameter`],
    /// [`LogsError::Io`].
    pub fn create_stream(&self, scope: &LogScope) -> Result<(), LogsError> {
        scope.validate()?;
        let mut counters = self.inner.writing.lock();
        let group = self.inner.load_group(&scope.region, &scope.group)?.ok_or(LogsError::NoSuchGroup)?;
        if self.inner.load_stream(group.id, &scope.stream)?.is_some() {
            return Err(LogsError::AlreadyExists { what: "log stream" });
        }
        let mut append = Append::new(&self.inner, *counters);
        append.ensure_stream(scope)?;
        *counters = append.counters;
        append.commit()?;
        self.sync()
    }

    /// Deletes every group, stream and event. Events still in a writer's queue are not known here yet, and
    /// bring their groups back: flush the writer first.
    ///
    /// # Errors
    ///
    /// [`LogsError::Io`]; events are deleted first, so what remains after a failure are empty groups.
    pub fn clear(&self) -> Result<(), LogsError> {
        let counters = self.inner.writing.lock();
        let inner = &self.inner;
        for keyspace in [&inner.events, &inner.stream_events, &inner.records] {
            keyspace.clear().map_err(LogsError::io("clear the log store"))?;
        }
        Append::new(inner, *counters).commit()?;
        self.sync()
    }

    /// A counter that changes after every append, for those who wait for new events.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.appends.subscribe()
    }

    /// Waits until everything appended is on the disk.
    pub(crate) fn sync(&self) -> Result<(), LogsError> {
        self.inner.db.persist(PersistMode::SyncData).map_err(LogsError::io("sync the log store"))
    }

    /// Keeps every writer waiting until the guard is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> impl Drop + '_ {
        self.inner.writing.lock()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) fn view(&self) -> View<'_> {
        View { inner: &self.inner, snapshot: self.inner.db.snapshot() }
    }
}

impl Inner {
    pub(crate) fn load_group(&self, region: &str, group: &str) -> Result<Option<GroupMeta>, LogsError> {
        let value =
            self.records.get(keys::group_key(region, group)).map_err(LogsError::io("read a log group"))?;
        value.map(|value| keys::from_json(&value)).transpose()
    }

    pub(crate) fn load_stream(&self, group_id: u64, stream: &str) -> Result<Option<StreamMeta>, LogsError> {
        let value = self
            .records
            .get(keys::stream_key(group_id, stream))
            .map_err(LogsError::io("read a log stream"))?;
        value.map(|value| keys::from_json(&value)).transpose()
    }
}

/// A group as one append changes it: its key and its record.
type GroupState = (Vec<u8>, GroupMeta);
/// A stream as one append changes it: its group's place in [`Append::groups`], its key and its record.
type StreamState = (usize, Vec<u8>, StreamMeta);

/// One atomic change, being put together.
struct Append<'a> {
    inner: &'a Inner,
    now_ms: i64,
    counters: Counters,
    batch: OwnedWriteBatch,
    groups: Vec<GroupState>,
    group_places: HashMap<(Arc<str>, Arc<str>), usize>,
    streams: Vec<StreamState>,
    stream_places: HashMap<LogScope, usize>,
}

impl<'a> Append<'a> {
    fn new(inner: &'a Inner, counters: Counters) -> Self {
        Self {
            inner,
            now_ms: now_ms(),
            counters,
            // Handed to the operating system with the commit: from then on a kill can't take it back.
            batch: inner.db.batch().durability(Some(PersistMode::Buffer)),
            groups: Vec::new(),
            group_places: HashMap::new(),
            streams: Vec::new(),
            stream_places: HashMap::new(),
        }
    }

    fn add(&mut self, event: &LogEvent) -> Result<(), LogsError> {
        let timestamp_ms = event.timestamp_ms;
        let stream_place = match self.stream_places.get(&event.scope) {
            Some(&place) => place,
            None => self.ensure_stream(&event.scope)?,
        };
        let (group_place, _, stream) = &mut self.streams[stream_place];
        let (_, group) = &mut self.groups[*group_place];
        stream.first_event_ms = Some(stream.first_event_ms.map_or(timestamp_ms, |at| at.min(timestamp_ms)));
        stream.last_event_ms = Some(stream.last_event_ms.map_or(timestamp_ms, |at| at.max(timestamp_ms)));
        stream.last_ingestion_ms = Some(self.now_ms);
        for message in pieces(&event.message) {
            let position = Position { timestamp_ms, seq: self.counters.next_seq };
            self.counters.next_seq += 1;
            let value = keys::event_value(stream.id, self.now_ms, message);
            self.batch.insert(&self.inner.events, keys::event_key(group.id, position), value);
            self.batch.insert(&self.inner.stream_events, keys::event_key(stream.id, position), []);
            let bytes = message.len() + EVENT_OVERHEAD_BYTES;
            group.stored_bytes += u64::try_from(bytes).expect("usize is at most 64 bits");
        }
        Ok(())
    }

    /// The group's place; loads it, or makes it.
    fn ensure_group(&mut self, region: &str, name: &str) -> Result<usize, LogsError> {
        let place_key = (Arc::from(region), Arc::from(name));
        if let Some(&place) = self.group_places.get(&place_key) {
            return Ok(place);
        }
        let meta = match self.inner.load_group(region, name)? {
            Some(meta) => meta,
            None => GroupMeta {
                id: self.next_id(),
                creation_time_ms: self.now_ms,
                stored_bytes: 0,
                retention_days: None,
            },
        };
        let place = self.groups.len();
        self.groups.push((keys::group_key(region, name), meta));
        self.group_places.insert(place_key, place);
        Ok(place)
    }

    /// The stream's place; loads it, or makes it and its group.
    fn ensure_stream(&mut self, scope: &LogScope) -> Result<usize, LogsError> {
        let group_place = self.ensure_group(&scope.region, &scope.group)?;
        let group_id = self.groups[group_place].1.id;
        let meta = match self.inner.load_stream(group_id, &scope.stream)? {
            Some(meta) => meta,
            None => {
                let id = self.next_id();
                self.batch.insert(&self.inner.records, keys::stream_name_key(id), scope.stream.as_bytes());
                StreamMeta {
                    id,
                    creation_time_ms: self.now_ms,
                    first_event_ms: None,
                    last_event_ms: None,
                    last_ingestion_ms: None,
                }
            }
        };
        let place = self.streams.len();
        self.streams.push((group_place, keys::stream_key(group_id, &scope.stream), meta));
        self.stream_places.insert(scope.clone(), place);
        Ok(place)
    }

    fn next_id(&mut self) -> u64 {
        let id = self.counters.next_id;
        self.counters.next_id += 1;
        id
    }

    fn commit(mut self) -> Result<(), LogsError> {
        for (key, meta) in self.groups {
            self.batch.insert(&self.inner.records, key, keys::to_json(&meta));
        }
        for (_, key, meta) in self.streams {
            self.batch.insert(&self.inner.records, key, keys::to_json(&meta));
        }
        self.batch.insert(&self.inner.records, keys::COUNTERS_KEY, keys::to_json(&self.counters));
        self.batch.commit().map_err(LogsError::io("append log events"))
    }
}

impl View<'_> {
    pub(crate) fn group(&self, region: &str, group: &str) -> Result<GroupMeta, LogsError> {
        model::validate_region(region)?;
        model::validate_group(group)?;
        let value = self
            .snapshot
            .get(&self.inner.records, keys::group_key(region, group))
            .map_err(LogsError::io("read a log group"))?;
        keys::from_json(&value.ok_or(LogsError::NoSuchGroup)?)
    }

    pub(crate) fn stream(&self, group_id: u64, stream: &str) -> Result<StreamMeta, LogsError> {
        model::validate_stream(stream)?;
        let value = self
            .snapshot
            .get(&self.inner.records, keys::stream_key(group_id, stream))
            .map_err(LogsError::io("read a log stream"))?;
        keys::from_json(&value.ok_or(LogsError::NoSuchStream)?)
    }

    pub(crate) fn stream_name(&self, stream_id: u64) -> Result<Arc<str>, LogsError> {
        let value = self
            .snapshot
            .get(&self.inner.records, keys::stream_name_key(stream_id))
            .map_err(LogsError::io("read a log stream's name"))?;
        let name = value.ok_or_else(|| LogsError::damaged("a log stream's name"))?;
        let name = std::str::from_utf8(&name).map_err(|_| LogsError::damaged("a log stream's name"))?;
        Ok(Arc::from(name))
    }

    /// Groups or streams by key.
    pub(crate) fn records(&self, range: keys::KeyRange) -> fjall::Iter {
        self.snapshot.range(&self.inner.records, range)
    }

    /// A group's events in a range of positions.
    pub(crate) fn events(&self, group_id: u64, range: std::ops::Range<Position>) -> fjall::Iter {
        self.snapshot.range(&self.inner.events, event_keys(group_id, range))
    }

    /// A stream's index in a range of positions; the values are empty.
    pub(crate) fn stream_events(&self, stream_id: u64, range: std::ops::Range<Position>) -> fjall::Iter {
        self.snapshot.range(&self.inner.stream_events, event_keys(stream_id, range))
    }

    /// The event at a position the index gave.
    pub(crate) fn event(&self, group_id: u64, position: Position) -> Result<fjall::Slice, LogsError> {
        let key = keys::event_key(group_id, position);
        let value = self.snapshot.get(&self.inner.events, key).map_err(LogsError::io("read a log event"))?;
        value.ok_or_else(|| LogsError::damaged("a log stream's index"))
    }
}

fn event_keys(owner_id: u64, range: std::ops::Range<Position>) -> std::ops::Range<[u8; 24]> {
    // An inverted range is empty, and must not reach the engine, which would panic on it.
    let end = range.end.max(range.start);
    keys::event_key(owner_id, range.start)..keys::event_key(owner_id, end)
}

/// The events one message becomes: itself, or pieces of at most [`EVENT_BYTES_MAX`], cut between characters.
fn pieces(message: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(message);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.len() <= EVENT_BYTES_MAX {
            return Some(text);
        }
        let (piece, tail) = text.split_at(text.floor_char_boundary(EVENT_BYTES_MAX));
        rest = Some(tail);
        Some(piece)
    })
}

pub(crate) fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let lengths = |message: &str| pieces(message).map(str::len).collect::<Vec<_>>();
        assert_eq!(lengths(""), [0]);
        assert_eq!(lengths(&"a".repeat(EVENT_BYTES_MAX)), [EVENT_BYTES_MAX]);
        assert_eq!(lengths(&"a".repeat(EVENT_BYTES_MAX + 1)), [EVENT_BYTES_MAX, 1]);
        let message = format!("a{}", "é".repeat(EVENT_BYTES_MAX / 2));
        assert_eq!(lengths(&message), [EVENT_BYTES_MAX - 1, 2]);
        assert_eq!(pieces(&message).collect::<String>(), message);
    }
}
