//! Services that follow their requests: from no task to one, and back when nobody asks.

use std::convert::Infallible;

use coracle_store::{CommitError, Store, TransactError, transact};
use coracle_types::{Changes, EventId, Service, ServiceEvent, ServiceId, State, Timestamp};

/// Gives a service that has no tasks and may be activated its first one. Says whether it did.
///
/// # Errors
/// What the store refuses.
pub async fn activate(
    store: &dyn Store,
    id: &ServiceId,
    event: EventId,
    now: Timestamp,
) -> Result<bool, CommitError> {
    let text = "has started its first task because a request came in (tag coracle.activate).";
    scale(store, id, event, now, text, |service| service.desired_count == 0, 1).await
}

/// Takes a service that may be activated down to no tasks. Says whether it did.
///
/// # Errors
/// What the store refuses.
pub async fn deactivate(
    store: &dyn Store,
    id: &ServiceId,
    event: EventId,
    now: Timestamp,
) -> Result<bool, CommitError> {
    let text = "has been scaled to 0 tasks because no request came in (tag coracle.activate).";
    scale(store, id, event, now, text, |service| service.desired_count > 0, 0).await
}

async fn scale(
    store: &dyn Store,
    id: &ServiceId,
    event: EventId,
    now: Timestamp,
    text: &str,
    applies: impl Fn(&Service) -> bool,
    desired_count: u32,
) -> Result<bool, CommitError> {
    let scaled = transact(store, |state: &State| {
        let mut changes = Changes::new();
        let found = state.services.get(id).map(|found| &found.value);
        let Some(service) = found.filter(|service| service.activation().is_some() && applies(service)) else {
            return Ok::<_, Infallible>((changes, false));
        };
        let mut service = Service::clone(service);
        service.scale(desired_count, now);
        let message = format!("(service {}) {text}", id.name);
        service.push_event(ServiceEvent { id: event, created_at: now, message });
        changes.put(service);
        Ok((changes, true))
    })
    .await;
    match scaled {
        Ok((_, did)) => Ok(did),
        Err(TransactError::Store(error)) => Err(error),
        Err(TransactError::Refused(never)) => match never {},
    }
}
