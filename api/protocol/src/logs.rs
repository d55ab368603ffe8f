//! CloudWatch Logs: the actions people read logs with. Moments are whole milliseconds here, unlike in
//! ECS.

use coracle_types::{AccountId, Region};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// What `X-Amz-Target` begins with, before the dot.
pub const TARGET_PREFIX: &str = "Logs_20140328";

/// DescribeLogGroups.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeLogGroups {
    /// What their names begin with.
    pub prefix: Option<String>,
    /// What their names contain, whatever the case.
    pub pattern: Option<String>,
    /// How many.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub token: Option<String>,
}

impl DescribeLogGroups {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            prefix: members.text("logGroupNamePrefix")?,
            pattern: members.text("logGroupNamePattern")?.filter(|pattern| !pattern.is_empty()),
            limit: members.integer_in("limit", 1..=50)?,
            token: members.text("nextToken")?,
        })
    }
}

/// Takes the group, by name or by ARN.
fn group(members: &mut Members) -> Result<String, ApiError> {
    let name = members.text("logGroupName")?;
    let identifier = members.text("logGroupIdentifier")?;
    let given =
        name.or(identifier).filter(|text| !text.is_empty()).ok_or_else(|| members.missing("logGroupName"))?;
    Ok(group_name(&given).to_owned())
}

/// A log group's name from its name or ARN.
#[must_use]
pub fn group_name(name_or_arn: &str) -> &str {
    let mut parts = name_or_arn.splitn(7, ':');
    match (parts.next(), parts.nth(1), parts.nth(2), parts.next()) {
        (Some("arn"), Some("logs"), Some("log-group"), Some(rest)) => rest.strip_suffix(":*").unwrap_or(rest),
        _ => name_or_arn,
    }
}

/// DescribeLogStreams.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeLogStreams {
    /// The group.
    pub group: String,
    /// What their names begin with.
    pub prefix: Option<String>,
    /// Whether they come in the order of their last events, not of their names.
    pub by_last_event: bool,
    /// Whether the order is turned round.
    pub descending: bool,
    /// How many.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub token: Option<String>,
}

impl DescribeLogStreams {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the group is missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let by_last_event = match members.text("orderBy")?.as_deref() {
            None | Some("LogStreamName") => false,
            Some("LastEventTime") => true,
            Some(_) => {
                return Err(members.invalid("orderBy", "it is neither LogStreamName nor LastEventTime"));
            }
        };
        Ok(Self {
            group: group(&mut members)?,
            prefix: members.text("logStreamNamePrefix")?,
            by_last_event,
            descending: members.flag("descending")?.unwrap_or(false),
            limit: members.integer_in("limit", 1..=50)?,
            token: members.text("nextToken")?,
        })
    }
}

/// GetLogEvents.
#[derive(Clone, Debug, PartialEq)]
pub struct GetLogEvents {
    /// The group.
    pub group: String,
    /// The stream.
    pub stream: String,
    /// Not before this, in milliseconds.
    pub start_ms: Option<i64>,
    /// Before this, in milliseconds.
    pub end_ms: Option<i64>,
    /// Whether the first page is the oldest.
    pub from_head: bool,
    /// How many.
    pub limit: Option<u32>,
    /// The token of another page.
    pub token: Option<String>,
}

impl GetLogEvents {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When group or stream are missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            group: group(&mut members)?,
            stream: members.required_text("logStreamName")?,
            start_ms: members.integer("startTime")?,
            end_ms: members.integer("endTime")?,
            from_head: members.flag("startFromHead")?.unwrap_or(false),
            limit: members.integer_in("limit", 1..=10_000)?,
            token: members.text("nextToken")?,
        })
    }
}

/// FilterLogEvents.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterLogEvents {
    /// The group.
    pub group: String,
    /// Only these streams; all when empty.
    pub streams: Vec<String>,
    /// What the streams' names begin with.
    pub prefix: Option<String>,
    /// Not before this, in milliseconds.
    pub start_ms: Option<i64>,
    /// Not after this, in milliseconds.
    pub end_ms: Option<i64>,
    /// What the messages have to match.
    pub pattern: Option<String>,
    /// How many.
    pub limit: Option<u32>,
    /// The token of the page before.
    pub token: Option<String>,
}

impl FilterLogEvents {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the group is missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self {
            group: group(&mut members)?,
            streams: members.texts("logStreamNames")?.unwrap_or_default(),
            prefix: members.text("logStreamNamePrefix")?.filter(|prefix| !prefix.is_empty()),
            start_ms: members.integer("startTime")?,
            end_ms: members.integer("endTime")?,
            pattern: members.text("filterPattern")?.filter(|pattern| !pattern.is_empty()),
            limit: members.integer_in("limit", 1..=10_000)?,
            token: members.text("nextToken")?,
        })
    }
}

/// CreateLogGroup, DeleteLogGroup and DeleteRetentionPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLogGroup {
    /// The group.
    pub group: String,
}

impl NamedLogGroup {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the group is missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { group: group(&mut members)? })
    }
}

/// PutRetentionPolicy.
#[derive(Clone, Debug, PartialEq)]
pub struct PutRetentionPolicy {
    /// The group.
    pub group: String,
    /// How many days its events are kept.
    pub days: u32,
}

impl PutRetentionPolicy {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let days = members.integer_in("retentionInDays", 0..=u32::MAX)?;
        Ok(Self {
            group: group(&mut members)?,
            days: days.ok_or_else(|| members.missing("retentionInDays"))?,
        })
    }
}

/// CreateLogStream and DeleteLogStream.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedLogStream {
    /// The group.
    pub group: String,
    /// The stream.
    pub stream: String,
}

impl NamedLogStream {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When group or stream are missing.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        Ok(Self { group: group(&mut members)?, stream: members.required_text("logStreamName")? })
    }
}

/// PutLogEvents.
#[derive(Clone, Debug, PartialEq)]
pub struct PutLogEvents {
    /// The group.
    pub group: String,
    /// The stream.
    pub stream: String,
    /// Milliseconds and messages, in order.
    pub events: Vec<(i64, String)>,
}

impl PutLogEvents {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let events = members.objects("logEvents")?.unwrap_or_default();
        if !(1..=10_000).contains(&events.len()) {
            return Err(members.invalid("logEvents", "1 to 10000 events are expected"));
        }
        let event = |mut event: Members| -> Result<(i64, String), ApiError> {
            let at = event.integer("timestamp")?.ok_or_else(|| event.missing("timestamp"))?;
            Ok((at, event.required_text("message")?))
        };
        Ok(Self {
            group: group(&mut members)?,
            stream: members.required_text("logStreamName")?,
            events: events.into_iter().map(event).collect::<Result<_, _>>()?,
        })
    }
}

/// One log group of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroup {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds.
    pub creation_time_ms: i64,
    /// Bytes of all its events.
    pub stored_bytes: u64,
    /// How many days its events are kept; None is for good.
    pub retention_days: Option<u32>,
}

/// One log stream of an answer. Moments are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogStream {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub creation_time_ms: i64,
    /// Its oldest event.
    pub first_event_ms: Option<i64>,
    /// Its newest event.
    pub last_event_ms: Option<i64>,
    /// When it last took one in.
    pub last_ingestion_ms: Option<i64>,
    /// What old clients send back with their next events.
    pub upload_sequence_token: String,
}

/// One event of an answer. Moments are in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its id and stream, where the answer is about several streams.
    pub origin: Option<(String, String)>,
    /// When it happened.
    pub timestamp_ms: i64,
    /// What.
    pub message: String,
    /// When it was taken in.
    pub ingestion_time_ms: i64,
}

impl From<LogEvent> for Value {
    fn from(event: LogEvent) -> Self {
        let object = match event.origin {
            None => Object::new(),
            Some((id, stream)) => Object::new().with("eventId", id).with("logStreamName", stream),
        };
        object
            .with("timestamp", event.timestamp_ms)
            .with("message", event.message)
            .with("ingestionTime", event.ingestion_time_ms)
            .into()
    }
}

/// The ARN of a group, without the `:*` behind it.
#[must_use]
pub fn group_arn(account: AccountId, region: &Region, group: &str) -> String {
    format!("arn:aws:logs:{region}:{account}:log-group:{group}")
}

/// The answer to DescribeLogGroups.
#[must_use]
pub fn describe_log_groups(
    account: AccountId,
    region: &Region,
    groups: Vec<LogGroup>,
    next: Option<String>,
) -> Value {
    let groups = groups.into_iter().map(|group| {
        let arn = group_arn(account, region, &group.name);
        Object::new()
            .with("logGroupName", group.name)
            .with("creationTime", group.creation_time_ms)
            .with("metricFilterCount", 0)
            .with("arn", format!("{arn}:*"))
            .maybe("retentionInDays", group.retention_days)
            .with("storedBytes", group.stored_bytes)
            .with("logGroupClass", "STANDARD")
            .with("logGroupArn", arn)
    });
    Object::new().with("logGroups", list(groups)).maybe("nextToken", next).into()
}

/// The answer to DescribeLogStreams.
#[must_use]
pub fn describe_log_streams(
    account: AccountId,
    region: &Region,
    group: &str,
    streams: Vec<LogStream>,
    next: Option<String>,
) -> Value {
    let streams = streams.into_iter().map(|stream| {
        let arn = format!("{}:log-stream:{}", group_arn(account, region, group), stream.name);
        Object::new()
            .with("logStreamName", stream.name)
            .with("creationTime", stream.creation_time_ms)
            .maybe("firstEventTimestamp", stream.first_event_ms)
            .maybe("lastEventTimestamp", stream.last_event_ms)
            .maybe("lastIngestionTime", stream.last_ingestion_ms)
            .with("uploadSequenceToken", stream.upload_sequence_token)
            .with("arn", arn)
            .with("storedBytes", 0)
    });
    Object::new().with("logStreams", list(streams)).maybe("nextToken", next).into()
}

/// The answer to GetLogEvents.
#[must_use]
pub fn get_log_events(events: Vec<LogEvent>, forward: String, backward: String) -> Value {
    Object::new()
        .with("events", list(events))
        .with("nextForwardToken", forward)
        .with("nextBackwardToken", backward)
        .into()
}

/// The answer to FilterLogEvents.
#[must_use]
pub fn filter_log_events(events: Vec<LogEvent>, next: Option<String>) -> Value {
    Object::new()
        .with("events", list(events))
        .with("searchedLogStreams", Value::Array(Vec::new()))
        .maybe("nextToken", next)
        .into()
}

/// The answer to PutLogEvents.
#[must_use]
pub fn put_log_events(next_sequence_token: String) -> Value {
    Object::new().with("nextSequenceToken", next_sequence_token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_go_by_name_or_arn() {
        assert_eq!(group_name("/ecs/web"), "/ecs/web");
        for arn in
            ["arn:aws:logs:us-east-1:1:log-group:/ecs/web", "arn:aws:logs:us-east-1:1:log-group:/ecs/web:*"]
        {
            assert_eq!(group_name(arn), "/ecs/web");
        }
    }
}
