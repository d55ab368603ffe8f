//! `dockerLabels` with the prefix `coracle.`: settings for which a task definition has no field.
//!
//! | label | value | default |
//! |---|---|---|
//! | `coracle.fuel` | fuel of one run of a command: a whole number, at least 1 | no limit |
//! | `coracle.fuel-per-request` | fuel of one request: a whole number, at least 1 | no limit |
//! | `coracle.request-timeout` | `30`, `30s` or `500ms`: 1 ms to 1 h | 60 s |
//! | `coracle.instance-reuse` | requests one instance serves in its life: 1 to 1000000 | 1 (WASI 0.2), 128 (0.3) |
//! | `coracle.concurrency` | requests one instance of WASI 0.3 serves at the same time: 1 to 1000 | 16 |
//! | `coracle.max-requests` | requests at the same time in all instances: 1 to 100000; more of them queue | 1000 |
//! | `coracle.egress` | what it may reach: `api.example.com:443, 10.0.0.0/8:5432, *.internal` | nothing |
//! | `coracle.outgoing-connections` | sockets and connections of the task at the same time: 1 to 65535 | 256 |
//! | `coracle.outgoing-requests` | outgoing requests of the task at the same time: 1 to 65535 | 256 |
//! | `coracle.config.KEY` | a value of `wasi:config`, beside those of the environment | |
//! | `coracle.link` | which containers of the task answer what it imports: `CONTAINER` or `INTERFACE=CONTAINER`, with commas in between | nobody |
//! | `coracle.keyvalue` | the namespace of `wasi:keyvalue`, shared by all that name it | the service's or family's |
//! | `coracle.keyvalue-limit` | bytes that namespace may hold, names and all, after what this container writes: `64MiB` | 1 GiB |
//! | `coracle.scratch` | where it sees an empty directory of its own, and perhaps how much that may hold: `/tmp`, `/tmp 64MiB` | none |
//! | `coracle.outgoing-body` | bytes of the body of such a request, and of its response: `64MiB` | 1 TiB |
//!
//! A label with the prefix that is not in the table is refused: a misspelt limit that silently does not
//! hold is worse than a task that does not start. Labels without the prefix mean nothing here.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_sandbox::{EgressError, EgressPolicy};
use coracle_types::{LinkRule, LinkRuleError};

/// What the labels of one container say. `None` is the sandbox's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) fuel_per_run: Option<u64>,
    pub(crate) fuel_per_request: Option<u64>,
    pub(crate) request_timeout: Option<Duration>,
    pub(crate) instance_reuse: Option<u32>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) max_requests: Option<u32>,
    /// What the container may reach.
    pub(crate) egress: EgressPolicy,
    pub(crate) outgoing_connections: Option<u32>,
    pub(crate) outgoing_requests: Option<u32>,
    pub(crate) outgoing_body: Option<u64>,
    /// Values of `wasi:config`, over those of the environment.
    pub(crate) config: Vec<(String, String)>,
    /// Namespace of `wasi:keyvalue`.
    pub(crate) keyvalue: Option<String>,
    /// Which containers of the task answer what it imports.
    pub(crate) links: Vec<LinkRule>,
    /// Bytes that namespace may hold.
    pub(crate) keyvalue_limit: Option<u64>,
    pub(crate) scratch: Option<Scratch>,
}

/// A directory of a container's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scratch {
    /// Where the container sees it: an absolute path.
    pub(crate) guest: String,
    /// Bytes it may hold; `None` is as much as the task may.
    pub(crate) limit: Option<u64>,
}

/// Why a label was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LabelError {
    /// The value is not one the label takes.
    #[error("label {name} is {value:?}: {expected}")]
    Value { name: String, value: String, expected: &'static str },
    /// There is no such label.
    #[error(
        "unknown label {0:?}: there are coracle.concurrency, coracle.config.KEY, coracle.egress, \
         coracle.fuel, coracle.fuel-per-request, coracle.instance-reuse, coracle.keyvalue, \
         coracle.keyvalue-limit, coracle.link, coracle.max-requests, coracle.outgoing-body, \
         coracle.outgoing-connections, coracle.outgoing-requests, coracle.request-timeout and coracle.scratch"
    )]
    Unknown(String),
    /// A rule of `coracle.egress` can't be read.
    #[error("label coracle.egress: {0}")]
    Egress(EgressError),
    /// The links make no sense.
    #[error("{0}")]
    Link(LinkRuleError),
}

const FUEL: &str = "a whole number from 1 is expected";
const TIMEOUT: &str = "seconds or milliseconds are expected, such as 30, 30s or 500ms, from 1ms to 3600s";
const REUSE: &str = "a whole number from 1 to 1000000 is expected";
const CONCURRENCY: &str = "a whole number from 1 to 1000 is expected";
const OUTGOING: &str = "a whole number from 1 to 65535 is expected";
const NAMESPACE: &str = "a name of 1 to 100 letters, digits, dots, hyphens or underscores is expected";
const BYTES: &str = "a number of bytes is expected, such as 1048576, 64MiB or 2GiB";
const SCRATCH: &str = "an absolute path is expected, and perhaps a size after it, such as /tmp or /tmp 64MiB";
const MAX_REQUESTS: &str = "a whole number from 1 to 100000 is expected";

/// The longest a request may take to its response's head: an hour, so that a typing error in a unit shows.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(3600);

impl Labels {
    /// Reads the labels of one container.
    pub(crate) fn parse(labels: &BTreeMap<String, String>) -> Result<Self, LabelError> {
        let mut parsed = Self::default();
        for (name, value) in labels {
            let Some(setting) = name.strip_prefix("coracle.") else { continue };
            let refused = |expected| LabelError::Value {
                name: name.clone(),
                value: value.chars().take(100).collect(),
                expected,
            };
            let text = value.trim();
            match setting {
                "fuel" => parsed.fuel_per_run = Some(fuel(text).ok_or_else(|| refused(FUEL))?),
                "fuel-per-request" => {
                    parsed.fuel_per_request = Some(fuel(text).ok_or_else(|| refused(FUEL))?);
                }
                "request-timeout" => {
                    parsed.request_timeout = Some(timeout(text).ok_or_else(|| refused(TIMEOUT))?);
                }
                "instance-reuse" => {
                    parsed.instance_reuse = Some(count(text, 1_000_000).ok_or_else(|| refused(REUSE))?);
                }
                "concurrency" => {
                    parsed.concurrency = Some(count(text, 1000).ok_or_else(|| refused(CONCURRENCY))?);
                }
                "max-requests" => {
                    parsed.max_requests = Some(count(text, 100_000).ok_or_else(|| refused(MAX_REQUESTS))?);
                }
                "egress" => parsed.egress = EgressPolicy::parse(text).map_err(LabelError::Egress)?,
                "link" => parsed.links = LinkRule::parse(value).map_err(LabelError::Link)?,
                "outgoing-connections" => {
                    parsed.outgoing_connections = Some(count(text, 65_535).ok_or_else(|| refused(OUTGOING))?);
                }
                "outgoing-requests" => {
                    parsed.outgoing_requests = Some(count(text, 65_535).ok_or_else(|| refused(OUTGOING))?);
                }
                "outgoing-body" => parsed.outgoing_body = Some(bytes(text).ok_or_else(|| refused(BYTES))?),
                "keyvalue-limit" => {
                    parsed.keyvalue_limit = Some(bytes(text).ok_or_else(|| refused(BYTES))?);
                }
                "scratch" => parsed.scratch = Some(scratch(text).ok_or_else(|| refused(SCRATCH))?),
                "keyvalue" => {
                    if !is_namespace(text) {
                        return Err(refused(NAMESPACE));
                    }
                    parsed.keyvalue = Some(text.to_owned());
                }
                setting if setting.strip_prefix("config.").is_some_and(|key| !key.is_empty()) => {
                    // Values are taken as they stand, blanks and all.
                    parsed.config.push((setting["config.".len()..].to_owned(), value.clone()));
                }
                _ => return Err(LabelError::Unknown(name.chars().take(100).collect())),
            }
        }
        Ok(parsed)
    }
}

fn is_namespace(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=100).contains(&text.len()) && text.bytes().all(plain)
}

fn scratch(text: &str) -> Option<Scratch> {
    let (guest, limit) = match text.split_once(char::is_whitespace) {
        Some((guest, size)) => (guest, Some(bytes(size.trim_start())?)),
        None => (text, None),
    };
    guest.starts_with('/').then(|| Scratch { guest: guest.to_owned(), limit })
}

/// A size in bytes, with a unit perhaps.
fn bytes(text: &str) -> Option<u64> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.into_iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: u64 = number.trim_end().parse().ok()?;
    number.checked_mul(1 << shift).filter(|&bytes| bytes > 0)
}

fn fuel(text: &str) -> Option<u64> {
    text.parse().ok().filter(|&fuel| fuel > 0)
}

fn count(text: &str, most: u32) -> Option<u32> {
    text.parse().ok().filter(|count| (1..=most).contains(count))
}

fn timeout(text: &str) -> Option<Duration> {
    let duration = match text.strip_suffix("ms") {
        Some(milliseconds) => Duration::from_millis(milliseconds.trim_end().parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s').unwrap_or(text).trim_end().parse().ok()?),
    };
    (Duration::from_millis(1)..=MAX_REQUEST_TIMEOUT).contains(&duration).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(labels: &[(&str, &str)]) -> Result<Labels, LabelError> {
        Labels::parse(&labels.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn all_of_them() {
        let labels = parse(&[
            ("coracle.fuel", "1000"),
            ("coracle.fuel-per-request", " 5 "),
            ("coracle.request-timeout", "500ms"),
            ("coracle.instance-reuse", "64"),
            ("coracle.concurrency", "8"),
            ("coracle.max-requests", "500"),
            ("coracle.egress", "db.internal:5432"),
            ("coracle.outgoing-connections", "4"),
            ("coracle.outgoing-requests", "5"),
            ("coracle.outgoing-body", "64MiB"),
            ("coracle.config.greeting", " hello "),
            ("coracle.keyvalue", "carts"),
            ("coracle.link", "demo:auth/policy=policy"),
            ("coracle.keyvalue-limit", "64MiB"),
            ("coracle.scratch", "/tmp 1GiB"),
            ("com.example.team", "shop"),
        ]);
        assert_eq!(
            labels,
            Ok(Labels {
                fuel_per_run: Some(1000),
                fuel_per_request: Some(5),
                request_timeout: Some(Duration::from_millis(500)),
                instance_reuse: Some(64),
                concurrency: Some(8),
                max_requests: Some(500),
                egress: EgressPolicy::parse("db.internal:5432").unwrap(),
                outgoing_connections: Some(4),
                outgoing_requests: Some(5),
                outgoing_body: Some(64 << 20),
                config: vec![("greeting".to_owned(), " hello ".to_owned())],
                keyvalue: Some("carts".to_owned()),
                links: vec![LinkRule {
                    interface: Some("demo:auth/policy".to_owned()),
                    container: "policy".parse().unwrap(),
                }],
                keyvalue_limit: Some(64 << 20),
                scratch: Some(Scratch { guest: "/tmp".to_owned(), limit: Some(1 << 30) }),
            })
        );
        assert_eq!(parse(&[]), Ok(Labels::default()));
    }

    #[test]
    fn timeouts_have_units_and_bounds() {
        assert_eq!(timeout("30"), Some(Duration::from_secs(30)));
        assert_eq!(timeout("30s"), Some(Duration::from_secs(30)));
        assert_eq!(timeout("30 s"), Some(Duration::from_secs(30)));
        for bad in ["", "0", "0ms", "-1", "3601", "1.5", "1m", "ms", "s", "99999999999999999999"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn refusals_name_label_value_and_what_was_expected() {
        for (name, value) in [
            ("coracle.fuel", "0"),
            ("coracle.fuel", "lots"),
            ("coracle.fuel-per-request", "-3"),
            ("coracle.concurrency", "0"),
            ("coracle.concurrency", "1001"),
            ("coracle.max-requests", "100001"),
            ("coracle.instance-reuse", "0"),
            ("coracle.request-timeout", "soon"),
            ("coracle.outgoing-requests", "0"),
            ("coracle.outgoing-body", "64 MB"),
            ("coracle.keyvalue", "a/b"),
            ("coracle.keyvalue-limit", "0"),
            ("coracle.scratch", "tmp"),
            ("coracle.scratch", "/tmp much"),
        ] {
            let text = parse(&[(name, value)]).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(value) && text.contains("expected"), "{text}");
        }
        let text = parse(&[("coracle.egress", "http://x")]).unwrap_err().to_string();
        assert!(text.contains("coracle.egress") && text.contains("http://x"), "{text}");
        let text = parse(&[("coracle.link", "auth=policy")]).unwrap_err().to_string();
        assert!(text.contains("coracle.link") && text.contains("auth=policy"), "{text}");
        let text = parse(&[("coracle.fule", "1")]).unwrap_err().to_string();
        assert!(text.contains("coracle.fule") && text.contains("coracle.fuel-per-request"), "{text}");
    }
}
