//! What is left of a plan when what is wrong with it is taken out.

use std::collections::BTreeSet;

use coracle_types::{Change, Key, NodeId, Record, ServiceId, State, Task, TaskId};

use crate::check::{Violation, check_plan};
use crate::plan::Plan;

/// Whom a part of a plan is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Service(ServiceId),
    Task(TaskId),
}

/// Takes everything out of `plan` that is about a service, or a task by itself, for which a safety property would
/// be broken, so that a mistake about one service does not stop all others. Answers with what is left, which is
/// safe, and with what was wrong.
#[must_use]
pub fn contain(state: &State, mut plan: Plan) -> (Plan, Vec<Violation>) {
    let mut wrong = Vec::new();
    loop {
        let violations = check_plan(state, &plan);
        if violations.is_empty() {
            return (plan, wrong);
        }
        let culprits: BTreeSet<Subject> =
            violations.iter().flat_map(|violation| culprits(state, &plan, violation)).collect();
        wrong.extend(violations);
        let before = plan.changes.changes.len();
        plan.changes
            .changes
            .retain(|change| subject(state, change).is_none_or(|subject| !culprits.contains(&subject)));
        if plan.changes.changes.len() == before {
            // Nobody to blame: nothing of it can be trusted.
            plan.changes.changes.clear();
            return (plan, wrong);
        }
    }
}

fn of_task(task: &Task) -> Subject {
    match task.service() {
        Some(name) => Subject::Service(ServiceId { cluster: task.cluster.clone(), name: name.clone() }),
        None => Subject::Task(task.id),
    }
}

fn subject(state: &State, change: &Change) -> Option<Subject> {
    match change {
        Change::Put(Record::Task(task)) => Some(of_task(task)),
        Change::Delete(Key::Task(key)) => state.tasks.get(key).map(|found| of_task(&found.value)),
        Change::Put(Record::Service(service)) => Some(Subject::Service(service.id.clone())),
        Change::Delete(Key::Service(id)) => Some(Subject::Service(id.clone())),
        Change::Put(Record::ServiceDeployment(record)) => Some(Subject::Service(record.id.service.clone())),
        _ => None,
    }
}

fn culprits(state: &State, plan: &Plan, violation: &Violation) -> Vec<Subject> {
    let placed_on = |node: &NodeId| -> Vec<Subject> {
        let tasks = plan.changes.changes.iter().filter_map(|change| match change {
            Change::Put(Record::Task(task)) if task.node.is_some_and(|(on, _)| on == *node) => Some(task),
            _ => None,
        });
        tasks.map(|task| of_task(task)).collect()
    };
    let with_task = |id: &TaskId| -> Vec<Subject> {
        let about = plan.changes.changes.iter().filter(|change| match change.key() {
            Key::Task(key) => key.id == *id,
            _ => false,
        });
        about.filter_map(|change| subject(state, change)).collect()
    };
    match violation {
        Violation::ChangedTwice(key) => {
            let same = plan.changes.changes.iter().filter(|change| change.key() == *key);
            same.filter_map(|change| subject(state, change)).collect()
        }
        Violation::DuplicateId(id) => id.parse().map(|id| with_task(&id)).unwrap_or_default(),
        Violation::OverCapacity(node) => placed_on(node),
        Violation::AboveUpperBound { service, .. } | Violation::BelowLowerBound { service, .. } => {
            vec![Subject::Service(service.clone())]
        }
        Violation::StoppedTaskChanged(task)
        | Violation::LiveTaskDeleted(task)
        | Violation::Revived(task)
        | Violation::WentBack(task)
        | Violation::Moved(task)
        | Violation::NoSuchNode(task)
        | Violation::StartedForInactive(task)
        | Violation::SecondDaemon(task)
        | Violation::NodeClosed(task)
        | Violation::ConstraintBroken(task)
        | Violation::PortTaken(task)
        | Violation::ProtectedStopped(task) => with_task(task),
    }
}
