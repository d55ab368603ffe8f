//! Where new ids come from.

use coracle_types::{
    ContainerId, DeploymentId, EventId, ServiceDeploymentKey, ServiceRevisionNumber, TaskId,
};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Makes ids, each kind from a stream of its own, so that one more event does not change the id of
/// every task after it.
///
/// The same seed gives the same ids again: outside tests, give each process another one.
#[derive(Clone, Debug)]
pub struct PlanRng {
    tasks: StdRng,
    /// The second half of the next task's id.
    next_task: u64,
    containers: StdRng,
    events: StdRng,
    deployments: StdRng,
    records: StdRng,
    choices: StdRng,
}

impl PlanRng {
    /// The streams of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // A new kind of id goes last here, or it changes the others'.
        let mut root = StdRng::seed_from_u64(seed);
        let mut stream = || StdRng::from_rng(&mut root);
        let mut tasks = stream();
        Self {
            next_task: tasks.random(),
            tasks,
            containers: stream(),
            events: stream(),
            deployments: stream(),
            records: stream(),
            choices: stream(),
        }
    }

    /// A task id: the next one after the one before.
    pub fn task_id(&mut self) -> TaskId {
        let id = TaskId::from_halves(self.tasks.random(), self.next_task);
        self.next_task = self.next_task.wrapping_add(1);
        id
    }

    /// A container id.
    pub fn container_id(&mut self) -> ContainerId {
        ContainerId(self.containers.random())
    }

    /// The id of a service event.
    pub fn event_id(&mut self) -> EventId {
        EventId(self.events.random())
    }

    /// A deployment id.
    pub fn deployment_id(&mut self) -> DeploymentId {
        DeploymentId::from_random(self.deployments.random())
    }

    /// The last part of a service deployment's id.
    pub fn service_deployment_key(&mut self) -> ServiceDeploymentKey {
        ServiceDeploymentKey::from_random(self.records.random())
    }

    /// The last part of a service revision's id.
    pub fn revision_number(&mut self) -> ServiceRevisionNumber {
        ServiceRevisionNumber::from_random(self.records.random())
    }

    /// A number that decides among equals.
    pub(crate) fn choice(&mut self) -> u64 {
        self.choices.random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_do_not_disturb_each_other() {
        let (mut a, mut b) = (PlanRng::new(7), PlanRng::new(7));
        a.event_id();
        a.container_id();
        assert_eq!(a.task_id(), b.task_id());
        assert_ne!(a.task_id(), PlanRng::new(8).task_id());
    }
}
