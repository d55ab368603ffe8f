//! Alarms that end deployments: `deploymentConfiguration.alarms`.
//!
//! Who evaluates alarms is not known here: their states are records like others. A deployment is watched until it is
//! done, which is not before its alarms had the time to see what it did: a rolling one bakes for as long as the
//! farthest-looking of them looks back, and one period longer, because the first may have been half over.

use std::time::Duration;

use coracle_types::alarm::AlarmState;
use coracle_types::{Alarm, DeploymentAlarms, MonitorStatus, Service, ServiceDeployment, ServiceId, State};

/// No deployment bakes for longer than this, however far its alarms look back.
const BAKE_MAX: Duration = Duration::from_secs(3600);

/// The names of those alarms that are in ALARM.
pub(crate) fn gone_off(state: &State, service: &Service, alarms: &DeploymentAlarms) -> Vec<String> {
    let named = state.alarms_named(&service.id.cluster.region, &alarms.names);
    named.filter(|alarm| alarm.state == AlarmState::Alarm).map(|alarm| alarm.id.name.clone()).collect()
}

/// How long a rolling deployment is watched once all of its tasks are ready.
pub(crate) fn bake_time(state: &State, service: &Service, record: &ServiceDeployment) -> Duration {
    if record.alarms != MonitorStatus::Monitoring || record.rollback.is_some() {
        return Duration::ZERO;
    }
    let names = record.configuration.alarms().names;
    state.alarms_look_back(&service.id.cluster.region, &names).min(BAKE_MAX)
}

/// The services that watch an alarm.
pub(crate) fn watched_by<'a>(state: &'a State, alarm: &'a Alarm) -> impl Iterator<Item = &'a ServiceId> {
    let services = state.services.values().map(|found| &*found.value);
    let watching = services.filter(|service| {
        let alarms = service.deployment_configuration.alarms();
        service.id.cluster.region == alarm.id.region && alarms.enable && alarms.names.contains(&alarm.id.name)
    });
    watching.map(|service| &service.id)
}
