//! What a service's task counts as.

use std::time::Duration;

use coracle_types::elb::TargetHealthState;
use coracle_types::{DesiredStatus, HealthCheck, HealthStatus, LastStatus, State, Task, Timestamp};

/// Health that is still UNKNOWN after this long is not waited for any longer, however patient the check.
const UNKNOWN_HEALTH_MAX: Duration = Duration::from_secs(600);

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
    /// It is RUNNING; its health check has yet to pass.
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
    // Has a check that has not passed, and may still pass or fail.
    (|task, context| context.settles_at(task).is_some_and(|at| context.now < at), Phase::Settling),
    (|_, _| true, Phase::Ready),
];

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
        target.max(self.check_settles_at(task))
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
            Phase::Settling => self.settles_at(task).filter(|at| *at < Timestamp(i64::MAX)),
            _ => None,
        }
    }
}

/// How long a check takes to find a container unhealthy that never was healthy.
fn time_to_fail(check: &HealthCheck) -> Duration {
    let each = u64::from(check.interval_s) + u64::from(check.timeout_s);
    Duration::from_secs(u64::from(check.start_period_s) + each * u64::from(check.retries))
}
