//! Which addresses a guest may reach: the rules of `allow_net`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The rules of one container. None means nothing may be reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetPolicy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// Lower case, without brackets. `None` is any.
    host: Option<String>,
    port: Option<u16>,
}

/// A rule that can't be read; the text shows it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadRule(String);

impl fmt::Display for BadRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not of the form host:port, such as example.com:443 or *:80", self.0)
    }
}

/// How a destination came to be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// The host is named: whatever it resolves to is meant.
    ByName,
    /// Any host is allowed: only public addresses are meant.
    ByWildcard,
}

impl NetPolicy {
    pub(crate) fn parse(rules: &[String]) -> Result<NetPolicy, BadRule> {
        let rules = rules.iter().map(|rule| rule.parse()).collect::<Result<_, _>>()?;
        Ok(NetPolicy { rules })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether `host` (a name or an address, without brackets) may be reached at `port`.
    pub(crate) fn check(&self, host: &str, port: u16) -> Option<Allowed> {
        let host = host.trim_end_matches('.');
        let matching = || self.rules.iter().filter(|rule| rule.port.is_none_or(|allowed| allowed == port));
        if matching().any(|rule| rule.host.as_ref().is_some_and(|name| name.eq_ignore_ascii_case(host))) {
            return Some(Allowed::ByName);
        }
        matching().any(|rule| rule.host.is_none()).then_some(Allowed::ByWildcard)
    }

    /// Whether a TCP connection to this address is allowed: by a rule that names the address, by a wildcard if it
    /// is public, or because a host that is named resolves to it now.
    pub(crate) async fn check_address(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        if let Some(allowed) = self.check(&ip.to_string(), address.port())
            && allowed.permits(ip)
        {
            return true;
        }
        for rule in &self.rules {
            let (Some(name), true) = (&rule.host, rule.port.is_none_or(|port| port == address.port())) else {
                continue;
            };
            if name.parse::<IpAddr>().is_err()
                && let Ok(mut found) = tokio::net::lookup_host((name.as_str(), address.port())).await
                && found.any(|found| found.ip().to_canonical() == ip)
            {
                return true;
            }
        }
        false
    }
}

impl Allowed {
    /// Whether a name that was allowed this way may resolve to this address.
    pub(crate) fn permits(self, ip: IpAddr) -> bool {
        self == Allowed::ByName || is_public(ip)
    }
}

/// Not loopback, private, link-local, shared, multicast or otherwise special.
fn is_public(ip: IpAddr) -> bool {
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

impl FromStr for Rule {
    type Err = BadRule;

    fn from_str(text: &str) -> Result<Self, BadRule> {
        let bad = || BadRule(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| bad())?),
        };
        let host = match host {
            "*" => None,
            "" => return Err(bad()),
            host => {
                let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
                // An IPv6 address without brackets leaves it open where its port begins.
                if inner.is_none() && host.contains(':') {
                    return Err(bad());
                }
                Some(inner.unwrap_or(host).trim_end_matches('.').to_ascii_lowercase())
            }
        };
        Ok(Rule { host, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str]) -> NetPolicy {
        NetPolicy::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(policy(&[]).is_closed());
        assert_eq!(policy(&[]).check("example.com", 80), None);
    }

    #[test]
    fn rules_match_host_and_port() {
        let policy = policy(&["Example.com:443", "*:80", "[::1]:5432", "db:*"]);
        assert_eq!(policy.check("example.COM.", 443), Some(Allowed::ByName));
        assert_eq!(policy.check("example.com", 444), None);
        assert_eq!(policy.check("sub.example.com", 443), None);
        assert_eq!(policy.check("other", 80), Some(Allowed::ByWildcard));
        assert_eq!(policy.check("::1", 5432), Some(Allowed::ByName));
        assert_eq!(policy.check("db", 1), Some(Allowed::ByName));
    }

    #[test]
    fn a_wildcard_does_not_reach_the_inside() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
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
            assert!(!Allowed::ByWildcard.permits(inside.parse().unwrap()), "{inside}");
            assert!(Allowed::ByName.permits(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["93.184.216.34", "192.0.1.1", "198.20.0.1", "2606:4700::1111", "2001:4860:4860::8888"]
        {
            assert!(Allowed::ByWildcard.permits(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn rules_that_make_no_sense_are_refused() {
        for rule in ["example.com", ":80", "example.com:99999", "::1:80", ""] {
            let error = NetPolicy::parse(&[rule.to_owned()]).unwrap_err();
            assert!(error.to_string().contains("host:port"), "{error}");
        }
    }

    #[tokio::test]
    async fn addresses_are_checked_as_addresses() {
        let policy = policy(&["127.0.0.1:5432", "*:80"]);
        assert!(policy.check_address("127.0.0.1:5432".parse().unwrap()).await);
        assert!(!policy.check_address("127.0.0.1:80".parse().unwrap()).await);
        assert!(policy.check_address("93.184.216.34:80".parse().unwrap()).await);
    }
}
