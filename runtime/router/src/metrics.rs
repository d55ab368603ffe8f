//! What the router counts. Labels are those of services in the table, so their number is bounded by what
//! was deployed; all other requests count as `_unknown`. Handles are looked up when a table is published
//! and kept with the service: serving a request touches atomics only.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::model::LoadBalancer;
use crate::traffic::{Traffic, TrafficFamilies};

/// Stands for cluster and service where a request reached no service of the table.
pub(crate) const UNKNOWN: &str = "_unknown";

/// What a request is counted as when the client left before there was a response to count: the status
/// an Application Load Balancer logs for it.
pub(crate) const CLIENT_CLOSED: u16 = 460;

/// Upper bounds in seconds. A component answers in tens of microseconds, a slow one in seconds.
pub(crate) const DURATION_BUCKETS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 60.0,
];

/// The router's metric families.
#[derive(Clone)]
pub(crate) struct Metrics {
    services: Families,
    target_groups: Families,
    hosts: HostFamilies,
    pub(crate) traffic: TrafficFamilies,
    pub(crate) connections: IntGauge,
    /// Entries of the access log that were dropped, as the disk was too slow.
    pub(crate) log_dropped: IntCounter,
}

/// How many targets are well, under the names and dimensions CloudWatch has for it.
#[derive(Clone)]
struct HostFamilies {
    healthy: IntGaugeVec,
    unhealthy: IntGaugeVec,
}

impl HostFamilies {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let family = |name, help| {
            let family = IntGaugeVec::new(Opts::new(name, help), &["LoadBalancer", "TargetGroup"])?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        Ok(Self {
            healthy: family("HealthyHostCount", "Targets that are healthy.")?,
            unhealthy: family("UnHealthyHostCount", "Targets that are unhealthy.")?,
        })
    }
}

/// The numbers of healthy and unhealthy targets of one target group; gone when this is dropped.
pub(crate) struct HostCounts {
    families: HostFamilies,
    labels: [String; 2],
    healthy: IntGauge,
    unhealthy: IntGauge,
}

impl HostCounts {
    pub(crate) fn set(&self, healthy: usize, unhealthy: usize) {
        let count = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.healthy.set(count(healthy));
        self.unhealthy.set(count(unhealthy));
    }
}

impl Drop for HostCounts {
    fn drop(&mut self) {
        let labels = [self.labels[0].as_str(), self.labels[1].as_str()];
        // Failing means that there is no such series, which is what is wanted.
        let _ = self.families.healthy.remove_label_values(&labels);
        let _ = self.families.unhealthy.remove_label_values(&labels);
    }
}

/// The part of an ARN that CloudWatch has as a dimension: `app/name/id`, `targetgroup/name/id`.
pub(crate) fn dimension(arn: &str) -> &str {
    let resource = arn.rsplit(':').next().unwrap_or(arn);
    resource.strip_prefix("loadbalancer/").unwrap_or(resource)
}

/// What is counted of each service, or of each target group.
#[derive(Clone)]
struct Families {
    requests: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
}

impl Families {
    /// Families whose series differ by two labels.
    fn new(registry: &Registry, prefix: &str, labels: [&str; 2]) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new(
                format!("{prefix}_requests_total"),
                "Requests answered, by status code; 460 means that the client left before the answer.",
            ),
            &[labels[0], labels[1], "code"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new(
                format!("{prefix}_request_duration_seconds"),
                "Time from a request's head to the end of its response.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &labels,
        )?;
        let in_flight = IntGaugeVec::new(
            Opts::new(format!("{prefix}_in_flight"), "Requests whose responses have not ended."),
            &labels,
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        Ok(Self { requests, duration, in_flight })
    }

    fn series(&self, labels: [&str; 2], traffic: Option<Traffic>) -> Arc<Series> {
        Arc::new(Series {
            traffic,
            families: self.clone(),
            labels: labels.map(str::to_owned),
            codes: Default::default(),
            counted: Mutex::new(Some(Vec::new())),
            duration: self.duration.with_label_values(&labels),
            in_flight: self.in_flight.with_label_values(&labels),
        })
    }
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let services = Families::new(registry, "coracle_router", ["cluster", "service"])?;
        let target_groups =
            Families::new(registry, "coracle_target_group", ["load_balancer", "target_group"])?;
        let connections = IntGauge::new("coracle_router_connections", "Client connections that are open.")?;
        registry.register(Box::new(connections.clone()))?;
        let log_dropped = IntCounter::new(
            "coracle_router_access_log_dropped_total",
            "Requests missing from the access log, as it could not be written as fast as they came.",
        )?;
        registry.register(Box::new(log_dropped.clone()))?;
        let hosts = HostFamilies::new(registry)?;
        let traffic = TrafficFamilies::new(registry)?;
        Ok(Self { services, target_groups, hosts, traffic, connections, log_dropped })
    }

    /// The series of one service. Services of one name in several regions share them.
    pub(crate) fn service(&self, cluster: &str, service: &str) -> Arc<Series> {
        self.services.series([cluster, service], None)
    }

    /// The numbers of targets of a group behind a load balancer, by their ARNs.
    pub(crate) fn hosts(&self, load_balancer: &str, target_group: &str) -> HostCounts {
        let labels = [dimension(load_balancer), dimension(target_group)];
        HostCounts {
            healthy: self.hosts.healthy.with_label_values(&labels),
            unhealthy: self.hosts.unhealthy.with_label_values(&labels),
            labels: labels.map(str::to_owned),
            families: self.hosts.clone(),
        }
    }

    /// The series of one target group; `_unknown` stands for requests a listener answers itself.
    pub(crate) fn target_group(&self, load_balancer: &LoadBalancer, name: &str, arn: &str) -> Arc<Series> {
        let traffic = self.traffic.series(&load_balancer.id, arn);
        self.target_groups.series([&load_balancer.name, name], Some(traffic))
    }
}

/// The counters of a hundred status codes, each made when it is first needed.
type CodeClass = Box<[OnceLock<IntCounter>; 100]>;

/// Handles to the series of one service or target group.
pub(crate) struct Series {
    families: Families,
    labels: [String; 2],
    /// Counters of 1xx to 5xx, by class and then by code: two loads to reach one.
    codes: [OnceLock<CodeClass>; 5],
    /// The codes that have a series, so that they can be dropped; `None` once they were.
    counted: Mutex<Option<Vec<u16>>>,
    duration: Histogram,
    pub(crate) in_flight: IntGauge,
    /// What CloudWatch has names for; services have none.
    pub(crate) traffic: Option<Traffic>,
}

impl Series {
    /// Counts one answer. Codes outside 100 to 599, which only a guest can make up, count as 599.
    pub(crate) fn answered(&self, code: u16) {
        let code = if (100..600).contains(&code) { code } else { 599 };
        let class = self.codes[usize::from(code / 100) - 1]
            .get_or_init(|| Box::new([const { OnceLock::new() }; 100]));
        let counter = &class[usize::from(code % 100)];
        if let Some(counter) = counter.get().or_else(|| self.first(code, counter)) {
            counter.inc();
        }
    }

    pub(crate) fn ended(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    /// Makes the series of a code that is counted for the first time. A request that outlives its
    /// service's series must not bring them back, hence the lock.
    #[cold]
    fn first<'a>(&self, code: u16, counter: &'a OnceLock<IntCounter>) -> Option<&'a IntCounter> {
        let mut counted = self.counted.lock();
        let counted = counted.as_mut()?;
        Some(counter.get_or_init(|| {
            counted.push(code);
            let code = code.to_string();
            let [first, second] = &self.labels;
            self.families.requests.with_label_values(&[first, second, &code])
        }))
    }

    /// Drops the series: what they are about has left the table.
    pub(crate) fn retire(&self) {
        if let Some(traffic) = &self.traffic {
            traffic.retire();
        }
        let labels = [self.labels[0].as_str(), self.labels[1].as_str()];
        for code in self.counted.lock().take().unwrap_or_default() {
            let code = code.to_string();
            // Failing means that there is no such series, which is what is wanted.
            let _ = self.families.requests.remove_label_values(&[labels[0], labels[1], &code]);
        }
        let _ = self.families.duration.remove_label_values(&labels);
        let _ = self.families.in_flight.remove_label_values(&labels);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::exposition;

    #[test]
    fn dimensions_are_what_cloudwatch_has() {
        let arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/web/0123456789abcdef";
        assert_eq!(dimension(arn), "app/web/0123456789abcdef");
        let arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/blue/0123456789abcdef";
        assert_eq!(dimension(arn), "targetgroup/blue/0123456789abcdef");
    }

    #[test]
    fn series_come_with_use_and_go_with_the_service() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).unwrap();
        let web = metrics.service("default", "web");
        web.answered(200);
        web.answered(200);
        web.answered(503);
        web.answered(999);
        web.ended(Duration::from_millis(3));
        let text = exposition(&registry);
        for line in [
            r#"coracle_router_requests_total{cluster="default",code="200",service="web"} 2"#,
            r#"coracle_router_requests_total{cluster="default",code="503",service="web"} 1"#,
            r#"coracle_router_requests_total{cluster="default",code="599",service="web"} 1"#,
            r#"coracle_router_request_duration_seconds_count{cluster="default",service="web"} 1"#,
            r#"coracle_router_request_duration_seconds_bucket{cluster="default",service="web",le="0.005"} 1"#,
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }

        web.retire();
        web.answered(200);
        web.answered(404);
        assert!(!exposition(&registry).contains("web"), "{}", exposition(&registry));
    }
}
