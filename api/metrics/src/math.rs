//! Metric math: series of values that are computed from others.
//!
//! ```text
//! 100 * errors / requests        IF(requests > 10, errors / requests)        SUM(METRICS("queue"))
//! ```
//!
//! A formula is numbers, the ids of other queries, operators and functions, as CloudWatch writes them. What it comes to
//! is a number, a series, or several series. Operators join two series where both have a value, and what has no finite
//! value, such as a quotient by zero, has none.

use std::collections::BTreeMap;

use coracle_types::Timestamp;

/// At most this long, in bytes.
pub const FORMULA_BYTES_MAX: usize = 2048;
/// How deep parentheses and functions may be in each other.
const DEPTH_MAX: u32 = 32;
/// At most this many values are made by all formulas of a request, those on the way to what they come to included.
pub const VALUES_MAX: usize = 2_000_000;

/// What is wrong with a formula, in words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MathError(String);

impl MathError {
    /// This is wrong.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

fn wrong<T>(text: impl Into<String>) -> Result<T, MathError> {
    Err(MathError::new(text))
}

/// Values by the time their periods begin.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The length of its periods, in seconds.
    pub period_s: u32,
    /// Its values.
    pub points: BTreeMap<Timestamp, f64>,
}

/// What a formula, or a part of one, comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// One number.
    Number(f64),
    /// A series.
    Series(Series),
    /// Several.
    Several(Vec<Series>),
}

impl Outcome {
    /// How many values it has.
    fn len(&self) -> usize {
        match self {
            Self::Number(_) => 1,
            Self::Series(series) => series.points.len(),
            Self::Several(several) => several.iter().map(|one| one.points.len()).sum(),
        }
    }
}

/// What a formula can be about.
pub trait Known {
    /// What the query with this id comes to.
    ///
    /// # Errors
    /// When there is none, or it comes to nothing.
    fn of_id(&mut self, id: &str) -> Result<Outcome, MathError>;

    /// The ids of the queries that are metrics and no formulas, in their order.
    fn metrics(&self) -> Vec<String>;

    /// The stretch of time that is asked about.
    fn stretch(&self) -> (Timestamp, Timestamp);

    /// Adds to the values that have been made, of which there are at most [`VALUES_MAX`], and says how many those are.
    fn made(&mut self, values: usize) -> usize;
}

/// A formula that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula(Part);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Number(f64),
    Id(String),
    /// `REPEAT`, `LINEAR`: what only a function understands.
    Word(String),
    Text(String),
    List(Vec<Part>),
    Negated(Box<Part>),
    /// From left to right.
    Joined(Box<Part>, Vec<(Operator, Part)>),
    Call(Function, Vec<Part>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Times,
    By,
    Power,
}

/// How each is written, and how tightly it binds.
const OPERATORS: [(&str, Operator, u8); 15] = [
    ("||", Operator::Or, 1),
    ("OR", Operator::Or, 1),
    ("&&", Operator::And, 2),
    ("AND", Operator::And, 2),
    ("==", Operator::Equal, 3),
    ("!=", Operator::NotEqual, 3),
    ("<=", Operator::LessOrEqual, 4),
    (">=", Operator::GreaterOrEqual, 4),
    ("<", Operator::Less, 4),
    (">", Operator::Greater, 4),
    ("+", Operator::Plus, 5),
    ("-", Operator::Minus, 5),
    ("*", Operator::Times, 6),
    ("/", Operator::By, 6),
    ("^", Operator::Power, 8),
];
/// How tightly a sign binds: `-2 ^ 2` is -4.
const SIGN: u8 = 7;

impl Operator {
    fn join(self, a: f64, b: f64) -> f64 {
        let truth = |holds: bool| f64::from(u8::from(holds));
        match self {
            Self::Or => truth(a != 0.0 || b != 0.0),
            Self::And => truth(a != 0.0 && b != 0.0),
            Self::Equal => truth(a == b),
            Self::NotEqual => truth(a != b),
            Self::Less => truth(a < b),
            Self::LessOrEqual => truth(a <= b),
            Self::Greater => truth(a > b),
            Self::GreaterOrEqual => truth(a >= b),
            Self::Plus => a + b,
            Self::Minus => a - b,
            Self::Times => a * b,
            Self::By => a / b,
            Self::Power => a.powf(b),
        }
    }
}

/// Declares the functions once, by the names they are called by.
macro_rules! functions {
    ($($variant:ident $name:literal $arguments:expr;)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Function { $($variant,)* }

        /// Each with its name, and how many arguments it takes.
        const FUNCTIONS: &[(&str, Function, std::ops::RangeInclusive<usize>)] =
            &[$(($name, Function::$variant, $arguments),)*];
    };
}

functions! {
    Abs "ABS" 1..=1;
    Avg "AVG" 1..=1;
    Ceil "CEIL" 1..=1;
    Diff "DIFF" 1..=1;
    Fill "FILL" 2..=2;
    Floor "FLOOR" 1..=1;
    If "IF" 2..=3;
    Max "MAX" 1..=1;
    MetricCount "METRIC_COUNT" 1..=1;
    Metrics "METRICS" 0..=1;
    Min "MIN" 1..=1;
    Period "PERIOD" 1..=1;
    Rate "RATE" 1..=1;
    RunningSum "RUNNING_SUM" 1..=1;
    Sum "SUM" 1..=1;
}

impl Formula {
    /// Understands a formula.
    ///
    /// # Errors
    /// What is wrong with it, or not supported.
    pub fn parse(text: &str) -> Result<Self, MathError> {
        if text.len() > FORMULA_BYTES_MAX {
            return wrong(format!("it has {} bytes; at most {FORMULA_BYTES_MAX} are allowed", text.len()));
        }
        let mut parser = Parser { left: text, depth: 0 };
        let part = parser.joined(0)?;
        match parser.rest() {
            "" => Ok(Self(part)),
            rest => wrong(format!("{:?} was not expected", beginning(rest))),
        }
    }

    /// What it comes to.
    ///
    /// # Errors
    /// When something has no value of the kind that is needed.
    pub fn value(&self, known: &mut dyn Known) -> Result<Outcome, MathError> {
        evaluate(&self.0, known)
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(20).collect()
}

struct Parser<'a> {
    left: &'a str,
    depth: u32,
}

impl<'a> Parser<'a> {
    fn rest(&mut self) -> &'a str {
        self.left = self.left.trim_start();
        self.left
    }

    fn takes(&mut self, token: &str) -> bool {
        let after = self.rest().strip_prefix(token);
        self.left = after.unwrap_or(self.left);
        after.is_some()
    }

    fn expect(&mut self, token: &str) -> Result<(), MathError> {
        if self.takes(token) {
            return Ok(());
        }
        match self.rest() {
            "" => wrong(format!("{token:?} is missing at its end")),
            rest => wrong(format!("{token:?} is missing before {:?}", beginning(rest))),
        }
    }

    /// The operator that comes next, unless it binds less tightly than this.
    fn operator(&mut self, at_least: u8) -> Option<(Operator, u8)> {
        let rest = self.rest();
        let (token, operator, binds) = OPERATORS.iter().find(|(token, ..)| {
            let word = token.starts_with(|letter: char| letter.is_ascii_alphabetic());
            rest.strip_prefix(token).is_some_and(|after| !word || !after.starts_with(is_of_word))
        })?;
        if *binds < at_least {
            return None;
        }
        self.left = &self.left[token.len()..];
        Some((*operator, *binds))
    }

    fn deeper<T>(&mut self, then: impl FnOnce(&mut Self) -> Result<T, MathError>) -> Result<T, MathError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return wrong(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        let done = then(self);
        self.depth -= 1;
        done
    }

    /// Parts that are joined by operators which bind at least so tightly.
    fn joined(&mut self, at_least: u8) -> Result<Part, MathError> {
        self.deeper(|this| {
            let first = this.single()?;
            let mut rest = Vec::new();
            while let Some((operator, binds)) = this.operator(at_least) {
                rest.push((operator, this.joined(binds + 1)?));
            }
            Ok(if rest.is_empty() { first } else { Part::Joined(Box::new(first), rest) })
        })
    }

    fn single(&mut self) -> Result<Part, MathError> {
        if self.takes("-") {
            return Ok(Part::Negated(Box::new(self.joined(SIGN)?)));
        }
        if self.takes("(") {
            let inner = self.joined(0)?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.takes("[") {
            return Ok(Part::List(self.list("]")?));
        }
        if self.takes("\"") {
            let Some((text, after)) = self.left.split_once('"') else {
                return wrong("a quotation mark is missing at its end");
            };
            self.left = after;
            return Ok(Part::Text(text.to_owned()));
        }
        let rest = self.rest();
        let is_number = rest.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.');
        let of_token = |letter: char| if is_number { is_of_number(letter) } else { is_of_word(letter) };
        let length = rest.find(|letter| !of_token(letter)).unwrap_or(rest.len());
        let (token, after) = rest.split_at(length);
        self.left = after;
        if is_number {
            let number = token.parse().ok().filter(|number: &f64| number.is_finite());
            return number.map(Part::Number).ok_or_else(|| MathError(format!("{token:?} is no number")));
        }
        if token.starts_with(|letter: char| letter.is_ascii_lowercase()) {
            return Ok(Part::Id(token.to_owned()));
        }
        if token.is_empty() {
            return match self.rest() {
                "" => wrong("it ends where a value was expected"),
                rest => wrong(format!("{:?} was not expected", beginning(rest))),
            };
        }
        if !self.takes("(") {
            return Ok(Part::Word(token.to_owned()));
        }
        let Some((name, function, takes)) = FUNCTIONS.iter().find(|(name, ..)| *name == token) else {
            let names: Vec<&str> = FUNCTIONS.iter().map(|(name, ..)| *name).collect();
            return wrong(format!("there is no function {token} here, but {}", names.join(", ")));
        };
        let arguments = self.list(")")?;
        if !takes.contains(&arguments.len()) {
            return wrong(format!("{name} does not take {} arguments", arguments.len()));
        }
        Ok(Part::Call(*function, arguments))
    }

    /// What stands between commas, to the token that ends it.
    fn list(&mut self, end: &str) -> Result<Vec<Part>, MathError> {
        let mut parts = Vec::new();
        if self.takes(end) {
            return Ok(parts);
        }
        loop {
            parts.push(self.joined(0)?);
            if !self.takes(",") {
                self.expect(end)?;
                return Ok(parts);
            }
        }
    }
}

fn is_of_word(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_of_number(letter: char) -> bool {
    letter.is_ascii_digit() || letter == '.'
}

fn evaluate(part: &Part, known: &mut dyn Known) -> Result<Outcome, MathError> {
    let outcome = match part {
        Part::Number(number) => Outcome::Number(*number),
        Part::Id(id) => known.of_id(id)?,
        Part::Word(word) => return wrong(format!("{word} does not mean anything here")),
        Part::Text(text) => return wrong(format!("the text {text:?} does not mean anything here")),
        Part::List(parts) => {
            let mut several = Vec::new();
            for part in parts {
                match evaluate(part, known)? {
                    Outcome::Number(_) => return wrong("a list is of series, and not of numbers"),
                    Outcome::Series(one) => several.push(one),
                    Outcome::Several(more) => several.extend(more),
                }
            }
            Outcome::Several(several)
        }
        Part::Negated(part) => each(evaluate(part, known)?, |value| -value)?,
        Part::Joined(first, rest) => {
            let mut left = evaluate(first, known)?;
            for (operator, right) in rest {
                left = join(*operator, left, evaluate(right, known)?)?;
            }
            left
        }
        Part::Call(function, arguments) => call(*function, arguments, known)?,
    };
    if known.made(outcome.len()) > VALUES_MAX {
        return wrong(format!("more than {VALUES_MAX} values would have to be computed for the request"));
    }
    Ok(outcome)
}

/// The same made of every value.
fn each(outcome: Outcome, make: impl Fn(f64) -> f64) -> Result<Outcome, MathError> {
    let of_series =
        |series: Series| made(series.period_s, series.points.iter().map(|(at, value)| (*at, make(*value))));
    Ok(match outcome {
        Outcome::Number(number) => Outcome::Number(finite(make(number))?),
        Outcome::Series(series) => Outcome::Series(of_series(series)),
        Outcome::Several(several) => Outcome::Several(several.into_iter().map(of_series).collect()),
    })
}

/// A series of those values that are numbers.
fn made(period_s: u32, points: impl Iterator<Item = (Timestamp, f64)>) -> Series {
    Series { period_s, points: points.filter(|(_, value)| value.is_finite()).collect() }
}

fn finite(number: f64) -> Result<f64, MathError> {
    if number.is_finite() { Ok(number) } else { wrong("a number in it has no value") }
}

fn join(operator: Operator, left: Outcome, right: Outcome) -> Result<Outcome, MathError> {
    let both = |left: &Series, right: &Series| {
        let points =
            left.points.iter().filter_map(|(at, a)| Some((*at, operator.join(*a, *right.points.get(at)?))));
        made(left.period_s.max(right.period_s), points)
    };
    match (left, right) {
        (Outcome::Number(a), Outcome::Number(b)) => Ok(Outcome::Number(finite(operator.join(a, b))?)),
        (left, Outcome::Number(b)) => each(left, |a| operator.join(a, b)),
        (Outcome::Number(a), right) => each(right, |b| operator.join(a, b)),
        (Outcome::Series(left), Outcome::Series(right)) => Ok(Outcome::Series(both(&left, &right))),
        (Outcome::Several(several), Outcome::Series(right)) => {
            Ok(Outcome::Several(several.iter().map(|left| both(left, &right)).collect()))
        }
        (Outcome::Series(left), Outcome::Several(several)) => {
            Ok(Outcome::Several(several.iter().map(|right| both(&left, right)).collect()))
        }
        (Outcome::Several(_), Outcome::Several(_)) => wrong("an operator can't join two lists of series"),
    }
}

fn call(function: Function, arguments: &[Part], known: &mut dyn Known) -> Result<Outcome, MathError> {
    let first = |known: &mut dyn Known| match arguments.first() {
        Some(part) => evaluate(part, known),
        None => wrong("an argument is missing"),
    };
    match function {
        Function::Abs => each(first(known)?, f64::abs),
        Function::Ceil => each(first(known)?, f64::ceil),
        Function::Floor => each(first(known)?, f64::floor),
        Function::Sum => fold(first(known)?, |values| values.iter().sum()),
        Function::Avg => fold(first(known)?, |values| {
            let count = values.len() as f64;
            values.iter().sum::<f64>() / count
        }),
        Function::Max => {
            fold(first(known)?, |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
        }
        Function::Min => fold(first(known)?, |values| values.iter().copied().fold(f64::INFINITY, f64::min)),
        Function::Diff => consecutive(first(known)?, |before, now, _| now - before),
        Function::Rate => consecutive(first(known)?, |before, now, seconds| (now - before) / seconds),
        Function::RunningSum => along(first(known)?, |series| {
            let mut sum = 0.0;
            made(
                series.period_s,
                series.points.iter().map(|(at, value)| {
                    sum += value;
                    (*at, sum)
                }),
            )
        }),
        Function::Period => match first(known)? {
            Outcome::Series(series) => Ok(Outcome::Number(f64::from(series.period_s))),
            _ => wrong("PERIOD is of one series"),
        },
        Function::MetricCount => match first(known)? {
            Outcome::Number(_) => wrong("METRIC_COUNT is of series, and not of a number"),
            Outcome::Series(_) => Ok(Outcome::Number(1.0)),
            Outcome::Several(several) => Ok(Outcome::Number(several.len() as f64)),
        },
        Function::Metrics => {
            let part = match arguments.first() {
                None => "",
                Some(Part::Text(text)) => text,
                Some(_) => return wrong("METRICS takes a part of an id, in quotation marks"),
            };
            let mut several = Vec::new();
            for id in known.metrics().iter().filter(|id| id.contains(part)) {
                if let Outcome::Series(series) = known.of_id(id)? {
                    several.push(series);
                }
            }
            Ok(Outcome::Several(several))
        }
        Function::Fill => fill(first(known)?, arguments.get(1), known),
        Function::If => {
            let condition = first(known)?;
            let mut branch =
                |place: usize| arguments.get(place).map(|part| evaluate(part, known)).transpose();
            let (then, otherwise) = (branch(1)?, branch(2)?);
            choose(&condition, then.as_ref(), otherwise.as_ref())
        }
    }
}

/// The values of one series taken together, or of several at each time.
fn fold(outcome: Outcome, together: impl Fn(&[f64]) -> f64) -> Result<Outcome, MathError> {
    match outcome {
        Outcome::Number(_) => wrong("a series is needed where there is a number"),
        Outcome::Series(series) => {
            let values: Vec<f64> = series.points.into_values().collect();
            match &values[..] {
                [] => wrong("a series has no values to be taken together"),
                values => Ok(Outcome::Number(finite(together(values))?)),
            }
        }
        Outcome::Several(several) => {
            let period_s = several.iter().map(|one| one.period_s).max().unwrap_or(60);
            let mut by_time: BTreeMap<Timestamp, Vec<f64>> = BTreeMap::new();
            for (at, value) in several.into_iter().flat_map(|one| one.points) {
                by_time.entry(at).or_default().push(value);
            }
            let points = by_time.iter().map(|(at, values)| (*at, together(values)));
            Ok(Outcome::Series(made(period_s, points)))
        }
    }
}

/// Another series made of each.
fn along(outcome: Outcome, make: impl Fn(Series) -> Series) -> Result<Outcome, MathError> {
    match outcome {
        Outcome::Number(_) => wrong("a series is needed where there is a number"),
        Outcome::Series(series) => Ok(Outcome::Series(make(series))),
        Outcome::Several(several) => Ok(Outcome::Several(several.into_iter().map(make).collect())),
    }
}

/// Made of each value, the one before it and the seconds between them; the first has none before it.
fn consecutive(outcome: Outcome, make: impl Fn(f64, f64, f64) -> f64) -> Result<Outcome, MathError> {
    along(outcome, |series| {
        let pairs = series.points.iter().zip(series.points.iter().skip(1));
        let points = pairs.map(|((before, a), (at, b))| (*at, make(*a, *b, at.since(*before).as_secs_f64())));
        made(series.period_s, points)
    })
}

/// Gives every period of the stretch a value that has none.
fn fill(outcome: Outcome, with: Option<&Part>, known: &mut dyn Known) -> Result<Outcome, MathError> {
    #[derive(Clone, Copy)]
    enum With {
        Number(f64),
        Before,
        Line,
    }
    let with = match with {
        Some(Part::Word(word)) if word == "REPEAT" => With::Before,
        Some(Part::Word(word)) if word == "LINEAR" => With::Line,
        Some(part) => match evaluate(part, known)? {
            Outcome::Number(number) => With::Number(number),
            _ => return wrong("FILL takes a number, REPEAT or LINEAR"),
        },
        None => return wrong("FILL takes a number, REPEAT or LINEAR"),
    };
    let (from, until) = known.stretch();
    let per_period = |series: &Series| i64::from(series.period_s.max(1)) * 1000;
    let periods = |series: &Series| until.as_millis().saturating_sub(from.as_millis()) / per_period(series);
    let asked: i64 = match &outcome {
        Outcome::Number(_) => 0,
        Outcome::Series(series) => periods(series),
        Outcome::Several(several) => several.iter().map(periods).fold(0, i64::saturating_add),
    };
    if usize::try_from(asked).unwrap_or(usize::MAX) > VALUES_MAX {
        return wrong(format!("FILL would make {asked} values; at most {VALUES_MAX} are allowed"));
    }
    along(outcome, |series| {
        let step = per_period(&series);
        let first = -(-from.as_millis()).div_euclid(step) * step;
        let times = (0..).map(|n| Timestamp(first + n * step)).take_while(|at| *at < until);
        let points = times.filter_map(|at| {
            let before = || series.points.range(..at).next_back();
            let value = match (series.points.get(&at), with) {
                (Some(value), _) => *value,
                (None, With::Number(number)) => number,
                (None, With::Before) => *before()?.1,
                (None, With::Line) => {
                    let ((a, from), (b, to)) = (before()?, series.points.range(at..).next()?);
                    let share = at.since(*a).as_secs_f64() / b.since(*a).as_secs_f64();
                    from + (to - from) * share
                }
            };
            Some((at, value))
        });
        made(series.period_s, points)
    })
}

/// One or the other, at each time.
fn choose(
    condition: &Outcome,
    then: Option<&Outcome>,
    otherwise: Option<&Outcome>,
) -> Result<Outcome, MathError> {
    let condition = match condition {
        Outcome::Number(number) => {
            let chosen = if *number == 0.0 { otherwise } else { then };
            return chosen.cloned().map_or_else(|| wrong("IF has nothing for a condition that is 0"), Ok);
        }
        Outcome::Series(series) => series,
        Outcome::Several(_) => return wrong("the condition of IF is one series, or a number"),
    };
    if [then, otherwise].iter().flatten().any(|branch| matches!(branch, Outcome::Several(_))) {
        return wrong("IF chooses between series or numbers, and not between lists");
    }
    let at = |branch: Option<&Outcome>, at: &Timestamp| match branch? {
        Outcome::Number(number) => Some(*number),
        Outcome::Series(series) => series.points.get(at).copied(),
        Outcome::Several(_) => None,
    };
    let points = condition
        .points
        .iter()
        .filter_map(|(time, holds)| Some((*time, at(if *holds == 0.0 { otherwise } else { then }, time)?)));
    Ok(Outcome::Series(made(condition.period_s, points)))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World(BTreeMap<&'static str, Vec<Option<f64>>>, usize);

    impl Known for World {
        fn of_id(&mut self, id: &str) -> Result<Outcome, MathError> {
            let Some(values) = self.0.get(id) else { return wrong(format!("there is no query {id}")) };
            let minutes = (0..).map(|minute| Timestamp(minute * 60_000));
            let points = minutes.zip(values).filter_map(|(at, value)| Some((at, (*value)?)));
            Ok(Outcome::Series(Series { period_s: 60, points: points.collect() }))
        }

        fn metrics(&self) -> Vec<String> {
            self.0.keys().map(|id| (*id).to_owned()).collect()
        }

        fn stretch(&self) -> (Timestamp, Timestamp) {
            (Timestamp(0), Timestamp(4 * 60_000))
        }

        fn made(&mut self, values: usize) -> usize {
            self.1 += values;
            self.1
        }
    }

    fn value(text: &str) -> Result<Outcome, MathError> {
        let some = |values: [f64; 4]| values.map(|value| (value >= 0.0).then_some(value)).to_vec();
        let queries = BTreeMap::from([
            ("errors", some([1.0, 2.0, -1.0, 4.0])),
            ("requests", some([10.0, 0.0, 30.0, 40.0])),
        ]);
        let mut world = World(queries, 0);
        Formula::parse(text)?.value(&mut world)
    }

    /// The values of a series by the minute; NAN where there is none.
    fn series(text: &str) -> [f64; 4] {
        let Outcome::Series(series) = value(text).unwrap() else { panic!("{text} is no series") };
        [0, 1, 2, 3].map(|minute| series.points.get(&Timestamp(minute * 60_000)).copied().unwrap_or(f64::NAN))
    }

    #[track_caller]
    fn assert_series(text: &str, expected: [f64; 4]) {
        let found = series(text);
        let same = found.iter().zip(&expected).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
        assert!(same, "{text}: {found:?}");
    }

    fn number(text: &str) -> f64 {
        match value(text).unwrap() {
            Outcome::Number(number) => number,
            other => panic!("{text}: {other:?}"),
        }
    }

    const NONE: f64 = f64::NAN;

    #[test]
    fn operators_bind_as_in_school() {
        for (text, expected) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("10 - 2 - 3", 5.0),
            ("2 ^ 2 * 3", 12.0),
            ("-2 ^ 2", -4.0),
            ("8 / 4 / 2", 1.0),
            ("2 - -.5", 2.5),
            ("1 + 1 == 2 && 3 > 2", 1.0),
            ("0 OR 1 AND 0", 0.0),
            ("3 <= 2 || 2 != 2", 0.0),
        ] {
            assert!((number(text) - expected).abs() < 1e-12, "{text}: {}", number(text));
        }
    }

    #[test]
    fn a_long_formula_is_no_deep_one() {
        assert!((number(&vec!["1"; 1000].join("+")) - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_computed_is_bounded() {
        let formula = Formula::parse("SUM(errors) + SUM(errors)").unwrap();
        let mut world = World(BTreeMap::from([("errors", vec![Some(1.0); 1_000_000])]), 0);
        let error = formula.value(&mut world).unwrap_err().to_string();
        assert!(error.contains("more than 2000000 values"), "{error}");
    }

    #[test]
    fn series_are_joined_where_both_have_a_value() {
        assert_series("100 * errors / requests", [10.0, NONE, NONE, 10.0]);
        assert_series("requests - errors", [9.0, -2.0, NONE, 36.0]);
        assert_series("-errors", [-1.0, -2.0, NONE, -4.0]);
        assert_series("errors > 1", [0.0, 1.0, NONE, 1.0]);
    }

    #[test]
    fn functions_take_together_one_series_or_several() {
        assert_eq!((number("SUM(errors)"), number("AVG(requests)")), (7.0, 20.0));
        assert_eq!((number("MAX(errors)"), number("MIN(errors)")), (4.0, 1.0));
        assert_series("SUM([errors, requests])", [11.0, 2.0, 30.0, 44.0]);
        assert_series("MAX(METRICS())", [10.0, 2.0, 30.0, 40.0]);
        assert_series(r#"AVG(METRICS("req"))"#, [10.0, 0.0, 30.0, 40.0]);
        assert_eq!((number("METRIC_COUNT(METRICS())"), number("PERIOD(errors)")), (2.0, 60.0));
        let Outcome::Several(several) = value("METRICS() * 2").unwrap() else { panic!("several") };
        assert_eq!(several.len(), 2);
    }

    #[test]
    fn what_is_missing_is_filled() {
        assert_series("FILL(errors, 0)", [1.0, 2.0, 0.0, 4.0]);
        assert_series("FILL(errors, REPEAT)", [1.0, 2.0, 2.0, 4.0]);
        assert_series("FILL(errors, LINEAR)", [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn series_can_be_chosen_from() {
        assert_series("IF(requests > 20, requests, 7)", [7.0, 7.0, 30.0, 40.0]);
        assert_series("IF(requests > 20, errors)", [NONE, NONE, NONE, 4.0]);
        assert_eq!(number("IF(0, 1, 2)"), 2.0);
        assert_series("IF(1, errors, 2)", [1.0, 2.0, NONE, 4.0]);
    }

    #[test]
    fn series_are_seen_as_they_change() {
        assert_series("DIFF(requests)", [NONE, -10.0, 30.0, 10.0]);
        assert_series("RATE(requests) * 60", [NONE, -10.0, 30.0, 10.0]);
        assert_series("RUNNING_SUM(errors)", [1.0, 3.0, NONE, 7.0]);
        assert_series("ABS(FLOOR(-errors / 3)) + CEIL(0.5)", [2.0, 2.0, NONE, 3.0]);
    }

    #[test]
    fn what_makes_no_sense_says_why() {
        let deep = format!("{}1{}", "(".repeat(40), ")".repeat(40));
        let long = "1+".repeat(1100) + "1";
        for (text, word) in [
            ("", "ends"),
            ("1 +", "ends"),
            ("(1", "missing"),
            ("1 1", "not expected"),
            ("nobody * 2", "nobody"),
            ("SEARCH(\"x\", \"y\")", "SEARCH"),
            ("FILL(errors)", "arguments"),
            ("FILL(errors, SOMEHOW)", "SOMEHOW"),
            ("SUM(1)", "series"),
            ("[errors, 1]", "numbers"),
            ("METRICS() + METRICS()", "two lists"),
            ("\"a", "quotation"),
            ("1 / 0", "no value"),
            ("1.2.3", "no number"),
            ("$", "not expected"),
            (&deep, "deep"),
            (&long, "bytes"),
        ] {
            let error = value(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
