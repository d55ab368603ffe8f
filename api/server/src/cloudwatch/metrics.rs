//! Metrics of one's own: values come in, and are listed and read.

use std::collections::{BTreeMap, BTreeSet};

use coracle_metrics::math::{Formula, Known, MathError, Outcome, Series};
use coracle_metrics::{Datum, MetricId, PutError, Values};
use coracle_protocol::cloudwatch::metrics as wire;
use coracle_protocol::ecs::tag::nothing;
use coracle_protocol::members::Refusal;
use coracle_protocol::object::list;
use coracle_protocol::{ApiError, Members, Object, Wire};
use coracle_types::Timestamp;
use coracle_types::alarm::Statistic;
use serde_json::Value;

use super::named;
use crate::api::{Api, Caller};

/// The actions answered here.
pub(super) const OPERATIONS: [&str; 4] =
    ["GetMetricData", "GetMetricStatistics", "ListMetrics", "PutMetricData"];

/// How many formulas may be about each other in a row.
const FORMULAS_DEEP: usize = 16;
/// How many metrics are listed at once, as in CloudWatch.
const PAGE: usize = 500;

/// Answers one of [`OPERATIONS`], which came in by `spoken`.
///
/// # Errors
/// Whatever the action is refused for.
pub(super) fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
    spoken: Wire,
) -> Result<Value, ApiError> {
    let members = Members::of_body(body, Refusal::InvalidParameterValue)?;
    match operation {
        "PutMetricData" => put(api, caller, wire::put_metric_data(members)?),
        "ListMetrics" => Ok(list_metrics(api, caller, &wire::ListMetrics::decode(members)?)),
        "GetMetricStatistics" => Ok(statistics(api, caller, &wire::Question::decode(members)?, spoken)),
        _ => data(api, caller, &wire::GetMetricData::decode(members)?, spoken),
    }
}

fn id(caller: &Caller, metric: wire::Metric) -> MetricId {
    MetricId {
        region: caller.region.clone(),
        namespace: metric.namespace,
        name: metric.name,
        dimensions: metric.dimensions,
    }
}

fn put(api: &Api, caller: &Caller, data: Vec<wire::Datum>) -> Result<Value, ApiError> {
    let now = api.now();
    let data = data.into_iter().map(|datum| Datum {
        metric: id(caller, datum.metric),
        at: datum.at.unwrap_or(now),
        values: Values { count: datum.count, sum: datum.sum, min: datum.min, max: datum.max },
        unit: datum.unit,
    });
    api.metric_data.put(data.collect(), now).map_err(|error| match error {
        PutError::Full => named("LimitExceeded", format!("No values were taken: {error}.")),
        PutError::OutOfTime => named("InvalidParameterValue", format!("No values were taken: {error}.")),
    })?;
    Ok(nothing())
}

fn list_metrics(api: &Api, caller: &Caller, request: &wire::ListMetrics) -> Value {
    let known = api.metric_data.list(&caller.region, api.now()).into_iter();
    let metrics =
        known.map(|id| wire::Metric { namespace: id.namespace, name: id.name, dimensions: id.dimensions });
    let mut wanted = metrics.filter(|metric| request.wants(metric)).skip(request.skip);
    let page: Vec<Value> = wanted.by_ref().take(PAGE).map(|metric| wire::metric(&metric)).collect();
    let next = wanted.next().map(|_| (request.skip + page.len()).to_string());
    Object::new().with("Metrics", list(page)).maybe("NextToken", next).into()
}

/// The statistics of each period that has values, the oldest first.
fn answers(api: &Api, caller: &Caller, question: &wire::Question) -> Vec<(Timestamp, Vec<(Statistic, f64)>)> {
    let metric = id(caller, question.metric.clone());
    let periods =
        api.metric_data.periods(&metric, question.period_s, question.from, question.until, api.now());
    let of = |values: &Values| {
        let asked = question.statistics.iter();
        asked.filter_map(|statistic| Some((*statistic, values.statistic(*statistic)?))).collect()
    };
    periods.iter().map(|(at, values)| (*at, of(values))).collect()
}

fn statistics(api: &Api, caller: &Caller, question: &wire::Question, spoken: Wire) -> Value {
    let unit = api.metric_data.unit(&id(caller, question.metric.clone()));
    let points = answers(api, caller, question);
    let points = points.iter().map(|(at, values)| wire::datapoint(*at, values, unit.as_deref(), spoken));
    Object::new().with("Label", question.metric.name.as_str()).with("Datapoints", list(points)).into()
}

fn data(api: &Api, caller: &Caller, request: &wire::GetMetricData, spoken: Wire) -> Result<Value, ApiError> {
    let mut known =
        Answers { api, caller, request, found: BTreeMap::new(), computing: BTreeSet::new(), made: 0 };
    let mut results = Vec::new();
    for query in request.queries.iter().filter(|query| query.is_wanted) {
        let found = known.of_id(&query.id).and_then(|outcome| match outcome {
            Outcome::Series(series) => Ok(vec![series]),
            Outcome::Several(several) => Ok(several),
            Outcome::Number(_) => Err(MathError::new("it comes to a number, and not to a time series")),
        });
        let found = found.map_err(|error| {
            named("ValidationError", format!("Error in expression '{}': {error}.", query.id))
        })?;
        for series in found {
            let mut values: Vec<(Timestamp, f64)> = series.points.into_iter().collect();
            if request.newest_first {
                values.reverse();
            }
            results.push(wire::result(query, &values, spoken));
        }
    }
    Ok(Object::new().with("MetricDataResults", list(results)).with("Messages", list::<Value>([])).into())
}

/// What the queries of a request come to, each computed once.
struct Answers<'a> {
    api: &'a Api,
    caller: &'a Caller,
    request: &'a wire::GetMetricData,
    found: BTreeMap<&'a str, Outcome>,
    /// Those that wait for others: who is asked for again meanwhile is about itself.
    computing: BTreeSet<&'a str>,
    /// How many values formulas have made.
    made: usize,
}

impl Known for Answers<'_> {
    fn of_id(&mut self, id: &str) -> Result<Outcome, MathError> {
        let Some(query) = self.request.queries.iter().find(|query| query.id == id) else {
            return Err(MathError::new(format!("there is no query {id}")));
        };
        if let Some(found) = self.found.get(id) {
            return Ok(found.clone());
        }
        let outcome = match &query.asked {
            wire::Asked::Metric(question) => {
                let points = answers(self.api, self.caller, question).into_iter();
                let points = points.filter_map(|(at, values)| Some((at, values.first()?.1))).collect();
                Outcome::Series(Series { period_s: question.period_s, points })
            }
            wire::Asked::Formula(text) => {
                if !self.computing.insert(&query.id) {
                    return Err(MathError::new(format!("{id} is about itself")));
                }
                if self.computing.len() > FORMULAS_DEEP {
                    let why = format!("more than {FORMULAS_DEEP} expressions are about each other in a row");
                    return Err(MathError::new(why));
                }
                let outcome = Formula::parse(text)?.value(self)?;
                self.computing.remove(id);
                outcome
            }
        };
        self.found.insert(&query.id, outcome.clone());
        Ok(outcome)
    }

    fn metrics(&self) -> Vec<String> {
        let metrics =
            self.request.queries.iter().filter(|query| matches!(query.asked, wire::Asked::Metric(_)));
        metrics.map(|query| query.id.clone()).collect()
    }

    fn stretch(&self) -> (Timestamp, Timestamp) {
        (self.request.from, self.request.until)
    }

    fn made(&mut self, values: usize) -> usize {
        self.made += values;
        self.made
    }
}
