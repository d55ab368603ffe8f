//! Service deployments and revisions: what became of each attempt to bring a service to something new.
//!
//! A [`Deployment`](crate::Deployment) is part of its service and gone once it has been replaced; these records
//! stay for those who ask later. A revision is never changed after it is written.

use serde::{Deserialize, Serialize};

use crate::deployment_strategy::LifecycleStage;
use crate::ids::{DeploymentId, ServiceDeploymentId, ServiceRevisionId, TaskDefinitionId};
use crate::service::DeploymentConfiguration;
use crate::task::LaunchType;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// How far a service deployment has come.
///
/// ```text
/// Pending ─▶ InProgress ─┬▶ Successful
///                        ├▶ StopRequested ─▶ Stopped                     (ABORT, or a newer one)
///                        └▶ RollbackRequested ─▶ RollbackInProgress ─┬▶ RollbackSuccessful
///                                                                    └▶ RollbackFailed
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceDeploymentStatus {
    /// Not begun.
    Pending,
    /// Under way.
    InProgress,
    /// Done.
    Successful,
    /// Given up where it was: its service keeps what it had at that moment.
    Stopped,
    /// About to be [`Self::Stopped`].
    StopRequested,
    /// About to go back.
    RollbackRequested,
    /// Going back to what was before.
    RollbackInProgress,
    /// What was before is there again.
    RollbackSuccessful,
    /// There was nothing to go back to, or going back failed too.
    RollbackFailed,
}

impl ServiceDeploymentStatus {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::Successful => "SUCCESSFUL",
            Self::Stopped => "STOPPED",
            Self::StopRequested => "STOP_REQUESTED",
            Self::RollbackRequested => "ROLLBACK_REQUESTED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackSuccessful => "ROLLBACK_SUCCESSFUL",
            Self::RollbackFailed => "ROLLBACK_FAILED",
        }
    }

    /// Whether nothing of it will change any more.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Successful | Self::Stopped | Self::RollbackSuccessful | Self::RollbackFailed)
    }
}

/// What the circuit breaker or the alarms of a service deployment are doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MonitorStatus {
    /// Not wanted.
    #[default]
    Disabled,
    /// Watching.
    Monitoring,
    /// Watched to the end, and nothing happened.
    MonitoringComplete,
    /// Ended the deployment.
    Triggered,
}

impl MonitorStatus {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disabled => "DISABLED",
            Self::Monitoring => "MONITORING",
            Self::MonitoringComplete => "MONITORING_COMPLETE",
            Self::Triggered => "TRIGGERED",
        }
    }
}

/// What a service deployment went back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// Why.
    pub reason: String,
    /// When that began.
    pub started_at: Timestamp,
    /// To what; None when there was nothing.
    pub revision: Option<ServiceRevisionId>,
}

/// What has become of one hook at the stage a deployment is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HookStatus {
    /// Somebody has to call ContinueServiceDeployment.
    AwaitingAction,
    /// It said: go on.
    Succeeded,
    /// It said: go back.
    Failed,
    /// It said nothing in time.
    TimedOut,
}

impl HookStatus {
    /// As the API writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AwaitingAction => "AWAITING_ACTION",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::TimedOut => "TIMED_OUT",
        }
    }
}

/// One hook that a deployment has come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookDetail {
    /// What ContinueServiceDeployment names it by: its place among the configuration's hooks and the stage.
    pub id: String,
    /// Whom it asks; None for a PAUSE hook.
    pub target: Option<String>,
    /// The stage, as the API writes it.
    pub stage: String,
    /// What has become of it.
    pub status: HookStatus,
    /// When it times out.
    pub expires_at: Timestamp,
    /// Whether the deployment goes on then, or back.
    pub continue_on_timeout: bool,
}

/// How a StopServiceDeployment is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopType {
    /// Leave things as they are.
    Abort,
    /// Go back to what was before.
    Rollback,
}

/// One attempt to bring a service to one revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDeployment {
    /// Its id.
    pub id: ServiceDeploymentId,
    /// The deployment it is the record of.
    pub deployment: DeploymentId,
    /// How far it has come.
    pub status: ServiceDeploymentStatus,
    /// The same in words.
    pub status_reason: Option<String>,
    /// Where a deployment that shifts traffic is.
    pub stage: LifecycleStage,
    /// Since when.
    pub stage_since: Timestamp,
    /// What was there before.
    pub sources: Vec<ServiceRevisionId>,
    /// What it brings.
    pub target: ServiceRevisionId,
    /// How many tasks the target was asked for.
    pub requested_tasks: u32,
    /// Percent of production traffic that goes to the target.
    pub production_weight: f64,
    /// Percent of test traffic that goes to the target.
    pub test_weight: f64,
    /// The hooks it has come to.
    pub hooks: Vec<HookDetail>,
    /// How it was meant to go.
    pub configuration: DeploymentConfiguration,
    /// What it went back to.
    pub rollback: Option<Rollback>,
    /// What the circuit breaker is doing.
    pub circuit_breaker: MonitorStatus,
    /// Failures that count towards its threshold.
    pub failure_count: u32,
    /// How many of them trip it.
    pub failure_threshold: u32,
    /// What the alarms are doing.
    pub alarms: MonitorStatus,
    /// The alarms that ended it.
    #[serde(default)]
    pub triggered_alarms: Vec<String>,
    /// A StopServiceDeployment that has not been heeded yet.
    pub stop: Option<StopType>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub finished_at: Option<Timestamp>,
    /// When it was stopped.
    pub stopped_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// What a deployment brings, as it was at its beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRevision {
    /// Its id.
    pub id: ServiceRevisionId,
    /// Of what.
    pub task_definition: TaskDefinitionId,
    /// How the tasks' CPU units are meant.
    pub launch_type: LaunchType,
    /// Whether the launch type came from a capacity provider strategy, and so is not shown.
    pub launch_type_hidden: bool,
    /// Whether its tasks are registered in the alternate target groups.
    pub alternate: bool,
    /// Container name and image, in the definition's order.
    pub images: Vec<(String, String)>,
    /// The deployment's members kept as sent: networkConfiguration, capacityProviderStrategy, …
    pub deployment_rest: JsonMap,
    /// The service's members that belong to a revision, kept as sent: loadBalancers, serviceRegistries.
    pub service_rest: JsonMap,
    /// When it was made.
    pub created_at: Timestamp,
}
