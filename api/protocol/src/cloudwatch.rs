//! CloudWatch: alarms, and metrics of one's own.
//!
//! The service is spoken in JSON, in CBOR and in Query; all take the same members, and Query writes times in another way.

use std::collections::BTreeMap;

use coracle_types::alarm::{Comparison, MissingData, Statistic, is_measured};
use coracle_types::{
    AccountId, Alarm, AlarmId, AlarmRule, AlarmState, JsonMap, Timestamp, Watched, WatchedMetric,
};
use serde_json::Value;

use crate::error::{ApiError, Wire};
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list, seconds};
use crate::shape::{Shape, shape};

pub mod metrics;

/// What `X-Amz-Target` begins with, before the dot, and the service in the paths of CBOR.
pub const TARGET_PREFIX: &str = "GraniteServiceVersion20100801";
/// The version of the model, which a form names beside the action.
pub const VERSION: &str = "2010-08-01";
/// The namespace of its answers.
pub const NAMESPACE: &str = "http://monitoring.amazonaws.com/doc/2010-08-01/";

/// Every operation there is here.
const OPERATIONS: [&str; 15] = [
    "DeleteAlarms",
    "DescribeAlarms",
    "DescribeAlarmsForMetric",
    "DisableAlarmActions",
    "EnableAlarmActions",
    "GetMetricData",
    "GetMetricStatistics",
    "ListMetrics",
    "ListTagsForResource",
    "PutCompositeAlarm",
    "PutMetricAlarm",
    "PutMetricData",
    "SetAlarmState",
    "TagResource",
    "UntagResource",
];

const TAG: Shape = shape!({ Key: text, Value: text });
const DIMENSION: Shape = shape!({ Name: text, Value: text });
const STATISTIC_SET: Shape = shape!({ SampleCount: number, Sum: number, Minimum: number, Maximum: number });
const DATUM: Shape = shape!({
    MetricName: text, Dimensions: [DIMENSION], Timestamp: any, Value: number, StatisticValues: STATISTIC_SET,
    Values: [number], Counts: [number], Unit: text, StorageResolution: int,
});
const METRIC: Shape = shape!({ Namespace: text, MetricName: text, Dimensions: [DIMENSION] });
const METRIC_STAT: Shape = shape!({ Metric: METRIC, Period: int, Stat: text, Unit: text });
const METRIC_QUERY: Shape = shape!({
    Id: text, MetricStat: METRIC_STAT, Expression: text, Label: text, ReturnData: flag, Period: int, AccountId: text,
});
/// One shape for all: the same names mean the same in each of them.
const INPUT: Shape = shape!({
    AlarmName: text, AlarmDescription: text, ActionsEnabled: flag, OKActions: [text], AlarmActions: [text],
    InsufficientDataActions: [text], MetricName: text, Namespace: text, Statistic: text, ExtendedStatistic: text,
    Dimensions: [DIMENSION], Period: int, Unit: text, EvaluationPeriods: int, DatapointsToAlarm: int,
    Threshold: number, ComparisonOperator: text, TreatMissingData: text, EvaluateLowSampleCountPercentile: text,
    Metrics: [any], Tags: [TAG], ThresholdMetricId: text, AlarmNames: [text], AlarmNamePrefix: text,
    AlarmTypes: [text], ChildrenOfAlarmName: text, ParentsOfAlarmName: text, StateValue: text, ActionPrefix: text,
    MaxRecords: int, NextToken: text, StateReason: text, StateReasonData: text, ResourceARN: text, TagKeys: [text],
    AlarmRule: text, ActionsSuppressor: text, ActionsSuppressorWaitPeriod: int, ActionsSuppressorExtensionPeriod: int,
    MetricData: [DATUM], EntityMetricData: [any], StrictEntityValidation: flag, RecentlyActive: text,
    StartTime: any, EndTime: any, Statistics: [text], ExtendedStatistics: [text], MetricDataQueries: [METRIC_QUERY],
    ScanBy: text, MaxDatapoints: int, LabelOptions: any, IncludeLinkedAccounts: flag, OwningAccount: text,
});

/// The shape that stands for an error in the model, where it is called otherwise than its code in Query.
pub(crate) fn shape_of(code: &'static str) -> &'static str {
    match code {
        "InvalidFormat" => "InvalidFormatFault",
        "InvalidParameterCombination" => "InvalidParameterCombinationException",
        "InvalidParameterValue" => "InvalidParameterValueException",
        "LimitExceeded" => "LimitExceededFault",
        "MissingParameter" => "MissingRequiredParameterException",
        same => same,
    }
}

/// What the request of an operation looks like; None for one there is not.
#[must_use]
pub fn input(operation: &str) -> Option<&'static Shape> {
    OPERATIONS.contains(&operation).then_some(&INPUT)
}

impl Named for AlarmState {
    const ALL: &'static [(&'static str, Self)] =
        &[("OK", Self::Ok), ("ALARM", Self::Alarm), ("INSUFFICIENT_DATA", Self::InsufficientData)];
}

impl Named for Comparison {
    const ALL: &'static [(&'static str, Self)] = &[
        ("GreaterThanOrEqualToThreshold", Self::GreaterThanOrEqual),
        ("GreaterThanThreshold", Self::GreaterThan),
        ("LessThanThreshold", Self::LessThan),
        ("LessThanOrEqualToThreshold", Self::LessThanOrEqual),
    ];
}

impl Named for MissingData {
    const ALL: &'static [(&'static str, Self)] = &[
        ("missing", Self::Missing),
        ("ignore", Self::Ignore),
        ("breaching", Self::Breaching),
        ("notBreaching", Self::NotBreaching),
    ];
}

impl Named for Statistic {
    const ALL: &'static [(&'static str, Self)] = &[
        ("SampleCount", Self::SampleCount),
        ("Average", Self::Average),
        ("Sum", Self::Sum),
        ("Minimum", Self::Minimum),
        ("Maximum", Self::Maximum),
    ];
}

/// Members that are kept and returned, and mean nothing here: nobody is notified.
const KEPT: [&str; 10] = [
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "Unit",
    "EvaluateLowSampleCountPercentile",
    "ActionsSuppressor",
    "ActionsSuppressorWaitPeriod",
    "ActionsSuppressorExtensionPeriod",
];

/// The longest description, in characters.
const DESCRIPTION_MAX: usize = 1024;
/// A day and a week, in seconds: how far back alarms look with periods of less than an hour, and with longer ones.
const WINDOWS_S: (u64, u64) = (86_400, 604_800);

/// PutMetricAlarm or PutCompositeAlarm: an alarm without a past.
#[derive(Clone, Debug, PartialEq)]
pub struct PutAlarm {
    /// Its name.
    pub name: String,
    /// Tags for one that is new.
    pub tags: Vec<(String, String)>,
    /// What it watches.
    pub watched: Watched,
    rest: JsonMap,
}

impl PutAlarm {
    /// Takes PutMetricAlarm apart.
    ///
    /// # Errors
    /// When a member is missing or wrong, or the alarm is of a kind that is not evaluated here.
    pub fn decode_metric(mut members: Members) -> Result<Self, ApiError> {
        for other in ["Metrics", "ThresholdMetricId", "EvaluationCriteria"] {
            if members.value(other).is_some() {
                return Err(members.refuse(format_args!(
                    "{other} is not supported: alarms are evaluated on one metric, named by MetricName, Namespace and \
                     Dimensions."
                )));
            }
        }
        let name = alarm_name(&mut members)?;
        let statistic = statistic(&mut members)?;
        let period_s = members.integer_in("Period", 1..=86_400)?.ok_or_else(|| members.missing("Period"))?;
        if !matches!(period_s, 10 | 20 | 30) && period_s % 60 != 0 {
            return Err(members.invalid("Period", "it must be 10, 20, 30, or a multiple of 60"));
        }
        let evaluation_periods = members
            .integer_in("EvaluationPeriods", 1..=8640)?
            .ok_or_else(|| members.missing("EvaluationPeriods"))?;
        let looks = u64::from(period_s) * u64::from(evaluation_periods);
        let window = if period_s < 3600 { WINDOWS_S.0 } else { WINDOWS_S.1 };
        if looks > window {
            return Err(members.refuse(format_args!(
                "Metrics cannot be checked across more than {window} seconds (EvaluationPeriods * Period must be <= {window})."
            )));
        }
        let datapoints_to_alarm = members.integer_in("DatapointsToAlarm", 1..=evaluation_periods)?;
        let threshold = members.value("Threshold").and_then(|value| value.as_f64());
        let threshold = threshold.ok_or_else(|| members.missing("Threshold"))?;
        let comparison =
            members.named("ComparisonOperator")?.ok_or_else(|| members.missing("ComparisonOperator"))?;
        let (metric, namespace) = (name_of(&mut members, "MetricName")?, name_of(&mut members, "Namespace")?);
        if let Statistic::Percentile(_) = statistic
            && !is_measured(&namespace)
        {
            return Err(members.invalid(
                "ExtendedStatistic",
                "of metrics of your own, percentiles are not kept: Average, Sum, Minimum, Maximum and SampleCount are",
            ));
        }
        let missing_data = members.named("TreatMissingData")?;
        let dimensions = dimensions(&mut members)?;
        let tags = members.pairs("Tags", "Key", "Value")?.unwrap_or_default();
        let mut rest = kept(&mut members)?;
        if let Some(count) = datapoints_to_alarm {
            rest.insert("DatapointsToAlarm".to_owned(), count.into());
        }
        if let Some(treated) = missing_data {
            rest.insert("TreatMissingData".to_owned(), MissingData::name(treated).into());
        }
        let watched = Watched::Metric(WatchedMetric {
            namespace,
            metric,
            dimensions,
            statistic,
            period_s,
            evaluation_periods,
            datapoints_to_alarm: datapoints_to_alarm.unwrap_or(evaluation_periods),
            threshold,
            comparison,
            missing_data: missing_data.unwrap_or_default(),
        });
        Ok(Self { name, tags, watched, rest })
    }

    /// Takes PutCompositeAlarm apart.
    ///
    /// # Errors
    /// When a member is missing or wrong, or the rule is none.
    pub fn decode_composite(mut members: Members) -> Result<Self, ApiError> {
        let name = alarm_name(&mut members)?;
        let rule: AlarmRule = members
            .required_text("AlarmRule")?
            .parse()
            .map_err(|error| members.invalid("AlarmRule", error))?;
        let tags = members.pairs("Tags", "Key", "Value")?.unwrap_or_default();
        let rest = kept(&mut members)?;
        Ok(Self { name, tags, watched: Watched::Alarms { rule }, rest })
    }

    /// The alarm as it is at `now`, with the state of the one it takes the place of.
    #[must_use]
    pub fn into_alarm(self, id: AlarmId, before: Option<&Alarm>, now: Timestamp) -> Alarm {
        Alarm {
            id,
            watched: self.watched,
            state: before.map_or(AlarmState::InsufficientData, |before| before.state),
            state_reason: before.map_or_else(
                || "Unchecked: Initial alarm creation".to_owned(),
                |before| before.state_reason.clone(),
            ),
            state_reason_data: before.and_then(|before| before.state_reason_data.clone()),
            state_updated_at: before.map_or(now, |before| before.state_updated_at),
            state_transitioned_at: before.map_or(now, |before| before.state_transitioned_at),
            configured_at: now,
            tags: before.map(|before| before.tags.clone()).unwrap_or_default(),
            rest: self.rest,
        }
    }
}

/// Takes the members that are kept and returned.
fn kept(members: &mut Members) -> Result<JsonMap, ApiError> {
    let mut rest = JsonMap::new();
    for kept in KEPT {
        if let Some(value) = members.value(kept) {
            if value.as_array().is_some_and(|actions| actions.len() > 5) {
                return Err(members.invalid(kept, "there can be at most 5"));
            }
            if value.as_str().is_some_and(|text| text.chars().count() > DESCRIPTION_MAX) {
                return Err(members.invalid(kept, "it can have at most 1024 characters"));
            }
            rest.insert(kept.to_owned(), value);
        }
    }
    Ok(rest)
}

/// Takes the name of a metric or of a namespace.
fn name_of(members: &mut Members, member: &str) -> Result<String, ApiError> {
    let text = members.required_text(member)?;
    match text.chars().count() {
        1..=255 => Ok(text),
        _ => Err(members.invalid(member, "it can have at most 255 characters")),
    }
}

/// Takes an alarm's name.
///
/// # Errors
/// When it is missing or too long.
pub fn alarm_name(members: &mut Members) -> Result<String, ApiError> {
    let name = members.required_text("AlarmName")?;
    check_name(members, "AlarmName", &name)?;
    Ok(name)
}

fn check_name(members: &Members, member: &str, name: &str) -> Result<(), ApiError> {
    match name.chars().count() {
        1..=255 if !name.chars().any(char::is_control) => Ok(()),
        _ => {
            Err(members.invalid(member, "it must have 1 to 255 characters, none of which controls anything"))
        }
    }
}

/// Takes the names of 1 to 100 alarms.
///
/// # Errors
/// When there are none, too many, or they are too long.
pub fn alarm_names(members: &mut Members) -> Result<Vec<String>, ApiError> {
    let names = members.texts("AlarmNames")?.filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| members.missing("AlarmNames"))?;
    if names.len() > 100 {
        return Err(members.invalid("AlarmNames", "there can be at most 100"));
    }
    names.iter().try_for_each(|name| check_name(members, "AlarmNames", name))?;
    Ok(names)
}

fn statistic(members: &mut Members) -> Result<Statistic, ApiError> {
    let (plain, extended) = (members.named::<Statistic>("Statistic")?, members.text("ExtendedStatistic")?);
    match (plain, extended) {
        (Some(statistic), None) => Ok(statistic),
        (None, Some(extended)) => {
            let percent = extended.strip_prefix('p').and_then(|percent| percent.parse::<f64>().ok());
            let percent = percent.filter(|percent| (0.0..=100.0).contains(percent));
            percent.map(Statistic::Percentile).ok_or_else(|| {
                members.invalid("ExtendedStatistic", "only percentiles are supported, such as p99 and p99.9")
            })
        }
        (Some(_), Some(_)) => Err(members.refuse("Statistic and ExtendedStatistic are mutually exclusive.")),
        (None, None) => Err(members.missing("Statistic")),
    }
}

/// Takes what a metric is of.
///
/// # Errors
/// When a name or value is missing, or there are too many.
pub fn dimensions(members: &mut Members) -> Result<BTreeMap<String, String>, ApiError> {
    let given = members.pairs("Dimensions", "Name", "Value")?.unwrap_or_default();
    if given.len() > 30 {
        return Err(members.invalid("Dimensions", "there can be at most 30"));
    }
    Ok(given.into_iter().collect())
}

/// DescribeAlarms: which alarms are asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DescribeAlarms {
    /// These; empty means all.
    pub names: Vec<String>,
    /// Those that begin so.
    pub prefix: Option<String>,
    /// Those in this state.
    pub state: Option<AlarmState>,
    /// Those with an action that begins so.
    pub action_prefix: Option<String>,
    /// Whether metric alarms are asked for.
    pub metric_alarms: bool,
    /// Whether composite alarms are.
    pub composite_alarms: bool,
    /// Those this composite alarm watches.
    pub children_of: Option<String>,
    /// Those that watch this alarm.
    pub parents_of: Option<String>,
    /// At most this many.
    pub limit: usize,
    /// Those after this one.
    pub after: Option<String>,
}

impl DescribeAlarms {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is wrong, or there are too many names.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let names = match members.peek("AlarmNames") {
            Some(Value::Array(names)) if !names.is_empty() => alarm_names(&mut members)?,
            _ => Vec::new(),
        };
        let prefix = members.text("AlarmNamePrefix")?;
        if prefix.is_some() && !names.is_empty() {
            return Err(members.refuse("AlarmNames and AlarmNamePrefix cannot both be given."));
        }
        let types = members.texts("AlarmTypes")?.unwrap_or_default();
        let (children_of, parents_of) =
            (members.text("ChildrenOfAlarmName")?, members.text("ParentsOfAlarmName")?);
        if children_of.is_some() && parents_of.is_some() {
            return Err(members.refuse("ChildrenOfAlarmName and ParentsOfAlarmName cannot both be given."));
        }
        let family = children_of.is_some() || parents_of.is_some();
        let of_type = |wanted: &str| types.iter().any(|one| one == wanted);
        Ok(Self {
            names,
            prefix,
            state: members.named("StateValue")?,
            action_prefix: members.text("ActionPrefix")?,
            // Composite ones are left out unless they are asked for, as in CloudWatch.
            metric_alarms: types.is_empty() || of_type("MetricAlarm"),
            composite_alarms: of_type("CompositeAlarm") || types.is_empty() && family,
            children_of,
            parents_of,
            limit: members.integer_in("MaxRecords", 1..=100)?.unwrap_or(100) as usize,
            after: members.text("NextToken")?.filter(|token| !token.is_empty()),
        })
    }

    /// Whether an alarm is one of those, by all but its place and what others watch.
    #[must_use]
    pub fn wants(&self, alarm: &Alarm) -> bool {
        let name = &alarm.id.name;
        let acts = |prefix: &String| {
            let actions = ["OKActions", "AlarmActions", "InsufficientDataActions"];
            let all = actions.iter().filter_map(|kind| alarm.rest.get(*kind)?.as_array()).flatten();
            all.filter_map(Value::as_str).any(|action| action.starts_with(prefix))
        };
        let of_type = match &alarm.watched {
            Watched::Metric(_) => self.metric_alarms,
            Watched::Alarms { .. } => self.composite_alarms,
        };
        let watches = |child: &String| alarm.rule().is_some_and(|rule| rule.names().contains(child.as_str()));
        of_type
            && self.parents_of.as_ref().is_none_or(watches)
            && (self.names.is_empty() || self.names.contains(name))
            && self.prefix.as_ref().is_none_or(|prefix| name.starts_with(prefix))
            && self.state.is_none_or(|state| alarm.state == state)
            && self.action_prefix.as_ref().is_none_or(acts)
    }
}

/// An alarm's ARN.
#[must_use]
pub fn arn(account: AccountId, id: &AlarmId) -> String {
    format!("arn:aws:cloudwatch:{}:{account}:alarm:{}", id.region, id.name)
}

/// An alarm of either kind, for an answer in `wire`.
#[must_use]
pub fn alarm(account: AccountId, alarm: &Alarm, wire: Wire) -> Value {
    let time = |at| time_in(wire, at);
    let empty = || list::<Value>([]);
    let common = Object::new()
        .with("AlarmName", alarm.id.name.as_str())
        .with("AlarmArn", arn(account, &alarm.id))
        .kept(&alarm.rest, &["AlarmDescription"])
        .with("AlarmConfigurationUpdatedTimestamp", time(alarm.configured_at))
        .kept_or(&alarm.rest, "ActionsEnabled", true)
        .kept_or(&alarm.rest, "OKActions", empty())
        .kept_or(&alarm.rest, "AlarmActions", empty())
        .kept_or(&alarm.rest, "InsufficientDataActions", empty())
        .with("StateValue", alarm.state.name())
        .with("StateReason", alarm.state_reason.as_str())
        .maybe("StateReasonData", alarm.state_reason_data.clone())
        .with("StateUpdatedTimestamp", time(alarm.state_updated_at))
        .with("StateTransitionedTimestamp", time(alarm.state_transitioned_at));
    let whole = match &alarm.watched {
        Watched::Metric(metric) => metric_members(common, metric),
        Watched::Alarms { rule } => common.with("AlarmRule", rule.as_str()),
    };
    whole.rest(&alarm.rest).into()
}

fn metric_members(alarm: Object, metric: &WatchedMetric) -> Object {
    let (statistic, extended) = match metric.statistic {
        Statistic::Percentile(percent) => (None, Some(format!("p{percent}"))),
        plain => (Some(plain.name()), None),
    };
    alarm
        .with("MetricName", metric.metric.as_str())
        .with("Namespace", metric.namespace.as_str())
        .maybe("Statistic", statistic)
        .maybe("ExtendedStatistic", extended)
        .with("Dimensions", dimension_list(&metric.dimensions))
        .with("Period", metric.period_s)
        .with("EvaluationPeriods", metric.evaluation_periods)
        .with("Threshold", metric.threshold)
        .with("ComparisonOperator", metric.comparison.name())
}

/// A moment as it is written in `wire`.
fn time_in(wire: Wire, at: Timestamp) -> Value {
    match wire {
        Wire::Json | Wire::Cbor => seconds(at),
        Wire::Query => at.iso8601().into(),
    }
}

fn dimension_list(dimensions: &BTreeMap<String, String>) -> Value {
    list(
        dimensions
            .iter()
            .map(|(name, value)| Object::new().with("Name", name.as_str()).with("Value", value.as_str())),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn decode(change: &Value) -> Result<PutAlarm, ApiError> {
        let mut body = json!({
            "AlarmName": "errors", "Namespace": "AWS/ApplicationELB", "MetricName": "RequestCount",
            "Dimensions": [{"Name": "TargetGroup", "Value": "targetgroup/web/1"}], "Statistic": "Sum",
            "Period": 60, "EvaluationPeriods": 3, "Threshold": 5, "ComparisonOperator": "GreaterThanThreshold",
            "AlarmActions": ["arn:aws:sns:us-east-1:1:x"],
        });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        PutAlarm::decode_metric(Members::of_body(body, Refusal::ValidationError)?)
    }

    #[test]
    fn an_alarm_comes_back_as_it_was_put() {
        let id = AlarmId { region: "us-east-1".parse().unwrap(), name: "errors".to_owned() };
        let put = decode(&json!({})).unwrap().into_alarm(id, None, Timestamp(1500));
        let shown = alarm(AccountId::default(), &put, Wire::Json);
        assert_eq!(shown["AlarmActions"], json!(["arn:aws:sns:us-east-1:1:x"]));
        assert_eq!((&shown["StateValue"], &shown["Threshold"]), (&json!("INSUFFICIENT_DATA"), &json!(5.0)));
        assert_eq!(shown["AlarmConfigurationUpdatedTimestamp"], json!(1.5));
        assert_eq!(shown.get("DatapointsToAlarm"), None, "it was not given");
        let query = alarm(AccountId::default(), &put, Wire::Query);
        assert_eq!(query["StateUpdatedTimestamp"], "1970-01-01T00:00:01.500Z");
        let percentile = decode(&json!({"Statistic": null, "ExtendedStatistic": "p99.9"})).unwrap();
        let Watched::Metric(percentile) = percentile.watched else { panic!("it watches a metric") };
        assert_eq!(percentile.statistic, Statistic::Percentile(99.9));
    }

    #[test]
    fn what_is_not_evaluated_is_refused() {
        for change in [
            json!({"AlarmName": ""}),
            json!({"AlarmName": "x".repeat(256)}),
            json!({"Period": 15}),
            json!({"Period": 60, "EvaluationPeriods": 1441}),
            json!({"DatapointsToAlarm": 4}),
            json!({"Threshold": null}),
            json!({"Statistic": "Median"}),
            json!({"ExtendedStatistic": "p99"}),
            json!({"Statistic": null, "ExtendedStatistic": "tm99"}),
            json!({"ComparisonOperator": "GreaterThanUpperThreshold"}),
            json!({"TreatMissingData": "perhaps"}),
            json!({"Metrics": [{"Id": "m"}]}),
            json!({"Statistic": null, "ExtendedStatistic": "p99", "Namespace": "Shop"}),
            json!({"AlarmActions": ["a", "b", "c", "d", "e", "f"]}),
        ] {
            let refused = decode(&change);
            assert!(
                matches!(refused, Err(ApiError::Named { code: "ValidationError", .. })),
                "{change}: {refused:?}"
            );
        }
    }
}
