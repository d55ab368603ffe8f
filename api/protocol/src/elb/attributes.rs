//! The attributes of load balancers, target groups and listeners: keys, defaults, and what values they take.

use coracle_types::elb::Attributes;
use serde_json::Value;

use super::error::ElbCode;
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// The longest value, in characters.
const VALUE_MAX: usize = 1024;

/// What values an attribute takes.
#[derive(Clone, Copy, Debug)]
enum Values {
    /// `true` or `false`.
    Flag,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// A number from, to.
    Number(u64, u64),
    /// 0, or a number from, to.
    ZeroOr(u64, u64),
    /// `off`, or a number from, to.
    OffOr(u64, u64),
    /// Any text.
    Text,
    /// The name of a header that is not about the message itself.
    HeaderName,
    /// The value of a header, or nothing for no header.
    HeaderValue,
}

/// Headers that frame and route messages.
const RESERVED: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest name of a header, in characters.
const NAME_MAX: usize = 128;

fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let lower = name.to_ascii_lowercase();
    (1..=NAME_MAX).contains(&name.len())
        && name.bytes().all(is_token)
        && !RESERVED.contains(&&*lower)
        && !lower.starts_with("x-coracle-")
}

impl Values {
    fn accept(self, value: &str) -> bool {
        let within =
            |from: u64, to: u64| value.parse().is_ok_and(|number: u64| (from..=to).contains(&number));
        match self {
            Self::Flag => matches!(value, "true" | "false"),
            Self::OneOf(values) => values.contains(&value),
            Self::Number(from, to) => within(from, to),
            Self::ZeroOr(from, to) => value == "0" || within(from, to),
            Self::OffOr(from, to) => value == "off" || within(from, to),
            Self::Text => value.chars().count() <= VALUE_MAX,
            Self::HeaderName => is_header_name(value),
            Self::HeaderValue => {
                value.len() <= VALUE_MAX && value.bytes().all(|byte| (b' '..=b'~').contains(&byte))
            }
        }
    }

    fn in_words(self) -> String {
        match self {
            Self::Flag => "true or false".to_owned(),
            Self::OneOf(values) => format!("one of {}", values.join(", ")),
            Self::Number(from, to) => format!("a number from {from} to {to}"),
            Self::ZeroOr(from, to) => format!("0 or a number from {from} to {to}"),
            Self::OffOr(from, to) => format!("off or a number from {from} to {to}"),
            Self::Text => format!("a text of at most {VALUE_MAX} characters"),
            Self::HeaderName => format!(
                "the name of a header that does not frame or route messages, of at most {NAME_MAX} characters,"
            ),
            Self::HeaderValue => format!("printable ASCII of at most {VALUE_MAX} characters"),
        }
    }
}

/// What has attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A load balancer.
    LoadBalancer,
    /// A target group.
    TargetGroup,
    /// A listener.
    Listener,
}

type Row = (&'static str, &'static str, Values);

const SWITCH: Values = Values::OneOf(&["on", "off"]);
const WEEK_S: u64 = 604_800;
const TARGETS_MAX: u64 = 10_000;

const LOAD_BALANCER: &[Row] = &[
    ("access_logs.s3.enabled", "false", Values::Flag),
    ("access_logs.s3.bucket", "", Values::Text),
    ("access_logs.s3.prefix", "", Values::Text),
    ("client_keep_alive.seconds", "3600", Values::Number(60, WEEK_S)),
    ("connection_logs.s3.enabled", "false", Values::Flag),
    ("connection_logs.s3.bucket", "", Values::Text),
    ("connection_logs.s3.prefix", "", Values::Text),
    ("deletion_protection.enabled", "false", Values::Flag),
    ("health_check_logs.s3.enabled", "false", Values::Flag),
    ("health_check_logs.s3.bucket", "", Values::Text),
    ("health_check_logs.s3.prefix", "", Values::Text),
    ("idle_timeout.timeout_seconds", "60", Values::Number(1, 4000)),
    ("ipv6.deny_all_igw_traffic", "false", Values::Flag),
    ("load_balancing.cross_zone.enabled", "true", Values::OneOf(&["true"])),
    (
        "routing.http.desync_mitigation_mode",
        "defensive",
        Values::OneOf(&["monitor", "defensive", "strictest"]),
    ),
    ("routing.http.drop_invalid_header_fields.enabled", "false", Values::Flag),
    ("routing.http.preserve_host_header.enabled", "false", Values::Flag),
    ("routing.http.x_amzn_tls_kx.enabled", "false", Values::Flag),
    ("routing.http.x_amzn_tls_version_and_cipher_suite.enabled", "false", Values::Flag),
    ("routing.http.xff_client_port.enabled", "false", Values::Flag),
    ("routing.http.xff_header_processing.mode", "append", Values::OneOf(&["append", "preserve", "remove"])),
    ("routing.http2.enabled", "true", Values::Flag),
    ("waf.fail_open.enabled", "false", Values::Flag),
    ("zonal_shift.config.enabled", "false", Values::Flag),
];

const TARGET_GROUP: &[Row] = &[
    ("deregistration_delay.timeout_seconds", "300", Values::Number(0, 3600)),
    ("load_balancing.algorithm.anomaly_mitigation", "off", SWITCH),
    (
        "load_balancing.algorithm.type",
        "round_robin",
        Values::OneOf(&["round_robin", "least_outstanding_requests", "weighted_random"]),
    ),
    (
        "load_balancing.cross_zone.enabled",
        "use_load_balancer_configuration",
        Values::OneOf(&["true", "false", "use_load_balancer_configuration"]),
    ),
    ("routing.http2.rst_stream_error_forwarding.enabled", "false", Values::Flag),
    ("slow_start.duration_seconds", "0", Values::ZeroOr(30, 900)),
    ("stickiness.app_cookie.cookie_name", "", Values::Text),
    ("stickiness.app_cookie.duration_seconds", "86400", Values::Number(1, WEEK_S)),
    ("stickiness.enabled", "false", Values::Flag),
    ("stickiness.lb_cookie.duration_seconds", "86400", Values::Number(1, WEEK_S)),
    ("stickiness.type", "lb_cookie", Values::OneOf(&["lb_cookie", "app_cookie"])),
    ("target_group_health.dns_failover.minimum_healthy_targets.count", "1", Values::OffOr(1, TARGETS_MAX)),
    ("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", Values::OffOr(1, 100)),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count",
        "1",
        Values::Number(1, TARGETS_MAX),
    ),
    (
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "off",
        Values::OffOr(1, 100),
    ),
];

/// Attributes of Coracle's own: answered only when they are set. The router reads them, and says there what
/// they do; values it could not read must not get that far.
const LOAD_BALANCER_OWN: &[Row] = &[("coracle.trust_forwarded.enabled", "false", Values::Flag)];

const TARGET_GROUP_OWN: &[Row] = &[
    ("coracle.max_in_flight", "16384", Values::Number(1, 1_000_000)),
    ("coracle.max_pending", "1024", Values::Number(0, 1_000_000)),
    ("coracle.max_request_body_bytes", "0", Values::Number(0, u64::MAX)),
    ("coracle.max_request_header_bytes", "0", Values::Number(0, 1 << 30)),
    ("coracle.outlier_ejection.base_seconds", "30", Values::Number(1, 300)),
    ("coracle.outlier_ejection.consecutive_failures", "5", Values::Number(1, 1000)),
    ("coracle.outlier_ejection.enabled", "false", Values::Flag),
    ("coracle.outlier_ejection.max_percentage", "10", Values::Number(1, 100)),
    ("coracle.pending_timeout_ms", "1000", Values::Number(0, 60_000)),
    ("coracle.response_timeout_ms", "0", Values::Number(0, 4_000_000)),
    ("coracle.retries.enabled", "true", Values::Flag),
    ("coracle.retries.minimum", "3", Values::Number(0, 1000)),
    ("coracle.retries.percentage", "20", Values::Number(0, 100)),
];

const LISTENER: &[Row] = &[
    ("routing.http.request.x_amzn_mtls_clientcert.header_name", "X-Amzn-Mtls-Clientcert", Values::HeaderName),
    (
        "routing.http.request.x_amzn_mtls_clientcert_issuer.header_name",
        "X-Amzn-Mtls-Clientcert-Issuer",
        Values::HeaderName,
    ),
    (
        "routing.http.request.x_amzn_mtls_clientcert_leaf.header_name",
        "X-Amzn-Mtls-Clientcert-Leaf",
        Values::HeaderName,
    ),
    (
        "routing.http.request.x_amzn_mtls_clientcert_serial_number.header_name",
        "X-Amzn-Mtls-Clientcert-Serial-Number",
        Values::HeaderName,
    ),
    (
        "routing.http.request.x_amzn_mtls_clientcert_subject.header_name",
        "X-Amzn-Mtls-Clientcert-Subject",
        Values::HeaderName,
    ),
    (
        "routing.http.request.x_amzn_mtls_clientcert_validity.header_name",
        "X-Amzn-Mtls-Clientcert-Validity",
        Values::HeaderName,
    ),
    (
        "routing.http.request.x_amzn_tls_cipher_suite.header_name",
        "X-Amzn-Tls-Cipher-Suite",
        Values::HeaderName,
    ),
    ("routing.http.request.x_amzn_tls_version.header_name", "X-Amzn-Tls-Version", Values::HeaderName),
    ("routing.http.response.access_control_allow_credentials.header_value", "", Values::HeaderValue),
    ("routing.http.response.access_control_allow_headers.header_value", "", Values::HeaderValue),
    ("routing.http.response.access_control_allow_methods.header_value", "", Values::HeaderValue),
    ("routing.http.response.access_control_allow_origin.header_value", "", Values::HeaderValue),
    ("routing.http.response.access_control_expose_headers.header_value", "", Values::HeaderValue),
    ("routing.http.response.access_control_max_age.header_value", "", Values::HeaderValue),
    ("routing.http.response.content_security_policy.header_value", "", Values::HeaderValue),
    ("routing.http.response.server.enabled", "true", Values::Flag),
    ("routing.http.response.strict_transport_security.header_value", "", Values::HeaderValue),
    ("routing.http.response.x_content_type_options.header_value", "", Values::HeaderValue),
    ("routing.http.response.x_frame_options.header_value", "", Values::HeaderValue),
];

impl Kind {
    fn rows(self) -> &'static [Row] {
        match self {
            Self::LoadBalancer => LOAD_BALANCER,
            Self::TargetGroup => TARGET_GROUP,
            Self::Listener => LISTENER,
        }
    }

    fn own_rows(self) -> &'static [Row] {
        match self {
            Self::LoadBalancer => LOAD_BALANCER_OWN,
            Self::TargetGroup => TARGET_GROUP_OWN,
            Self::Listener => &[],
        }
    }

    fn row(self, key: &str) -> Option<&'static Row> {
        self.rows().iter().chain(self.own_rows()).find(|(known, ..)| *known == key)
    }

    /// The keys of all its attributes, those of Coracle's own among them.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        self.rows().iter().chain(self.own_rows()).map(|(key, ..)| *key)
    }

    /// Whether an attribute takes a value. One that does not exist takes none.
    #[must_use]
    pub fn takes(self, key: &str, value: &str) -> bool {
        self.row(key).is_some_and(|(_, _, values)| values.accept(value))
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::LoadBalancer => "Load balancer",
            Self::TargetGroup => "Target group",
            Self::Listener => "Listener",
        }
    }

    /// Takes `Attributes` and puts them over those that were set.
    ///
    /// # Errors
    /// `ValidationError` for a key that does not exist, or a value it does not take;
    /// `InvalidConfigurationRequest` for attributes that contradict each other.
    pub fn modify(self, set: &Attributes, members: &mut Members) -> Result<Attributes, ApiError> {
        let mut all = set.clone();
        let pairs = members.pairs("Attributes", "Key", "Value")?.unwrap_or_default();
        if pairs.is_empty() {
            return Err(members.missing("Attributes"));
        }
        for (key, value) in pairs {
            let shown: String = key.chars().take(256).collect();
            let Some((_, _, values)) = self.row(&key) else {
                let kind = self.in_words();
                return Err(ApiError::Client(format!("{kind} attribute key '{shown}' is not recognized")));
            };
            if !values.accept(&value) {
                let given: String = value.chars().take(100).collect();
                return Err(ApiError::Client(format!(
                    "{} attribute '{shown}' has the invalid value '{given}': {} is expected",
                    self.in_words(),
                    values.in_words()
                )));
            }
            all.insert(key, value);
        }
        self.check(&all)?;
        Ok(all)
    }

    /// Whether what was set goes together.
    fn check(self, set: &Attributes) -> Result<(), ApiError> {
        let value = |key: &str| self.value(set, key);
        let refused = |text: &str| Err(ElbCode::InvalidConfigurationRequest.because(text).into());
        match self {
            Self::LoadBalancer => {
                for logs in ["access_logs", "connection_logs", "health_check_logs"] {
                    let enabled = value(&format!("{logs}.s3.enabled")) == "true";
                    if enabled && value(&format!("{logs}.s3.bucket")).is_empty() {
                        return refused(&format!(
                            "The value of '{logs}.s3.bucket' cannot be empty when logs are enabled"
                        ));
                    }
                }
                Ok(())
            }
            Self::TargetGroup => {
                let algorithm = value("load_balancing.algorithm.type");
                if value("load_balancing.algorithm.anomaly_mitigation") == "on"
                    && algorithm != "weighted_random"
                {
                    return refused(
                        "Anomaly mitigation is available only with the algorithm weighted_random",
                    );
                }
                if value("slow_start.duration_seconds") != "0" && algorithm != "round_robin" {
                    return refused("Slow start is available only with the algorithm round_robin");
                }
                let cookie = value("stickiness.app_cookie.cookie_name");
                if cookie.starts_with("AWSALB") {
                    return refused("Names of cookies that begin with AWSALB are kept for the load balancer");
                }
                let sticky =
                    value("stickiness.enabled") == "true" && value("stickiness.type") == "app_cookie";
                if sticky && cookie.is_empty() {
                    return refused(
                        "Stickiness of the type app_cookie needs stickiness.app_cookie.cookie_name",
                    );
                }
                Ok(())
            }
            Self::Listener => Ok(()),
        }
    }

    /// The value of an attribute: what was set, else its default.
    #[must_use]
    pub fn value<'a>(self, set: &'a Attributes, key: &str) -> &'a str {
        let default = || self.row(key).map_or("", |(_, default, _)| *default);
        set.get(key).map_or_else(default, String::as_str)
    }

    /// All attributes, as they are answered.
    #[must_use]
    pub fn encode(self, set: &Attributes) -> Value {
        let pair = |key: &str, value: &str| Object::new().with("Key", key).with("Value", value);
        let known = self.rows().iter().map(|(key, ..)| pair(key, self.value(set, key)));
        let own = self.own_rows().iter().filter_map(|(key, ..)| Some(pair(key, set.get(*key)?)));
        Object::new().with("Attributes", list(known.chain(own))).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn modified(kind: Kind, pairs: &[(&str, &str)]) -> Result<Attributes, ApiError> {
        let pairs: Vec<Value> =
            pairs.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let mut members = Members::of_body(json!({"Attributes": pairs}), Refusal::Client).unwrap();
        kind.modify(&Attributes::new(), &mut members)
    }

    #[test]
    fn every_default_is_a_value_its_attribute_takes() {
        for kind in [Kind::LoadBalancer, Kind::TargetGroup, Kind::Listener] {
            for (key, default, values) in kind.rows().iter().chain(kind.own_rows()) {
                assert!(values.accept(default), "{key}");
            }
            assert_eq!(kind.check(&Attributes::new()), Ok(()));
        }
    }

    #[test]
    fn what_is_set_comes_back_among_the_defaults() {
        let set = modified(
            Kind::TargetGroup,
            &[("deregistration_delay.timeout_seconds", "30"), ("coracle.max_in_flight", "100")],
        );
        let back = Kind::TargetGroup.encode(&set.unwrap());
        let back = back["Attributes"].as_array().unwrap();
        for (key, value) in [
            ("deregistration_delay.timeout_seconds", "30"),
            ("stickiness.enabled", "false"),
            ("coracle.max_in_flight", "100"),
        ] {
            assert!(back.contains(&json!({"Key": key, "Value": value})), "{key}");
        }
    }

    #[test]
    fn attributes_of_coracle_take_what_the_router_can_read() {
        for (key, fine, bad) in [
            ("coracle.max_in_flight", "1", "0"),
            ("coracle.max_pending", "0", "1000001"),
            ("coracle.max_request_body_bytes", "18446744073709551615", "1MB"),
            ("coracle.max_request_header_bytes", "1073741824", "1073741825"),
            ("coracle.outlier_ejection.base_seconds", "300", "301"),
            ("coracle.outlier_ejection.consecutive_failures", "1000", "0"),
            ("coracle.outlier_ejection.enabled", "true", "on"),
            ("coracle.outlier_ejection.max_percentage", "100", "0"),
            ("coracle.pending_timeout_ms", "60000", "60001"),
            ("coracle.response_timeout_ms", "4000000", "-1"),
            ("coracle.retries.enabled", "false", "no"),
            ("coracle.retries.minimum", "1000", "1001"),
            ("coracle.retries.percentage", "100", "101"),
        ] {
            let set = modified(Kind::TargetGroup, &[(key, fine)]).unwrap();
            assert_eq!(Kind::TargetGroup.value(&set, key), fine);
            let error = modified(Kind::TargetGroup, &[(key, bad)]).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(bad) && error.contains("is expected"), "{error}");
        }
        let trusting = [("coracle.trust_forwarded.enabled", "true")];
        assert!(modified(Kind::LoadBalancer, &trusting).is_ok());
        assert!(modified(Kind::TargetGroup, &trusting).is_err(), "it is the load balancer's");
        assert!(modified(Kind::TargetGroup, &[("coracle.max_inflight", "1")]).is_err(), "misspelt");
    }

    #[test]
    fn impossible_attributes_are_refused() {
        for (kind, pairs) in [
            (Kind::LoadBalancer, [("idle_timeout.timeout_seconds", "0")]),
            (Kind::LoadBalancer, [("nonsense", "1")]),
            (Kind::TargetGroup, [("slow_start.duration_seconds", "10")]),
            (Kind::TargetGroup, [("stickiness.enabled", "yes")]),
            (Kind::Listener, [("coracle.x", "1")]),
            (Kind::Listener, [("routing.http.request.x_amzn_tls_version.header_name", "Content-Length")]),
            (Kind::Listener, [("routing.http.request.x_amzn_tls_version.header_name", "a b")]),
            (Kind::Listener, [("routing.http.response.x_frame_options.header_value", "a\r\nb: c")]),
        ] {
            assert!(matches!(modified(kind, &pairs), Err(ApiError::Client(_))), "{pairs:?}");
        }
        let contradiction =
            modified(Kind::TargetGroup, &[("load_balancing.algorithm.anomaly_mitigation", "on")]);
        assert_eq!(contradiction.unwrap_err().row().query, "InvalidConfigurationRequest");
    }
}
