//! What a run of benches found: plain data, the same in the JSON file, on the terminal and in the HTML page.
//!
//! A report holds benches, a bench holds tables, a table holds rows that share one unit and so one chart.
//! Whoever reads it later needs to know nothing of the benches.

mod chart;
mod compare;
mod html;
mod text;
mod units;

use serde::{Deserialize, Serialize};

pub use compare::compare;
pub use html::page;
pub use text::print_bench;
pub use units::Unit;

use crate::machine::Machine;
use crate::stats::{Percentiles, median, spread};

/// The version of this form. Raised when an older program could misread it.
pub const FORMAT: u32 = 1;

/// Everything one run found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// Seconds since 1970 when the run began.
    pub began_at: u64,
    /// The command line.
    pub command: String,
    /// How thorough it was.
    pub mode: Mode,
    /// Where it ran.
    pub machine: Machine,
    /// What was run, in that order.
    pub benches: Vec<BenchResult>,
}

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Enough for figures.
    Full,
    /// Just enough to see that everything still runs. Its figures promise nothing.
    Quick,
    /// A debug build, which promises less than nothing.
    Debug,
}

/// What one bench found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchResult {
    /// Its name on the command line.
    pub name: String,
    /// What it measures, in a line.
    pub about: String,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What it measured.
    pub findings: Findings,
    /// Why it did not come to its end.
    #[serde(default)]
    pub failed: Option<String>,
}

/// What a bench answers with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// One table for each question.
    pub tables: Vec<Table>,
    /// What could not be measured here.
    pub left_out: Vec<LeftOut>,
    /// What a reader should know, a sentence each.
    pub notes: Vec<String>,
}

impl Findings {
    /// Says that something is not measured, why, and what would help.
    pub fn leave_out(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left_out.push(LeftOut { what: what.into(), why: why.into() });
    }
}

/// A row that is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftOut {
    /// What it would have been.
    pub what: String,
    /// Why it is missing, and how to get it.
    pub why: String,
}

/// Rows with one unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Unique within the bench and stable between versions: by this, reports are compared.
    pub id: String,
    /// The question it answers.
    pub title: String,
    /// What exactly is measured, from where to where.
    pub measured: String,
    /// What its figures count.
    pub unit: Unit,
    /// Which way is ahead.
    pub better: Better,
    /// How its chart is drawn.
    pub scale: Scale,
    /// The rows, in the order they are shown.
    pub rows: Vec<Row>,
    /// Ratios between rows, each from one run.
    #[serde(default)]
    pub ratios: Vec<Ratio>,
}

impl Table {
    /// A table without rows; lower is better, on a log scale.
    #[must_use]
    pub fn new(id: &str, title: impl Into<String>, measured: impl Into<String>, unit: Unit) -> Self {
        Self {
            id: id.to_owned(),
            title: title.into(),
            measured: measured.into(),
            unit,
            better: Better::Lower,
            scale: Scale::Log,
            rows: Vec::new(),
            ratios: Vec::new(),
        }
    }

    /// The same, where more is better.
    #[must_use]
    pub fn higher_is_better(mut self) -> Self {
        self.better = Better::Higher;
        self
    }

    /// The same, where neither way is better.
    #[must_use]
    pub fn no_direction(mut self) -> Self {
        self.better = Better::Neither;
        self
    }

    /// The same, drawn from zero.
    #[must_use]
    pub fn linear(mut self) -> Self {
        self.scale = Scale::Linear;
        self
    }
}

/// Which way is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Times, memory.
    Lower,
    /// Rates.
    Higher,
    /// What should be met, not beaten.
    Neither,
}

/// How a chart is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// For what differs by orders of magnitude.
    Log,
    /// From zero.
    Linear,
}

/// Whose figure a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Coracle's.
    Ours,
    /// That of something one would use instead.
    Peer,
    /// What the machine itself can do, for scale.
    Bound,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Unique within the table and stable between versions.
    pub id: String,
    /// What is shown.
    pub label: String,
    /// Whose it is.
    pub side: Side,
    /// The figures; none when it failed.
    pub measure: Option<Measure>,
    /// Why there is none.
    #[serde(default)]
    pub failed: Option<String>,
    /// Figures beside the one it is about.
    #[serde(default)]
    pub extras: Vec<Extra>,
    /// What its figure is to reach, in the table's unit: to be no less where higher is better, else no more.
    #[serde(default)]
    pub goal: Option<f64>,
    /// The exact command, or the call, that was measured.
    pub command: String,
    /// What was set on it, in a sentence.
    #[serde(default)]
    pub settings: String,
}

impl Row {
    /// A row without figures.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        label: impl Into<String>,
        side: Side,
        command: impl Into<String>,
    ) -> Self {
        Self {
            id: id.into(),
            label: label.into(),
            side,
            measure: None,
            failed: None,
            extras: Vec::new(),
            goal: None,
            command: command.into(),
            settings: String::new(),
        }
    }

    /// The same, saying how it was set up.
    #[must_use]
    pub fn with_settings(mut self, settings: impl Into<String>) -> Self {
        self.settings = settings.into();
        self
    }

    /// The same, with what is aimed at.
    #[must_use]
    pub fn with_goal(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Whether it reaches its goal, if it has one and a figure.
    #[must_use]
    pub fn reaches_goal(&self, better: Better) -> Option<bool> {
        let (goal, value) = (self.goal?, self.measure.as_ref()?.value);
        Some(if better == Better::Higher { value >= goal } else { value <= goal })
    }

    /// The same with a figure for each turn.
    #[must_use]
    pub fn with_turns(mut self, turns: Vec<f64>) -> Self {
        self.measure = Measure::of_turns(turns, None);
        self
    }

    /// The same with one more figure beside it.
    #[must_use]
    pub fn with_extra(mut self, name: &str, unit: Unit, value: f64) -> Self {
        self.extras.push(Extra { name: name.to_owned(), unit, value });
        self
    }
}

/// A figure with its spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// What the row is read by: the median of single events where there are such, else of the turns.
    pub value: f64,
    /// Where the error bar begins: the least of the turns.
    pub low: f64,
    /// Where it ends: the greatest of the turns.
    pub high: f64,
    /// The figure of each turn: for times, the median of that turn.
    pub turns: Vec<f64>,
    /// The distribution of all single events, if they were timed.
    #[serde(default)]
    pub times: Option<Percentiles>,
}

impl Measure {
    /// From the figures of the turns. With `times`, the error bar is that of single events, from the shortest to the
    /// 99th percentile, because that is what one meets. `None` if nothing was measured.
    #[must_use]
    pub fn of_turns(turns: Vec<f64>, times: Option<Percentiles>) -> Option<Self> {
        let (value, (low, high)) = (median(&turns)?, spread(&turns)?);
        Some(match times {
            Some(times) => {
                Self { value: times.p50, low: times.min, high: times.p99, turns, times: Some(times) }
            }
            None => Self { value, low, high, turns, times: None },
        })
    }
}

/// A figure beside the one a row is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extra {
    /// What it is; the head of its column.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// How much.
    pub value: f64,
}

/// How far one row is ahead of another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// The id of the row that is judged.
    pub of: String,
    /// The id of the row it is held against.
    pub to: String,
    /// What came out.
    pub verdict: Verdict,
    /// What is aimed at, if anything: to be ahead so many times.
    #[serde(default)]
    pub goal: Option<f64>,
}

/// What holding one row against another came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// So many times ahead; below 1, behind.
    Ahead {
        /// The median of the pairs.
        median: f64,
        /// The ratio of each pair of turns.
        pairs: Vec<f64>,
    },
    /// The two did not do the same work, so there is no ratio.
    Refused {
        /// What was wrong.
        why: String,
    },
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A report with every kind of content.
    pub(crate) fn sample() -> Report {
        let times =
            crate::stats::Times::from_iter((1..=100_u64).map(|n| std::time::Duration::from_micros(10 * n)));
        let mut table = Table::new(
            "http",
            "To the <first> answer & back",
            "From the call to the last byte.",
            Unit::Seconds,
        );
        let mut ours = Row::new("memory", "component, in memory", Side::Ours, "Container::handle(GET /)");
        ours.measure = Measure::of_turns(vec![480e-6, 500e-6, 520e-6], Some(times.summary()));
        let peer = Row::new("crun", "crun, bare", Side::Peer, "crun run --bundle <dir> 'x'")
            .with_turns(vec![6.1e-3, 6.2e-3, 6.9e-3])
            .with_extra("CPU/start", Unit::Seconds, 4e-3)
            .with_settings("no seccomp profile");
        let mut broken = Row::new("runc", "runc, bare", Side::Peer, "runc run");
        broken.failed = Some("exit code 1: \"no cgroup\"".to_owned());
        table.rows = vec![ours, peer, broken];
        table.ratios = vec![
            Ratio {
                of: "memory".to_owned(),
                to: "crun".to_owned(),
                verdict: Verdict::Ahead { median: 12.4, pairs: vec![12.7, 12.4, 13.2] },
                goal: Some(200.0),
            },
            Ratio {
                of: "memory".to_owned(),
                to: "runc".to_owned(),
                verdict: Verdict::Refused { why: "runc: 3 errors".to_owned() },
                goal: None,
            },
        ];
        let rates = Table {
            rows: vec![
                Row::new("a", "a", Side::Ours, "a").with_turns(vec![54_000.0, 55_000.0]).with_goal(60_000.0),
            ],
            ..Table::new("rate", "Requests", "Closed loop.", Unit::PerSecond).higher_is_better().linear()
        };
        Report {
            format: FORMAT,
            began_at: 1_700_000_000,
            command: "coracle bench".to_owned(),
            mode: Mode::Full,
            machine: Machine::default(),
            benches: vec![BenchResult {
                name: "cold-start".to_owned(),
                about: "how fast things start".to_owned(),
                seconds: 12.5,
                findings: Findings {
                    tables: vec![table, rates],
                    left_out: vec![LeftOut {
                        what: "docker".to_owned(),
                        why: "no engine answers".to_owned(),
                    }],
                    notes: vec!["A note.".to_owned()],
                },
                failed: None,
            }],
        }
    }

    #[test]
    fn a_report_survives_its_file() {
        let report = sample();
        let file = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&file).unwrap(), report);
    }

    #[test]
    fn goals_are_reached_from_the_side_that_is_better() {
        let row = |goal| Row::new("a", "a", Side::Ours, "a").with_turns(vec![5.0]).with_goal(goal);
        assert_eq!(row(4.0).reaches_goal(Better::Higher), Some(true));
        assert_eq!(row(6.0).reaches_goal(Better::Higher), Some(false));
        assert_eq!(row(4.0).reaches_goal(Better::Lower), Some(false));
        assert_eq!(row(6.0).reaches_goal(Better::Lower), Some(true));
        assert_eq!(Row::new("a", "a", Side::Ours, "a").with_goal(1.0).reaches_goal(Better::Lower), None);
        assert_eq!(Row { goal: None, ..row(4.0) }.reaches_goal(Better::Lower), None);
    }

    #[test]
    fn single_events_decide_where_they_were_timed() {
        let times = crate::stats::Times::from_iter([std::time::Duration::from_millis(2); 3]).summary();
        let measure = Measure::of_turns(vec![1.0, 3.0], Some(times)).unwrap();
        assert_eq!(measure.value, times.p50);
        assert_eq!((measure.low, measure.high), (times.min, times.p99));
        assert_eq!(Measure::of_turns(vec![], None), None);
    }
}
