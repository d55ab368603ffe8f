//! How a deployment replaces what was there: the typed view of `deploymentConfiguration`'s members that are kept
//! as they were sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::placement::{items, text};
use crate::service::DeploymentConfiguration;
use crate::task_definition::JsonMap;

/// `strategy`, with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DeploymentStrategy {
    /// Tasks are replaced a few at a time.
    Rolling,
    /// All new tasks come up beside the old ones; then all traffic goes over at once.
    BlueGreen,
    /// As BLUE_GREEN, but the traffic goes over in steps of equal size.
    Linear {
        /// Percent of the traffic per step: 3 to 100, default 10.
        step_percent: f64,
        /// How long each step is watched, default 6 minutes.
        step_bake: Duration,
    },
    /// As BLUE_GREEN, but a first part of the traffic is watched before the rest follows.
    Canary {
        /// Percent of the traffic in the first part: 0.1 to 100, default 5.
        canary_percent: f64,
        /// How long it is watched, default 10 minutes.
        canary_bake: Duration,
    },
}

/// Where a deployment that shifts traffic is.
///
/// ```text
/// ReconcileService ─▶ PreScaleUp ─▶ ScaleUp ─▶ PostScaleUp ─▶ TestTrafficShift ─▶ PostTestTrafficShift
///                                                                                          │
///       CleanUp ◀─ BakeTime ◀─ PostProductionTrafficShift ◀─ ProductionTrafficShift ◀──────┘
/// ```
///
/// A rolling deployment knows only some of them: it scales up and cleans up at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum LifecycleStage {
    /// It waits until the deployment before it is out of the way.
    ReconcileService,
    /// New tasks are about to be started.
    PreScaleUp,
    /// New tasks are being started.
    ScaleUp,
    /// All new tasks run and are healthy.
    PostScaleUp,
    /// Test traffic goes to the new tasks.
    TestTrafficShift,
    /// It has gone over.
    PostTestTrafficShift,
    /// Production traffic goes to the new tasks.
    ProductionTrafficShift,
    /// It has gone over.
    PostProductionTrafficShift,
    /// Old and new tasks run, to be able to go back at once.
    BakeTime,
    /// Old tasks are being stopped.
    CleanUp,
}

impl LifecycleStage {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReconcileService => "RECONCILE_SERVICE",
            Self::PreScaleUp => "PRE_SCALE_UP",
            Self::ScaleUp => "SCALE_UP",
            Self::PostScaleUp => "POST_SCALE_UP",
            Self::TestTrafficShift => "TEST_TRAFFIC_SHIFT",
            Self::PostTestTrafficShift => "POST_TEST_TRAFFIC_SHIFT",
            Self::ProductionTrafficShift => "PRODUCTION_TRAFFIC_SHIFT",
            Self::PostProductionTrafficShift => "POST_PRODUCTION_TRAFFIC_SHIFT",
            Self::BakeTime => "BAKE_TIME",
            Self::CleanUp => "CLEAN_UP",
        }
    }
}

/// One of `lifecycleHooks`: a stage is not left before its hooks have said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifecycleHook {
    /// What is asked: a function's ARN, or nothing for a PAUSE hook, which waits for ContinueServiceDeployment.
    pub target: Option<String>,
    /// At which stages, as the API writes them.
    pub stages: Vec<String>,
    /// How long an answer may take. 24 hours when not given.
    pub timeout: Duration,
    /// Whether the deployment goes on when no answer came in time; it rolls back otherwise.
    pub continue_on_timeout: bool,
}

/// `alarms`: the names of alarms that end a deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentAlarms {
    /// Whether they are looked at.
    pub enable: bool,
    /// Whether the deployment is rolled back when one goes off.
    pub rollback: bool,
    /// Which.
    pub names: Vec<String>,
}

/// Who replaces a service's tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeploymentController {
    /// The scheduler.
    Ecs,
    /// Somebody outside, by task sets (EXTERNAL, and CODE_DEPLOY, which works the same way).
    External,
}

impl DeploymentController {
    /// `deploymentController` among members that were kept as sent.
    #[must_use]
    pub fn of(rest: &JsonMap) -> Self {
        match rest.get("deploymentController").and_then(|one| text(one, "type")) {
            Some("EXTERNAL" | "CODE_DEPLOY") => Self::External,
            _ => Self::Ecs,
        }
    }
}

impl DeploymentConfiguration {
    /// `strategy`; ROLLING when not given.
    #[must_use]
    pub fn strategy(&self) -> DeploymentStrategy {
        let of = |member: &str, name: &str| self.rest.get(member).and_then(|one| one.get(name));
        let percent = |member, name, default| of(member, name).and_then(Value::as_f64).unwrap_or(default);
        let bake =
            |member, name, default| minutes(of(member, name).and_then(Value::as_u64).unwrap_or(default));
        match self.rest.get("strategy").and_then(Value::as_str) {
            Some("BLUE_GREEN") => DeploymentStrategy::BlueGreen,
            Some("LINEAR") => DeploymentStrategy::Linear {
                step_percent: percent("linearConfiguration", "stepPercent", 10.0),
                step_bake: bake("linearConfiguration", "stepBakeTimeInMinutes", 6),
            },
            Some("CANARY") => DeploymentStrategy::Canary {
                canary_percent: percent("canaryConfiguration", "canaryPercent", 5.0),
                canary_bake: bake("canaryConfiguration", "canaryBakeTimeInMinutes", 10),
            },
            _ => DeploymentStrategy::Rolling,
        }
    }

    /// `bakeTimeInMinutes`: how long old tasks are kept after all traffic has gone over; 15 minutes when not
    /// given, nothing for a rolling deployment.
    #[must_use]
    pub fn bake_time(&self) -> Duration {
        let default = if self.strategy() == DeploymentStrategy::Rolling { 0 } else { 15 };
        minutes(self.rest.get("bakeTimeInMinutes").and_then(Value::as_u64).unwrap_or(default))
    }

    /// `lifecycleHooks`.
    #[must_use]
    pub fn lifecycle_hooks(&self) -> Vec<LifecycleHook> {
        items(&self.rest, "lifecycleHooks")
            .map(|item| {
                let stages = item.get("lifecycleStages").and_then(Value::as_array).into_iter().flatten();
                let timeout = item.get("timeoutConfiguration");
                let member = |name: &str| timeout.and_then(|one| one.get(name));
                LifecycleHook {
                    target: text(item, "hookTargetArn").map(str::to_owned),
                    stages: stages.filter_map(Value::as_str).map(str::to_owned).collect(),
                    timeout: minutes(member("timeoutInMinutes").and_then(Value::as_u64).unwrap_or(24 * 60)),
                    continue_on_timeout: member("action").and_then(Value::as_str) == Some("CONTINUE"),
                }
            })
            .collect()
    }

    /// `alarms`.
    #[must_use]
    pub fn alarms(&self) -> DeploymentAlarms {
        let Some(alarms) = self.rest.get("alarms") else { return DeploymentAlarms::default() };
        let flag = |name: &str| alarms.get(name).and_then(Value::as_bool).unwrap_or(false);
        let names = alarms.get("alarmNames").and_then(Value::as_array).into_iter().flatten();
        DeploymentAlarms {
            enable: flag("enable"),
            rollback: flag("rollback"),
            names: names.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(rest: &Value) -> DeploymentConfiguration {
        let rest = rest.as_object().cloned().unwrap_or_default();
        DeploymentConfiguration { rest, ..DeploymentConfiguration::default() }
    }

    #[test]
    fn strategies_have_the_defaults_of_ecs() {
        assert_eq!(configuration(&json!({})).strategy(), DeploymentStrategy::Rolling);
        assert_eq!(configuration(&json!({})).bake_time(), Duration::ZERO);
        let linear = configuration(&json!({"strategy": "LINEAR"}));
        let (step_percent, step_bake) = (10.0, Duration::from_secs(360));
        assert_eq!(linear.strategy(), DeploymentStrategy::Linear { step_percent, step_bake });
        assert_eq!(linear.bake_time(), Duration::from_secs(900));
        let canary = configuration(&json!({
            "strategy": "CANARY", "bakeTimeInMinutes": 0,
            "canaryConfiguration": {"canaryPercent": 0.5, "canaryBakeTimeInMinutes": 1},
        }));
        let (canary_percent, canary_bake) = (0.5, Duration::from_secs(60));
        assert_eq!(canary.strategy(), DeploymentStrategy::Canary { canary_percent, canary_bake });
        assert_eq!(canary.bake_time(), Duration::ZERO);
    }

    #[test]
    fn hooks_and_alarms_are_read() {
        let read = configuration(&json!({
            "lifecycleHooks": [{
                "hookTargetArn": "arn:x", "lifecycleStages": ["POST_SCALE_UP"],
                "timeoutConfiguration": {"timeoutInMinutes": 2, "action": "CONTINUE"},
            }, {"lifecycleStages": ["PRE_SCALE_UP"]}],
            "alarms": {"enable": true, "rollback": true, "alarmNames": ["a"]},
        }));
        let hooks = read.lifecycle_hooks();
        assert_eq!(hooks[0].timeout, Duration::from_secs(120));
        assert!(hooks[0].continue_on_timeout && !hooks[1].continue_on_timeout);
        assert_eq!(hooks[1].target, None);
        assert_eq!(hooks[1].timeout, Duration::from_secs(24 * 3600));
        let alarms = read.alarms();
        assert!(alarms.enable && alarms.rollback);
        assert_eq!(alarms.names, ["a"]);
    }
}
