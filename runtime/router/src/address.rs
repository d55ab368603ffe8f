//! How a request names a service: by its host, or by the routing header. Pure; knows no table.

use http::HeaderName;

/// The header that names a service for clients that can't set the host.
pub(crate) const SERVICE_HEADER: HeaderName = HeaderName::from_static("x-coracle-service");

/// The cluster meant when only a service is named.
const DEFAULT_CLUSTER: &str = "default";

/// ECS allows 255 characters in the name of a service and of a cluster.
const MAX_NAME: usize = 255;

/// A service as a request names it, in the request's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address<'a> {
    pub(crate) service: &'a str,
    pub(crate) cluster: &'a str,
    pub(crate) region: Option<&'a str>,
}

/// Why a request names no service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressError {
    /// A valid host that is not of the form `<service>.<cluster>.localhost`.
    NoService,
    /// Not a host, or not a service name; the text says why.
    Malformed(&'static str),
}

/// Reads `<service>.<cluster>[.<region>].localhost[:port]`.
pub(crate) fn parse_host(host: &str) -> Result<Address<'_>, AddressError> {
    use AddressError::{Malformed, NoService};
    if host.is_empty() {
        return Err(Malformed("it is empty"));
    }
    if host.starts_with('[') {
        // An IPv6 address, which names no service.
        return if host.contains(']') { Err(NoService) } else { Err(Malformed("it has no closing bracket")) };
    }
    let name = match host.split_once(':') {
        Some((name, port)) if port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => name,
        Some(_) => return Err(Malformed("its port is not a number")),
        None => host,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 3 * MAX_NAME {
        return Err(Malformed("it is too long"));
    }
    if !name.bytes().all(|b| is_name_byte(b) || b == b'.') {
        return Err(Malformed("it has a character no host name has"));
    }
    strip_domain(name, ".localhost").ok_or(NoService).and_then(parse_labels)
}

/// Reads `<service>.<cluster>[.<region>].internal`, or `.localhost`: how programs in this process name a service.
/// There may be other hosts of such names, which are no concern of ours.
pub(crate) fn parse_internal(host: &str) -> Option<Address<'_>> {
    let name = host.strip_suffix('.').unwrap_or(host);
    let labels = strip_domain(name, ".internal").or_else(|| strip_domain(name, ".localhost"))?;
    parse_labels(labels).ok()
}

/// Reads `<service>.<cluster>[.<region>]`.
fn parse_labels(labels: &str) -> Result<Address<'_>, AddressError> {
    let mut labels = labels.split('.');
    let (Some(service), Some(cluster), region, None) =
        (labels.next(), labels.next(), labels.next(), labels.next())
    else {
        return Err(AddressError::NoService);
    };
    checked(service, cluster, region)
}

/// Reads the routing header: `service`, `cluster/service` or `region/cluster/service`.
pub(crate) fn parse_header(value: &str) -> Result<Address<'_>, AddressError> {
    let mut parts = value.trim().rsplit('/');
    let (Some(service), cluster, region, None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AddressError::Malformed("it has more than three parts"));
    };
    checked(service, cluster.unwrap_or(DEFAULT_CLUSTER), region)
}

fn checked<'a>(
    service: &'a str,
    cluster: &'a str,
    region: Option<&'a str>,
) -> Result<Address<'a>, AddressError> {
    for name in [Some(service), Some(cluster), region].into_iter().flatten() {
        if name.is_empty() {
            return Err(AddressError::Malformed("a part of it is empty"));
        }
        if name.len() > MAX_NAME {
            return Err(AddressError::Malformed("a part of it is longer than 255 characters"));
        }
        if !name.bytes().all(is_name_byte) {
            return Err(AddressError::Malformed("names have letters, digits, hyphens and underscores only"));
        }
    }
    Ok(Address { service, cluster, region })
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// What stands before `domain`, which begins with its dot.
fn strip_domain<'a>(name: &'a str, domain: &str) -> Option<&'a str> {
    let (labels, end) = name.split_at_checked(name.len().checked_sub(domain.len())?)?;
    end.eq_ignore_ascii_case(domain).then_some(labels)
}

/// The lower-case `service.cluster` a table is searched by, built without an allocation.
pub(crate) struct Key {
    bytes: [u8; 2 * MAX_NAME + 1],
    len: usize,
}

impl Key {
    pub(crate) fn of(address: &Address<'_>) -> Self {
        let mut key = Key { bytes: [0; 2 * MAX_NAME + 1], len: 0 };
        key.push(address.service);
        key.push(".");
        key.push(address.cluster);
        key
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The parser bounds both names, so they fit; a name that didn't would be cut and found nowhere.
    fn push(&mut self, part: &str) {
        let room = &mut self.bytes[self.len..];
        let len = part.len().min(room.len());
        room[..len].copy_from_slice(&part.as_bytes()[..len]);
        room[..len].make_ascii_lowercase();
        self.len += len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address<'a>(service: &'a str, cluster: &'a str, region: Option<&'a str>) -> Address<'a> {
        Address { service, cluster, region }
    }

    #[test]
    fn hosts_that_name_a_service() {
        for (host, expected) in [
            ("web.default.localhost", address("web", "default", None)),
            ("web.default.localhost:8080", address("web", "default", None)),
            ("web.default.localhost.:80", address("web", "default", None)),
            ("Web_1.Prod.LocalHost:8080", address("Web_1", "Prod", None)),
            ("web.default.eu-west-1.localhost:1", address("web", "default", Some("eu-west-1"))),
        ] {
            assert_eq!(parse_host(host), Ok(expected), "{host}");
        }
    }

    #[test]
    fn hosts_that_name_none() {
        for host in [
            "localhost",
            "localhost:8080",
            "web.localhost",
            "127.0.0.1:8080",
            "[::1]:8080",
            "a.b.c.d.localhost",
            "example.com",
            "web.default.localhost.example.com",
            "xlocalhost",
        ] {
            assert_eq!(parse_host(host), Err(AddressError::NoService), "{host}");
        }
    }

    #[test]
    fn hosts_that_are_none() {
        let long = format!("{}.default.localhost", "a".repeat(256));
        for host in [
            "",
            "web.default.localhost:http",
            "web.default.localhost:123456",
            "user@web.default.localhost",
            "web default.localhost",
            ".default.localhost",
            "web..localhost",
            "[::1",
            "wéb.default.localhost",
            &long,
        ] {
            assert!(matches!(parse_host(host), Err(AddressError::Malformed(_))), "{host}");
        }
    }

    #[test]
    fn hosts_that_name_a_service_to_programs_in_this_process() {
        for (host, expected) in [
            ("web.default.internal", address("web", "default", None)),
            ("Web.Prod.eu-west-1.INTERNAL.", address("Web", "Prod", Some("eu-west-1"))),
            ("web.default.localhost", address("web", "default", None)),
        ] {
            assert_eq!(parse_internal(host), Some(expected), "{host}");
        }
        for host in
            ["web.internal", "internal", "a.b.c.d.internal", "web.default.com", "wéb.default.internal", ""]
        {
            assert_eq!(parse_internal(host), None, "{host}");
        }
    }

    #[test]
    fn routing_headers() {
        assert_eq!(parse_header("web"), Ok(address("web", "default", None)));
        assert_eq!(parse_header(" prod/web "), Ok(address("web", "prod", None)));
        assert_eq!(parse_header("us-east-1/prod/web"), Ok(address("web", "prod", Some("us-east-1"))));
        for bad in ["", "/", "prod/", "/web", "a/b/c/d", "we b", "prod/w.b"] {
            assert!(matches!(parse_header(bad), Err(AddressError::Malformed(_))), "{bad}");
        }
    }

    #[test]
    fn keys_fold_case_and_fit_the_longest_names() {
        assert_eq!(Key::of(&address("Web", "PROD", None)).as_bytes(), b"web.prod");
        let long = "A".repeat(255);
        let key = Key::of(&address(&long, &long, None));
        assert_eq!(key.as_bytes(), format!("{0}.{0}", "a".repeat(255)).as_bytes());
    }
}
