//! Resources by ARN, as the caller's region has them.

use std::sync::Arc;

use coracle_protocol::ApiError;
use coracle_protocol::elb::ElbCode;
use coracle_types::State;
use coracle_types::elb::{
    Action, Association, CertificateId, ElbArn, Listener, ListenerId, LoadBalancer, LoadBalancerId,
    TargetGroup, TargetGroupId, TrustStore, TrustStoreId,
};

use crate::api::{Api, Caller};

pub(super) fn load_balancer(
    state: &State,
    caller: &Caller,
    id: &LoadBalancerId,
) -> Result<Arc<LoadBalancer>, ApiError> {
    let found = state.load_balancers.get(id).filter(|_| id.region == caller.region);
    found
        .map(|found| Arc::clone(&found.value))
        .ok_or_else(|| ElbCode::LoadBalancerNotFound.because("One or more load balancers not found").into())
}

pub(super) fn target_group(
    state: &State,
    caller: &Caller,
    id: &TargetGroupId,
) -> Result<Arc<TargetGroup>, ApiError> {
    let found = state.target_groups.get(id).filter(|_| id.region == caller.region);
    found
        .map(|found| Arc::clone(&found.value))
        .ok_or_else(|| ElbCode::TargetGroupNotFound.because("One or more target groups not found").into())
}

pub(super) fn listener(state: &State, caller: &Caller, id: &ListenerId) -> Result<Arc<Listener>, ApiError> {
    let found = state.listeners.get(id).filter(|_| id.load_balancer.region == caller.region);
    found
        .map(|found| Arc::clone(&found.value))
        .ok_or_else(|| ElbCode::ListenerNotFound.because("One or more listeners not found").into())
}

pub(super) fn trust_store(
    state: &State,
    caller: &Caller,
    id: &TrustStoreId,
) -> Result<Arc<TrustStore>, ApiError> {
    let found = state.trust_stores.get(id).filter(|_| id.region == caller.region);
    found
        .map(|found| Arc::clone(&found.value))
        .ok_or_else(|| ElbCode::TrustStoreNotFound.because("One or more trust stores not found").into())
}

/// Whether there are these certificates.
pub(super) fn certificates(
    state: &State,
    api: &Api,
    caller: &Caller,
    ids: &[CertificateId],
) -> Result<(), ApiError> {
    let missing = ids.iter().find(|id| id.region != caller.region || !state.certificates.contains_key(id));
    match missing {
        None => Ok(()),
        Some(id) => Err(ElbCode::CertificateNotFound
            .because(format_args!("Certificate '{}' not found", id.arn(api.account())))
            .into()),
    }
}

/// Whether a listener of `balancer` can do `action`: its target groups are there, and no other load balancer's.
pub(super) fn possible(
    state: &State,
    api: &Api,
    caller: &Caller,
    balancer: &LoadBalancerId,
    action: &Action,
) -> Result<(), ApiError> {
    let association = Association::of(state);
    for group in action.groups() {
        let arn = || ElbArn::new(api.account(), group.clone());
        if target_group(state, caller, group).is_err() {
            return Err(ElbCode::TargetGroupNotFound
                .because(format_args!("Target groups '{}' not found", arn()))
                .into());
        }
        if association.load_balancers(group).any(|other| other != balancer) {
            return Err(ElbCode::TargetGroupAssociationLimit
                .because(format_args!(
                    "The following target groups cannot be associated with more than one load balancer: {}",
                    arn()
                ))
                .into());
        }
    }
    Ok(())
}
