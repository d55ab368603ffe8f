//! The rules of composite alarms: `ALARM("errors") AND NOT (OK(slow) OR INSUFFICIENT_DATA(slow))`.
//!
//! ```text
//! rule  := all (OR all)*          all  := one (AND one)*
//! one   := NOT one | ( rule ) | TRUE | FALSE | state ( alarm )
//! state := ALARM | OK | INSUFFICIENT_DATA          alarm := name or ARN, in quotes or without
//! ```
//!
//! NOT binds closest, then AND, then OR. A name needs quotes if it has spaces, commas, parentheses or quotes in it; in
//! quotes, a backslash stands before a quote or another backslash.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::alarm::AlarmState;

/// The longest rule, in characters, as in CloudWatch.
const LENGTH_MAX: usize = 10_240;
/// How many alarms one can watch, as in CloudWatch.
const ALARMS_MAX: usize = 100;
/// How deep parentheses and NOTs may be nested.
const DEPTH_MAX: usize = 50;

/// When a composite alarm is in ALARM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AlarmRule {
    text: String,
    rule: Rule,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Always(bool),
    /// Whether an alarm, by its name or ARN, is in this state.
    Is(AlarmState, String),
    Not(Box<Self>),
    All(Vec<Self>),
    Any(Vec<Self>),
}

/// Why a text is no rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AlarmRuleError(String);

impl AlarmRule {
    /// The rule as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The alarms it is about as they are written in it: by name or by ARN. Each once.
    #[must_use]
    pub fn references(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.rule.collect(&mut found);
        found
    }

    /// The names of the alarms it is about. Each once.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.references().into_iter().map(name_of).collect()
    }

    /// Whether it holds, where `state` knows the states of alarms by their names. One that is not there is in no
    /// state.
    #[must_use]
    pub fn holds(&self, state: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        self.rule.holds(state)
    }
}

/// An alarm's name, whichever way it is referred to.
fn name_of(reference: &str) -> &str {
    match reference.starts_with("arn:") {
        true => reference.split_once(":alarm:").map_or(reference, |(_, name)| name),
        false => reference,
    }
}

impl Rule {
    fn collect<'a>(&'a self, found: &mut BTreeSet<&'a str>) {
        match self {
            Self::Always(_) => {}
            Self::Is(_, alarm) => {
                found.insert(alarm);
            }
            Self::Not(rule) => rule.collect(found),
            Self::All(rules) | Self::Any(rules) => rules.iter().for_each(|rule| rule.collect(found)),
        }
    }

    fn holds(&self, state: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        match self {
            Self::Always(holds) => *holds,
            Self::Is(wanted, alarm) => state(name_of(alarm)) == Some(*wanted),
            Self::Not(rule) => !rule.holds(state),
            Self::All(rules) => rules.iter().all(|rule| rule.holds(state)),
            Self::Any(rules) => rules.iter().any(|rule| rule.holds(state)),
        }
    }
}

impl FromStr for AlarmRule {
    type Err = AlarmRuleError;

    fn from_str(text: &str) -> Result<Self, AlarmRuleError> {
        if text.chars().count() > LENGTH_MAX {
            return Err(AlarmRuleError(format!("a rule has at most {LENGTH_MAX} characters")));
        }
        let mut parser = Parser { text, at: 0, depth: 0 };
        let rule = parser.any()?;
        if !parser.rest().is_empty() {
            return Err(parser.expected("AND, OR or the end"));
        }
        let this = Self { text: text.to_owned(), rule };
        if this.references().len() > ALARMS_MAX {
            return Err(AlarmRuleError(format!("a rule is about at most {ALARMS_MAX} alarms")));
        }
        Ok(this)
    }
}

impl TryFrom<String> for AlarmRule {
    type Error = AlarmRuleError;

    fn try_from(text: String) -> Result<Self, AlarmRuleError> {
        text.parse()
    }
}

impl From<AlarmRule> for String {
    fn from(rule: AlarmRule) -> Self {
        rule.text
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Where in the text, in bytes.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    /// What is left, without leading spaces.
    fn rest(&mut self) -> &'a str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn expected(&mut self, what: &str) -> AlarmRuleError {
        let found: String = self.rest().chars().take(30).collect();
        let found = if found.is_empty() { "the end".to_owned() } else { format!("{found:?}") };
        let place = self.text.get(..self.at).unwrap_or_default().chars().count() + 1;
        AlarmRuleError(format!("at character {place} there should be {what}, not {found}"))
    }

    /// Takes `symbol` if it is next.
    fn symbol(&mut self, symbol: char) -> bool {
        let is_next = self.rest().starts_with(symbol);
        if is_next {
            self.at += symbol.len_utf8();
        }
        is_next
    }

    /// Takes `word` if it is next, and not the beginning of a longer one.
    fn word(&mut self, word: &str) -> bool {
        let Some(after) = self.rest().strip_prefix(word) else { return false };
        let ends = !after.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_');
        if ends {
            self.at += word.len();
        }
        ends
    }

    fn any(&mut self) -> Result<Rule, AlarmRuleError> {
        let mut rules = vec![self.all()?];
        while self.word("OR") {
            rules.push(self.all()?);
        }
        Ok(single(rules, Rule::Any))
    }

    fn all(&mut self) -> Result<Rule, AlarmRuleError> {
        let mut rules = vec![self.one()?];
        while self.word("AND") {
            rules.push(self.one()?);
        }
        Ok(single(rules, Rule::All))
    }

    fn one(&mut self) -> Result<Rule, AlarmRuleError> {
        if self.depth == DEPTH_MAX {
            return Err(AlarmRuleError(format!("a rule is nested at most {DEPTH_MAX} levels deep")));
        }
        self.depth += 1;
        let rule = self.one_of_this_depth();
        self.depth -= 1;
        rule
    }

    fn one_of_this_depth(&mut self) -> Result<Rule, AlarmRuleError> {
        if self.word("NOT") {
            return Ok(Rule::Not(Box::new(self.one()?)));
        }
        if self.symbol('(') {
            let rule = self.any()?;
            return if self.symbol(')') { Ok(rule) } else { Err(self.expected("AND, OR or \")\"")) };
        }
        for (word, holds) in [("TRUE", true), ("FALSE", false)] {
            if self.word(word) {
                return Ok(Rule::Always(holds));
            }
        }
        let states = [
            ("ALARM", AlarmState::Alarm),
            ("OK", AlarmState::Ok),
            ("INSUFFICIENT_DATA", AlarmState::InsufficientData),
        ];
        for (word, state) in states {
            if self.word(word) {
                if !self.symbol('(') {
                    return Err(self.expected("\"(\""));
                }
                let alarm = self.alarm()?;
                return if self.symbol(')') {
                    Ok(Rule::Is(state, alarm))
                } else {
                    Err(self.expected("\")\""))
                };
            }
        }
        Err(self.expected("ALARM(…), OK(…), INSUFFICIENT_DATA(…), TRUE, FALSE, NOT or \"(\""))
    }

    fn alarm(&mut self) -> Result<String, AlarmRuleError> {
        if !self.symbol('"') {
            let rest = self.rest();
            let ends = |letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | ',' | '"');
            let name = &rest[..rest.find(ends).unwrap_or(rest.len())];
            if name.is_empty() {
                return Err(self.expected("the name of an alarm"));
            }
            self.at += name.len();
            return Ok(name.to_owned());
        }
        let mut name = String::new();
        let mut letters = self.text.get(self.at..).unwrap_or_default().chars();
        while let Some(letter) = letters.next() {
            self.at += letter.len_utf8();
            match letter {
                '"' if !name.is_empty() => return Ok(name),
                '"' => break,
                '\\' => {
                    if let Some(escaped) = letters.next() {
                        self.at += escaped.len_utf8();
                        name.push(escaped);
                    }
                }
                _ => name.push(letter),
            }
        }
        Err(self.expected("the name of an alarm and a closing quote"))
    }
}

/// A list of one is that one.
fn single(mut rules: Vec<Rule>, many: fn(Vec<Rule>) -> Rule) -> Rule {
    match rules.len() {
        1 => rules.swap_remove(0),
        _ => many(rules),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a rule holds where `a` is in ALARM, `o` OK, `i` without data, and no other alarm is there.
    fn holds(text: &str) -> bool {
        let rule: AlarmRule = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        rule.holds(&|name| match name {
            "a" => Some(AlarmState::Alarm),
            "o" | "it's \"o\"" => Some(AlarmState::Ok),
            "i" => Some(AlarmState::InsufficientData),
            _ => None,
        })
    }

    #[test]
    fn rules_hold_or_not() {
        for text in [
            "ALARM(a)",
            " ALARM ( \"a\" ) ",
            "ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:a)",
            "OK(o) AND INSUFFICIENT_DATA(i)",
            "NOT ALARM(o)",
            "NOT OK(nobody)",
            "ALARM(o) OR ALARM(a)",
            "TRUE OR FALSE AND FALSE",
            "(ALARM(a) OR OK(a)) AND NOT (OK(a) OR FALSE)",
            "NOT FALSE AND TRUE",
            "NOT NOT TRUE",
            r#"OK("it's \"o\"")"#,
            "ALARM(a)AND(OK(o))",
        ] {
            assert!(holds(text), "{text}");
        }
        for text in
            ["OK(a)", "(TRUE OR FALSE) AND FALSE", "NOT (TRUE)", "ALARM(nobody)", "NOT FALSE AND FALSE"]
        {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn names_are_found_wherever_they_are() {
        let rule: AlarmRule =
            "ALARM(b) AND NOT (OK(a) OR ALARM(\"arn:aws:cloudwatch:x:1:alarm:b\"))".parse().unwrap();
        assert_eq!(rule.names().into_iter().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(rule.references().len(), 3);
    }

    #[test]
    fn what_is_no_rule_says_where() {
        for (text, says) in [
            (
                "",
                "at character 1 there should be ALARM(…), OK(…), INSUFFICIENT_DATA(…), TRUE, FALSE, NOT or \"(\", not the end",
            ),
            ("ALARM(a) ALARM(b)", "at character 10 there should be AND, OR or the end, not \"ALARM(b)\""),
            ("ALARM a", "at character 7 there should be \"(\", not \"a\""),
            ("ALARM()", "at character 7 there should be the name of an alarm, not \")\""),
            ("ALARM(\"a)", "the name of an alarm and a closing quote, not the end"),
            ("(ALARM(a)", "at character 10 there should be AND, OR or \")\", not the end"),
            ("ALARMED(a)", "at character 1"),
            ("AT_LEAST(1, ALARM, (a))", "at character 1"),
        ] {
            let error = text.parse::<AlarmRule>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn rules_are_bounded() {
        let nested = |levels: usize| format!("{}TRUE{}", "(".repeat(levels), ")".repeat(levels));
        assert!(nested(DEPTH_MAX - 1).parse::<AlarmRule>().is_ok());
        assert!(nested(5000).parse::<AlarmRule>().is_err());
        assert!("NOT ".repeat(2000).parse::<AlarmRule>().is_err());
        let of = |count: usize| (0..count).map(|n| format!("ALARM(a{n})")).collect::<Vec<_>>().join(" OR ");
        assert!(of(ALARMS_MAX).parse::<AlarmRule>().is_ok());
        assert!(of(ALARMS_MAX + 1).parse::<AlarmRule>().is_err());
        assert!(format!("ALARM({})", "a".repeat(LENGTH_MAX)).parse::<AlarmRule>().is_err());
    }
}
