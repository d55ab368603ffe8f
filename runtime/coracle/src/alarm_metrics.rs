//! What alarms can watch, under CloudWatch's names: the router's counters, and what tasks use.
//!
//! | namespace | dimensions | metrics |
//! |---|---|---|
//! | `AWS/ApplicationELB` | `LoadBalancer`, `TargetGroup`, or both | what `/metrics` has under those names: `RequestCount`, `HTTPCode_Target_5XX_Count`, `TargetResponseTime`, `UnHealthyHostCount`, … |
//! | `AWS/ECS` | `ClusterName` and `ServiceName` | `CPUUtilization`, `MemoryUtilization`: of what the tasks reserve, in percent |
//! | `Coracle/Router` | `ClusterName` and `ServiceName` | `RequestCount`, `HTTPCode_Target_2XX_Count` to `5XX`, `TargetResponseTime`: of services that are reached by their names |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use coracle_agent::{Agent, UsageGroup, UsageTotals};
use coracle_control::alarms::{Histogram, MetricSource, Reading};
use coracle_store::Store;
use coracle_types::{ClusterId, LastStatus, Region, ServiceId, TaskGroup, WatchedMetric};
use prometheus::Registry;
use prometheus::proto::{Metric, MetricFamily, MetricType};

/// The metrics of this process, for alarms.
pub(crate) struct AlarmMetrics {
    registry: Registry,
    store: Arc<dyn Store>,
    agent: Arc<Agent>,
    /// CPU time used when it was last asked for, and when that was.
    used: Mutex<BTreeMap<UsageGroup, (Duration, Instant)>>,
}

impl AlarmMetrics {
    pub(crate) fn new(registry: Registry, store: Arc<dyn Store>, agent: Arc<Agent>) -> Self {
        Self { registry, store, agent, used: Mutex::default() }
    }

    /// What a service's tasks use, in percent of what they reserve. CPU is what was used since it was last asked.
    fn utilization(&self, region: &Region, metric: &WatchedMetric, usage: &Usage) -> Option<Reading> {
        let dimension = |name: &str| metric.dimensions.get(name).map(String::as_str);
        let (cluster, service) = (dimension("ClusterName")?, dimension("ServiceName")?);
        if metric.dimensions.len() != 2 {
            return None;
        }
        let id = ServiceId {
            cluster: ClusterId { region: region.clone(), name: cluster.parse().ok()? },
            name: service.parse().ok()?,
        };
        let state = self.store.snapshot();
        let running = state.tasks_of(&id).filter(|task| task.last_status == LastStatus::Running);
        let (cpu_units, memory_mib) = running.fold((0.0, 0.0), |(cpu, memory), task| {
            (cpu + f64::from(task.cpu), memory + f64::from(task.memory))
        });
        let group =
            UsageGroup { cluster: id.cluster.name.clone(), group: TaskGroup::Service(id.name).to_string() };
        let used = usage.totals.get(&group)?;
        let percent = |used: f64, of: f64| (of > 0.0).then(|| Reading::Gauge(100.0 * used / of));
        match metric.metric.as_str() {
            #[expect(clippy::cast_precision_loss, reason = "a percentage needs no 53 bits")]
            "MemoryUtilization" => percent(used.memory_current as f64, memory_mib * f64::from(1 << 20)),
            "CPUUtilization" => {
                let (before, since) = usage.before.get(&group)?;
                let cores = used.cpu_time.saturating_sub(*before).as_secs_f64()
                    / usage.now.saturating_duration_since(*since).as_secs_f64().max(0.001);
                percent(cores, cpu_units / 1024.0)
            }
            _ => None,
        }
    }

    fn usage(&self) -> Usage {
        let totals = self.agent.usage_totals();
        let now = Instant::now();
        let cpu_times = totals.iter().map(|(group, used)| (group.clone(), (used.cpu_time, now))).collect();
        let mut known = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        Usage { totals, now, before: std::mem::replace(&mut *known, cpu_times) }
    }
}

/// What tasks use, now and when it was last asked for.
struct Usage {
    totals: BTreeMap<UsageGroup, UsageTotals>,
    now: Instant,
    before: BTreeMap<UsageGroup, (Duration, Instant)>,
}

impl MetricSource for AlarmMetrics {
    fn read(&self, metrics: &[(&Region, &WatchedMetric)]) -> Vec<Option<Reading>> {
        let any = |namespace: &str| metrics.iter().any(|(_, metric)| metric.namespace == namespace);
        let counts = any("AWS/ApplicationELB") || any("Coracle/Router");
        let families = if counts { self.registry.gather() } else { Vec::new() };
        let usage = any("AWS/ECS").then(|| self.usage());
        let readings = metrics.iter().map(|(region, metric)| match metric.namespace.as_str() {
            "AWS/ApplicationELB" => load_balancing(&families, metric),
            "Coracle/Router" => by_name(&families, metric),
            "AWS/ECS" => self.utilization(region, metric, usage.as_ref()?),
            _ => None,
        });
        readings.collect()
    }
}

fn load_balancing(families: &[MetricFamily], watched: &WatchedMetric) -> Option<Reading> {
    let known = ["LoadBalancer", "TargetGroup"];
    if watched.dimensions.is_empty() || !watched.dimensions.keys().all(|name| known.contains(&name.as_str()))
    {
        return None;
    }
    let found = sum(families, &watched.metric, |label| {
        watched.dimensions.iter().all(|(name, value)| label(name) == Some(value.as_str()))
    });
    // What has never happened has no series yet.
    // Hosts and open connections are gauges.
    let is_gauge = watched.metric.ends_with("HostCount") || watched.metric == "ActiveConnectionCount";
    let counts = watched.metric.ends_with("Count") && !is_gauge;
    found.or_else(|| counts.then_some(Reading::Count(0.0)))
}

/// A service's numbers, whichever way its requests come.
fn by_name(families: &[MetricFamily], watched: &WatchedMetric) -> Option<Reading> {
    let dimension = |name: &str| watched.dimensions.get(name).map(String::as_str);
    let (cluster, service) = (dimension("ClusterName")?, dimension("ServiceName")?);
    if watched.dimensions.len() != 2 {
        return None;
    }
    let is_its = |label: &Label<'_>| label("cluster") == Some(cluster) && label("service") == Some(service);
    if watched.metric == "TargetResponseTime" {
        return sum(families, "coracle_router_request_duration_seconds", is_its);
    }
    let class = match watched.metric.as_str() {
        "RequestCount" => "",
        metric => {
            let class = metric.strip_prefix("HTTPCode_Target_")?.strip_suffix("XX_Count")?;
            ["2", "3", "4", "5"].into_iter().find(|known| *known == class)?
        }
    };
    let found = sum(families, "coracle_router_requests_total", |label| {
        is_its(label) && label("code").is_some_and(|code| code.starts_with(class))
    });
    found.or(Some(Reading::Count(0.0)))
}

/// The value of a series' label.
type Label<'a> = dyn Fn(&str) -> Option<&'a str> + 'a;

/// A family's series whose labels fit, taken together; None if there are none.
fn sum(families: &[MetricFamily], name: &str, fits: impl Fn(&Label<'_>) -> bool) -> Option<Reading> {
    let family = families.iter().find(|family| family.name() == name)?;
    let kind = family.get_field_type();
    let series = family.get_metric().iter().filter(|metric| fits(&|name| label(metric, name)));
    series.map(|metric| reading(kind, metric)).reduce(add)
}

fn label<'a>(metric: &'a Metric, name: &str) -> Option<&'a str> {
    metric.get_label().iter().find(|pair| pair.name() == name).map(|pair| pair.value())
}

fn reading(kind: MetricType, metric: &Metric) -> Reading {
    match kind {
        MetricType::COUNTER => Reading::Count(metric.get_counter().get_value()),
        MetricType::HISTOGRAM => {
            let histogram = metric.get_histogram();
            let known = histogram.get_bucket().iter();
            let mut buckets: Vec<(f64, u64)> =
                known.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
            if buckets.last().is_none_or(|(bound, _)| bound.is_finite()) {
                buckets.push((f64::INFINITY, histogram.get_sample_count()));
            }
            Reading::Histogram(Histogram { sum: histogram.get_sample_sum(), buckets })
        }
        _ => Reading::Gauge(metric.get_gauge().get_value()),
    }
}

/// Two series of one family together.
fn add(one: Reading, other: Reading) -> Reading {
    match (one, other) {
        (Reading::Count(one), Reading::Count(other)) => Reading::Count(one + other),
        (Reading::Gauge(one), Reading::Gauge(other)) => Reading::Gauge(one + other),
        (Reading::Histogram(one), Reading::Histogram(other)) => {
            let counts = one.buckets.iter().zip(&other.buckets);
            let buckets = counts.map(|((bound, one), (_, other))| (*bound, one + other)).collect();
            Reading::Histogram(Histogram { sum: one.sum + other.sum, buckets })
        }
        // A family is of one kind.
        (one, _) => one,
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts};

    use super::*;

    fn watched(namespace: &str, metric: &str, dimensions: &[(&str, &str)]) -> WatchedMetric {
        let dimensions =
            dimensions.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        WatchedMetric {
            namespace: namespace.to_owned(),
            metric: metric.to_owned(),
            dimensions,
            statistic: coracle_types::alarm::Statistic::Sum,
            period_s: 60,
            evaluation_periods: 1,
            datapoints_to_alarm: 1,
            threshold: 1.0,
            comparison: coracle_types::alarm::Comparison::GreaterThan,
            missing_data: Default::default(),
        }
    }

    #[test]
    fn series_are_found_by_dimensions_and_summed() {
        let registry = Registry::new();
        let labels = ["LoadBalancer", "TargetGroup"];
        let requests = IntCounterVec::new(Opts::new("RequestCount", "x"), &labels).unwrap();
        let times = HistogramOpts::new("TargetResponseTime", "x").buckets(vec![0.1, 1.0]);
        let times = HistogramVec::new(times, &labels).unwrap();
        registry.register(Box::new(requests.clone())).unwrap();
        registry.register(Box::new(times.clone())).unwrap();
        for (group, count) in [("blue", 3), ("green", 4)] {
            requests.with_label_values(&["app/web/1", group]).inc_by(count);
            times.with_label_values(&["app/web/1", group]).observe(0.5);
        }
        let families = registry.gather();
        let read = |metric, dimensions: &[(&str, &str)]| {
            load_balancing(&families, &watched("AWS/ApplicationELB", metric, dimensions))
        };
        assert_eq!(read("RequestCount", &[("TargetGroup", "blue")]), Some(Reading::Count(3.0)));
        assert_eq!(read("RequestCount", &[("LoadBalancer", "app/web/1")]), Some(Reading::Count(7.0)));
        assert_eq!(read("RequestCount", &[("TargetGroup", "none")]), Some(Reading::Count(0.0)));
        assert_eq!(read("HTTPCode_Target_5XX_Count", &[("TargetGroup", "blue")]), Some(Reading::Count(0.0)));
        assert_eq!(read("HealthyHostCount", &[("TargetGroup", "blue")]), None);
        assert_eq!(read("RequestCount", &[]), None);
        assert_eq!(read("RequestCount", &[("AvailabilityZone", "a")]), None);
        let times = read("TargetResponseTime", &[("LoadBalancer", "app/web/1")]);
        let buckets = vec![(0.1, 0), (1.0, 2), (f64::INFINITY, 2)];
        assert_eq!(times, Some(Reading::Histogram(Histogram { sum: 1.0, buckets })));
    }

    #[test]
    fn services_are_found_by_name() {
        let registry = Registry::new();
        let labels = ["cluster", "service", "code"];
        let requests = IntCounterVec::new(Opts::new("coracle_router_requests_total", "x"), &labels).unwrap();
        registry.register(Box::new(requests.clone())).unwrap();
        for (code, count) in [("200", 5), ("502", 2), ("503", 1)] {
            requests.with_label_values(&["default", "web", code]).inc_by(count);
        }
        let families = registry.gather();
        let its = [("ClusterName", "default"), ("ServiceName", "web")];
        let read = |metric| by_name(&families, &watched("Coracle/Router", metric, &its));
        assert_eq!(read("RequestCount"), Some(Reading::Count(8.0)));
        assert_eq!(read("HTTPCode_Target_5XX_Count"), Some(Reading::Count(3.0)));
        assert_eq!(read("HTTPCode_Target_4XX_Count"), Some(Reading::Count(0.0)));
        assert_eq!(read("HTTPCode_Target_9XX_Count"), None);
    }
}
