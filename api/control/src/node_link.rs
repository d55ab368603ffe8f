//! What goes between the store and a node: its registration, its assigned set, what it saw.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{CommitError, Store, TransactError, transact};
use coracle_types::{
    Assigned, AssignedTask, Changes, ClusterId, DesiredStatus, Key, Node, NodeId, NodeLoad, State, Task,
    TaskId, TaskKey, TaskObservation, Timestamp,
};
use tokio::sync::{mpsc, watch};

use crate::stop::stopped;

/// How long to wait before observations that could not be written are written again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Registers a node with what it offers and the attributes it has by itself, as one incarnation more than before. Tasks of earlier
/// incarnations are lost with that.
///
/// # Errors
/// What the store refuses.
pub async fn register(
    store: &dyn Store,
    id: NodeId,
    cpu_units: u32,
    memory_mib: u32,
    attributes: &BTreeMap<String, Option<String>>,
    now: Timestamp,
) -> Result<Node, CommitError> {
    let registered = transact(store, |state: &State| {
        let before = state.nodes.get(&id);
        let incarnation = before.map_or(1, |found| found.value.incarnation + 1);
        // What people have put on the node, and whether it is to drain, outlives its process.
        let mut node = match before {
            Some(before) => Node {
                cpu_units,
                memory_mib,
                registered_at: now,
                incarnation,
                agent_connected: true,
                ..Node::clone(&before.value)
            },
            None => Node::new(id, cpu_units, memory_mib, now, incarnation),
        };
        node.attributes.extend(attributes.clone());
        let mut changes = Changes::new();
        changes.put(node.clone());
        Ok::<_, Infallible>((changes, node))
    })
    .await;
    match registered {
        Ok((_, node)) => Ok(node),
        Err(TransactError::Store(error)) => Err(error),
        Err(TransactError::Refused(never)) => match never {},
    }
}

/// What `node` should be running or stopping: the tasks of its incarnation that are not STOPPED.
#[must_use]
pub fn assigned(state: &State, node: &Node) -> Assigned {
    let load = state.index().on_node(node.id, node.incarnation);
    let tasks = load
        .into_iter()
        .flat_map(NodeLoad::tasks)
        .map(|found| &found.value)
        .filter_map(|task| {
            // Definitions outlive their tasks; without one there is nothing to run.
            let definition = state.task_definitions.get(&task.task_definition)?;
            Some(AssignedTask { task: as_assigned(task), definition: Arc::clone(&definition.value) })
        })
        .collect();
    Assigned { generation: state.revision, tasks }
}

/// A task as its node should see it: one that is still registered in a target group goes on running until
/// its requests have ended.
fn as_assigned(task: &Arc<Task>) -> Arc<Task> {
    let held = task.desired_status == DesiredStatus::Stopped && !task.targets.is_empty();
    if !held {
        return Arc::clone(task);
    }
    Arc::new(Task { desired_status: DesiredStatus::Running, ..Task::clone(task) })
}

/// Keeps `tx` at what `node` should be running, until `shutdown` is true or nobody receives any more.
/// Sends only when there is something for the node to do: what it reported itself is no news to it.
pub async fn feed(
    store: Arc<dyn Store>,
    node: Node,
    tx: watch::Sender<Arc<Assigned>>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut changed = store.watch();
    let mut sent: Option<Vec<(TaskId, DesiredStatus)>> = None;
    let mut seen: Option<u64> = None;
    while !*shutdown.borrow() {
        changed.borrow_and_update();
        let state = store.snapshot();
        if concerns(&state, seen, &node) {
            let next = assigned(&state, &node);
            let work = work(&next);
            if sent.as_ref() != Some(&work) {
                tx.send_replace(Arc::new(next));
                sent = Some(work);
            }
        }
        seen = Some(state.revision);
        tokio::select! {
            () = stopped(&mut shutdown) => return,
            () = tx.closed() => return,
            alive = changed.changed() => if alive.is_err() { return },
        }
    }
}

/// Whether anything that was changed after revision `seen` may be news to a node: a task of it, or one that is gone.
fn concerns(state: &State, seen: Option<u64>, node: &Node) -> bool {
    let Some(mut changed) = seen.and_then(|seen| state.changed_since(seen)) else { return true };
    changed.any(|key| match key {
        Key::Task(key) => {
            state.tasks.get(key).is_none_or(|found| found.value.node.is_some_and(|(on, _)| on == node.id))
        }
        _ => false,
    })
}

/// The part of an assigned set that makes a node act; in the order of the store's table.
fn work(assigned: &Assigned) -> Vec<(TaskId, DesiredStatus)> {
    assigned.tasks.iter().map(|one| (one.task.id, one.task.desired_status)).collect()
}

/// Writes what a node saw into its tasks' records, until `rx` ends, or `shutdown` is true and everything
/// sent until then is written.
///
/// Observations that wait together are one commit, the latest of each task: each is the whole picture.
/// What could not be written is tried again, with what came in meanwhile.
pub async fn report(
    store: Arc<dyn Store>,
    mut rx: mpsc::UnboundedReceiver<TaskObservation>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut pending: BTreeMap<TaskId, TaskObservation> = BTreeMap::new();
    let mut ending = false;
    loop {
        if pending.is_empty() && !ending {
            tokio::select! {
                biased;
                seen = rx.recv() => match seen {
                    Some(seen) => { pending.insert(seen.task, seen); }
                    None => return,
                },
                () = stopped(&mut shutdown) => ending = true,
            }
        }
        while let Ok(seen) = rx.try_recv() {
            pending.insert(seen.task, seen);
        }
        if pending.is_empty() {
            // Only an ending loop gets here.
            return;
        }
        let (written, later) = gather(write(&*store, &pending), &mut rx).await;
        if written.is_ok() {
            pending.clear();
        }
        pending.extend(later);
        match written {
            // Many others write the same tasks; they can't go on for ever.
            Ok(()) | Err(CommitError::Conflict(_)) => {}
            Err(error) => {
                tracing::error!(%error, tasks = pending.len(), "what a node saw could not be written");
                if error == CommitError::Closed || ending {
                    return;
                }
                tokio::select! {
                    () = stopped(&mut shutdown) => ending = true,
                    () = tokio::time::sleep(RETRY_AFTER) => {}
                }
            }
        }
    }
}

/// Waits for `writing`, and takes in what comes meanwhile, the latest of each task: while the store is slow,
/// as much waits as there are tasks, and not as much as their node has seen of them.
async fn gather<T>(
    writing: impl Future<Output = T>,
    rx: &mut mpsc::UnboundedReceiver<TaskObservation>,
) -> (T, BTreeMap<TaskId, TaskObservation>) {
    let mut later = BTreeMap::new();
    let mut writing = std::pin::pin!(writing);
    loop {
        tokio::select! {
            biased;
            written = &mut writing => return (written, later),
            Some(seen) = rx.recv() => { later.insert(seen.task, seen); }
        }
    }
}

/// Takes observations into the tasks they are of, in one commit. One that is older than what is known,
/// or whose task is forgotten, changes nothing.
async fn write(store: &dyn Store, seen: &BTreeMap<TaskId, TaskObservation>) -> Result<(), CommitError> {
    let written = transact(store, |state: &State| {
        let clusters = clusters_with_tasks(state);
        let mut changes = Changes::new();
        for seen in seen.values() {
            let Some(task) = find_task(state, &clusters, seen.task) else {
                tracing::debug!(task = %seen.task, "a node reported a task nobody knows");
                continue;
            };
            let mut task = Task::clone(task);
            if task.observe(seen) {
                changes.put(task);
            }
        }
        Ok::<_, Infallible>((changes, ()))
    })
    .await;
    match written {
        Ok(_) => Ok(()),
        Err(TransactError::Store(error)) => Err(error),
        Err(TransactError::Refused(never)) => match never {},
    }
}

/// The clusters that have tasks, found in leaps: a node reports tasks by id alone, and tasks are stored
/// by cluster first.
fn clusters_with_tasks(state: &State) -> Vec<ClusterId> {
    let mut clusters: Vec<ClusterId> = Vec::new();
    loop {
        let after = clusters.last().map(|last| TaskKey { cluster: last.clone(), id: TaskId(u128::MAX) });
        let from = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = state.tasks.range((from, Bound::Unbounded)).next().map(|(key, _)| key.cluster.clone());
        match next {
            Some(cluster) => clusters.push(cluster),
            None => return clusters,
        }
    }
}

fn find_task<'a>(state: &'a State, clusters: &[ClusterId], id: TaskId) -> Option<&'a Task> {
    clusters.iter().find_map(|cluster| {
        let key = TaskKey { cluster: cluster.clone(), id };
        state.tasks.get(&key).map(|found| &*found.value)
    })
}

#[cfg(test)]
mod tests {
    use coracle_types::LastStatus;
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn while_the_store_is_slow_only_the_latest_of_each_task_waits() {
        let (observed, mut rx) = mpsc::unbounded_channel();
        let (written, writing) = oneshot::channel();
        let seen = |task: u128, status| TaskObservation {
            task: TaskId(task),
            status,
            stop: None,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            stopping_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            containers: Vec::new(),
        };
        let sending = async {
            for _ in 0..100 {
                observed.send(seen(1, LastStatus::Activating)).unwrap();
                observed.send(seen(2, LastStatus::Running)).unwrap();
            }
            observed.send(seen(1, LastStatus::Running)).unwrap();
            // Tokio makes a channel yield every 128 messages.
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            written.send(()).unwrap();
        };
        let ((_, later), ()) = tokio::join!(gather(writing, &mut rx), sending);
        assert_eq!(later.len(), 2);
        assert!(later.values().all(|seen| seen.status == LastStatus::Running));
        assert!(rx.is_empty());
    }
}
