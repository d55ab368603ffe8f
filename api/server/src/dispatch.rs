//! Which action of which service a request means.
//!
//! In the order the SDKs make possible: the prefix of `X-Amz-Target` (JSON services), else the path, where the
//! request says that it is CBOR (Smithy RPC v2), else `Action` and
//! `Version` in the form or the query (Query services). Services with paths of their own (REST) are told
//! by the service a request is signed for; none of them is spoken here. A request that means nothing here
//! is refused in the protocol it seems to speak, so that the client shows the reason and not a parse error.

use coracle_protocol::query::form_text;
use coracle_protocol::shape::Shape;
use coracle_protocol::{ApiError, Wire, acm, cloudwatch, ecs, elb, iam, logs, secretsmanager, ssm, sts};
use serde_json::Value;

/// A service. [`Service::ALL`] says how each is spoken; `http` says who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Amazon ECS.
    Ecs,
    /// Elastic Load Balancing v2.
    Elb,
    /// AWS Certificate Manager.
    Acm,
    /// CloudWatch: alarms, and metrics of one's own.
    CloudWatch,
    /// CloudWatch Logs.
    Logs,
    /// Secrets Manager.
    SecretsManager,
    /// Systems Manager: the Parameter Store.
    Ssm,
    /// The Security Token Service.
    Sts,
    /// Identity and Access Management.
    Iam,
}

/// How a service is spoken.
#[derive(Clone, Copy)]
pub(crate) enum Protocol {
    /// JSON 1.1, told by what `X-Amz-Target` begins with.
    Json {
        /// `AmazonEC2ContainerServiceV20141113`
        target_prefix: &'static str,
    },
    /// CBOR in and out, told by the service in the path.
    Cbor {
        /// `GraniteServiceVersion20100801`
        service: &'static str,
    },
    /// A form in and XML out, told by the version of the model.
    Query {
        /// `2011-06-15`
        version: &'static str,
        /// The namespace of its answers.
        namespace: &'static str,
        /// What the request of an operation looks like; None for one there is not.
        shape: fn(&str) -> Option<&'static Shape>,
    },
}

impl Protocol {
    fn wire(self) -> Wire {
        match self {
            Self::Json { .. } => Wire::Json,
            Self::Cbor { .. } => Wire::Cbor,
            Self::Query { .. } => Wire::Query,
        }
    }
}

/// An action of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) service: Service,
    pub(crate) name: String,
    /// What it was asked for in. Some services are spoken in both.
    pub(crate) wire: Wire,
}

impl Service {
    /// Every service with its protocols.
    pub(crate) const ALL: [(Self, Protocol); 11] = [
        (Self::Ecs, Protocol::Json { target_prefix: ecs::TARGET_PREFIX }),
        (
            Self::Elb,
            Protocol::Query { version: elb::VERSION, namespace: elb::NAMESPACE, shape: elb::inputs::of },
        ),
        (Self::Acm, Protocol::Json { target_prefix: acm::TARGET_PREFIX }),
        (Self::CloudWatch, Protocol::Json { target_prefix: cloudwatch::TARGET_PREFIX }),
        (Self::CloudWatch, Protocol::Cbor { service: cloudwatch::TARGET_PREFIX }),
        (
            Self::CloudWatch,
            Protocol::Query {
                version: cloudwatch::VERSION,
                namespace: cloudwatch::NAMESPACE,
                shape: cloudwatch::input,
            },
        ),
        (Self::Logs, Protocol::Json { target_prefix: logs::TARGET_PREFIX }),
        (Self::SecretsManager, Protocol::Json { target_prefix: secretsmanager::TARGET_PREFIX }),
        (Self::Ssm, Protocol::Json { target_prefix: ssm::TARGET_PREFIX }),
        (Self::Sts, Protocol::Query { version: sts::VERSION, namespace: sts::NAMESPACE, shape: sts::input }),
        (Self::Iam, Protocol::Query { version: iam::VERSION, namespace: iam::NAMESPACE, shape: iam::input }),
    ];

    /// The name people know it by.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ecs => "Amazon ECS",
            Self::Elb => "Elastic Load Balancing v2",
            Self::Acm => "AWS Certificate Manager",
            Self::CloudWatch => "Amazon CloudWatch",
            Self::Logs => "CloudWatch Logs",
            Self::SecretsManager => "AWS Secrets Manager",
            Self::Ssm => "AWS Systems Manager",
            Self::Sts => "AWS STS",
            Self::Iam => "AWS IAM",
        }
    }

    /// What the names of its actions begin with in policies, and the service of its ARNs.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Ecs => "ecs",
            Self::Elb => "elasticloadbalancing",
            Self::Acm => "acm",
            Self::CloudWatch => "cloudwatch",
            Self::Logs => "logs",
            Self::SecretsManager => "secretsmanager",
            Self::Ssm => "ssm",
            Self::Sts => "sts",
            Self::Iam => "iam",
        }
    }
}

impl Operation {
    /// How it was asked for.
    pub(crate) fn protocol(&self) -> Protocol {
        let is_this =
            |service: Service, protocol: Protocol| service == self.service && protocol.wire() == self.wire;
        let found = Service::ALL.into_iter().find(|(service, protocol)| is_this(*service, *protocol));
        found.map(|(_, protocol)| protocol).expect("operations are made of rows of the table")
    }

    /// Whether it only reads, by its name: AWS's own convention, which CloudTrail's `readOnly` follows.
    pub(crate) fn is_read_only(&self) -> bool {
        ["Describe", "List", "Get", "Filter", "Discover", "Simulate", "BatchGet"]
            .iter()
            .any(|verb| self.name.starts_with(verb))
    }

    /// Whether it answers with what is kept secret otherwise, if it succeeds.
    pub(crate) fn reveals_secrets(&self, request: &Value) -> bool {
        match self.service {
            Service::SecretsManager => matches!(self.name.as_str(), "GetSecretValue" | "BatchGetSecretValue"),
            Service::Ssm => {
                self.name.starts_with("GetParameter")
                    && request.get("WithDecryption").and_then(Value::as_bool) == Some(true)
            }
            _ => false,
        }
    }
}

/// What is spoken here, for those who ask for something else.
fn spoken() -> String {
    let mut titles: Vec<&str> = Service::ALL.into_iter().map(|(service, _)| service.title()).collect();
    titles.dedup();
    format!("Coracle speaks {}", titles.join(", "))
}

/// The refusal of an action a service does not have here.
pub(crate) fn unknown_operation(service: Service, operation: &str) -> ApiError {
    ApiError::UnknownOperation { service: service.title(), operation: operation.chars().take(100).collect() }
}

/// The services whose REST protocol is XML, by the names they are signed for. Their errors look like those
/// of Query services.
const REST_XML: [&str; 4] = ["cloudfront", "route53", "s3", "s3express"];

/// What names an action, beside the form.
#[derive(Clone, Copy, Default)]
pub(crate) struct Named<'a> {
    /// `X-Amz-Target`
    pub(crate) target: Option<&'a str>,
    /// `Smithy-Protocol`
    pub(crate) smithy: Option<&'a str>,
    pub(crate) path: &'a str,
}

impl Named<'_> {
    fn is_cbor(self) -> bool {
        self.target.is_none() && self.smithy == Some(RPC_V2_CBOR)
    }
}

/// What `Smithy-Protocol` says of requests and answers in CBOR.
pub(crate) const RPC_V2_CBOR: &str = "rpc-v2-cbor";

/// The protocol a request seems to speak. `service` is the one it is signed for.
pub(crate) fn wire(
    named: Named<'_>,
    content_type: Option<&str>,
    query: Option<&str>,
    service: Option<&str>,
) -> Wire {
    if named.is_cbor() {
        return Wire::Cbor;
    }
    let form = content_type.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let presigned = query.is_some_and(|query| form_value(query, "Action").is_some());
    let xml = service.is_some_and(|service| REST_XML.contains(&service));
    if named.target.is_none() && (form || presigned || xml) { Wire::Query } else { Wire::Json }
}

/// The refusal of a request that names no action, but may be one of a REST service.
pub(crate) fn no_action(method: &str, path: &str, service: Option<&str>) -> ApiError {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    ApiError::UnknownService(match service {
        Some(service) if !Service::ALL.into_iter().any(|(known, _)| known.prefix() == service) => {
            format!("{}; {method} {} is signed for {:?}", spoken(), short(path), short(service))
        }
        _ => "the request names no action: neither an X-Amz-Target header nor an Action parameter".to_owned(),
    })
}

/// The action of a request that is `named` so, or whose form is `form`; None when it names none.
pub(crate) fn operation(named: Named<'_>, form: &str) -> Result<Option<Operation>, ApiError> {
    if named.is_cbor() {
        return cbor_operation(named.path).map(Some);
    }
    if let Some(target) = named.target {
        let (prefix, name) = target.split_once('.').unwrap_or((target, ""));
        let speaks = |protocol: Protocol| matches!(protocol, Protocol::Json { target_prefix } if target_prefix == prefix);
        let Some((service, _)) = Service::ALL.into_iter().find(|(_, protocol)| speaks(*protocol)) else {
            let shown: String = target.chars().take(100).collect();
            return Err(ApiError::UnknownService(format!(
                "{}; X-Amz-Target {shown:?} is none of them",
                spoken()
            )));
        };
        return Ok(Some(Operation { service, name: name.to_owned(), wire: Wire::Json }));
    }
    let Some(name) = form_value(form, "Action") else { return Ok(None) };
    let given = form_value(form, "Version").unwrap_or_default();
    let speaks = |protocol: Protocol| matches!(protocol, Protocol::Query { version, .. } if version == given);
    if let Some((service, _)) = Service::ALL.into_iter().find(|(_, protocol)| speaks(*protocol)) {
        return Ok(Some(Operation { service, name, wire: Wire::Query }));
    }
    let (name, version): (String, String) =
        (name.chars().take(100).collect(), given.chars().take(40).collect());
    Err(ApiError::UnknownService(format!(
        "{}; the action {name:?} of version {version:?} is none of theirs",
        spoken()
    )))
}

/// The action of a path `/service/SERVICE/operation/ACTION`, of which clients may have put something before.
fn cbor_operation(path: &str) -> Result<Operation, ApiError> {
    let mut segments = path.rsplit('/');
    let found = (segments.next(), segments.next(), segments.next(), segments.next());
    if let (Some(name), Some("operation"), Some(service), Some("service")) = found {
        let speaks =
            |protocol: Protocol| matches!(protocol, Protocol::Cbor { service: known } if known == service);
        if let Some((service, _)) = Service::ALL.into_iter().find(|(_, protocol)| speaks(*protocol)) {
            return Ok(Operation { service, name: name.to_owned(), wire: Wire::Cbor });
        }
    }
    let shown: String = path.chars().take(200).collect();
    Err(ApiError::UnknownService(format!("{}; in CBOR, {shown:?} is an action of none of them", spoken())))
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
        let operation =
            |target, form| operation(Named { target, ..Named::default() }, form).map(Option::unwrap);
        let found = operation(Some("AmazonEC2ContainerServiceV20141113.ListClusters"), "").unwrap();
        assert_eq!(found, Operation { service: Service::Ecs, name: "ListClusters".into(), wire: Wire::Json });
        let found = operation(Some("Logs_20140328.GetLogEvents"), "").unwrap();
        assert_eq!(found.service, Service::Logs);
        let found = operation(None, "Action=GetCallerIdentity&Version=2011-06-15").unwrap();
        let name = "GetCallerIdentity".to_owned();
        assert_eq!(found, Operation { service: Service::Sts, name, wire: Wire::Query });
        let query = operation(None, "Action=DescribeAlarms&Version=2010-08-01").unwrap();
        let json = operation(Some("GraniteServiceVersion20100801.DescribeAlarms"), "").unwrap();
        assert_eq!((query.service, json.service), (Service::CloudWatch, Service::CloudWatch));
        assert!(matches!(query.protocol(), Protocol::Query { .. }));
        assert!(matches!(json.protocol(), Protocol::Json { .. }));
        let found = operation(None, "Action=DescribeLoadBalancers&Version=2015-12-01").unwrap();
        assert_eq!(found.service, Service::Elb);
        for (target, form) in [
            (Some("AWSEvents.ListRules"), ""),
            (Some("x"), ""),
            // The classic Elastic Load Balancing.
            (None, "Action=DescribeLoadBalancers&Version=2012-06-01"),
        ] {
            assert!(matches!(operation(target, form), Err(ApiError::UnknownService(_))), "{target:?} {form}");
        }
    }

    #[test]
    fn reads_that_answer_with_secrets_are_told_from_others() {
        let reveals = |service, name: &str, request: serde_json::Value| {
            Operation { service, name: name.to_owned(), wire: Wire::Json }.reveals_secrets(&request)
        };
        let decrypt = serde_json::json!({"WithDecryption": true});
        let plain = serde_json::json!({"WithDecryption": false});
        assert!(reveals(Service::SecretsManager, "GetSecretValue", plain.clone()));
        assert!(!reveals(Service::SecretsManager, "DescribeSecret", plain.clone()));
        for name in ["GetParameter", "GetParameters", "GetParametersByPath", "GetParameterHistory"] {
            assert!(
                reveals(Service::Ssm, name, decrypt.clone()) && !reveals(Service::Ssm, name, plain.clone())
            );
        }
        assert!(!reveals(Service::Ecs, "DescribeTasks", decrypt));
    }

    #[test]
    fn a_request_without_an_action_may_be_one_of_a_rest_service() {
        assert_eq!(operation(Named::default(), "nothing"), Ok(None));
        let text = |service| no_action("GET", "/schedules", service).to_string();
        assert!(text(Some("scheduler")).ends_with("; GET /schedules is signed for \"scheduler\""));
        assert!(text(Some("ecs")).starts_with("the request names no action"));
        assert!(text(None).starts_with("the request names no action"));
        let named = Named::default();
        assert_eq!(wire(named, None, None, Some("route53")), Wire::Query);
        assert_eq!(wire(named, None, None, Some("scheduler")), Wire::Json);
        assert_eq!(wire(Named { target: Some("x"), ..named }, None, None, Some("s3")), Wire::Json);
    }

    #[test]
    fn cbor_is_told_by_its_header_and_named_by_its_path() {
        let named = |path: &'static str| Named { target: None, smithy: Some("rpc-v2-cbor"), path };
        let path = "/service/GraniteServiceVersion20100801/operation/DescribeAlarms";
        let found = operation(named(path), "").unwrap().unwrap();
        let expected =
            Operation { service: Service::CloudWatch, name: "DescribeAlarms".into(), wire: Wire::Cbor };
        assert_eq!(found, expected);
        assert!(matches!(found.protocol(), Protocol::Cbor { .. }));
        let below = format!("/base{path}");
        assert_eq!(operation(Named { path: &below, ..named(path) }, "").unwrap().unwrap(), expected);
        assert_eq!(wire(named(path), Some("application/cbor"), None, None), Wire::Cbor);
        for path in ["/", "/service/Unknown/operation/X", "/service/GraniteServiceVersion20100801/X"] {
            assert!(matches!(operation(named(path), ""), Err(ApiError::UnknownService(_))), "{path}");
        }
        assert_eq!(
            operation(Named { path, ..Named::default() }, ""),
            Ok(None),
            "it does not say that it is CBOR"
        );
    }

    #[test]
    fn forms_are_decoded() {
        assert_eq!(form_value("a=1&b=x%20y+z%2", "b").unwrap(), "x y z%2");
        assert_eq!(form_value("a=1", "b"), None);
    }
}
