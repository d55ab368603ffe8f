//! What is known of one target group: its targets, how their checks went, who of them drains or is ejected,
//! and what requests may see of that. Pure but for the counters of targets; time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::checks::{Checks, Outcome};
use super::choose::Choices;
use super::{Group, GroupRoute, Member};
use crate::http_target::{HttpTarget, HttpTargetConfig};
use crate::metrics::{HostCounts, Metrics, Series};
use crate::model::{
    Backend, HealthCheck, HealthReason, HealthState, LoadBalancer, Minimum, OutlierEjection, TargetGroup,
    TargetHealth, TargetId,
};
use crate::sticky::CookieKey;
use crate::target::Slot;

/// How often draining targets are looked at to see whether they have finished.
const DRAIN_TICK: Duration = Duration::from_millis(50);

/// Longest time a target is ejected, however often it was before, and the time after which that is
/// forgotten.
const MAX_EJECTION: Duration = Duration::from_secs(300);

/// A target group's keeper.
pub(crate) struct Keeper {
    group: Arc<Group>,
    key: CookieKey,
    config: Arc<TargetGroup>,
    user: Option<User>,
    targets: BTreeMap<TargetId, Kept>,
    /// What was told of the targets' health; none if that is out of date.
    told: Option<Arc<BTreeMap<TargetId, TargetHealth>>>,
}

/// The load balancer that forwards to a group, and what is counted of that.
struct User {
    /// Its ARN.
    id: String,
    series: Arc<Series>,
    hosts: HostCounts,
}

/// A target that is registered, or was.
struct Kept {
    backend: Backend,
    /// None if there is nothing to reach.
    reached: Option<Reached>,
    /// Until when it may finish what it has; none while it is registered.
    draining_until: Option<Instant>,
}

/// A target there is a way to.
struct Reached {
    member: Arc<Member>,
    /// Where checks go.
    checked: Arc<Slot>,
    checks: Checks,
    /// Since when its share of the traffic grows.
    ramp: Option<Instant>,
    ejected_until: Option<Instant>,
    /// How often it was ejected, and when the last time is over.
    ejections: u32,
    last_ejection: Option<Instant>,
}

/// A health check that is to be done now.
pub(crate) struct Check {
    pub(crate) group: String,
    pub(crate) target: TargetId,
    /// Where to send it; tells as well whether the target is still the same when the result is there.
    pub(crate) slot: Arc<Slot>,
    pub(crate) how: HealthCheck,
}

impl Keeper {
    pub(crate) fn new(config: &TargetGroup, key: &CookieKey) -> Self {
        Self {
            group: Group::new(config.id.clone(), key.fingerprint(&config.id, "")),
            key: key.clone(),
            config: Arc::new(TargetGroup { targets: Vec::new(), ..config.clone() }),
            user: None,
            targets: BTreeMap::new(),
            told: None,
        }
    }

    /// Takes a new configuration; `user` is the load balancer that forwards to the group. Targets that are
    /// no longer listed begin to drain. Whether anything has changed.
    pub(crate) fn configure(
        &mut self,
        config: impl Into<Arc<TargetGroup>>,
        user: Option<&LoadBalancer>,
        metrics: &Metrics,
        now: Instant,
    ) -> bool {
        let config = config.into();
        let is_same = Arc::ptr_eq(&self.config, &config) || self.config == config;
        if is_same && self.user.as_ref().map(|user| &user.id) == user.map(|user| &user.id) {
            return self.advance(now);
        }
        self.told = None;
        if self.user.as_ref().map(|user| &user.id) != user.map(|user| &user.id) {
            self.drop_series();
            self.user = user.map(|user| User {
                id: user.id.clone(),
                series: metrics.target_group(user, &config.name, &config.id),
                hosts: metrics.hosts(&user.id, &config.id),
            });
            // In ELBv2's words the targets are registered with the load balancer only now.
            self.each_reached(|reached| reached.checks = Checks::new(now));
        }
        let is_reached_alike = (config.protocol, config.tls, config.health_check.port)
            == (self.config.protocol, self.config.tls, self.config.health_check.port);
        let before = std::mem::replace(&mut self.config, config);
        if before.health_check != self.config.health_check {
            self.each_reached(|reached| reached.checks.hurry(now));
        }
        let mut listed: BTreeMap<TargetId, Backend> =
            self.config.targets.iter().map(|target| (target.id.clone(), target.backend.clone())).collect();
        let until = now + self.config.attributes.deregistration_delay;
        let mut renewed = Vec::new();
        for (id, kept) in &mut self.targets {
            match listed.remove(id) {
                Some(backend) => {
                    let is_same = backend == kept.backend
                        && (is_reached_alike || !matches!(backend, Backend::Address(_)));
                    if !is_same || kept.draining_until.is_some() {
                        renewed.push((id.clone(), backend));
                    }
                }
                None => kept.drain(until),
            }
        }
        for (id, backend) in renewed.into_iter().chain(listed) {
            let kept = self.register(&id, backend, now);
            self.targets.insert(id, kept);
        }
        self.advance(now);
        true
    }

    fn register(&self, id: &TargetId, backend: Backend, now: Instant) -> Kept {
        let slots = match &backend {
            Backend::InProcess(slot) => Some((Arc::clone(slot), Arc::clone(slot))),
            Backend::Address(address) => {
                let slot = |port: u16| {
                    let address = (address.ip(), port).into();
                    let (protocol, tls) = (self.config.protocol, self.config.tls);
                    let config = HttpTargetConfig { protocol, tls, ..HttpTargetConfig::new(address) };
                    Slot::new(address.to_string(), Arc::new(HttpTarget::new(config)))
                };
                let served = slot(address.port());
                let checked = match self.config.health_check.port {
                    Some(port) if port != address.port() => slot(port),
                    _ => Arc::clone(&served),
                };
                Some((served, checked))
            }
            Backend::Stopped => None,
        };
        let fingerprint = self.key.fingerprint(&self.group.id, &id.to_string());
        let reached = slots.map(|(slot, checked)| Reached {
            member: Member::new(id.clone(), slot, fingerprint),
            checked,
            checks: Checks::new(now),
            ramp: None,
            ejected_until: None,
            ejections: 0,
            last_ejection: None,
        });
        Kept { backend, reached, draining_until: None }
    }

    fn each_reached(&mut self, change: impl FnMut(&mut Reached)) {
        self.targets.values_mut().filter_map(|kept| kept.reached.as_mut()).for_each(change);
    }

    /// Whether any listener forwards to the group.
    fn is_used(&self) -> bool {
        self.user.is_some()
    }

    /// The group was deleted.
    pub(crate) fn retire(mut self, now: Instant) {
        self.drop_series();
        self.targets.values_mut().for_each(|kept| kept.drain(now));
    }

    fn drop_series(&mut self) {
        if let Some(user) = self.user.take() {
            user.series.retire();
        }
    }

    /// Does what is due by now: forgets targets that have drained, takes back those whose ejection or slow
    /// start is over. Whether anything has changed.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        let before = self.targets.len();
        self.targets.retain(|_, kept| kept.draining_until.is_none_or(|until| until > now && kept.is_busy()));
        let mut has_changed = self.targets.len() < before;
        let slow_start = self.config.attributes.slow_start;
        self.each_reached(|reached| {
            let ejection_is_over = reached.ejected_until.is_some_and(|until| until <= now);
            let ramp_is_over = reached.ramp.is_some_and(|since| since + slow_start <= now);
            if ejection_is_over {
                reached.ejected_until = None;
                reached.member.failures.store(0, Ordering::Relaxed);
            }
            if ramp_is_over {
                reached.ramp = None;
            }
            has_changed |= ejection_is_over || ramp_is_over;
        });
        if has_changed {
            self.told = None;
        }
        has_changed
    }

    /// When there is something to do next: a check, or for [`Self::advance`].
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        let is_checked = self.is_checked();
        let slow_start = self.config.attributes.slow_start;
        self.targets
            .values()
            .flat_map(|kept| {
                let drained = kept.draining_until.map(|until| until.min(now + DRAIN_TICK));
                let reached = kept.reached.as_ref().filter(|_| kept.draining_until.is_none());
                let (check, ejection, ramp) = reached.map_or((None, None, None), |reached| {
                    let check = reached.checks.next_at().filter(|_| is_checked);
                    (check, reached.ejected_until, reached.ramp.map(|since| since + slow_start))
                });
                [drained, check, ejection, ramp]
            })
            .flatten()
            .min()
    }

    fn is_checked(&self) -> bool {
        self.is_used() && self.config.health_check.is_enabled
    }

    /// Begins the checks that are due.
    pub(crate) fn begin_checks(&mut self, now: Instant) -> Vec<Check> {
        if !self.is_checked() {
            return Vec::new();
        }
        let (group, how) = (&self.config.id, &self.config.health_check);
        let registered = self.targets.iter_mut().filter(|(_, kept)| kept.draining_until.is_none());
        registered
            .filter_map(|(id, kept)| Some((id, kept.reached.as_mut()?)))
            .filter(|(_, reached)| reached.checks.next_at().is_some_and(|at| at <= now))
            .map(|(id, reached)| {
                reached.checks.begin();
                let slot = Arc::clone(&reached.checked);
                Check { group: group.clone(), target: id.clone(), slot, how: how.clone() }
            })
            .collect()
    }

    /// Takes the result of a check. Whether requests are to see another route; what is told of the
    /// target's health may change in any case.
    pub(crate) fn checked(&mut self, check: &Check, outcome: Outcome, now: Instant) -> bool {
        // A new target starts slowly where another is at full speed already.
        let starts_slowly = !self.config.attributes.slow_start.is_zero()
            && self.reached().any(|other| other.is_healthy() && other.ramp.is_none());
        let kept = self.targets.get_mut(&check.target).filter(|kept| kept.draining_until.is_none());
        let Some(reached) = kept.and_then(|kept| kept.reached.as_mut()) else { return false };
        if !Arc::ptr_eq(&reached.checked, &check.slot) {
            return false;
        }
        let was_unknown = reached.checks.is_unknown();
        let reason = reached.checks.reason();
        let has_changed = reached.checks.record(outcome, &self.config.health_check, now);
        if has_changed {
            let why = reached.checks.reason().map(|(_, why)| why).unwrap_or_default();
            let state = reached.checks.state().as_str();
            tracing::info!(group = self.config.name, target = %check.target, state, why, "a target's health");
            reached.ramp = (reached.is_healthy() && starts_slowly).then_some(now);
        }
        if has_changed || reached.checks.reason() != reason {
            self.told = None;
        }
        has_changed || was_unknown
    }

    /// Leaves a target out for a while, as it has failed too often in a row, unless too many are out
    /// already. Whether it did.
    pub(crate) fn eject(&mut self, member: &Arc<Member>, now: Instant) -> bool {
        let Some(policy) = self.config.attributes.outlier_ejection else { return false };
        let registered = self.reached().count();
        let ejected = self.reached().filter(|reached| reached.ejected_until.is_some()).count();
        let kept = self.targets.get_mut(&member.id).and_then(|kept| kept.reached.as_mut());
        let Some(reached) = kept.filter(|reached| Arc::ptr_eq(&reached.member, member)) else { return false };
        if reached.ejected_until.is_some() || ejected >= max_ejected(registered, &policy) {
            // It may be tried again after as many failures.
            member.failures.store(0, Ordering::Relaxed);
            return false;
        }
        // Whoever has done well for long enough begins anew.
        if reached.last_ejection.is_some_and(|over| over + MAX_EJECTION < now) {
            reached.ejections = 0;
        }
        reached.ejections = reached.ejections.saturating_add(1);
        let time = policy.base.saturating_mul(reached.ejections).min(MAX_EJECTION);
        reached.ejected_until = Some(now + time);
        reached.last_ejection = reached.ejected_until;
        self.told = None;
        true
    }

    /// The targets that are registered and there is a way to.
    fn reached(&self) -> impl Iterator<Item = &Reached> {
        let registered = self.targets.values().filter(|kept| kept.draining_until.is_none());
        registered.filter_map(|kept| kept.reached.as_ref())
    }

    /// What requests see; none if no listener forwards to the group.
    pub(crate) fn route(&self) -> Option<GroupRoute> {
        let User { series, .. } = self.user.as_ref()?;
        let is_checked = self.is_checked();
        let all: Vec<&Reached> = self.reached().collect();
        let is_well =
            |reached: &&&Reached| reached.ejected_until.is_none() && (!is_checked || reached.is_healthy());
        let well = all.iter().filter(is_well).count();
        let chosen: Vec<(Arc<Member>, Option<Instant>)> = if well
            >= required(&self.config.attributes.minimum_healthy, all.len())
        {
            all.iter().filter(is_well).map(|reached| (Arc::clone(&reached.member), reached.ramp)).collect()
        } else {
            // Too few are well: all get requests, but for those of which nothing is known yet.
            let is_known = |reached: &&&Reached| !is_checked || !reached.checks.is_unknown();
            all.iter().filter(is_known).map(|reached| (Arc::clone(&reached.member), None)).collect()
        };
        let attributes = self.config.attributes.clone();
        let by_fingerprint = match &attributes.stickiness {
            Some(_) => {
                chosen.iter().enumerate().map(|(index, (member, _))| (member.fingerprint, index)).collect()
            }
            None => std::collections::HashMap::new(),
        };
        if !chosen.is_empty() {
            self.group.ask_again();
        }
        Some(GroupRoute {
            group: Arc::clone(&self.group),
            name: self.config.name.clone(),
            series: Arc::clone(series),
            activates: self.config.activates,
            choices: Choices::new(attributes.algorithm, attributes.slow_start, chosen),
            last_resort: all.iter().map(|reached| Arc::clone(&reached.member)).collect(),
            by_fingerprint,
            attributes,
            why_none: if self.config.targets.is_empty() {
                "it has no registered targets"
            } else if all.is_empty() {
                "none of its targets is running"
            } else {
                "its targets have not been checked yet"
            },
        })
    }

    /// The health of every target. Counts the targets as well.
    pub(crate) fn health(&mut self) -> Arc<BTreeMap<TargetId, TargetHealth>> {
        if let Some(told) = &self.told {
            return Arc::clone(told);
        }
        let health: BTreeMap<TargetId, TargetHealth> =
            self.targets.iter().map(|(id, kept)| (id.clone(), self.health_of(kept))).collect();
        if let Some(user) = &self.user {
            let count = |state| health.values().filter(|health| health.state == state).count();
            user.hosts.set(count(HealthState::Healthy), count(HealthState::Unhealthy));
        }
        let health = Arc::new(health);
        self.told = Some(Arc::clone(&health));
        health
    }

    fn health_of(&self, kept: &Kept) -> TargetHealth {
        let told = |state, reason, description: &str| TargetHealth {
            state,
            reason: Some(reason),
            description: description.to_owned(),
            is_anomalous: false,
        };
        if kept.draining_until.is_some() {
            let reason = HealthReason::DeregistrationInProgress;
            return told(HealthState::Draining, reason, "Target deregistration is in progress");
        }
        if !self.is_used() {
            let what = "Target group is not configured to receive traffic from the load balancer";
            return told(HealthState::Unused, HealthReason::NotInUse, what);
        }
        let Some(reached) = &kept.reached else {
            return told(HealthState::Unused, HealthReason::InvalidState, "Target is in the stopped state");
        };
        let is_anomalous = reached.ejected_until.is_some();
        if !self.config.health_check.is_enabled {
            let what = "Health checks are disabled for this target";
            let health = told(HealthState::Unavailable, HealthReason::HealthCheckDisabled, what);
            return TargetHealth { is_anomalous, ..health };
        }
        let (reason, description) = reached.checks.reason().unzip();
        let description = description.unwrap_or_default();
        TargetHealth { state: reached.checks.state(), reason, description, is_anomalous }
    }
}

impl Kept {
    fn drain(&mut self, until: Instant) {
        self.draining_until.get_or_insert(until);
        if let Some(reached) = &self.reached {
            reached.member.is_draining.store(true, Ordering::SeqCst);
        }
    }

    fn is_busy(&self) -> bool {
        self.reached.as_ref().is_some_and(|reached| reached.member.is_busy())
    }
}

impl Reached {
    fn is_healthy(&self) -> bool {
        self.checks.state() == HealthState::Healthy
    }
}

/// How many of the targets may be ejected at once: their share, rounded down, but one where there are
/// several.
fn max_ejected(registered: usize, policy: &OutlierEjection) -> usize {
    let share = registered * usize::from(policy.max_percentage) / 100;
    share.max(1).min(registered.saturating_sub(1))
}

/// How many targets must be well for the others to be left out.
fn required(minimum: &Minimum, registered: usize) -> usize {
    let share = minimum.percentage.map_or(0, |share| (registered * usize::from(share)).div_ceil(100));
    minimum.count.max(share).max(1)
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
