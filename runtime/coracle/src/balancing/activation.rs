//! Scale to zero: a request for a service without tasks starts one, and a service nobody asks goes down to
//! none.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use coracle_control::activation::{activate, deactivate};
use coracle_router::{Router, Slot};
use coracle_store::Store;
use coracle_types::elb::TargetGroupId;
use coracle_types::{EventId, Service, ServiceId, State, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often idle services are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How busy services are.
#[derive(Default)]
pub(crate) struct Activity(Mutex<HashMap<ServiceId, OfService>>);

#[derive(Default)]
struct OfService {
    calls: Arc<AtomicU64>,
    slots: Vec<Weak<Slot>>,
}

impl Activity {
    /// What counts the calls of a service.
    pub(crate) fn calls(&self, service: &ServiceId) -> Arc<AtomicU64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&all.entry(service.clone()).or_default().calls)
    }

    /// Adds a slot of a service.
    pub(crate) fn add(&self, service: &ServiceId, slot: &Arc<Slot>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slots = &mut all.entry(service.clone()).or_default().slots;
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(slot));
    }

    /// How many calls there were, and whether there are any now. A service that nobody can answer for yet is
    /// busy: its first request waits.
    fn look(&self, service: &ServiceId) -> (u64, bool) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(one) = all.get(service) else { return (0, true) };
        let mut slots = one.slots.iter().filter_map(Weak::upgrade).peekable();
        let busy = slots.peek().is_none() || slots.any(|slot| slot.in_flight() > 0);
        (one.calls.load(Ordering::Relaxed), busy)
    }

    fn forget(&self, is_there: impl Fn(&ServiceId) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|service, _| is_there(service));
    }
}

/// The services a request for `what` means: what the router calls a target group or a service.
fn services(state: &State, what: &str) -> Vec<ServiceId> {
    let group = TargetGroupId::of_arn(what);
    let is_meant = |service: &Service| match &group {
        Some(group) => groups_of(service).contains(group),
        None => {
            let id = &service.id;
            what == format!("{}/{}/{}", id.cluster.region, id.cluster.name, id.name)
        }
    };
    state
        .services
        .values()
        .filter(|found| is_meant(&found.value))
        .map(|found| found.value.id.clone())
        .collect()
}

/// The target groups whose requests are for this service.
pub(crate) fn groups_of(service: &Service) -> Vec<TargetGroupId> {
    let Some(primary) = service.primary() else { return Vec::new() };
    let balancers = service.load_balancers_of(primary.id).into_iter();
    balancers.filter_map(|balancer| TargetGroupId::of_arn(&balancer.target_group)).collect()
}

/// When a service was last seen busy.
struct Seen {
    calls: u64,
    at: Instant,
}

/// Follows requests until the router goes away.
pub(crate) async fn run(
    router: Router,
    store: Arc<dyn Store>,
    activity: Arc<Activity>,
    clock: impl Fn() -> Timestamp,
) {
    let Some(mut wanted) = router.activations() else { return };
    let mut seen: HashMap<ServiceId, Seen> = HashMap::new();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            what = wanted.recv() => {
                let Some(what) = what else { return };
                for service in services(&store.snapshot(), &what) {
                    match activate(&*store, &service, EventId(rand::random()), clock()).await {
                        Ok(true) => tracing::info!(service = %service.name, "a request starts its first task"),
                        Ok(false) => {}
                        Err(error) => tracing::error!(service = %service.name, %error, "could not be activated"),
                    }
                }
            }
            _ = look.tick() => {
                let state = store.snapshot();
                for service in idle(&state, &activity, &mut seen, Instant::now()) {
                    match deactivate(&*store, &service, EventId(rand::random()), clock()).await {
                        Ok(true) => tracing::info!(service = %service.name, "nobody asks for it: no task is kept"),
                        Ok(false) => {}
                        Err(error) => tracing::error!(service = %service.name, %error, "could not be scaled to 0"),
                    }
                }
            }
        }
    }
}

/// The services whose idle time is over.
fn idle(
    state: &State,
    activity: &Activity,
    seen: &mut HashMap<ServiceId, Seen>,
    now: Instant,
) -> Vec<ServiceId> {
    activity.forget(|service| state.services.contains_key(service));
    let mut idle = Vec::new();
    let mut kept = HashMap::new();
    for service in
        state.services.values().map(|found| &found.value).filter(|service| service.desired_count > 0)
    {
        let Some(limit) = service.activation().and_then(|activation| activation.idle) else { continue };
        let (calls, busy) = activity.look(&service.id);
        let last = seen.remove(&service.id).filter(|last| last.calls == calls && !busy);
        let last = last.unwrap_or(Seen { calls, at: now });
        if now.duration_since(last.at) >= limit {
            idle.push(service.id.clone());
        } else {
            kept.insert(service.id.clone(), last);
        }
    }
    *seen = kept;
    idle
}
