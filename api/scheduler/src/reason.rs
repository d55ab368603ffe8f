//! Why: the reason of every decision.
//!
//! A reason is the ECS event, the field in the log and what tests assert; `Display` gives the text, word
//! for word what ECS writes where ECS has words for it.

use std::fmt;

use coracle_types::{DeploymentId, NodeId, ServiceName, TaskDefinitionId, TaskId};

use crate::placement::Unplaceable;

/// `stoppedReason` of a task that fails the checks of a target group.
pub(crate) fn unhealthy_target_reason(group: &str) -> String {
    format!("Task failed ELB health checks in (target-group {group})")
}

/// Why something was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Tasks were missing and were started.
    Started {
        /// Whose.
        service: ServiceName,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Tasks were too many, or of an older deployment, or their service is deleted.
    Stopped {
        /// Whose.
        service: ServiceName,
        /// Which.
        tasks: Vec<TaskId>,
    },
    /// Tasks behind a load balancer finish their requests before they stop.
    BegunDraining {
        /// Whose.
        service: ServiceName,
        /// The deployment they belong to.
        deployment: DeploymentId,
        /// How many.
        tasks: usize,
    },
    /// A task is UNHEALTHY and is replaced.
    Unhealthy {
        /// Whose.
        service: ServiceName,
        /// Which.
        task: TaskId,
    },
    /// Running tasks were registered in a target group.
    Registered {
        /// Whose.
        service: ServiceName,
        /// The group's ARN.
        group: String,
        /// How many.
        targets: usize,
    },
    /// Tasks that stop were deregistered from a target group.
    Deregistered {
        /// Whose.
        service: ServiceName,
        /// The group's ARN.
        group: String,
        /// How many.
        targets: usize,
    },
    /// A task fails the checks of a target group and is replaced.
    UnhealthyTarget {
        /// Whose.
        service: ServiceName,
        /// Which.
        task: TaskId,
        /// The port that is checked.
        port: u16,
        /// The group's ARN.
        group: String,
        /// What its last check found.
        why: String,
    },
    /// No node takes a task that is missing.
    Unplaceable {
        /// Whose.
        service: ServiceName,
        /// What is short.
        short: Unplaceable,
    },
    /// The task definition a service names is gone.
    NoTaskDefinition {
        /// Whose.
        service: ServiceName,
        /// What is gone.
        task_definition: TaskDefinitionId,
    },
    /// The percentages allow neither a start nor a stop.
    Stuck {
        /// Whose.
        service: ServiceName,
    },
    /// Tasks keep stopping before they ever ran; starts wait longer and longer.
    KeepsFailing {
        /// Whose.
        service: ServiceName,
    },
    /// Tasks run, but keep stopping right after their start; starts wait longer and longer.
    KeepsExiting {
        /// Whose.
        service: ServiceName,
        /// Less than this many seconds is "right after".
        seconds: u64,
    },
    /// A deployment is done.
    Completed {
        /// Whose.
        service: ServiceName,
        /// Which.
        deployment: DeploymentId,
    },
    /// The circuit breaker gave a deployment up.
    Failed {
        /// Whose.
        service: ServiceName,
        /// Which.
        deployment: DeploymentId,
    },
    /// An alarm of a deployment has gone off.
    AlarmDetected {
        /// Whose.
        service: ServiceName,
        /// Which.
        deployment: DeploymentId,
    },
    /// What worked is brought back, as a new deployment.
    RollingBack {
        /// Whose.
        service: ServiceName,
        /// The new deployment.
        deployment: DeploymentId,
    },
    /// Everything is as it should be.
    Steady {
        /// Whose.
        service: ServiceName,
    },
    /// A deleted service has nothing left. Not an event: nobody can see it any more.
    Drained {
        /// Which.
        service: ServiceName,
    },
    /// A task that was accepted got its node. Not an event.
    Placed {
        /// Which.
        task: TaskId,
        /// Where.
        node: NodeId,
    },
    /// A task died with its node, or with an earlier incarnation of it. Not an event.
    Lost {
        /// Which.
        task: TaskId,
        /// Where it was.
        node: NodeId,
    },
    /// A service's task whose service is gone. Not an event.
    Orphaned {
        /// Which.
        task: TaskId,
    },
}

impl Reason {
    /// The part of the text that stays the same as long as the same thing is meant: numbers that come and go
    /// don't make it another event.
    #[must_use]
    pub fn gist(&self) -> String {
        match self {
            Self::Unplaceable { service, short } => unplaceable(service, &short.summary()),
            other => other.to_string(),
        }
    }
}

fn unplaceable(service: &ServiceName, short: &str) -> String {
    format!(
        "(service {service}) was unable to place a task because no container instance met all of its requirements. Reason: {short}"
    )
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { service, tasks } => {
                write!(f, "(service {service}) has started {} tasks:", tasks.len())?;
                write_tasks(f, tasks)
            }
            Self::Stopped { service, tasks } => {
                write!(f, "(service {service}) has stopped {} running tasks:", tasks.len())?;
                write_tasks(f, tasks)
            }
            Self::Registered { service, group, targets } => {
                write!(f, "(service {service}) registered {targets} targets in (target-group {group})")
            }
            Self::Deregistered { service, group, targets } => {
                write!(f, "(service {service}) deregistered {targets} targets in (target-group {group})")
            }
            Self::UnhealthyTarget { service, task, port, group, why } => write!(
                f,
                "(service {service}) (task {task}) (port {port}) is unhealthy in (target-group {group}) due to (reason {why})"
            ),
            Self::BegunDraining { service, deployment, tasks } => write!(
                f,
                "(service {service}, taskSet {deployment}) has begun draining connections on {tasks} tasks."
            ),
            Self::Unhealthy { service, task } => {
                write!(f, "(service {service}) (task {task}) failed container health checks.")
            }
            Self::Unplaceable { service, short } => f.write_str(&unplaceable(service, &short.to_string())),
            Self::NoTaskDefinition { service, task_definition } => write!(
                f,
                "(service {service}) was unable to place a task. Reason: The task definition {task_definition} does not exist."
            ),
            Self::Stuck { service } => write!(
                f,
                "(service {service}) was unable to stop or start tasks during a deployment because of the service deployment configuration. Update the minimumHealthyPercent or maximumPercent value and try again."
            ),
            Self::KeepsFailing { service } => {
                write!(f, "(service {service}) is unable to consistently start tasks successfully.")
            }
            Self::KeepsExiting { service, seconds } => write!(
                f,
                "(service {service}) has tasks that stop within {seconds} seconds of their start. Replacements are delayed."
            ),
            Self::Completed { service, deployment } => {
                write!(f, "(service {service}) (deployment {deployment}) deployment completed.")
            }
            Self::Failed { service, deployment } => write!(
                f,
                "(service {service}) (deployment {deployment}) deployment failed: tasks failed to start."
            ),
            Self::AlarmDetected { service, deployment } => {
                write!(f, "(service {service}) (deployment {deployment}) deployment failed: alarm detected.")
            }
            Self::RollingBack { service, deployment } => {
                write!(f, "(service {service}) rolling back to deployment {deployment}.")
            }
            Self::Steady { service } => write!(f, "(service {service}) has reached a steady state."),
            Self::Drained { service } => write!(f, "(service {service}) has no tasks left."),
            Self::Placed { task, node } => write!(f, "(task {task}) was placed on {node}."),
            Self::Lost { task, node } => write!(f, "(task {task}) was lost: {}", lost_reason(*node)),
            Self::Orphaned { task } => write!(f, "(task {task}) has no service any more."),
        }
    }
}

fn write_tasks(f: &mut fmt::Formatter<'_>, tasks: &[TaskId]) -> fmt::Result {
    for task in tasks {
        write!(f, " (task {task})")?;
    }
    f.write_str(".")
}

/// `stoppedReason` of a task its service does not want any more.
pub(crate) fn scaling_reason(deployment: DeploymentId) -> String {
    format!("Scaling activity initiated by (deployment {deployment})")
}

/// `stoppedReason` of a task that died with its node.
pub(crate) fn lost_reason(node: NodeId) -> String {
    format!("Host node ({node}) stopped/terminated.")
}

/// `stoppedReason` of a task whose node was deregistered.
pub(crate) fn deregistered_reason() -> String {
    "Container instance deregistration forced by user".to_owned()
}

/// `stoppedReason` of a task that is UNHEALTHY.
pub(crate) const UNHEALTHY_REASON: &str = "Task failed container health checks";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_ecs() {
        let service: ServiceName = "web".parse().unwrap();
        let deployment = DeploymentId::from_random(0);
        let tasks = vec![TaskId(1), TaskId(2)];
        let expected = [
            (
                Reason::Started { service: service.clone(), tasks: tasks.clone() },
                "(service web) has started 2 tasks: (task 00000000000000000000000000000001) (task 00000000000000000000000000000002).",
            ),
            (
                Reason::Stopped { service: service.clone(), tasks },
                "(service web) has stopped 2 running tasks: (task 00000000000000000000000000000001) (task 00000000000000000000000000000002).",
            ),
            (
                Reason::BegunDraining { service: service.clone(), deployment, tasks: 3 },
                "(service web, taskSet ecs-svc/1000000000000000000) has begun draining connections on 3 tasks.",
            ),
            (
                Reason::Unplaceable {
                    service: service.clone(),
                    short: Unplaceable::Short {
                        closest: NodeId(5),
                        shortage: crate::placement::Shortage::Cpu { needed: 2, free: 1 },
                        others: Vec::new(),
                        more: 0,
                    },
                },
                "(service web) was unable to place a task because no container instance met all of its requirements. Reason: The closest matching container-instance 00000000000000000000000000000005 has insufficient CPU units available.",
            ),
            (
                Reason::Unplaceable { service: service.clone(), short: Unplaceable::NoNodes },
                "(service web) was unable to place a task because no container instance met all of its requirements. Reason: No Container Instances were found in your cluster.",
            ),
            (
                Reason::KeepsFailing { service: service.clone() },
                "(service web) is unable to consistently start tasks successfully.",
            ),
            (
                Reason::Completed { service: service.clone(), deployment },
                "(service web) (deployment ecs-svc/1000000000000000000) deployment completed.",
            ),
            (
                Reason::Failed { service: service.clone(), deployment },
                "(service web) (deployment ecs-svc/1000000000000000000) deployment failed: tasks failed to start.",
            ),
            (
                Reason::AlarmDetected { service: service.clone(), deployment },
                "(service web) (deployment ecs-svc/1000000000000000000) deployment failed: alarm detected.",
            ),
            (
                Reason::RollingBack { service: service.clone(), deployment },
                "(service web) rolling back to deployment ecs-svc/1000000000000000000.",
            ),
            (Reason::Steady { service }, "(service web) has reached a steady state."),
        ];
        for (reason, text) in expected {
            assert_eq!(reason.to_string(), text);
        }
    }
}
