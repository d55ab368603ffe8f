//! New tasks, the same whether RunTask or a service wants one.

use coracle_types::{
    ClusterId, Container, ContainerDefinition, ContainerOverride, ContainerStatus, DeploymentId,
    DesiredStatus, HealthStatus, JsonMap, LastStatus, LaunchType, NodeId, Tags, Task, TaskDefinition,
    TaskGroup, TaskId, TaskOverride, Timestamp, task_definition::DEFAULT_MEMORY_MIB,
};

use crate::rng::PlanRng;

/// What a new task does not take from its definition.
#[derive(Clone, Debug)]
pub struct NewTask {
    /// Its id, from [`PlanRng::task_id`].
    pub id: TaskId,
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What it belongs to.
    pub group: TaskGroup,
    /// The deployment that starts it, for a service's task.
    pub deployment: Option<DeploymentId>,
    /// `startedBy`.
    pub started_by: Option<String>,
    /// How its CPU units are meant.
    pub launch_type: LaunchType,
    /// What is changed of the definition.
    pub overrides: TaskOverride,
    /// All of its tags, propagated ones included.
    pub tags: Tags,
    /// Members kept as sent.
    pub rest: JsonMap,
}

/// A task of `definition` that was accepted at `now`: PROVISIONING, on no node yet. What it reserves is
/// in its `cpu` and `memory`, overrides included.
#[must_use]
pub fn new_task(definition: &TaskDefinition, new: NewTask, now: Timestamp, rng: &mut PlanRng) -> Task {
    let containers: Vec<Container> = definition
        .containers
        .iter()
        .map(|container| new_container(container, override_of(container, &new.overrides), rng))
        .collect();
    let cpu =
        new.overrides.cpu.or(definition.cpu).unwrap_or_else(|| {
            containers.iter().fold(0u32, |sum, container| sum.saturating_add(container.cpu))
        });
    let memory = new.overrides.memory.or(definition.memory).unwrap_or_else(|| {
        containers.iter().fold(0u32, |sum, container| {
            let one = container.memory_reservation.or(container.memory).unwrap_or(DEFAULT_MEMORY_MIB);
            sum.saturating_add(one)
        })
    });
    Task {
        id: new.id,
        cluster: new.cluster,
        task_definition: definition.id.clone(),
        group: new.group,
        deployment: new.deployment,
        started_by: new.started_by,
        launch_type: new.launch_type,
        cpu,
        memory,
        overrides: new.overrides,
        node: None,
        desired_status: DesiredStatus::Running,
        last_status: LastStatus::Provisioning,
        stop: None,
        containers,
        created_at: now,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        protected_until: None,
        version: 1,
        targets: Vec::new(),
        tags: new.tags,
        rest: new.rest,
    }
}

fn override_of<'a>(
    container: &ContainerDefinition,
    overrides: &'a TaskOverride,
) -> Option<&'a ContainerOverride> {
    overrides.containers.iter().find(|one| one.name.as_ref() == Some(&container.name))
}

fn new_container(
    definition: &ContainerDefinition,
    change: Option<&ContainerOverride>,
    rng: &mut PlanRng,
) -> Container {
    Container {
        id: rng.container_id(),
        name: definition.name.clone(),
        image: definition.image.clone(),
        essential: definition.essential,
        has_health_check: definition.health_check.is_some(),
        status: ContainerStatus::Pending,
        exit_code: None,
        reason: None,
        health: HealthStatus::Unknown,
        image_digest: None,
        runtime_id: None,
        cpu: change.and_then(|change| change.cpu).unwrap_or(definition.cpu),
        memory: change.and_then(|change| change.memory).or(definition.memory),
        memory_reservation: change
            .and_then(|change| change.memory_reservation)
            .or(definition.memory_reservation),
    }
}

/// Assigns a task to a node and its incarnation: PENDING from now on.
pub fn assign(task: &mut Task, node: (NodeId, u64)) {
    task.node = Some(node);
    task.last_status = task.last_status.max(LastStatus::Pending);
    task.version += 1;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::{cluster, definition};

    fn made(definition: &TaskDefinition, overrides: TaskOverride) -> Task {
        let mut rng = PlanRng::new(3);
        let new = NewTask {
            id: rng.task_id(),
            cluster: cluster(),
            group: TaskGroup::Custom("batch".to_owned()),
            deployment: None,
            started_by: Some("me".to_owned()),
            launch_type: LaunchType::Fargate,
            overrides,
            tags: Tags::default(),
            rest: JsonMap::new(),
        };
        new_task(definition, new, Timestamp(5), &mut rng)
    }

    #[test]
    fn a_task_level_size_is_what_is_reserved() {
        let task = made(&definition(1), TaskOverride::default());
        assert_eq!((task.cpu, task.memory), (100, 100));
        assert_eq!((task.last_status, task.node, task.version), (LastStatus::Provisioning, None, 1));
        let overrides = TaskOverride { cpu: Some(7), memory: Some(8), ..TaskOverride::default() };
        let task = made(&definition(1), overrides);
        assert_eq!((task.cpu, task.memory), (7, 8));
    }

    #[test]
    fn without_one_it_is_the_sum_of_the_containers_overrides_included() {
        let mut two = definition(1);
        two.cpu = None;
        two.memory = None;
        let mut second = two.containers[0].clone();
        second.name = "sidecar".parse().unwrap();
        second.memory_reservation = None;
        two.containers.push(second);
        let task = made(&two, TaskOverride::default());
        assert_eq!((task.cpu, task.memory), (20, 50 + DEFAULT_MEMORY_MIB));
        assert_eq!((task.cpu, task.memory), (two.reserved_cpu(), two.reserved_memory()));

        let change = ContainerOverride {
            name: Some("sidecar".parse().unwrap()),
            cpu: Some(100),
            memory: Some(30),
            ..ContainerOverride::default()
        };
        let task = made(&two, TaskOverride { containers: vec![change], ..TaskOverride::default() });
        assert_eq!((task.cpu, task.memory), (110, 80));
        assert_eq!((task.containers[1].cpu, task.containers[1].memory), (100, Some(30)));
        assert_ne!(task.containers[0].id, task.containers[1].id);
    }

    #[test]
    fn assigning_makes_it_pending() {
        let mut task = made(&definition(1), TaskOverride::default());
        assign(&mut task, (NodeId(1), 4));
        assert_eq!(
            (task.last_status, task.node, task.version),
            (LastStatus::Pending, Some((NodeId(1), 4)), 2)
        );
    }
}
