//! Conditions made ready to be tested against requests. Pure.

use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, Method};
use regex::bytes::{Regex, RegexBuilder};

use super::wildcard::{Case, Wildcard};
use crate::model::{Condition, QueryPair, RuleError, TextMatch};

/// Bytes a compiled regular expression may take; those of ELBv2, of 128 characters, take far less.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// What rules look at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestView<'a> {
    pub(crate) method: &'a Method,
    /// Without the port; empty if the request has none.
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) client: IpAddr,
}

/// A condition, compiled.
#[derive(Debug)]
pub(super) enum Test {
    Host(Texts),
    Path(Texts),
    Header(HeaderName, Texts),
    Method(Box<[Method]>),
    Query(Box<[Pair]>),
    Client(Box<[Network]>),
}

impl Test {
    pub(super) fn compile(condition: &Condition) -> Result<Self, RuleError> {
        let test = match condition {
            Condition::HostHeader(matches) => Self::Host(Texts::compile(matches, Case::Ignored)?),
            Condition::PathPattern(matches) => Self::Path(Texts::compile(matches, Case::Exact)?),
            Condition::HttpHeader { name, matches } => {
                let name = HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| RuleError::HeaderName(name.clone()))?;
                Self::Header(name, Texts::compile(matches, Case::Ignored)?)
            }
            Condition::HttpRequestMethod(methods) => Self::Method(all(methods, |method| {
                Method::from_bytes(method.as_bytes()).map_err(|_| RuleError::Method(method.clone()))
            })?),
            Condition::QueryString(pairs) => Self::Query(all(pairs, |pair| Ok(Pair::compile(pair)))?),
            Condition::SourceIp(networks) => Self::Client(all(networks, |network| network.parse())?),
        };
        Ok(test)
    }

    pub(super) fn holds(&self, request: &RequestView<'_>) -> bool {
        match self {
            Self::Host(texts) => texts.match_one(request.host.as_bytes()),
            Self::Path(texts) => texts.match_one(request.path.as_bytes()),
            Self::Header(name, texts) => {
                request.headers.get_all(name).iter().any(|value| texts.match_one(value.as_bytes()))
            }
            Self::Method(methods) => methods.contains(request.method),
            Self::Query(pairs) => request.query.is_some_and(|query| query_has_one(query, pairs)),
            Self::Client(networks) => networks.iter().any(|network| network.contains(request.client)),
        }
    }
}

/// Compiles every value; none at all is an error.
fn all<T, U>(values: &[T], compile: impl FnMut(&T) -> Result<U, RuleError>) -> Result<Box<[U]>, RuleError> {
    if values.is_empty() {
        return Err(RuleError::NoValues);
    }
    values.iter().map(compile).collect()
}

pub(super) fn regex(regex: &str, case: Case) -> Result<Regex, RuleError> {
    RegexBuilder::new(regex)
        .size_limit(MAX_REGEX_BYTES)
        .case_insensitive(case == Case::Ignored)
        .build()
        .map_err(|error| RuleError::Regex { regex: regex.to_owned(), why: error.to_string() })
}

/// Patterns and regular expressions, one of which must match.
#[derive(Debug)]
pub(super) struct Texts {
    patterns: Box<[Wildcard]>,
    regexes: Box<[Regex]>,
}

impl Texts {
    fn compile(matches: &TextMatch, case: Case) -> Result<Self, RuleError> {
        if matches.values.is_empty() && matches.regex_values.is_empty() {
            return Err(RuleError::NoValues);
        }
        let patterns = matches.values.iter().map(|value| Wildcard::new(value, case)).collect();
        let regexes = matches.regex_values.iter().map(|value| regex(value, Case::Exact));
        Ok(Self { patterns, regexes: regexes.collect::<Result<_, _>>()? })
    }

    fn match_one(&self, text: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(text))
            || self.regexes.iter().any(|regex| regex.is_match(text))
    }

    /// The patterns, if they alone decide.
    pub(super) fn only_patterns(&self) -> Option<&[Wildcard]> {
        self.regexes.is_empty().then_some(&*self.patterns)
    }
}

/// A pair of a query, as patterns.
#[derive(Debug)]
pub(super) struct Pair {
    key: Option<Wildcard>,
    value: Wildcard,
}

impl Pair {
    fn compile(pair: &QueryPair) -> Self {
        let pattern = |text: &str| Wildcard::with_escapes(text, Case::Ignored);
        Self { key: pair.key.as_deref().map(pattern), value: pattern(&pair.value) }
    }

    fn matches(&self, part: &[u8]) -> bool {
        let split = part.iter().position(|byte| *byte == b'=');
        let (key, value) = split.map_or((part, &b""[..]), |at| (&part[..at], &part[at + 1..]));
        match &self.key {
            Some(pattern) => pattern.matches(key) && self.value.matches(value),
            // A part without `=` is as much a value as it is a key.
            None => self.value.matches(if split.is_some() { value } else { part }),
        }
    }
}

fn query_has_one(query: &str, pairs: &[Pair]) -> bool {
    query.as_bytes().split(|byte| *byte == b'&').any(|part| {
        pairs.iter().any(|pair| pair.matches(part))
            || part.contains(&b'%') && {
                let decoded = percent_decoded(part);
                pairs.iter().any(|pair| pair.matches(&decoded))
            }
    })
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let hex = |index: usize| text.get(index).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high * 16 + low).expect("two hex digits are a byte"));
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded
}

/// A network in CIDR form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// Both address families in one width, with the address at the top.
    bits: u128,
    is_v6: bool,
    prefix: u32,
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let (bits, is_v6) = bits(address.to_canonical());
        is_v6 == self.is_v6 && mask(bits, self.prefix) == self.bits
    }
}

impl FromStr for Network {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let error = || RuleError::Network(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix: u32 = prefix.parse().map_err(|_| error())?;
        if prefix > if address.is_ipv6() { 128 } else { 32 } {
            return Err(error());
        }
        let (bits, is_v6) = bits(address);
        Ok(Self { bits: mask(bits, prefix), is_v6, prefix })
    }
}

fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, false),
        IpAddr::V6(address) => (address.to_bits(), true),
    }
}

/// The first `prefix` bits.
fn mask(bits: u128, prefix: u32) -> u128 {
    bits & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn holds(condition: &Condition, change: impl FnOnce(&mut RequestView<'_>)) -> bool {
        let (method, headers) = (Method::GET, HeaderMap::new());
        let mut request = RequestView {
            method: &method,
            host: "www.example.com",
            path: "/",
            query: None,
            headers: &headers,
            client: "192.0.2.7".parse().unwrap(),
        };
        change(&mut request);
        Test::compile(condition).unwrap().holds(&request)
    }

    fn texts(values: &[&str], regex_values: &[&str]) -> TextMatch {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        TextMatch { values: owned(values), regex_values: owned(regex_values) }
    }

    #[test]
    fn hosts_ignore_case_and_paths_do_not() {
        let host = Condition::HostHeader(texts(&["*.EXAMPLE.com"], &[]));
        assert!(holds(&host, |request| request.host = "www.example.COM"));
        let path = Condition::PathPattern(texts(&["/Img/*"], &["^/v[0-9]+/"]));
        assert!(holds(&path, |request| request.path = "/Img/a"));
        assert!(!holds(&path, |request| request.path = "/img/a"));
        assert!(holds(&path, |request| request.path = "/v12/a"));
        assert!(!holds(&path, |request| request.path = "/a/v12/"));
    }

    #[test]
    fn any_line_of_a_header_counts() {
        let mut headers = HeaderMap::new();
        headers.append("x-tier", HeaderValue::from_static("free"));
        headers.append("x-tier", HeaderValue::from_static("Gold-2"));
        let header = Condition::HttpHeader { name: "X-Tier".into(), matches: texts(&["gold-?"], &[]) };
        assert!(Test::compile(&header).unwrap().holds(&RequestView {
            method: &Method::GET,
            host: "",
            path: "/",
            query: None,
            headers: &headers,
            client: "::1".parse().unwrap(),
        }));
        assert!(!holds(&header, |_| {}));
    }

    #[test]
    fn queries_match_by_pair_or_value_raw_or_decoded() {
        let pair = |key: Option<&str>, value: &str| {
            Condition::QueryString(vec![QueryPair { key: key.map(str::to_owned), value: value.to_owned() }])
        };
        for (condition, query, expected) in [
            (pair(Some("Version"), "v1"), "a=b&version=V1", true),
            (pair(Some("version"), "v1"), "version=v12", false),
            (pair(Some("version"), "v*"), "version=v12", true),
            (pair(None, "*example*"), "x=an-example-here", true),
            (pair(None, "flag"), "a=b&flag", true),
            (pair(Some("flag"), ""), "flag", true),
            (pair(Some("q"), r"\*"), "q=*", true),
            (pair(Some("q"), r"\*"), "q=x", false),
            (pair(Some("q"), "a b"), "q=a%20b", true),
            (pair(Some("q"), "a%20b"), "q=a%20b", true),
            (pair(Some("q"), "%"), "q=%", true),
        ] {
            assert_eq!(
                holds(&condition, |request| request.query = Some(query)),
                expected,
                "{condition:?} {query}"
            );
        }
        assert!(!holds(&pair(None, "*"), |_| {}));
    }

    #[test]
    fn clients_are_in_networks_of_their_family() {
        let within = |network: &str, client: &str| {
            let condition = Condition::SourceIp(vec![network.to_owned()]);
            holds(&condition, |request| request.client = client.parse().unwrap())
        };
        assert!(within("192.0.2.0/24", "192.0.2.255") && !within("192.0.2.0/24", "192.0.3.0"));
        assert!(within("192.0.2.7/24", "192.0.2.1"), "bits past the prefix don't matter");
        assert!(within("0.0.0.0/0", "203.0.113.1") && !within("0.0.0.0/0", "2001:db8::1"));
        assert!(within("192.0.2.0/24", "::ffff:192.0.2.9"));
        assert!(within("2001:db8::/32", "2001:db8:1::1") && !within("2001:db8::/32", "2001:db9::"));
        assert!(within("::1/128", "::1") && !within("::1/128", "::2"));
    }

    #[test]
    fn methods_are_exact() {
        let condition = Condition::HttpRequestMethod(vec!["PURGE".into(), "GET".into()]);
        assert!(holds(&condition, |_| {}));
        assert!(!holds(&condition, |request| request.method = &Method::POST));
    }

    #[test]
    fn what_can_not_be_understood_is_named() {
        for (condition, named) in [
            (Condition::PathPattern(texts(&[], &["(?=x)"])), "(?=x)"),
            (Condition::PathPattern(texts(&[], &["a{1000}{1000}"])), "a{1000}"),
            (Condition::HttpHeader { name: "a b".into(), matches: texts(&["x"], &[]) }, "a b"),
            (Condition::HttpRequestMethod(vec!["G T".into()]), "G T"),
            (Condition::SourceIp(vec!["192.0.2.0/33".into()]), "192.0.2.0/33"),
            (Condition::SourceIp(vec!["192.0.2.1".into()]), "192.0.2.1"),
            (Condition::SourceIp(vec![]), "no values"),
            (Condition::HostHeader(texts(&[], &[])), "no values"),
        ] {
            let error = Test::compile(&condition).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
