//! The names ECS writes for states and kinds: `"RUNNING"` and the like exist here and nowhere else.

use coracle_types::{
    ClusterStatus, Compatibility, ContainerStatus, DependencyCondition, DeploymentStatus, DesiredStatus,
    HealthStatus, LastStatus, LaunchType, NetworkMode, NodeStatus, PropagateTags, RolloutState,
    SchedulingStrategy, ServiceStatus, StopCode, TaskDefinitionStatus,
};

/// A kind or state with one name on the wire.
pub trait Named: Copy + PartialEq + 'static {
    /// Every name and what it means.
    const ALL: &'static [(&'static str, Self)];

    /// What is written for it.
    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }

    /// What a name means.
    fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

macro_rules! names {
    ($($kind:ident { $($variant:ident = $name:literal,)* })*) => {
        $(impl Named for $kind {
            const ALL: &'static [(&'static str, Self)] = &[$(($name, Self::$variant),)*];
        })*

        #[cfg(test)]
        mod tests {
            use super::*;

            #[test]
            fn every_value_has_one_name_and_every_name_one_value() {
                $(
                    // The match fails to compile when a variant has no name.
                    let complete = |value: $kind| match value { $($kind::$variant => $name,)* };
                    for (name, value) in $kind::ALL {
                        assert_eq!(complete(*value), *name);
                        assert_eq!(value.name(), *name);
                        assert_eq!($kind::of_name(name), Some(*value));
                    }
                )*
            }
        }
    };
}

names! {
    ClusterStatus { Active = "ACTIVE", Inactive = "INACTIVE", }
    NodeStatus { Active = "ACTIVE", Draining = "DRAINING", Inactive = "INACTIVE", }
    TaskDefinitionStatus { Active = "ACTIVE", Inactive = "INACTIVE", DeleteInProgress = "DELETE_IN_PROGRESS", }
    NetworkMode { Awsvpc = "awsvpc", Bridge = "bridge", Host = "host", None = "none", }
    Compatibility {
        Ec2 = "EC2", Fargate = "FARGATE", External = "EXTERNAL", ManagedInstances = "MANAGED_INSTANCES",
    }
    DependencyCondition { Start = "START", Complete = "COMPLETE", Success = "SUCCESS", Healthy = "HEALTHY", }
    LastStatus {
        Provisioning = "PROVISIONING", Pending = "PENDING", Activating = "ACTIVATING", Running = "RUNNING",
        Deactivating = "DEACTIVATING", Stopping = "STOPPING", Deprovisioning = "DEPROVISIONING",
        Stopped = "STOPPED",
    }
    DesiredStatus { Running = "RUNNING", Stopped = "STOPPED", }
    ContainerStatus { Pending = "PENDING", Running = "RUNNING", Stopped = "STOPPED", }
    HealthStatus { Healthy = "HEALTHY", Unhealthy = "UNHEALTHY", Unknown = "UNKNOWN", }
    StopCode {
        TaskFailedToStart = "TaskFailedToStart", EssentialContainerExited = "EssentialContainerExited",
        UserInitiated = "UserInitiated", ServiceSchedulerInitiated = "ServiceSchedulerInitiated",
        TerminationNotice = "TerminationNotice", SpotInterruption = "SpotInterruption",
        InfrastructureHealth = "InfrastructureHealth",
    }
    LaunchType { Ec2 = "EC2", Fargate = "FARGATE", External = "EXTERNAL", }
    PropagateTags { TaskDefinition = "TASK_DEFINITION", Service = "SERVICE", None = "NONE", }
    ServiceStatus { Active = "ACTIVE", Draining = "DRAINING", Inactive = "INACTIVE", }
    SchedulingStrategy { Replica = "REPLICA", Daemon = "DAEMON", }
    DeploymentStatus { Primary = "PRIMARY", Active = "ACTIVE", }
    RolloutState { InProgress = "IN_PROGRESS", Completed = "COMPLETED", Failed = "FAILED", }
}
