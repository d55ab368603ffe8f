//! Which action of which service a request means.
//!
//! In the order the SDKs make possible: the prefix of `X-Amz-Target` (JSON services), else `Action` and
//! `Version` in the form or the query (Query services). Services with paths of their own (REST) are told
//! by the service a request is signed for; none of them is spoken here. A request that means nothing here
//! is refused in the protocol it seems to speak, so that the client shows the reason and not a parse error.

use coracle_protocol::query::form_text;
use coracle_protocol::{ApiError, Wire, ecs, elb, logs, sts};

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Amazon ECS.
    Ecs,
    /// Elastic Load Balancing v2.
    Elb,
    /// CloudWatch Logs.
    Logs,
    /// The Security Token Service.
    Sts,
}

/// An action of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) service: Service,
    pub(crate) name: String,
}

impl Service {
    /// The name people know it by.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ecs => "Amazon ECS",
            Self::Elb => "Elastic Load Balancing v2",
            Self::Logs => "CloudWatch Logs",
            Self::Sts => "AWS STS",
        }
    }
}

/// The refusal of an action a service does not have here.
pub(crate) fn unknown_operation(service: Service, operation: &str) -> ApiError {
    ApiError::UnknownOperation { service: service.title(), operation: operation.chars().take(100).collect() }
}

/// What is spoken here, for those who ask for something else.
const SPOKEN: &str = "Coracle speaks Amazon ECS, Elastic Load Balancing v2, CloudWatch Logs and AWS STS";

/// The services whose REST protocol is XML, by the names they are signed for. Their errors look like those
/// of Query services.
const REST_XML: [&str; 4] = ["cloudfront", "route53", "s3", "s3express"];

/// The protocol a request seems to speak. `service` is the one it is signed for.
pub(crate) fn wire(
    target: Option<&str>,
    content_type: Option<&str>,
    query: Option<&str>,
    service: Option<&str>,
) -> Wire {
    let form = content_type.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let presigned = query.is_some_and(|query| form_value(query, "Action").is_some());
    let xml = service.is_some_and(|service| REST_XML.contains(&service));
    if target.is_none() && (form || presigned || xml) { Wire::Query } else { Wire::Json }
}

/// The refusal of a request that names no action, but may be one of a REST service.
pub(crate) fn no_action(method: &str, path: &str, service: Option<&str>) -> ApiError {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    ApiError::UnknownService(match service {
        Some(service) if !matches!(service, "ecs" | "elasticloadbalancing" | "logs" | "sts") => {
            format!("{SPOKEN}; {method} {} is signed for {:?}", short(path), short(service))
        }
        _ => "the request names no action: neither an X-Amz-Target header nor an Action parameter".to_owned(),
    })
}

/// The action of a request whose target is `target`, or whose form is `form`; None when it names none.
pub(crate) fn operation(target: Option<&str>, form: &str) -> Result<Option<Operation>, ApiError> {
    if let Some(target) = target {
        let (prefix, name) = target.split_once('.').unwrap_or((target, ""));
        let service = match prefix {
            ecs::TARGET_PREFIX => Service::Ecs,
            logs::TARGET_PREFIX => Service::Logs,
            _ => {
                let shown: String = target.chars().take(100).collect();
                return Err(ApiError::UnknownService(format!(
                    "{SPOKEN}; X-Amz-Target {shown:?} is none of them"
                )));
            }
        };
        return Ok(Some(Operation { service, name: name.to_owned() }));
    }
    let Some(name) = form_value(form, "Action") else { return Ok(None) };
    let version = form_value(form, "Version").unwrap_or_default();
    let service = match version.as_str() {
        sts::VERSION => Some(Service::Sts),
        elb::VERSION => Some(Service::Elb),
        _ => None,
    };
    if let Some(service) = service {
        return Ok(Some(Operation { service, name }));
    }
    let (name, version): (String, String) =
        (name.chars().take(100).collect(), version.chars().take(40).collect());
    Err(ApiError::UnknownService(format!(
        "{SPOKEN}; the action {name:?} of version {version:?} is none of theirs"
    )))
}

/// The first value of a member of a form, decoded.
pub(crate) fn form_value(form: &str, name: &str) -> Option<String> {
    let mut pairs = form.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| form_text(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_as_the_clients_send_them() {
        let operation = |target, form| operation(target, form).map(Option::unwrap);
        let found = operation(Some("AmazonEC2ContainerServiceV20141113.ListClusters"), "").unwrap();
        assert_eq!(found, Operation { service: Service::Ecs, name: "ListClusters".into() });
        let found = operation(Some("Logs_20140328.GetLogEvents"), "").unwrap();
        assert_eq!(found.service, Service::Logs);
        let found = operation(None, "Action=GetCallerIdentity&Version=2011-06-15").unwrap();
        assert_eq!(found, Operation { service: Service::Sts, name: "GetCallerIdentity".into() });
        let found = operation(None, "Action=DescribeLoadBalancers&Version=2015-12-01").unwrap();
        assert_eq!(found.service, Service::Elb);
        for (target, form) in [
            (Some("AmazonSSM.GetParameter"), ""),
            (Some("x"), ""),
            // The classic Elastic Load Balancing.
            (None, "Action=DescribeLoadBalancers&Version=2012-06-01"),
        ] {
            assert!(matches!(operation(target, form), Err(ApiError::UnknownService(_))), "{target:?} {form}");
        }
    }

    #[test]
    fn a_request_without_an_action_may_be_one_of_a_rest_service() {
        assert_eq!(operation(None, "nothing"), Ok(None));
        let text = |service| no_action("GET", "/schedules", service).to_string();
        assert!(text(Some("scheduler")).ends_with("; GET /schedules is signed for \"scheduler\""));
        assert!(text(Some("ecs")).starts_with("the request names no action"));
        assert!(text(None).starts_with("the request names no action"));
        assert_eq!(wire(None, None, None, Some("route53")), Wire::Query);
        assert_eq!(wire(None, None, None, Some("scheduler")), Wire::Json);
        assert_eq!(wire(Some("x"), None, None, Some("s3")), Wire::Json);
    }

    #[test]
    fn forms_are_decoded() {
        assert_eq!(form_value("a=1&b=x%20y+z%2", "b").unwrap(), "x y z%2");
        assert_eq!(form_value("a=1", "b"), None);
    }
}
