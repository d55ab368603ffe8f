//! What a service's task counts as.

use std::time::Duration;

use coracle_types::elb::TargetHealthState;
use coracle_types::{
    DeploymentId, DesiredStatus, HealthCheck, HealthStatus, LastStatus, Service, ServiceStatus, State, Task,
    Timestamp,
};

/// Health that is still UNKNOWN after this long is not waited for any longer, however patient the check.
const UNKNOWN_HEALTH_MAX: Duration = Duration::from_secs(600);

/// How long a task nobody checks has to have run before an older one goes because of it.
///
/// ECS waits for 40 seconds, because a container may take that long to find out that it can't do its work. A
/// component's start takes microseconds, and what fails at its start has failed within the second; but without any
/// wait, a deployment of something that crashes at once would have taken the tasks that worked with it. Only a
/// deployment that replaces another waits, so that nothing else does.
pub(crate) const PROVES_ITSELF_AFTER: Duration = Duration::from_secs(1);

/// What a task counts as, when its service is reconciled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// It is over.
    Stopped,
    /// It was told to stop, or is stopping by itself. It does not count towards what is desired.
    Leaving,
    /// Its health check failed: to be replaced.
    Unhealthy,
    /// It is on its way to RUNNING.
    Starting,
    /// It is RUNNING; its health check has yet to pass, or, without one, it has yet to run for a moment.
    Settling,
    /// It is RUNNING, and healthy where there is a check.
    Ready,
}

impl Phase {
    /// Whether it counts towards what is desired.
    pub(crate) fn counts(self) -> bool {
        self >= Self::Starting
    }
}

/// What the rules know besides the task.
pub(crate) struct Context<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
    /// `healthCheckGracePeriodSeconds`: how long after its start an UNHEALTHY task is left alone.
    pub(crate) grace: Duration,
    /// The deployment that is to replace an older one.
    pub(crate) replacing: Option<DeploymentId>,
}

type Rule = (fn(&Task, &Context<'_>) -> bool, Phase);

/// Evaluated in order; the first that holds decides.
const RULES: [Rule; 7] = [
    // What is over stays over.
    (|task, _| task.last_status == LastStatus::Stopped, Phase::Stopped),
    // Told to stop, or past RUNNING by itself: nothing brings it back.
    (
        |task, _| task.desired_status == DesiredStatus::Stopped || task.last_status > LastStatus::Running,
        Phase::Leaving,
    ),
    // Failed its check, and the grace period is over.
    (
        |task, context| task.health() == HealthStatus::Unhealthy && context.now >= context.grace_end(task),
        Phase::Unhealthy,
    ),
    // Fails the checks of a target group, likewise.
    (
        |task, context| {
            task.target_health() == Some(TargetHealthState::Unhealthy)
                && context.now >= context.grace_end(task)
        },
        Phase::Unhealthy,
    ),
    (|task, _| task.last_status < LastStatus::Running, Phase::Starting),
    // Has a check that has not passed, and may still pass or fail; or has only just started.
    (|task, context| context.settles_at(task).is_some_and(|at| context.now < at), Phase::Settling),
    (|_, _| true, Phase::Ready),
];

/// The deployment of a service that is to replace an older one, if there is one.
pub(crate) fn replacing(service: &Service) -> Option<DeploymentId> {
    let several = service.deployments.len() > 1 && service.status == ServiceStatus::Active;
    service.primary().filter(|_| several).map(|primary| primary.id)
}

impl Context<'_> {
    pub(crate) fn classify(&self, task: &Task) -> Phase {
        RULES.iter().find(|(holds, _)| holds(task, self)).map_or(Phase::Ready, |(_, phase)| *phase)
    }

    fn grace_end(&self, task: &Task) -> Timestamp {
        task.started_at.unwrap_or(task.created_at).after(self.grace)
    }

    /// Until when a task may still become healthy by its own checks and those of its target groups: None for
    /// one that is.
    fn settles_at(&self, task: &Task) -> Option<Timestamp> {
        let target = match task.target_health() {
            Some(TargetHealthState::Initial | TargetHealthState::Unhealthy) => Some(Timestamp(i64::MAX)),
            // Nobody checks what nobody uses.
            _ => None,
        };
        target.max(self.check_settles_at(task)).max(self.proves_itself_at(task))
    }

    /// Until when a task that takes an older one's place, and that neither a health check nor a target group looks
    /// at, may still turn out to crash at its start.
    fn proves_itself_at(&self, task: &Task) -> Option<Timestamp> {
        let replaces = task.deployment.is_some() && task.deployment == self.replacing;
        let checked = task.containers.iter().any(|one| one.essential && one.has_health_check)
            || task.target_health().is_some();
        task.started_at.filter(|_| replaces && !checked).map(|at| at.after(PROVES_ITSELF_AFTER))
    }

    /// Until when a task that is not HEALTHY may still become it: None for one that is, or has no
    /// check. A check nobody can run leaves health UNKNOWN for ever, so UNKNOWN counts as good once the
    /// check would have had the time to fail; UNHEALTHY is good only within the grace period.
    fn check_settles_at(&self, task: &Task) -> Option<Timestamp> {
        match task.health() {
            HealthStatus::Healthy => None,
            HealthStatus::Unhealthy => Some(Timestamp(i64::MAX)),
            HealthStatus::Unknown => {
                let mut checked = task.containers.iter().filter(|one| one.essential && one.has_health_check);
                checked.next()?;
                let definition = self.state.task_definitions.get(&task.task_definition)?;
                let patience = definition
                    .value
                    .containers
                    .iter()
                    .filter(|container| container.essential)
                    .filter_map(|container| container.health_check.as_ref())
                    .map(time_to_fail)
                    .max()?;
                Some(task.started_at.unwrap_or(task.created_at).after(patience.min(UNKNOWN_HEALTH_MAX)))
            }
        }
    }

    /// When the phase changes by the passing of time alone.
    pub(crate) fn changes_at(&self, task: &Task, phase: Phase) -> Option<Timestamp> {
        match phase {
            Phase::Settling
                if task.health() == HealthStatus::Unhealthy
                    || task.target_health() == Some(TargetHealthState::Unhealthy) =>
            {
                Some(self.grace_end(task))
            }
            Phase::Settling => self.settles_at(task).filter(|at| *at > self.now && *at < Timestamp(i64::MAX)),
            _ => None,
        }
    }
}

/// How long a check takes to find a container unhealthy that never was healthy.
fn time_to_fail(check: &HealthCheck) -> Duration {
    let each = u64::from(check.interval_s) + u64::from(check.timeout_s);
    Duration::from_secs(u64::from(check.start_period_s) + each * u64::from(check.retries))
}
