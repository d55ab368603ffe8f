//! DescribeLogGroups and DescribeLogStreams.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::Bound;

use crate::error::{LogsError, checked_limit};
use crate::keys::{self, GroupMeta, KeyRange, StreamMeta};
use crate::model::{self, LogGroup, LogStream};
use crate::store::LogStore;
use crate::token::{self, Fingerprint};

/// The most groups or streams in one page, and the default.
const PAGE_MAX: u32 = 50;

/// One page of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What the page holds; may be empty.
    pub items: Vec<T>,
    /// How to get the next page; `None` on the last.
    pub next_token: Option<String>,
}

/// The question DescribeLogGroups asks. Groups come in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeGroups {
    /// The region asked for.
    pub region: String,
    /// Only groups whose names start with this.
    pub prefix: Option<String>,
    /// The size of a page: 1 to 50, which is the default.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub next_token: Option<String>,
}

/// By what DescribeLogStreams sorts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OrderBy {
    /// The stream's name.
    #[default]
    LogStreamName,
    /// The timestamp of the newest event, then the name; streams without events are the oldest. Reads every
    /// stream of the group for each page.
    LastEventTime,
}

/// The question DescribeLogStreams asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeStreams {
    /// The region asked for.
    pub region: String,
    /// The group.
    pub group: String,
    /// Only streams whose names start with this; not together with [`OrderBy::LastEventTime`].
    pub prefix: Option<String>,
    /// The order.
    pub order_by: OrderBy,
    /// Whether the order is turned round.
    pub descending: bool,
    /// The size of a page: 1 to 50, which is the default.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub next_token: Option<String>,
}

impl LogStore {
    /// The groups of a region.
    ///
    /// # Errors
    ///
    /// [`LogsError::InvalidParameter`] and [`LogsError::Io`].
    pub fn describe_groups(&self, query: &DescribeGroups) -> Result<Page<LogGroup>, LogsError> {
        model::validate_region(&query.region)?;
        let prefix = query.prefix.as_deref().unwrap_or_default();
        model::validate_group_prefix(prefix)?;
        let limit = checked_limit(query.limit, PAGE_MAX)?;
        let fingerprint =
            Fingerprint::new("DescribeLogGroups").with_text(Some(&query.region)).with_text(Some(prefix));

        let mut range = keys::prefix_range(keys::group_key(&query.region, prefix));
        if let Some(token) = &query.next_token {
            let last = token_name(token, fingerprint, prefix)?;
            range.0 = Bound::Excluded(keys::group_key(&query.region, &last));
        }
        let mut items = Vec::new();
        for entry in self.view().records(range) {
            let (key, value) = entry.into_inner().map_err(LogsError::io("list log groups"))?;
            if items.len() == limit {
                return Ok(page_with_more(items, |last: &LogGroup| {
                    token::encode(fingerprint, last.name.as_bytes())
                }));
            }
            let meta: GroupMeta = keys::from_json(&value)?;
            items.push(LogGroup {
                name: keys::group_name(&key)?,
                creation_time_ms: meta.creation_time_ms,
                stored_bytes: meta.stored_bytes,
                metric_filter_count: 0,
                retention_days: meta.retention_days,
            });
        }
        Ok(Page { items, next_token: None })
    }

    /// The streams of a group.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::InvalidParameter`] and [`LogsError::Io`].
    pub fn describe_streams(&self, query: &DescribeStreams) -> Result<Page<LogStream>, LogsError> {
        let prefix = query.prefix.as_deref().unwrap_or_default();
        model::validate_stream_prefix(prefix)?;
        let limit = checked_limit(query.limit, PAGE_MAX)?;
        if query.order_by == OrderBy::LastEventTime && query.prefix.is_some() {
            let text = "Cannot order by LastEventTime with a logStreamNamePrefix.";
            return Err(LogsError::InvalidParameter(text.to_owned()));
        }
        let direction: &[u8] = if query.descending { b"down" } else { b"up" };
        let fingerprint = Fingerprint::new("DescribeLogStreams")
            .with_text(Some(&query.region))
            .with_text(Some(&query.group))
            .with_text(query.prefix.as_deref())
            .with(direction);
        match query.order_by {
            OrderBy::LogStreamName => self.streams_by_name(query, prefix, limit, fingerprint.with(b"name")),
            OrderBy::LastEventTime => self.streams_by_time(query, limit, fingerprint.with(b"time")),
        }
    }

    fn streams_by_name(
        &self,
        query: &DescribeStreams,
        prefix: &str,
        limit: usize,
        fingerprint: Fingerprint,
    ) -> Result<Page<LogStream>, LogsError> {
        let view = self.view();
        let group = view.group(&query.region, &query.group)?;
        let mut range = keys::prefix_range(keys::stream_key(group.id, prefix));
        if let Some(token) = &query.next_token {
            let last = keys::stream_key(group.id, &token_name(token, fingerprint, prefix)?);
            let side = if query.descending { &mut range.1 } else { &mut range.0 };
            *side = Bound::Excluded(last);
        }
        let streams = view.records(range);
        let streams: Box<dyn Iterator<Item = fjall::Guard>> =
            if query.descending { Box::new(streams.rev()) } else { Box::new(streams) };
        let mut items = Vec::new();
        for entry in streams {
            let stream = log_stream(entry)?;
            if items.len() == limit {
                return Ok(page_with_more(items, |last: &LogStream| {
                    token::encode(fingerprint, last.name.as_bytes())
                }));
            }
            items.push(stream);
        }
        Ok(Page { items, next_token: None })
    }

    fn streams_by_time(
        &self,
        query: &DescribeStreams,
        limit: usize,
        fingerprint: Fingerprint,
    ) -> Result<Page<LogStream>, LogsError> {
        let view = self.view();
        let group = view.group(&query.region, &query.group)?;
        let after = query.next_token.as_deref().map(|token| decode_place(token, fingerprint)).transpose()?;
        let range: KeyRange = keys::prefix_range(keys::stream_key(group.id, ""));
        // The first `limit` in order, and one more to know whether there is a next page; the largest on top.
        let mut first: BinaryHeap<ByTime> = BinaryHeap::with_capacity(limit + 2);
        for entry in view.records(range) {
            let stream = ByTime { descending: query.descending, stream: log_stream(entry)? };
            if after.as_ref().is_some_and(|(time, name)| stream.cmp_place(*time, name) != Ordering::Greater) {
                continue;
            }
            first.push(stream);
            if first.len() > limit + 1 {
                first.pop();
            }
        }
        let has_more = first.len() > limit;
        let mut items: Vec<LogStream> =
            first.into_sorted_vec().into_iter().map(|by_time| by_time.stream).collect();
        items.truncate(limit);
        if !has_more {
            return Ok(Page { items, next_token: None });
        }
        Ok(page_with_more(items, |last: &LogStream| {
            token::encode(fingerprint, &encode_place(last.last_event_timestamp_ms, &last.name))
        }))
    }
}

/// A stream that compares by its newest event.
struct ByTime {
    descending: bool,
    stream: LogStream,
}

impl ByTime {
    fn cmp_place(&self, time: Option<i64>, name: &str) -> Ordering {
        let mine = (self.stream.last_event_timestamp_ms, self.stream.name.as_str());
        let order = mine.cmp(&(time, name));
        if self.descending { order.reverse() } else { order }
    }
}

impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> Ordering {
        self.cmp_place(other.stream.last_event_timestamp_ms, &other.stream.name)
    }
}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByTime {}

fn log_stream(entry: fjall::Guard) -> Result<LogStream, LogsError> {
    let (key, value) = entry.into_inner().map_err(LogsError::io("list log streams"))?;
    let meta: StreamMeta = keys::from_json(&value)?;
    Ok(LogStream {
        name: keys::stream_name(&key)?,
        creation_time_ms: meta.creation_time_ms,
        first_event_timestamp_ms: meta.first_event_ms,
        last_event_timestamp_ms: meta.last_event_ms,
        last_ingestion_time_ms: meta.last_ingestion_ms,
        upload_sequence_token: format!("{:056}", meta.id),
    })
}

fn page_with_more<T>(items: Vec<T>, token_after: impl FnOnce(&T) -> String) -> Page<T> {
    let next_token = items.last().map(token_after);
    Page { items, next_token }
}

/// The name a token ends with. It must lie in the range asked for, which the fingerprint makes sure of for
/// tokens of ours.
fn token_name(token: &str, fingerprint: Fingerprint, prefix: &str) -> Result<String, LogsError> {
    let payload = token::decode("nextToken", token, fingerprint)?;
    match String::from_utf8(payload) {
        Ok(name) if name.starts_with(prefix) && !name.is_empty() => Ok(name),
        _ => Err(token::invalid("nextToken")),
    }
}

fn encode_place(time: Option<i64>, name: &str) -> Vec<u8> {
    // Timestamps are not negative: -1 stands for none.
    [&time.unwrap_or(-1).to_be_bytes(), name.as_bytes()].concat()
}

fn decode_place(token: &str, fingerprint: Fingerprint) -> Result<(Option<i64>, String), LogsError> {
    let payload = token::decode("nextToken", token, fingerprint)?;
    let (time, name) = payload.split_first_chunk().ok_or_else(|| token::invalid("nextToken"))?;
    let time = i64::from_be_bytes(*time);
    let name = String::from_utf8(name.to_vec()).map_err(|_| token::invalid("nextToken"))?;
    Ok(((time >= 0).then_some(time), name))
}
