//! How long a service waits before it starts tasks again.
//!
//! Two things make it wait. Tasks that stop without ever having been RUNNING, as in ECS; and, because
//! components end in microseconds, tasks that run but stop right after their start: without a wait,
//! replacing them would take the whole machine. Both waits grow from round to round, where a round is
//! the tasks that were started since the last wait.

use std::time::Duration;

use coracle_types::{LaunchBackoff, StopCode, Task, Timestamp};

use crate::classify::Phase;

/// How a wait grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffPolicy {
    /// The wait after the first round; each further one doubles it.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// From this many rounds in a row an event says so.
    pub said_after_rounds: u32,
}

impl BackoffPolicy {
    /// After tasks that never ran. ECS's throttle goes up to 15 minutes; it begins at seconds here,
    /// because a start costs so little.
    pub const NEVER_RAN: Self =
        Self { first: Duration::from_secs(1), max: Duration::from_secs(15 * 60), said_after_rounds: 3 };

    /// After tasks that stopped right after their start. Shorter: they did run, and may be meant to.
    pub const BRIEF_RUN: Self =
        Self { first: Duration::from_secs(1), max: Duration::from_secs(60), said_after_rounds: 3 };

    /// The wait after `rounds` rounds in a row.
    #[must_use]
    pub fn delay(&self, rounds: u32) -> Duration {
        let doublings = rounds.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.max)
    }
}

/// A task that ran for less than this has stopped right after its start.
pub(crate) const BRIEF: Duration = Duration::from_secs(10);

/// A task that was started this long after the last wait was over begins a new series of brief runs.
const FORGET_BRIEF_RUNS: Duration = Duration::from_secs(60);

/// A task of the primary deployment that changed since the last count.
#[derive(Clone, Copy)]
pub(crate) struct Changed<'a> {
    pub(crate) task: &'a Task,
    pub(crate) phase: Phase,
    pub(crate) revision: u64,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) backoff: LaunchBackoff,
    /// The deployment's failures in a row.
    pub(crate) failed_tasks: u32,
}

enum Outcome {
    NeverRan,
    RanBriefly,
    Ran,
    Ready,
    Nothing,
}

fn outcome(changed: &Changed<'_>) -> Outcome {
    let task = changed.task;
    match changed.phase {
        Phase::Ready => Outcome::Ready,
        Phase::Stopped => {
            let deliberate = task.stop.as_ref().is_some_and(|stop| match stop.code {
                StopCode::UserInitiated
                | StopCode::ServiceSchedulerInitiated
                | StopCode::TerminationNotice
                | StopCode::SpotInterruption
                | StopCode::InfrastructureHealth => true,
                StopCode::TaskFailedToStart | StopCode::EssentialContainerExited => false,
            });
            match task.started_at {
                _ if deliberate => Outcome::Nothing,
                None => Outcome::NeverRan,
                Some(started) => {
                    let ended = task.execution_stopped_at.or(task.stopped_at).unwrap_or(started);
                    if ended.since(started) < BRIEF { Outcome::RanBriefly } else { Outcome::Ran }
                }
            }
        }
        _ => Outcome::Nothing,
    }
}

/// Counts what became of `changed`, in the order of their revisions, on top of `before`. A task that runs makes the
/// deployment's failures before it forgotten, if it `forgives`.
pub(crate) fn count(before: Tally, changed: &mut [Changed<'_>], forgives: bool, now: Timestamp) -> Tally {
    changed.sort_by_key(|one| (one.revision, one.task.id));
    let mut tally = before;
    let since = before.backoff.not_before;
    let (mut failed_again, mut exited_again) = (false, false);
    for one in &*changed {
        let new_round = one.task.created_at >= since;
        let backoff = &mut tally.backoff;
        match outcome(one) {
            Outcome::Nothing => continue,
            Outcome::NeverRan => {
                backoff.consecutive_failures = backoff.consecutive_failures.saturating_add(1);
                tally.failed_tasks = tally.failed_tasks.saturating_add(1);
                failed_again |= new_round;
                continue;
            }
            Outcome::RanBriefly => {
                if one.task.created_at.since(since) > FORGET_BRIEF_RUNS {
                    backoff.short_rounds = 0;
                }
                exited_again |= new_round;
            }
            Outcome::Ran => backoff.short_rounds = 0,
            Outcome::Ready => {}
        }
        // It ran, so the failures before it are not in a row with what comes.
        backoff.consecutive_failures = 0;
        backoff.failed_rounds = 0;
        if forgives {
            tally.failed_tasks = 0;
        }
    }
    let backoff = &mut tally.backoff;
    if failed_again {
        backoff.failed_rounds = backoff.failed_rounds.saturating_add(1);
        let until = now.after(BackoffPolicy::NEVER_RAN.delay(backoff.failed_rounds));
        backoff.not_before = backoff.not_before.max(until);
    }
    if exited_again {
        backoff.short_rounds = backoff.short_rounds.saturating_add(1);
        let until = now.after(BackoffPolicy::BRIEF_RUN.delay(backoff.short_rounds));
        backoff.not_before = backoff.not_before.max(until);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_maximum() {
        let delays = |policy: BackoffPolicy, rounds: &[u32]| {
            rounds.iter().map(|&round| policy.delay(round).as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(
            delays(BackoffPolicy::NEVER_RAN, &[1, 2, 3, 4, 10, 11, u32::MAX]),
            [1, 2, 4, 8, 512, 900, 900]
        );
        assert_eq!(delays(BackoffPolicy::BRIEF_RUN, &[1, 2, 6, 7, 40]), [1, 2, 32, 60, 60]);
    }
}
