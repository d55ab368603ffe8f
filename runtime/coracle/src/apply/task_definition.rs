//! A task definition as the API would answer it, without asking: ECS's defaults filled in, spellings made one.
//! A declared definition and a registered one in this form are equal when a new revision would be no other.

use anyhow::{Context as _, anyhow};
use coracle_protocol::ecs::task_definition::{self as wire, RegisterTaskDefinition};
use coracle_protocol::members::{Members, Refusal};
use coracle_types::{AccountId, TaskDefinition, TaskDefinitionId, TaskDefinitionStatus, Timestamp};
use serde_json::Value;

/// Members of an answer that say when and by whom something was registered, and not what.
const OF_THE_REGISTRATION: [&str; 8] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "compatibilities",
    "requiresAttributes",
    "registeredAt",
    "deregisteredAt",
    "registeredBy",
];

/// A request to register a task definition, in that form. Tags are left out: they are no part of a revision.
pub(crate) fn canonical(request: &Value) -> anyhow::Result<Value> {
    let shape = coracle_protocol::ecs::inputs::of("RegisterTaskDefinition").context("ECS registers none")?;
    let mut request = request.clone();
    shape.conform(&mut request, Refusal::Client).map_err(|error| anyhow!("{error}"))?;
    let members = Members::of_body(request, Refusal::Client).map_err(|error| anyhow!("{error}"))?;
    let request = RegisterTaskDefinition::decode(members).map_err(|error| anyhow!("{error}"))?;
    let definition = TaskDefinition {
        id: TaskDefinitionId { region: "us-east-1".parse()?, family: request.family, revision: 1 },
        status: TaskDefinitionStatus::Active,
        registered_at: Timestamp(0),
        deregistered_at: None,
        cpu: request.cpu,
        memory: request.memory,
        network_mode: request.network_mode,
        requires_compatibilities: request.requires_compatibilities,
        containers: request.containers,
        volumes: request.volumes,
        tags: request.tags,
        rest: request.rest,
    };
    Ok(content(wire::task_definition(AccountId::default(), &definition)))
}

/// A registered task definition, in that form.
pub(super) fn content(mut answered: Value) -> Value {
    if let Value::Object(members) = &mut answered {
        members.retain(|name, _| !OF_THE_REGISTRATION.contains(&name.as_str()));
    }
    answered
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn spellings_and_defaults_make_no_difference() {
        let short = json!({
            "family": "web", "cpu": ".5 vCPU", "memory": "1GB",
            "containerDefinitions": [{"name": "web", "image": "web:1", "portMappings": [{"containerPort": 80}]}],
        });
        let long = json!({
            "family": "web", "cpu": "512", "memory": "1024", "volumes": [], "tags": [{"key": "a", "value": "b"}],
            "containerDefinitions": [{
                "name": "web", "image": "web:1", "essential": true, "cpu": 0, "environment": [],
                "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
            }],
        });
        assert_eq!(canonical(&short).unwrap(), canonical(&long).unwrap());
        let mut other = short;
        other["containerDefinitions"][0]["essential"] = json!(false);
        assert_ne!(canonical(&other).unwrap(), canonical(&long).unwrap());
    }

    #[test]
    fn impossible_ones_are_refused_in_the_words_of_the_api() {
        let error = canonical(&json!({"family": "web"})).unwrap_err().to_string();
        assert_eq!(error, "Container list cannot be empty.");
    }
}
