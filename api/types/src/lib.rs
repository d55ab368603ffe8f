//! The nouns of Coracle: identifiers, ARNs, life-cycle states, limits and the records the store keeps.
//!
//! Everything here is plain data. The room knows no clock, no randomness, no network and no disk, and
//! it does not know the wire: AWS's JSON and XML shapes live in `coracle-protocol`, converted by hand.
//! The serde form of the records is what the store keeps, so a field that is added later carries
//! `#[serde(default)]`, and a field is never renamed.
//!
//! Start reading at [`state`]: it lists every record there is.

pub mod account_setting;
pub mod activation;
pub mod alarm;
pub mod alarm_rule;
pub mod arn;
pub mod capacity_provider;
pub mod changes;
pub mod cluster;
pub mod daemon;
pub mod deployment_strategy;
pub mod elb;
pub mod exec;
pub mod iam;
pub mod ids;
pub mod index;
pub mod link;
pub mod load_balancer;
pub mod node;
pub mod observation;
pub mod parameter;
pub mod placement;
pub mod secret;
pub mod service;
pub mod service_deployment;
pub mod state;
pub mod tags;
pub mod task;
pub mod task_definition;
pub mod task_set;
pub mod time;
pub mod token;

pub use account_setting::{AccountSetting, AccountSettingId};
pub use activation::Activation;
pub use alarm::{Alarm, AlarmId, AlarmState, Watched, WatchedMetric};
pub use alarm_rule::{AlarmRule, AlarmRuleError};
pub use arn::{AccountId, Arn, ArnError, Resource};
pub use capacity_provider::{
    CapacityProvider, CapacityProviderStatus, StrategyItem, launch_type_of, leading_provider, next_provider,
    strategy_items,
};
pub use changes::Changes;
pub use cluster::{Cluster, ClusterStatus};
pub use deployment_strategy::{
    DeploymentAlarms, DeploymentController, DeploymentStrategy, LifecycleHook, LifecycleStage,
};
pub use exec::ExecOutput;
pub use iam::{AccessKey, Group, IamName, Identity, ManagedPolicy, Role, User};
pub use ids::{
    CapacityProviderId, CapacityProviderName, ClusterId, ClusterName, ContainerId, ContainerName, DaemonName,
    DeploymentId, EventId, Family, FamilyId, IdError, NodeId, Region, ServiceDeploymentId,
    ServiceDeploymentKey, ServiceId, ServiceName, ServiceRevisionId, ServiceRevisionNumber, TaskDefinitionId,
    TaskId, TaskKey,
};
pub use index::{ClusterTasks, NodeLoad, TaskIndex};
pub use link::{LinkRule, LinkRuleError, check_links};
pub use load_balancer::{AdvancedConfiguration, ServiceLoadBalancer};
pub use node::{Assigned, AssignedTask, Node, NodeStatus, attribute};
pub use observation::{ContainerObservation, TaskObservation};
pub use placement::{
    BinpackField, PlacementConstraint, PlacementStrategy, SpreadField, placement_constraints,
    placement_strategies,
};
pub use service::{
    CircuitBreaker, Deployment, DeploymentConfiguration, DeploymentStatus, FailureThreshold, LaunchBackoff,
    RolloutState, SchedulingStrategy, Service, ServiceEvent, ServiceStatus,
};
pub use service_deployment::{
    HookDetail, HookStatus, MonitorStatus, Rollback, ServiceDeployment, ServiceDeploymentStatus,
    ServiceRevision, StopType,
};
pub use state::{Change, Key, Record, State, Versioned};
pub use tags::{TagError, Tags};
pub use task::{
    Container, ContainerOverride, ContainerStatus, DesiredStatus, HealthStatus, LastStatus, LaunchType,
    PropagateTags, StopCode, Task, TaskGroup, TaskOverride, TaskStop,
};
pub use task_definition::{
    Compatibility, ContainerDefinition, Dependency, DependencyCondition, FamilyRecord, HealthCheck, JsonMap,
    LogConfiguration, MountPoint, NetworkMode, PortMapping, TaskDefinition, TaskDefinitionStatus, Volume,
};
pub use task_set::{TaskSet, TaskSetStatus};
pub use time::Timestamp;
pub use token::{TokenId, TokenRecord};
