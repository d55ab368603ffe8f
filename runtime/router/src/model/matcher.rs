//! How targets are checked, and which answers are good ones.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

/// A target group's health check. The defaults are ELBv2's for HTTP and targets of type `ip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Unchecked targets get requests.
    pub is_enabled: bool,
    /// The port, where it is not the target's own. Means nothing for a target in this process.
    pub port: Option<u16>,
    /// The path, with a query if need be.
    pub path: String,
    /// Time between two checks of one target: 5 to 300 s.
    pub interval: Duration,
    /// Time a check may take: 2 to 120 s.
    pub timeout: Duration,
    /// Checks that must pass in a row before an unhealthy target is healthy again: 2 to 10.
    pub healthy_threshold: u32,
    /// Checks that must fail in a row before a healthy target is unhealthy: 2 to 10.
    pub unhealthy_threshold: u32,
    /// The answers that are good ones.
    pub matcher: Matcher,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            is_enabled: true,
            port: None,
            path: "/".to_owned(),
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::default(),
        }
    }
}

/// Which answers mean that a target is well: `200`, `200-299`, `200,202,301-303`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// What the codes are of.
    kind: Kind,
    ranges: Vec<RangeInclusive<u16>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Grpc,
}

impl Kind {
    fn range(self) -> RangeInclusive<u16> {
        match self {
            Self::Http => 200..=599,
            Self::Grpc => 0..=99,
        }
    }
}

impl Matcher {
    /// A matcher of `grpc-status`, for targets that speak gRPC: codes from 0 to 99. ELBv2's default is 12,
    /// since a target need not know the method that is called.
    ///
    /// # Errors
    ///
    /// If it is not a list of codes and ranges.
    pub fn grpc(codes: &str) -> Result<Self, MatcherError> {
        Self::parse(Kind::Grpc, codes)
    }

    /// Whether checks are calls of gRPC, and codes its statuses.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        self.kind == Kind::Grpc
    }

    /// Whether this code is a good one.
    #[must_use]
    pub fn matches(&self, code: u16) -> bool {
        self.ranges.iter().any(|range| range.contains(&code))
    }

    fn parse(kind: Kind, text: &str) -> Result<Self, MatcherError> {
        let (first, last) = kind.range().into_inner();
        let error = || MatcherError { text: text.to_owned(), first, last };
        let code = |text: &str| {
            text.trim().parse::<u16>().ok().filter(|code| kind.range().contains(code)).ok_or_else(error)
        };
        let ranges = text
            .split(',')
            .map(|part| match part.split_once('-') {
                Some((first, last)) => {
                    let range = code(first)?..=code(last)?;
                    if range.is_empty() { Err(error()) } else { Ok(range) }
                }
                None => code(part).map(|code| code..=code),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { kind, ranges })
    }
}

impl Default for Matcher {
    fn default() -> Self {
        Self { kind: Kind::Http, ranges: vec![200..=200] }
    }
}

/// Not a matcher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a list of codes and ranges of them, such as 1,3-5, within {first} to {last}")]
pub struct MatcherError {
    text: String,
    first: u16,
    last: u16,
}

/// Reads a matcher of HTTP status codes.
impl FromStr for Matcher {
    type Err = MatcherError;

    fn from_str(text: &str) -> Result<Self, MatcherError> {
        Self::parse(Kind::Http, text)
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (start, end) if start == end => write!(f, "{comma}{start}")?,
                (start, end) => write!(f, "{comma}{start}-{end}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matchers_are_codes_ranges_and_lists() {
        for (text, good, bad) in
            [("200", 200, 201), ("200-299", 250, 300), ("200,301-303", 302, 204), ("200, 404", 404, 403)]
        {
            let matcher: Matcher = text.parse().unwrap();
            assert!(matcher.matches(good) && !matcher.matches(bad), "{text}");
        }
        assert_eq!("200,301-303".parse::<Matcher>().unwrap().to_string(), "200,301-303");
        for bad in ["", "ok", "99", "600", "300-200", "200,,201", "200-"] {
            assert!(bad.parse::<Matcher>().is_err(), "{bad}");
        }
        let grpc = Matcher::grpc("0,12-13").unwrap();
        assert!(grpc.is_grpc() && grpc.matches(12) && !grpc.matches(200));
        assert!(Matcher::grpc("200").is_err());
    }
}
