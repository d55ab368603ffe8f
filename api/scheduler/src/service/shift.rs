//! Blue/green, linear and canary deployments: the new tasks come up beside the old ones, then the traffic goes
//! over, and only then do the old tasks stop.
//!
//! ```text
//! RECONCILE_SERVICE            tasks of deployments that were superseded stop
//!   ▼ hooks
//! PRE_SCALE_UP                 nothing yet
//!   ▼ hooks
//! SCALE_UP                     new tasks start, all of them
//!   ▼ all ready
//! POST_SCALE_UP
//!   ▼ hooks
//! TEST_TRAFFIC_SHIFT           test traffic goes over at once
//!   ▼ hooks
//! POST_TEST_TRAFFIC_SHIFT
//!   ▼ hooks
//! PRODUCTION_TRAFFIC_SHIFT     at once, in steps, or a first part and then the rest; hooks before and at each step
//!   ▼ all of it
//! POST_PRODUCTION_TRAFFIC_SHIFT
//!   ▼ hooks
//! BAKE_TIME                    old tasks stay, to be able to go back at once
//!   ▼ bakeTimeInMinutes
//! CLEAN_UP                     old tasks stop; done when none is left
//! ```
//!
//! Whatever fails before the end — tasks that keep failing, a hook, a request to stop — leads back: traffic goes
//! to the old tasks in the same moment, and the new ones stop.

use std::time::Duration;

use coracle_types::{DeploymentId, DeploymentStrategy, LifecycleStage, Task};

use super::draft::Draft;
use super::hooks::{self, Verdict};
use super::roll::{complete, retire, say_what_is_in_the_way};
use super::start::{Origin, Target, start};
use super::{Classified, give_up, stop_all, to_usize, traffic};
use crate::bounds::Bounds;
use crate::deployment::Why;
use crate::plan::Pass;

/// What a stage comes to.
enum Next {
    Stay,
    Go(LifecycleStage),
    Back,
}

/// What the stages go by.
struct Sides<'s, 't> {
    tasks: &'s [Classified<'t>],
    desired: usize,
    /// The deployment traffic comes from.
    source: DeploymentId,
}

impl Sides<'_, '_> {
    fn new_ready(&self) -> usize {
        self.tasks.iter().filter(|one| one.is_wanted() && one.is_ready()).count()
    }

    /// Whether tasks of a deployment that is neither the new one nor the source are on their way out. Those that
    /// the lower bound still needs stay.
    fn has_superseded(&self) -> bool {
        let leaving = |one: &&Classified<'_>| one.is_active() && !one.is_ready();
        self.tasks.iter().filter(leaving).any(|one| self.is_superseded(one))
    }

    fn is_superseded(&self, one: &Classified<'_>) -> bool {
        !one.current && one.task.deployment != Some(self.source)
    }
}

pub(super) fn advance(pass: &mut Pass<'_>, draft: &mut Draft<'_>, tasks: &[Classified<'_>]) {
    let service = draft.service();
    let desired = to_usize(service.desired_count);
    let Some(source) = give_up::source(service).map(|source| source.id) else { return };
    let sides = Sides { tasks, desired, source };
    loop {
        let Some(stage) = draft.record().map(|record| record.stage) else { return };
        match step(pass, draft, stage, &sides) {
            Next::Stay => break,
            Next::Go(next) => {
                let now = pass.now;
                draft.edit_record(now, |record| (record.stage, record.stage_since) = (next, now));
            }
            Next::Back => return give_up::roll_back(pass, draft, Why::Hook),
        }
    }
    keep_sides(pass, draft, &sides);
}

fn step(pass: &mut Pass<'_>, draft: &mut Draft<'_>, stage: LifecycleStage, sides: &Sides<'_, '_>) -> Next {
    use LifecycleStage as Stage;
    match stage {
        Stage::ReconcileService if sides.has_superseded() => Next::Stay,
        Stage::ReconcileService => after_hooks(pass, draft, stage.name(), Stage::PreScaleUp),
        Stage::PreScaleUp => after_hooks(pass, draft, stage.name(), Stage::ScaleUp),
        Stage::ScaleUp if sides.new_ready() < sides.desired => Next::Stay,
        Stage::ScaleUp => Next::Go(Stage::PostScaleUp),
        Stage::PostScaleUp => after_hooks(pass, draft, stage.name(), Stage::TestTrafficShift),
        Stage::TestTrafficShift if !traffic::shift(pass, draft, None, Some(100.0)) => Next::Stay,
        Stage::TestTrafficShift => after_hooks(pass, draft, stage.name(), Stage::PostTestTrafficShift),
        Stage::PostTestTrafficShift => after_hooks(pass, draft, stage.name(), Stage::ProductionTrafficShift),
        Stage::ProductionTrafficShift => shift_production(pass, draft),
        Stage::PostProductionTrafficShift => after_hooks(pass, draft, stage.name(), Stage::BakeTime),
        Stage::BakeTime => {
            let Some(record) = draft.record() else { return Next::Stay };
            let until = record.stage_since.after(record.configuration.bake_time());
            if pass.now < until {
                pass.wake(until);
                return Next::Stay;
            }
            Next::Go(Stage::CleanUp)
        }
        Stage::CleanUp => Next::Stay,
    }
}

fn after_hooks(pass: &mut Pass<'_>, draft: &mut Draft<'_>, stage: &str, next: LifecycleStage) -> Next {
    match hooks::ask(pass, draft, stage, 0) {
        Verdict::GoOn => Next::Go(next),
        Verdict::Wait => Next::Stay,
        Verdict::GoBack => Next::Back,
    }
}

/// The next share of production traffic after `has` percent, and how long that one is watched first.
fn next_share(strategy: DeploymentStrategy, has: f64) -> Option<(f64, Duration)> {
    if has >= 100.0 {
        return None;
    }
    Some(match strategy {
        DeploymentStrategy::Rolling | DeploymentStrategy::BlueGreen => (100.0, Duration::ZERO),
        DeploymentStrategy::Linear { step_percent, step_bake } => {
            let watched = if has > 0.0 { step_bake } else { Duration::ZERO };
            ((has + step_percent.max(1.0)).min(100.0), watched)
        }
        DeploymentStrategy::Canary { canary_percent, .. } if has <= 0.0 => {
            (canary_percent.clamp(0.1, 100.0), Duration::ZERO)
        }
        DeploymentStrategy::Canary { canary_bake, .. } => (100.0, canary_bake),
    })
}

fn shift_production(pass: &mut Pass<'_>, draft: &mut Draft<'_>) -> Next {
    let Some(record) = draft.record() else { return Next::Stay };
    let Some((share, watched)) = next_share(record.configuration.strategy(), record.production_weight) else {
        return Next::Go(LifecycleStage::PostProductionTrafficShift);
    };
    let due = record.stage_since.after(watched);
    if pass.now < due {
        pass.wake(due);
        return Next::Stay;
    }
    // Per mille of the traffic tell the steps apart.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let round = (share * 10.0).round() as u32;
    for stage in ["PRE_PRODUCTION_TRAFFIC_SHIFT", LifecycleStage::ProductionTrafficShift.name()] {
        match hooks::ask(pass, draft, stage, round) {
            Verdict::GoOn => {}
            Verdict::Wait => return Next::Stay,
            Verdict::GoBack => return Next::Back,
        }
    }
    if !traffic::shift(pass, draft, Some(share), None) {
        return Next::Stay;
    }
    // The same stage again, from now: its next step is watched from here on.
    Next::Go(LifecycleStage::ProductionTrafficShift)
}

/// Keeps both sides at the desired count: the new one from SCALE_UP on, the old one until CLEAN_UP.
fn keep_sides(pass: &mut Pass<'_>, draft: &mut Draft<'_>, sides: &Sides<'_, '_>) {
    let service = draft.service();
    let (Some(primary), Some(record)) = (service.primary(), draft.record()) else { return };
    let stage = record.stage;
    let origin = Origin::from(primary);
    let source = service.deployments.iter().find(|one| one.id == sides.source).map(Origin::from);
    let bounds = Bounds::of_shifting(service.desired_count, &service.deployment_configuration);
    let tasks = sides.tasks;
    let counted = |current: bool| {
        tasks.iter().filter(move |one| {
            one.phase.counts() && one.current == current && (current || !sides.is_superseded(one))
        })
    };

    let new = counted(true).filter(|one| !one.evicted).count();
    let old = counted(false).filter(|one| !one.evicted).count();
    let old_surplus =
        if stage == LifecycleStage::CleanUp { usize::MAX } else { old.saturating_sub(sides.desired) };
    let superseded = worst_first(tasks, |one| sides.is_superseded(one));
    let too_many_new = worst_first(tasks, |one| one.current).take(new.saturating_sub(sides.desired));
    let too_many_old = worst_first(tasks, |one| !one.current && !sides.is_superseded(one)).take(old_surplus);
    // How many RUNNING tasks may go without going below the lower bound.
    let mut spare = tasks.iter().filter(|one| one.is_ready()).count().saturating_sub(to_usize(bounds.lower));
    let mut stops: Vec<&Task> = Vec::new();
    for one in superseded.chain(too_many_new).chain(too_many_old) {
        if one.is_ready() {
            if spare == 0 {
                continue;
            }
            spare -= 1;
        }
        stops.push(one.task);
    }

    let active = tasks.iter().filter(|one| one.is_active()).count();
    let mut room = to_usize(bounds.upper).saturating_sub(active);
    let mut started = Vec::new();
    let missing_new = if stage >= LifecycleStage::ScaleUp { sides.desired.saturating_sub(new) } else { 0 };
    let missing_old = if stage < LifecycleStage::CleanUp { sides.desired.saturating_sub(old) } else { 0 };
    // Traffic is on the old ones: those first.
    for (origin, missing) in [(source.as_ref(), missing_old), (Some(&origin), missing_new)] {
        let Some(origin) = origin else { continue };
        let starts = start(pass, draft, origin, vec![Target::Any; missing], room, tasks);
        room -= starts.started.len();
        started.extend(starts.started.iter().copied());
        let still = started.is_empty() && stops.is_empty();
        say_what_is_in_the_way(pass, draft, &starts, still, tasks);
    }

    let over = stop_all(pass, &stops, origin.id);
    draft.say_started(pass, &started);
    draft.say_stopped(pass, &stops);
    let older_left = if stage == LifecycleStage::CleanUp { retire(pass, draft, tasks, &over) } else { true };
    let done = !older_left && missing_new == 0 && sides.new_ready() >= sides.desired;
    complete(pass, draft, done);
    draft.set_steady(false);
}

/// Tasks that may be stopped: those that do not run yet first, then the youngest.
fn worst_first<'t>(
    tasks: &[Classified<'t>],
    is: impl Fn(&Classified<'t>) -> bool,
) -> std::vec::IntoIter<Classified<'t>> {
    let mut some: Vec<Classified<'t>> =
        tasks.iter().copied().filter(|one| one.phase.counts() && !one.protected && is(one)).collect();
    some.sort_by_key(|one| (one.phase, std::cmp::Reverse(one.task.created_at), one.task.id));
    some.into_iter()
}
