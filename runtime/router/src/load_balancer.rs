//! What the attributes of a load balancer change about requests and connections.
//!
//! | attribute | here |
//! |---|---|
//! | `idle_timeout.timeout_seconds` | [`idle_timeout`](LoadBalancerAttributes::idle_timeout) |
//! | `client_keep_alive.seconds` | [`client_keep_alive`](LoadBalancerAttributes::client_keep_alive) |
//! | `routing.http.drop_invalid_header_fields.enabled` | [`drop_invalid_fields`](LoadBalancerAttributes::drop_invalid_fields) |
//! | `routing.http.preserve_host_header.enabled` | [`preserve_host`](LoadBalancerAttributes::preserve_host) |
//! | `routing.http.xff_header_processing.mode` | [`forwarded_for`](LoadBalancerAttributes::forwarded_for) |
//! | `routing.http.xff_client_port.enabled` | [`forwarded_for_port`](LoadBalancerAttributes::forwarded_for_port) |
//! | `routing.http.x_amzn_tls_version_and_cipher_suite.enabled` | [`tells_tls`](LoadBalancerAttributes::tells_tls) |
//! | `routing.http.desync_mitigation_mode` | [`desync`](LoadBalancerAttributes::desync) |
//! | `routing.http2.enabled` | [`http2`](LoadBalancerAttributes::http2) |
//! | `coracle.trust_forwarded.enabled` | [`trust_forwarded`](LoadBalancerAttributes::trust_forwarded) |
//!
//! Others, and values that mean nothing, are passed over: whoever takes attributes from a client checks them.

use std::time::Duration;

/// The attributes of a load balancer, as far as they are about HTTP. The defaults are those of ELBv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadBalancerAttributes {
    /// How long a connection may be idle, and how long client and target may each make no progress.
    /// 1 to 4,000 s; 60 s.
    pub idle_timeout: Duration,
    /// How long a client may use one connection; it is then closed between two requests. 60 to
    /// 604,800 s; 3,600 s.
    pub client_keep_alive: Duration,
    /// Whether header fields whose names have other characters than letters, digits and hyphens are taken
    /// off. No.
    pub drop_invalid_fields: bool,
    /// Whether `Host` is passed on untouched. Otherwise the listener's port is appended where it has none
    /// and the port is neither 80 nor 443. No.
    pub preserve_host: bool,
    /// What becomes of `X-Forwarded-For`.
    pub forwarded_for: ForwardedFor,
    /// Whether the client's port is told with its address. No.
    pub forwarded_for_port: bool,
    /// Whether targets are told the version and cipher of a client's TLS, in `X-Amzn-Tls-Version` and
    /// `X-Amzn-Tls-Cipher-Suite`. No.
    pub tells_tls: bool,
    /// What becomes of requests that are allowed but odd.
    pub desync: Desync,
    /// Whether clients may speak HTTP/2. Yes.
    pub http2: bool,
    /// Whether `Forwarded` comes from a proxy that is trusted, and is passed on. No: it is taken off.
    pub trust_forwarded: bool,
}

/// What becomes of the `X-Forwarded-For` of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The client's address is appended.
    #[default]
    Append,
    /// It is passed on untouched.
    Preserve,
    /// It is taken off.
    Remove,
}

/// How odd a request may be. Framing is made anew in each mode, and what can be read in two ways is refused
/// or read in the one way that is safe, after which the connection is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Desync {
    /// As [`Defensive`](Self::Defensive).
    Monitor,
    /// What is odd but has one meaning is passed on.
    #[default]
    Defensive,
    /// What is odd is refused: a body with GET, HEAD or DELETE, and a host that is spelled in two places.
    Strictest,
}

impl Default for LoadBalancerAttributes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl LoadBalancerAttributes {
    /// Those of a load balancer of which nothing was changed.
    pub const DEFAULT: Self = Self {
        idle_timeout: Duration::from_secs(60),
        client_keep_alive: Duration::from_secs(3600),
        drop_invalid_fields: false,
        preserve_host: false,
        forwarded_for: ForwardedFor::Append,
        forwarded_for_port: false,
        tells_tls: false,
        desync: Desync::Defensive,
        http2: true,
        trust_forwarded: false,
    };

    /// What holds on the default port, which belongs to no load balancer: a service sees the host it was
    /// called by.
    pub(crate) const OF_DEFAULT_PORT: Self = Self { preserve_host: true, ..Self::DEFAULT };

    /// Reads attributes as ELBv2 has them, by key and value.
    pub fn parse<'a>(attributes: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut read = Self::default();
        for (key, value) in attributes {
            read.set(key, value);
        }
        read
    }

    fn set(&mut self, key: &str, value: &str) {
        match key {
            "idle_timeout.timeout_seconds" => set_seconds(&mut self.idle_timeout, value),
            "client_keep_alive.seconds" => set_seconds(&mut self.client_keep_alive, value),
            "routing.http.drop_invalid_header_fields.enabled" => {
                set_flag(&mut self.drop_invalid_fields, value);
            }
            "routing.http.preserve_host_header.enabled" => set_flag(&mut self.preserve_host, value),
            "routing.http.xff_client_port.enabled" => set_flag(&mut self.forwarded_for_port, value),
            "routing.http.x_amzn_tls_version_and_cipher_suite.enabled" => {
                set_flag(&mut self.tells_tls, value);
            }
            "routing.http2.enabled" => set_flag(&mut self.http2, value),
            "coracle.trust_forwarded.enabled" => set_flag(&mut self.trust_forwarded, value),
            "routing.http.xff_header_processing.mode" => match value {
                "append" => self.forwarded_for = ForwardedFor::Append,
                "preserve" => self.forwarded_for = ForwardedFor::Preserve,
                "remove" => self.forwarded_for = ForwardedFor::Remove,
                _ => {}
            },
            "routing.http.desync_mitigation_mode" => match value {
                "monitor" => self.desync = Desync::Monitor,
                "defensive" => self.desync = Desync::Defensive,
                "strictest" => self.desync = Desync::Strictest,
                _ => {}
            },
            _ => {}
        }
    }
}

fn set_seconds(field: &mut Duration, value: &str) {
    if let Ok(seconds @ 1..) = value.parse() {
        *field = Duration::from_secs(seconds);
    }
}

fn set_flag(field: &mut bool, value: &str) {
    if let Ok(flag) = value.parse() {
        *field = flag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_elbv2_has_them() {
        let read = LoadBalancerAttributes::parse([
            ("idle_timeout.timeout_seconds", "4"),
            ("client_keep_alive.seconds", "0"),
            ("routing.http.xff_header_processing.mode", "remove"),
            ("routing.http.desync_mitigation_mode", "strictest"),
            ("routing.http.preserve_host_header.enabled", "true"),
            ("routing.http2.enabled", "false"),
            ("deletion_protection.enabled", "true"),
        ]);
        let expected = LoadBalancerAttributes {
            idle_timeout: Duration::from_secs(4),
            forwarded_for: ForwardedFor::Remove,
            desync: Desync::Strictest,
            preserve_host: true,
            http2: false,
            ..LoadBalancerAttributes::default()
        };
        assert_eq!(read, expected);
    }
}
