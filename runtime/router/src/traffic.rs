//! What CloudWatch counts of load balancers and target groups, under its names and dimensions.
//!
//! A target group's series have both dimensions. What a listener answers without a target group has an
//! empty `TargetGroup`; so a load balancer's own number is the sum over its target groups, as usual with
//! Prometheus. Connections belong to the load balancer alone.

use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::metrics::{DURATION_BUCKETS, dimension};

const DIMENSIONS: [&str; 2] = ["LoadBalancer", "TargetGroup"];

/// Answers by the class of their status. Of the router's own there is no 2XX, but for fixed responses,
/// which CloudWatch does not count here either.
const TARGET_CLASSES: [&str; 4] = [
    "HTTPCode_Target_2XX_Count",
    "HTTPCode_Target_3XX_Count",
    "HTTPCode_Target_4XX_Count",
    "HTTPCode_Target_5XX_Count",
];
const OWN_CLASSES: [&str; 3] = ["HTTPCode_ELB_3XX_Count", "HTTPCode_ELB_4XX_Count", "HTTPCode_ELB_5XX_Count"];

/// Statuses of the router's own that are counted one by one, too.
const OWN_CODES: [(u16, &str); 4] = [
    (500, "HTTPCode_ELB_500_Count"),
    (502, "HTTPCode_ELB_502_Count"),
    (503, "HTTPCode_ELB_503_Count"),
    (504, "HTTPCode_ELB_504_Count"),
];

/// The metric families.
#[derive(Clone)]
pub(crate) struct TrafficFamilies {
    requests: IntCounterVec,
    by_target: [IntCounterVec; 4],
    own: [IntCounterVec; 3],
    own_codes: [IntCounterVec; 4],
    response_time: HistogramVec,
    connection_errors: IntCounterVec,
    connections: IntGaugeVec,
    new_connections: IntCounterVec,
    tls_errors: IntCounterVec,
}

impl TrafficFamilies {
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok::<_, prometheus::Error>(family)
        };
        let by_target = |name| counter(name, "Answers that came from targets.", &DIMENSIONS);
        let own = |name| counter(name, "Answers that the load balancer gave itself.", &DIMENSIONS);
        let response_time = HistogramVec::new(
            HistogramOpts::new(
                "TargetResponseTime",
                "Seconds from a request's being given to a target to the head of its answer.",
            )
            .buckets(DURATION_BUCKETS.to_vec()),
            &DIMENSIONS,
        )?;
        registry.register(Box::new(response_time.clone()))?;
        let connections = IntGaugeVec::new(
            Opts::new("ActiveConnectionCount", "Client connections that are open."),
            &DIMENSIONS[..1],
        )?;
        registry.register(Box::new(connections.clone()))?;
        let [a, b, c, d] = TARGET_CLASSES;
        let [e, f, g] = OWN_CLASSES;
        let [h, i, j, k] = OWN_CODES.map(|(_, name)| name);
        Ok(Self {
            requests: counter("RequestCount", "Requests for which there was a target.", &DIMENSIONS)?,
            by_target: [by_target(a)?, by_target(b)?, by_target(c)?, by_target(d)?],
            own: [own(e)?, own(f)?, own(g)?],
            own_codes: [own(h)?, own(i)?, own(j)?, own(k)?],
            response_time,
            connection_errors: counter(
                "TargetConnectionErrorCount",
                "Connections to targets that could not be made.",
                &DIMENSIONS,
            )?,
            connections,
            new_connections: counter(
                "NewConnectionCount",
                "Client connections that were accepted.",
                &DIMENSIONS[..1],
            )?,
            tls_errors: counter(
                "ClientTLSNegotiationErrorCount",
                "Client connections that did not agree on TLS.",
                &DIMENSIONS[..1],
            )?,
        })
    }

    /// The series of a target group of a load balancer, by their ARNs; an empty target group stands for
    /// none.
    pub(crate) fn series(&self, load_balancer: &str, target_group: &str) -> Traffic {
        let labels = [dimension(load_balancer), dimension(target_group)];
        let of = |family: &IntCounterVec| family.with_label_values(&labels);
        Traffic {
            requests: of(&self.requests),
            by_target: self.by_target.each_ref().map(of),
            own: self.own.each_ref().map(of),
            own_codes: self.own_codes.each_ref().map(of),
            response_time: self.response_time.with_label_values(&labels),
            connection_errors: of(&self.connection_errors),
            labels: labels.map(str::to_owned),
            families: self.clone(),
        }
    }

    /// The series of a load balancer's connections, by its ARN.
    pub(crate) fn connections(&self, load_balancer: &str) -> Connections {
        let label = [dimension(load_balancer)];
        Connections {
            active: self.connections.with_label_values(&label),
            new: self.new_connections.with_label_values(&label),
            tls_errors: self.tls_errors.with_label_values(&label),
            label: label[0].to_owned(),
            families: self.clone(),
        }
    }
}

/// The series of one target group.
pub(crate) struct Traffic {
    families: TrafficFamilies,
    labels: [String; 2],
    requests: IntCounter,
    by_target: [IntCounter; 4],
    own: [IntCounter; 3],
    own_codes: [IntCounter; 4],
    response_time: Histogram,
    connection_errors: IntCounter,
}

impl Traffic {
    /// A target has answered by this status after that time.
    pub(crate) fn answered(&self, status: u16, took: Duration) {
        self.requests.inc();
        self.response_time.observe(took.as_secs_f64());
        if let Some(class) = class(status, 2).and_then(|class| self.by_target.get(class)) {
            class.inc();
        }
    }

    /// The router has answered itself; `had_target` if there was one.
    pub(crate) fn refused(&self, status: u16, had_target: bool) {
        if had_target {
            self.requests.inc();
        }
        if let Some(class) = class(status, 3).and_then(|class| self.own.get(class)) {
            class.inc();
        }
        for ((code, _), counter) in OWN_CODES.iter().zip(&self.own_codes) {
            if *code == status {
                counter.inc();
            }
        }
    }

    pub(crate) fn could_not_connect(&self) {
        self.connection_errors.inc();
    }

    /// Drops the series: the target group is no longer the load balancer's. Requests that are still in
    /// flight count for nobody.
    pub(crate) fn retire(&self) {
        let labels = [self.labels[0].as_str(), self.labels[1].as_str()];
        let families = &self.families;
        let counters = [&families.requests, &families.connection_errors]
            .into_iter()
            .chain(&families.by_target)
            .chain(&families.own)
            .chain(&families.own_codes);
        for family in counters {
            // Failing means that there is no such series, which is what is wanted.
            let _ = family.remove_label_values(&labels);
        }
        let _ = families.response_time.remove_label_values(&labels);
    }
}

/// The place of a status's class, where that of `first` is 0.
fn class(status: u16, first: u16) -> Option<usize> {
    (status / 100).checked_sub(first).map(usize::from)
}

/// The series of a load balancer's connections.
pub(crate) struct Connections {
    families: TrafficFamilies,
    label: String,
    active: IntGauge,
    new: IntCounter,
    tls_errors: IntCounter,
}

impl Connections {
    pub(crate) fn opened(&self) {
        self.new.inc();
        self.active.inc();
    }

    pub(crate) fn closed(&self) {
        self.active.dec();
    }

    pub(crate) fn did_not_agree_on_tls(&self) {
        self.tls_errors.inc();
    }

    /// Drops the series: the load balancer is gone.
    pub(crate) fn retire(&self) {
        let label = [self.label.as_str()];
        let _ = self.families.connections.remove_label_values(&label);
        let _ = self.families.new_connections.remove_label_values(&label);
        let _ = self.families.tls_errors.remove_label_values(&label);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::exposition;

    #[test]
    fn answers_count_under_cloudwatchs_names() {
        let registry = Registry::new();
        let families = TrafficFamilies::new(&registry).unwrap();
        let traffic = families.series(
            "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/my/50dc",
            "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/6d0e",
        );
        traffic.answered(204, Duration::from_millis(3));
        traffic.answered(503, Duration::from_millis(3));
        traffic.refused(502, true);
        traffic.refused(404, false);
        traffic.could_not_connect();
        let connections = families.connections("loadbalancer/app/my/50dc");
        connections.opened();
        let text = exposition(&registry);
        let labels = r#"{LoadBalancer="app/my/50dc",TargetGroup="targetgroup/web/6d0e"}"#;
        for (name, count) in [
            ("RequestCount", 3),
            ("HTTPCode_Target_2XX_Count", 1),
            ("HTTPCode_Target_5XX_Count", 1),
            ("HTTPCode_ELB_5XX_Count", 1),
            ("HTTPCode_ELB_502_Count", 1),
            ("HTTPCode_ELB_4XX_Count", 1),
            ("TargetConnectionErrorCount", 1),
            ("TargetResponseTime_count", 2),
        ] {
            assert!(text.contains(&format!("{name}{labels} {count}\n")), "{name}: {text}");
        }
        assert!(text.contains("ActiveConnectionCount{LoadBalancer=\"app/my/50dc\"} 1\n"), "{text}");
        traffic.retire();
        connections.retire();
        assert!(!exposition(&registry).contains("50dc"), "{}", exposition(&registry));
    }
}
