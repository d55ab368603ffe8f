//! The cluster query language: expressions over nodes, as `memberOf` constraints and list filters use them.
//!
//! ```text
//! or         = and { ("or" | "||") and }
//! and        = not { ("and" | "&&") not }
//! not        = ("not" | "!") not | "(" or ")" | comparison
//! comparison = subject ( operator argument | "in" list | "!in" list | "exists" | "!exists" )
//! subject    = "attribute:" name | "task:group" | "runningTasksCount" | "agentConnected" | …
//! argument   = word | 'text' | "text"       list = "[" argument { "," argument } "]"
//! ```
//!
//! Grammar, subjects and operators: the ECS developer guide, "Cluster query language". A comparison with
//! something a node does not have does not hold, and neither does its opposite hold for that reason alone:
//! `!=`, `!in` and `!~` hold for a node without the attribute, as in ECS.

use std::fmt;

use coracle_types::Node;
use regex::{Regex, RegexBuilder};

/// The longest expression, as ECS has it.
const MAX_CHARS: usize = 2000;

/// How deep parentheses and negations may be nested.
const MAX_DEPTH: usize = 50;

/// The largest program a regular expression may be compiled to, in bytes.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Why an expression can't be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Where, counted in characters from 0.
    pub at: usize,
    /// What is wrong there.
    pub problem: String,
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invalid expression at character {}: {}", self.at + 1, self.problem)
    }
}

impl std::error::Error for QueryError {}

/// What an expression is asked about: a node, and the tasks on it.
pub trait Subject {
    /// The node.
    fn node(&self) -> &Node;
    /// How many of its tasks are RUNNING.
    fn running_tasks(&self) -> usize;
    /// Whether it has a task of this group.
    fn has_task_of(&self, group: &str) -> bool;
}

/// A question about a node that was understood.
#[derive(Clone, Debug)]
pub struct Expression(Term);

#[derive(Clone, Debug)]
enum Term {
    And(Vec<Term>),
    Or(Vec<Term>),
    Not(Box<Term>),
    Compare(Property, Comparison),
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Property {
    Attribute(String),
    TaskGroup,
    RunningTasksCount,
    AgentConnected,
    AgentVersion,
    InstanceId,
    CapacityProvider,
    RegisteredAt,
    Status,
}

/// What it is compared with.
#[derive(Clone, Debug)]
enum Comparison {
    Equals(String),
    Orders(Order, String),
    In(Vec<String>),
    Exists,
    Matches(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expression {
    /// Understands an expression.
    ///
    /// # Errors
    /// Where it is wrong, and what was expected there.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let length = text.chars().count();
        if length > MAX_CHARS {
            let problem = format!("it has {length} characters, and {MAX_CHARS} are allowed");
            return Err(QueryError { at: MAX_CHARS, problem });
        }
        let mut parser = Parser { tokens: tokens(text)?, next: 0, end: length, depth: 0 };
        let term = parser.or()?;
        match parser.peek() {
            None => Ok(Self(term)),
            Some(_) => Err(parser.error("the expression should have ended here, or gone on with and, or")),
        }
    }

    /// Whether it holds for a node.
    #[must_use]
    pub fn holds(&self, subject: &dyn Subject) -> bool {
        self.0.holds(subject)
    }

    /// Whether its answer depends on the tasks a node has.
    #[must_use]
    pub fn depends_on_tasks(&self) -> bool {
        self.0.depends_on_tasks()
    }
}

impl Term {
    fn holds(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::And(terms) => terms.iter().all(|term| term.holds(subject)),
            Self::Or(terms) => terms.iter().any(|term| term.holds(subject)),
            Self::Not(term) => !term.holds(subject),
            Self::Compare(Property::TaskGroup, comparison) => match comparison {
                Comparison::Equals(group) => subject.has_task_of(group),
                Comparison::In(groups) => groups.iter().any(|group| subject.has_task_of(group)),
                _ => false,
            },
            Self::Compare(Property::Attribute(name), Comparison::Exists) => {
                subject.node().attributes.contains_key(name)
            }
            Self::Compare(property, comparison) => {
                property.value(subject).is_some_and(|value| comparison.holds(&value))
            }
        }
    }

    fn depends_on_tasks(&self) -> bool {
        match self {
            Self::And(terms) | Self::Or(terms) => terms.iter().any(Self::depends_on_tasks),
            Self::Not(term) => term.depends_on_tasks(),
            Self::Compare(property, _) => {
                matches!(property, Property::TaskGroup | Property::RunningTasksCount)
            }
        }
    }
}

impl Property {
    fn of(word: &str) -> Option<Self> {
        if let Some(name) = word.strip_prefix("attribute:").filter(|name| !name.is_empty()) {
            return Some(Self::Attribute(name.to_owned()));
        }
        Some(match word {
            "task:group" => Self::TaskGroup,
            "runningTasksCount" => Self::RunningTasksCount,
            "agentConnected" => Self::AgentConnected,
            "agentVersion" => Self::AgentVersion,
            "ec2InstanceId" | "containerInstance" => Self::InstanceId,
            "capacityProvider" | "capacityProviderName" => Self::CapacityProvider,
            "registeredAt" => Self::RegisteredAt,
            "status" => Self::Status,
            _ => return None,
        })
    }

    fn value(&self, subject: &dyn Subject) -> Option<String> {
        let node = subject.node();
        match self {
            Self::Attribute(name) => node.attribute(name).map(str::to_owned),
            Self::TaskGroup => None,
            Self::RunningTasksCount => Some(subject.running_tasks().to_string()),
            Self::AgentConnected => Some(node.agent_connected.to_string()),
            Self::AgentVersion => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::InstanceId => Some(node.id.to_string()),
            Self::CapacityProvider => node.capacity_provider.clone(),
            Self::RegisteredAt => Some(node.registered_at.as_millis().to_string()),
            Self::Status => Some(
                match node.status {
                    coracle_types::NodeStatus::Active => "ACTIVE",
                    coracle_types::NodeStatus::Draining => "DRAINING",
                    coracle_types::NodeStatus::Inactive => "INACTIVE",
                }
                .to_owned(),
            ),
        }
    }
}

impl Comparison {
    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Equals(with) => value == with,
            Self::In(with) => with.iter().any(|one| one == value),
            Self::Exists => true,
            Self::Matches(regex) => regex.is_match(value),
            Self::Orders(order, with) => {
                // Numbers as numbers, everything else as text.
                let ordering = match (value.parse::<f64>(), with.parse::<f64>()) {
                    (Ok(value), Ok(with)) => value.partial_cmp(&with),
                    _ => Some(value.cmp(with)),
                };
                ordering.is_some_and(|ordering| match order {
                    Order::Less => ordering.is_lt(),
                    Order::LessOrEqual => ordering.is_le(),
                    Order::Greater => ordering.is_gt(),
                    Order::GreaterOrEqual => ordering.is_ge(),
                })
            }
        }
    }
}

/// A piece of an expression and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Token {
    at: usize,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Word(String),
    Quoted(String),
    /// Brackets, commas and operators.
    Sign(&'static str),
}

/// Longer ones first: the first that fits is taken.
const SIGNS: [&str; 18] =
    ["&&", "||", "==", "!=", ">=", "<=", "=~", "!~", "~", "=", ">", "<", "!", "(", ")", "[", "]", ","];

fn is_word(char: char) -> bool {
    !char.is_whitespace() && !"()[],\"'!=<>~&|".contains(char)
}

fn tokens(text: &str) -> Result<Vec<Token>, QueryError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&char) = chars.get(at) {
        let begin = at;
        if char.is_whitespace() {
            at += 1;
            continue;
        }
        let kind = if char == '\'' || char == '"' {
            let end = chars[at + 1..].iter().position(|&one| one == char);
            let end =
                end.ok_or_else(|| QueryError { at, problem: "the quotation does not end".to_owned() })?;
            let quoted = chars[at + 1..at + 1 + end].iter().collect();
            at += end + 2;
            Kind::Quoted(quoted)
        } else if is_word(char) {
            let length = chars[at..].iter().take_while(|&&one| is_word(one)).count();
            at += length;
            Kind::Word(chars[begin..at].iter().collect())
        } else {
            let fits = |sign: &&&str| sign.chars().eq(chars[at..].iter().copied().take(sign.len()));
            let sign = SIGNS.iter().find(fits);
            let sign =
                sign.ok_or_else(|| QueryError { at, problem: format!("{char:?} means nothing here") })?;
            at += sign.len();
            Kind::Sign(sign)
        };
        tokens.push(Token { at: begin, kind });
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    end: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.next).map(|token| &token.kind)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |token| token.at)
    }

    fn error(&self, problem: impl Into<String>) -> QueryError {
        QueryError { at: self.at(), problem: problem.into() }
    }

    /// Takes the next token if it is one of these signs or words.
    fn take(&mut self, any: &[&str]) -> bool {
        let found = match self.peek() {
            Some(Kind::Sign(sign)) => any.contains(sign),
            Some(Kind::Word(word)) => any.contains(&word.as_str()),
            _ => false,
        };
        self.next += usize::from(found);
        found
    }

    fn or(&mut self) -> Result<Term, QueryError> {
        let mut terms = vec![self.and()?];
        while self.take(&["or", "||"]) {
            terms.push(self.and()?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { Term::Or(terms) })
    }

    fn and(&mut self) -> Result<Term, QueryError> {
        let mut terms = vec![self.not()?];
        while self.take(&["and", "&&"]) {
            terms.push(self.not()?);
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { Term::And(terms) })
    }

    fn not(&mut self) -> Result<Term, QueryError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("it is nested more than {MAX_DEPTH} deep")));
        }
        let term = if self.take(&["not", "!"]) {
            Term::Not(Box::new(self.not()?))
        } else if self.take(&["("]) {
            let term = self.or()?;
            if !self.take(&[")"]) {
                return Err(self.error("a closing parenthesis is expected"));
            }
            term
        } else {
            self.comparison()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn comparison(&mut self) -> Result<Term, QueryError> {
        let property = match self.peek() {
            Some(Kind::Word(word)) => Property::of(word).ok_or_else(|| {
                self.error(format!(
                    "{word:?} can't be asked for; attribute:NAME, task:group, runningTasksCount, agentConnected, \
                     agentVersion, ec2InstanceId, capacityProvider, registeredAt and status can"
                ))
            })?,
            _ => return Err(self.error("a subject such as attribute:NAME is expected")),
        };
        self.next += 1;
        let not = |term| Term::Not(Box::new(term));
        let compare = |comparison| Term::Compare(property.clone(), comparison);
        if self.take(&["exists"]) {
            return Ok(compare(Comparison::Exists));
        }
        if self.take(&["not_exists"]) {
            return Ok(not(compare(Comparison::Exists)));
        }
        if self.take(&["in"]) {
            return Ok(compare(Comparison::In(self.list()?)));
        }
        if self.take(&["not_in"]) {
            return Ok(not(compare(Comparison::In(self.list()?))));
        }
        if self.take(&["==", "=", "equals"]) {
            return Ok(compare(Comparison::Equals(self.argument()?)));
        }
        if self.take(&["!=", "not_equals"]) {
            return Ok(not(compare(Comparison::Equals(self.argument()?))));
        }
        if self.take(&["=~", "~", "matches"]) {
            return Ok(compare(Comparison::Matches(self.regex()?)));
        }
        if self.take(&["!~", "not_matches"]) {
            return Ok(not(compare(Comparison::Matches(self.regex()?))));
        }
        for (names, order) in [
            ([">=", "greater_than_equal"], Order::GreaterOrEqual),
            (["<=", "less_than_equal"], Order::LessOrEqual),
            ([">", "greater_than"], Order::Greater),
            (["<", "less_than"], Order::Less),
        ] {
            if self.take(&names) {
                return Ok(compare(Comparison::Orders(order, self.argument()?)));
            }
        }
        if self.take(&["!"]) {
            if self.take(&["in"]) {
                return Ok(not(compare(Comparison::In(self.list()?))));
            }
            if self.take(&["exists"]) {
                return Ok(not(compare(Comparison::Exists)));
            }
        }
        Err(self.error("an operator is expected: ==, !=, >, >=, <, <=, in, !in, =~, !~, exists or !exists"))
    }

    fn argument(&mut self) -> Result<String, QueryError> {
        match self.peek() {
            Some(Kind::Word(text) | Kind::Quoted(text)) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.error("a value is expected")),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, QueryError> {
        if !self.take(&["["]) {
            return Err(self.error("a list such as [a, b] is expected"));
        }
        let mut list = vec![self.argument()?];
        while self.take(&[","]) {
            list.push(self.argument()?);
        }
        if !self.take(&["]"]) {
            return Err(self.error("a comma or a closing bracket is expected"));
        }
        Ok(list)
    }

    /// A regular expression has to match the whole value.
    fn regex(&mut self) -> Result<Regex, QueryError> {
        let at = self.at();
        let pattern = self.argument()?;
        RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MAX_REGEX_BYTES).build().map_err(|error| {
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            QueryError { at, problem: format!("{pattern:?} is not a regular expression: {reason}") }
        })
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::{NodeId, Timestamp};

    use super::*;

    struct Asked(Node);

    impl Subject for Asked {
        fn node(&self) -> &Node {
            &self.0
        }
        fn running_tasks(&self) -> usize {
            12
        }
        fn has_task_of(&self, group: &str) -> bool {
            group == "service:web"
        }
    }

    fn holds(text: &str) -> bool {
        let mut node = Node::new(NodeId(0xab), 1, 1, Timestamp(1_000), 1);
        for (name, value) in
            [("ecs.availability-zone", "us-east-1a"), ("ecs.instance-type", "g2.large"), ("vcpu", "9")]
        {
            node.attributes.insert(name.to_owned(), Some(value.to_owned()));
        }
        node.attributes.insert("gpu".to_owned(), None);
        Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&Asked(node))
    }

    #[test]
    fn expressions_of_the_guide() {
        for yes in [
            "attribute:ecs.instance-type == g2.large",
            "attribute:ecs.availability-zone in [us-east-1a, us-east-1b]",
            "attribute:ecs.instance-type =~ g2.* and attribute:ecs.availability-zone != us-east-1d",
            "task:group == service:web",
            "not(task:group == database)",
            "runningTasksCount > 9",
            "runningTasksCount >= 12 && runningTasksCount <= 12",
            "attribute:vcpu < 10",
            "attribute:gpu exists",
            "attribute:disk !exists",
            "attribute:disk not_exists",
            "attribute:disk != ssd",
            "attribute:ecs.availability-zone !in ['us-east-1c', \"us-east-1d\"]",
            "agentConnected == true",
            "ec2InstanceId in ['000000000000000000000000000000ab']",
            "status equals ACTIVE",
            "attribute:a == 1 or attribute:b == 2 or (attribute:vcpu greater_than 8)",
            "!(attribute:a == 1)",
            "attribute:ecs.instance-type !~ m.*",
            "registeredAt >= 1000",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in [
            "attribute:ecs.instance-type == G2.large",
            "attribute:ecs.instance-type =~ g2",
            "attribute:gpu == 1",
            "attribute:disk =~ .*",
            "task:group == web",
            "attribute:vcpu > 10",
            "attribute:vcpu == 9 and attribute:disk exists",
            "capacityProvider == spare",
        ] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        for (text, at, problem) in [
            ("", 0, "a subject"),
            ("color == red", 0, "\"color\" can't be asked for"),
            ("attribute:color", 15, "an operator"),
            ("attribute:color ==", 18, "a value"),
            ("attribute:color == red blue", 23, "should have ended"),
            ("(attribute:color == red", 23, "a closing parenthesis"),
            ("attribute:color in red", 19, "a list"),
            ("attribute:color in [red blue]", 24, "a comma"),
            ("attribute:color == 'red", 19, "does not end"),
            ("attribute:color =~ '['", 19, "is not a regular expression"),
            ("attribute:color == red & attribute:a == b", 23, "means nothing"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert_eq!(error.at, at, "{text}: {error}");
            assert!(error.problem.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn expressions_are_bounded() {
        assert!(Expression::parse(&"(".repeat(1000)).unwrap_err().problem.contains("deep"));
        assert!(Expression::parse(&" ".repeat(3000)).unwrap_err().problem.contains("2000"));
        assert!(Expression::parse("attribute:a =~ '(((a{100}){100}){100})'").is_err());
    }
}
