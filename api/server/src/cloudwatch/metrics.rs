//! Metrics of one's own: values come in, and are listed and read.

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
        _ => Ok(data(api, caller, &wire::GetMetricData::decode(members)?, spoken)),
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

fn data(api: &Api, caller: &Caller, request: &wire::GetMetricData, spoken: Wire) -> Value {
    let results = request.queries.iter().map(|query| {
        let points = answers(api, caller, &query.question).into_iter();
        let mut values: Vec<(Timestamp, f64)> =
            points.filter_map(|(at, values)| Some((at, values.first()?.1))).collect();
        if request.newest_first {
            values.reverse();
        }
        wire::result(query, &values, spoken)
    });
    Object::new().with("MetricDataResults", list(results)).with("Messages", list::<Value>([])).into()
}
