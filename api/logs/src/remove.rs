//! Taking away: groups, streams, and what is older or more than is kept.
//!
//! Everything is removed in steps of a bounded number of events, each a batch of its own, so that writers
//! never wait long and a crash in between leaves a store that is whole. The steps of a deleted group go on
//! when the store is swept: its id is noted until nothing of it is left.

use fjall::OwnedWriteBatch;

use crate::EVENT_OVERHEAD_BYTES;
use crate::error::LogsError;
use crate::keys::{self, EventValue, GroupMeta, Position, StreamMeta};
use crate::model::{self, LogScope};
use crate::store::{Inner, LogStore};

/// The most events one step removes: some milliseconds of work.
const STEP_EVENTS: usize = 4096;
/// What is removed once the store is larger than it may be, beyond what would be enough: a tenth of the
/// bound, so that it is not at the bound again with the next line.
const SLACK: u64 = 10;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// How many days a group can keep its events: CloudWatch Logs' list.
pub const RETENTION_DAYS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Events that were older than their group keeps them.
    pub expired: u64,
    /// Events that were removed because the store was too large.
    pub crowded_out: u64,
    /// Events of groups that had been deleted.
    pub deleted: u64,
}

impl LogStore {
    /// Deletes a group with its streams and events. Whoever asks for it from now on does not find it; its
    /// events leave the disk with the following sweeps.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::InvalidParameter`], [`LogsError::Io`].
    pub fn delete_group(&self, region: &str, group: &str) -> Result<(), LogsError> {
        model::validate_region(region)?;
        model::validate_group(group)?;
        let inner = self.inner();
        let _writing = inner.writing.lock();
        let meta = inner.load_group(region, group)?.ok_or(LogsError::NoSuchGroup)?;
        let mut batch = inner.db.batch();
        batch.remove(&inner.records, keys::group_key(region, group));
        batch.insert(&inner.records, keys::deleted_key(meta.id), []);
        batch.commit().map_err(LogsError::io("delete a log group"))?;
        self.sync()
    }

    /// Deletes a stream and its events.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::NoSuchStream`], [`LogsError::InvalidParameter`],
    /// [`LogsError::Io`].
    pub fn delete_stream(&self, scope: &LogScope) -> Result<(), LogsError> {
        scope.validate()?;
        let inner = self.inner();
        let _writing = inner.writing.lock();
        let mut group = inner.load_group(&scope.region, &scope.group)?.ok_or(LogsError::NoSuchGroup)?;
        let stream = inner.load_stream(group.id, &scope.stream)?.ok_or(LogsError::NoSuchStream)?;
        let group_key = keys::group_key(&scope.region, &scope.group);
        loop {
            let mut batch = inner.db.batch();
            let range = keys::prefix_range(stream.id.to_be_bytes().to_vec());
            let mut removed = 0;
            for entry in inner.stream_events.range::<Vec<u8>, _>(range).take(STEP_EVENTS) {
                let key = entry.key().map_err(LogsError::io("delete a log stream"))?;
                let position = keys::event_position(&key)?;
                let event_key = keys::event_key(group.id, position);
                if let Some(value) =
                    inner.events.get(event_key).map_err(LogsError::io("delete a log stream"))?
                {
                    group.stored_bytes = group.stored_bytes.saturating_sub(stored_bytes(&value)?);
                }
                batch.remove(&inner.events, event_key);
                batch.remove(&inner.stream_events, key);
                removed += 1;
            }
            batch.insert(&inner.records, group_key.clone(), keys::to_json(&group));
            let is_last = removed < STEP_EVENTS;
            if is_last {
                batch.remove(&inner.records, keys::stream_key(group.id, &scope.stream));
                batch.remove(&inner.records, keys::stream_name_key(stream.id));
            }
            batch.commit().map_err(LogsError::io("delete a log stream"))?;
            if is_last {
                return self.sync();
            }
        }
    }

    /// Keeps the events of a group for a number of days, or for good.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::InvalidParameter`] for a number that is none of
    /// [`RETENTION_DAYS`], [`LogsError::Io`].
    pub fn set_retention(&self, region: &str, group: &str, days: Option<u32>) -> Result<(), LogsError> {
        model::validate_region(region)?;
        model::validate_group(group)?;
        if let Some(days) = days.filter(|days| !RETENTION_DAYS.contains(days)) {
            return Err(LogsError::InvalidParameter(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: \
                 Member must satisfy enum value set: {RETENTION_DAYS:?}"
            )));
        }
        let inner = self.inner();
        let _writing = inner.writing.lock();
        let meta = inner.load_group(region, group)?.ok_or(LogsError::NoSuchGroup)?;
        let meta = GroupMeta { retention_days: days, ..meta };
        let mut batch = inner.db.batch();
        batch.insert(&inner.records, keys::group_key(region, group), keys::to_json(&meta));
        batch.commit().map_err(LogsError::io("change a log group"))?;
        self.sync()
    }

    /// Removes what is left of deleted groups, events older than their group keeps them at `now_ms`, and,
    /// while all groups together hold more than `bytes_max`, the oldest events of the largest one.
    ///
    /// # Errors
    ///
    /// [`LogsError::Io`]; what was removed until then stays removed.
    pub fn sweep(&self, now_ms: i64, bytes_max: u64) -> Result<Swept, LogsError> {
        let mut swept = Swept::default();
        for id in self.deleted_groups()? {
            swept.deleted += self.purge(id)?;
        }
        let mut groups = self.groups()?;
        for (key, meta) in &groups {
            let Some(days) = meta.retention_days else { continue };
            let before = now_ms.saturating_sub(i64::from(days) * DAY_MS);
            let expired = self.trim(key, u64::MAX, before)?;
            swept.expired += expired;
            let settled = self.inner().streams_settled.lock().get(&meta.id).copied();
            if expired > 0 || settled.is_none_or(|settled| before > settled) {
                let settled = self.forget_streams(meta.id, before)?;
                // A stream that is new from now on has been written to no earlier than now.
                self.inner().streams_settled.lock().insert(meta.id, settled.min(now_ms));
            }
        }
        let is_there = |id: &u64| groups.iter().any(|(_, meta)| meta.id == *id);
        self.inner().streams_settled.lock().retain(|id, _| is_there(id));
        if swept.expired > 0 {
            groups = self.groups()?;
        }
        let total: u64 = groups.iter().map(|(_, meta)| meta.stored_bytes).sum();
        if total > bytes_max {
            let mut excess = total - bytes_max + bytes_max / SLACK;
            groups.sort_by_key(|(_, meta)| std::cmp::Reverse(meta.stored_bytes));
            for (key, meta) in groups {
                if excess == 0 {
                    break;
                }
                let share = excess.min(meta.stored_bytes);
                swept.crowded_out += self.trim(&key, share, i64::MAX)?;
                excess -= share;
            }
        }
        Ok(swept)
    }

    /// Every group's key and record.
    fn groups(&self) -> Result<Vec<(Vec<u8>, GroupMeta)>, LogsError> {
        let entries = self.inner().records.range::<Vec<u8>, _>(keys::prefix_range(b"g".to_vec()));
        entries
            .map(|entry| {
                let (key, value) = entry.into_inner().map_err(LogsError::io("list log groups"))?;
                Ok((key.to_vec(), keys::from_json(&value)?))
            })
            .collect()
    }

    fn deleted_groups(&self) -> Result<Vec<u64>, LogsError> {
        let entries = self.inner().records.range::<Vec<u8>, _>(keys::prefix_range(b"d".to_vec()));
        entries
            .map(|entry| keys::deleted_id(&entry.key().map_err(LogsError::io("list deleted log groups"))?))
            .collect()
    }

    /// Removes what is left of a deleted group. Nobody writes to it: ids are never used twice.
    fn purge(&self, id: u64) -> Result<u64, LogsError> {
        let inner = self.inner();
        let mut removed = 0;
        loop {
            let mut batch = inner.db.batch();
            let (events, _) = remove_events(inner, &mut batch, id, Position::MAX, u64::MAX)?;
            removed += events as u64;
            if events < STEP_EVENTS {
                for entry in inner.records.range::<Vec<u8>, _>(keys::prefix_range(keys::stream_key(id, ""))) {
                    let (key, value) = entry.into_inner().map_err(LogsError::io("delete a log group"))?;
                    let stream: StreamMeta = keys::from_json(&value)?;
                    batch.remove(&inner.records, key);
                    batch.remove(&inner.records, keys::stream_name_key(stream.id));
                }
                batch.remove(&inner.records, keys::deleted_key(id));
            }
            batch.commit().map_err(LogsError::io("delete a log group"))?;
            if events < STEP_EVENTS {
                return Ok(removed);
            }
        }
    }

    /// Removes a group's oldest events: at least `bytes` of them, if there are so many, from before a moment.
    fn trim(&self, group_key: &[u8], mut bytes: u64, before_ms: i64) -> Result<u64, LogsError> {
        let inner = self.inner();
        let mut removed = 0;
        while bytes > 0 {
            let _writing = inner.writing.lock();
            let Some(value) = inner.records.get(group_key).map_err(LogsError::io("read a log group"))? else {
                break;
            };
            let mut group: GroupMeta = keys::from_json(&value)?;
            let mut batch = inner.db.batch();
            let (events, freed) =
                remove_events(inner, &mut batch, group.id, Position::start_of(before_ms), bytes)?;
            if events == 0 {
                break;
            }
            group.stored_bytes = group.stored_bytes.saturating_sub(freed);
            batch.insert(&inner.records, group_key.to_vec(), keys::to_json(&group));
            batch.commit().map_err(LogsError::io("remove log events"))?;
            removed += events as u64;
            bytes = bytes.saturating_sub(freed);
        }
        Ok(removed)
    }

    /// Brings the streams of a group up to date after events from before a moment are gone: each says when
    /// its first event is, and one that has none and was not written to since is forgotten, or a group that
    /// keeps its events for a day would keep the names of a year's tasks. Answers the first moment from which on
    /// one of those that remain has to be looked at again.
    fn forget_streams(&self, group_id: u64, before_ms: i64) -> Result<i64, LogsError> {
        let inner = self.inner();
        let _writing = inner.writing.lock();
        let mut batch = inner.db.batch();
        let mut settled = i64::MAX;
        for entry in inner.records.range::<Vec<u8>, _>(keys::prefix_range(keys::stream_key(group_id, ""))) {
            let (key, value) = entry.into_inner().map_err(LogsError::io("list log streams"))?;
            let stream: StreamMeta = keys::from_json(&value)?;
            if let Some(first) = stream.first_event_ms.filter(|first| *first >= before_ms) {
                settled = settled.min(first);
                continue;
            }
            let mut events =
                inner.stream_events.range::<Vec<u8>, _>(keys::prefix_range(stream.id.to_be_bytes().to_vec()));
            let first = events
                .next()
                .map(|entry| keys::event_position(&entry.key().map_err(LogsError::io("list log streams"))?));
            let first_event_ms = first.transpose()?.map(|position| position.timestamp_ms);
            let written_ms = stream.last_ingestion_ms.unwrap_or(stream.creation_time_ms);
            if first_event_ms.is_none() && written_ms < before_ms {
                batch.remove(&inner.records, keys::stream_name_key(stream.id));
                batch.remove(&inner.records, key);
                continue;
            }
            settled = settled.min(first_event_ms.unwrap_or(written_ms));
            if first_event_ms != stream.first_event_ms {
                let last_event_ms = first_event_ms.and(stream.last_event_ms);
                let stream = StreamMeta { first_event_ms, last_event_ms, ..stream };
                batch.insert(&inner.records, key, keys::to_json(&stream));
            }
        }
        batch.commit().map_err(LogsError::io("change log streams"))?;
        Ok(settled)
    }
}

/// Puts the removal of a group's oldest events into a batch: those before `end`, one step at most, until
/// `bytes` are reached. Says how many events and bytes these are.
fn remove_events(
    inner: &Inner,
    batch: &mut OwnedWriteBatch,
    group_id: u64,
    end: Position,
    bytes: u64,
) -> Result<(usize, u64), LogsError> {
    let (mut events, mut freed) = (0, 0);
    let range = keys::event_key(group_id, Position::MIN)..keys::event_key(group_id, end);
    for entry in inner.events.range(range).take(STEP_EVENTS) {
        if freed >= bytes {
            break;
        }
        let (key, value) = entry.into_inner().map_err(LogsError::io("remove log events"))?;
        let stream_id = EventValue::parse(&value)?.stream_id;
        freed += stored_bytes(&value)?;
        batch.remove(&inner.stream_events, keys::event_key(stream_id, keys::event_position(&key)?));
        batch.remove(&inner.events, key);
        events += 1;
    }
    Ok((events, freed))
}

/// What an event counts towards its group's size.
fn stored_bytes(value: &[u8]) -> Result<u64, LogsError> {
    Ok((EventValue::parse(value)?.message.len() + EVENT_OVERHEAD_BYTES) as u64)
}
