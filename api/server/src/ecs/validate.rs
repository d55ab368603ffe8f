//! Whether a task definition makes sense as a whole. Each member alone was checked when it was decoded.
//!
//! What has no meaning for a component is accepted and kept. What would make somebody less safe if it
//! were silently dropped, because they count on another world than this one, is refused by name.

use std::collections::HashSet;

use coracle_protocol::ApiError;
use coracle_protocol::ecs::task_definition::RegisterTaskDefinition;
use coracle_types::{Compatibility, ContainerDefinition, DependencyCondition, NetworkMode, check_links};
use serde_json::Value;

use super::expressions;

/// Checks a task definition before it is registered.
///
/// # Errors
/// `ClientException` with the first rule that is broken.
pub(super) fn validate(definition: &RegisterTaskDefinition) -> Result<(), ApiError> {
    let check = [containers, dependencies, links, volumes, fargate, sizes, constraints, refused];
    check.iter().try_for_each(|check| check(definition)).map_err(ApiError::Client)
}

type Checked = Result<(), String>;

fn constraints(definition: &RegisterTaskDefinition) -> Checked {
    expressions::check_constraints(&definition.rest)
}

fn containers(definition: &RegisterTaskDefinition) -> Checked {
    let mut names = HashSet::new();
    for container in &definition.containers {
        if !names.insert(container.name.as_str()) {
            return Err(format!(
                "Container names should be unique: {} appears more than once in the task definition.",
                container.name
            ));
        }
    }
    if definition.containers.iter().any(|container| container.essential) {
        Ok(())
    } else {
        Err("The task definition must have at least one essential container.".to_owned())
    }
}

fn dependencies(definition: &RegisterTaskDefinition) -> Checked {
    let find = |name: &str| definition.containers.iter().find(|container| container.name.as_str() == name);
    for container in &definition.containers {
        for dependency in &container.depends_on {
            let name = &dependency.container;
            let on = find(name.as_str()).ok_or_else(|| {
                format!(
                    "Container {} depends on {name}, which is not in the task definition.",
                    container.name
                )
            })?;
            match dependency.condition {
                DependencyCondition::Complete | DependencyCondition::Success if on.essential => {
                    return Err(format!(
                        "Container {} waits for {name} to end, but {name} is essential: its end would end the task. Set \
                         essential to false for {name}.",
                        container.name
                    ));
                }
                DependencyCondition::Healthy if on.health_check.is_none() => {
                    return Err(format!(
                        "Container {} waits for {name} to be HEALTHY, but {name} has no healthCheck.",
                        container.name
                    ));
                }
                _ => {}
            }
        }
    }
    // Takes away, again and again, containers that wait for none that is left.
    let mut left: Vec<&ContainerDefinition> = definition.containers.iter().collect();
    loop {
        let names: HashSet<&str> = left.iter().map(|container| container.name.as_str()).collect();
        let before = left.len();
        left.retain(|container| {
            container.depends_on.iter().any(|dependency| names.contains(dependency.container.as_str()))
        });
        if left.is_empty() {
            return Ok(());
        }
        if left.len() == before {
            let names: Vec<&str> = left.iter().map(|container| container.name.as_str()).collect();
            return Err(format!("Containers wait for each other in a circle: {}.", names.join(", ")));
        }
    }
}

/// `dockerLabels` of ours that speak of other containers.
fn links(definition: &RegisterTaskDefinition) -> Checked {
    check_links(&definition.containers)
}

fn volumes(definition: &RegisterTaskDefinition) -> Checked {
    let mut names = HashSet::new();
    for volume in &definition.volumes {
        if !names.insert(volume.name.as_str()) {
            return Err(format!("Duplicate volume name: {} appears more than once.", volume.name));
        }
    }
    for container in &definition.containers {
        for mount in &container.mount_points {
            if !names.contains(mount.source_volume.as_str()) {
                return Err(format!(
                    "Container {} mounts an unknown volume '{}'.",
                    container.name, mount.source_volume
                ));
            }
        }
    }
    Ok(())
}

fn fargate(definition: &RegisterTaskDefinition) -> Checked {
    if !definition.requires_compatibilities.contains(&Compatibility::Fargate) {
        return Ok(());
    }
    if definition.cpu.is_none() {
        return Err("Fargate requires that 'cpu' be defined at the task level.".to_owned());
    }
    if definition.memory.is_none() {
        return Err("Fargate requires that 'memory' be defined at the task level.".to_owned());
    }
    match definition.network_mode {
        None | Some(NetworkMode::Awsvpc) => Ok(()),
        Some(_) => Err("Fargate only supports network mode 'awsvpc'.".to_owned()),
    }
}

fn sizes(definition: &RegisterTaskDefinition) -> Checked {
    let containers = &definition.containers;
    let sum = |each: fn(&ContainerDefinition) -> u32| {
        containers.iter().map(|one| u64::from(each(one))).sum::<u64>()
    };
    if let Some(cpu) = definition.cpu {
        let asked = sum(|container| container.cpu);
        if asked > u64::from(cpu) {
            return Err(format!(
                "Invalid 'cpu' setting for task. The containers' {asked} CPU units are more than the task's {cpu}."
            ));
        }
    }
    for container in containers {
        let reserved = container.memory_reservation.unwrap_or(0);
        if let Some(memory) = container.memory.filter(|memory| *memory < reserved) {
            return Err(format!(
                "Invalid setting for container '{}'. 'memory' ({memory}) must not be less than 'memoryReservation' \
                 ({reserved}).",
                container.name
            ));
        }
        let most = container.memory.unwrap_or(reserved);
        if let Some(memory) = definition.memory.filter(|memory| *memory < most) {
            return Err(format!(
                "Invalid setting for container '{}'. Its {most} MiB are more than the task's {memory} MiB.",
                container.name
            ));
        }
    }
    let reserved = sum(|container| container.memory_reservation.unwrap_or(0));
    match definition.memory {
        Some(memory) if reserved > u64::from(memory) => Err(format!(
            "Invalid 'memory' setting for task. The containers reserve {reserved} MiB, more than the task's {memory} MiB."
        )),
        _ => Ok(()),
    }
}

fn refused(definition: &RegisterTaskDefinition) -> Checked {
    for member in ["pidMode", "ipcMode"] {
        if definition.rest.get(member).and_then(Value::as_str) == Some("host") {
            if member == "pidMode" && definition.requires_compatibilities.contains(&Compatibility::Fargate) {
                return Err("Tasks using the Fargate launch type do not support pidMode 'host'. The supported value for \
                            pidMode is 'task'."
                    .to_owned());
            }
            return Err(format!(
                "{member} 'host' is not supported: a component shares no processes and no memory with the host. Leave \
                 {member} out."
            ));
        }
    }
    for container in &definition.containers {
        let name = &container.name;
        if container.rest.get("privileged").and_then(Value::as_bool) == Some(true) {
            return Err(format!(
                "Container {name}: 'privileged' is not supported: a component runs in a sandbox that cannot be opened. \
                 Leave it out."
            ));
        }
        let devices =
            container.rest.get("linuxParameters").and_then(|linux| linux.get("devices")?.as_array());
        if devices.is_some_and(|devices| !devices.is_empty()) {
            return Err(format!(
                "Container {name}: 'linuxParameters.devices' is not supported: a component cannot reach the host's \
                 devices. Leave it out."
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coracle_protocol::Members;
    use coracle_protocol::members::Refusal;
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<(), ApiError> {
        validate(&RegisterTaskDefinition::decode(Members::of_body(body, Refusal::Client).unwrap()).unwrap())
    }

    #[track_caller]
    fn refuses(body: Value, why: &str) {
        match check(body) {
            Err(ApiError::Client(text)) => assert!(text.contains(why), "{text:?} does not say {why:?}"),
            other => panic!("not refused for {why:?} but {other:?}"),
        }
    }

    #[test]
    fn the_smallest_is_accepted() {
        assert_eq!(
            check(json!({"family": "a", "containerDefinitions": [{"name": "a", "image": "a"}]})),
            Ok(())
        );
    }

    #[test]
    fn containers_have_to_make_sense_together() {
        let containers = |containers| json!({"family": "a", "containerDefinitions": containers});
        let a = json!({"name": "a", "image": "a"});
        refuses(containers(json!([a, a])), "unique");
        refuses(containers(json!([{"name": "a", "image": "a", "essential": false}])), "essential");
        let waits = |name: &str, on: &str, condition: &str| json!({"name": name, "image": "a", "dependsOn": [{"containerName": on, "condition": condition}]});
        refuses(containers(json!([waits("a", "b", "START")])), "not in the task definition");
        refuses(containers(json!([waits("a", "b", "START"), waits("b", "a", "START")])), "circle: a, b");
        refuses(containers(json!([waits("a", "a", "START")])), "circle");
        refuses(containers(json!([waits("a", "b", "SUCCESS"), {"name": "b", "image": "b"}])), "essential");
        refuses(containers(json!([waits("a", "b", "HEALTHY"), {"name": "b", "image": "b"}])), "healthCheck");
        let chain = json!([waits("a", "b", "START"), waits("b", "c", "START"), {"name": "c", "image": "c"}]);
        assert_eq!(check(containers(chain)), Ok(()));
        let mounts = json!([{"name": "a", "image": "a", "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]}]);
        refuses(containers(mounts), "unknown volume 'v'");
    }

    #[test]
    fn links_lead_to_other_containers_and_not_in_circles() {
        let linked = |links: &[(&str, &str)]| {
            let containers: Vec<Value> = ["a", "b", "c"]
                .into_iter()
                .map(|name| {
                    let mut container = json!({"name": name, "image": name});
                    if let Some((_, to)) = links.iter().find(|(from, _)| *from == name) {
                        container["dockerLabels"] = json!({"coracle.link": to});
                    }
                    container
                })
                .collect();
            json!({"family": "a", "containerDefinitions": containers})
        };
        assert_eq!(check(linked(&[("a", "b, demo:auth/policy=c"), ("b", "c")])), Ok(()));
        refuses(linked(&[("a", "d")]), "Container a is linked to d, which is not in the task definition.");
        refuses(linked(&[("a", "a")]), "linked to itself");
        refuses(linked(&[("a", "b"), ("b", "c"), ("c", "a")]), "in a circle: a, b, c");
        refuses(linked(&[("b", "policy=c")]), "Container b: label coracle.link: \"policy=c\"");
        let mut waits = linked(&[("a", "b")]);
        waits["containerDefinitions"][1]["dependsOn"] = json!([{"containerName": "a", "condition": "START"}]);
        refuses(waits, "in a circle: a, b");
    }

    #[test]
    fn fargate_and_sizes() {
        let with = |more: Value| {
            let mut body = json!({
                "family": "a",
                "containerDefinitions": [{"name": "a", "image": "a", "cpu": 200, "memory": 300, "memoryReservation": 200}],
            });
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let fargate = json!(["FARGATE"]);
        refuses(
            with(json!({"requiresCompatibilities": fargate, "memory": "512"})),
            "'cpu' be defined at the task level",
        );
        refuses(
            with(json!({"requiresCompatibilities": fargate, "cpu": "256"})),
            "'memory' be defined at the task level",
        );
        let bridge = json!({"requiresCompatibilities": fargate, "cpu": "256", "memory": "512", "networkMode": "bridge"});
        refuses(with(bridge), "awsvpc");
        refuses(with(json!({"cpu": "128"})), "200 CPU units are more than the task's 128");
        refuses(with(json!({"memory": "256"})), "300 MiB are more than the task's 256");
        refuses(
            with(
                json!({"containerDefinitions": [{"name": "a", "image": "a", "memory": 4, "memoryReservation": 5}]}),
            ),
            "memoryReservation",
        );
        assert_eq!(check(with(json!({"cpu": ".25 vCPU", "memory": "0.5GB"}))), Ok(()));
    }

    #[test]
    fn what_would_be_less_safe_is_refused_by_name() {
        let container = |more: Value| {
            let mut container = json!({"name": "a", "image": "a"});
            container.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"family": "a", "containerDefinitions": [container]})
        };
        refuses(container(json!({"privileged": true})), "privileged");
        refuses(
            container(json!({"linuxParameters": {"devices": [{"hostPath": "/dev/kvm"}]}})),
            "linuxParameters.devices",
        );
        assert_eq!(
            check(container(
                json!({"privileged": false, "linuxParameters": {"devices": [], "initProcessEnabled": true}})
            )),
            Ok(())
        );
        let mut host = container(json!({}));
        host["pidMode"] = "host".into();
        refuses(host.clone(), "pidMode");
        host["pidMode"] = "task".into();
        host["ipcMode"] = "host".into();
        refuses(host, "ipcMode");
    }
}
