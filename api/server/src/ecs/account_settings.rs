//! Account settings: what is fixed here, for tools that look before they use long ARNs or tags.

use coracle_protocol::{ApiError, Members, Object, PageRequest};
use serde_json::Value;

use crate::api::Api;

/// Settings and their values, in the order of their names. Long ARNs are the only ones there are.
const SETTINGS: [(&str, &str); 5] = [
    ("awsvpcTrunking", "disabled"),
    ("containerInsights", "disabled"),
    ("containerInstanceLongArnFormat", "enabled"),
    ("serviceLongArnFormat", "enabled"),
    ("taskLongArnFormat", "enabled"),
];

/// ListAccountSettings.
pub(super) fn list(api: &Api, mut members: Members) -> Result<Value, ApiError> {
    let name = members.text("name")?;
    let value = members.text("value")?;
    let page = PageRequest::take(&mut members, 10)?;
    let wanted = SETTINGS.iter().filter(|setting| {
        name.as_deref().is_none_or(|name| name == setting.0)
            && value.as_deref().is_none_or(|value| value == setting.1)
    });
    let page = page.of(
        "accountSettings",
        wanted,
        |setting| setting.0.to_owned(),
        String::clone,
        |text| Some(text.to_owned()),
    )?;
    let settings = page.items.into_iter().map(|(name, value)| {
        Object::new()
            .with("name", *name)
            .with("value", *value)
            .with("principalArn", format!("arn:aws:iam::{}:root", api.account()))
            .with("type", "aws_managed")
    });
    let settings = coracle_protocol::object::list(settings);
    Ok(Object::new().with("settings", settings).maybe("nextToken", page.next).into())
}
