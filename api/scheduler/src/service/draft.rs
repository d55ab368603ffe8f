//! A service's record while it is being decided about: copied only when something changes.

use std::borrow::Cow;
use std::time::Duration;

use coracle_types::{Deployment, DeploymentStatus, Service, ServiceEvent, Task, Timestamp};

use crate::plan::Pass;
use crate::reason::Reason;

/// An event is not said again within this time, unless the service was steady in between (ECS's 6
/// hours).
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// At most this many tasks are named in one event, so that a large service's events stay readable.
const MAX_TASKS_PER_EVENT: usize = 100;

/// A service that may be changed.
pub(super) struct Draft<'a>(Cow<'a, Service>);

impl<'a> Draft<'a> {
    pub(super) fn of(service: &'a Service) -> Self {
        Self(Cow::Borrowed(service))
    }

    pub(super) fn service(&self) -> &Service {
        &self.0
    }

    /// The record, to be changed.
    pub(super) fn edit(&mut self) -> &mut Service {
        self.0.to_mut()
    }

    /// The PRIMARY deployment, to be changed.
    pub(super) fn primary(&mut self, now: Timestamp) -> &mut Deployment {
        let primary = self
            .edit()
            .deployments
            .iter_mut()
            .find(|one| one.status == DeploymentStatus::Primary)
            .expect("only services with a PRIMARY deployment get this far");
        primary.updated_at = now;
        primary
    }

    /// Notes how many tasks the service and its PRIMARY deployment mean.
    pub(super) fn set_desired(&mut self, desired: u32, now: Timestamp) {
        if self.0.desired_count != desired {
            self.edit().desired_count = desired;
        }
        if self.0.primary().is_some_and(|primary| primary.desired_count != desired) {
            self.primary(now).desired_count = desired;
        }
    }

    pub(super) fn set_steady(&mut self, steady: bool) {
        if self.0.steady != steady {
            self.edit().steady = steady;
        }
    }

    /// Adds an event.
    pub(super) fn say(&mut self, pass: &mut Pass<'_>, reason: Reason) {
        let event =
            ServiceEvent { id: pass.rng.event_id(), created_at: pass.now, message: reason.to_string() };
        self.edit().push_event(event);
        pass.reasons.push(reason);
    }

    /// Adds an event, unless it was said lately and nothing has got better since.
    pub(super) fn say_once(&mut self, pass: &mut Pass<'_>, reason: Reason) {
        let message = reason.to_string();
        let steady = Reason::Steady { service: self.0.id.name.clone() }.to_string();
        let said = self
            .0
            .events
            .iter()
            .take_while(|event| event.message != steady)
            .take_while(|event| pass.now.since(event.created_at) < SAY_AGAIN_AFTER)
            .any(|event| event.message == message);
        if !said {
            self.say(pass, reason);
        }
    }

    /// Says which tasks were stopped, and whose requests are being finished.
    pub(super) fn say_stopped(&mut self, pass: &mut Pass<'_>, tasks: &[&Task]) {
        let service = self.0.id.name.clone();
        let balanced = self
            .0
            .rest
            .get("loadBalancers")
            .and_then(|value| value.as_array())
            .is_some_and(|balancers| !balancers.is_empty());
        if balanced {
            let mut counts: Vec<(coracle_types::DeploymentId, usize)> = Vec::new();
            for deployment in tasks.iter().filter_map(|task| task.deployment) {
                match counts.iter_mut().find(|(id, _)| *id == deployment) {
                    Some((_, count)) => *count += 1,
                    None => counts.push((deployment, 1)),
                }
            }
            for (deployment, tasks) in counts {
                self.say(pass, Reason::BegunDraining { service: service.clone(), deployment, tasks });
            }
        }
        for some in tasks.chunks(MAX_TASKS_PER_EVENT) {
            let tasks = some.iter().map(|task| task.id).collect();
            self.say(pass, Reason::Stopped { service: service.clone(), tasks });
        }
    }

    /// Says which tasks were started.
    pub(super) fn say_started(&mut self, pass: &mut Pass<'_>, tasks: &[coracle_types::TaskId]) {
        let service = self.0.id.name.clone();
        for some in tasks.chunks(MAX_TASKS_PER_EVENT) {
            self.say(pass, Reason::Started { service: service.clone(), tasks: some.to_vec() });
        }
    }

    /// Adds the record to the plan, if it was changed.
    pub(super) fn finish(self, pass: &mut Pass<'_>) {
        if let Cow::Owned(service) = self.0 {
            pass.put_service(service);
        }
    }
}
