//! The attributes of a target group: ELBv2's own, and ours with the prefix `coracle.`.
//!
//! | key | values | default |
//! |---|---|---|
//! | `deregistration_delay.timeout_seconds` | 0–3600 | 300 |
//! | `load_balancing.algorithm.type` | `round_robin`, `least_outstanding_requests`, `weighted_random` | `round_robin` |
//! | `load_balancing.algorithm.anomaly_mitigation` | `on`, `off` | `off` |
//! | `slow_start.duration_seconds` | 0, 30–900; not for `least_outstanding_requests` | 0 |
//! | `stickiness.enabled` | `true`, `false` | `false` |
//! | `stickiness.type` | `lb_cookie`, `app_cookie` | `lb_cookie` |
//! | `stickiness.lb_cookie.duration_seconds` | 1–604800 | 86400 |
//! | `stickiness.app_cookie.cookie_name` | a cookie's name | |
//! | `stickiness.app_cookie.duration_seconds` | 1–604800 | 86400 |
//! | `target_group_health.unhealthy_state_routing.minimum_healthy_targets.count` | 1– | 1 |
//! | `target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage` | `off`, 1–100 | `off` |
//! | `coracle.outlier_ejection.enabled` | `true`, `false`: as `anomaly_mitigation`, for any algorithm | `false` |
//! | `coracle.outlier_ejection.consecutive_failures` | 1–1000 | 5 |
//! | `coracle.outlier_ejection.base_seconds` | 1–300: time of a first ejection; the n-th lasts n times as long, up to 300 s | 30 |
//! | `coracle.outlier_ejection.max_percentage` | 1–100: of the targets, rounded down, but one of two or more | 10 |
//! | `coracle.retries.enabled` | `true`, `false` | `true` |
//! | `coracle.retries.percentage` | 0–100: of the requests in flight, how many may be retries | 20 |
//! | `coracle.retries.minimum` | 0–1000: retries at once that are allowed besides | 3 |
//! | `coracle.max_in_flight` | 1–1000000: requests at once in the whole group | 16384 |
//! | `coracle.max_pending` | 0–1000000: requests that wait for a place or a target | 1024 |
//! | `coracle.pending_timeout_ms` | 0–60000: how long they wait | 1000 |
//! | `coracle.response_timeout_ms` | 0 (the load balancer's idle time-out), 1–4000000: to the answer's head, from 10 s on exact to half a second | 0 |
//! | `coracle.max_request_body_bytes` | 0 (unlimited), 1– | 0 |
//! | `coracle.max_request_header_bytes` | 0 (the router's limit), 1– | 0 |

use std::ops::RangeInclusive;
use std::time::Duration;

/// How a target group spreads requests, and what it bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroupAttributes {
    /// Which target is next.
    pub algorithm: Algorithm,
    /// Time over which a new target's share grows to a full one; zero for at once.
    pub slow_start: Duration,
    /// How clients are kept on a target.
    pub stickiness: Option<Stickiness>,
    /// Time a deregistered target is given to finish what it has.
    pub deregistration_delay: Duration,
    /// Below this, requests go to all targets, healthy or not.
    pub minimum_healthy: Minimum,
    /// When targets that fail are left out for a while.
    pub outlier_ejection: Option<OutlierEjection>,
    /// When a request that failed is tried once more.
    pub retries: Option<RetryPolicy>,
    /// How much the group takes on.
    pub breaker: Breaker,
    /// Time a target may take to begin its answer, where it is not the load balancer's.
    pub response_timeout: Option<Duration>,
    /// Bytes of a request's body; a longer one is answered 413.
    pub max_request_body_bytes: Option<u64>,
    /// Bytes of a request's header fields; more are answered 431.
    pub max_request_header_bytes: Option<usize>,
}

impl Default for TargetGroupAttributes {
    fn default() -> Self {
        Self::parse([]).expect("every attribute has a default")
    }
}

/// Which target is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests in flight, or the better of two drawn at random.
    LeastOutstandingRequests,
    /// Drawn at random.
    WeightedRandom,
}

/// How a client is kept on the target it got first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stickiness {
    /// By which cookie.
    pub kind: StickinessKind,
    /// How long, from the last answer for the router's own cookie, and from the last answer in which the
    /// application set its cookie for the application's.
    pub duration: Duration,
}

/// What makes a client stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StickinessKind {
    /// The router's cookie `AWSALB`.
    LoadBalancerCookie,
    /// The application's cookie of this name; the router then adds `AWSALBAPP-0`.
    ApplicationCookie(String),
}

/// How many targets must be healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Minimum {
    /// At least 1.
    pub count: usize,
    /// 1 to 100, of the registered targets.
    pub percentage: Option<u8>,
}

/// When a target is left out although its health checks pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierEjection {
    /// Answers of 500 and above, or none, in a row.
    pub consecutive_failures: u32,
    /// How long the first time.
    pub base: Duration,
    /// Of the targets, how many may be out at once.
    pub max_percentage: u8,
}

/// How many failed requests may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Of the requests in flight, how many may be retries.
    pub percentage: u8,
    /// Retries at once that are allowed besides.
    pub minimum: u32,
}

/// Past these bounds, 503 at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Requests at once in the group.
    pub max_in_flight: u32,
    /// Requests that wait to be among them.
    pub max_pending: u32,
    /// How long one waits.
    pub pending_timeout: Duration,
}

/// An attribute that can't be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attribute {key} can't be {value:?}: it takes {takes}")]
pub struct AttributeError {
    /// The attribute.
    pub key: String,
    /// What was given.
    pub value: String,
    /// What it takes instead.
    pub takes: String,
}

/// A week, the longest a client may be kept.
const WEEK: u64 = 604_800;

impl TargetGroupAttributes {
    /// Reads attributes as `ModifyTargetGroupAttributes` takes them. Those left out have their default;
    /// those that are not in the table above mean nothing to a router, and are passed over.
    ///
    /// # Errors
    ///
    /// The first attribute with a value it can't have.
    pub fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, AttributeError> {
        let pairs = Pairs(pairs.into_iter().collect());
        Ok(Self {
            algorithm: pairs.one_of(
                "load_balancing.algorithm.type",
                &[
                    ("round_robin", Algorithm::RoundRobin),
                    ("least_outstanding_requests", Algorithm::LeastOutstandingRequests),
                    ("weighted_random", Algorithm::WeightedRandom),
                ],
            )?,
            slow_start: pairs.seconds_or_zero("slow_start.duration_seconds", 30..=900, 0)?,
            stickiness: pairs.stickiness()?,
            deregistration_delay: pairs.seconds("deregistration_delay.timeout_seconds", 0..=3600, 300)?,
            minimum_healthy: pairs.minimum()?,
            outlier_ejection: pairs.outlier_ejection()?,
            retries: pairs.retries()?,
            breaker: Breaker {
                max_in_flight: pairs.number("coracle.max_in_flight", 1..=1_000_000, 16_384)?,
                max_pending: pairs.number("coracle.max_pending", 0..=1_000_000, 1024)?,
                pending_timeout: Duration::from_millis(pairs.number(
                    "coracle.pending_timeout_ms",
                    0..=60_000,
                    1000,
                )?),
            },
            response_timeout: pairs
                .unless_zero("coracle.response_timeout_ms", 4_000_000)?
                .map(Duration::from_millis),
            max_request_body_bytes: pairs.unless_zero("coracle.max_request_body_bytes", u64::MAX)?,
            max_request_header_bytes: pairs
                .unless_zero("coracle.max_request_header_bytes", 1 << 30)?
                .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        })
    }
}

/// Attributes as they are given; of one given twice the last counts.
struct Pairs<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Pairs<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().rev().find(|(found, _)| *found == key).map(|(_, value)| *value)
    }

    fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, AttributeError> {
        let Some(value) = self.get(key) else { return Ok(choices[0].1) };
        choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            error(key, value, names.join(", "))
        })
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, AttributeError> {
        let choices = [("true", true), ("false", false)];
        if self.get(key).is_some() { self.one_of(key, &choices) } else { Ok(default) }
    }

    fn number<T>(&self, key: &str, range: RangeInclusive<T>, default: T) -> Result<T, AttributeError>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = self.get(key) else { return Ok(default) };
        value
            .parse()
            .ok()
            .filter(|number| range.contains(number))
            .ok_or_else(|| error(key, value, format!("{} to {}", range.start(), range.end())))
    }

    fn seconds(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, AttributeError> {
        self.number(key, range, default).map(Duration::from_secs)
    }

    fn seconds_or_zero(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Result<Duration, AttributeError> {
        match self.get(key) {
            Some("0") => Ok(Duration::ZERO),
            _ => self.seconds(key, range, default),
        }
    }

    fn unless_zero(&self, key: &str, max: u64) -> Result<Option<u64>, AttributeError> {
        self.number(key, 0..=max, 0).map(|number| (number > 0).then_some(number))
    }

    fn stickiness(&self) -> Result<Option<Stickiness>, AttributeError> {
        const COOKIE_NAME: &str = "stickiness.app_cookie.cookie_name";
        let day = 86_400;
        let is_by_application =
            self.one_of("stickiness.type", &[("lb_cookie", false), ("app_cookie", true)])?;
        let own = self.seconds("stickiness.lb_cookie.duration_seconds", 1..=WEEK, day)?;
        let applications = self.seconds("stickiness.app_cookie.duration_seconds", 1..=WEEK, day)?;
        if !self.flag("stickiness.enabled", false)? {
            return Ok(None);
        }
        if !is_by_application {
            return Ok(Some(Stickiness { kind: StickinessKind::LoadBalancerCookie, duration: own }));
        }
        let name = self.get(COOKIE_NAME).unwrap_or_default();
        let is_ours = ["AWSALB", "AWSALBAPP", "AWSALBTG"].iter().any(|ours| name.starts_with(ours));
        if name.is_empty() || is_ours || !name.bytes().all(is_cookie_name_byte) {
            return Err(error(
                COOKIE_NAME,
                name,
                "a cookie's name that does not begin with AWSALB".to_owned(),
            ));
        }
        let kind = StickinessKind::ApplicationCookie(name.to_owned());
        Ok(Some(Stickiness { kind, duration: applications }))
    }

    fn minimum(&self) -> Result<Minimum, AttributeError> {
        const COUNT: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count";
        const PERCENTAGE: &str =
            "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage";
        let percentage = match self.get(PERCENTAGE) {
            None | Some("off") => None,
            Some(_) => Some(self.number(PERCENTAGE, 1..=100, 100)?),
        };
        Ok(Minimum { count: self.number(COUNT, 1..=usize::MAX, 1)?, percentage })
    }

    fn outlier_ejection(&self) -> Result<Option<OutlierEjection>, AttributeError> {
        let mitigates =
            self.one_of("load_balancing.algorithm.anomaly_mitigation", &[("off", false), ("on", true)])?;
        let ejection = OutlierEjection {
            consecutive_failures: self.number(
                "coracle.outlier_ejection.consecutive_failures",
                1..=1000,
                5,
            )?,
            base: self.seconds("coracle.outlier_ejection.base_seconds", 1..=300, 30)?,
            max_percentage: self.number("coracle.outlier_ejection.max_percentage", 1..=100, 10)?,
        };
        let is_on = self.flag("coracle.outlier_ejection.enabled", mitigates)?;
        Ok(is_on.then_some(ejection))
    }

    fn retries(&self) -> Result<Option<RetryPolicy>, AttributeError> {
        let policy = RetryPolicy {
            percentage: self.number("coracle.retries.percentage", 0..=100, 20)?,
            minimum: self.number("coracle.retries.minimum", 0..=1000, 3)?,
        };
        Ok(self.flag("coracle.retries.enabled", true)?.then_some(policy))
    }
}

/// What RFC 6265 calls a token.
fn is_cookie_name_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !br#"()<>@,;:\"/[]?={}"#.contains(&byte)
}

fn error(key: &str, value: &str, takes: String) -> AttributeError {
    AttributeError { key: key.to_owned(), value: value.to_owned(), takes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_given_means_elbv2s_defaults() {
        let attributes = TargetGroupAttributes::default();
        assert_eq!(attributes.algorithm, Algorithm::RoundRobin);
        assert_eq!(attributes.deregistration_delay, Duration::from_secs(300));
        assert_eq!((attributes.slow_start, attributes.stickiness), (Duration::ZERO, None));
        assert_eq!(attributes.minimum_healthy, Minimum { count: 1, percentage: None });
        assert_eq!(attributes.outlier_ejection, None);
    }

    #[test]
    fn attributes_are_read_and_foreign_ones_passed_over() {
        let attributes = TargetGroupAttributes::parse([
            ("load_balancing.cross_zone.enabled", "use_load_balancer_configuration"),
            ("load_balancing.algorithm.type", "weighted_random"),
            ("load_balancing.algorithm.anomaly_mitigation", "on"),
            ("slow_start.duration_seconds", "30"),
            ("stickiness.enabled", "true"),
            ("stickiness.type", "app_cookie"),
            ("stickiness.app_cookie.cookie_name", "session"),
            ("stickiness.app_cookie.duration_seconds", "60"),
            ("coracle.retries.enabled", "false"),
            ("coracle.max_request_body_bytes", "1024"),
        ])
        .unwrap();
        assert_eq!(attributes.algorithm, Algorithm::WeightedRandom);
        assert_eq!(attributes.slow_start, Duration::from_secs(30));
        let kind = StickinessKind::ApplicationCookie("session".to_owned());
        assert_eq!(attributes.stickiness, Some(Stickiness { kind, duration: Duration::from_secs(60) }));
        assert_eq!(attributes.outlier_ejection.unwrap().max_percentage, 10);
        assert_eq!((attributes.retries, attributes.max_request_body_bytes), (None, Some(1024)));
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (key, value) in [
            ("slow_start.duration_seconds", "29"),
            ("deregistration_delay.timeout_seconds", "3601"),
            ("load_balancing.algorithm.type", "random"),
            ("stickiness.lb_cookie.duration_seconds", "0"),
            ("stickiness.enabled", "yes"),
            ("coracle.retries.percentage", "101"),
        ] {
            let error = TargetGroupAttributes::parse([(key, value)]).unwrap_err();
            assert_eq!((error.key.as_str(), error.value.as_str()), (key, value), "{error}");
        }
        let no_name = [("stickiness.enabled", "true"), ("stickiness.type", "app_cookie")];
        assert!(TargetGroupAttributes::parse(no_name).is_err());
    }
}
