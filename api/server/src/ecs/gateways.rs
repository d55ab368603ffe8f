//! Gateways and express gateway services, which do not exist here: what would make one is refused, what asks
//! for one does not find it, and lists are empty.

use coracle_protocol::{ApiError, Members, Object, PageRequest};
use serde_json::{Value, json};

/// Answers an action on gateways; None when `operation` is none of them.
pub(super) fn answer(operation: &str, mut members: Members) -> Option<Result<Value, ApiError>> {
    Some(match operation {
        "CreateGateway" | "CreateExpressGatewayService" => Err(ApiError::UnsupportedFeature(
            "Gateways are not available here. Create a service behind a target group and a listener instead."
                .to_owned(),
        )),
        "DescribeGateway"
        | "DescribeGatewayResources"
        | "UpdateGateway"
        | "DeleteGateway"
        | "AssociateGatewayWithCluster"
        | "DisassociateGatewayFromCluster" => {
            members.required_text("gateway").and(Err(ApiError::GatewayNotFound))
        }
        "DescribeGatewayRoute" => members.required_text("gatewayRouteArn").and_then(|arn| {
            Err(ApiError::ResourceNotFound(format!("The specified gateway route {arn:?} does not exist.")))
        }),
        "DescribeExpressGatewayService" => members.required_text("serviceArn").and_then(|arn| {
            Err(ApiError::ResourceNotFound(format!(
                "The specified express gateway service {arn:?} does not exist."
            )))
        }),
        "UpdateExpressGatewayService" | "DeleteExpressGatewayService" => {
            members.required_text("serviceArn").and(Err(ApiError::ServiceNotFound))
        }
        "ListGateways" => none_of("gateways", members),
        "ListGatewayClusterAssociations" => none_of("gatewayClusterAssociations", members),
        "ListGatewayRoutes" => none_of("gatewayRoutes", members),
        _ => return None,
    })
}

fn none_of(list: &str, mut members: Members) -> Result<Value, ApiError> {
    let page = PageRequest::take(&mut members, 100)?.of_texts(list, [])?;
    if members.text("gateway")?.is_some_and(|gateway| !gateway.is_empty()) {
        return Err(ApiError::GatewayNotFound);
    }
    Ok(Object::new().with(list, json!([])).maybe("nextToken", page.next).into())
}
