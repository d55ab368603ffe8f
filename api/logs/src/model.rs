//! Groups, streams and events as callers see them, and what their names may be.

use std::sync::Arc;

use crate::error::LogsError;

const NAME_BYTES_MAX: usize = 512;
const REGION_BYTES_MAX: usize = 64;

/// Where an event belongs. Cheap to clone, because every line of a container carries one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogScope {
    /// The region the group belongs to, for example `us-east-1`.
    pub region: Arc<str>,
    /// The group's name: 1 to 512 letters, digits and `_ - / . #`.
    pub group: Arc<str>,
    /// The stream's name: 1 to 512 bytes without `:`, `*` and control characters.
    pub stream: Arc<str>,
}

impl LogScope {
    pub(crate) fn validate(&self) -> Result<(), LogsError> {
        validate_region(&self.region)?;
        validate_group(&self.group)?;
        validate_stream(&self.stream)
    }
}

/// An event on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Where it belongs; group and stream are created when missing.
    pub scope: LogScope,
    /// When it happened, in milliseconds since 1970; not negative.
    pub timestamp_ms: i64,
    /// The text, without a line end. May be empty.
    pub message: String,
}

impl LogEvent {
    pub(crate) fn validate(&self) -> Result<(), LogsError> {
        self.scope.validate()?;
        if self.timestamp_ms < 0 {
            let text =
                format!("Value '{}' at 'timestamp' is not valid: it must not be negative", self.timestamp_ms);
            return Err(LogsError::InvalidParameter(text));
        }
        Ok(())
    }
}

/// A log group, as DescribeLogGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroup {
    /// The group's name.
    pub name: String,
    /// When it was created, in milliseconds since 1970.
    pub creation_time_ms: i64,
    /// Message bytes and overhead of every event in the group.
    pub stored_bytes: u64,
    /// Always 0: there are no metric filters yet.
    pub metric_filter_count: u32,
    /// How many days events are kept; None is for good.
    pub retention_days: Option<u32>,
}

/// A log stream, as DescribeLogStreams shows it. Times are in milliseconds since 1970; those of events are
/// `None` while the stream is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    /// The stream's name.
    pub name: String,
    /// When it was created.
    pub creation_time_ms: i64,
    /// The oldest event's timestamp.
    pub first_event_timestamp_ms: Option<i64>,
    /// The newest event's timestamp.
    pub last_event_timestamp_ms: Option<i64>,
    /// When the store last took in an event.
    pub last_ingestion_time_ms: Option<i64>,
    /// A number old clients send back with PutLogEvents; it has no meaning any more, as with AWS.
    pub upload_sequence_token: String,
}

/// An event, as GetLogEvents shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputLogEvent {
    /// When it happened, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The text.
    pub message: String,
    /// When the store took it in, in milliseconds since 1970.
    pub ingestion_time_ms: i64,
}

/// An event, as FilterLogEvents shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilteredLogEvent {
    /// Unique in this store; 56 decimal digits that sort as the events do.
    pub event_id: String,
    /// The stream it belongs to.
    pub log_stream_name: String,
    /// When it happened, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The text.
    pub message: String,
    /// When the store took it in, in milliseconds since 1970.
    pub ingestion_time_ms: i64,
}

pub(crate) fn validate_region(region: &str) -> Result<(), LogsError> {
    let is_valid = (1..=REGION_BYTES_MAX).contains(&region.len())
        && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    check(is_valid, "region", region, "1 to 64 letters, digits and '-'")
}

pub(crate) fn validate_group(name: &str) -> Result<(), LogsError> {
    check(
        !name.is_empty() && is_group_prefix(name),
        "logGroupName",
        name,
        "1 to 512 letters, digits and '_-/.#'",
    )
}

pub(crate) fn validate_group_prefix(prefix: &str) -> Result<(), LogsError> {
    check(is_group_prefix(prefix), "logGroupNamePrefix", prefix, "up to 512 letters, digits and '_-/.#'")
}

pub(crate) fn validate_stream(name: &str) -> Result<(), LogsError> {
    let allowed = "1 to 512 bytes without ':', '*' and control characters";
    check(!name.is_empty() && is_stream_prefix(name), "logStreamName", name, allowed)
}

pub(crate) fn validate_stream_prefix(prefix: &str) -> Result<(), LogsError> {
    let allowed = "up to 512 bytes without ':', '*' and control characters";
    check(is_stream_prefix(prefix), "logStreamNamePrefix", prefix, allowed)
}

fn is_group_prefix(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b))
}

fn is_stream_prefix(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(|c| matches!(c, ':' | '*') || c.is_control())
}

fn check(is_valid: bool, parameter: &str, value: &str, allowed: &str) -> Result<(), LogsError> {
    if is_valid {
        return Ok(());
    }
    let shown: String = value.chars().take(80).collect();
    Err(LogsError::InvalidParameter(format!(
        "Value {shown:?} at '{parameter}' is not valid: it must be {allowed}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["/ecs/web-app", "a", "A_b.c#1"] {
            validate_group(name).unwrap();
        }
        for name in ["", "a b", "a:b", "a\0b", "ü", &"a".repeat(513)] {
            validate_group(name).unwrap_err();
        }
        for name in ["web/web/0123", "a b", "ü[1]$LATEST"] {
            validate_stream(name).unwrap();
        }
        for name in ["", "a:b", "a*", "a\0b", "a\n", &"a".repeat(513)] {
            validate_stream(name).unwrap_err();
        }
        validate_group_prefix("").unwrap();
        validate_stream_prefix("").unwrap();
        validate_region("us-east-1").unwrap();
        validate_region("").unwrap_err();
        validate_region("us\0").unwrap_err();
    }
}
