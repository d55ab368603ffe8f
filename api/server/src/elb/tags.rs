//! Tags of load balancers, target groups, listeners, rules and trust stores.

use std::sync::Arc;

use coracle_protocol::elb::action::not_an_arn;
use coracle_protocol::elb::{ElbCode, merge_tags, nothing, tags as shown};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{ElbArn, ElbResource, Listener, LoadBalancer, Rule, TargetGroup, TrustStore};
use coracle_types::{Changes, Record, State, Tags};
use serde_json::Value;

use super::find;
use crate::api::{Api, Caller};

/// At most this many resources are tagged or described at once (ELBv2's limit).
const RESOURCES_MAX: usize = 20;

/// A resource that has tags.
enum Tagged {
    LoadBalancer(Arc<LoadBalancer>),
    TargetGroup(Arc<TargetGroup>),
    Listener(Arc<Listener>),
    Rule(Arc<Rule>),
    TrustStore(Arc<TrustStore>),
}

impl Tagged {
    fn find(state: &State, caller: &Caller, arn: &str) -> Result<Self, ApiError> {
        let parsed: ElbArn = arn.parse().map_err(|_| not_an_arn(arn, "resource"))?;
        Ok(match &parsed.resource {
            ElbResource::LoadBalancer(id) => Self::LoadBalancer(find::load_balancer(state, caller, id)?),
            ElbResource::TargetGroup(id) => Self::TargetGroup(find::target_group(state, caller, id)?),
            ElbResource::Listener(id) => Self::Listener(find::listener(state, caller, id)?),
            ElbResource::TrustStore(id) => Self::TrustStore(find::trust_store(state, caller, id)?),
            ElbResource::Rule(id) => {
                let found = state.rules.get(id).filter(|_| id.listener.load_balancer.region == caller.region);
                let found =
                    found.ok_or_else(|| ElbCode::RuleNotFound.because("One or more rules not found"))?;
                Self::Rule(Arc::clone(&found.value))
            }
        })
    }

    fn tags(&self) -> &Tags {
        match self {
            Self::LoadBalancer(one) => &one.tags,
            Self::TargetGroup(one) => &one.tags,
            Self::Listener(one) => &one.tags,
            Self::Rule(one) => &one.tags,
            Self::TrustStore(one) => &one.tags,
        }
    }

    fn with_tags(&self, tags: Tags) -> Record {
        match self {
            Self::LoadBalancer(one) => LoadBalancer { tags, ..LoadBalancer::clone(one) }.into(),
            Self::TargetGroup(one) => TargetGroup { tags, ..TargetGroup::clone(one) }.into(),
            Self::Listener(one) => Listener { tags, ..Listener::clone(one) }.into(),
            Self::Rule(one) => Rule { tags, ..Rule::clone(one) }.into(),
            Self::TrustStore(one) => TrustStore { tags, ..TrustStore::clone(one) }.into(),
        }
    }
}

fn take_arns(members: &mut Members) -> Result<Vec<String>, ApiError> {
    let arns = members.texts("ResourceArns")?.unwrap_or_default();
    if arns.is_empty() {
        return Err(members.missing("ResourceArns"));
    }
    if arns.len() > RESOURCES_MAX {
        return Err(
            members.invalid("ResourceArns", format_args!("at most {RESOURCES_MAX} can be given at once"))
        );
    }
    Ok(arns)
}

async fn change(
    api: &Api,
    caller: &Caller,
    arns: &[String],
    edit: impl Fn(&mut Tags) -> Result<(), ApiError>,
) -> Result<Value, ApiError> {
    api.transact(|state| {
        let mut changes = Changes::new();
        for arn in arns {
            let found = Tagged::find(state, caller, arn)?;
            let mut tags = found.tags().clone();
            edit(&mut tags)?;
            changes.put(found.with_tags(tags));
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// AddTags.
pub(super) async fn add(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arns = take_arns(&mut members)?;
    let pairs = members.pairs("Tags", "Key", "Value")?.unwrap_or_default();
    if pairs.is_empty() {
        return Err(members.missing("Tags"));
    }
    change(api, caller, &arns, |tags| merge_tags(tags, pairs.clone())).await
}

/// RemoveTags.
pub(super) async fn remove(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arns = take_arns(&mut members)?;
    let keys = members.texts("TagKeys")?.unwrap_or_default();
    change(api, caller, &arns, |tags| {
        keys.iter().for_each(|key| tags.remove(key));
        Ok(())
    })
    .await
}

/// DescribeTags.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let arns = take_arns(&mut members)?;
    let state = api.store.snapshot();
    let mut descriptions = Vec::new();
    for arn in arns {
        let found = Tagged::find(&state, caller, &arn)?;
        descriptions.push(Object::new().with("ResourceArn", arn).with("Tags", shown(found.tags())));
    }
    Ok(Object::new().with("TagDescriptions", list(descriptions)).into())
}
