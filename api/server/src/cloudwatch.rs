//! CloudWatch's alarms: made, shown and taken away. Who evaluates them is not known here. Metrics of one's own are in
//! [`metrics`].

mod metrics;

use coracle_protocol::cloudwatch as wire;
use coracle_protocol::ecs::tag::nothing;
use coracle_protocol::members::Refusal;
use coracle_protocol::object::list;
use coracle_protocol::{ApiError, Members, Object, Wire};
use coracle_types::{Alarm, AlarmId, AlarmRule, AlarmState, Changes, Key, State, Tags, Watched};
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};

/// How many alarms a region can have, as in AWS.
const ALARMS_MAX: usize = 5000;
/// The longest reason of a state, in characters, and its data.
const REASON_MAX: usize = 1023;
const REASON_DATA_MAX: usize = 4000;

/// Answers one action, which came in by `spoken`.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
    spoken: Wire,
) -> Result<Value, ApiError> {
    if metrics::OPERATIONS.contains(&operation) {
        return metrics::call(api, caller, operation, body, spoken);
    }
    let mut members = Members::of_body(body, Refusal::ValidationError)?;
    match operation {
        "PutMetricAlarm" => put(api, caller, wire::PutAlarm::decode_metric(members)?).await,
        "PutCompositeAlarm" => put(api, caller, wire::PutAlarm::decode_composite(members)?).await,
        "DescribeAlarms" => describe(api, caller, &wire::DescribeAlarms::decode(members)?, spoken),
        "DescribeAlarmsForMetric" => for_metric(api, caller, members, spoken),
        "DeleteAlarms" => delete(api, caller, &wire::alarm_names(&mut members)?).await,
        "SetAlarmState" => set_state(api, caller, members).await,
        "EnableAlarmActions" => set_actions(api, caller, &wire::alarm_names(&mut members)?, true).await,
        "DisableAlarmActions" => set_actions(api, caller, &wire::alarm_names(&mut members)?, false).await,
        "ListTagsForResource" => list_tags(api, caller, &members.required_text("ResourceARN")?),
        "TagResource" | "UntagResource" => change_tags(api, caller, operation, members).await,
        unknown => Err(unknown_operation(Service::CloudWatch, unknown)),
    }
}

fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::Named { code, message: message.into() }
}

fn not_found(name: &str) -> ApiError {
    let shown: String = name.chars().take(300).collect();
    named("ResourceNotFound", format!("There is no alarm {shown:?}."))
}

fn id(caller: &Caller, name: &str) -> AlarmId {
    AlarmId { region: caller.region.clone(), name: name.to_owned() }
}

fn find<'a>(state: &'a State, id: &AlarmId) -> Result<&'a Alarm, ApiError> {
    state.alarms.get(id).map(|found| &*found.value).ok_or_else(|| not_found(&id.name))
}

/// The alarms of the caller's region, in the order of their names.
fn alarms<'a>(state: &'a State, caller: &Caller) -> impl Iterator<Item = &'a Alarm> + use<'a> {
    let region = caller.region.clone();
    let first = AlarmId { region: region.clone(), name: String::new() };
    let from_there = state.alarms.range(first..).map(|(_, found)| &*found.value);
    from_there.take_while(move |alarm| alarm.id.region == region)
}

async fn put(api: &Api, caller: &Caller, request: wire::PutAlarm) -> Result<Value, ApiError> {
    let id = id(caller, &request.name);
    let mut tags = Tags::default();
    tags.merge(request.tags.iter().cloned()).map_err(|error| named("ValidationError", error.to_string()))?;
    let now = api.now();
    api.transact(|state| {
        let before = state.alarms.get(&id).map(|found| &*found.value);
        if before.is_none() && alarms(state, caller).count() >= ALARMS_MAX {
            return Err(named("LimitExceeded", "The quota for alarms in this region has been reached."));
        }
        if before
            .is_some_and(|before| before.metric().is_some() != matches!(request.watched, Watched::Metric(_)))
        {
            return Err(named("ValidationError", "There is an alarm of the other kind with this name."));
        }
        check_rule(api, caller, state, &request)?;
        let mut alarm = request.clone().into_alarm(id.clone(), before, now);
        // Those of one that is there are changed by TagResource only.
        if before.is_none() {
            alarm.tags = tags.clone();
        }
        let mut changes = Changes::new();
        changes.put(alarm);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// What a composite alarm watches has to be there: alarms of its own region.
fn check_rule(api: &Api, caller: &Caller, state: &State, request: &wire::PutAlarm) -> Result<(), ApiError> {
    let Watched::Alarms { rule } = &request.watched else { return Ok(()) };
    for reference in rule.references() {
        let id = match reference.starts_with("arn:") {
            true => id_of(api, caller, reference)?,
            false => id(caller, reference),
        };
        if !state.alarms.contains_key(&id) {
            let shown: String = id.name.chars().take(300).collect();
            let text = format!("AlarmRule is about an alarm that does not exist: {shown:?}.");
            return Err(named("ValidationError", text));
        }
    }
    Ok(())
}

fn describe(
    api: &Api,
    caller: &Caller,
    request: &wire::DescribeAlarms,
    spoken: Wire,
) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let children = match &request.children_of {
        None => None,
        Some(parent) => {
            let found = find(&state, &id(caller, parent))?.rule();
            Some(found.map(AlarmRule::names).unwrap_or_default())
        }
    };
    let of_family =
        |alarm: &&Alarm| children.as_ref().is_none_or(|names| names.contains(alarm.id.name.as_str()));
    let after = |alarm: &&Alarm| request.after.as_ref().is_none_or(|after| alarm.id.name > *after);
    let found = alarms(&state, caller).filter(after).filter(of_family);
    let mut wanted = found.filter(|alarm| request.wants(alarm));
    let page: Vec<&Alarm> = wanted.by_ref().take(request.limit).collect();
    let next = page.last().filter(|_| wanted.next().is_some()).map(|last| last.id.name.clone());
    let (metric, composite): (Vec<_>, Vec<_>) = page.into_iter().partition(|alarm| alarm.metric().is_some());
    let shown = |alarms: Vec<&Alarm>| list(alarms.iter().map(|one| wire::alarm(api.account(), one, spoken)));
    let answer = Object::new().with("MetricAlarms", shown(metric)).with("CompositeAlarms", shown(composite));
    Ok(answer.maybe("NextToken", next).into())
}

fn for_metric(api: &Api, caller: &Caller, mut members: Members, spoken: Wire) -> Result<Value, ApiError> {
    let (metric, namespace) = (members.required_text("MetricName")?, members.required_text("Namespace")?);
    let dimensions = wire::dimensions(&mut members)?;
    let state = api.store.snapshot();
    let watching = alarms(&state, caller).filter(|alarm| {
        alarm.metric().is_some_and(|watched| {
            watched.metric == metric && watched.namespace == namespace && watched.dimensions == dimensions
        })
    });
    let shown = watching.map(|alarm| wire::alarm(api.account(), alarm, spoken));
    Ok(Object::new().with("MetricAlarms", list(shown)).into())
}

async fn delete(api: &Api, caller: &Caller, names: &[String]) -> Result<Value, ApiError> {
    api.transact(|state| {
        let mut changes = Changes::new();
        for name in names {
            let id = id(caller, name);
            find(state, &id)?;
            // One that goes with the alarm that watches it may go.
            let stays = |alarm: &Alarm| !names.contains(&alarm.id.name);
            let watches =
                |alarm: &Alarm| alarm.rule().is_some_and(|rule| rule.names().contains(name.as_str()));
            if alarms(state, caller).any(|alarm| stays(alarm) && watches(alarm)) {
                let shown: String = name.chars().take(300).collect();
                let text = format!("Cannot delete {shown} as there are composite alarm(s) depending on it.");
                return Err(named("ValidationError", text));
            }
            changes.delete(Key::Alarm(id));
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

async fn set_state(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let name = wire::alarm_name(&mut members)?;
    let entered: AlarmState = members.named("StateValue")?.ok_or_else(|| members.missing("StateValue"))?;
    let reason = members.text("StateReason")?.ok_or_else(|| members.missing("StateReason"))?;
    let data = members.text("StateReasonData")?;
    let long = |text: &str, max: usize| text.chars().count() > max;
    if long(&reason, REASON_MAX) || data.as_ref().is_some_and(|data| long(data, REASON_DATA_MAX)) {
        return Err(members.refuse("StateReason has at most 1023 characters, and StateReasonData 4000."));
    }
    if data.as_ref().is_some_and(|data| serde_json::from_str::<Value>(data).is_err()) {
        return Err(named("InvalidFormat", "StateReasonData was not correctly formatted JSON."));
    }
    let (id, now) = (id(caller, &name), api.now());
    api.transact(|state| {
        let mut alarm = find(state, &id)?.clone();
        alarm.enter(entered, reason.clone(), data.clone(), now);
        let mut changes = Changes::new();
        changes.put(alarm);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

async fn set_actions(api: &Api, caller: &Caller, names: &[String], enabled: bool) -> Result<Value, ApiError> {
    api.transact(|state| {
        let mut changes = Changes::new();
        // Those that are not there are passed over, as in AWS.
        for name in names {
            let Some(found) = state.alarms.get(&id(caller, name)) else { continue };
            let mut alarm = Alarm::clone(&found.value);
            alarm.rest.insert("ActionsEnabled".to_owned(), enabled.into());
            changes.put(alarm);
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// The alarm an ARN names: one of the region that is asked, because policies are about the ARN as it was sent.
fn id_of(api: &Api, caller: &Caller, arn: &str) -> Result<AlarmId, ApiError> {
    let found = arn.split_once(":alarm:").map(|(_, name)| id(caller, name));
    let found = found.filter(|id| wire::arn(api.account(), id) == arn);
    found.ok_or_else(|| named("ValidationError", "ResourceARN is not the ARN of an alarm of this region."))
}

fn list_tags(api: &Api, caller: &Caller, arn: &str) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let alarm = find(&state, &id_of(api, caller, arn)?)?;
    let tags = alarm.tags.iter().map(|(key, value)| Object::new().with("Key", key).with("Value", value));
    Ok(Object::new().with("Tags", list(tags)).into())
}

/// TagResource and UntagResource: the one has `Tags`, the other `TagKeys`.
async fn change_tags(
    api: &Api,
    caller: &Caller,
    operation: &str,
    mut members: Members,
) -> Result<Value, ApiError> {
    let id = id_of(api, caller, &members.required_text("ResourceARN")?)?;
    let (added, removed) = match operation {
        "TagResource" => (members.pairs("Tags", "Key", "Value")?.unwrap_or_default(), Vec::new()),
        _ => (Vec::new(), members.texts("TagKeys")?.unwrap_or_default()),
    };
    api.transact(|state| {
        let mut alarm = find(state, &id)?.clone();
        removed.iter().for_each(|key| alarm.tags.remove(key));
        let merged = alarm.tags.merge(added.iter().cloned());
        merged.map_err(|error| named("ValidationError", error.to_string()))?;
        let mut changes = Changes::new();
        changes.put(alarm);
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
