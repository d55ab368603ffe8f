//! Lifecycle hooks: a stage is not passed before each hook at it has said so.
//!
//! A PAUSE hook is answered by ContinueServiceDeployment. So is one that names a function: functions do not run
//! here, so whoever runs it elsewhere tells what it said.

use coracle_types::{HookDetail, HookStatus};

use super::draft::Draft;
use crate::plan::Pass;

/// What the hooks at a stage say together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of them said: go on. Or there are none.
    GoOn,
    /// One has not said anything yet.
    Wait,
    /// One said: go back.
    GoBack,
}

/// Asks the hooks at a stage, named as the API names it. `round` tells apart the steps of a stage that comes more
/// than once.
pub(super) fn ask(pass: &mut Pass<'_>, draft: &mut Draft<'_>, stage: &str, round: u32) -> Verdict {
    let now = pass.now;
    let Some(record) = draft.record() else { return Verdict::GoOn };
    let hooks = record.configuration.lifecycle_hooks();
    let at_stage = hooks.iter().enumerate().filter(|(_, hook)| hook.stages.iter().any(|one| one == stage));
    let mut details = Vec::new();
    for (place, hook) in at_stage {
        let id = format!("{stage}-{place}-{round}");
        let known = record.hooks.iter().find(|detail| detail.id == id).cloned();
        details.push(known.unwrap_or_else(|| HookDetail {
            id,
            target: hook.target.clone(),
            stage: stage.to_owned(),
            status: HookStatus::AwaitingAction,
            expires_at: now.after(hook.timeout),
            continue_on_timeout: hook.continue_on_timeout,
        }));
    }
    let mut verdict = Verdict::GoOn;
    for detail in &mut details {
        if detail.status == HookStatus::AwaitingAction && detail.expires_at <= now {
            detail.status = HookStatus::TimedOut;
        }
        match detail.status {
            HookStatus::Succeeded => {}
            HookStatus::TimedOut if detail.continue_on_timeout => {}
            HookStatus::TimedOut | HookStatus::Failed => verdict = Verdict::GoBack,
            HookStatus::AwaitingAction => {
                pass.wake(detail.expires_at);
                if verdict == Verdict::GoOn {
                    verdict = Verdict::Wait;
                }
            }
        }
    }
    let is_new = |detail: &HookDetail| !record.hooks.contains(detail);
    if details.iter().any(is_new) {
        draft.edit_record(now, |record| {
            for detail in details {
                match record.hooks.iter_mut().find(|one| one.id == detail.id) {
                    Some(one) => *one = detail,
                    None => record.hooks.push(detail),
                }
            }
        });
    }
    verdict
}
