//! Figures that guests keep of their own, by service or family.
//!
//! They are kept here until somebody asks, as what tasks use is, and go when their group does. Every instance and every
//! task of a group writes the same ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_sandbox::{Metric, MetricKind, Metrics};
use parking_lot::Mutex;

use crate::usage::UsageGroup;

/// The most groups that have figures at the same time.
const MOST_GROUPS: usize = 1_000;
/// The most figures of a group, each combination of labels counted.
const MOST_FIGURES: usize = 200;
const MOST_LABELS: usize = 8;
/// The longest name of a figure or label, and the longest value of a label, in bytes.
const LONGEST: usize = 128;

/// The upper bounds of a histogram's buckets, the last of which is without any: from a millisecond to a minute, and on
/// for what is not measured in seconds.
pub const BUCKETS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 1e3, 1e6, 1e9];

/// What there is of one figure.
#[derive(Clone, Debug, PartialEq)]
pub enum Figure {
    /// The sum of what was added.
    Counter(f64),
    /// What was set last.
    Gauge(f64),
    /// What was observed.
    Histogram {
        /// How many observations are at most as large as each of [`BUCKETS`].
        counts: Box<[u64; BUCKETS.len()]>,
        /// How many there are in all.
        count: u64,
        /// Their sum.
        sum: f64,
    },
}

/// A figure, and what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct GuestFigure {
    /// Whose it is.
    pub group: UsageGroup,
    /// Its name, as Prometheus takes it.
    pub name: String,
    /// Its labels by name, as Prometheus takes them; `cluster` and `group` are not among them.
    pub labels: Vec<(String, String)>,
    /// Its value.
    pub figure: Figure,
}

type Key = (String, Vec<(String, String)>);

/// The figures of all groups.
#[derive(Default)]
pub(crate) struct Figures(Mutex<BTreeMap<UsageGroup, BTreeMap<Key, Figure>>>);

/// Where the guests of one group write.
struct Desk {
    figures: Arc<Figures>,
    group: UsageGroup,
}

impl Figures {
    /// Where the guests of a group write.
    pub(crate) fn desk(self: &Arc<Self>, group: UsageGroup) -> Arc<dyn Metrics> {
        Arc::new(Desk { figures: Arc::clone(self), group })
    }

    /// Forgets all but those of these groups.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&UsageGroup) -> bool) {
        self.0.lock().retain(|group, _| keep(group));
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<GuestFigure> {
        let groups = self.0.lock();
        let figures = groups.iter().flat_map(|(group, figures)| {
            figures.iter().map(|((name, labels), figure)| GuestFigure {
                group: group.clone(),
                name: name.clone(),
                labels: labels.clone(),
                figure: figure.clone(),
            })
        });
        figures.collect()
    }
}

impl Metrics for Desk {
    fn record(&self, metric: &Metric<'_>) -> Result<(), String> {
        check(metric)?;
        let mut labels = metric.labels.to_vec();
        labels.sort();
        if let Some(pair) = labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!("the label {:?} is there twice", pair[0].0));
        }
        let key = (metric.name.to_owned(), labels);
        let mut groups = self.figures.0.lock();
        if !groups.contains_key(&self.group) && groups.len() >= MOST_GROUPS {
            return Err(format!("{MOST_GROUPS} services have figures already"));
        }
        let figures = groups.entry(self.group.clone()).or_default();
        if let Some(figure) = figures.get_mut(&key) {
            return figure.take(metric);
        }
        if figures.len() >= MOST_FIGURES {
            return Err(format!(
                "the service has {MOST_FIGURES} figures already, each combination of labels counted"
            ));
        }
        let of_this_name = figures.range((metric.name.to_owned(), Vec::new())..).next();
        if let Some(((name, _), figure)) = of_this_name
            && name == metric.name
            && figure.kind() != metric.kind
        {
            return Err(wrong_kind(metric.name, figure.kind()));
        }
        let mut figure = Figure::new(metric.kind);
        figure.take(metric)?;
        figures.insert(key, figure);
        Ok(())
    }
}

impl Figure {
    fn new(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter(0.0),
            MetricKind::Gauge => Self::Gauge(0.0),
            MetricKind::Histogram => Self::Histogram { counts: Box::default(), count: 0, sum: 0.0 },
        }
    }

    fn kind(&self) -> MetricKind {
        match self {
            Self::Counter(_) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
            Self::Histogram { .. } => MetricKind::Histogram,
        }
    }

    fn take(&mut self, metric: &Metric<'_>) -> Result<(), String> {
        if self.kind() != metric.kind {
            return Err(wrong_kind(metric.name, self.kind()));
        }
        match self {
            Self::Counter(all) => *all += metric.value,
            Self::Gauge(now) => *now = metric.value,
            Self::Histogram { counts, count, sum } => {
                for (bucket, bound) in counts.iter_mut().zip(BUCKETS) {
                    *bucket += u64::from(metric.value <= bound);
                }
                *count += 1;
                *sum += metric.value;
            }
        }
        Ok(())
    }
}

fn wrong_kind(name: &str, kind: MetricKind) -> String {
    let kind = match kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    format!("{name:?} is a {kind} already")
}

/// Whether Prometheus would take it, and nobody would mistake it for one of Coracle's.
fn check(metric: &Metric<'_>) -> Result<(), String> {
    let name: String = metric.name.chars().take(LONGEST).collect();
    if !is_name(metric.name) {
        return Err(format!(
            "{name:?} is no name: letters, digits and _ are, not beginning with a digit, at most {LONGEST}"
        ));
    }
    if metric.name.starts_with("coracle_") {
        return Err(format!("{name:?}: names beginning with coracle_ are Coracle's own"));
    }
    if (metric.kind == MetricKind::Counter) != metric.name.ends_with("_total") {
        return Err(format!("{name:?}: the name of a counter ends in _total, and no other's does"));
    }
    if !metric.value.is_finite() || (metric.kind == MetricKind::Counter && metric.value < 0.0) {
        return Err(format!("{name:?} can't be {}", metric.value));
    }
    if metric.labels.len() > MOST_LABELS {
        return Err(format!("{name:?} has {} labels; it may have {MOST_LABELS}", metric.labels.len()));
    }
    for (label, value) in metric.labels {
        if !is_name(label) || label.starts_with("__") || matches!(label.as_str(), "cluster" | "group" | "le")
        {
            let label: String = label.chars().take(LONGEST).collect();
            return Err(format!("{name:?}: {label:?} can't be a label"));
        }
        if value.len() > LONGEST {
            return Err(format!(
                "{name:?}: a label's value has at most {LONGEST} bytes, and {label}'s has {}",
                value.len()
            ));
        }
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=LONGEST).contains(&text.len())
        && text.bytes().all(plain)
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> UsageGroup {
        UsageGroup { cluster: "default".parse().unwrap(), group: format!("service:{name}") }
    }

    fn record(
        desk: &dyn Metrics,
        kind: MetricKind,
        name: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) -> Result<(), String> {
        let labels: Vec<_> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        desk.record(&Metric { kind, name, labels: &labels, value })
    }

    #[test]
    fn figures_of_a_group_add_up() {
        let figures = Arc::<Figures>::default();
        for desk in [figures.desk(group("web")), figures.desk(group("web"))] {
            record(&*desk, MetricKind::Counter, "orders_total", &[("b", "2"), ("a", "1")], 1.5).unwrap();
            record(&*desk, MetricKind::Gauge, "queue", &[], 7.0).unwrap();
            record(&*desk, MetricKind::Histogram, "took_seconds", &[], 0.02).unwrap();
        }
        record(&*figures.desk(group("other")), MetricKind::Gauge, "queue", &[], 1.0).unwrap();
        let all = figures.all();
        let names: Vec<_> = all.iter().map(|one| (one.group.group.as_str(), one.name.as_str())).collect();
        let web = "service:web";
        assert_eq!(
            names,
            [("service:other", "queue"), (web, "orders_total"), (web, "queue"), (web, "took_seconds")]
        );
        assert_eq!(all[1].figure, Figure::Counter(3.0));
        assert_eq!(all[1].labels[0].0, "a");
        assert_eq!(all[2].figure, Figure::Gauge(7.0));
        let Figure::Histogram { counts, count, sum } = &all[3].figure else { panic!("{:?}", all[3]) };
        assert_eq!((counts[2], counts[3], *count, *sum), (0, 2, 2, 0.04));

        figures.retain(|group| group.group == "service:other");
        assert_eq!(figures.all().len(), 1);
    }

    #[test]
    fn what_prometheus_would_not_take_is_refused() {
        use MetricKind::{Counter, Gauge};
        let figures = Arc::<Figures>::default();
        let desk = figures.desk(group("web"));
        let long = "x".repeat(LONGEST + 1);
        for (kind, name, labels, value, why) in [
            (Gauge, "", &[][..], 1.0, "no name"),
            (Gauge, "a b", &[], 1.0, "no name"),
            (Gauge, "1a", &[], 1.0, "no name"),
            (Gauge, long.as_str(), &[], 1.0, "no name"),
            (Gauge, "coracle_tasks", &[], 1.0, "Coracle's own"),
            (Gauge, "a_total", &[], 1.0, "ends in _total"),
            (Counter, "a", &[], 1.0, "ends in _total"),
            (Counter, "a_total", &[], -1.0, "can't be -1"),
            (Gauge, "a", &[], f64::NAN, "can't be NaN"),
            (Gauge, "a", &[("le", "1")], 1.0, "can't be a label"),
            (Gauge, "a", &[("group", "1")], 1.0, "can't be a label"),
            (Gauge, "a", &[("b", "1"), ("b", "2")], 1.0, "twice"),
            (Gauge, "a", &[("b", long.as_str())], 1.0, "at most 128 bytes"),
        ] {
            let refused = record(&*desk, kind, name, labels, value).unwrap_err();
            assert!(refused.contains(why), "{name:?}: {refused}");
        }
        assert_eq!(figures.all(), []);

        record(&*desk, Gauge, "a", &[], 1.0).unwrap();
        let refused = record(&*desk, MetricKind::Histogram, "a", &[("b", "1")], 1.0).unwrap_err();
        assert!(refused.contains("is a gauge already"), "{refused}");
    }

    #[test]
    fn a_service_has_so_many_and_no_more() {
        let figures = Arc::<Figures>::default();
        let desk = figures.desk(group("web"));
        let results: Vec<_> = (0..MOST_FIGURES + 1)
            .map(|number| record(&*desk, MetricKind::Gauge, "a", &[("n", &number.to_string())], 1.0))
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), MOST_FIGURES);
        record(&*desk, MetricKind::Gauge, "a", &[("n", "0")], 2.0).unwrap();
    }
}
