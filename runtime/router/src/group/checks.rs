//! What one target's health checks say about it. Pure.
//!
//! ```text
//!            passes once                 fails `unhealthy_threshold` times in a row
//!  Initial ──────────────▶ Healthy ──────────────────────────────────────────────▶ Unhealthy
//!     │                       ▲                                                       ▲  │
//!     │                       └───────── passes `healthy_threshold` times in a row ───┼──┘
//!     └── has not passed within `unhealthy_threshold` intervals ──────────────────────┘
//! ```
//!
//! A target that has just started is checked more often until it passes, so that it gets requests as soon
//! as it can answer, and its failures do not count: it is given the time that many failures take later on.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::{HealthCheck, HealthReason, HealthState};

/// Longest pause between two checks of a target that has not passed yet.
const INITIAL_PAUSE: Duration = Duration::from_secs(1);

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(Fault),
}

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The answer's status is not one of the good ones.
    Status(u16),
    TimedOut,
    /// There was no answer; the text says why.
    NoAnswer(String),
}

impl Fault {
    pub(super) fn reason(&self) -> (HealthReason, String) {
        match self {
            Self::Status(code) => {
                let what = format!("Health checks failed with these codes: [{code}]");
                (HealthReason::ResponseCodeMismatch, what)
            }
            Self::TimedOut => (HealthReason::Timeout, "Request timed out".to_owned()),
            Self::NoAnswer(why) => (HealthReason::FailedHealthChecks, format!("Health checks failed: {why}")),
        }
    }
}

/// One target's checks so far.
#[derive(Debug)]
pub(super) struct Checks {
    phase: Phase,
    /// Results in a row that speak against the phase.
    streak: u32,
    /// The last failure, if the last check failed.
    fault: Option<Fault>,
    registered_at: Instant,
    /// When the next check begins; none while one is under way.
    next_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Initial,
    Healthy,
    Unhealthy,
}

impl Checks {
    pub(super) fn new(now: Instant) -> Self {
        Self { phase: Phase::Initial, streak: 0, fault: None, registered_at: now, next_at: Some(now) }
    }

    pub(super) fn state(&self) -> HealthState {
        match self.phase {
            Phase::Initial => HealthState::Initial,
            Phase::Healthy => HealthState::Healthy,
            Phase::Unhealthy => HealthState::Unhealthy,
        }
    }

    /// Why the target is not healthy.
    pub(super) fn reason(&self) -> Option<(HealthReason, String)> {
        match (self.phase, &self.fault) {
            (Phase::Healthy, _) => None,
            (Phase::Initial, None) => {
                let what = "Target registration is in progress".to_owned();
                Some((HealthReason::RegistrationInProgress, what))
            }
            (Phase::Initial, Some(fault)) => {
                let what = format!("Initial health checks in progress; the last one: {}", fault.reason().1);
                Some((HealthReason::InitialHealthChecking, what))
            }
            (Phase::Unhealthy, Some(fault)) => Some(fault.reason()),
            (Phase::Unhealthy, None) => {
                let what = "Health checks pass again, but not often enough yet".to_owned();
                Some((HealthReason::FailedHealthChecks, what))
            }
        }
    }

    /// Whether no check has had a result yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.phase == Phase::Initial && self.fault.is_none()
    }

    /// When the next check is due; none while one is under way.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.next_at
    }

    /// Checks are done in another way from now on: the next one is due at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.next_at = self.next_at.map(|at| at.min(now));
    }

    /// A check begins.
    pub(super) fn begin(&mut self) {
        self.next_at = None;
    }

    /// Takes a check's result. Whether the target's state has changed.
    pub(super) fn record(&mut self, outcome: Outcome, check: &HealthCheck, now: Instant) -> bool {
        let before = self.phase;
        let (passed, fault) = match outcome {
            Outcome::Passed => (true, None),
            Outcome::Failed(fault) => (false, Some(fault)),
        };
        self.fault = fault;
        let speaks_against = passed != (self.phase == Phase::Healthy);
        self.streak = if speaks_against { self.streak.saturating_add(1) } else { 0 };
        let patience = check.interval.saturating_mul(check.unhealthy_threshold);
        self.phase = match self.phase {
            Phase::Initial if passed => Phase::Healthy,
            Phase::Initial if now.saturating_duration_since(self.registered_at) >= patience => {
                Phase::Unhealthy
            }
            Phase::Healthy if self.streak >= check.unhealthy_threshold => Phase::Unhealthy,
            Phase::Unhealthy if self.streak >= check.healthy_threshold => Phase::Healthy,
            unchanged => unchanged,
        };
        if self.phase != before {
            self.streak = 0;
        }
        let pause =
            if self.phase == Phase::Initial { check.interval.min(INITIAL_PAUSE) } else { check.interval };
        self.next_at = Some(now + pause);
        self.phase != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Outcome = Outcome::Failed(Fault::Status(500));

    fn check() -> HealthCheck {
        HealthCheck {
            interval: Duration::from_secs(10),
            healthy_threshold: 3,
            unhealthy_threshold: 2,
            ..HealthCheck::default()
        }
    }

    /// Runs checks when they are due; `+` passes, `-` fails. The state after each.
    fn states(checks: &mut Checks, results: &str) -> Vec<&'static str> {
        results
            .chars()
            .map(|result| {
                let now = checks.next_at().unwrap();
                checks.begin();
                assert_eq!(checks.next_at(), None);
                checks.record(if result == '+' { Outcome::Passed } else { FAILED }, &check(), now);
                checks.state().as_str()
            })
            .collect()
    }

    #[test]
    fn a_new_target_passes_once() {
        let mut checks = Checks::new(Instant::now());
        assert!(checks.is_unknown());
        assert_eq!(checks.reason().unwrap().0, HealthReason::RegistrationInProgress);
        assert_eq!(states(&mut checks, "--+"), ["initial", "initial", "healthy"]);
    }

    #[test]
    fn a_new_target_that_never_passes_is_given_the_time_of_the_threshold() {
        let start = Instant::now();
        let mut checks = Checks::new(start);
        while checks.state() == HealthState::Initial {
            states(&mut checks, "-");
            assert!(!checks.is_unknown());
        }
        // Two intervals of ten seconds, in steps of one.
        assert_eq!(checks.next_at().unwrap() - start, Duration::from_secs(30));
        let (reason, what) = checks.reason().unwrap();
        assert_eq!(reason, HealthReason::ResponseCodeMismatch);
        assert_eq!(what, "Health checks failed with these codes: [500]");
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let mut checks = Checks::new(Instant::now());
        assert_eq!(states(&mut checks, "+-+-"), ["healthy"; 4]);
        assert_eq!(states(&mut checks, "-"), ["unhealthy"]);
        assert_eq!(states(&mut checks, "++-++"), ["unhealthy"; 5]);
        assert_eq!(states(&mut checks, "+-"), ["healthy"; 2]);
    }
}
