//! Actions of listeners and rules.

use coracle_types::AccountId;
use coracle_types::elb::{
    Action, ElbArn, FixedResponse, Forward, GroupStickiness, Redirect, TargetGroupId, WeightedGroup,
};
use serde_json::Value;

use super::error::ElbCode;
use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};

/// A rule forwards to at most this many target groups (ELBv2's quota).
const GROUPS_MAX: usize = 5;
const WEIGHT_MAX: u32 = 999;
/// A client stays with a target group for at most a week.
const STICKINESS_MAX_S: u32 = 604_800;
const CONTENT_TYPES: [&str; 5] =
    ["text/plain", "text/css", "text/html", "application/javascript", "application/json"];

/// Takes a list of actions, which here always comes to one; None when the list is not there or empty.
///
/// # Errors
/// When an action is not possible, or there is more than one.
pub fn take(members: &mut Members, name: &str) -> Result<Option<Action>, ApiError> {
    let mut actions = members.objects(name)?.unwrap_or_default();
    if actions.len() > 1 {
        return Err(ElbCode::TooManyActions
            .because(
                "A rule has exactly one action here: forward, redirect or fixed-response. Actions that authenticate are \
                 not supported",
            )
            .into());
    }
    actions.pop().map(decode).transpose()
}

fn decode(mut action: Members) -> Result<Action, ApiError> {
    let kind = action.required_text("Type")?;
    let order = action.integer("Order")?;
    if order.is_some_and(|order| !(1..=50_000).contains(&order)) {
        return Err(action.invalid("Order", "it must be between 1 and 50000"));
    }
    match kind.as_str() {
        "forward" => forward(action).map(Action::Forward),
        "redirect" => {
            let config = action.object("RedirectConfig")?;
            let config = config.ok_or_else(|| {
                ElbCode::InvalidLoadBalancerAction.because("A redirect action needs a RedirectConfig")
            })?;
            redirect(config).map(Action::Redirect)
        }
        "fixed-response" => {
            let config = action.object("FixedResponseConfig")?;
            let config = config.ok_or_else(|| {
                ElbCode::InvalidLoadBalancerAction
                    .because("A fixed-response action needs a FixedResponseConfig")
            })?;
            fixed_response(config).map(Action::FixedResponse)
        }
        other => Err(ElbCode::InvalidLoadBalancerAction
            .because(format_args!(
                "The action type '{other}' is not supported here; forward, redirect and fixed-response are"
            ))
            .into()),
    }
}

/// Takes the ARN of a target group.
///
/// # Errors
/// When it is missing, or is none.
pub fn take_target_group(members: &mut Members, name: &str) -> Result<TargetGroupId, ApiError> {
    let arn = members.required_text(name)?;
    TargetGroupId::of_arn(&arn).ok_or_else(|| not_an_arn(&arn, "target group"))
}

/// The refusal of what should be an ARN of a `kind` of resource.
#[must_use]
pub fn not_an_arn(given: &str, kind: &str) -> ApiError {
    let given: String = given.chars().take(200).collect();
    ApiError::Client(format!("'{given}' is not a valid {kind} ARN"))
}

fn forward(mut action: Members) -> Result<Forward, ApiError> {
    let single = match action.text("TargetGroupArn")?.filter(|arn| !arn.is_empty()) {
        Some(arn) => Some(TargetGroupId::of_arn(&arn).ok_or_else(|| not_an_arn(&arn, "target group"))?),
        None => None,
    };
    let Some(mut config) = action.object("ForwardConfig")? else {
        let group = single.ok_or_else(|| {
            ElbCode::InvalidLoadBalancerAction
                .because("A forward action needs a TargetGroupArn or a ForwardConfig")
        })?;
        return Ok(Forward { groups: vec![WeightedGroup { group, weight: 1 }], stickiness: None });
    };
    let mut groups: Vec<WeightedGroup> = Vec::new();
    for mut item in config.objects("TargetGroups")?.unwrap_or_default() {
        let group = take_target_group(&mut item, "TargetGroupArn")?;
        let weight = item.integer_in("Weight", 0..=WEIGHT_MAX)?.unwrap_or(1);
        if groups.iter().any(|known| known.group == group) {
            return Err(item.invalid("TargetGroupArn", "a target group can be in a rule only once"));
        }
        groups.push(WeightedGroup { group, weight });
    }
    if groups.len() > GROUPS_MAX {
        return Err(ElbCode::TooManyTargetGroups
            .because(format_args!("A rule can forward to at most {GROUPS_MAX} target groups"))
            .into());
    }
    match (&single, groups.as_slice()) {
        (None, []) => {
            return Err(ElbCode::InvalidLoadBalancerAction
                .because("You must specify at least one target group in a forward action")
                .into());
        }
        (Some(group), []) => groups.push(WeightedGroup { group: group.clone(), weight: 1 }),
        (Some(group), [only]) if only.group == *group => {}
        (Some(_), _) => {
            return Err(ElbCode::InvalidLoadBalancerAction
                .because("TargetGroupArn and ForwardConfig name different target groups; use one of them")
                .into());
        }
        (None, _) => {}
    }
    let stickiness = match config.object("TargetGroupStickinessConfig")? {
        None => None,
        Some(mut config) => {
            let enabled = config.flag("Enabled")?.unwrap_or(false);
            let duration_s = config.integer_in("DurationSeconds", 1..=STICKINESS_MAX_S)?;
            if enabled && duration_s.is_none() {
                return Err(config.missing("DurationSeconds"));
            }
            Some(GroupStickiness { enabled, duration_s })
        }
    };
    Ok(Forward { groups, stickiness })
}

fn redirect(mut config: Members) -> Result<Redirect, ApiError> {
    let mut part = |name: &str, unchanged: &str, chars_max: usize| -> Result<String, ApiError> {
        let given = config.text(name)?.unwrap_or_else(|| unchanged.to_owned());
        if given.chars().count() > chars_max {
            return Err(config.invalid(name, format_args!("it must have at most {chars_max} characters")));
        }
        Ok(given)
    };
    let protocol = part("Protocol", "#{protocol}", 20)?;
    let port = part("Port", "#{port}", 20)?;
    let host = part("Host", "#{host}", 128)?;
    let path = part("Path", "/#{path}", 128)?;
    let query = part("Query", "#{query}", 128)?;
    if !matches!(protocol.as_str(), "HTTP" | "HTTPS" | "#{protocol}") {
        return Err(config.invalid("Protocol", "it must be HTTP, HTTPS or #{protocol}"));
    }
    if port != "#{port}" && port.parse::<u16>().ok().filter(|port| *port > 0).is_none() {
        return Err(config.invalid("Port", "it must be from 1 to 65535, or #{port}"));
    }
    if !path.starts_with('/') {
        return Err(config.invalid("Path", "it must begin with '/'"));
    }
    if host.is_empty() {
        return Err(config.invalid("Host", "it must have 1 to 128 characters"));
    }
    let unchanged = protocol == "#{protocol}" && port == "#{port}" && host == "#{host}" && path == "/#{path}";
    if unchanged {
        return Err(ElbCode::InvalidLoadBalancerAction
            .because(
                "A redirect must change the protocol, the port, the host or the path, or it would never end",
            )
            .into());
    }
    let permanent = match config.text("StatusCode")?.as_deref() {
        Some("HTTP_301") => true,
        Some("HTTP_302") => false,
        _ => return Err(config.invalid("StatusCode", "it must be HTTP_301 or HTTP_302")),
    };
    Ok(Redirect { protocol, port, host, path, query, permanent })
}

fn fixed_response(mut config: Members) -> Result<FixedResponse, ApiError> {
    let status = config.required_text("StatusCode")?;
    let status = status
        .parse::<u16>()
        .ok()
        .filter(|code| status.len() == 3 && matches!(code / 100, 2 | 4 | 5))
        .ok_or_else(|| config.invalid("StatusCode", "it must be 2XX, 4XX or 5XX"))?;
    let content_type = config.text("ContentType")?;
    if let Some(given) = &content_type
        && !CONTENT_TYPES.contains(&given.as_str())
    {
        return Err(ElbCode::InvalidLoadBalancerAction
            .because(format!("The ContentType must be one of: {}", CONTENT_TYPES.join(", ")))
            .into());
    }
    let body = config.text("MessageBody")?;
    if body.as_ref().is_some_and(|body| body.chars().count() > 1024) {
        return Err(config.invalid("MessageBody", "it must have at most 1024 characters"));
    }
    Ok(FixedResponse { status, content_type, body })
}

/// An action as it is answered: a list of one.
#[must_use]
pub fn encode(action: &Action, account: AccountId) -> Value {
    let arn = |group: &TargetGroupId| ElbArn::new(account, group.clone()).to_string();
    let object = match action {
        Action::Forward(forward) => {
            let groups = forward.groups.iter().map(|weighted| {
                Object::new().with("TargetGroupArn", arn(&weighted.group)).with("Weight", weighted.weight)
            });
            let stickiness =
                forward.stickiness.unwrap_or(GroupStickiness { enabled: false, duration_s: None });
            let stickiness = Object::new()
                .with("Enabled", stickiness.enabled)
                .maybe("DurationSeconds", stickiness.duration_s);
            let only = match forward.groups.as_slice() {
                [only] => Some(arn(&only.group)),
                _ => None,
            };
            let config = Object::new()
                .with("TargetGroups", list(groups))
                .with("TargetGroupStickinessConfig", stickiness);
            Object::new().with("Type", "forward").maybe("TargetGroupArn", only).with("ForwardConfig", config)
        }
        Action::Redirect(redirect) => {
            let config = Object::new()
                .with("Protocol", redirect.protocol.as_str())
                .with("Port", redirect.port.as_str())
                .with("Host", redirect.host.as_str())
                .with("Path", redirect.path.as_str())
                .with("Query", redirect.query.as_str())
                .with("StatusCode", if redirect.permanent { "HTTP_301" } else { "HTTP_302" });
            Object::new().with("Type", "redirect").with("RedirectConfig", config)
        }
        Action::FixedResponse(fixed) => {
            let config = Object::new()
                .maybe("MessageBody", fixed.body.as_deref())
                .with("StatusCode", fixed.status.to_string())
                .maybe("ContentType", fixed.content_type.as_deref());
            Object::new().with("Type", "fixed-response").with("FixedResponseConfig", config)
        }
    };
    list([object.with("Order", 1)])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::members::Refusal;

    const GROUP: &str =
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/blue/73e2d6bc24d8a067";
    const OTHER: &str =
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/green/73e2d6bc24d8a068";

    fn taken(action: &Value) -> Result<Option<Action>, ApiError> {
        take(&mut Members::of_body(json!({"Actions": [action]}), Refusal::Client).unwrap(), "Actions")
    }

    #[test]
    fn one_group_comes_back_both_ways() {
        let action = taken(&json!({"Type": "forward", "TargetGroupArn": GROUP})).unwrap().unwrap();
        let config = json!({
            "TargetGroups": [{"TargetGroupArn": GROUP, "Weight": 1}], "TargetGroupStickinessConfig": {"Enabled": false},
        });
        let expected =
            json!([{"Type": "forward", "TargetGroupArn": GROUP, "ForwardConfig": config, "Order": 1}]);
        assert_eq!(encode(&action, AccountId::default()), expected);
        assert_eq!(
            taken(&json!({"Type": "forward", "ForwardConfig": config})).unwrap().unwrap().groups().count(),
            1
        );
    }

    #[test]
    fn weights_and_stickiness_come_back() {
        let config = json!({
            "TargetGroups": [{"TargetGroupArn": GROUP, "Weight": 90}, {"TargetGroupArn": OTHER, "Weight": 10}],
            "TargetGroupStickinessConfig": {"Enabled": true, "DurationSeconds": 60},
        });
        let action = taken(&json!({"Type": "forward", "ForwardConfig": config})).unwrap().unwrap();
        assert_eq!(encode(&action, AccountId::default())[0]["ForwardConfig"], config);
    }

    #[test]
    fn impossible_actions_are_refused() {
        let code = |action: &Value| taken(action).unwrap_err().row().query;
        for action in [
            json!({"Type": "forward"}),
            json!({"Type": "redirect"}),
            json!({"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}),
            json!({"Type": "authenticate-oidc"}),
            json!({"Type": "forward", "TargetGroupArn": GROUP, "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": OTHER}]}}),
        ] {
            assert_eq!(code(&action), "InvalidLoadBalancerAction", "{action}");
        }
        for action in [
            json!({"Type": "forward", "TargetGroupArn": "nonsense"}),
            json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": GROUP, "Weight": 1000}]}}),
            json!({"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "301"}}),
            json!({"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Path": "x"}}),
        ] {
            assert_eq!(code(&action), "ValidationError", "{action}");
        }
    }
}
