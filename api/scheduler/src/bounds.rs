//! How many tasks a service may have at least and at most while it changes.

use coracle_types::{CircuitBreaker, DeploymentConfiguration, FailureThreshold};

/// The fewest failures in a row that trip the circuit breaker, and the most it waits for (ECS's).
const FAILURE_THRESHOLD: (u32, u32) = (3, 200);

/// What a service's `minimumHealthyPercent` and `maximumPercent` come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many tasks it should have.
    pub desired: u32,
    /// The plan never stops a task so that fewer than this are RUNNING (and healthy, where there is a
    /// check). Rounded up; never more than `desired`.
    pub lower: u32,
    /// The plan never starts a task so that more than this are RUNNING or on the way there. Rounded
    /// down.
    pub upper: u32,
}

impl Bounds {
    /// The bounds while a deployment shifts traffic: two full sets of tasks run side by side.
    #[must_use]
    pub fn of_shifting(desired: u32, configuration: &DeploymentConfiguration) -> Self {
        let rolling = Self::of(desired, configuration);
        Self { upper: rolling.upper.max(desired.saturating_mul(2)), ..rolling }
    }

    /// The bounds of a service that should have `desired` tasks.
    #[must_use]
    pub fn of(desired: u32, configuration: &DeploymentConfiguration) -> Self {
        let percent = |percent: u32| u64::from(desired) * u64::from(percent);
        let lower = percent(configuration.minimum_healthy_percent).div_ceil(100);
        let upper = percent(configuration.maximum_percent) / 100;
        Self {
            desired,
            lower: u32::try_from(lower).unwrap_or(u32::MAX).min(desired),
            upper: u32::try_from(upper).unwrap_or(u32::MAX),
        }
    }
}

/// How many tasks in a row may fail before the circuit breaker gives a deployment up: a share of the desired
/// count, rounded up (half of it within 3 and 200, unless the configuration says otherwise), or a number.
#[must_use]
pub fn failure_threshold(desired: u32, breaker: &CircuitBreaker) -> u32 {
    let share = |percent: u32| {
        let tasks = (u64::from(desired) * u64::from(percent)).div_ceil(100);
        u32::try_from(tasks).unwrap_or(u32::MAX)
    };
    match breaker.threshold {
        FailureThreshold::BoundedPercent(percent) => {
            share(percent).clamp(FAILURE_THRESHOLD.0, FAILURE_THRESHOLD.1)
        }
        FailureThreshold::UnboundedPercent(percent) => share(percent).max(1),
        FailureThreshold::Count(count) => count.max(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(desired: u32, minimum: u32, maximum: u32, expected: (u32, u32)) {
        let configuration = DeploymentConfiguration {
            minimum_healthy_percent: minimum,
            maximum_percent: maximum,
            ..DeploymentConfiguration::default()
        };
        let bounds = Bounds::of(desired, &configuration);
        assert_eq!((bounds.lower, bounds.upper), expected);
    }

    #[test]
    fn ecs_rounding() {
        check(4, 50, 200, (2, 8));
        check(3, 50, 150, (2, 4));
        check(1, 100, 200, (1, 2));
        check(1, 0, 100, (0, 1));
        check(1, 50, 150, (1, 1));
        check(0, 100, 200, (0, 0));
        check(10, 200, 100, (10, 10));
    }

    #[test]
    fn breaker_threshold() {
        use FailureThreshold::{BoundedPercent, Count, UnboundedPercent};
        for (desired, threshold, expected) in [
            (0, BoundedPercent(50), 3),
            (1, BoundedPercent(50), 3),
            (6, BoundedPercent(50), 3),
            (7, BoundedPercent(50), 4),
            (25, BoundedPercent(50), 13),
            (400, BoundedPercent(50), 200),
            (u32::MAX, BoundedPercent(50), 200),
            (10, BoundedPercent(100), 10),
            (10, UnboundedPercent(1), 1),
            (0, UnboundedPercent(50), 1),
            (1000, UnboundedPercent(50), 500),
            (1000, Count(7), 7),
            (1, Count(0), 1),
        ] {
            let breaker = CircuitBreaker { threshold, ..CircuitBreaker::default() };
            assert_eq!(failure_threshold(desired, &breaker), expected, "{desired} {threshold:?}");
        }
    }
}
