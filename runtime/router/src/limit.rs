//! Rate limits: a token bucket for each client, in memory of a fixed size, without locks.
//!
//! A bucket is one number, the time at which it will be full again (the generic cell rate algorithm): a
//! request moves that time on by the interval between two tokens, and is refused if the time is then
//! further away than the burst allows. A bucket that is full is therefore as good as one that was never
//! used, and its place may be taken by another client. When no place near a client's own is free, the
//! bucket that is closest to being full is forgotten: a flood of clients makes the limit more lenient, it
//! never blocks those who stay below it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tokio::time::Instant;

use crate::model::{RateLimit, RateLimitKey, RuleError};

/// Buckets of one limiter, a power of two: 128 KiB.
const BUCKETS: usize = 8192;

/// Places a client's bucket may be in.
const PROBES: usize = 8;

/// Longest time a limit may count over.
const MAX_PER: Duration = Duration::from_secs(24 * 3600);

/// The buckets of one rule.
#[derive(Debug)]
pub(crate) struct Limiter {
    key: Key,
    /// Nanoseconds between two tokens; at least 1.
    interval: u64,
    /// How far ahead a bucket's time may be for a request to pass, in nanoseconds.
    tolerance: u64,
    started: Instant,
    hasher: RandomState,
    buckets: Box<[Bucket]>,
}

#[derive(Debug)]
enum Key {
    Address,
    Header(HeaderName),
    Rule,
}

#[derive(Debug, Default)]
struct Bucket {
    /// The client's hash; 0 if it has never been used.
    client: AtomicU64,
    /// When it is full again, in nanoseconds since the limiter started.
    full_at: AtomicU64,
}

impl Limiter {
    pub(crate) fn new(limit: &RateLimit) -> Result<Self, RuleError> {
        check(limit)?;
        let (key, buckets) = match &limit.key {
            RateLimitKey::ClientAddress => (Key::Address, BUCKETS),
            RateLimitKey::Header(name) => (Key::Header(header_name(name)?), BUCKETS),
            RateLimitKey::Rule => (Key::Rule, 1),
        };
        // At most a day, which is far below 2^64 nanoseconds.
        let interval = (nanoseconds(limit.per) / u64::from(limit.requests)).max(1);
        Ok(Self {
            key,
            interval,
            tolerance: interval.saturating_mul(u64::from(limit.burst - 1)),
            started: Instant::now(),
            hasher: RandomState::new(),
            buckets: std::iter::repeat_with(Bucket::default).take(buckets).collect(),
        })
    }

    /// Takes a token for one request. The error is the time after which there will be one.
    pub(crate) fn check(&self, client: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Duration> {
        let hash = match &self.key {
            Key::Rule => 1,
            Key::Header(name) => self.hasher.hash_one(headers.get(name).map(|value| value.as_bytes())),
            Key::Address => self.hasher.hash_one(match client.to_canonical() {
                IpAddr::V4(address) => u64::from(address.to_bits()),
                // Whoever has one address of a /64 network has all of them.
                IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
            }),
        };
        let now = nanoseconds(now.saturating_duration_since(self.started));
        self.bucket(hash.max(1), now).take(now, self.interval, self.tolerance)
    }

    /// The client's bucket, or a place for it.
    fn bucket(&self, client: u64, now: u64) -> &Bucket {
        let mask = self.buckets.len() - 1;
        let near = |probe: usize| &self.buckets[(client as usize).wrapping_add(probe) & mask];
        let probes = PROBES.min(self.buckets.len());
        if let Some(own) =
            (0..probes).map(near).find(|bucket| bucket.client.load(Ordering::Relaxed) == client)
        {
            return own;
        }
        let fullest = (0..probes)
            .map(near)
            .min_by_key(|bucket| bucket.full_at.load(Ordering::Relaxed))
            .expect("there is at least one place");
        // Two clients that take one place at the same moment share it until one of them looks again.
        fullest.client.store(client, Ordering::Relaxed);
        fullest.full_at.fetch_min(now, Ordering::Relaxed);
        fullest
    }
}

impl Bucket {
    fn take(&self, now: u64, interval: u64, tolerance: u64) -> Result<(), Duration> {
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let full_at = full_at.max(now);
            (full_at - now <= tolerance).then(|| full_at.saturating_add(interval))
        });
        taken.map(|_| ()).map_err(|full_at| Duration::from_nanos(full_at - now - tolerance))
    }
}

/// Whether a limiter can be made of it.
fn check(limit: &RateLimit) -> Result<(), RuleError> {
    if limit.requests == 0 || limit.burst == 0 || limit.per.is_zero() || limit.per > MAX_PER {
        return Err(RuleError::RateLimit);
    }
    match &limit.key {
        RateLimitKey::Header(name) => header_name(name).map(|_| ()),
        RateLimitKey::ClientAddress | RateLimitKey::Rule => Ok(()),
    }
}

fn header_name(name: &str) -> Result<HeaderName, RuleError> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| RuleError::HeaderName(name.to_owned()))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads `100/s`, `5/10s`, `1000/m burst=50 by=header:X-Api-Key`: requests and the time they are counted
/// over (`s`, `m` or `h`, with a number or without), then the burst (as many as `requests` by default) and
/// whose requests are counted together: `address` (the default), `header:NAME` or `rule`.
impl FromStr for RateLimit {
    type Err = RuleError;

    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut words = text.split_ascii_whitespace();
        let (requests, per) =
            words.next().and_then(|rate| rate.split_once('/')).ok_or(RuleError::RateLimit)?;
        let requests: u32 = requests.parse().map_err(|_| RuleError::RateLimit)?;
        let mut limit = Self { requests, per: time(per)?, burst: requests, key: RateLimitKey::ClientAddress };
        for word in words {
            match word.split_once('=') {
                Some(("burst", burst)) => limit.burst = burst.parse().map_err(|_| RuleError::RateLimit)?,
                Some(("by", "address")) => limit.key = RateLimitKey::ClientAddress,
                Some(("by", "rule")) => limit.key = RateLimitKey::Rule,
                Some(("by", header)) => {
                    let name = header.strip_prefix("header:").ok_or(RuleError::RateLimit)?;
                    limit.key = RateLimitKey::Header(name.to_owned());
                }
                _ => return Err(RuleError::RateLimit),
            }
        }
        check(&limit).map(|()| limit)
    }
}

fn time(text: &str) -> Result<Duration, RuleError> {
    let unit =
        text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or(RuleError::RateLimit)?;
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(RuleError::RateLimit),
    };
    let number: u64 = if number.is_empty() { 1 } else { number.parse().map_err(|_| RuleError::RateLimit)? };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or(RuleError::RateLimit)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn limiter(text: &str) -> Limiter {
        Limiter::new(&text.parse().unwrap()).unwrap()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_are_read() {
        let limit: RateLimit = "100/s".parse().unwrap();
        assert_eq!((limit.requests, limit.per, limit.burst), (100, Duration::from_secs(1), 100));
        let limit: RateLimit = "5/10m burst=2 by=header:X-Api-Key".parse().unwrap();
        assert_eq!((limit.per, limit.burst), (Duration::from_secs(600), 2));
        assert_eq!(limit.key, RateLimitKey::Header("X-Api-Key".to_owned()));
        for bad in [
            "",
            "5",
            "0/s",
            "5/x",
            "5/0s",
            "5/é",
            "5/s burst=0",
            "5/s by=cookie",
            "5/s by=header:a b",
            "1/25h",
        ] {
            assert!(bad.parse::<RateLimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate() {
        let limiter = limiter("10/s burst=3");
        let (client, headers, start) = (address("192.0.2.1"), HeaderMap::new(), Instant::now());
        let check = |ms: u64| limiter.check(client, &headers, start + Duration::from_millis(ms));
        assert!((0..3).all(|_| check(0).is_ok()));
        let wait = check(0).unwrap_err();
        assert!(wait > Duration::from_millis(90) && wait <= Duration::from_millis(100), "{wait:?}");
        assert!(check(110).is_ok());
        assert!(check(110).is_err());
        assert!(limiter.check(address("192.0.2.2"), &headers, start).is_ok(), "each client has its own");
    }

    #[test]
    fn clients_are_networks_or_header_values() {
        let by_address = limiter("1/h");
        let (headers, now) = (HeaderMap::new(), Instant::now());
        assert!(by_address.check(address("2001:db8::1"), &headers, now).is_ok());
        assert!(by_address.check(address("2001:db8::2"), &headers, now).is_err());
        assert!(by_address.check(address("2001:db8:0:1::1"), &headers, now).is_ok());
        let by_header = limiter("1/h by=header:x-key");
        let with = |value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static("x-key"), HeaderValue::from_static(value))])
        };
        let client = address("192.0.2.1");
        assert!(by_header.check(client, &with("a"), now).is_ok());
        assert!(by_header.check(client, &with("b"), now).is_ok());
        assert!(by_header.check(client, &with("a"), now).is_err());
    }

    proptest! {
        /// However requests come, no more pass than the burst and what the rate has given since.
        #[test]
        fn no_more_pass_than_may(gaps in prop::collection::vec(0_u64..300, 1..200)) {
            let limiter = limiter("10/s burst=5 by=rule");
            let (start, headers) = (Instant::now(), HeaderMap::new());
            let (mut elapsed, mut passed) = (0, 0);
            for gap in gaps {
                elapsed += gap;
                let now = start + Duration::from_millis(elapsed);
                passed += u64::from(limiter.check(address("::1"), &headers, now).is_ok());
                prop_assert!(passed <= 5 + (elapsed + 100) / 100, "{passed} after {elapsed} ms");
            }
        }
    }
}
