//! Which destinations a guest may reach: the rules, and how they match. Pure.
//!
//! | rule | allows |
//! |---|---|
//! | `api.example.com:443` | this name, at this port |
//! | `*.internal` | every name below `internal`, at any port |
//! | `10.0.0.0/8:5432`, `[2001:db8::/32]:443` | addresses of this range |
//! | `192.0.2.7:8000-8100` | one address, at a range of ports |
//! | `*:443` | any public address, under whatever name |
//!
//! A port is a number, a range `FIRST-LAST`, or `*`; without one every port is meant. A rule holds for TCP, UDP and
//! HTTP alike.
//!
//! Loopback, private, link-local and otherwise special addresses are reached only where a rule names the address or
//! its range. A rule that names a host is not enough: whoever runs that host's DNS could point it inside. The one
//! exception is the name `localhost`, which can mean nothing else.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// The destinations of one container or task. The default allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    rules: Vec<Rule>,
}

/// The most rules of one policy; each connection is compared with all of them.
const MAX_RULES: usize = 1000;

/// The longest rule, in bytes: a DNS name has at most 253, and a port range 11 more.
const MAX_RULE: usize = 300;

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// A rule that can't be read.
    #[error(
        "`{rule}` is not an egress rule: {why}; rules look like api.example.com:443, *.internal, 10.0.0.0/8:5432 or \
         [2001:db8::/32]:443"
    )]
    Rule {
        /// The rule as it was given, shortened.
        rule: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are more rules than are compared for each connection.
    #[error("{0} egress rules are more than the {MAX_RULES} there may be")]
    TooMany(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    host: Host,
    /// First and last.
    ports: (u16, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    /// `*`.
    Any,
    /// Lower case, without a final dot.
    Name(Box<str>),
    /// What follows the star of `*.internal`, with its dot.
    Below(Box<str>),
    Range(IpRange),
}

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct IpRange {
    base: IpAddr,
    bits: u8,
}

impl EgressPolicy {
    /// Reads rules that are separated by commas or white space.
    ///
    /// # Errors
    /// The first rule that can't be read.
    pub fn parse(text: &str) -> Result<Self, EgressError> {
        Self::from_rules(text.split(|char: char| char == ',' || char.is_whitespace()))
    }

    /// Reads one rule each. Empty ones are passed over.
    ///
    /// # Errors
    /// The first rule that can't be read.
    pub fn from_rules<'a>(rules: impl IntoIterator<Item = &'a str>) -> Result<Self, EgressError> {
        let rules: Vec<Rule> = rules
            .into_iter()
            .map(str::trim)
            .filter(|rule| !rule.is_empty())
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        if rules.len() > MAX_RULES {
            return Err(EgressError::TooMany(rules.len()));
        }
        Ok(Self { rules })
    }

    /// What this policy or another one allows.
    #[must_use]
    pub fn joined(&self, other: &Self) -> Self {
        Self { rules: self.rules.iter().chain(&other.rules).cloned().collect() }
    }

    /// Whether nothing may be reached.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `host`, a name or an address without brackets, may be reached at `port`, as far as that can be said
    /// before a name is resolved.
    #[must_use]
    pub fn allows_host(&self, host: &str, port: u16) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.allows_address(address, port),
            Err(_) => self.names(host).any(|rule| rule.at(port)),
        }
    }

    /// Whether there is a port at which `name` may be reached: then it may be looked up.
    #[must_use]
    pub fn allows_lookup(&self, name: &str) -> bool {
        self.names(name).next().is_some()
    }

    /// Whether there is a port at which `host`, a name or an address, may be reached.
    #[must_use]
    pub fn allows_at_some_port(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.ranges(address.to_canonical()).next().is_some(),
            Err(_) => self.allows_lookup(host),
        }
    }

    /// Whether this address may be reached at `port` by whoever has not been given a name for it.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr, port: u16) -> bool {
        self.ranges(address.to_canonical()).any(|rule| rule.at(port))
    }

    /// The rules that mean this address, at whatever port.
    fn ranges(&self, address: IpAddr) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |rule| match &rule.host {
            Host::Any => is_public(address),
            Host::Range(range) => range.contains(address),
            Host::Name(_) | Host::Below(_) => false,
        })
    }

    /// Whether `name` may be reached at `port` under this address, to which it has been resolved.
    #[must_use]
    pub fn allows_resolved(&self, name: &str, port: u16, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut named = false;
        let mut localhost = false;
        for rule in self.names(name).filter(|rule| rule.at(port)) {
            named = true;
            localhost |= matches!(&rule.host, Host::Name(name) if is_localhost(name));
        }
        named
            && (is_public(address)
                || localhost && address.is_loopback()
                || self.allows_address(address, port))
    }

    /// The rules that mean this name, at whatever port.
    fn names<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rule> {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.rules.iter().filter(move |rule| match &rule.host {
            Host::Any => true,
            Host::Name(known) => known.eq_ignore_ascii_case(name),
            Host::Below(domain) => {
                let (name, domain) = (name.as_bytes(), domain.as_bytes());
                // At least one byte stands for the star.
                name.len() > domain.len() && name[name.len() - domain.len()..].eq_ignore_ascii_case(domain)
            }
            Host::Range(_) => false,
        })
    }
}

/// Whether a name means the machine itself, whatever its resolver says (RFC 6761).
pub(crate) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |name: &[u8], domain: &[u8]| {
        name.len() > domain.len() && name[name.len() - domain.len()..].eq_ignore_ascii_case(domain)
    };
    name.eq_ignore_ascii_case("localhost") || below(name.as_bytes(), b".localhost")
}

/// Not loopback, private, link-local, shared, multicast or otherwise special.
pub(crate) fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [first, second, third, _] = ip.octets();
            let shared = first == 100 && (64..128).contains(&second);
            let protocols = [first, second, third] == [192, 0, 0];
            let benchmarks = first == 198 && second & 0xfe == 18;
            !(ip.is_loopback()
                || ip.is_private()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_broadcast()
                || ip.is_multicast()
                || shared
                || protocols
                || benchmarks
                || first == 0
                || first >= 240)
        }
        // Only what is assigned as global unicast, and of that nothing by which a gateway would reach an IPv4
        // address inside: 6to4 and Teredo. (NAT64's prefixes, loopback and the rest are outside of 2000::/3.)
        IpAddr::V6(ip) => {
            let [first, second, ..] = ip.segments();
            let (six_to_four, teredo) = (first == 0x2002, first == 0x2001 && second == 0);
            first & 0xe000 == 0x2000 && !six_to_four && !teredo
        }
    }
}

impl Rule {
    fn at(&self, port: u16) -> bool {
        (self.ports.0..=self.ports.1).contains(&port)
    }
}

impl IpRange {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                base.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                base.to_bits().checked_shr(shift) == address.to_bits().checked_shr(shift)
            }
            _ => false,
        }
    }
}

impl FromStr for Rule {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let refused = |why| EgressError::Rule { rule: text.chars().take(80).collect(), why };
        if text.len() > MAX_RULE {
            return Err(refused("it is too long"));
        }
        // `[v6]`, `[v6]:port`, a bare IPv6 address or range, `host`, `host:port`.
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| refused("a bracket is not closed"))?;
            if !host.contains(':') {
                return Err(refused("only IPv6 addresses stand in brackets"));
            }
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return Err(refused("after the bracket only a colon and a port may follow")),
            }
        } else if text.matches(':').count() > 1 {
            (text, None)
        } else {
            match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            }
        };
        let ports = match port {
            None | Some("*") => (0, u16::MAX),
            Some(port) => {
                let (first, last) = port.split_once('-').unwrap_or((port, port));
                let number = |text: &str| {
                    text.parse::<u16>().map_err(|_| refused("its port is no number from 0 to 65535"))
                };
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return Err(refused("its range of ports is empty"));
                }
                (first, last)
            }
        };
        let host = match host {
            "" => return Err(refused("it names no host")),
            "*" => Host::Any,
            host => match (host.strip_prefix("*."), parse_range(host)) {
                (None, Some(range)) => Host::Range(range.map_err(refused)?),
                (None, None) => Host::Name(parse_name(host).map_err(refused)?),
                (Some(domain), _) => Host::Below(format!(".{}", parse_name(domain).map_err(refused)?).into()),
            },
        };
        Ok(Rule { host, ports })
    }
}

/// An address, or a range of addresses; None if it does not look like either.
fn parse_range(text: &str) -> Option<Result<IpRange, &'static str>> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(base) = address.parse::<IpAddr>() else {
        let looks_like_one = bits.is_some() || address.contains(':');
        return looks_like_one.then_some(Err("that is no address"));
    };
    let widest = if base.is_ipv4() { 32 } else { 128 };
    let bits = match bits.map(str::parse::<u8>) {
        None => widest,
        Some(Ok(bits)) if bits <= widest => bits,
        Some(_) => return Some(Err("the number after the slash is not one of its bits")),
    };
    // An IPv4 address in IPv6 clothes is compared as what it is.
    Some(match (base.to_canonical(), bits.checked_sub(96)) {
        (canonical @ IpAddr::V4(_), Some(bits)) if base.is_ipv6() => Ok(IpRange { base: canonical, bits }),
        _ => Ok(IpRange { base, bits }),
    })
}

fn parse_name(text: &str) -> Result<Box<str>, &'static str> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("its host is no DNS name (international names are written in their xn-- form)");
    }
    Ok(name.to_ascii_lowercase().into())
}

impl fmt::Display for EgressPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rule) in self.rules.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            write!(f, "{comma}{rule}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Any => f.write_str("*")?,
            Host::Name(name) => f.write_str(name)?,
            Host::Below(domain) => write!(f, "*{domain}")?,
            Host::Range(IpRange { base: base @ IpAddr::V4(_), bits }) => write!(f, "{base}/{bits}")?,
            Host::Range(IpRange { base, bits }) => write!(f, "[{base}/{bits}]")?,
        }
        match self.ports {
            (0, u16::MAX) => Ok(()),
            (first, last) if first == last => write!(f, ":{first}"),
            (first, last) => write!(f, ":{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> EgressPolicy {
        EgressPolicy::parse(rules).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let closed = policy("");
        assert!(closed.is_closed());
        assert!(!closed.allows_host("example.com", 80) && !closed.allows_host("93.184.216.34", 80));
        assert!(!closed.allows_lookup("example.com"));
    }

    #[test]
    fn names_match_whole_and_without_case() {
        let policy = policy("Example.com:443, db");
        assert!(policy.allows_host("example.COM.", 443) && policy.allows_host("db", 1));
        for (host, port) in [
            ("example.com", 444),
            ("sub.example.com", 443),
            ("example.com.evil.net", 443),
            ("notexample.com", 443),
            ("example.com..", 443),
        ] {
            assert!(!policy.allows_host(host, port), "{host}:{port}");
        }
    }

    #[test]
    fn a_star_stands_for_at_least_one_label() {
        let policy = policy("*.example.com:80-90");
        assert!(policy.allows_host("a.example.com", 80) && policy.allows_host("a.b.EXAMPLE.com.", 90));
        for (host, port) in
            [("example.com", 80), (".example.com", 80), ("aexample.com", 80), ("a.example.com", 91)]
        {
            // A name that begins with a dot is refused by every resolver; the matcher need not care.
            assert!(host.starts_with('.') || !policy.allows_host(host, port), "{host}:{port}");
        }
    }

    #[test]
    fn some_port_is_enough_to_be_spoken_with() {
        let policy = policy("api.example.com:443, *.internal:80, 10.0.0.0/8:5432");
        for host in ["API.example.com", "db.internal", "10.1.2.3", "::ffff:10.1.2.3"] {
            assert!(policy.allows_at_some_port(host), "{host}");
        }
        for host in ["example.com", "internal", "11.0.0.1", "127.0.0.1", "localhost", ""] {
            assert!(!policy.allows_at_some_port(host), "{host}");
        }
    }

    #[test]
    fn ranges_match_addresses_and_no_names() {
        let policy = policy("10.0.0.0/8:5432 [2001:db8::/32]:443 192.0.2.7 ::1 0.0.0.0/0:53 fd00::/8");
        assert!(policy.allows_host("10.255.0.1", 5432) && !policy.allows_host("11.0.0.1", 5432));
        assert!(policy.allows_host("2001:db8:ffff::1", 443) && !policy.allows_host("2001:db9::1", 443));
        assert!(policy.allows_host("192.0.2.7", 1) && !policy.allows_host("192.0.2.8", 1));
        assert!(policy.allows_host("::1", 9) && policy.allows_host("::ffff:10.0.0.1", 5432));
        assert!(policy.allows_host("127.0.0.1", 53), "a range that covers it names it");
        assert!(!policy.allows_lookup("ten.example") && !policy.allows_host("10.evil.com", 5432));
    }

    #[test]
    fn a_name_does_not_lead_inside() {
        let open = policy("*:443, api.example.com, *.internal, 10.1.0.0/16:443");
        for inside in [
            "127.0.0.1",
            "10.2.2.3",
            "169.254.169.254",
            "192.0.0.8",
            "198.19.0.1",
            "0.0.0.0",
            "::1",
            "fe80::1",
            "fec0::1",
            "fd00::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::10.0.0.1",
            "2002:a00:1::",
            "2001:0:a00:1::",
        ] {
            for name in ["api.example.com", "db.internal", "other.net"] {
                assert!(!open.allows_resolved(name, 443, ip(inside)), "{name} {inside}");
            }
            assert!(!open.allows_address(ip(inside), 443), "{inside}");
        }
        for outside in ["93.184.216.34", "192.0.1.1", "198.20.0.1", "2606:4700::1111", "2001:4860:4860::8888"]
        {
            assert!(open.allows_resolved("api.example.com", 443, ip(outside)), "{outside}");
            assert!(open.allows_address(ip(outside), 443), "{outside}");
            assert!(!open.allows_address(ip(outside), 80), "{outside}: only the name may be reached there");
            assert!(open.allows_resolved("api.example.com", 80, ip(outside)), "{outside}");
        }
        assert!(open.allows_resolved("db.internal", 443, ip("10.1.0.1")), "its address is named too");
        assert!(policy("localhost:80").allows_resolved("localhost", 80, ip("::1")));
        assert!(!policy("*:80").allows_resolved("localhost", 80, ip("127.0.0.1")));
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for rule in [
            ":80",
            "example.com:99999",
            "example.com:",
            "example.com:9-1",
            "10.0.0.0/33",
            "10.0.0/8",
            "[10.0.0.1]:80",
            "[::1:80",
            "[::1]80",
            "::1:zz",
            "exa mple.com!",
            "*example.com",
            "a..b",
            "http://example.com",
            "münchen.de",
            "*.*",
            "-",
        ] {
            if rule.contains(' ') || rule == "-" {
                continue;
            }
            let error = EgressPolicy::parse(rule).unwrap_err().to_string();
            assert!(error.contains("rules look like"), "{rule}: {error}");
        }
        assert!(EgressPolicy::parse(&"a.b:1 ".repeat(MAX_RULES + 1)).is_err());
        assert!(EgressPolicy::parse(&"a".repeat(MAX_RULE + 1)).is_err());
    }

    #[test]
    fn a_policy_prints_as_it_is_read() {
        let text = "api.example.com:443, *.internal, 10.0.0.0/8:5432, [2001:db8::/32]:1-2, *:80";
        assert_eq!(policy(text).to_string(), text);
        assert_eq!(policy("::1").to_string(), "[::1/128]");
    }
}
