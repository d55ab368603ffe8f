//! Task definitions and tasks for tests, in one line each.

use std::path::PathBuf;

use coracle_types::{
    Assigned, AssignedTask, Container, ContainerDefinition, ContainerId, ContainerStatus, DesiredStatus,
    HealthStatus, LastStatus, LaunchType, NodeId, Task, TaskDefinition, TaskDefinitionId, TaskGroup, TaskId,
    TaskOverride, Timestamp,
};

use crate::agent::AgentConfig;

pub(crate) fn config(volumes_dir: PathBuf) -> AgentConfig {
    AgentConfig {
        node: NodeId(0xeee),
        account: "123456789012".to_owned(),
        environment_files_dir: volumes_dir.with_file_name("s3"),
        volumes_dir,
        memory_mib: 4096,
    }
}

/// An essential container without any settings.
pub(crate) fn container(name: &str, image: &str) -> ContainerDefinition {
    ContainerDefinition::new(name.parse().unwrap(), image)
}

/// A definition of the family `app`, 1024 CPU units and 512 MiB.
pub(crate) fn definition(containers: Vec<ContainerDefinition>) -> TaskDefinition {
    let id = TaskDefinitionId {
        region: "us-east-1".parse().unwrap(),
        family: "app".parse().unwrap(),
        revision: 1,
    };
    TaskDefinition { cpu: Some(1024), memory: Some(512), ..TaskDefinition::new(id, Timestamp(0), containers) }
}

/// A FARGATE task of a definition, as it is when a node first hears of it.
pub(crate) fn task(definition: &TaskDefinition, id: u128) -> Task {
    let containers = definition.containers.iter().zip(1..).map(|(container, number)| Container {
        id: ContainerId(id * 100 + number),
        name: container.name.clone(),
        image: container.image.clone(),
        essential: container.essential,
        has_health_check: container.health_check.is_some(),
        status: ContainerStatus::Pending,
        exit_code: None,
        reason: None,
        health: HealthStatus::Unknown,
        image_digest: None,
        runtime_id: None,
        cpu: container.cpu,
        memory: container.memory,
        memory_reservation: container.memory_reservation,
    });
    Task {
        id: TaskId(id),
        cluster: coracle_types::ClusterId {
            region: definition.id.region.clone(),
            name: coracle_types::ClusterName::default_cluster(),
        },
        task_definition: definition.id.clone(),
        group: TaskGroup::Family(definition.id.family.clone()),
        deployment: None,
        started_by: None,
        launch_type: LaunchType::Fargate,
        cpu: definition.reserved_cpu(),
        memory: definition.reserved_memory(),
        overrides: TaskOverride::default(),
        node: Some((NodeId(0xeee), 1)),
        desired_status: DesiredStatus::Running,
        last_status: LastStatus::Pending,
        stop: None,
        containers: containers.collect(),
        created_at: Timestamp(0),
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        protected_until: None,
        version: 1,
        targets: Vec::new(),
        tags: Default::default(),
        rest: Default::default(),
    }
}

pub(crate) fn assigned(generation: u64, tasks: Vec<AssignedTask>) -> Assigned {
    Assigned { generation, tasks }
}
