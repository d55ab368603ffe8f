//! Targets and their health.

use std::net::IpAddr;

use coracle_protocol::elb::action::take_target_group;
use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::target::{self as wire, TargetDescription};
use coracle_protocol::elb::{ElbCode, nothing};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{
    Association, HealthCheckPort, Target, TargetGroup, TargetHealth, TargetHealthReason, TargetHealthState,
    TargetId, TargetType,
};
use coracle_types::{Changes, State};
use serde_json::Value;

use super::find;
use crate::api::{Api, Caller};

/// RegisterTargets. One that is registered already stays as it is; one that was being deregistered is back.
pub(super) async fn register(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let group = take_target_group(&mut members, "TargetGroupArn")?;
    let targets = wire::take(&mut members)?;
    if targets.is_empty() {
        return Err(members.missing("Targets"));
    }
    api.transact(|state| {
        let group = find::target_group(state, caller, &group)?;
        let mut changes = Changes::new();
        let now = api.now();
        for target in &targets {
            let id = id_of(&group, target)?;
            let known = state.targets.get(&id).map(|found| &found.value);
            if known.is_some_and(|known| known.draining_since.is_none()) {
                continue;
            }
            changes.put(Target {
                id,
                registered_at: now,
                draining_since: None,
                zone: target.zone.clone(),
                health: TargetHealth::registering(now),
            });
        }
        let live = state.targets_of(&group.id).count() + changes.changes.len();
        if live > limits::TARGETS {
            return Err(ElbCode::TooManyTargets
                .because(format_args!("A target group can have at most {} targets", limits::TARGETS))
                .into());
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

/// The id a target is, or would be, registered under.
fn id_of(group: &TargetGroup, target: &TargetDescription) -> Result<TargetId, ApiError> {
    let address = match group.target_type {
        TargetType::Ip => target.id.parse::<IpAddr>().map_err(|_| {
            ApiError::Client(format!("The IP address '{}' is not a valid IPv4 or IPv6 address", target.id))
        })?,
        TargetType::Instance => {
            return Err(ElbCode::InvalidTarget
                .because(format_args!(
                    "The following targets are not in a running state and cannot be registered: '{}'. There are no \
                     instances here: register an IP address in a target group of the type 'ip', or let an ECS service \
                     register its tasks",
                    target.id
                ))
                .into());
        }
    };
    Ok(TargetId {
        group: group.id.clone(),
        address: address.to_string(),
        port: target.port.unwrap_or(group.port),
    })
}

/// DeregisterTargets: they drain. What is not registered counts as deregistered; without a port, every
/// registration of an address is meant.
pub(super) async fn deregister(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let group = take_target_group(&mut members, "TargetGroupArn")?;
    let targets = wire::take(&mut members)?;
    if targets.is_empty() {
        return Err(members.missing("Targets"));
    }
    api.transact(|state| {
        let group = find::target_group(state, caller, &group)?;
        let mut changes = Changes::new();
        for known in state.targets_of(&group.id).filter(|known| known.draining_since.is_none()) {
            if targets.iter().any(|target| is_meant(target, &known.id.address, known.id.port)) {
                let now = api.now();
                changes.put(Target {
                    draining_since: Some(now),
                    health: TargetHealth::draining(now),
                    ..Target::clone(known)
                });
            }
        }
        // A task of a service can be taken out by hand, too: its service registers it again when it has drained.
        for found in state.tasks.values().map(|found| &found.value) {
            let is_meant = |target: &coracle_types::elb::TaskTarget| {
                let address = found.id.private_ipv4().to_string();
                target.group == group.id
                    && target.draining_since.is_none()
                    && targets.iter().any(|given| is_meant(given, &address, target.port))
            };
            if found.targets.iter().any(is_meant) {
                let mut task = coracle_types::Task::clone(found);
                for target in task.targets.iter_mut().filter(|target| is_meant(target)) {
                    target.drain(api.now());
                }
                task.version += 1;
                changes.put(task);
            }
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}

fn is_meant(given: &TargetDescription, address: &str, port: u16) -> bool {
    let same = match (given.id.parse::<IpAddr>(), address.parse::<IpAddr>()) {
        (Ok(given), Ok(address)) => given == address,
        _ => given.id == address,
    };
    same && given.port.is_none_or(|given| given == port)
}

/// One registration as it is answered.
struct Shown {
    address: String,
    port: u16,
    zone: Option<String>,
    health: TargetHealth,
}

/// DescribeTargetHealth.
pub(super) fn health(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = take_target_group(&mut members, "TargetGroupArn")?;
    let asked = wire::take(&mut members)?;
    let state = api.store.snapshot();
    let group = find::target_group(&state, caller, &id)?;
    let is_used = Association::of(&state).is_used(&id);
    let mut all = registrations(&state, &group);
    for shown in &mut all {
        if !is_used && shown.health.state != TargetHealthState::Draining {
            shown.health = TargetHealth {
                state: TargetHealthState::Unused,
                reason: Some(TargetHealthReason::NotInUse),
                description: Some(
                    "Target group is not configured to receive traffic from the load balancer".to_owned(),
                ),
                since: shown.health.since,
            };
        }
    }
    if !asked.is_empty() {
        let missing: Vec<Shown> = asked
            .iter()
            .filter(|asked| !all.iter().any(|shown| is_meant(asked, &shown.address, shown.port)))
            .map(|asked| Shown {
                address: asked.id.clone(),
                port: asked.port.unwrap_or(group.port),
                zone: None,
                health: TargetHealth {
                    state: TargetHealthState::Unused,
                    reason: Some(TargetHealthReason::NotRegistered),
                    description: Some("Target is not registered to the target group".to_owned()),
                    since: api.now(),
                },
            })
            .collect();
        all.retain(|shown| asked.iter().any(|asked| is_meant(asked, &shown.address, shown.port)));
        all.extend(missing);
    }
    let descriptions = all.iter().map(|shown| {
        let check_port = match group.check.port {
            HealthCheckPort::TrafficPort => shown.port,
            HealthCheckPort::Port(port) => port,
        };
        wire::encode(&shown.address, shown.port, shown.zone.as_deref(), check_port, &shown.health)
    });
    Ok(Object::new().with("TargetHealthDescriptions", list(descriptions)).into())
}

/// What is registered in a group, by hand and by services.
fn registrations(state: &State, group: &TargetGroup) -> Vec<Shown> {
    let by_hand = state.targets_of(&group.id).map(|target| Shown {
        address: target.id.address.clone(),
        port: target.id.port,
        zone: target.zone.clone(),
        health: target.health.clone(),
    });
    let zone = format!("{}a", group.id.region);
    let of_tasks = state.tasks.values().map(|found| &found.value).flat_map(|task| {
        let zone = zone.clone();
        let here = task.targets.iter().filter(|target| target.group == group.id);
        here.map(move |target| Shown {
            address: task.id.private_ipv4().to_string(),
            port: target.port,
            zone: Some(zone.clone()),
            health: target.health.clone(),
        })
    });
    by_hand.chain(of_tasks).collect()
}
