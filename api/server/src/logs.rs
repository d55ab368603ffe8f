//! CloudWatch Logs: the log store behind AWS's actions.

use coracle_logs::{
    DescribeGroups, DescribeStreams, FilterEvents, GetEvents, LogEvent, LogScope, LogStore, LogsError,
    OrderBy,
};
use coracle_protocol::ecs::tag::nothing;
use coracle_protocol::logs as wire;
use coracle_protocol::members::Refusal;
use coracle_protocol::{ApiError, Members};
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let members = Members::of_body(body, Refusal::InvalidParameter)?;
    match operation {
        "DescribeLogGroups" => {
            describe_log_groups(api, caller, wire::DescribeLogGroups::decode(members)?).await
        }
        "DescribeLogStreams" => {
            describe_log_streams(api, caller, wire::DescribeLogStreams::decode(members)?).await
        }
        "GetLogEvents" => get_log_events(api, caller, wire::GetLogEvents::decode(members)?).await,
        "FilterLogEvents" => filter_log_events(api, caller, wire::FilterLogEvents::decode(members)?).await,
        "CreateLogGroup" => {
            let (region, request) = (caller.region.clone(), wire::NamedLogGroup::decode(members)?);
            done(api, move |store| store.create_group(region.as_str(), &request.group)).await
        }
        "DeleteLogGroup" => {
            let (region, request) = (caller.region.clone(), wire::NamedLogGroup::decode(members)?);
            done(api, move |store| store.delete_group(region.as_str(), &request.group)).await
        }
        "DeleteLogStream" => {
            let request = wire::NamedLogStream::decode(members)?;
            let scope = scope(caller, &request.group, &request.stream);
            done(api, move |store| store.delete_stream(&scope)).await
        }
        "PutRetentionPolicy" => {
            let (region, request) = (caller.region.clone(), wire::PutRetentionPolicy::decode(members)?);
            done(api, move |store| store.set_retention(region.as_str(), &request.group, Some(request.days)))
                .await
        }
        "DeleteRetentionPolicy" => {
            let (region, request) = (caller.region.clone(), wire::NamedLogGroup::decode(members)?);
            done(api, move |store| store.set_retention(region.as_str(), &request.group, None)).await
        }
        "CreateLogStream" => {
            let request = wire::NamedLogStream::decode(members)?;
            let scope = scope(caller, &request.group, &request.stream);
            done(api, move |store| store.create_stream(&scope)).await
        }
        "PutLogEvents" => put_log_events(api, caller, wire::PutLogEvents::decode(members)?).await,
        unknown => Err(unknown_operation(Service::Logs, unknown)),
    }
}

/// Does something with the log store where it may block.
async fn with_store<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&LogStore) -> Result<T, LogsError> + Send + 'static,
) -> Result<T, ApiError> {
    let store = api.logs.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(done) => done.map_err(refused),
        Err(error) => {
            tracing::error!(%error, "a log action failed");
            Err(ApiError::Server("The log store failed.".to_owned()))
        }
    }
}

/// Changes the log store; there is nothing to answer.
async fn done(
    api: &Api,
    work: impl FnOnce(&LogStore) -> Result<(), LogsError> + Send + 'static,
) -> Result<Value, ApiError> {
    with_store(api, work).await?;
    Ok(nothing())
}

fn refused(error: LogsError) -> ApiError {
    match error {
        LogsError::NoSuchGroup | LogsError::NoSuchStream => ApiError::ResourceNotFound(error.to_string()),
        LogsError::AlreadyExists { .. } => ApiError::ResourceAlreadyExists(error.to_string()),
        LogsError::InvalidParameter(text) => ApiError::InvalidParameter(text),
        LogsError::Lost { .. } | LogsError::Io { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "the log store failed");
            ApiError::Server("The log store could not be read or written.".to_owned())
        }
    }
}

async fn describe_log_groups(
    api: &Api,
    caller: &Caller,
    request: wire::DescribeLogGroups,
) -> Result<Value, ApiError> {
    if request.prefix.is_some() && request.pattern.is_some() {
        return Err(ApiError::InvalidParameter(
            "logGroupNamePrefix and logGroupNamePattern are mutually exclusive parameters.".to_owned(),
        ));
    }
    let query = DescribeGroups {
        region: caller.region.to_string(),
        prefix: request.prefix,
        limit: request.limit,
        next_token: request.token,
    };
    let page = with_store(api, move |store| store.describe_groups(&query)).await?;
    // A pattern thins out each page; the token still leads through all of them.
    let pattern = request.pattern.map(|pattern| pattern.to_lowercase());
    let groups = page
        .items
        .into_iter()
        .filter(|group| pattern.as_ref().is_none_or(|pattern| group.name.to_lowercase().contains(pattern)));
    let groups = groups.map(|group| wire::LogGroup {
        name: group.name,
        creation_time_ms: group.creation_time_ms,
        stored_bytes: group.stored_bytes,
        retention_days: group.retention_days,
    });
    Ok(wire::describe_log_groups(api.account(), &caller.region, groups.collect(), page.next_token))
}

async fn describe_log_streams(
    api: &Api,
    caller: &Caller,
    request: wire::DescribeLogStreams,
) -> Result<Value, ApiError> {
    let group = request.group.clone();
    let query = DescribeStreams {
        region: caller.region.to_string(),
        group: request.group,
        prefix: request.prefix,
        order_by: if request.by_last_event { OrderBy::LastEventTime } else { OrderBy::LogStreamName },
        descending: request.descending,
        limit: request.limit,
        next_token: request.token,
    };
    let page = with_store(api, move |store| store.describe_streams(&query)).await?;
    let streams = page.items.into_iter().map(|stream| wire::LogStream {
        name: stream.name,
        creation_time_ms: stream.creation_time_ms,
        first_event_ms: stream.first_event_timestamp_ms,
        last_event_ms: stream.last_event_timestamp_ms,
        last_ingestion_ms: stream.last_ingestion_time_ms,
        upload_sequence_token: stream.upload_sequence_token,
    });
    Ok(wire::describe_log_streams(api.account(), &caller.region, &group, streams.collect(), page.next_token))
}

async fn get_log_events(api: &Api, caller: &Caller, request: wire::GetLogEvents) -> Result<Value, ApiError> {
    let query = GetEvents {
        region: caller.region.to_string(),
        group: request.group,
        stream: request.stream,
        start_ms: request.start_ms,
        end_ms: request.end_ms,
        start_from_head: request.from_head,
        limit: request.limit,
        token: request.token,
    };
    let page = with_store(api, move |store| store.get_events(&query)).await?;
    let events = page.events.into_iter().map(|event| wire::LogEvent {
        origin: None,
        timestamp_ms: event.timestamp_ms,
        message: event.message,
        ingestion_time_ms: event.ingestion_time_ms,
    });
    Ok(wire::get_log_events(events.collect(), page.next_forward_token, page.next_backward_token))
}

async fn filter_log_events(
    api: &Api,
    caller: &Caller,
    request: wire::FilterLogEvents,
) -> Result<Value, ApiError> {
    let query = FilterEvents {
        region: caller.region.to_string(),
        group: request.group,
        stream_names: request.streams,
        stream_name_prefix: request.prefix,
        start_ms: request.start_ms,
        end_ms: request.end_ms,
        pattern: request.pattern,
        limit: request.limit,
        next_token: request.token,
    };
    let page = with_store(api, move |store| store.filter_events(&query)).await?;
    let events = page.events.into_iter().map(|event| wire::LogEvent {
        origin: Some((event.event_id, event.log_stream_name)),
        timestamp_ms: event.timestamp_ms,
        message: event.message,
        ingestion_time_ms: event.ingestion_time_ms,
    });
    Ok(wire::filter_log_events(events.collect(), page.next_token))
}

async fn put_log_events(api: &Api, caller: &Caller, request: wire::PutLogEvents) -> Result<Value, ApiError> {
    let scope = scope(caller, &request.group, &request.stream);
    with_store(api, move |store| {
        // Unlike a container's output, this creates nothing: the stream has to be there.
        store.get_events(&GetEvents {
            region: scope.region.to_string(),
            group: scope.group.to_string(),
            stream: scope.stream.to_string(),
            limit: Some(1),
            ..GetEvents::default()
        })?;
        let events = request.events.into_iter();
        store.append(
            events
                .map(|(timestamp_ms, message)| LogEvent { scope: scope.clone(), timestamp_ms, message })
                .collect(),
        )
    })
    .await?;
    // Sequence tokens have had no meaning since 2023; clients that still send them want to see one.
    Ok(wire::put_log_events("0".repeat(56)))
}

fn scope(caller: &Caller, group: &str, stream: &str) -> LogScope {
    LogScope { region: caller.region.as_str().into(), group: group.into(), stream: stream.into() }
}
