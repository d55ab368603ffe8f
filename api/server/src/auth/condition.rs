//! The `Condition` element of policy statements.
//!
//! A condition names an operator, a key and values; it holds when the request's value of that key
//! compares with one of them, or, for the negated operators, with none. Rules: the IAM user guide, "IAM
//! JSON policy elements: Condition operators".

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::glob;
use super::policy::texts;

/// What conditions can ask about: values by key, in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    /// Adds a value to a key.
    pub(crate) fn add(&mut self, key: &str, value: impl Into<String>) {
        self.0.entry(key.to_ascii_lowercase()).or_default().push(value.into());
    }

    fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }
}

/// One operator with one key and its values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    operator: Operator,
    /// Whether it is the operator's opposite (`StringNotEquals`).
    negated: bool,
    /// `…IfExists`: holds where the request has no such key.
    if_exists: bool,
    quantifier: Quantifier,
    /// In lower case.
    key: String,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equals,
    EqualsIgnoreCase,
    Like,
    Ip,
    Bool,
    Null,
    Numeric(Comparison),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// How many of the request's values must compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    /// The one there is, or any of them.
    Any,
    /// `ForAllValues:`: all of them, which holds where there are none.
    All,
}

impl Condition {
    /// All conditions of a statement.
    ///
    /// # Errors
    /// What is not understood.
    pub(super) fn read_all(value: &Value) -> Result<Vec<Self>, String> {
        let operators = value.as_object().ok_or("Syntax errors in policy: Condition must be an object.")?;
        let mut all = Vec::new();
        for (operator, keys) in operators {
            let keys = keys
                .as_object()
                .ok_or_else(|| format!("Syntax errors in policy: condition {operator} must be an object."))?;
            for (key, values) in keys {
                all.push(Self::read(operator, key, values)?);
            }
        }
        Ok(all)
    }

    fn read(full: &str, key: &str, values: &Value) -> Result<Self, String> {
        let (quantifier, name) = match full.split_once(':') {
            None => (Quantifier::Any, full),
            Some(("ForAnyValue", name)) => (Quantifier::Any, name),
            Some(("ForAllValues", name)) => (Quantifier::All, name),
            Some(_) => return Err(format!("Invalid Condition type : {full}.")),
        };
        let (name, if_exists) = name.strip_suffix("IfExists").map_or((name, false), |name| (name, true));
        let (operator, negated) = match name {
            "StringEquals" => (Operator::Equals, false),
            "StringNotEquals" => (Operator::Equals, true),
            "StringEqualsIgnoreCase" => (Operator::EqualsIgnoreCase, false),
            "StringNotEqualsIgnoreCase" => (Operator::EqualsIgnoreCase, true),
            "StringLike" | "ArnLike" | "ArnEquals" => (Operator::Like, false),
            "StringNotLike" | "ArnNotLike" | "ArnNotEquals" => (Operator::Like, true),
            "IpAddress" => (Operator::Ip, false),
            "NotIpAddress" => (Operator::Ip, true),
            "Bool" => (Operator::Bool, false),
            "Null" if !if_exists => (Operator::Null, false),
            "NumericEquals" => (Operator::Numeric(Comparison::Equal), false),
            "NumericNotEquals" => (Operator::Numeric(Comparison::Equal), true),
            "NumericLessThan" => (Operator::Numeric(Comparison::Less), false),
            "NumericLessThanEquals" => (Operator::Numeric(Comparison::LessOrEqual), false),
            "NumericGreaterThan" => (Operator::Numeric(Comparison::Greater), false),
            "NumericGreaterThanEquals" => (Operator::Numeric(Comparison::GreaterOrEqual), false),
            _ => return Err(format!("Invalid Condition type : {full}.")),
        };
        let plain = match values {
            Value::Bool(value) => Some(vec![value.to_string()]),
            Value::Number(value) => Some(vec![value.to_string()]),
            other => texts(other),
        };
        let values = plain.filter(|values| !values.is_empty()).ok_or_else(|| {
            format!("Syntax errors in policy: the values of {full} {key} must be text or a list of texts.")
        })?;
        if let Some(bad) = values.iter().find(|value| !operator.takes(value)) {
            return Err(format!("Invalid value {bad:?} for condition {full} {key}."));
        }
        Ok(Self { operator, negated, if_exists, quantifier, key: key.to_ascii_lowercase(), values })
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let found = context.get(&self.key);
        if self.operator == Operator::Null {
            // The only operator about whether the key is there at all.
            return self.values.iter().any(|value| (value == "true") == found.is_empty());
        }
        if found.is_empty() {
            return self.if_exists || self.negated || self.quantifier == Quantifier::All;
        }
        let compares = |found: &String| {
            self.values.iter().any(|value| self.operator.compares(found, value)) != self.negated
        };
        match self.quantifier {
            // One that is among the values is enough to break a negated operator.
            Quantifier::Any if self.negated => found.iter().all(compares),
            Quantifier::Any => found.iter().any(compares),
            Quantifier::All => found.iter().all(compares),
        }
    }
}

impl Operator {
    /// Whether a policy's value is one for this operator.
    fn takes(self, value: &str) -> bool {
        match self {
            Self::Equals | Self::EqualsIgnoreCase | Self::Like => true,
            Self::Ip => Cidr::parse(value).is_some(),
            Self::Bool | Self::Null => matches!(value, "true" | "false"),
            Self::Numeric(_) => value.parse::<f64>().is_ok(),
        }
    }

    fn compares(self, found: &str, value: &str) -> bool {
        match self {
            Self::Equals => found == value,
            Self::EqualsIgnoreCase => found.eq_ignore_ascii_case(value),
            Self::Like => glob::matches(value, found),
            Self::Ip => found
                .parse()
                .is_ok_and(|address| Cidr::parse(value).is_some_and(|cidr| cidr.contains(address))),
            Self::Bool => found.eq_ignore_ascii_case(value),
            Self::Null => false,
            Self::Numeric(comparison) => match (found.parse::<f64>(), value.parse::<f64>()) {
                (Ok(found), Ok(value)) => match comparison {
                    Comparison::Equal => (found - value).abs() < f64::EPSILON,
                    Comparison::Less => found < value,
                    Comparison::LessOrEqual => found <= value,
                    Comparison::Greater => found > value,
                    Comparison::GreaterOrEqual => found >= value,
                },
                _ => false,
            },
        }
    }
}

/// A range of addresses: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cidr {
    address: IpAddr,
    prefix: u32,
}

impl Cidr {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Some(bits), |prefix| prefix.parse().ok())?;
        (prefix <= bits).then_some(Self { address, prefix })
    }

    fn contains(self, address: IpAddr) -> bool {
        // A client that came over a dual-stack socket.
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differing = ours.to_bits() ^ theirs.to_bits();
                differing.leading_zeros() >= self.prefix
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(condition: &Value, context: &[(&str, &str)]) -> bool {
        let mut values = Context::default();
        context.iter().for_each(|(key, value)| values.add(key, *value));
        Condition::read_all(condition).unwrap().iter().all(|condition| condition.holds(&values))
    }

    #[test]
    fn operators() {
        const PROD: &str = "arn:aws:ecs:us-east-1:123456789012:cluster/prod";
        let cluster = [("ecs:cluster", PROD)];
        for (condition, context, expected) in [
            (json!({"ArnEquals": {"ecs:cluster": PROD}}), &cluster[..], true),
            (json!({"ArnLike": {"ECS:Cluster": "arn:aws:ecs:*:*:cluster/prod"}}), &cluster, true),
            (json!({"ArnNotLike": {"ecs:cluster": "*:cluster/test"}}), &cluster, true),
            (json!({"ArnEquals": {"ecs:cluster": PROD}}), &[], false),
            (json!({"ArnEqualsIfExists": {"ecs:cluster": PROD}}), &[], true),
            (json!({"StringNotEquals": {"aws:username": ["a", "b"]}}), &[("aws:username", "b")], false),
            (json!({"StringNotEquals": {"aws:username": ["a", "b"]}}), &[("aws:username", "c")], true),
            (json!({"StringEqualsIgnoreCase": {"aws:username": "Dev"}}), &[("aws:username", "dEV")], true),
            (
                json!({"IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "::1"]}}),
                &[("aws:sourceip", "10.2.3.4")],
                true,
            ),
            (
                json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
                &[("aws:sourceip", "::ffff:10.2.3.4")],
                true,
            ),
            (json!({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}), &[("aws:sourceip", "11.2.3.4")], true),
            (json!({"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}), &[("aws:sourceip", "1.2.3.4")], true),
            (json!({"Bool": {"aws:SecureTransport": "true"}}), &[("aws:securetransport", "false")], false),
            (json!({"Null": {"aws:TokenIssueTime": "true"}}), &[], true),
            (json!({"Null": {"aws:TokenIssueTime": false}}), &[], false),
            (json!({"NumericLessThanEquals": {"x:n": "3"}}), &[("x:n", "3")], true),
            (json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}), &[], true),
            (
                json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["team"]}}),
                &[("aws:tagkeys", "team"), ("aws:tagkeys", "x")],
                false,
            ),
            (
                json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["team"]}}),
                &[("aws:tagkeys", "team"), ("aws:tagkeys", "x")],
                true,
            ),
        ] {
            assert_eq!(holds(&condition, context), expected, "{condition} {context:?}");
        }
    }

    #[test]
    fn what_cannot_compare_is_refused() {
        for condition in [
            json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/99"}}),
            json!({"Bool": {"aws:SecureTransport": "yes"}}),
            json!({"NumericEquals": {"x:n": "many"}}),
            json!({"ForSomeValues:StringEquals": {"a": "b"}}),
            json!({"StringEquals": {"a": {}}}),
            json!({"StringEquals": "a"}),
            json!([]),
        ] {
            assert!(Condition::read_all(&condition).is_err(), "{condition}");
        }
    }
}
