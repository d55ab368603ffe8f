//! Metrics of one's own: what programs send, and what is asked of it.

use std::collections::BTreeMap;

use coracle_types::Timestamp;
use coracle_types::alarm::{Statistic, is_measured};
use serde_json::Value;

use super::{dimension_list, dimensions, name_of, time_in};
use crate::error::{ApiError, Wire};
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};

/// How many values one request can have, as in CloudWatch.
const DATA_MAX: usize = 1000;
/// How many different values one datum can have, as in CloudWatch.
const VALUES_MAX: usize = 150;
/// What a value can be, as in CloudWatch.
const VALUE_MAX: f64 = 2.348_542_582_773_833e108;
/// How many periods one answer can have, as in CloudWatch.
const DATAPOINTS_MAX: i64 = 1440;
/// How many metrics GetMetricData can be asked for, as in CloudWatch, and how many periods of all of them.
const QUERIES_MAX: usize = 500;
const QUERIED_DATAPOINTS_MAX: i64 = 100_800;

/// CloudWatch's units.
const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// A metric of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metric {
    /// `Shop`
    pub namespace: String,
    /// `Errors`
    pub name: String,
    /// What it is of.
    pub dimensions: BTreeMap<String, String>,
}

/// Values of one metric at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Of which metric.
    pub metric: Metric,
    /// When; None is now.
    pub at: Option<Timestamp>,
    /// How many values, above 0.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
    /// In which unit.
    pub unit: Option<String>,
}

/// Takes PutMetricData apart.
///
/// # Errors
/// When a member is missing or wrong, or the namespace is one that is measured here.
pub fn put_metric_data(mut members: Members) -> Result<Vec<Datum>, ApiError> {
    if members.value("EntityMetricData").is_some() {
        return Err(members.refuse("EntityMetricData is not supported: send MetricData."));
    }
    let namespace = name_of(&mut members, "Namespace")?;
    if is_measured(&namespace) {
        let prefix = namespace.split_once('/').map_or("", |(prefix, _)| prefix);
        return Err(members.refuse(format_args!("The value {prefix}/ for parameter Namespace is invalid.")));
    }
    let data = members.objects("MetricData")?.filter(|data| !data.is_empty());
    let data = data.ok_or_else(|| members.missing("MetricData"))?;
    if data.len() > DATA_MAX {
        return Err(members.invalid("MetricData", format_args!("there can be at most {DATA_MAX}")));
    }
    data.into_iter().map(|one| datum(namespace.clone(), one)).collect()
}

fn datum(namespace: String, mut members: Members) -> Result<Datum, ApiError> {
    let name = name_of(&mut members, "MetricName")?;
    let metric = Metric { namespace, name, dimensions: dimensions(&mut members)? };
    let at = time(&mut members, "Timestamp")?;
    let unit = members.text("Unit")?;
    if unit.as_ref().is_some_and(|unit| !UNITS.contains(&unit.as_str())) {
        return Err(members.invalid("Unit", format_args!("it is not one of {}", UNITS.join(", "))));
    }
    let given = ["Value", "Values", "StatisticValues"].map(|name| members.peek(name).is_some());
    if given.into_iter().filter(|given| *given).count() != 1 {
        return Err(members.refuse(format_args!(
            "{} must have one of Value, Values and StatisticValues.",
            members.path_to("MetricName")
        )));
    }
    let (count, sum, min, max) = match given {
        [true, _, _] => {
            let value = number(&mut members, "Value")?;
            (1.0, value, value, value)
        }
        [_, true, _] => several(&mut members)?,
        _ => match members.object("StatisticValues")? {
            Some(mut set) => statistic_set(&mut set)?,
            None => return Err(members.missing("StatisticValues")),
        },
    };
    Ok(Datum { metric, at, count, sum, min, max, unit })
}

fn several(members: &mut Members) -> Result<(f64, f64, f64, f64), ApiError> {
    let (values, counts) = (numbers(members, "Values")?, numbers(members, "Counts")?);
    if values.is_empty() || values.len() > VALUES_MAX {
        return Err(members.invalid("Values", format_args!("there can be 1 to {VALUES_MAX}")));
    }
    if !counts.is_empty() && counts.len() != values.len() {
        return Err(members.invalid("Counts", "there must be as many as there are Values"));
    }
    let (mut count, mut sum, mut min, mut max) = (0.0, 0.0, f64::INFINITY, f64::NEG_INFINITY);
    for (place, value) in values.into_iter().enumerate() {
        let times = counts.get(place).copied().unwrap_or(1.0);
        if times <= 0.0 {
            return Err(members.invalid("Counts", "each must be greater than 0"));
        }
        (count, sum) = (count + times, sum + value * times);
        (min, max) = (f64::min(min, value), f64::max(max, value));
    }
    Ok((count, sum, min, max))
}

fn statistic_set(set: &mut Members) -> Result<(f64, f64, f64, f64), ApiError> {
    let count = number(set, "SampleCount")?;
    if count <= 0.0 {
        return Err(set.invalid("SampleCount", "it must be greater than 0"));
    }
    let (sum, min, max) = (number(set, "Sum")?, number(set, "Minimum")?, number(set, "Maximum")?);
    if min > max {
        return Err(set.invalid("Minimum", "it is greater than Maximum"));
    }
    Ok((count, sum, min, max))
}

fn number(members: &mut Members, name: &str) -> Result<f64, ApiError> {
    let value = members.value(name).ok_or_else(|| members.missing(name))?;
    in_range(members, name, &value)
}

fn numbers(members: &mut Members, name: &str) -> Result<Vec<f64>, ApiError> {
    let Some(value) = members.value(name) else { return Ok(Vec::new()) };
    let items = value.as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|item| in_range(members, name, item)).collect()
}

fn in_range(members: &Members, name: &str, value: &Value) -> Result<f64, ApiError> {
    let number = value.as_f64().filter(|number| number.abs() <= VALUE_MAX);
    number.ok_or_else(|| {
        members.invalid(name, format_args!("numbers lie between -{VALUE_MAX:e} and {VALUE_MAX:e}"))
    })
}

/// Takes a moment: a number of seconds, or ISO 8601 as Query has it.
fn time(members: &mut Members, name: &str) -> Result<Option<Timestamp>, ApiError> {
    match members.peek(name).and_then(Value::as_str).map(Timestamp::from_iso8601) {
        None => members.time(name),
        Some(Some(at)) => Ok(Some(at)),
        Some(None) => Err(members.invalid(name, "it is not a moment such as 2026-11-21T09:46:25Z")),
    }
}

/// ListMetrics: which metrics are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListMetrics {
    /// Those of this namespace.
    pub namespace: Option<String>,
    /// Those of this name.
    pub name: Option<String>,
    /// Those of these dimensions, of any value where there is none.
    pub dimensions: Vec<(String, Option<String>)>,
    /// How many are passed over.
    pub skip: usize,
}

impl ListMetrics {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is wrong.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let dimensions = members.objects("Dimensions")?.unwrap_or_default().into_iter();
        let dimensions = dimensions.map(|mut one| Ok((one.required_text("Name")?, one.text("Value")?)));
        let token = members.text("NextToken")?.filter(|token| !token.is_empty());
        Ok(Self {
            dimensions: dimensions.collect::<Result<_, ApiError>>()?,
            namespace: members.text("Namespace")?,
            name: members.text("MetricName")?,
            skip: match token {
                Some(token) => {
                    token.parse().map_err(|_| members.invalid("NextToken", "it is none of ours"))?
                }
                None => 0,
            },
        })
    }

    /// Whether a metric is one of those.
    #[must_use]
    pub fn wants(&self, metric: &Metric) -> bool {
        let has = |(name, value): &(String, Option<String>)| {
            metric.dimensions.get(name).is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
        };
        self.namespace.as_ref().is_none_or(|namespace| *namespace == metric.namespace)
            && self.name.as_ref().is_none_or(|name| *name == metric.name)
            && self.dimensions.iter().all(has)
    }
}

/// A metric, for an answer.
#[must_use]
pub fn metric(metric: &Metric) -> Value {
    Object::new()
        .with("Namespace", metric.namespace.as_str())
        .with("MetricName", metric.name.as_str())
        .with("Dimensions", dimension_list(&metric.dimensions))
        .into()
}

/// What is asked of one metric: statistics of all periods in a stretch of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// Which metric.
    pub metric: Metric,
    /// Length of a period, in seconds: a multiple of 10.
    pub period_s: u32,
    /// Periods that begin then or later.
    pub from: Timestamp,
    /// And before this.
    pub until: Timestamp,
    /// What is made of each. Percentiles are not among them.
    pub statistics: Vec<Statistic>,
}

impl Question {
    /// Takes GetMetricStatistics apart.
    ///
    /// # Errors
    /// When a member is missing or wrong, or the metric is one of which nothing is kept.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let (from, until) = stretch(&mut members)?;
        if members.value("ExtendedStatistics").is_some() {
            return Err(members.refuse(NO_PERCENTILES));
        }
        let names = members.texts("Statistics")?.unwrap_or_default();
        if names.is_empty() {
            return Err(members.missing("Statistics"));
        }
        let statistics =
            names.iter().map(|name| statistic(&members, "Statistics", name)).collect::<Result<_, _>>()?;
        let period_s = period(&mut members)?;
        let metric = asked_metric(&mut members)?;
        let question = Self { metric, period_s, from, until, statistics };
        if question.periods() > DATAPOINTS_MAX {
            return Err(ApiError::Named {
                code: "InvalidParameterCombination",
                message: format!(
                    "You have requested up to {} datapoints, which exceeds the limit of {DATAPOINTS_MAX}. You may reduce \
                     the datapoints requested by increasing Period, or decreasing the time range.",
                    question.periods()
                ),
            });
        }
        Ok(question)
    }

    /// How many periods there are at most.
    fn periods(&self) -> i64 {
        self.until.as_millis().saturating_sub(self.from.as_millis())
            / (i64::from(self.period_s.max(1)) * 1000)
    }
}

const NO_PERCENTILES: &str =
    "Percentiles are not kept: ask for Average, Sum, Minimum, Maximum or SampleCount.";

/// `StartTime` and `EndTime`.
fn stretch(members: &mut Members) -> Result<(Timestamp, Timestamp), ApiError> {
    let from = time(members, "StartTime")?.ok_or_else(|| members.missing("StartTime"))?;
    let until = time(members, "EndTime")?.ok_or_else(|| members.missing("EndTime"))?;
    if from >= until {
        return Err(members.refuse("The parameter StartTime must be less than the parameter EndTime."));
    }
    Ok((from, until))
}

fn statistic(members: &Members, member: &str, name: &str) -> Result<Statistic, ApiError> {
    Statistic::of_name(name).ok_or_else(|| members.invalid(member, NO_PERCENTILES))
}

fn period(members: &mut Members) -> Result<u32, ApiError> {
    let period_s = members.integer_in("Period", 1..=604_800)?.ok_or_else(|| members.missing("Period"))?;
    match period_s % 10 {
        0 => Ok(period_s),
        _ => Err(members.invalid("Period", "it must be a multiple of 10: values are kept by 10 seconds")),
    }
}

fn asked_metric(members: &mut Members) -> Result<Metric, ApiError> {
    let (namespace, name) = (name_of(members, "Namespace")?, name_of(members, "MetricName")?);
    if is_measured(&namespace) {
        return Err(members.invalid(
            "Namespace",
            "what is measured here is read by alarms and by whoever asks for /metrics, and its past is not kept",
        ));
    }
    Ok(Metric { namespace, name, dimensions: dimensions(members)? })
}

/// GetMetricData: questions with their ids and labels.
#[derive(Clone, Debug, PartialEq)]
pub struct GetMetricData {
    /// All of them, by ids that do not repeat.
    pub queries: Vec<Query>,
    /// Periods that begin then or later.
    pub from: Timestamp,
    /// And before this.
    pub until: Timestamp,
    /// Whether the newest values come first.
    pub newest_first: bool,
}

/// One of several questions.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What it is called in the answer, and in the formulas of others.
    pub id: String,
    /// For people.
    pub label: String,
    /// What is asked.
    pub asked: Asked,
    /// Whether it is in the answer, and not only in the formulas of others.
    pub is_wanted: bool,
}

/// What one of several questions is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// One statistic of a metric.
    Metric(Question),
    /// A formula of the others, as it was sent.
    Formula(String),
}

impl GetMetricData {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or wrong, or a metric is one of which nothing is kept.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let (from, until) = stretch(&mut members)?;
        let newest_first = match members.text("ScanBy")?.as_deref() {
            None | Some("TimestampDescending") => true,
            Some("TimestampAscending") => false,
            Some(_) => {
                return Err(members.invalid("ScanBy", "it is TimestampDescending or TimestampAscending"));
            }
        };
        let given = members.objects("MetricDataQueries")?.filter(|queries| !queries.is_empty());
        let given = given.ok_or_else(|| members.missing("MetricDataQueries"))?;
        if given.len() > QUERIES_MAX {
            return Err(
                members.invalid("MetricDataQueries", format_args!("there can be at most {QUERIES_MAX}"))
            );
        }
        let mut queries: Vec<Query> = Vec::new();
        for mut one in given {
            let query = Query::decode(&mut one, from, until)?;
            if queries.iter().any(|other| other.id == query.id) {
                return Err(one.invalid("Id", format_args!("{} is there twice", query.id)));
            }
            queries.push(query);
        }
        let periods = queries.iter().map(|query| match &query.asked {
            Asked::Metric(question) => question.periods(),
            Asked::Formula(_) => 0,
        });
        let asked = periods.fold(0_i64, i64::saturating_add);
        if asked > QUERIED_DATAPOINTS_MAX {
            return Err(members.refuse(format_args!(
                "{asked} datapoints are asked for; ask for at most {QUERIED_DATAPOINTS_MAX} at once."
            )));
        }
        Ok(Self { queries, from, until, newest_first })
    }
}

impl Query {
    fn decode(one: &mut Members, from: Timestamp, until: Timestamp) -> Result<Self, ApiError> {
        let (id, label) = (one.required_text("Id")?, one.text("Label")?);
        let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if id.len() > 255
            || !id.starts_with(|first: char| first.is_ascii_lowercase())
            || !id.chars().all(is_word)
        {
            let expected =
                "it begins with a lowercase letter, and has letters, digits and underscores, 255 at most";
            return Err(one.invalid("Id", expected));
        }
        let is_wanted = one.flag("ReturnData")?.unwrap_or(true);
        let (stat, formula) = (one.object("MetricStat")?, one.text("Expression")?);
        let (asked, name) = match (stat, formula) {
            (Some(_), Some(_)) => {
                return Err(one.refuse("MetricStat and Expression are mutually exclusive in one query."));
            }
            (None, None) => return Err(one.missing("MetricStat")),
            (None, Some(formula)) => (Asked::Formula(formula), id.clone()),
            (Some(mut stat), None) => {
                let mut asked = stat.object("Metric")?.ok_or_else(|| stat.missing("Metric"))?;
                let statistics = vec![statistic(&stat, "Stat", &stat.clone().required_text("Stat")?)?];
                let (period_s, metric) = (period(&mut stat)?, asked_metric(&mut asked)?);
                let name = metric.name.clone();
                (Asked::Metric(Question { metric, period_s, from, until, statistics }), name)
            }
        };
        Ok(Self { id, label: label.unwrap_or(name), asked, is_wanted })
    }
}

/// One period's statistics, for the answer of GetMetricStatistics.
#[must_use]
pub fn datapoint(at: Timestamp, statistics: &[(Statistic, f64)], unit: Option<&str>, wire: Wire) -> Value {
    let object = Object::new().with("Timestamp", time_in(wire, at));
    let object =
        statistics.iter().fold(object, |object, (statistic, value)| object.with(statistic.name(), *value));
    object.with("Unit", unit.unwrap_or("None")).into()
}

/// The answer to one of several questions: one value for each period.
#[must_use]
pub fn result(query: &Query, values: &[(Timestamp, f64)], wire: Wire) -> Value {
    Object::new()
        .with("Id", query.id.as_str())
        .with("Label", query.label.as_str())
        .with("Timestamps", list(values.iter().map(|(at, _)| time_in(wire, *at))))
        .with("Values", list(values.iter().map(|(_, value)| *value)))
        .with("StatusCode", "Complete")
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn members(body: Value) -> Members {
        Members::of_body(body, Refusal::InvalidParameterValue).unwrap()
    }

    fn put(datum: &Value) -> Result<Vec<Datum>, ApiError> {
        let mut with_name = json!({ "MetricName": "Errors" });
        with_name.as_object_mut().unwrap().extend(datum.as_object().unwrap().clone());
        put_metric_data(members(json!({ "Namespace": "Shop", "MetricData": [with_name] })))
    }

    #[test]
    fn values_come_in_three_forms() {
        let numbers = |datum: &Datum| (datum.count, datum.sum, datum.min, datum.max);
        let found = put(&json!({"Value": 3, "Unit": "Count", "Timestamp": 5.5})).unwrap();
        assert_eq!(numbers(&found[0]), (1.0, 3.0, 3.0, 3.0));
        assert_eq!((found[0].at, found[0].unit.as_deref()), (Some(Timestamp(5500)), Some("Count")));
        let found =
            put(&json!({"Values": [1, 5, 2.5], "Counts": [2, 1, 4], "Timestamp": "1970-01-01T00:00:01Z"}));
        let found = found.unwrap();
        assert_eq!((numbers(&found[0]), found[0].at), ((7.0, 17.0, 1.0, 5.0), Some(Timestamp(1000))));
        let set = json!({"SampleCount": 4, "Sum": 10, "Minimum": 1, "Maximum": 4});
        assert_eq!(numbers(&put(&json!({ "StatisticValues": set })).unwrap()[0]), (4.0, 10.0, 1.0, 4.0));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for datum in [
            json!({}),
            json!({"Value": 1, "Values": [1]}),
            json!({"Value": 1e300}),
            json!({"Values": [], "Counts": []}),
            json!({"Values": [1, 2], "Counts": [1]}),
            json!({"Values": [1], "Counts": [0]}),
            json!({"Values": vec![1; 151]}),
            json!({"Value": 1, "Unit": "Parsecs"}),
            json!({"Value": 1, "Timestamp": "yesterday"}),
            json!({"Value": 1, "MetricName": "x".repeat(256)}),
            json!({"StatisticValues": {"SampleCount": 0, "Sum": 0, "Minimum": 0, "Maximum": 0}}),
            json!({"StatisticValues": {"SampleCount": 1, "Sum": 0, "Minimum": 2, "Maximum": 1}}),
        ] {
            let refused = put(&datum);
            let expected = matches!(refused, Err(ApiError::Named { code: "InvalidParameterValue", .. }));
            assert!(expected, "{datum}: {refused:?}");
        }
        for namespace in ["AWS/ECS", "Coracle/Router"] {
            let body = json!({"Namespace": namespace, "MetricData": [{"MetricName": "a", "Value": 1}]});
            assert!(put_metric_data(members(body)).is_err());
        }
        assert!(put_metric_data(members(json!({"Namespace": "Shop", "MetricData": []}))).is_err());
    }

    #[test]
    fn questions_are_bounded() {
        let ask = |period: u32, until: u32| {
            Question::decode(members(json!({
                "Namespace": "Shop", "MetricName": "Errors", "StartTime": 0, "EndTime": until, "Period": period,
                "Statistics": ["Sum"],
            })))
        };
        assert_eq!(ask(60, 86_400).unwrap().statistics, [Statistic::Sum]);
        assert!(ask(60, 86_460).is_err() && ask(15, 60).is_err() && ask(60, 0).is_err());
        let query = |stat: &str, count: usize| {
            let metric = json!({"Namespace": "Shop", "MetricName": "Errors"});
            let query = |n: usize| {
                let stat = json!({"Metric": metric, "Period": 60, "Stat": stat});
                json!({"Id": format!("a{n}"), "MetricStat": stat})
            };
            let queries: Vec<Value> = (0..count).map(query).collect();
            GetMetricData::decode(members(
                json!({"StartTime": 0, "EndTime": 86_400, "MetricDataQueries": queries}),
            ))
        };
        assert_eq!(query("Maximum", 70).unwrap().queries.len(), 70);
        assert!(query("p99", 1).is_err() && query("Sum", 71).is_err() && query("Sum", 501).is_err());
    }

    #[test]
    fn a_query_is_a_metric_or_a_formula_with_an_id_of_its_own() {
        let ask = |queries: Value| {
            GetMetricData::decode(members(
                json!({"StartTime": 0, "EndTime": 60, "MetricDataQueries": queries}),
            ))
        };
        let stat = json!({
            "Metric": {"Namespace": "Shop", "MetricName": "Errors"}, "Period": 60, "Stat": "Sum",
        });
        let found = ask(json!([
            {"Id": "e", "MetricStat": stat, "ReturnData": false}, {"Id": "twice", "Expression": "e * 2"},
        ]));
        let queries = found.unwrap().queries;
        assert_eq!((queries[0].label.as_str(), queries[0].is_wanted), ("Errors", false));
        assert_eq!(queries[1].asked, Asked::Formula("e * 2".to_owned()));
        assert_eq!((queries[1].label.as_str(), queries[1].is_wanted), ("twice", true));
        for wrong in [
            json!([{"Id": "E", "Expression": "1"}]),
            json!([{"Id": "e-1", "Expression": "1"}]),
            json!([{"Id": "e"}]),
            json!([{"Id": "e", "Expression": "1", "MetricStat": stat}]),
            json!([{"Id": "e", "Expression": "1"}, {"Id": "e", "Expression": "2"}]),
        ] {
            assert!(ask(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn metrics_are_found_by_what_is_asked() {
        let errors = Metric {
            namespace: "Shop".to_owned(),
            name: "Errors".to_owned(),
            dimensions: BTreeMap::from([("Page".to_owned(), "cart".to_owned())]),
        };
        for (body, wants) in [
            (json!({}), true),
            (json!({"Namespace": "Shop", "MetricName": "Errors"}), true),
            (json!({"Dimensions": [{"Name": "Page"}]}), true),
            (json!({"Dimensions": [{"Name": "Page", "Value": "cart"}]}), true),
            (json!({"Dimensions": [{"Name": "Page", "Value": "home"}]}), false),
            (json!({"MetricName": "Orders"}), false),
        ] {
            assert_eq!(ListMetrics::decode(members(body.clone())).unwrap().wants(&errors), wants, "{body}");
        }
    }
}
