//! A service's tasks as targets of load balancers: which groups they are registered in, and what is said of it.
//!
//! Taking a task out again is part of stopping it ([`Task::stop`]); how targets are is what the router reports.

use coracle_types::elb::{TargetGroupId, TargetHealthState, TaskTarget};
use coracle_types::{DesiredStatus, LastStatus, Service, State, Task, Timestamp};

use super::Classified;
use super::draft::Draft;
use crate::plan::Pass;
use crate::reason::Reason;

/// The registrations a running task should have and has not. A task that has any is left as it is: what its
/// service was told since is for the tasks of the next deployment.
pub(super) fn missing(state: &State, service: &Service, task: &Task, now: Timestamp) -> Vec<TaskTarget> {
    let runs = task.last_status == LastStatus::Running && task.desired_status == DesiredStatus::Running;
    let Some(deployment) = task.deployment.filter(|_| runs && task.targets.is_empty()) else {
        return Vec::new();
    };
    let balancers = service.load_balancers_of(deployment).into_iter();
    let wanted = balancers.filter_map(|balancer| {
        let group = TargetGroupId::of_arn(&balancer.target_group)?;
        state.target_groups.get(&group)?;
        Some(TaskTarget::new(group, balancer.container_name.parse().ok()?, balancer.container_port, now))
    });
    wanted.collect()
}

/// Registers the tasks that run and are not registered yet.
pub(super) fn register(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let mut counts = Counts::default();
    for one in tasks {
        let wanted = missing(pass.state, draft.service(), one.task, pass.now);
        if wanted.is_empty() {
            continue;
        }
        wanted.iter().for_each(|target| counts.add(draft.service(), one.task, &target.group));
        let task = pass.edit_task(one.task);
        task.targets = wanted;
        task.version += 1;
    }
    let service = draft.service().id.name.clone();
    for (group, targets) in counts.0 {
        draft.say(pass, Reason::Registered { service: service.clone(), group, targets });
    }
}

/// Says what stopping these tasks, as they were before, takes out of which target groups.
pub(super) fn say_deregistered(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[&Task]) {
    let mut counts = Counts::default();
    for task in tasks {
        for target in task.targets.iter().filter(|target| target.draining_since.is_none()) {
            counts.add(draft.service(), task, &target.group);
        }
    }
    let service = draft.service().id.name.clone();
    for (group, targets) in counts.0 {
        draft.say(pass, Reason::Deregistered { service: service.clone(), group, targets });
    }
}

/// The target of a task that fails its checks: its group's ARN, its port, and why.
pub(super) fn unhealthy(service: &Service, task: &Task) -> Option<(String, u16, String)> {
    let is_unhealthy = |target: &&TaskTarget| {
        target.draining_since.is_none() && target.health.state == TargetHealthState::Unhealthy
    };
    let target = task.targets.iter().find(is_unhealthy)?;
    let why = target.health.description.clone().unwrap_or_else(|| "Health checks failed".to_owned());
    Some((arn(service, task, &target.group), target.port, why))
}

/// How a service's user writes a group.
fn arn(service: &Service, task: &Task, group: &TargetGroupId) -> String {
    let balancers =
        task.deployment.map(|deployment| service.load_balancers_of(deployment)).unwrap_or_default();
    let mut arns = balancers.into_iter().map(|balancer| balancer.target_group);
    arns.find(|arn| TargetGroupId::of_arn(arn).as_ref() == Some(group))
        .unwrap_or_else(|| group.name.to_string())
}

/// Targets by the ARN of their group, in the order they are met.
#[derive(Default)]
struct Counts(Vec<(String, usize)>);

impl Counts {
    fn add(&mut self, service: &Service, task: &Task, group: &TargetGroupId) {
        let arn = arn(service, task, group);
        match self.0.iter_mut().find(|(known, _)| *known == arn) {
            Some((_, count)) => *count += 1,
            None => self.0.push((arn, 1)),
        }
    }
}
