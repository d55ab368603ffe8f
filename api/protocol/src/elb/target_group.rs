//! Target groups on the wire.

use coracle_types::elb::{
    ElbArn, ElbName, HealthCheckPort, LoadBalancerId, Matcher, ProtocolVersion, TargetGroup,
    TargetGroupCheck, TargetProtocol, TargetType,
};
use coracle_types::{AccountId, Tags};
use serde_json::Value;

use super::error::ElbCode;
use super::load_balancer::take_name;
use super::take_tags;
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// The gRPC method that is called to check a target, unless told.
const GRPC_PATH: &str = "/AWS.ALB/healthcheck";

/// CreateTargetGroup.
#[derive(Clone, Debug, PartialEq)]
pub struct CreateTargetGroup {
    /// Its name.
    pub name: ElbName,
    /// What its targets speak.
    pub protocol: TargetProtocol,
    /// Which version of it.
    pub protocol_version: ProtocolVersion,
    /// Where they listen.
    pub port: u16,
    /// What they are named by.
    pub target_type: TargetType,
    /// The network they are in.
    pub vpc_id: Option<String>,
    /// `ipv4` unless said otherwise.
    pub ip_address_type: String,
    /// How they are checked.
    pub check: TargetGroupCheck,
    /// Its tags.
    pub tags: Tags,
}

impl CreateTargetGroup {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing or not possible.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let name = take_name(&mut members, "Target group name")?;
        let target_type = match members.text("TargetType")?.as_deref() {
            None | Some("instance") => TargetType::Instance,
            Some("ip") => TargetType::Ip,
            Some(other) => {
                return Err(ElbCode::InvalidConfigurationRequest
                    .because(format_args!(
                        "Target groups of the type '{other}' are not supported here; 'ip' and 'instance' are"
                    ))
                    .into());
            }
        };
        let protocol = take_protocol(&mut members, "Protocol")?
            .ok_or_else(|| ApiError::Client("A protocol must be specified".to_owned()))?;
        let port = take_port(&mut members)?
            .ok_or_else(|| ApiError::Client("A port must be specified".to_owned()))?;
        let protocol_version = match members.text("ProtocolVersion")?.as_deref() {
            None | Some("HTTP1") => ProtocolVersion::Http1,
            Some("HTTP2") => ProtocolVersion::Http2,
            Some("GRPC") => ProtocolVersion::Grpc,
            Some(_) => return Err(members.invalid("ProtocolVersion", "it must be HTTP1, HTTP2 or GRPC")),
        };
        let is_grpc = protocol_version == ProtocolVersion::Grpc;
        let mut check = TargetGroupCheck {
            enabled: true,
            protocol: TargetProtocol::Http,
            port: HealthCheckPort::TrafficPort,
            path: if is_grpc { GRPC_PATH.to_owned() } else { "/".to_owned() },
            interval_s: 30,
            timeout_s: 5,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: if is_grpc { Matcher::Grpc("12".to_owned()) } else { Matcher::Http("200".to_owned()) },
        };
        edit_check(&mut check, &mut members)?;
        Ok(Self {
            name,
            protocol,
            protocol_version,
            port,
            target_type,
            vpc_id: members.text("VpcId")?,
            ip_address_type: members.text("IpAddressType")?.unwrap_or_else(|| "ipv4".to_owned()),
            check,
            tags: take_tags(&mut members)?,
        })
    }

    /// Whether `existing` is what this asks for: then it is made already.
    #[must_use]
    pub fn is(&self, existing: &TargetGroup) -> bool {
        let Self {
            name,
            protocol,
            protocol_version,
            port,
            target_type,
            vpc_id,
            ip_address_type,
            check,
            tags,
        } = self;
        *name == existing.id.name
            && *protocol == existing.protocol
            && *protocol_version == existing.protocol_version
            && *port == existing.port
            && *target_type == existing.target_type
            && *vpc_id == existing.vpc_id
            && *ip_address_type == existing.ip_address_type
            && *check == existing.check
            && *tags == existing.tags
    }
}

/// Takes a protocol that targets can speak here.
fn take_protocol(members: &mut Members, name: &str) -> Result<Option<TargetProtocol>, ApiError> {
    match members.text(name)?.as_deref() {
        None => Ok(None),
        Some("HTTP") => Ok(Some(TargetProtocol::Http)),
        Some("HTTPS") => Ok(Some(TargetProtocol::Https)),
        Some(other) => Err(ElbCode::UnsupportedProtocol
            .because(format_args!("The protocol '{other}' is not supported here; HTTP and HTTPS are"))
            .into()),
    }
}

fn take_port(members: &mut Members) -> Result<Option<u16>, ApiError> {
    let port = members.integer_in("Port", 1..=65_535)?;
    Ok(port.and_then(|port| u16::try_from(port).ok()))
}

/// Takes the members of a health check that are there.
///
/// # Errors
/// When one is not possible, or they do not go together.
pub fn edit_check(check: &mut TargetGroupCheck, members: &mut Members) -> Result<(), ApiError> {
    if members.flag("HealthCheckEnabled")? == Some(false) {
        return Err(ElbCode::InvalidConfigurationRequest
            .because(
                "Health check enabled must be true for target groups with target type 'instance' or 'ip'",
            )
            .into());
    }
    if let Some(protocol) = take_protocol(members, "HealthCheckProtocol")? {
        check.protocol = protocol;
    }
    if let Some(port) = members.text("HealthCheckPort")? {
        check.port = match port.as_str() {
            "traffic-port" => HealthCheckPort::TrafficPort,
            number => match number.parse::<u16>() {
                Ok(port) if port > 0 => HealthCheckPort::Port(port),
                _ => {
                    let shown: String = number.chars().take(100).collect();
                    return Err(ApiError::Client(format!(
                        "Health check port '{shown}' must be 'traffic-port' or a port from 1 to 65535"
                    )));
                }
            },
        };
    }
    if let Some(path) = members.text("HealthCheckPath")? {
        let good = path.starts_with('/')
            && (1..=1024).contains(&path.len())
            && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !good {
            return Err(ApiError::Client(
                "The health check path must begin with a '/' and have at most 1024 printable characters"
                    .to_owned(),
            ));
        }
        check.path = path;
    }
    let numbers: [(&str, u32, u32, &mut u32); 4] = [
        ("HealthCheckIntervalSeconds", 5, 300, &mut check.interval_s),
        ("HealthCheckTimeoutSeconds", 2, 120, &mut check.timeout_s),
        ("HealthyThresholdCount", 2, 10, &mut check.healthy_threshold),
        ("UnhealthyThresholdCount", 2, 10, &mut check.unhealthy_threshold),
    ];
    let mut timeout_given = false;
    for (name, from, to, place) in numbers {
        if let Some(number) = members.integer(name)? {
            timeout_given |= name == "HealthCheckTimeoutSeconds";
            let number = u32::try_from(number).ok().filter(|number| (from..=to).contains(number));
            *place = number.ok_or_else(|| {
                ApiError::Client(format!("'{name}' must be between '{from}' and '{to}' inclusive"))
            })?;
        }
    }
    // Equal ones are refused only to who asked for them: the default timeout is the shortest interval.
    if check.timeout_s > check.interval_s || (timeout_given && check.timeout_s == check.interval_s) {
        return Err(ApiError::Client(format!(
            "Health check timeout '{}' must be smaller than the interval '{}'",
            check.timeout_s, check.interval_s
        )));
    }
    if let Some(mut matcher) = members.object("Matcher")? {
        let (http, grpc) = (matcher.text("HttpCode")?, matcher.text("GrpcCode")?);
        check.matcher = match (&check.matcher, http, grpc) {
            (Matcher::Http(_), Some(codes), None) if codes_within(&codes, 200, 499) => Matcher::Http(codes),
            (Matcher::Grpc(_), None, Some(codes)) if codes_within(&codes, 0, 99) => Matcher::Grpc(codes),
            (Matcher::Http(_), ..) => {
                return Err(ApiError::Client(
                    "Health check matcher HTTP code must be within '200-499', such as '200', '200,302' or '200-299'"
                        .to_owned(),
                ));
            }
            (Matcher::Grpc(_), ..) => {
                return Err(ApiError::Client(
                    "Health check matcher gRPC code must be within '0-99', such as '0', '0,12' or '0-5'"
                        .to_owned(),
                ));
            }
        };
    }
    Ok(())
}

/// Whether a matcher's codes are numbers and ranges within bounds.
fn codes_within(codes: &str, from: u32, to: u32) -> bool {
    codes.len() <= 256
        && codes.split(',').all(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
                (Ok(first), Ok(last)) => from <= first && first <= last && last <= to,
                _ => false,
            }
        })
}

/// What is written for a protocol.
#[must_use]
pub fn protocol_name(protocol: TargetProtocol) -> &'static str {
    match protocol {
        TargetProtocol::Http => "HTTP",
        TargetProtocol::Https => "HTTPS",
    }
}

/// Where targets are checked, in words.
#[must_use]
pub fn check_port(port: HealthCheckPort) -> String {
    match port {
        HealthCheckPort::TrafficPort => "traffic-port".to_owned(),
        HealthCheckPort::Port(port) => port.to_string(),
    }
}

/// A target group as it is answered, with the load balancers that forward to it.
#[must_use]
pub fn encode<'a>(
    group: &TargetGroup,
    account: AccountId,
    balancers: impl Iterator<Item = &'a LoadBalancerId>,
) -> Value {
    let check = &group.check;
    let matcher = match &check.matcher {
        Matcher::Http(codes) => Object::new().with("HttpCode", codes.as_str()),
        Matcher::Grpc(codes) => Object::new().with("GrpcCode", codes.as_str()),
    };
    let version = match group.protocol_version {
        ProtocolVersion::Http1 => "HTTP1",
        ProtocolVersion::Http2 => "HTTP2",
        ProtocolVersion::Grpc => "GRPC",
    };
    let target_type = match group.target_type {
        TargetType::Instance => "instance",
        TargetType::Ip => "ip",
    };
    Object::new()
        .with("TargetGroupArn", ElbArn::new(account, group.id.clone()).to_string())
        .with("TargetGroupName", group.id.name.as_str())
        .with("Protocol", protocol_name(group.protocol))
        .with("Port", group.port)
        .maybe("VpcId", group.vpc_id.as_deref())
        .with("HealthCheckProtocol", protocol_name(check.protocol))
        .with("HealthCheckPort", check_port(check.port))
        .with("HealthCheckEnabled", check.enabled)
        .with("HealthCheckIntervalSeconds", check.interval_s)
        .with("HealthCheckTimeoutSeconds", check.timeout_s)
        .with("HealthyThresholdCount", check.healthy_threshold)
        .with("UnhealthyThresholdCount", check.unhealthy_threshold)
        .with("HealthCheckPath", check.path.as_str())
        .with("Matcher", matcher)
        .with("LoadBalancerArns", list(balancers.map(|id| ElbArn::new(account, id.clone()).to_string())))
        .with("TargetType", target_type)
        .with("ProtocolVersion", version)
        .with("IpAddressType", group.ip_address_type.as_str())
        .into()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    fn decoded(more: &Value) -> Result<CreateTargetGroup, ApiError> {
        let mut body = json!({"Name": "web", "Protocol": "HTTP", "Port": 80, "VpcId": "vpc-1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        CreateTargetGroup::decode(Members::of_body(body, Refusal::Client).unwrap())
    }

    #[test]
    fn defaults_are_those_of_aws() {
        let made = decoded(&json!({})).unwrap();
        let check = &made.check;
        let numbers = (check.interval_s, check.timeout_s, check.healthy_threshold, check.unhealthy_threshold);
        assert_eq!(numbers, (30, 5, 5, 2));
        assert_eq!((check.path.as_str(), &check.matcher), ("/", &Matcher::Http("200".to_owned())));
        assert_eq!((made.target_type, made.protocol_version), (TargetType::Instance, ProtocolVersion::Http1));
        let grpc = decoded(&json!({"ProtocolVersion": "GRPC"})).unwrap();
        assert_eq!(
            (grpc.check.path.as_str(), &grpc.check.matcher),
            (GRPC_PATH, &Matcher::Grpc("12".to_owned()))
        );
    }

    #[test]
    fn impossible_groups_are_refused() {
        for (bad, code) in [
            (json!({"Name": "-web"}), "ValidationError"),
            (json!({"Name": "x".repeat(33)}), "ValidationError"),
            (json!({"Protocol": "TCP"}), "UnsupportedProtocol"),
            (json!({"Port": 0}), "ValidationError"),
            (json!({"TargetType": "lambda"}), "InvalidConfigurationRequest"),
            (json!({"HealthCheckIntervalSeconds": 4}), "ValidationError"),
            (json!({"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 5}), "ValidationError"),
            (json!({"HealthCheckTimeoutSeconds": 31}), "ValidationError"),
            (json!({"HealthCheckPath": "health"}), "ValidationError"),
            (json!({"HealthCheckPort": "0"}), "ValidationError"),
            (json!({"Matcher": {"HttpCode": "199"}}), "ValidationError"),
            (json!({"Matcher": {"GrpcCode": "0"}}), "ValidationError"),
            (json!({"HealthCheckEnabled": false}), "InvalidConfigurationRequest"),
            (json!({"ProtocolVersion": "HTTP3"}), "ValidationError"),
        ] {
            assert_eq!(decoded(&bad).unwrap_err().row().query, code, "{bad}");
        }
    }
}
