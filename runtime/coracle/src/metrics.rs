//! `/metrics`: what every room counts, in Prometheus' text format.
//!
//! The router counts requests as they pass. Everything else is read off the store, the agent and the
//! sandbox when somebody asks. Labels are clusters, services and families there are, at most
//! [`MAX_SERIES`] of them; what is past that is summed under `_other`. The series of a service go when
//! it has been deleted and its last task has stopped, those of a family when its last task is forgotten.
//!
//! Guests' own figures are among them, by the names they gave them. Labels `cluster` and `group` say whose they are; no
//! guest can set those, nor use a name that begins with `coracle_`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_agent::{Agent, BUCKETS, Figure, GuestFigure, UsageGroup};
use coracle_sandbox::{ArtifactCache, Engine};
use coracle_store::Store;
use coracle_types::{ClusterId, LastStatus, ServiceStatus, State, TaskGroup};
use prometheus::core::Collector as _;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{GaugeVec, Opts, Registry, TextEncoder};

/// At most this many label sets of one metric.
const MAX_SERIES: usize = 1_000;
/// What the rest is summed under.
const OTHER: &str = "_other";

/// The metrics of this process.
pub(crate) struct Metrics {
    registry: Registry,
    store: Arc<dyn Store>,
    agent: Arc<Agent>,
    engine: Engine,
    artifacts: ArtifactCache,
}

impl Metrics {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        agent: Arc<Agent>,
        engine: Engine,
        artifacts: ArtifactCache,
    ) -> Arc<Self> {
        Arc::new(Self { registry: Registry::new(), store, agent, engine, artifacts })
    }

    /// Where rooms register metrics they keep themselves.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self) -> String {
        let state = self.store.snapshot();
        let mut families = self.registry.gather();
        families.extend(tasks(&state));
        families.extend(self.usage(&state));
        families.extend(self.sandbox());
        families.extend(guest_families(self.agent.figures()));
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
            tracing::error!("cannot encode the metrics: {error}");
            String::new()
        })
    }

    fn usage(&self, state: &State) -> Vec<MetricFamily> {
        let known = known_groups(state);
        self.agent.retain_usage(|group| known.contains(group));
        let labels = ["cluster", "group"];
        let mut fuel = Series::new("coracle_fuel_used_total", "Fuel burned by guests.", &labels);
        let mut cpu =
            Series::new("coracle_cpu_seconds_total", "CPU time used by guests and on their behalf.", &labels);
        let mut starts =
            Series::new("coracle_cold_starts_total", "Instances created: each is a cold start.", &labels);
        let mut instances = Series::new("coracle_instances", "Instances alive.", &labels);
        let mut memory = Series::new("coracle_memory_bytes", "Memory held for guests.", &labels);
        let mut peak = Series::new("coracle_memory_peak_bytes", "The most any one task has held.", &labels);
        for (group, total) in self.agent.usage_totals() {
            let labels = [group.cluster.as_str(), group.group.as_str()];
            fuel.add(&labels, as_f64(total.fuel_used));
            cpu.add(&labels, total.cpu_time.as_secs_f64());
            starts.add(&labels, as_f64(total.instances_started));
            instances.add(&labels, as_f64(total.instances_live));
            memory.add(&labels, as_f64(total.memory_current));
            peak.max(&labels, as_f64(total.memory_peak));
        }
        [fuel, cpu, starts, instances, memory, peak].into_iter().flat_map(Series::finish).collect()
    }

    fn sandbox(&self) -> Vec<MetricFamily> {
        let cache = self.artifacts.stats();
        let mut prepared = Series::new(
            "coracle_artifacts_total",
            "Components prepared: found in memory, read from the artifact cache, or compiled.",
            &["from"],
        );
        prepared.add(&["memory"], as_f64(cache.memory_hits));
        prepared.add(&["disk"], as_f64(cache.disk_hits));
        prepared.add(&["compiler"], as_f64(cache.compiles));
        let engine = self.engine.stats();
        let mut pool = Series::new("coracle_pool_instances", "Slots of the instance pool.", &["state"]);
        pool.add(&["used"], f64::from(engine.live_instances));
        pool.add(&["capacity"], f64::from(engine.capacity));
        [prepared, pool].into_iter().flat_map(Series::finish).collect()
    }
}

fn tasks(state: &State) -> Vec<MetricFamily> {
    let mut counts: BTreeMap<(&str, &'static str), f64> = BTreeMap::new();
    for found in state.tasks.values() {
        let task = &found.value;
        *counts.entry((task.cluster.name.as_str(), status(task.last_status))).or_default() += 1.0;
    }
    let mut gauge = Series::new("coracle_tasks", "Tasks by their last status.", &["cluster", "status"]);
    for ((cluster, status), count) in &counts {
        gauge.add(&[cluster, status], *count);
    }
    gauge.finish()
}

/// Cluster and group of everything whose usage somebody may still ask for: tasks that are remembered,
/// and services, which may be without tasks for a while. When a service is deleted it counts no longer
/// what its tasks were; of a family there is nothing but tasks, and the last may be over between scrapes.
fn known_groups(state: &State) -> BTreeSet<UsageGroup> {
    let group = |cluster: &ClusterId, group: &TaskGroup| UsageGroup {
        cluster: cluster.name.clone(),
        group: group.to_string(),
    };
    let tasks = state
        .tasks
        .values()
        .map(|found| &found.value)
        .filter(|task| task.service().is_none() || task.last_status != LastStatus::Stopped)
        .map(|task| group(&task.cluster, &task.group));
    let services = state
        .services
        .iter()
        .filter(|(_, found)| found.value.status != ServiceStatus::Inactive)
        .map(|(id, _)| group(&id.cluster, &TaskGroup::Service(id.name.clone())));
    tasks.chain(services).collect()
}

/// One metric being filled, with a bound on its label sets.
struct Series {
    gauge: Option<GaugeVec>,
    labels: usize,
    sets: usize,
    counter: bool,
}

impl Series {
    fn new(name: &str, help: &str, labels: &[&str]) -> Self {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)
            .inspect_err(|error| tracing::error!("metric {name}: {error}"))
            .ok();
        Self { gauge, labels: labels.len(), sets: 0, counter: name.ends_with("_total") }
    }

    fn add(&mut self, labels: &[&str], value: f64) {
        if let Some(gauge) = self.gauge(labels) {
            gauge.add(value);
        }
    }

    fn max(&mut self, labels: &[&str], value: f64) {
        if let Some(gauge) = self.gauge(labels) {
            gauge.set(gauge.get().max(value));
        }
    }

    fn gauge(&mut self, labels: &[&str]) -> Option<prometheus::Gauge> {
        self.sets += 1;
        let others = vec![OTHER; self.labels];
        let labels = if self.sets > MAX_SERIES { &others } else { labels };
        self.gauge.as_ref()?.get_metric_with_label_values(labels).ok()
    }

    /// The filled metric, with the type its name promises; nothing if it has no values, because the
    /// encoder refuses the whole page for one empty metric.
    fn finish(self) -> Vec<MetricFamily> {
        let mut families = self.gauge.map(|gauge| gauge.collect()).unwrap_or_default();
        families.retain(|family| !family.get_metric().is_empty());
        if self.counter {
            families.iter_mut().for_each(into_counter);
        }
        families
    }
}

/// Gauges are filled because a counter can't be set; what only grows is published as a counter.
fn into_counter(family: &mut MetricFamily) {
    for metric in family.mut_metric() {
        let mut counter = Counter::default();
        counter.set_value(metric.get_gauge().get_value());
        metric.set_counter(counter);
    }
    family.set_field_type(MetricType::COUNTER);
}

/// What guests count of their own. A name has one type on the page, and two services may use one for a gauge and a
/// histogram; the histogram then says so in its name.
fn guest_families(figures: Vec<GuestFigure>) -> Vec<MetricFamily> {
    let gauges: BTreeSet<String> = figures
        .iter()
        .filter(|one| matches!(one.figure, Figure::Gauge(_)))
        .map(|one| one.name.clone())
        .collect();
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for one in figures {
        let is_histogram = matches!(one.figure, Figure::Histogram { .. });
        let name = if is_histogram && gauges.contains(&one.name) {
            format!("{}_histogram", one.name)
        } else {
            one.name
        };
        let mut metric = Metric::default();
        let kind = set_figure(&mut metric, &one.figure);
        let own =
            [("cluster".to_owned(), one.group.cluster.to_string()), ("group".to_owned(), one.group.group)];
        metric.set_label(own.into_iter().chain(one.labels).map(label_pair).collect());
        let family = families.entry(name).or_insert_with_key(|name| {
            let mut family = MetricFamily::default();
            family.set_name(name.clone());
            family.set_help("A figure of a service's own.".to_owned());
            family.set_field_type(kind);
            family
        });
        family.mut_metric().push(metric);
    }
    families.into_values().collect()
}

fn set_figure(metric: &mut Metric, figure: &Figure) -> MetricType {
    match figure {
        Figure::Counter(all) => {
            let mut counter = Counter::default();
            counter.set_value(*all);
            metric.set_counter(counter);
            MetricType::COUNTER
        }
        Figure::Gauge(now) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*now);
            metric.set_gauge(gauge);
            MetricType::GAUGE
        }
        Figure::Histogram { counts, count, sum } => {
            let buckets = counts.iter().zip(BUCKETS).map(|(&count, bound)| {
                let mut bucket = Bucket::default();
                bucket.set_cumulative_count(count);
                bucket.set_upper_bound(bound);
                bucket
            });
            let mut histogram = Histogram::default();
            histogram.set_bucket(buckets.collect());
            histogram.set_sample_count(*count);
            histogram.set_sample_sum(*sum);
            metric.set_histogram(histogram);
            MetricType::HISTOGRAM
        }
    }
}

fn label_pair((name, value): (String, String)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name);
    pair.set_value(value);
    pair
}

#[expect(clippy::cast_precision_loss, reason = "a metric is read to three digits")]
fn as_f64(value: u64) -> f64 {
    value as f64
}

fn status(status: LastStatus) -> &'static str {
    match status {
        LastStatus::Provisioning => "PROVISIONING",
        LastStatus::Pending => "PENDING",
        LastStatus::Activating => "ACTIVATING",
        LastStatus::Running => "RUNNING",
        LastStatus::Deactivating => "DEACTIVATING",
        LastStatus::Stopping => "STOPPING",
        LastStatus::Deprovisioning => "DEPROVISIONING",
        LastStatus::Stopped => "STOPPED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_without_values_does_not_spoil_the_page() {
        let mut some = Series::new("some_total", "Something.", &["name"]);
        some.add(&["a"], 1.0);
        let none = Series::new("none_total", "Nothing yet.", &["name"]);
        let families: Vec<_> = [none, some].into_iter().flat_map(Series::finish).collect();
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        assert!(text.contains("some_total{name=\"a\"} 1") && !text.contains("none_total"), "{text}");
    }

    #[test]
    fn guests_figures_have_their_service_on_them() {
        let of = |group: &str, name: &str, figure| GuestFigure {
            group: UsageGroup { cluster: "default".parse().unwrap(), group: group.to_owned() },
            name: name.to_owned(),
            labels: vec![("kind".to_owned(), "a\"b".to_owned())],
            figure,
        };
        let histogram = Figure::Histogram { counts: Box::new([1; BUCKETS.len()]), count: 2, sum: 3.5 };
        let families = guest_families(vec![
            of("service:shop", "orders_total", Figure::Counter(3.0)),
            of("family:job", "orders_total", Figure::Counter(1.0)),
            of("service:shop", "size", Figure::Gauge(2.0)),
            of("family:job", "size", histogram),
        ]);
        let text = TextEncoder::new().encode_to_string(&families).unwrap();
        for line in [
            "# TYPE orders_total counter",
            r#"orders_total{cluster="default",group="service:shop",kind="a\"b"} 3"#,
            r#"orders_total{cluster="default",group="family:job",kind="a\"b"} 1"#,
            "# TYPE size gauge",
            "# TYPE size_histogram histogram",
            r#"size_histogram_bucket{cluster="default",group="family:job",kind="a\"b",le="0.001"} 1"#,
            r#"size_histogram_bucket{cluster="default",group="family:job",kind="a\"b",le="+Inf"} 2"#,
            r#"size_histogram_sum{cluster="default",group="family:job",kind="a\"b"} 3.5"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn labels_are_bounded() {
        let mut series = Series::new("things_total", "Things.", &["name"]);
        for n in 0..MAX_SERIES + 5 {
            series.add(&[&n.to_string()], 1.0);
        }
        let text = TextEncoder::new().encode_to_string(&series.finish()).unwrap();
        assert!(text.contains("# TYPE things_total counter"));
        assert!(text.contains("things_total{name=\"_other\"} 5"));
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), MAX_SERIES + 1);
    }
}
