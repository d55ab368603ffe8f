//! What is known of one target group: its targets, who of them is draining, and what requests may see of
//! that. Pure but for the counters of targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Group, GroupRoute, Member};
use crate::http_target::{HttpTarget, HttpTargetConfig};
use crate::metrics::{Metrics, Series};
use crate::model::{
    Backend, HealthReason, HealthState, RegisteredTarget, TargetGroup, TargetHealth, TargetId,
};
use crate::target::Slot;

/// A target group's keeper.
pub(crate) struct Keeper {
    group: Arc<Group>,
    config: TargetGroup,
    /// The load balancer that forwards to the group, and what is counted of that.
    user: Option<(String, Arc<Series>)>,
    targets: BTreeMap<TargetId, Kept>,
}

/// A target that is registered, or was.
struct Kept {
    backend: Backend,
    /// None if there is nothing to reach.
    member: Option<Arc<Member>>,
    /// Until when it may finish what it has; none while it is registered.
    draining_until: Option<Instant>,
}

impl Keeper {
    pub(crate) fn new(config: &TargetGroup) -> Self {
        Self {
            group: Group::new(config.name.clone()),
            config: TargetGroup { targets: Vec::new(), ..config.clone() },
            user: None,
            targets: BTreeMap::new(),
        }
    }

    /// Takes a new configuration; `user` is the load balancer that forwards to the group. Targets that are
    /// no longer listed begin to drain.
    pub(crate) fn configure(
        &mut self,
        config: TargetGroup,
        user: Option<&str>,
        metrics: &Metrics,
        now: Instant,
    ) {
        let mut left: BTreeMap<TargetId, Backend> = config
            .targets
            .iter()
            .map(|RegisteredTarget { id, backend }| (id.clone(), backend.clone()))
            .collect();
        let until = now + config.attributes.deregistration_delay;
        let is_spoken_alike = (config.protocol, config.tls) == (self.config.protocol, self.config.tls);
        for (id, kept) in &mut self.targets {
            match left.remove(id) {
                Some(backend)
                    if backend == kept.backend
                        && (is_spoken_alike || !matches!(backend, Backend::Address(_))) =>
                {
                    kept.draining_until = None;
                }
                Some(backend) => *kept = Kept::new(id, backend, &config),
                None if kept.draining_until.is_none() => kept.draining_until = Some(until),
                None => {}
            }
        }
        self.targets.extend(left.into_iter().map(|(id, backend)| {
            let kept = Kept::new(&id, backend, &config);
            (id, kept)
        }));
        if self.user.as_ref().map(|(name, _)| name.as_str()) != user {
            self.drop_series();
            self.user = user.map(|name| (name.to_owned(), metrics.target_group(name, &config.name)));
        }
        self.config = config;
        self.forget_drained(now);
    }

    /// Forgets targets that have finished draining.
    pub(crate) fn forget_drained(&mut self, now: Instant) {
        self.targets.retain(|_, kept| kept.draining_until.is_none_or(|until| until > now && kept.is_busy()));
    }

    pub(crate) fn is_used(&self) -> bool {
        self.user.is_some()
    }

    /// The group was deleted.
    pub(crate) fn retire(mut self) {
        self.drop_series();
    }

    fn drop_series(&mut self) {
        if let Some((_, series)) = self.user.take() {
            series.retire();
        }
    }

    /// What requests see; none if no listener forwards to the group.
    pub(crate) fn route(&self) -> Option<GroupRoute> {
        let (_, series) = self.user.as_ref()?;
        let registered = self.targets.values().filter(|kept| kept.draining_until.is_none());
        let targets: Box<[Arc<Member>]> = registered.filter_map(|kept| kept.member.clone()).collect();
        Some(GroupRoute {
            group: Arc::clone(&self.group),
            series: Arc::clone(series),
            targets,
            why_none: if self.config.targets.is_empty() {
                "it has no registered targets"
            } else {
                "none of its targets is running"
            },
        })
    }

    /// The health of every target.
    pub(crate) fn health(&self) -> BTreeMap<TargetId, TargetHealth> {
        self.targets.iter().map(|(id, kept)| (id.clone(), kept.health(self.is_used()))).collect()
    }
}

impl Kept {
    fn new(id: &TargetId, backend: Backend, group: &TargetGroup) -> Self {
        let slot = match &backend {
            Backend::InProcess(slot) => Some(Arc::clone(slot)),
            Backend::Address(address) => {
                let (protocol, tls) = (group.protocol, group.tls);
                let config = HttpTargetConfig { protocol, tls, ..HttpTargetConfig::new(*address) };
                Some(Slot::new(address.to_string(), Arc::new(HttpTarget::new(config))))
            }
            Backend::Stopped => None,
        };
        Self { backend, member: slot.map(|slot| Member::new(id.clone(), slot)), draining_until: None }
    }

    fn is_busy(&self) -> bool {
        self.member.as_ref().is_some_and(|member| member.is_busy())
    }

    fn health(&self, is_used: bool) -> TargetHealth {
        let (state, reason, description) = match (self.draining_until, &self.member, is_used) {
            (Some(_), _, _) => (
                HealthState::Draining,
                Some(HealthReason::DeregistrationInProgress),
                "Target deregistration is in progress",
            ),
            (None, _, false) => (
                HealthState::Unused,
                Some(HealthReason::NotInUse),
                "Target group is not configured to receive traffic from the load balancer",
            ),
            (None, None, true) => {
                (HealthState::Unused, Some(HealthReason::InvalidState), "Target is in the stopped state")
            }
            (None, Some(_), true) => (HealthState::Healthy, None, ""),
        };
        TargetHealth { state, reason, description: description.to_owned(), is_anomalous: false }
    }
}
