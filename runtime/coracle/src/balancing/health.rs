//! From what the router sees of targets to records.

use std::sync::Arc;
use std::time::Duration;

use coracle_control::target_link::{self, Draining, Registrations, news};
use coracle_router::{HealthReason, HealthSnapshot, HealthState, Router};
use coracle_store::{CommitError, Store};
use coracle_types::elb::{
    DrainedTarget, TargetHealth, TargetHealthReason, TargetHealthState, TargetObservation, TargetRef,
    TargetReport,
};
use coracle_types::{State, Timestamp};
use tokio::sync::watch;
use tokio::time::sleep;

use super::model::{Place, target_id};

/// How long a task that was registered may take to be there for the router before it counts as unhealthy.
const APPEARANCE: Duration = Duration::from_secs(10);
/// How long to wait before what could not be written is written again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Writes what the router sees of targets into their records, until the store or the router goes away.
/// `published` is the last revision of the state that the router has been told.
pub(crate) async fn run(
    router: Router,
    store: Arc<dyn Store>,
    mut published: watch::Receiver<u64>,
    place: Place,
    clock: impl Fn() -> Timestamp,
) {
    let mut health = router.target_health();
    loop {
        // Before the snapshots: what changes after them must wake this loop.
        let revision = *published.borrow_and_update();
        let seen = Arc::clone(&health.borrow_and_update());
        let state = store.snapshot();
        let looked = look(&state, &seen, revision, &place, clock());
        let mut pause = looked.again;
        if !looked.reports.is_empty() {
            match target_link::report(&*store, &looked.reports).await {
                Ok(()) | Err(CommitError::Conflict(_)) => {}
                Err(CommitError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "what the router saw of targets could not be written");
                    pause = Some(RETRY_AFTER);
                }
            }
        }
        let again = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = published.changed() => if changed.is_err() { return },
            changed = health.changed() => if changed.is_err() { return },
            () = again => {}
        }
    }
}

/// What one look found.
#[derive(Default)]
struct Look {
    reports: Vec<TargetReport>,
    /// When something may change by the passing of time alone.
    again: Option<Duration>,
}

/// Compares what the router sees with what the records say. Only of what was registered or deregistered up to
/// `revision` the router can know.
fn look(state: &State, seen: &HealthSnapshot, revision: u64, place: &Place, now: Timestamp) -> Look {
    let mut look = Look::default();
    let all = Registrations::of(state);
    for (target, known) in all.live {
        let id = target_id(&target);
        let group = place.id(target.group().clone());
        let Some((_, health)) = seen.group(&group).find(|(other, _)| **other == id) else { continue };
        // The router knows a target as stopped that is not there (yet).
        let is_absent = health.reason == Some(HealthReason::InvalidState);
        if is_absent && matches!(target, TargetRef::Task { .. }) {
            let waited = now.since(known.since);
            if known.state != TargetHealthState::Unhealthy && waited < APPEARANCE {
                look.again = Some(APPEARANCE.saturating_sub(waited).max(Duration::from_millis(1)));
                continue;
            }
        }
        let health = if is_absent { absent(now) } else { health_of(health, now) };
        if news(&known, &health) {
            look.reports.push(TargetReport::Health(TargetObservation { target, health }));
        }
    }
    for Draining { target, since: draining_since, revision: written } in all.draining {
        let id = target_id(&target);
        let group = place.id(target.group().clone());
        let is_there = seen.group(&group).any(|(other, _)| *other == id);
        if !is_there && written <= revision {
            look.reports.push(TargetReport::Drained(DrainedTarget { target, draining_since }));
        }
    }
    look
}

/// The health of a target whose task runs, but answers no requests.
fn absent(now: Timestamp) -> TargetHealth {
    TargetHealth {
        state: TargetHealthState::Unhealthy,
        reason: Some(TargetHealthReason::FailedHealthChecks),
        description: Some("Health checks failed: the container does not serve HTTP".to_owned()),
        since: now,
    }
}

fn health_of(health: &coracle_router::TargetHealth, now: Timestamp) -> TargetHealth {
    let state = match health.state {
        HealthState::Initial => TargetHealthState::Initial,
        HealthState::Healthy => TargetHealthState::Healthy,
        HealthState::Unhealthy => TargetHealthState::Unhealthy,
        HealthState::Unused => TargetHealthState::Unused,
        HealthState::Draining => TargetHealthState::Draining,
        HealthState::Unavailable => TargetHealthState::Unavailable,
    };
    let reason = health.reason.map(|reason| match reason {
        HealthReason::RegistrationInProgress => TargetHealthReason::RegistrationInProgress,
        HealthReason::InitialHealthChecking => TargetHealthReason::InitialHealthChecking,
        HealthReason::ResponseCodeMismatch => TargetHealthReason::ResponseCodeMismatch,
        HealthReason::Timeout => TargetHealthReason::Timeout,
        HealthReason::FailedHealthChecks => TargetHealthReason::FailedHealthChecks,
        HealthReason::NotInUse => TargetHealthReason::NotInUse,
        HealthReason::InvalidState => TargetHealthReason::InvalidState,
        HealthReason::DeregistrationInProgress => TargetHealthReason::DeregistrationInProgress,
        HealthReason::HealthCheckDisabled => TargetHealthReason::HealthCheckDisabled,
    });
    let description = Some(health.description.clone()).filter(|text| !text.is_empty());
    TargetHealth { state, reason, description, since: now }
}
