//! GetLogEvents and FilterLogEvents.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::EVENT_OVERHEAD_BYTES;
use crate::error::{LogsError, checked_limit};
use crate::keys::{self, EventValue, Position};
use crate::model::{self, FilteredLogEvent, OutputLogEvent};
use crate::pattern::FilterPattern;
use crate::store::{LogStore, View};
use crate::token::{self, Fingerprint};

/// The most events in one page, and the default.
const EVENTS_MAX: u32 = 10_000;
/// The most bytes of events (messages and overhead) in one page. One event always fits.
const PAGE_BYTES_MAX: usize = 1024 * 1024;
/// The most stream names in one FilterLogEvents; AWS's bound. A prefix that selects no more streams than
/// this is answered from the streams' own indexes instead of reading the whole group.
const STREAM_NAMES_MAX: usize = 100;
/// How much one FilterLogEvents looks at before it answers with what it has and a token: a rare term in a
/// large group then costs several short calls instead of one that holds a thread for minutes.
const SCANNED_EVENTS_MAX: usize = 100_000;
const SCANNED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The question GetLogEvents asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetEvents {
    /// The region asked for.
    pub region: String,
    /// The group.
    pub group: String,
    /// The stream.
    pub stream: String,
    /// Only events at or after this time, in milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// Only events before this time, in milliseconds since 1970.
    pub end_ms: Option<i64>,
    /// Without a token: whether the page holds the oldest events of the range, or the newest.
    pub start_from_head: bool,
    /// The size of a page: 1 to 10,000, which is the default.
    pub limit: Option<u32>,
    /// A forward or backward token of another page of this stream.
    pub token: Option<String>,
}

/// A page of one stream's events, oldest first. Both tokens are always there. At the end of the stream the
/// token that was given comes back, which is how clients notice; later it leads to what has arrived since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventsPage {
    /// The events; may be empty.
    pub events: Vec<OutputLogEvent>,
    /// `f/…`: leads to the events after these.
    pub next_forward_token: String,
    /// `b/…`: leads to the events before these.
    pub next_backward_token: String,
}

/// The question FilterLogEvents asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterEvents {
    /// The region asked for.
    pub region: String,
    /// The group.
    pub group: String,
    /// Only these streams, at most 100; all if empty. Each must exist.
    pub stream_names: Vec<String>,
    /// Only streams whose names start with this; not together with `stream_names`.
    pub stream_name_prefix: Option<String>,
    /// Only events at or after this time, in milliseconds since 1970.
    pub start_ms: Option<i64>,
    /// Only events at or before this time, in milliseconds since 1970. Unlike GetLogEvents' it is
    /// inclusive, as with AWS.
    pub end_ms: Option<i64>,
    /// A [`FilterPattern`]; everything if there is none.
    pub pattern: Option<String>,
    /// The size of a page: 1 to 10,000, which is the default.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub next_token: Option<String>,
}

/// A page of a group's events, by timestamp, then arrival, whatever their streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredPage {
    /// The events; may be empty although there is a token: the search then goes on with it.
    pub events: Vec<FilteredLogEvent>,
    /// How to go on; `None` when everything there is has been looked at.
    pub next_token: Option<String>,
}

impl LogStore {
    /// Events of one stream.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::NoSuchStream`], [`LogsError::InvalidParameter`] (limit, times,
    /// token) and [`LogsError::Io`].
    pub fn get_events(&self, query: &GetEvents) -> Result<EventsPage, LogsError> {
        let limit = checked_limit(query.limit, EVENTS_MAX)?;
        let start = checked_time("startTime", query.start_ms)?.map_or(Position::MIN, Position::start_of);
        let end = checked_time("endTime", query.end_ms)?.map_or(Position::MAX, Position::start_of);
        let fingerprint = Fingerprint::new("GetLogEvents")
            .with_text(Some(&query.region))
            .with_text(Some(&query.group))
            .with_text(Some(&query.stream));
        let cursor = query.token.as_deref().map(|token| decode_cursor(token, fingerprint)).transpose()?;

        let view = self.view();
        let group = view.group(&query.region, &query.group)?;
        let stream = view.stream(group.id, &query.stream)?;
        let (range, is_forward) = match cursor {
            None => (start..end, query.start_from_head),
            Some(Cursor::Forward(from)) => (start.max(from)..end, true),
            Some(Cursor::Backward(before)) => (start..end.min(before), false),
        };
        let index = view.stream_events(stream.id, range);
        let index: Box<dyn Iterator<Item = fjall::Guard>> =
            if is_forward { Box::new(index) } else { Box::new(index.rev()) };

        let mut events: Vec<(Position, OutputLogEvent)> = Vec::new();
        let mut bytes = 0;
        for entry in index.take(limit) {
            let key = entry.key().map_err(LogsError::io("read log events"))?;
            let position = keys::event_position(&key)?;
            let value = view.event(group.id, position)?;
            let event = EventValue::parse(&value)?;
            bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
            if bytes > PAGE_BYTES_MAX && !events.is_empty() {
                break;
            }
            let output = OutputLogEvent {
                timestamp_ms: position.timestamp_ms,
                message: event.message.to_owned(),
                ingestion_time_ms: event.ingestion_time_ms,
            };
            events.push((position, output));
        }
        if !is_forward {
            events.reverse();
        }

        // What a page without events stands between: where the given token pointed, or the range's start.
        let nowhere = match cursor {
            Some(Cursor::Forward(at) | Cursor::Backward(at)) => at,
            None => start,
        };
        let after = events.last().map_or(nowhere, |(position, _)| position.next());
        let before = events.first().map_or(nowhere, |(position, _)| *position);
        Ok(EventsPage {
            events: events.into_iter().map(|(_, event)| event).collect(),
            next_forward_token: Cursor::Forward(after).encode(fingerprint),
            next_backward_token: Cursor::Backward(before).encode(fingerprint),
        })
    }

    /// Events of a group that match.
    ///
    /// # Errors
    ///
    /// [`LogsError::NoSuchGroup`], [`LogsError::NoSuchStream`] (one of `stream_names`),
    /// [`LogsError::InvalidParameter`] (limit, times, pattern, token, both names and a prefix) and
    /// [`LogsError::Io`].
    pub fn filter_events(&self, query: &FilterEvents) -> Result<FilteredPage, LogsError> {
        let limit = checked_limit(query.limit, EVENTS_MAX)?;
        let start = checked_time("startTime", query.start_ms)?.map_or(Position::MIN, Position::start_of);
        let end = checked_time("endTime", query.end_ms)?.map_or(Position::MAX, Position::end_of);
        let pattern: FilterPattern = query.pattern.as_deref().unwrap_or_default().parse()?;
        validate_streams(query)?;
        let fingerprint = filter_fingerprint(query);
        let from = match &query.next_token {
            None => start,
            Some(token) => start.max(token::decode_position("nextToken", token, fingerprint)?),
        };

        let view = self.view();
        let group = view.group(&query.region, &query.group)?;
        let mut names = Names { view: &view, known: HashMap::new() };
        let selection = Selection::of(query, &view, group.id)?;
        let prefix = match &selection {
            Selection::Streams(_) => "",
            Selection::Group { prefix } => prefix,
        };
        let mut events = Vec::new();
        let mut bytes = 0;
        let (mut scanned_events, mut scanned_bytes) = (0, 0);
        for entry in selection.events(&view, group.id, from..end) {
            let (position, value) = entry?;
            let token_from_here = || Some(token::encode(fingerprint, &position.to_bytes()));
            let is_exhausted = scanned_events >= SCANNED_EVENTS_MAX || scanned_bytes >= SCANNED_BYTES_MAX;
            if events.len() == limit || is_exhausted {
                return Ok(FilteredPage { events, next_token: token_from_here() });
            }
            let event = EventValue::parse(&value)?;
            scanned_events += 1;
            scanned_bytes += value.len();
            if !pattern.matches(event.message) {
                continue;
            }
            let name = names.get(event.stream_id)?;
            if !name.starts_with(prefix) {
                continue;
            }
            bytes += event.message.len() + EVENT_OVERHEAD_BYTES;
            if bytes > PAGE_BYTES_MAX && !events.is_empty() {
                return Ok(FilteredPage { events, next_token: token_from_here() });
            }
            events.push(FilteredLogEvent {
                event_id: format!("{:028}{:028}", position.timestamp_ms, position.seq),
                log_stream_name: name.to_string(),
                timestamp_ms: position.timestamp_ms,
                message: event.message.to_owned(),
                ingestion_time_ms: event.ingestion_time_ms,
            });
        }
        Ok(FilteredPage { events, next_token: None })
    }
}

/// Where a GetLogEvents token points: a place between events, and which way to read from it.
#[derive(Clone, Copy)]
enum Cursor {
    /// At this position and after it.
    Forward(Position),
    /// Before this position.
    Backward(Position),
}

impl Cursor {
    fn encode(self, fingerprint: Fingerprint) -> String {
        let (direction, position) = match self {
            Self::Forward(position) => ("f/", position),
            Self::Backward(position) => ("b/", position),
        };
        format!("{direction}{}", token::encode(fingerprint, &position.to_bytes()))
    }
}

fn decode_cursor(text: &str, fingerprint: Fingerprint) -> Result<Cursor, LogsError> {
    let position = |token: &str| token::decode_position("nextToken", token, fingerprint);
    if let Some(token) = text.strip_prefix("f/") {
        Ok(Cursor::Forward(position(token)?))
    } else if let Some(token) = text.strip_prefix("b/") {
        Ok(Cursor::Backward(position(token)?))
    } else {
        Err(token::invalid("nextToken"))
    }
}

/// Which events a FilterLogEvents reads.
enum Selection<'a> {
    /// Those of these streams, from their indexes.
    Streams(Vec<u64>),
    /// Those of the group whose stream's name starts with the prefix.
    Group { prefix: &'a str },
}

type EventEntry = Result<(Position, fjall::Slice), LogsError>;

impl<'a> Selection<'a> {
    fn of(query: &'a FilterEvents, view: &View<'_>, group_id: u64) -> Result<Self, LogsError> {
        if !query.stream_names.is_empty() {
            let mut ids = Vec::with_capacity(query.stream_names.len());
            for name in &query.stream_names {
                ids.push(view.stream(group_id, name)?.id);
            }
            ids.sort_unstable();
            ids.dedup();
            return Ok(Self::Streams(ids));
        }
        let Some(prefix) = query.stream_name_prefix.as_deref() else {
            return Ok(Self::Group { prefix: "" });
        };
        let mut ids = Vec::new();
        for entry in view.records(keys::prefix_range(keys::stream_key(group_id, prefix))) {
            if ids.len() == STREAM_NAMES_MAX {
                return Ok(Self::Group { prefix });
            }
            let value = entry.value().map_err(LogsError::io("list log streams"))?;
            ids.push(keys::from_json::<keys::StreamMeta>(&value)?.id);
        }
        Ok(Self::Streams(ids))
    }

    fn events<'v>(
        &self,
        view: &'v View<'_>,
        group_id: u64,
        range: Range<Position>,
    ) -> Box<dyn Iterator<Item = EventEntry> + 'v> {
        match self {
            Self::Group { .. } => Box::new(view.events(group_id, range).map(|entry| {
                let (key, value) = entry.into_inner().map_err(LogsError::io("read log events"))?;
                Ok((keys::event_position(&key)?, value))
            })),
            Self::Streams(ids) => {
                let indexes = ids.iter().map(|&id| view.stream_events(id, range.clone())).collect();
                Box::new(Merge::new(indexes).map(move |position| {
                    let position = position?;
                    Ok((position, view.event(group_id, position)?))
                }))
            }
        }
    }
}

/// Several streams' indexes read as one, in order. An event is in one stream: no position comes twice.
struct Merge {
    indexes: Vec<fjall::Iter>,
    heads: BinaryHeap<Reverse<(Position, usize)>>,
    failure: Option<LogsError>,
}

impl Merge {
    fn new(indexes: Vec<fjall::Iter>) -> Self {
        let heads = BinaryHeap::with_capacity(indexes.len());
        let mut merge = Self { indexes, heads, failure: None };
        for which in 0..merge.indexes.len() {
            merge.advance(which);
        }
        merge
    }

    fn advance(&mut self, which: usize) {
        let Some(entry) = self.indexes[which].next() else { return };
        let position =
            entry.key().map_err(LogsError::io("read log events")).and_then(|key| keys::event_position(&key));
        match position {
            Ok(position) => self.heads.push(Reverse((position, which))),
            Err(error) => self.failure = Some(error),
        }
    }
}

impl Iterator for Merge {
    type Item = Result<Position, LogsError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Before any head: one index is incomplete, so the order would be.
        if let Some(error) = self.failure.take() {
            self.heads.clear();
            return Some(Err(error));
        }
        let Reverse((position, which)) = self.heads.pop()?;
        self.advance(which);
        Some(Ok(position))
    }
}

/// The names of the streams met so far.
struct Names<'a> {
    view: &'a View<'a>,
    known: HashMap<u64, Arc<str>>,
}

impl Names<'_> {
    fn get(&mut self, stream_id: u64) -> Result<Arc<str>, LogsError> {
        if let Some(name) = self.known.get(&stream_id) {
            return Ok(name.clone());
        }
        let name = self.view.stream_name(stream_id)?;
        self.known.insert(stream_id, name.clone());
        Ok(name)
    }
}

fn validate_streams(query: &FilterEvents) -> Result<(), LogsError> {
    if query.stream_names.len() > STREAM_NAMES_MAX {
        return Err(LogsError::InvalidParameter(format!(
            "1 validation error detected: Value at 'logStreamNames' failed to satisfy constraint: Member must have \
             length less than or equal to {STREAM_NAMES_MAX}"
        )));
    }
    let Some(prefix) = &query.stream_name_prefix else { return Ok(()) };
    if !query.stream_names.is_empty() {
        let text = "Cannot use both logStreamNames and logStreamNamePrefix: give one of them";
        return Err(LogsError::InvalidParameter(text.to_owned()));
    }
    model::validate_stream_prefix(prefix)
}

fn filter_fingerprint(query: &FilterEvents) -> Fingerprint {
    let fingerprint = Fingerprint::new("FilterLogEvents")
        .with_text(Some(&query.region))
        .with_text(Some(&query.group))
        .with_text(query.stream_name_prefix.as_deref())
        .with_number(query.start_ms)
        .with_number(query.end_ms)
        .with_text(query.pattern.as_deref());
    query.stream_names.iter().fold(fingerprint, |fingerprint, name| fingerprint.with_text(Some(name)))
}

fn checked_time(parameter: &str, time: Option<i64>) -> Result<Option<i64>, LogsError> {
    match time {
        Some(time) if time < 0 => Err(LogsError::InvalidParameter(format!(
            "1 validation error detected: Value '{time}' at '{parameter}' failed to satisfy constraint: Member must \
             have value greater than or equal to 0"
        ))),
        time => Ok(time),
    }
}
