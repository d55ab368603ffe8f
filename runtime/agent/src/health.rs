//! Container health: what a `healthCheck` means here, and how single checks become a status. Pure.

use std::time::Duration;

use coracle_types::{HealthCheck, HealthStatus, Timestamp};

use crate::shell::{self, Fetch};

/// How a container is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A fresh instance runs `wasi:cli/run` with these arguments; exit code 0 is healthy.
    Command(Vec<String>),
    /// The container's HTTP handler gets this request; a status from 200 to 399 is healthy.
    Http(Fetch),
    /// It can't be: the reason. The health stays UNKNOWN.
    Impossible(String),
}

/// A health check, ready to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HealthPlan {
    pub(crate) check: Check,
    pub(crate) timeout: Duration,
    pub(crate) rules: HealthRules,
}

/// When a container counts as healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HealthRules {
    /// From the end of a check to the next.
    pub(crate) interval: Duration,
    /// So many failures in a row make it unhealthy. At least 1.
    pub(crate) retries: u32,
    /// For so long after its start, failures do not count.
    pub(crate) start_period: Duration,
}

impl HealthPlan {
    /// Reads a container's `healthCheck`; `None` if it has none, or has turned it off with `["NONE"]`.
    pub(crate) fn new(check: &HealthCheck) -> Option<Self> {
        Some(Self {
            check: parse(&check.command)?,
            timeout: Duration::from_secs(u64::from(check.timeout_s.max(1))),
            rules: HealthRules {
                interval: Duration::from_secs(u64::from(check.interval_s.max(1))),
                retries: check.retries.max(1),
                start_period: Duration::from_secs(u64::from(check.start_period_s)),
            },
        })
    }
}

/// Reads the `command` of a health check.
fn parse(command: &[String]) -> Option<Check> {
    let (kind, rest) = command.split_first()?;
    let impossible = |why: &str| {
        let given: String = rest.join(" ").chars().take(200).collect();
        Check::Impossible(format!(
            "health check can't run in a component, so the health stays UNKNOWN: {why}: {given}"
        ))
    };
    let check = match (kind.as_str(), rest) {
        ("NONE", _) => return None,
        ("CMD-SHELL", [command]) => shell::parse(command).map_or_else(impossible, Check::Http),
        ("CMD-SHELL", words) => shell::parse(&words.join(" ")).map_or_else(impossible, Check::Http),
        // There is no curl in a component, and a component whose own arguments begin with curl is not one
        // people have.
        ("CMD", [program, ..]) if shell::is_fetcher(program) => {
            shell::words(rest).map_or_else(impossible, Check::Http)
        }
        ("CMD", arguments) => Check::Command(arguments.to_vec()),
        _ => impossible("its command begins with neither CMD nor CMD-SHELL"),
    };
    Some(check)
}

/// The health of one running container, from the checks so far.
#[derive(Clone, Debug)]
pub(crate) struct HealthState {
    rules: HealthRules,
    since: Timestamp,
    checks: u32,
    failures: u32,
    status: HealthStatus,
}

impl HealthState {
    /// A container that has started `since` and has not been checked.
    pub(crate) fn new(rules: HealthRules, since: Timestamp) -> Self {
        Self { rules, since, checks: 0, failures: 0, status: HealthStatus::Unknown }
    }

    pub(crate) fn status(&self) -> HealthStatus {
        self.status
    }

    /// Takes in how a check ended.
    ///
    /// The first check is made right at the start, an interval before ECS makes one: components start in
    /// microseconds, and whoever waits for HEALTHY need not wait for an interval. Because ECS does not make
    /// it, it can only pass: its failure does not count.
    pub(crate) fn checked(&mut self, passed: bool, now: Timestamp) {
        let first = self.checks == 0;
        self.checks = self.checks.saturating_add(1);
        if passed {
            self.failures = 0;
            self.status = HealthStatus::Healthy;
        } else if !first && now.since(self.since) >= self.rules.start_period {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.rules.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &[&str]) -> Option<Check> {
        parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn commands_and_probes() {
        assert_eq!(
            command(&["CMD", "check", "--deep"]),
            Some(Check::Command(vec!["check".into(), "--deep".into()]))
        );
        assert_eq!(command(&["CMD"]), Some(Check::Command(vec![])));
        assert!(matches!(
            command(&["CMD-SHELL", "curl -f http://localhost/health || exit 1"]),
            Some(Check::Http(fetch)) if fetch.path == "/health"
        ));
        assert!(matches!(
            command(&["CMD", "curl", "-f", "http://localhost/health"]),
            Some(Check::Http(fetch)) if fetch.path == "/health"
        ));
        assert_eq!(command(&["NONE"]), None);
        assert_eq!(command(&[]), None);
    }

    #[test]
    fn what_can_not_run_says_why() {
        let Some(Check::Impossible(reason)) = command(&["CMD-SHELL", "pg_isready -U postgres"]) else {
            panic!()
        };
        assert!(reason.contains("UNKNOWN") && reason.contains("pg_isready"), "{reason}");
        assert!(matches!(command(&["echo", "hello"]), Some(Check::Impossible(_))));
    }

    fn state(retries: u32, start_period_s: u64) -> HealthState {
        let rules = HealthRules {
            interval: Duration::from_secs(30),
            retries,
            start_period: Duration::from_secs(start_period_s),
        };
        HealthState::new(rules, Timestamp(0))
    }

    #[test]
    fn one_pass_is_healthy_and_retries_in_a_row_unhealthy() {
        let mut health = state(2, 0);
        assert_eq!(health.status(), HealthStatus::Unknown);
        let checks = [
            (false, HealthStatus::Unknown), // the first, which can only pass
            (false, HealthStatus::Unknown),
            (true, HealthStatus::Healthy),
            (false, HealthStatus::Healthy),
            (true, HealthStatus::Healthy),
            (false, HealthStatus::Healthy),
            (false, HealthStatus::Unhealthy),
            (true, HealthStatus::Healthy),
        ];
        for (number, (passed, expected)) in checks.into_iter().enumerate() {
            health.checked(passed, Timestamp(1000));
            assert_eq!(health.status(), expected, "after check {number}");
        }
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let mut health = state(1, 60);
        health.checked(false, Timestamp(0));
        health.checked(false, Timestamp(59_999));
        assert_eq!(health.status(), HealthStatus::Unknown);
        health.checked(false, Timestamp(60_000));
        assert_eq!(health.status(), HealthStatus::Unhealthy);
    }
}
