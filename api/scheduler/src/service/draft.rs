//! A service's record while it is being decided about: copied only when something changes.

use std::borrow::Cow;
use std::time::Duration;

use coracle_types::{
    Deployment, DeploymentStatus, Service, ServiceDeployment, ServiceEvent, State, Task, Timestamp,
};

use crate::plan::Pass;
use crate::reason::Reason;

/// An event is not said again within this time, unless the service was steady in between (ECS's 6
/// hours).
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(6 * 3600);

/// At most this many tasks are named in one event, so that a large service's events stay readable.
const MAX_TASKS_PER_EVENT: usize = 100;

/// A service, and the record of its deployment under way, that may be changed.
pub(super) struct Draft<'a> {
    service: Cow<'a, Service>,
    record: Option<Cow<'a, ServiceDeployment>>,
}

impl<'a> Draft<'a> {
    pub(super) fn of(state: &'a State, service: &'a Service) -> Self {
        let record = service.primary().and_then(|primary| primary.service_deployment.as_ref());
        let record = record.and_then(|id| state.service_deployments.get(id));
        Self { service: Cow::Borrowed(service), record: record.map(|found| Cow::Borrowed(&*found.value)) }
    }

    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// The service's record, to be changed.
    pub(super) fn edit(&mut self) -> &mut Service {
        self.service.to_mut()
    }

    /// The record of the PRIMARY deployment: None for one that began before there were such records.
    pub(super) fn record(&self) -> Option<&ServiceDeployment> {
        self.record.as_deref()
    }

    /// Changes the record of the PRIMARY deployment, if there is one that is not over.
    pub(super) fn edit_record(&mut self, now: Timestamp, change: impl FnOnce(&mut ServiceDeployment)) {
        if let Some(record) = self.record.as_mut().filter(|record| !record.status.is_over()) {
            let record = record.to_mut();
            change(record);
            record.updated_at = now;
        }
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
        if self.service.desired_count != desired {
            self.edit().desired_count = desired;
        }
        if self.service.primary().is_some_and(|primary| primary.desired_count != desired) {
            self.primary(now).desired_count = desired;
        }
    }

    pub(super) fn set_steady(&mut self, steady: bool) {
        if self.service.steady != steady {
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
        let gist = reason.gist();
        let steady = Reason::Steady { service: self.service.id.name.clone() }.to_string();
        let said = self
            .service
            .events
            .iter()
            .take_while(|event| event.message != steady)
            .take_while(|event| pass.now.since(event.created_at) < SAY_AGAIN_AFTER)
            .any(|event| event.message.starts_with(&gist));
        if !said {
            self.say(pass, reason);
        }
    }

    /// Says which tasks were stopped, and whose requests are being finished.
    pub(super) fn say_stopped(&mut self, pass: &mut Pass<'_>, tasks: &[&Task]) {
        let service = self.service.id.name.clone();
        let balanced = self
            .service
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
        super::targets::say_deregistered(pass, self, tasks);
        for some in tasks.chunks(MAX_TASKS_PER_EVENT) {
            let tasks = some.iter().map(|task| task.id).collect();
            self.say(pass, Reason::Stopped { service: service.clone(), tasks });
        }
    }

    /// Says which tasks were started.
    pub(super) fn say_started(&mut self, pass: &mut Pass<'_>, tasks: &[coracle_types::TaskId]) {
        let service = self.service.id.name.clone();
        for some in tasks.chunks(MAX_TASKS_PER_EVENT) {
            self.say(pass, Reason::Started { service: service.clone(), tasks: some.to_vec() });
        }
    }

    /// Adds the record to the plan, if it was changed.
    pub(super) fn finish(self, pass: &mut Pass<'_>) {
        if let Cow::Owned(service) = self.service {
            pass.put_service(service);
        }
        if let Some(Cow::Owned(record)) = self.record {
            pass.put_service_deployment(record);
        }
    }
}
