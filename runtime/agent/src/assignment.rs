//! Compares what a node should run with what it runs. Pure.

use std::collections::{HashMap, HashSet};

use coracle_types::{Assigned, AssignedTask, DesiredStatus, LastStatus, StopCode, TaskId, TaskStop};

/// What a running task has been told so far. It only ever grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Told {
    /// To run.
    Run,
    /// To stop.
    Stop,
    /// To be gone, without anybody asking how.
    Forget,
}

/// What makes of what runs what should run.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Actions<'a> {
    /// Tasks to take up. Those that should stop already are taken up too, because somebody waits to hear that
    /// they have.
    pub(crate) start: Vec<&'a AssignedTask>,
    pub(crate) stop: Vec<(TaskId, TaskStop)>,
    pub(crate) forget: Vec<TaskId>,
    /// Ended tasks nobody asks about any more.
    pub(crate) prune: Vec<TaskId>,
}

/// Compares the assigned set with the tasks that run and those that have ended here.
pub(crate) fn compute_actions<'a>(
    assigned: &'a Assigned,
    running: &HashMap<TaskId, Told>,
    ended: &HashSet<TaskId>,
) -> Actions<'a> {
    let mut actions = Actions::default();
    let mut named = HashSet::with_capacity(assigned.tasks.len());
    for one in &assigned.tasks {
        let id = one.task.id;
        if !named.insert(id) {
            continue;
        }
        match running.get(&id) {
            Some(Told::Run) => {
                if let Some(stop) = wanted_stop(one) {
                    actions.stop.push((id, stop));
                }
            }
            Some(Told::Stop | Told::Forget) => {}
            None if ended.contains(&id) || one.task.last_status == LastStatus::Stopped => {}
            None => actions.start.push(one),
        }
    }
    let missing = |id: &&TaskId| !named.contains(*id);
    let forget = running.iter().filter(|&(_, &told)| told < Told::Forget).map(|(id, _)| id);
    actions.forget = forget.filter(missing).copied().collect();
    actions.prune = ended.iter().filter(missing).copied().collect();
    actions
}

/// Why a task should stop, if it should.
pub(crate) fn wanted_stop(assigned: &AssignedTask) -> Option<TaskStop> {
    if assigned.task.desired_status == DesiredStatus::Running {
        return None;
    }
    Some(assigned.task.stop.clone().unwrap_or_else(|| TaskStop {
        code: StopCode::UserInitiated,
        reason: "Task stopped by user".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{assigned, container, definition, task};

    fn set(ids: &[(u128, DesiredStatus)]) -> Assigned {
        let definition = Arc::new(definition(vec![container("web", "web")]));
        let tasks = ids.iter().map(|&(id, desired_status)| {
            let mut task = task(&definition, id);
            task.desired_status = desired_status;
            AssignedTask { task: Arc::new(task), definition: Arc::clone(&definition) }
        });
        assigned(1, tasks.collect())
    }

    #[test]
    fn new_tasks_start_and_ended_ones_do_not_come_back() {
        let set =
            set(&[(1, DesiredStatus::Running), (2, DesiredStatus::Stopped), (3, DesiredStatus::Running)]);
        let actions = compute_actions(&set, &HashMap::new(), &HashSet::from([TaskId(3)]));
        assert_eq!(actions.start.iter().map(|one| one.task.id.0).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((actions.stop.len(), actions.forget.len(), actions.prune.len()), (0, 0, 0));
    }

    #[test]
    fn a_task_is_told_once() {
        let set =
            set(&[(1, DesiredStatus::Stopped), (2, DesiredStatus::Stopped), (3, DesiredStatus::Running)]);
        let running =
            HashMap::from([(TaskId(1), Told::Run), (TaskId(2), Told::Stop), (TaskId(3), Told::Run)]);
        let actions = compute_actions(&set, &running, &HashSet::new());
        assert_eq!(actions.stop.len(), 1);
        assert_eq!(actions.stop[0].0, TaskId(1));
        assert_eq!(actions.stop[0].1.reason, "Task stopped by user");
        assert!(actions.start.is_empty() && actions.forget.is_empty());
    }

    #[test]
    fn what_is_missing_is_forgotten() {
        let running = HashMap::from([(TaskId(1), Told::Stop), (TaskId(2), Told::Forget)]);
        let set = set(&[]);
        let actions = compute_actions(&set, &running, &HashSet::from([TaskId(9)]));
        assert_eq!((actions.forget, actions.prune), (vec![TaskId(1)], vec![TaskId(9)]));
    }

    #[test]
    fn a_task_named_twice_starts_once() {
        let set = set(&[(1, DesiredStatus::Running), (1, DesiredStatus::Running)]);
        assert_eq!(compute_actions(&set, &HashMap::new(), &HashSet::new()).start.len(), 1);
    }
}
