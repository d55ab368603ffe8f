//! Target groups.

use std::collections::BTreeSet;

use coracle_protocol::elb::action::{not_an_arn, take_target_group};
use coracle_protocol::elb::attributes::Kind;
use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::load_balancer::parse_load_balancer;
use coracle_protocol::elb::target_group::{self as wire, CreateTargetGroup, edit_check};
use coracle_protocol::elb::{ElbCode, nothing, page};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{Association, Attributes, ElbArn, TargetGroup, TargetGroupId};
use coracle_types::{Changes, Key, State};
use serde_json::Value;

use super::{find, number};
use crate::api::{Api, Caller};

/// CreateTargetGroup: one that is there already as asked for is answered as if it were new.
pub(super) async fn create(api: &Api, caller: &Caller, members: Members) -> Result<Value, ApiError> {
    let request = CreateTargetGroup::decode(members)?;
    let (state, id) = api
        .transact(|state| {
            let mut changes = Changes::new();
            let here = || {
                state
                    .target_groups
                    .values()
                    .map(|found| &found.value)
                    .filter(|one| one.id.region == caller.region)
            };
            if let Some(existing) = here().find(|one| one.id.name == request.name) {
                if request.is(existing) {
                    return Ok((changes, existing.id.clone()));
                }
                return Err(ElbCode::DuplicateTargetGroupName
                    .because(format_args!(
                        "A target group with the same name '{}' exists, but with different settings",
                        request.name
                    ))
                    .into());
            }
            if here().count() >= limits::TARGET_GROUPS {
                return Err(ElbCode::TooManyTargetGroups
                    .because(format_args!("There can be at most {} target groups", limits::TARGET_GROUPS))
                    .into());
            }
            let id =
                TargetGroupId { region: caller.region.clone(), name: request.name.clone(), number: number() };
            changes.put(TargetGroup {
                id: id.clone(),
                created_at: api.now(),
                protocol: request.protocol,
                protocol_version: request.protocol_version,
                port: request.port,
                target_type: request.target_type,
                vpc_id: request.vpc_id.clone(),
                ip_address_type: request.ip_address_type.clone(),
                check: request.check.clone(),
                attributes: Attributes::new(),
                tags: request.tags.clone(),
            });
            Ok((changes, id))
        })
        .await?;
    shown(api, caller, &state, &id)
}

fn shown(api: &Api, caller: &Caller, state: &State, id: &TargetGroupId) -> Result<Value, ApiError> {
    let group = find::target_group(state, caller, id)?;
    let association = Association::of(state);
    let group = wire::encode(&group, api.account(), association.load_balancers(id));
    Ok(Object::new().with("TargetGroups", list([group])).into())
}

/// DescribeTargetGroups.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let state = api.store.snapshot();
    let association = Association::of(&state);
    let here = || {
        state.target_groups.values().map(|found| &found.value).filter(|one| one.id.region == caller.region)
    };
    let mut wanted: Option<BTreeSet<TargetGroupId>> = None;
    if let Some(arns) = members.texts("TargetGroupArns")?.filter(|arns| !arns.is_empty()) {
        let ids = wanted.get_or_insert_default();
        for arn in arns {
            let id = TargetGroupId::of_arn(&arn).ok_or_else(|| not_an_arn(&arn, "target group"))?;
            ids.insert(find::target_group(&state, caller, &id)?.id.clone());
        }
    }
    if let Some(names) = members.texts("Names")?.filter(|names| !names.is_empty()) {
        let ids = wanted.get_or_insert_default();
        for name in names {
            let found = here().find(|one| one.id.name.as_str() == name);
            let found = found
                .ok_or_else(|| ElbCode::TargetGroupNotFound.because("One or more target groups not found"))?;
            ids.insert(found.id.clone());
        }
    }
    let balancer = match members.text("LoadBalancerArn")? {
        Some(arn) => Some(find::load_balancer(&state, caller, &parse_load_balancer(&arn)?)?.id.clone()),
        None => None,
    };
    let items = here()
        .filter(|one| wanted.as_ref().is_none_or(|ids| ids.contains(&one.id)))
        .filter(|one| {
            balancer.as_ref().is_none_or(|id| association.load_balancers(&one.id).any(|other| other == id))
        })
        .map(|one| {
            let shown = wire::encode(one, api.account(), association.load_balancers(&one.id));
            (one.id.name.to_string(), shown)
        });
    page::of(&page, "TargetGroups", items)
}

/// Changes one target group.
async fn edit(
    api: &Api,
    caller: &Caller,
    members: &mut Members,
    edit: impl Fn(&mut TargetGroup, &mut Members) -> Result<(), ApiError>,
) -> Result<(std::sync::Arc<State>, TargetGroupId), ApiError> {
    let id = take_target_group(members, "TargetGroupArn")?;
    let (state, ()) = api
        .transact(|state| {
            let mut group = TargetGroup::clone(&*find::target_group(state, caller, &id)?);
            edit(&mut group, &mut members.clone())?;
            let mut changes = Changes::new();
            changes.put(group);
            Ok((changes, ()))
        })
        .await?;
    Ok((state, id))
}

/// ModifyTargetGroup: its health check.
pub(super) async fn modify(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let (state, id) =
        edit(api, caller, &mut members, |group, members| edit_check(&mut group.check, members)).await?;
    shown(api, caller, &state, &id)
}

/// DescribeTargetGroupAttributes.
pub(super) fn attributes(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_target_group(&mut members, "TargetGroupArn")?;
    let group = find::target_group(&api.store.snapshot(), caller, &id)?;
    Ok(Kind::TargetGroup.encode(&group.attributes))
}

/// ModifyTargetGroupAttributes.
pub(super) async fn modify_attributes(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    let (state, id) = edit(api, caller, &mut members, |group, members| {
        group.attributes = Kind::TargetGroup.modify(&group.attributes, members)?;
        Ok(())
    })
    .await?;
    Ok(Kind::TargetGroup.encode(&find::target_group(&state, caller, &id)?.attributes))
}

/// DeleteTargetGroup: with what is registered in it by hand. One that is not there counts as deleted.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_target_group(&mut members, "TargetGroupArn")?;
    api.transact(|state| {
        let mut changes = Changes::new();
        if find::target_group(state, caller, &id).is_err() {
            return Ok((changes, ()));
        }
        if Association::of(state).is_used(&id) {
            let arn = ElbArn::new(api.account(), id.clone());
            return Err(ElbCode::ResourceInUse
                .because(format_args!("Target group '{arn}' is currently in use by a listener or a rule"))
                .into());
        }
        for target in state.targets_of(&id) {
            changes.delete(Key::Target(target.id.clone()));
        }
        changes.delete(Key::TargetGroup(id.clone()));
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
