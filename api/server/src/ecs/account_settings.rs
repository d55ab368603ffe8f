//! Account settings: what holds for everybody, for one principal, and when nobody said anything.
//!
//! Long ARNs are the only ones there are, so the settings about them can be set to `enabled` alone.
//! `containerInsights` is what new clusters get; the others are kept for those who read them.

use coracle_protocol::ecs::account_setting::{self as wire, ChangeAccountSetting, ListAccountSettings};
use coracle_protocol::{ApiError, Members};
use coracle_types::{AccountSetting, AccountSettingId, Changes, Key, State};
use serde_json::Value;

use crate::api::{Api, Caller};

/// One of ECS's settings.
struct Setting {
    name: &'static str,
    /// What it can be; the first is what holds when nobody said anything.
    values: &'static [&'static str],
    /// Whether only AWS sets it.
    managed: bool,
}

const fn user(name: &'static str, values: &'static [&'static str]) -> Setting {
    Setting { name, values, managed: false }
}

/// Every setting, in the order of their names.
const SETTINGS: [Setting; 11] = [
    user("awsvpcTrunking", &["disabled", "enabled"]),
    user(CONTAINER_INSIGHTS, &["disabled", "enabled", "enhanced"]),
    user("containerInstanceLongArnFormat", &["enabled"]),
    user("defaultLogDriverMode", &["non-blocking", "blocking"]),
    user("fargateEventWindows", &["disabled", "enabled"]),
    user("fargateFIPSMode", &["disabled", "enabled"]),
    user("fargateTaskRetirementWaitPeriod", &["7", "0", "14"]),
    Setting { name: "guardDutyActivate", values: &["off"], managed: true },
    user("serviceLongArnFormat", &["enabled"]),
    user("tagResourceAuthorization", &["off", "on"]),
    user("taskLongArnFormat", &["enabled"]),
];

const CONTAINER_INSIGHTS: &str = "containerInsights";

impl Setting {
    fn named(name: &str) -> Result<&'static Self, ApiError> {
        SETTINGS.iter().find(|setting| setting.name == name).ok_or_else(|| {
            let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
            let shown: String = name.chars().take(100).collect();
            ApiError::InvalidParameter(format!("{shown} should be one of [{}]", names.join(",")))
        })
    }

    fn check(&self, value: &str) -> Result<(), ApiError> {
        if self.managed {
            return Err(ApiError::InvalidParameter(format!(
                "The account setting {} is managed by AWS and cannot be changed.",
                self.name
            )));
        }
        if self.values.contains(&value) {
            return Ok(());
        }
        Err(ApiError::InvalidParameter(format!(
            "The account setting value {:?} is invalid for {}. Valid values: {}.",
            value.chars().take(100).collect::<String>(),
            self.name,
            self.values.join(", ")
        )))
    }
}

fn root(api: &Api) -> String {
    format!("arn:aws:iam::{}:root", api.account())
}

/// Whose setting a request means; None is everybody's, which is also the root user's.
fn owner(api: &Api, principal: Option<&String>) -> Result<Option<String>, ApiError> {
    match principal {
        None => Ok(None),
        Some(arn) if *arn == root(api) => Ok(None),
        Some(arn) if arn.starts_with("arn:aws") && arn.contains(":iam::") && arn.len() <= 2048 => {
            Ok(Some(arn.clone()))
        }
        Some(_) => Err(ApiError::InvalidParameter(
            "The principalArn is not the ARN of an IAM user, an IAM role or the root user.".to_owned(),
        )),
    }
}

fn id(caller: &Caller, principal: Option<&String>, name: &str) -> AccountSettingId {
    AccountSettingId { region: caller.region.clone(), principal: principal.cloned(), name: name.to_owned() }
}

/// What somebody said: for this principal, or for everybody.
fn said<'a>(
    state: &'a State,
    caller: &Caller,
    principal: Option<&String>,
    setting: &Setting,
) -> Option<&'a str> {
    let of = |principal| state.account_settings.get(&id(caller, principal, setting.name));
    let own = principal.and_then(|principal| of(Some(principal)));
    own.or_else(|| of(None)).map(|found| found.value.value.as_str())
}

/// What holds: what somebody said, or else ECS's default.
fn effective<'a>(
    state: &'a State,
    caller: &Caller,
    principal: Option<&String>,
    setting: &'static Setting,
) -> &'a str {
    said(state, caller, principal, setting).unwrap_or(setting.values[0])
}

/// The `containerInsights` of a new cluster that is not told.
pub(super) fn container_insights(state: &State, caller: &Caller) -> String {
    match Setting::named(CONTAINER_INSIGHTS) {
        Ok(setting) => effective(state, caller, None, setting).to_owned(),
        Err(_) => "disabled".to_owned(),
    }
}

/// PutAccountSetting.
pub(super) async fn put(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    change(api, caller, ChangeAccountSetting::decode(members)?).await
}

/// PutAccountSettingDefault.
pub(super) async fn put_default(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ChangeAccountSetting::decode(members)?;
    change(api, caller, ChangeAccountSetting { principal: None, ..request }).await
}

async fn change(api: &Api, caller: &Caller, request: ChangeAccountSetting) -> Result<Value, ApiError> {
    let setting = Setting::named(&request.name)?;
    setting.check(&request.value)?;
    let owner = owner(api, request.principal.as_ref())?;
    api.transact(|_| {
        let mut changes = Changes::new();
        changes.put(AccountSetting {
            id: id(caller, owner.as_ref(), setting.name),
            value: request.value.clone(),
        });
        Ok((changes, ()))
    })
    .await?;
    let principal = owner.unwrap_or_else(|| root(api));
    Ok(wire::one(wire::setting(setting.name, &request.value, &principal, setting.managed)))
}

/// DeleteAccountSetting: answers with what holds from now on.
pub(super) async fn delete(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ChangeAccountSetting::decode_deletion(members)?;
    let setting = Setting::named(&request.name)?;
    let owner = owner(api, request.principal.as_ref())?;
    let (state, ()) = api
        .transact(|state| {
            let id = id(caller, owner.as_ref(), setting.name);
            let mut changes = Changes::new();
            if state.account_settings.contains_key(&id) {
                changes.delete(Key::AccountSetting(id));
            }
            Ok((changes, ()))
        })
        .await?;
    let value = effective(&state, caller, owner.as_ref(), setting);
    let principal = owner.clone().unwrap_or_else(|| root(api));
    Ok(wire::one(wire::setting(setting.name, value, &principal, setting.managed)))
}

/// ListAccountSettings: those that were set for the principal, or all that hold for it.
pub(super) fn list(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = ListAccountSettings::decode(members)?;
    request.name.as_deref().map(Setting::named).transpose()?;
    let owner = owner(api, request.principal.as_ref())?;
    let state = api.store.snapshot();
    let wanted = SETTINGS.iter().filter_map(|setting| {
        let value = if request.effective {
            effective(&state, caller, owner.as_ref(), setting)
        } else {
            let own = state.account_settings.get(&id(caller, owner.as_ref(), setting.name))?;
            own.value.value.as_str()
        };
        let matches = request.name.as_deref().is_none_or(|name| name == setting.name)
            && request.value.as_deref().is_none_or(|wanted| wanted == value);
        matches.then_some((setting, value))
    });
    let page = request.page.of(
        "accountSettings",
        wanted,
        |(setting, _)| setting.name.to_owned(),
        String::clone,
        |text| Some(text.to_owned()),
    )?;
    let principal = owner.clone().unwrap_or_else(|| root(api));
    let shown = page.items.into_iter();
    let shown = shown.map(|(setting, value)| wire::setting(setting.name, value, &principal, setting.managed));
    Ok(wire::settings(shown.collect(), page.next))
}
