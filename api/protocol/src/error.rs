//! The one table from what went wrong to what AWS calls it: error name, HTTP status and text.
//!
//! JSON services answer with the long name (`ClusterNotFoundException`), Query services with a short
//! one that is not always the long one cut (`InvalidClientTokenId`). Statuses are 400 for what the
//! client can mend, 403 for who it is, 413 for how much it sent, and 500 for what only we can mend:
//! SDKs send a request again after a 500 and never after a 400.

use serde_json::Value;

use crate::cloudwatch;
use crate::elb::ElbError;
use crate::object::Object;

/// Which of AWS's protocols a request came in by, and so how an error has to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// JSON 1.1 (`X-Amz-Target`).
    Json,
    /// Query: a form in, XML out.
    Query,
    /// Smithy RPC v2: CBOR in and out, the action in the path.
    Cbor,
}

/// Everything an action can be refused for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The action or a resource is used in a way that can't work; the text says which.
    #[error("{0}")]
    Client(String),
    /// A parameter is missing, of no allowed value, or names something that can't be meant.
    #[error("{0}")]
    InvalidParameter(String),
    /// No ACTIVE cluster of this name.
    #[error("Cluster not found.")]
    ClusterNotFound,
    /// The cluster still has services.
    #[error("The Cluster cannot be deleted while Services are active.")]
    ClusterContainsServices,
    /// The cluster still has tasks.
    #[error("The Cluster cannot be deleted while Tasks are active.")]
    ClusterContainsTasks,
    /// No service of this name was ever there, or it is long gone.
    #[error("Service not found.")]
    ServiceNotFound,
    /// The service is being, or was, deleted.
    #[error("Service was not ACTIVE.")]
    ServiceNotActive,
    /// The resource an ARN names does not exist.
    #[error("{0}")]
    ResourceNotFound(String),
    /// The client token was used before, with other parameters.
    #[error("{message}")]
    Conflict {
        /// What is in conflict.
        message: String,
        /// The ids of what the first request made.
        resource_ids: Vec<String>,
    },
    /// A quota is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// The cluster still has container instances of its own.
    #[error("The Cluster cannot be deleted while Container Instances are active or draining.")]
    ClusterContainsContainerInstances,
    /// The cluster still has capacity providers of its own.
    #[error("The Cluster cannot be deleted while Capacity Providers are associated with it.")]
    ClusterContainsCapacityProvider,
    /// The container instance attributes are meant for is not there.
    #[error("{0}")]
    TargetNotFound(String),
    /// Nobody is there to run a command.
    #[error("The execute command failed due to an internal error. Try again later.")]
    TargetNotConnected,
    /// A container instance would have too many custom attributes.
    #[error("The limit for custom attributes has been exceeded for this resource.")]
    AttributeLimitExceeded,
    /// The agent is the newest there is.
    #[error("There is no update available for this container agent.")]
    NoUpdateAvailable,
    /// The agent does not say which version it is.
    #[error("The version of the container agent on this container instance is not known.")]
    MissingVersion,
    /// What is to be changed is still being changed.
    #[error("{0}")]
    UpdateInProgress(String),
    /// Something else needs it.
    #[error("{0}")]
    ResourceInUse(String),
    /// The service has no such task set.
    #[error("The specified task set does not exist.")]
    TaskSetNotFound,
    /// There is no such service deployment.
    #[error("The specified service deployment does not exist.")]
    ServiceDeploymentNotFound,
    /// No daemon of this name was ever there, or it is gone.
    #[error("Daemon not found.")]
    DaemonNotFound,
    /// The daemon is being deleted.
    #[error("Daemon was not ACTIVE.")]
    DaemonNotActive,
    /// There is no such gateway.
    #[error("The specified gateway does not exist.")]
    GatewayNotFound,
    /// There is no such Cloud Map namespace.
    #[error("{0}")]
    NamespaceNotFound(String),
    /// ECS has no such platform version.
    #[error("The specified platform does not exist.")]
    PlatformUnknown,
    /// The platform version is too old for the task definition.
    #[error("{0}")]
    PlatformTaskDefinitionIncompatibility(String),
    /// ECS has it, Coracle does not.
    #[error("{0}")]
    UnsupportedFeature(String),
    /// A log group or stream is there already.
    #[error("{0}")]
    ResourceAlreadyExists(String),
    /// The service has no such action.
    #[error("{service} has no operation {operation:?} here")]
    UnknownOperation {
        /// The service, in words.
        service: &'static str,
        /// What was asked for, shortened.
        operation: String,
    },
    /// The request is for no service Coracle speaks.
    #[error("{0}")]
    UnknownService(String),
    /// The body is not what the protocol says it should be.
    #[error("{0}")]
    Serialization(String),
    /// The body is larger than is accepted.
    #[error("the request is larger than {bytes_max} bytes")]
    TooLarge {
        /// How large it may be.
        bytes_max: usize,
    },
    /// Credentials are required and none came.
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,
    /// The signature's parts can't be read.
    #[error("{0}")]
    IncompleteSignature(String),
    /// The access key is not known.
    #[error("The security token included in the request is invalid.")]
    UnknownAccessKey,
    /// The signature is not the one this request and this key give, or it is too old.
    #[error("{0}")]
    InvalidSignature(String),
    /// One of ELBv2's errors.
    #[error(transparent)]
    Elb(#[from] ElbError),
    /// The session the request was signed in is over.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
    /// Known, but not allowed to; the text says who, what and why.
    #[error("{0}")]
    AccessDenied(String),
    /// IAM has no user, role, key or policy of this name.
    #[error("{0}")]
    NoSuchEntity(String),
    /// IAM has one of this name already.
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// A policy document is not one.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// IAM deletes nothing that others are attached to.
    #[error("{0}")]
    DeleteConflict(String),
    /// An error of one service, by the name that service gives it, in JSON and in Query alike.
    #[error("{message}")]
    Named {
        /// The name, such as `ParameterNotFound`.
        code: &'static str,
        /// What is wrong.
        message: String,
    },
    /// Something of ours failed; the text says what, without internals.
    #[error("{0}")]
    Server(String),
}

/// One row of the table: names and statuses of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The name in JSON services, and in those that speak CBOR.
    pub json: &'static str,
    /// The code in Query services.
    pub query: &'static str,
    /// The HTTP status in JSON services, and in those that speak CBOR.
    pub json_status: u16,
    /// The HTTP status in Query services.
    pub query_status: u16,
}

impl ApiError {
    /// What this error is called.
    #[must_use]
    pub fn row(&self) -> Row {
        let row = |json, query, json_status, query_status| Row { json, query, json_status, query_status };
        match self {
            Self::Client(_) => row("ClientException", "ValidationError", 400, 400),
            Self::InvalidParameter(_) => row("InvalidParameterException", "InvalidParameterValue", 400, 400),
            Self::ClusterNotFound => row("ClusterNotFoundException", "ClusterNotFound", 400, 400),
            Self::ClusterContainsServices => {
                row("ClusterContainsServicesException", "ClusterContainsServices", 400, 400)
            }
            Self::ClusterContainsTasks => {
                row("ClusterContainsTasksException", "ClusterContainsTasks", 400, 400)
            }
            Self::ServiceNotFound => row("ServiceNotFoundException", "ServiceNotFound", 400, 400),
            Self::ServiceNotActive => row("ServiceNotActiveException", "ServiceNotActive", 400, 400),
            Self::ResourceNotFound(_) => row("ResourceNotFoundException", "ResourceNotFound", 400, 400),
            Self::Conflict { .. } => row("ConflictException", "Conflict", 400, 400),
            Self::LimitExceeded(_) => row("LimitExceededException", "LimitExceeded", 400, 400),
            Self::ClusterContainsContainerInstances => row(
                "ClusterContainsContainerInstancesException",
                "ClusterContainsContainerInstances",
                400,
                400,
            ),
            Self::ClusterContainsCapacityProvider => {
                row("ClusterContainsCapacityProviderException", "ClusterContainsCapacityProvider", 400, 400)
            }
            Self::TargetNotFound(_) => row("TargetNotFoundException", "TargetNotFound", 400, 400),
            Self::TargetNotConnected => row("TargetNotConnectedException", "TargetNotConnected", 400, 400),
            Self::AttributeLimitExceeded => {
                row("AttributeLimitExceededException", "AttributeLimitExceeded", 400, 400)
            }
            Self::NoUpdateAvailable => row("NoUpdateAvailableException", "NoUpdateAvailable", 400, 400),
            Self::MissingVersion => row("MissingVersionException", "MissingVersion", 400, 400),
            Self::UpdateInProgress(_) => row("UpdateInProgressException", "UpdateInProgress", 400, 400),
            Self::ResourceInUse(_) => row("ResourceInUseException", "ResourceInUse", 400, 400),
            Self::TaskSetNotFound => row("TaskSetNotFoundException", "TaskSetNotFound", 400, 400),
            Self::ServiceDeploymentNotFound => {
                row("ServiceDeploymentNotFoundException", "ServiceDeploymentNotFound", 400, 400)
            }
            Self::DaemonNotFound => row("DaemonNotFoundException", "DaemonNotFound", 400, 400),
            Self::DaemonNotActive => row("DaemonNotActiveException", "DaemonNotActive", 400, 400),
            Self::GatewayNotFound => row("GatewayNotFoundException", "GatewayNotFound", 400, 400),
            Self::NamespaceNotFound(_) => row("NamespaceNotFoundException", "NamespaceNotFound", 400, 400),
            Self::PlatformUnknown => row("PlatformUnknownException", "PlatformUnknown", 400, 400),
            Self::PlatformTaskDefinitionIncompatibility(_) => row(
                "PlatformTaskDefinitionIncompatibilityException",
                "PlatformTaskDefinitionIncompatibility",
                400,
                400,
            ),
            Self::UnsupportedFeature(_) => row("UnsupportedFeatureException", "UnsupportedFeature", 400, 400),
            Self::ResourceAlreadyExists(_) => {
                row("ResourceAlreadyExistsException", "ResourceAlreadyExists", 400, 400)
            }
            Self::UnknownOperation { .. } => row("UnknownOperationException", "InvalidAction", 400, 400),
            Self::UnknownService(_) => row("UnknownOperationException", "InvalidAction", 400, 400),
            Self::Serialization(_) => row("SerializationException", "MalformedQueryString", 400, 400),
            Self::TooLarge { .. } => row("RequestEntityTooLargeException", "RequestEntityTooLarge", 413, 413),
            Self::MissingAuthenticationToken => {
                row("MissingAuthenticationTokenException", "MissingAuthenticationToken", 400, 403)
            }
            Self::IncompleteSignature(_) => {
                row("IncompleteSignatureException", "IncompleteSignature", 400, 400)
            }
            Self::UnknownAccessKey => row("UnrecognizedClientException", "InvalidClientTokenId", 400, 403),
            Self::InvalidSignature(_) => row("InvalidSignatureException", "SignatureDoesNotMatch", 400, 403),
            Self::Elb(error) => row(error.code.exception(), error.code.as_str(), 400, 400),
            Self::ExpiredToken => row("ExpiredTokenException", "ExpiredToken", 400, 403),
            Self::AccessDenied(_) => row("AccessDeniedException", "AccessDenied", 400, 403),
            Self::NoSuchEntity(_) => row("NoSuchEntityException", "NoSuchEntity", 404, 404),
            Self::EntityAlreadyExists(_) => {
                row("EntityAlreadyExistsException", "EntityAlreadyExists", 409, 409)
            }
            Self::MalformedPolicyDocument(_) => {
                row("MalformedPolicyDocumentException", "MalformedPolicyDocument", 400, 400)
            }
            Self::DeleteConflict(_) => row("DeleteConflictException", "DeleteConflict", 409, 409),
            Self::Named { code, .. } => row(cloudwatch::shape_of(code), code, 400, 400),
            Self::Server(_) => row("ServerException", "InternalFailure", 500, 500),
        }
    }

    /// The HTTP status of this error in `wire`.
    #[must_use]
    pub fn status(&self, wire: Wire) -> u16 {
        match wire {
            Wire::Json | Wire::Cbor => self.row().json_status,
            Wire::Query => self.row().query_status,
        }
    }

    /// The body of this error in a JSON service, and what is written in CBOR.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let object = Object::new().with("__type", self.row().json).with("message", self.to_string());
        match self {
            Self::Conflict { resource_ids, .. } => object.with("resourceIds", resource_ids.clone()),
            _ => object,
        }
        .into()
    }

    /// Whose fault it is, as Query services say it.
    #[must_use]
    pub fn fault(&self) -> &'static str {
        if self.row().query_status < 500 { "Sender" } else { "Receiver" }
    }

    /// The body of this error in a Query service.
    #[must_use]
    pub fn to_xml(&self, request_id: &str) -> String {
        let kind = self.fault();
        format!(
            "<ErrorResponse><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
             <RequestId>{}</RequestId></ErrorResponse>",
            self.row().query,
            crate::sts::escape(&self.to_string()),
            crate::sts::escape(request_id),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each. The match makes the compiler ask for a row here when a variant is added.
    fn every_variant() -> Vec<ApiError> {
        let text = || "text".to_owned();
        let all = vec![
            ApiError::Client(text()),
            ApiError::InvalidParameter(text()),
            ApiError::ClusterNotFound,
            ApiError::ClusterContainsServices,
            ApiError::ClusterContainsTasks,
            ApiError::ServiceNotFound,
            ApiError::ServiceNotActive,
            ApiError::ResourceNotFound(text()),
            ApiError::Conflict { message: text(), resource_ids: vec![text()] },
            ApiError::LimitExceeded(text()),
            ApiError::UnsupportedFeature(text()),
            ApiError::ResourceAlreadyExists(text()),
            ApiError::UnknownOperation { service: "ECS", operation: text() },
            ApiError::UnknownService(text()),
            ApiError::Serialization(text()),
            ApiError::TooLarge { bytes_max: 1 },
            ApiError::MissingAuthenticationToken,
            ApiError::IncompleteSignature(text()),
            ApiError::UnknownAccessKey,
            ApiError::InvalidSignature(text()),
            ApiError::ExpiredToken,
            ApiError::AccessDenied(text()),
            ApiError::NoSuchEntity(text()),
            ApiError::EntityAlreadyExists(text()),
            ApiError::MalformedPolicyDocument(text()),
            ApiError::DeleteConflict(text()),
            ApiError::Server(text()),
            ApiError::ClusterContainsContainerInstances,
            ApiError::ClusterContainsCapacityProvider,
            ApiError::TargetNotFound(text()),
            ApiError::TargetNotConnected,
            ApiError::AttributeLimitExceeded,
            ApiError::NoUpdateAvailable,
            ApiError::UpdateInProgress(text()),
            ApiError::ResourceInUse(text()),
            ApiError::TaskSetNotFound,
            ApiError::ServiceDeploymentNotFound,
            ApiError::DaemonNotFound,
            ApiError::DaemonNotActive,
            ApiError::NamespaceNotFound(text()),
            ApiError::PlatformUnknown,
            ApiError::PlatformTaskDefinitionIncompatibility(text()),
            ApiError::GatewayNotFound,
            ApiError::MissingVersion,
            ApiError::Elb(crate::elb::ElbCode::RuleNotFound.because("text")),
            ApiError::Named { code: "SomethingElse", message: text() },
        ];
        // A variant that is not in here does not compile; add it to the list above, too.
        let known = |error: &ApiError| match error {
            ApiError::AccessDenied(_)
            | ApiError::AttributeLimitExceeded
            | ApiError::Client(_)
            | ApiError::ClusterContainsCapacityProvider
            | ApiError::ClusterContainsContainerInstances
            | ApiError::ClusterContainsServices
            | ApiError::ClusterContainsTasks
            | ApiError::ClusterNotFound
            | ApiError::Conflict { .. }
            | ApiError::DaemonNotActive
            | ApiError::DaemonNotFound
            | ApiError::DeleteConflict(_)
            | ApiError::Elb(_)
            | ApiError::EntityAlreadyExists(_)
            | ApiError::ExpiredToken
            | ApiError::GatewayNotFound
            | ApiError::IncompleteSignature(_)
            | ApiError::InvalidParameter(_)
            | ApiError::InvalidSignature(_)
            | ApiError::LimitExceeded(_)
            | ApiError::MalformedPolicyDocument(_)
            | ApiError::MissingAuthenticationToken
            | ApiError::MissingVersion
            | ApiError::Named { .. }
            | ApiError::NamespaceNotFound(_)
            | ApiError::NoSuchEntity(_)
            | ApiError::NoUpdateAvailable
            | ApiError::PlatformTaskDefinitionIncompatibility(_)
            | ApiError::PlatformUnknown
            | ApiError::ResourceAlreadyExists(_)
            | ApiError::ResourceInUse(_)
            | ApiError::ResourceNotFound(_)
            | ApiError::Serialization(_)
            | ApiError::Server(_)
            | ApiError::ServiceDeploymentNotFound
            | ApiError::ServiceNotActive
            | ApiError::ServiceNotFound
            | ApiError::TargetNotConnected
            | ApiError::TargetNotFound(_)
            | ApiError::TaskSetNotFound
            | ApiError::TooLarge { .. }
            | ApiError::UnknownAccessKey
            | ApiError::UnknownOperation { .. }
            | ApiError::UnknownService(_)
            | ApiError::UnsupportedFeature(_)
            | ApiError::UpdateInProgress(_) => std::mem::discriminant(error),
        };
        let kinds: std::collections::HashSet<_> = all.iter().map(known).collect();
        assert_eq!(kinds.len(), all.len());
        assert_eq!(all.len(), 46);
        all
    }

    #[test]
    fn every_error_has_a_name_a_status_and_a_text() {
        for error in every_variant() {
            let row = error.row();
            let named = matches!(error, ApiError::Named { .. });
            assert!(named || row.json.ends_with("Exception"), "{error:?}");
            assert!(!row.query.ends_with("Exception"), "{error:?}: Query codes are short names");
            let ours = matches!(error, ApiError::Server(_));
            for status in [row.json_status, row.query_status] {
                assert_eq!(status >= 500, ours, "{error:?}: only our own failures may be tried again");
                assert!((400..=500).contains(&status), "{error:?}");
            }
            let json = error.to_json();
            assert_eq!(json["__type"], row.json);
            assert_eq!(json["message"], error.to_string());
            assert!(!error.to_string().is_empty());
            let xml = error.to_xml("id-1");
            assert!(xml.contains(&format!("<Code>{}</Code>", row.query)), "{xml}");
            assert!(xml.contains("<RequestId>id-1</RequestId>"), "{xml}");
        }
    }

    #[test]
    fn a_conflict_names_what_the_first_request_made() {
        let error = ApiError::Conflict { message: "used".into(), resource_ids: vec!["arn".into()] };
        assert_eq!(error.to_json()["resourceIds"][0], "arn");
    }
}
