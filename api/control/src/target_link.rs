//! What goes from the router to the store: how targets are, and which have no requests any more.

use std::collections::BTreeMap;
use std::convert::Infallible;

use coracle_store::{CommitError, Store, TransactError, transact};
use coracle_types::elb::{Target, TargetHealth, TargetHealthState, TargetRef, TargetReport, TaskTarget};
use coracle_types::{Changes, Key, State, Task, TaskKey, Timestamp};

/// Takes reports into the records they are of, in one commit. What is known already, or is of a registration
/// that is gone, changes nothing.
///
/// # Errors
/// What the store refuses.
pub async fn report(store: &dyn Store, reports: &[TargetReport]) -> Result<(), CommitError> {
    let written = transact(store, |state: &State| Ok::<_, Infallible>((changes(state, reports), ()))).await;
    match written {
        Ok(_) => Ok(()),
        Err(TransactError::Store(error)) => Err(error),
        Err(TransactError::Refused(never)) => match never {},
    }
}

fn changes(state: &State, reports: &[TargetReport]) -> Changes {
    let mut changes = Changes::new();
    // A task can be in several groups: all reports of it are one change.
    let mut tasks: BTreeMap<TaskKey, Task> = BTreeMap::new();
    for report in reports {
        match report.target() {
            TargetRef::Static(id) => {
                let Some(found) = state.targets.get(id) else { continue };
                let mut target = Target::clone(&found.value);
                match report {
                    TargetReport::Drained(drained)
                        if target.draining_since == Some(drained.draining_since) =>
                    {
                        changes.delete(Key::Target(id.clone()));
                    }
                    TargetReport::Health(seen)
                        if target.draining_since.is_none() && news(&target.health, &seen.health) =>
                    {
                        target.health = seen.health.clone();
                        changes.put(target);
                    }
                    _ => {}
                }
            }
            TargetRef::Task { group, task: key, port } => {
                let known = tasks.get(key).or_else(|| state.tasks.get(key).map(|found| &*found.value));
                let Some(known) = known else { continue };
                let mut task = known.clone();
                let is_meant = |target: &TaskTarget| target.group == *group && target.port == *port;
                let changed = match report {
                    TargetReport::Drained(drained) => {
                        let before = task.targets.len();
                        task.targets.retain(|target| {
                            !is_meant(target) || target.draining_since != Some(drained.draining_since)
                        });
                        task.targets.len() < before
                    }
                    TargetReport::Health(seen) => {
                        let mut live =
                            task.targets.iter_mut().filter(|target| target.draining_since.is_none());
                        match live.find(|target| is_meant(target)) {
                            Some(target) if news(&target.health, &seen.health) => {
                                target.health = seen.health.clone();
                                true
                            }
                            _ => false,
                        }
                    }
                };
                if changed {
                    task.version += 1;
                    tasks.insert(key.clone(), task);
                }
            }
        }
    }
    tasks.into_values().for_each(|task| changes.put(task));
    changes
}

/// Whether the router knows something that the record does not. Since when is not news.
#[must_use]
pub fn news(known: &TargetHealth, seen: &TargetHealth) -> bool {
    seen.state != TargetHealthState::Draining
        && (known.state, known.reason, &known.description) != (seen.state, seen.reason, &seen.description)
}

/// A registration that drains.
#[derive(Clone, Debug)]
pub struct Draining {
    /// Which one.
    pub target: TargetRef,
    /// Since when.
    pub since: Timestamp,
    /// The revision of its record.
    pub revision: u64,
}

/// Every registration there is.
#[derive(Debug, Default)]
pub struct Registrations {
    /// Those that get requests, with what is known of their health.
    pub live: Vec<(TargetRef, TargetHealth)>,
    /// Those that finish what they have begun.
    pub draining: Vec<Draining>,
}

impl Registrations {
    /// Those in `state`.
    #[must_use]
    pub fn of(state: &State) -> Self {
        let mut all = Self::default();
        for found in state.targets.values() {
            let target = &found.value;
            let at = TargetRef::Static(target.id.clone());
            all.add(at, target.draining_since, &target.health, found.revision);
        }
        for found in state.tasks.values() {
            for target in &found.value.targets {
                let (group, task) = (target.group.clone(), found.value.key());
                let at = TargetRef::Task { group, task, port: target.port };
                all.add(at, target.draining_since, &target.health, found.revision);
            }
        }
        all
    }

    fn add(&mut self, target: TargetRef, draining: Option<Timestamp>, health: &TargetHealth, revision: u64) {
        match draining {
            None => self.live.push((target, health.clone())),
            Some(since) => self.draining.push(Draining { target, since, revision }),
        }
    }
}
