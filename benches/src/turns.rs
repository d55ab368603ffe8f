//! Sides in turns: A B C, A B C, … in one run, so that whatever else the machine does meets all of them alike, and a
//! ratio is that of neighbours in time.
//!
//! A comparison is only as good as its sameness. Every turn says what the work came to; a ratio is refused when the
//! two sides answered differently, when either erred, or when one of them did not come to all its turns.

use std::pin::Pin;
use std::time::Duration;

use anyhow::Context as _;

use crate::report::{Better, Extra, Measure, Ratio, Row, Side as Whose, Table, Unit, Verdict};
use crate::stats::{Times, median};

/// What one side did in one turn.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The figure that pairs are compared by, in the table's unit.
    pub figure: f64,
    /// The single events, if they were timed. They are part of the row where the table counts seconds; where it counts
    /// something else, such as a rate, [`latencies`] makes a table of them.
    pub times: Option<Times>,
    /// CPU time of all of it, if it is known.
    pub cpu: Option<Duration>,
    /// What the work answered: an answer's bytes, an exit code with its output. Equal means equal work.
    pub answer: Vec<u8>,
    /// How often it did not do its work.
    pub errors: u64,
    /// What went wrong first.
    pub error: Option<String>,
}

impl Turn {
    /// A turn of single events, compared by their median.
    #[must_use]
    pub fn of_times(times: Times, answer: impl Into<Vec<u8>>) -> Self {
        Self { figure: times.median(), times: Some(times), answer: answer.into(), ..Self::default() }
    }

    /// A turn with one figure.
    #[must_use]
    pub fn of_figure(figure: f64, answer: impl Into<Vec<u8>>) -> Self {
        Self { figure, answer: answer.into(), ..Self::default() }
    }

    /// The same with errors that were counted.
    #[must_use]
    pub fn with_errors(mut self, errors: u64, first: Option<String>) -> Self {
        (self.errors, self.error) = (errors, first);
        self
    }
}

/// A turn in the making.
pub type TurnFuture<'a> = Pin<Box<dyn Future<Output = anyhow::Result<Turn>> + Send + 'a>>;

/// One of those who take turns.
pub struct Side<'a> {
    row: Row,
    turn: Box<dyn FnMut() -> TurnFuture<'a> + Send + 'a>,
    done: Vec<Turn>,
    failed: Option<String>,
}

impl<'a> Side<'a> {
    /// A side that is shown as this row, and does this in its turn.
    pub fn new<F>(row: Row, mut turn: impl FnMut() -> F + Send + 'a) -> Self
    where
        F: Future<Output = anyhow::Result<Turn>> + Send + 'a,
    {
        Self { row, turn: Box::new(move || Box::pin(turn())), done: Vec::new(), failed: None }
    }

    /// The turns it has done.
    #[must_use]
    pub fn done(&self) -> &[Turn] {
        &self.done
    }

    /// Its row, to be completed.
    pub fn row_mut(&mut self) -> &mut Row {
        &mut self.row
    }

    /// Why no ratio may be made of it.
    fn fault(&self) -> Option<String> {
        let label = &self.row.label;
        if let Some(failed) = &self.failed {
            return Some(format!("{label}: {failed}"));
        }
        let errors: u64 = self.done.iter().map(|turn| turn.errors).sum();
        if errors > 0 {
            let first = self.done.iter().find_map(|turn| turn.error.clone()).unwrap_or_default();
            return Some(format!("{label}: {errors} errors, first {first}"));
        }
        let first = self.done.first()?;
        self.done
            .iter()
            .any(|turn| turn.answer != first.answer)
            .then(|| format!("{label} does not always give the same answer"))
    }

    /// The events of all turns, if they were timed.
    fn all_times(&self) -> Option<Times> {
        let mut all: Option<Times> = None;
        for times in self.done.iter().filter_map(|turn| turn.times.as_ref()) {
            all.get_or_insert_default().add(times);
        }
        all
    }

    fn into_row(mut self, unit: Unit) -> Row {
        let fault = self.fault();
        let times = self.all_times().filter(|_| unit == Unit::Seconds);
        let turns = self.done.iter().map(|turn| turn.figure).collect();
        self.row.measure = Measure::of_turns(turns, times.map(|times| times.summary()));
        self.row.failed = fault;
        self.row
    }
}

/// Rows, for a table of seconds, of how long the single events took that the sides are compared by the rate of.
#[must_use]
pub fn latencies(sides: &[Side<'_>]) -> Vec<Row> {
    let row = |side: &Side<'_>| {
        let times = side.all_times()?;
        let medians = side.done.iter().filter_map(|turn| turn.times.as_ref().map(Times::median)).collect();
        let measure = Measure::of_turns(medians, Some(times.summary()));
        Some(Row { measure, failed: side.fault(), goal: None, extras: Vec::new(), ..side.row.clone() })
    };
    sides.iter().filter_map(row).collect()
}

/// Rows, for a table of seconds, of what each side has to wait longer at a percentile than the side `behind` did in the
/// same turn; and its percentile beside that one's. Below zero where it is faster, which is noise if it stands before that
/// side. No figure where either erred, or where the two answered differently.
#[must_use]
pub fn added(sides: &[Side<'_>], behind: &str, share: f64) -> Vec<Row> {
    let Some(behind) = sides.iter().find(|side| side.row.id == behind) else { return Vec::new() };
    let percentiles = |side: &Side<'_>| -> Vec<f64> {
        side.done.iter().filter_map(|turn| Some(turn.times.as_ref()?.quantile(share))).collect()
    };
    let without = percentiles(behind);
    let row = |side: &Side<'_>| {
        let mut row = Row { goal: None, extras: Vec::new(), ..side.row.clone() };
        row.failed = unequal(side, behind);
        if row.failed.is_none() {
            let with = percentiles(side);
            row = row.with_turns(with.iter().zip(&without).map(|(with, without)| with - without).collect());
            let named = [("all of it", &with), (&format!("{} alone", behind.row.id), &without)];
            for (name, of) in named.map(|(name, turns)| (name, median(turns))) {
                row.extras.extend(of.map(|value| Extra {
                    name: name.to_owned(),
                    unit: Unit::Seconds,
                    value,
                }));
            }
        }
        row
    };
    sides.iter().filter(|side| side.row.id != behind.row.id).map(row).collect()
}

/// Lets every side do so many turns, one after the other, and again from the first. A side that fails is out, and
/// the others go on.
pub async fn interleave(sides: &mut [Side<'_>], turns: usize, mut progress: impl FnMut(usize, &str)) {
    for turn in 0..turns {
        for side in &mut *sides {
            if side.failed.is_some() {
                continue;
            }
            progress(turn, &side.row.label);
            match (side.turn)().await.with_context(|| format!("turn {}", turn + 1)) {
                Ok(done) => side.done.push(done),
                Err(error) => side.failed = Some(format!("{error:#}")),
            }
        }
    }
}

/// What two rows are held against each other for.
pub struct Pair {
    of: String,
    to: String,
    goal: Option<f64>,
}

impl Pair {
    /// The row `of` against the row `to`, both by id.
    pub fn new(of: &str, to: &str) -> Self {
        Self { of: of.to_owned(), to: to.to_owned(), goal: None }
    }

    /// The same, with what is aimed at.
    #[must_use]
    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(goal);
        self
    }
}

/// Every row of ours against every peer's and bound's.
#[must_use]
pub fn all_pairs(sides: &[Side<'_>]) -> Vec<Pair> {
    let of = |whose: fn(Whose) -> bool| sides.iter().filter(move |side| whose(side.row.side));
    of(|side| side == Whose::Ours)
        .flat_map(|ours| {
            of(|side| side != Whose::Ours).map(move |theirs| Pair::new(&ours.row.id, &theirs.row.id))
        })
        .collect()
}

/// Fills a table with the sides' rows and the ratios of these pairs. A pair of which one was not there is passed over.
pub fn conclude(mut table: Table, sides: Vec<Side<'_>>, pairs: &[Pair]) -> Table {
    let find = |id: &str| sides.iter().find(|side| side.row.id == id);
    table.ratios = pairs
        .iter()
        .filter_map(|pair| {
            let verdict = judge(find(&pair.of)?, find(&pair.to)?, table.better);
            Some(Ratio { of: pair.of.clone(), to: pair.to.clone(), verdict, goal: pair.goal })
        })
        .collect();
    let unit = table.unit;
    table.rows.extend(sides.into_iter().map(|side| side.into_row(unit)));
    table
}

/// How many times `of` is ahead of `to`, turn by turn; or why that can't be said.
fn judge(of: &Side<'_>, to: &Side<'_>, better: Better) -> Verdict {
    let refused = |why: String| Verdict::Refused { why };
    if let Some(why) = unequal(of, to) {
        return refused(why);
    }
    let ahead = |of: f64, to: f64| match better {
        Better::Lower => to / of,
        Better::Higher | Better::Neither => of / to,
    };
    let pairs: Vec<f64> = of.done.iter().zip(&to.done).map(|(of, to)| ahead(of.figure, to.figure)).collect();
    match median(&pairs) {
        Some(median) if median.is_finite() => Verdict::Ahead { median, pairs },
        _ => refused("a figure is zero".to_owned()),
    }
}

/// Why two sides can't be held against each other, if they can't.
fn unequal(of: &Side<'_>, to: &Side<'_>) -> Option<String> {
    if let Some(fault) = of.fault().or_else(|| to.fault()) {
        return Some(fault);
    }
    let (Some(ours), Some(theirs)) = (of.done.first(), to.done.first()) else {
        return Some("nothing was measured".to_owned());
    };
    (ours.answer != theirs.answer).then(|| {
        format!(
            "they did not do the same work: {} answered {}, {} {}",
            of.row.label,
            excerpt(&ours.answer),
            to.row.label,
            excerpt(&theirs.answer)
        )
    })
}

/// The beginning of an answer, for people.
fn excerpt(answer: &[u8]) -> String {
    let end = answer.len().min(60);
    let dots = if end < answer.len() { "…" } else { "" };
    format!("{:?}{dots}", String::from_utf8_lossy(&answer[..end]))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use anyhow::bail;

    use super::*;

    fn row(id: &str, side: Whose) -> Row {
        Row::new(id, id, side, "")
    }

    fn table() -> Table {
        Table::new("t", "t", "t", Unit::Seconds)
    }

    fn ratio(table: &Table) -> &Verdict {
        &table.ratios[0].verdict
    }

    async fn run<'a>(mut sides: Vec<Side<'a>>, turns: usize, table: Table) -> Table {
        interleave(&mut sides, turns, |_, _| ()).await;
        let pairs = all_pairs(&sides);
        conclude(table, sides, &pairs)
    }

    #[tokio::test]
    async fn sides_take_turns() {
        let order = Mutex::new(String::new());
        let side = |name: &'static str, whose| {
            let order = &order;
            Side::new(row(name, whose), move || {
                order.lock().unwrap().push_str(name);
                async { Ok(Turn::of_figure(1.0, "same")) }
            })
        };
        run(vec![side("A", Whose::Ours), side("B", Whose::Peer), side("C", Whose::Bound)], 3, table()).await;
        assert_eq!(*order.lock().unwrap(), "ABCABCABC");
    }

    #[tokio::test]
    async fn a_ratio_is_made_turn_by_turn() {
        // The machine becomes twice as slow from turn to turn; the ratio does not notice.
        let side = |name: &str, whose, mut figure: f64| {
            Side::new(row(name, whose), move || {
                figure *= 2.0;
                async move { Ok(Turn::of_figure(figure, "same")) }
            })
        };
        let done = run(vec![side("a", Whose::Ours, 1.0), side("b", Whose::Peer, 4.0)], 3, table()).await;
        assert_eq!(*ratio(&done), Verdict::Ahead { median: 4.0, pairs: vec![4.0; 3] });
        let higher = table().higher_is_better();
        let done = run(vec![side("a", Whose::Ours, 1.0), side("b", Whose::Peer, 4.0)], 3, higher).await;
        assert_eq!(*ratio(&done), Verdict::Ahead { median: 0.25, pairs: vec![0.25; 3] });
    }

    #[tokio::test]
    async fn other_work_has_no_ratio() {
        let side = |name: &str, whose, answer: &'static str| {
            Side::new(row(name, whose), move || async move { Ok(Turn::of_figure(1.0, answer)) })
        };
        let done =
            run(vec![side("a", Whose::Ours, "Hello"), side("b", Whose::Peer, "hello")], 1, table()).await;
        let Verdict::Refused { why } = ratio(&done) else { panic!("{done:?}") };
        assert!(why.contains("did not do the same work") && why.contains("\"hello\""), "{why}");
        // Both keep their figures: only the ratio would be a lie.
        assert!(done.rows.iter().all(|row| row.measure.is_some() && row.failed.is_none()));
    }

    #[tokio::test]
    async fn a_side_that_erred_has_no_ratio() {
        for erring in ["a", "b"] {
            let side = |name: &'static str, whose| {
                Side::new(row(name, whose), move || async move {
                    let errors = u64::from(name == erring);
                    Ok(Turn::of_figure(1.0, "x").with_errors(errors, Some("503".to_owned())))
                })
            };
            let done = run(vec![side("a", Whose::Ours), side("b", Whose::Peer)], 2, table()).await;
            let Verdict::Refused { why } = ratio(&done) else { panic!("{done:?}") };
            assert_eq!(*why, format!("{erring}: 2 errors, first 503"));
        }
    }

    #[tokio::test]
    async fn a_side_that_fails_is_out_and_the_others_go_on() {
        let ours = Side::new(row("a", Whose::Ours), || async { Ok(Turn::of_figure(1.0, "x")) });
        let mut turn = 0;
        let theirs = Side::new(row("b", Whose::Peer), move || {
            turn += 1;
            async move { if turn == 2 { bail!("it fell over") } else { Ok(Turn::of_figure(1.0, "x")) } }
        });
        let done = run(vec![ours, theirs], 3, table()).await;
        assert_eq!(done.rows[0].measure.as_ref().unwrap().turns.len(), 3);
        assert_eq!(done.rows[1].failed.as_deref(), Some("b: turn 2: it fell over"));
        assert!(matches!(ratio(&done), Verdict::Refused { why } if why.contains("it fell over")));
    }

    #[tokio::test]
    async fn a_rate_is_not_shown_as_the_time_of_its_events() {
        let turn = || async {
            let times = [Duration::from_millis(2); 10].into_iter().collect();
            Ok(Turn { times: Some(times), ..Turn::of_figure(5000.0, "x") })
        };
        let mut sides = vec![Side::new(row("a", Whose::Ours).with_goal(4000.0), turn)];
        interleave(&mut sides, 2, |_, _| ()).await;
        let took = latencies(&sides);
        let rates = conclude(Table::new("t", "t", "t", Unit::PerSecond), sides, &[]);
        let rate = rates.rows[0].measure.as_ref().unwrap();
        assert_eq!((rate.value, &rate.turns, rate.times), (5000.0, &vec![5000.0; 2], None));
        let took = (&took[0].goal, took[0].measure.as_ref().unwrap());
        assert_eq!((took.0, took.1.times.unwrap().n), (&None, 20));
        assert!((took.1.value / 0.002 - 1.0).abs() < 0.01, "{}", took.1.value);
    }

    #[tokio::test]
    async fn what_is_added_is_added_in_the_same_turn() {
        // From turn to turn the machine becomes slower, which is nobody's.
        let side = |id: &str, whose, millis: [u64; 3], answer: &'static str| {
            let mut turn = 0;
            Side::new(row(id, whose), move || {
                let slower = Duration::from_millis(20 * turn as u64);
                let most = Duration::from_millis(millis[turn]);
                turn += 1;
                let times = std::iter::repeat_n(Duration::from_millis(1), 90).chain([most; 10]);
                let times: Times = times.map(|time| time + slower).collect();
                async move { Ok(Turn::of_times(times, answer)) }
            })
        };
        let mut sides = vec![
            side("router", Whose::Ours, [12, 14, 13], "x"),
            side("target", Whose::Bound, [10, 10, 10], "x"),
            side("other", Whose::Peer, [12, 14, 13], "y"),
        ];
        interleave(&mut sides, 3, |_, _| ()).await;
        let rows = added(&sides, "target", 0.99);
        let measure = rows[0].measure.as_ref().unwrap();
        for (is, should) in measure.turns.iter().zip([0.002, 0.004, 0.003]) {
            assert!((is - should).abs() < 0.0002, "{:?}", measure.turns);
        }
        assert_eq!(
            rows[0].extras.iter().map(|extra| &extra.name[..]).collect::<Vec<_>>(),
            ["all of it", "target alone"]
        );
        assert_eq!((rows[1].id.as_str(), &rows[1].measure), ("other", &None));
        assert!(rows[1].failed.as_ref().unwrap().contains("did not do the same work"));
        assert!(added(&sides, "nobody", 0.99).is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_changes_has_no_ratio() {
        let mut turn = 0;
        let ours = Side::new(row("a", Whose::Ours), move || {
            turn += 1;
            async move { Ok(Turn::of_figure(1.0, format!("{turn}"))) }
        });
        let theirs = Side::new(row("b", Whose::Peer), || async { Ok(Turn::of_figure(1.0, "1")) });
        let done = run(vec![ours, theirs], 2, table()).await;
        assert!(matches!(ratio(&done), Verdict::Refused { why } if why.contains("same answer")));
    }
}
