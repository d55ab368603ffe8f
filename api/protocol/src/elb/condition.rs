//! Conditions and transforms of rules.

use std::net::IpAddr;

use coracle_types::elb::{Condition, Patterns, QueryPattern, Rewrite, Transform};
use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// A value that is compared may have this many characters.
const VALUE_MAX: usize = 128;
/// A regular expression or a replacement of a rewrite may have this many characters.
const REWRITE_MAX: usize = 1024;
/// A header's name, and a request's method, may have this many characters.
const NAME_MAX: usize = 40;
/// A rule may compare with this many values in all (ELBv2's quota).
const VALUES_MAX: usize = 5;

/// Takes `Conditions`; None when they are not there.
///
/// # Errors
/// When one is not possible, or there are too many.
pub fn take(members: &mut Members) -> Result<Option<Vec<Condition>>, ApiError> {
    let Some(items) = members.objects("Conditions")? else { return Ok(None) };
    let conditions: Vec<Condition> = items.into_iter().map(decode).collect::<Result<_, _>>()?;
    let values: usize = conditions.iter().map(count).sum();
    if values > VALUES_MAX {
        return Err(ApiError::Client(format!("A rule can only have '{VALUES_MAX}' condition values")));
    }
    for field in ["host-header", "path-pattern", "http-request-method", "source-ip"] {
        if conditions.iter().filter(|condition| field_of(condition) == field).count() > 1 {
            return Err(ApiError::Client(format!("A rule can only have one '{field}' condition")));
        }
    }
    Ok(Some(conditions))
}

fn count(condition: &Condition) -> usize {
    match condition {
        Condition::Host(patterns) | Condition::Path(patterns) | Condition::Header { patterns, .. } => {
            patterns.values.len() + patterns.regexes.len()
        }
        Condition::Method(values) | Condition::SourceIp(values) => values.len(),
        Condition::Query(values) => values.len(),
    }
}

fn field_of(condition: &Condition) -> &'static str {
    match condition {
        Condition::Host(_) => "host-header",
        Condition::Path(_) => "path-pattern",
        Condition::Header { .. } => "http-header",
        Condition::Method(_) => "http-request-method",
        Condition::Query(_) => "query-string",
        Condition::SourceIp(_) => "source-ip",
    }
}

fn decode(mut condition: Members) -> Result<Condition, ApiError> {
    let field = condition.required_text("Field")?;
    let mut config = |name: &str| -> Result<Members, ApiError> {
        condition
            .object(name)?
            .ok_or_else(|| ApiError::Client(format!("A '{name}' must be specified with '{field}'")))
    };
    match field.as_str() {
        "host-header" => patterns(&mut condition, &field, "HostHeaderConfig").map(Condition::Host),
        "path-pattern" => patterns(&mut condition, &field, "PathPatternConfig").map(Condition::Path),
        "http-header" => {
            let mut config = config("HttpHeaderConfig")?;
            let name = config.required_text("HttpHeaderName")?;
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            within("HttpHeaderName", &name, NAME_MAX)?;
            if !name.bytes().all(token) {
                return Err(config.invalid("HttpHeaderName", "it must be the name of a header"));
            }
            if name.eq_ignore_ascii_case("host") {
                return Err(config.invalid("HttpHeaderName", "use a host-header condition for the host"));
            }
            let mut patterns = take_patterns(&mut config, &field)?;
            patterns.regexes.extend(checked(&field, condition.clone().texts("RegexValues")?)?);
            some(&config, patterns).map(|patterns| Condition::Header { name, patterns })
        }
        "http-request-method" => {
            let mut config = config("HttpRequestMethodConfig")?;
            let values = config.texts("Values")?.unwrap_or_default();
            let allowed = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
            for value in &values {
                within(&field, value, NAME_MAX)?;
                if !value.bytes().all(allowed) {
                    return Err(ApiError::Client(format!(
                        "The '{field}' value is invalid; the allowed characters are A-Z, hyphen and underscore"
                    )));
                }
            }
            specified(&field, values).map(Condition::Method)
        }
        "query-string" => {
            let mut config = config("QueryStringConfig")?;
            let mut values = Vec::new();
            for mut item in config.objects("Values")?.unwrap_or_default() {
                let key = item.text("Key")?.filter(|key| !key.is_empty());
                let value = item.text("Value")?.filter(|value| !value.is_empty()).ok_or_else(|| {
                    ApiError::Client("A 'Value' must be specified in 'QueryStringKeyValuePair'".to_owned())
                })?;
                within("Key", key.as_deref().unwrap_or_default(), VALUE_MAX)?;
                within("Value", &value, VALUE_MAX)?;
                values.push(QueryPattern { key, value });
            }
            specified(&field, values).map(Condition::Query)
        }
        "source-ip" => {
            let mut config = config("SourceIpConfig")?;
            let values = config.texts("Values")?.unwrap_or_default();
            if let Some(bad) = values.iter().find(|value| !is_cidr(value)) {
                return Err(
                    config.invalid("Values", format_args!("{bad:?} is not a CIDR block such as 10.0.0.0/8"))
                );
            }
            specified(&field, values).map(Condition::SourceIp)
        }
        other => Err(ApiError::Client(format!(
            "Condition field '{}' must be one of '[path-pattern,host-header,http-header,http-request-method,query-string,\
             source-ip]'",
            other.chars().take(64).collect::<String>()
        ))),
    }
}

/// Complains, in AWS's words, of a value with more than `limit` characters.
fn within(what: &str, value: &str, limit: usize) -> Result<(), ApiError> {
    if value.chars().count() > limit {
        return Err(ApiError::Client(format!("The '{what}' value is too long; the limit is '{limit}'")));
    }
    Ok(())
}

/// The values, of which there must be one.
fn specified<T>(field: &str, values: Vec<T>) -> Result<Vec<T>, ApiError> {
    if values.is_empty() {
        return Err(ApiError::Client(format!("A '{field}' value must be specified")));
    }
    Ok(values)
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    match (address.parse::<IpAddr>(), bits.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(bits)) => bits <= 32,
        (Ok(IpAddr::V6(_)), Ok(bits)) => bits <= 128,
        _ => false,
    }
}

/// The values of a condition, which may be in a structure of its own or right in the condition.
fn patterns(condition: &mut Members, field: &str, config: &str) -> Result<Patterns, ApiError> {
    let mut all = take_patterns(condition, field)?;
    if let Some(mut config) = condition.object(config)? {
        let nested = take_patterns(&mut config, field)?;
        // AWS gives both back, and people send back what they were given.
        for (all, nested) in [(&mut all.values, nested.values), (&mut all.regexes, nested.regexes)] {
            for value in nested {
                if !all.contains(&value) {
                    all.push(value);
                }
            }
        }
    }
    some(condition, all)
}

fn take_patterns(members: &mut Members, field: &str) -> Result<Patterns, ApiError> {
    Ok(Patterns {
        values: checked(field, members.texts("Values")?)?,
        regexes: checked(field, members.texts("RegexValues")?)?,
    })
}

fn checked(field: &str, values: Option<Vec<String>>) -> Result<Vec<String>, ApiError> {
    let values = values.unwrap_or_default();
    for value in &values {
        within(field, value, VALUE_MAX)?;
        if value.is_empty() {
            return Err(ApiError::Client(format!("A '{field}' value must not be empty")));
        }
    }
    Ok(values)
}

fn some(members: &Members, patterns: Patterns) -> Result<Patterns, ApiError> {
    if patterns.values.is_empty() && patterns.regexes.is_empty() {
        return Err(ApiError::Client("A condition value must be specified".to_owned()));
    }
    if !patterns.values.is_empty() && !patterns.regexes.is_empty() {
        return Err(members.refuse("A condition can have either Values or RegexValues, not both"));
    }
    Ok(patterns)
}

/// Takes `Transforms`; None when they are not there.
///
/// # Errors
/// When one is not possible.
pub fn take_transforms(members: &mut Members) -> Result<Option<Vec<Transform>>, ApiError> {
    let Some(items) = members.objects("Transforms")? else { return Ok(None) };
    let mut transforms: Vec<Transform> = Vec::new();
    for mut item in items {
        let kind = item.required_text("Type")?;
        let (config, make): (&str, fn(Vec<Rewrite>) -> Transform) = match kind.as_str() {
            "host-header-rewrite" => ("HostHeaderRewriteConfig", Transform::Host),
            _ => ("UrlRewriteConfig", Transform::Url),
        };
        let mut config = item.object(config)?.ok_or_else(|| item.missing(config))?;
        let mut rewrites = Vec::new();
        for mut rewrite in config.objects("Rewrites")?.unwrap_or_default() {
            let regex = rewrite.required_text("Regex")?;
            let replace = rewrite.text("Replace")?.unwrap_or_default();
            if regex.chars().count() > REWRITE_MAX || replace.chars().count() > REWRITE_MAX {
                return Err(
                    rewrite.invalid("Regex", format_args!("each must have at most {REWRITE_MAX} characters"))
                );
            }
            rewrites.push(Rewrite { regex, replace });
        }
        if rewrites.len() != 1 {
            return Err(config.invalid("Rewrites", "a transform has exactly one rewrite"));
        }
        let transform = make(rewrites);
        let same = |other: &Transform| std::mem::discriminant(other) == std::mem::discriminant(&transform);
        if transforms.iter().any(same) {
            return Err(item.invalid("Type", format_args!("a rule has at most one {kind}")));
        }
        transforms.push(transform);
    }
    Ok(Some(transforms))
}

/// Every regular expression of a rule's conditions and transforms.
pub fn regexes<'a>(
    conditions: &'a [Condition],
    transforms: &'a [Transform],
) -> impl Iterator<Item = &'a str> {
    let of_condition = |condition: &'a Condition| match condition {
        Condition::Host(patterns) | Condition::Path(patterns) | Condition::Header { patterns, .. } => {
            patterns.regexes.as_slice()
        }
        _ => &[],
    };
    let of_transform = |transform: &'a Transform| match transform {
        Transform::Host(rewrites) | Transform::Url(rewrites) => rewrites.as_slice(),
    };
    let conditions = conditions.iter().flat_map(of_condition).map(String::as_str);
    conditions.chain(transforms.iter().flat_map(of_transform).map(|rewrite| rewrite.regex.as_str()))
}

/// Conditions as they are answered.
#[must_use]
pub fn encode(conditions: &[Condition]) -> Value {
    let texts = |values: &[String]| list(values.iter().map(String::as_str));
    let maybe = |object: Object, name: &str, values: &[String]| match values {
        [] => object,
        some => object.with(name, texts(some)),
    };
    let both = |object: Object, patterns: &Patterns| {
        maybe(maybe(object, "Values", &patterns.values), "RegexValues", &patterns.regexes)
    };
    list(conditions.iter().map(|condition| {
        let object = Object::new().with("Field", field_of(condition));
        match condition {
            Condition::Host(patterns) => {
                both(object, patterns).with("HostHeaderConfig", both(Object::new(), patterns))
            }
            Condition::Path(patterns) => {
                both(object, patterns).with("PathPatternConfig", both(Object::new(), patterns))
            }
            Condition::Header { name, patterns } => {
                let config = Object::new().with("HttpHeaderName", name.as_str());
                object.with("HttpHeaderConfig", both(config, patterns))
            }
            Condition::Method(values) => {
                object.with("HttpRequestMethodConfig", Object::new().with("Values", texts(values)))
            }
            Condition::Query(values) => {
                let values = values.iter().map(|pattern| {
                    Object::new().maybe("Key", pattern.key.as_deref()).with("Value", pattern.value.as_str())
                });
                object.with("QueryStringConfig", Object::new().with("Values", list(values)))
            }
            Condition::SourceIp(values) => {
                object.with("SourceIpConfig", Object::new().with("Values", texts(values)))
            }
        }
    }))
}

/// Transforms as they are answered.
#[must_use]
pub fn encode_transforms(transforms: &[Transform]) -> Value {
    let config = |rewrites: &[Rewrite]| {
        let rewrites = rewrites.iter().map(|rewrite| {
            Object::new().with("Regex", rewrite.regex.as_str()).with("Replace", rewrite.replace.as_str())
        });
        Object::new().with("Rewrites", list(rewrites))
    };
    list(transforms.iter().map(|transform| {
        match transform {
            Transform::Host(rewrites) => Object::new()
                .with("Type", "host-header-rewrite")
                .with("HostHeaderRewriteConfig", config(rewrites)),
            Transform::Url(rewrites) => {
                Object::new().with("Type", "url-rewrite").with("UrlRewriteConfig", config(rewrites))
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn taken(conditions: &Value) -> Result<Vec<Condition>, ApiError> {
        let body = json!({"Conditions": conditions});
        take(&mut Members::of_body(body, Refusal::Client).unwrap()).map(Option::unwrap_or_default)
    }

    #[test]
    fn conditions_come_back_as_aws_gives_them() {
        let sent = json!([
            {"Field": "path-pattern", "Values": ["/api/*"]},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["b?"]}},
            {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a", "Value": "1"}]}},
            {"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.0/8"]}},
            {"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["GET"]}},
        ]);
        let back = encode(&taken(&sent).unwrap());
        assert_eq!(back[0]["PathPatternConfig"], json!({"Values": ["/api/*"]}));
        assert_eq!(back[0]["Values"], json!(["/api/*"]));
        for index in 1..5 {
            assert_eq!(back[index], sent[index]);
        }
        assert_eq!(encode(&taken(&back).unwrap()), back);
    }

    #[test]
    fn impossible_conditions_are_refused() {
        for bad in [
            json!([{"Field": "path-pattern"}]),
            json!([{"Field": "phase-of-the-moon", "Values": ["full"]}]),
            json!([{"Field": "path-pattern", "Values": ["x".repeat(129)]}]),
            json!([{"Field": "path-pattern", "Values": ["/a"], "RegexValues": ["a"]}]),
            json!([{"Field": "path-pattern", "Values": ["/a"]}, {"Field": "path-pattern", "Values": ["/b"]}]),
            json!([{"Field": "host-header", "Values": ["1", "2", "3", "4", "5", "6"]}]),
            json!([{"Field": "source-ip", "SourceIpConfig": {"Values": ["10.0.0.1"]}}]),
            json!([{"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["get"]}}]),
            json!([{"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "a b", "Values": ["1"]}}]),
        ] {
            assert!(matches!(taken(&bad), Err(ApiError::Client(_))), "{bad}");
        }
    }

    #[test]
    fn complaints_are_those_of_aws() {
        let long = "x".repeat(129);
        for (bad, text) in [
            (
                json!({"Field": "host-header", "HostHeaderConfig": {"Values": [long]}}),
                "The 'host-header' value is too long; the limit is '128'",
            ),
            (json!({"Field": "path-pattern", "Values": []}), "A condition value must be specified"),
            (
                json!({"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": long, "Values": ["1"]}}),
                "The 'HttpHeaderName' value is too long; the limit is '40'",
            ),
            (
                json!({"Field": "http-request-method", "HttpRequestMethodConfig": {"Values": ["get"]}}),
                "The 'http-request-method' value is invalid; the allowed characters are A-Z, hyphen and underscore",
            ),
            (
                json!({"Field": "http-request-method"}),
                "A 'HttpRequestMethodConfig' must be specified with 'http-request-method'",
            ),
            (
                json!({"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a"}]}}),
                "A 'Value' must be specified in 'QueryStringKeyValuePair'",
            ),
            (
                json!({"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": long, "Value": "1"}]}}),
                "The 'Key' value is too long; the limit is '128'",
            ),
            (
                json!({"Field": "source-ip", "SourceIpConfig": {"Values": []}}),
                "A 'source-ip' value must be specified",
            ),
        ] {
            let complaint = taken(&json!([bad])).unwrap_err();
            assert!(matches!(&complaint, ApiError::Client(said) if said == text), "{bad}: {complaint}");
        }
    }
}
