//! The life of one task as a state machine: events in, effects out. Pure: it reads no clock, starts nothing
//! and waits for nothing; [`crate::driver`] does what the effects say and brings back events.
//!
//! ```text
//!             Begin           all started or ended
//!  Pending ───────▶ Activating ───────────────────▶ Running
//!     │                 │ a failure, a stop            │ a stop, an essential container's end
//!     └─────────────────┴───────────────┬──────────────┘
//!                                       ▼ HTTP containers leave the endpoints, finish their requests
//!                                 Deactivating
//!                                       ▼ none is draining
//!                                   Stopping        containers end, those that others depend on last
//!                                       ▼ all have ended
//!                                Deprovisioning     the task's volumes are removed
//!                                       ▼
//!                                    Stopped
//! ```
//!
//! Exit codes are the guest's own, or [`Exit::code`]'s for one that ended badly: 134 for a trap, 137 for memory,
//! 152 for fuel. A command that is told to stop gets 143; an HTTP container 0 when its requests have ended in time,
//! 137 when they have not; a plugin that others are linked to 0, after them.
//!
//! A task never goes back, and passes through every state from Deactivating on, so whoever follows the reports
//! sees the whole walk also of a task that failed at once. Events that come too late for a state change nothing.

use std::time::Duration;

use coracle_sandbox::Exit;
use coracle_types::{
    ContainerObservation, ContainerStatus, DependencyCondition, HealthStatus, LastStatus, StopCode, TaskId,
    TaskObservation, TaskStop, Timestamp,
};

use crate::health::HealthState;
use crate::resolve::{ContainerRules, cannot_start};

/// Exit code of a command that was told to stop: what a shell shows for SIGTERM. WASI has no signals, so the
/// signal's default action, the end, takes place at once.
const TERMINATED: i32 = 143;
/// Exit code of an HTTP container whose requests went on for longer than its `stopTimeout`: as for SIGKILL.
const KILLED: i32 = 137;

/// What an instance of [`Machine`] is told. Containers are named by their position in the definition.
#[derive(Debug)]
pub(crate) enum Event {
    /// The node has taken the task up.
    Begin,
    /// The task can't be started as it stands.
    Unresolvable { container: Option<usize>, reason: String },
    /// An image has been fetched and prepared.
    Pulled { container: usize, digest: String },
    /// The task's volumes are there.
    Mounted,
    /// They can't be had.
    MountFailed { reason: String },
    /// What a container needs can't be had.
    Failed { container: Option<usize>, reason: String },
    /// A container's health can't be checked after all; why.
    Uncheckable { container: usize, note: String },
    /// A container has started.
    Started { container: usize, kind: Kind },
    /// A container has ended and its output has been written.
    Exited { container: usize, exit: Exit },
    /// A health check has ended.
    Checked { container: usize, passed: bool },
    /// A container's `startTimeout` is over.
    StartTimedOut { container: usize },
    /// An HTTP container has no more requests; or, if `forced`, it has some after its `stopTimeout`.
    Drained { container: usize, forced: bool },
    /// The task should stop.
    Stop(TaskStop),
    /// The task should be gone; nobody asks any more how it ends.
    Forget,
    /// What the task held on the node is released.
    Released,
}

/// What [`Machine`] wants done. All but `Publish`, `Report` and `Kill` are answered with an event.
#[derive(Debug, PartialEq)]
pub(crate) enum Effect {
    /// Fetch and prepare a container's image.
    Pull(usize),
    /// Make the task's volumes.
    Mount,
    /// Start a container.
    Start(usize),
    /// Come back after this time.
    ArmStartTimeout { container: usize, after: Duration },
    /// Check a container's health, after this time.
    Check { container: usize, after: Duration },
    /// Offer a container to the router.
    Publish(usize),
    /// Take a container from the router, let its requests end.
    Drain(usize),
    /// End a container that is still running; its end comes as an event, as any other.
    Kill(usize),
    /// Release what the task holds.
    Release,
    /// Tell the control plane.
    Report(TaskObservation),
}

/// What a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It answers requests and never ends by itself.
    Http,
    /// It runs to an exit code.
    Command,
    /// It runs to an exit code, and answers requests at a port that it listens on.
    Server,
    /// It is there for the containers that are linked to it, and never ends by itself.
    Plugin,
}

impl Kind {
    /// Whether requests come to it.
    fn serves(self) -> bool {
        matches!(self, Self::Http | Self::Server)
    }
}

/// Where a container is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// For images, volumes, or what it depends on.
    Waiting,
    Starting,
    Running(Kind),
    /// Out of the router, finishing its requests.
    Draining,
    /// Without requests; if `forced`, they did not end in time.
    Drained {
        forced: bool,
    },
    /// Being ended, with what will be reported if it does not end by itself just now.
    Ending {
        code: i32,
        reason: Option<String>,
    },
    Ended {
        code: Option<i32>,
        reason: Option<String>,
    },
}

#[derive(Debug)]
struct ContainerState {
    rules: ContainerRules,
    phase: Phase,
    /// What it is, once it has started.
    kind: Option<Kind>,
    /// When it was last started.
    since: Option<Timestamp>,
    started: bool,
    start_timed_out: bool,
    digest: Option<String>,
    health: Option<HealthState>,
}

/// How far the task's volumes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mount {
    /// Nothing has been asked for, or nothing came of it.
    No,
    /// They are being made. Nothing can be released before that has ended.
    Underway,
    /// They are there.
    Done,
}

/// The life of one task.
#[derive(Debug)]
pub(crate) struct Machine {
    task: TaskId,
    status: LastStatus,
    stop: Option<TaskStop>,
    containers: Vec<ContainerState>,
    /// Images still being fetched or prepared.
    pulling: usize,
    mount: Mount,
    pull_started_at: Option<Timestamp>,
    pull_stopped_at: Option<Timestamp>,
    started_at: Option<Timestamp>,
    stopping_at: Option<Timestamp>,
    execution_stopped_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    reported: Option<TaskObservation>,
}

/// Whether what a container waits for has come.
enum Verdict {
    Met,
    NotYet,
    /// It never will; why, with the dependency as subject.
    Never(String),
}

impl Machine {
    pub(crate) fn new(task: TaskId, containers: Vec<ContainerRules>) -> Self {
        let containers: Vec<_> = containers
            .into_iter()
            .map(|rules| ContainerState {
                rules,
                phase: Phase::Waiting,
                kind: None,
                since: None,
                started: false,
                start_timed_out: false,
                digest: None,
                health: None,
            })
            .collect();
        Self {
            task,
            status: LastStatus::Pending,
            stop: None,
            pulling: containers.len(),
            mount: Mount::No,
            containers,
            pull_started_at: None,
            pull_stopped_at: None,
            started_at: None,
            stopping_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            reported: None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.status == LastStatus::Stopped
    }

    /// Takes in what has happened, and says what to do, in this order.
    pub(crate) fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.apply(event, now, &mut effects);
        self.advance(now, &mut effects);
        self.report(&mut effects);
        effects
    }

    /// Records what has happened.
    fn apply(&mut self, event: Event, now: Timestamp, effects: &mut Vec<Effect>) {
        match event {
            Event::Begin => {
                if self.status == LastStatus::Pending {
                    self.report(effects);
                    self.pull_started_at = Some(now);
                    self.enter(LastStatus::Activating, effects);
                    effects.extend((0..self.containers.len()).map(Effect::Pull));
                    self.mount = Mount::Underway;
                    effects.push(Effect::Mount);
                }
            }
            Event::MountFailed { reason } => {
                self.mount = Mount::No;
                self.apply(Event::Failed { container: None, reason }, now, effects);
            }
            Event::Unresolvable { container, reason } | Event::Failed { container, reason } => {
                if self.status == LastStatus::Activating && self.pulling > 0 {
                    self.pull_stopped_at = Some(now);
                }
                if let Some(container) = container.and_then(|container| self.containers.get_mut(container))
                    && matches!(container.phase, Phase::Waiting | Phase::Starting)
                {
                    container.phase = Phase::Ended { code: None, reason: Some(reason.clone()) };
                }
                self.begin_stop(TaskStop { code: StopCode::TaskFailedToStart, reason }, now, effects);
            }
            Event::Pulled { container, digest } => {
                self.pulling -= 1;
                if self.status == LastStatus::Activating {
                    self.containers[container].digest = Some(digest);
                    if self.pulling == 0 {
                        self.pull_stopped_at = Some(now);
                    }
                }
            }
            Event::Mounted => self.mount = Mount::Done,
            Event::Uncheckable { container, note } => {
                let rules = &mut self.containers[container].rules;
                rules.health = None;
                rules.note = Some(note);
            }
            Event::Started { container, kind } => self.started(container, kind, now, effects),
            Event::Exited { container, exit } => self.exited(container, &exit, now, effects),
            Event::Checked { container, passed } => {
                let state = &mut self.containers[container];
                if let (Phase::Running(_), Some(health), Some(rules)) =
                    (&state.phase, &mut state.health, state.rules.health)
                {
                    health.checked(passed, now);
                    effects.push(Effect::Check { container, after: rules.interval });
                }
            }
            Event::StartTimedOut { container } => self.containers[container].start_timed_out = true,
            Event::Drained { container, forced } => {
                let phase = &mut self.containers[container].phase;
                if *phase == Phase::Draining {
                    *phase = Phase::Drained { forced };
                }
            }
            Event::Stop(stop) => self.begin_stop(stop, now, effects),
            Event::Forget => {
                let stop = TaskStop {
                    code: StopCode::TerminationNotice,
                    reason: "Task is no longer assigned to its host.".to_owned(),
                };
                self.begin_stop(stop, now, effects);
                for container in &mut self.containers {
                    if container.phase == Phase::Draining {
                        container.phase = Phase::Drained { forced: true };
                    }
                }
            }
            Event::Released => {
                if self.status == LastStatus::Deprovisioning {
                    self.stopped_at = Some(now);
                    self.enter(LastStatus::Stopped, effects);
                }
            }
        }
    }

    fn started(&mut self, container: usize, kind: Kind, now: Timestamp, effects: &mut Vec<Effect>) {
        let awaited = self.containers.iter().any(|other| {
            other.phase == Phase::Waiting
                && other
                    .rules
                    .depends_on
                    .iter()
                    .any(|&(on, condition)| on == container && condition != DependencyCondition::Start)
        });
        let state = &mut self.containers[container];
        if state.phase != Phase::Starting {
            return;
        }
        state.phase = Phase::Running(kind);
        state.kind = Some(kind);
        state.since = Some(now);
        state.started = true;
        if let Some(rules) = state.rules.health {
            state.health = Some(HealthState::new(rules, now));
            effects.push(Effect::Check { container, after: Duration::ZERO });
        }
        if let (true, Some(after)) = (awaited, state.rules.start_timeout) {
            effects.push(Effect::ArmStartTimeout { container, after });
        }
        // Started again; the first time this waits until the whole task runs.
        if self.status == LastStatus::Running && kind.serves() {
            effects.push(Effect::Publish(container));
        }
    }

    fn exited(&mut self, container: usize, exit: &Exit, now: Timestamp, effects: &mut Vec<Effect>) {
        let state = &mut self.containers[container];
        let (code, reason) = match (&state.phase, exit) {
            (Phase::Ended { .. }, _) => return,
            (Phase::Ending { code, reason }, Exit::Killed) => (*code, reason.clone()),
            (_, Exit::Code(_)) => (exit.code(), None),
            (_, exit) => (exit.code(), Some(exit.to_string())),
        };
        if self.status <= LastStatus::Running && state.is_to_restart(code, now) {
            state.phase = Phase::Starting;
            state.health = None;
            effects.push(Effect::Start(container));
            return;
        }
        state.phase = Phase::Ended { code: Some(code), reason };
        if state.rules.essential {
            self.begin_stop(essential_exited(), now, effects);
        }
    }

    /// Begins to stop the task, unless it has begun to. The first reason stays.
    fn begin_stop(&mut self, stop: TaskStop, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.status >= LastStatus::Deactivating {
            return;
        }
        self.stop = Some(stop);
        self.stopping_at = Some(now);
        // Only now are requests let in, or have they ever been.
        let serving = self.status == LastStatus::Running;
        let mut draining = Vec::new();
        for (position, container) in self.containers.iter_mut().enumerate() {
            match container.phase {
                Phase::Waiting => container.phase = Phase::Ended { code: None, reason: None },
                Phase::Running(kind) if serving && kind.serves() => {
                    container.phase = Phase::Draining;
                    draining.push(Effect::Drain(position));
                }
                _ => {}
            }
        }
        self.enter(LastStatus::Deactivating, effects);
        effects.extend(draining);
    }

    /// Goes on as far as it goes from what is now known.
    fn advance(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.status == LastStatus::Activating && self.pulling == 0 && self.mount == Mount::Done {
            self.start_ready(now, effects);
        }
        if self.status == LastStatus::Activating
            && self.containers.iter().all(|container| container.has_begun())
        {
            self.started_at = Some(now);
            let serving =
                |container: &ContainerState| matches!(container.phase, Phase::Running(kind) if kind.serves());
            // The router knows it before the scheduler hears of it, so that whatever stops because this task
            // runs is not missed.
            effects.extend(positions(&self.containers, serving).map(Effect::Publish));
            self.enter(LastStatus::Running, effects);
        }
        if self.status == LastStatus::Running && self.containers.iter().all(ContainerState::has_ended) {
            self.begin_stop(essential_exited(), now, effects);
        }
        if self.status == LastStatus::Deactivating
            && !self.containers.iter().any(|container| container.phase == Phase::Draining)
        {
            self.enter(LastStatus::Stopping, effects);
        }
        if self.status == LastStatus::Stopping {
            self.end_ready(effects);
            if self.containers.iter().all(ContainerState::has_ended) && self.mount != Mount::Underway {
                self.execution_stopped_at = Some(now);
                self.enter(LastStatus::Deprovisioning, effects);
                effects.push(Effect::Release);
            }
        }
    }

    /// Starts what waits for nothing any more, and gives up what waits in vain.
    fn start_ready(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        // Giving one up may be what another waits in vain for.
        let mut changed = true;
        while std::mem::take(&mut changed) {
            for position in 0..self.containers.len() {
                if self.containers[position].phase != Phase::Waiting {
                    continue;
                }
                match self.verdict(position) {
                    Verdict::NotYet => {}
                    Verdict::Met => {
                        self.containers[position].phase = Phase::Starting;
                        effects.push(Effect::Start(position));
                    }
                    Verdict::Never(why) => {
                        let container = &mut self.containers[position];
                        let reason = cannot_start(&format!("container {} {why}", container.rules.name));
                        container.phase = Phase::Ended { code: None, reason: Some(reason.clone()) };
                        changed = true;
                        if container.rules.essential {
                            let stop = TaskStop { code: StopCode::TaskFailedToStart, reason };
                            self.begin_stop(stop, now, effects);
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Whether everything that a container waits for has come.
    fn verdict(&self, position: usize) -> Verdict {
        let mut all = Verdict::Met;
        for &(on, condition) in &self.containers[position].rules.depends_on {
            match self.containers[on].verdict(condition) {
                Verdict::Met => {}
                Verdict::NotYet => all = Verdict::NotYet,
                never @ Verdict::Never(_) => return never,
            }
        }
        all
    }

    /// Ends what no running container depends on.
    fn end_ready(&mut self, effects: &mut Vec<Effect>) {
        for position in 0..self.containers.len() {
            let needed = self.containers.iter().any(|other| {
                !other.has_ended() && other.rules.depends_on.iter().any(|&(on, _)| on == position)
            });
            if needed {
                continue;
            }
            let container = &mut self.containers[position];
            let (code, reason) = match container.phase {
                Phase::Running(Kind::Command | Kind::Server) => (TERMINATED, None),
                // Without its requests it is told to stop as any command is.
                Phase::Drained { forced: false } if container.kind == Some(Kind::Server) => {
                    (TERMINATED, None)
                }
                Phase::Running(Kind::Http | Kind::Plugin) | Phase::Drained { forced: false } => (0, None),
                Phase::Drained { forced: true } => {
                    (KILLED, Some("killed: its requests did not end within its stopTimeout".to_owned()))
                }
                _ => continue,
            };
            container.phase = Phase::Ending { code, reason };
            effects.push(Effect::Kill(position));
        }
    }

    fn enter(&mut self, status: LastStatus, effects: &mut Vec<Effect>) {
        debug_assert!(status > self.status, "a task never goes back");
        self.status = status;
        self.report(effects);
    }

    /// Reports what has changed since the last report, if anything has.
    fn report(&mut self, effects: &mut Vec<Effect>) {
        let observation = self.observation();
        if self.reported.as_ref() != Some(&observation) {
            self.reported = Some(observation.clone());
            effects.push(Effect::Report(observation));
        }
    }

    fn observation(&self) -> TaskObservation {
        TaskObservation {
            task: self.task,
            status: self.status,
            stop: self.stop.clone(),
            pull_started_at: self.pull_started_at,
            pull_stopped_at: self.pull_stopped_at,
            started_at: self.started_at,
            stopping_at: self.stopping_at,
            execution_stopped_at: self.execution_stopped_at,
            stopped_at: self.stopped_at,
            containers: self.containers.iter().map(ContainerState::observation).collect(),
        }
    }
}

fn essential_exited() -> TaskStop {
    TaskStop {
        code: StopCode::EssentialContainerExited,
        reason: "Essential container in task exited".to_owned(),
    }
}

fn positions<'a>(
    containers: &'a [ContainerState],
    filter: impl Fn(&ContainerState) -> bool + 'a,
) -> impl Iterator<Item = usize> + 'a {
    containers
        .iter()
        .enumerate()
        .filter(move |(_, container)| filter(container))
        .map(|(position, _)| position)
}

impl ContainerState {
    /// Whether its restart policy wants it started again after this end.
    fn is_to_restart(&self, code: i32, now: Timestamp) -> bool {
        let (Phase::Running(_), Some(policy), Some(since)) = (&self.phase, &self.rules.restart, self.since)
        else {
            return false;
        };
        now.since(since) >= policy.attempt_period && !policy.ignored_exit_codes.contains(&code)
    }

    fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended { .. })
    }

    /// Whether it no longer keeps its task from RUNNING.
    fn has_begun(&self) -> bool {
        !matches!(self.phase, Phase::Waiting | Phase::Starting)
    }

    /// Whether it is what others wait for.
    fn verdict(&self, condition: DependencyCondition) -> Verdict {
        let (word, met) = match condition {
            DependencyCondition::Start => ("START", self.started),
            DependencyCondition::Complete => ("COMPLETE", self.started && self.has_ended()),
            DependencyCondition::Success => {
                ("SUCCESS", matches!(self.phase, Phase::Ended { code: Some(0), .. }))
            }
            DependencyCondition::Healthy => {
                ("HEALTHY", !self.has_ended() && self.health() == HealthStatus::Healthy)
            }
        };
        if met {
            return Verdict::Met;
        }
        let never = |why: &str| {
            Verdict::Never(format!("waits for {word} of container {}, which {why}", self.rules.name))
        };
        match (&self.phase, condition) {
            (Phase::Ended { code: None, .. }, _) => never("could not start"),
            (Phase::Ended { code: Some(code), .. }, _) => never(&format!("exited with code {code}")),
            (_, DependencyCondition::Healthy) if self.rules.health.is_none() => {
                never("has no health check that can run")
            }
            _ if self.start_timed_out => {
                let seconds = self.rules.start_timeout.unwrap_or_default().as_secs();
                never(&format!("did not get there within its startTimeout of {seconds} s"))
            }
            _ => Verdict::NotYet,
        }
    }

    fn health(&self) -> HealthStatus {
        self.health.as_ref().map_or(HealthStatus::Unknown, HealthState::status)
    }

    fn observation(&self) -> ContainerObservation {
        let (status, exit_code, reason) = match &self.phase {
            Phase::Waiting | Phase::Starting => (ContainerStatus::Pending, None, None),
            Phase::Running(_) | Phase::Draining | Phase::Drained { .. } | Phase::Ending { .. } => {
                (ContainerStatus::Running, None, self.rules.note.clone())
            }
            Phase::Ended { code, reason } => {
                (ContainerStatus::Stopped, *code, reason.clone().or_else(|| self.rules.note.clone()))
            }
        };
        ContainerObservation {
            name: self.rules.name.clone(),
            status,
            exit_code,
            reason,
            health: self.health(),
            image_digest: self.digest.clone(),
            runtime_id: self.started.then(|| self.rules.runtime_id.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod walks;
