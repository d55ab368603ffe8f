//! Which target of a group is next. Pure but for the counts of requests in flight.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::balance::{self, Load, mix, scale};
use crate::model::Algorithm;

/// Smallest share of a target that starts slowly: with none at all it would never warm up.
const MIN_SHARE: f64 = 0.01;

/// Draws before a target that starts slowly is taken whatever its share.
const MAX_DRAWS: u64 = 8;

/// Targets to choose from.
#[derive(Debug)]
pub(super) struct Choices<T> {
    algorithm: Algorithm,
    targets: Box<[Arc<T>]>,
    /// For each target, since when its share grows; empty if no share does.
    ramps: Box<[Option<Instant>]>,
    /// How long shares grow.
    slow_start: Duration,
}

impl<T: Load> Choices<T> {
    /// Targets, each with the time since when its share grows, if it does.
    pub(super) fn new(
        algorithm: Algorithm,
        slow_start: Duration,
        targets: Vec<(Arc<T>, Option<Instant>)>,
    ) -> Self {
        let (targets, ramps): (Vec<_>, Vec<_>) = targets.into_iter().unzip();
        let ramps = if ramps.iter().any(Option::is_some) { ramps } else { Vec::new() };
        Self { algorithm, targets: targets.into(), ramps: ramps.into(), slow_start }
    }

    pub(super) fn targets(&self) -> &[Arc<T>] {
        &self.targets
    }

    /// Picks a target that is not among `tried`. `turn` moves on with every request.
    pub(super) fn pick(&self, turn: usize, tried: &[Arc<T>], now: Instant) -> Option<&Arc<T>> {
        let picked = match self.algorithm {
            Algorithm::LeastOutstandingRequests => return balance::pick(&self.targets, turn, tried),
            Algorithm::RoundRobin => self.from(turn.checked_rem(self.targets.len())?, tried)?,
            Algorithm::WeightedRandom => self.draw(turn as u64, tried)?,
        };
        if self.ramps.is_empty() || self.accepts(picked, turn as u64, now) {
            return Some(&self.targets[picked]);
        }
        // What a target is not ready for goes to the others at random: to the next one in turn would
        // double that one's share.
        let mut picked = picked;
        for draw in 1..=MAX_DRAWS {
            let random = mix((turn as u64).wrapping_add(draw << 40));
            picked = self.draw(random, tried)?;
            if self.accepts(picked, random, now) {
                break;
            }
        }
        Some(&self.targets[picked])
    }

    /// The first from `start` on that was not tried.
    fn from(&self, start: usize, tried: &[Arc<T>]) -> Option<usize> {
        let len = self.targets.len();
        (start..len).chain(0..start).find(|index| {
            tried.is_empty() || !tried.iter().any(|other| Arc::ptr_eq(other, &self.targets[*index]))
        })
    }

    fn draw(&self, turn: u64, tried: &[Arc<T>]) -> Option<usize> {
        if self.targets.is_empty() {
            return None;
        }
        self.from(scale(mix(turn) >> 32, self.targets.len()), tried)
    }

    /// Whether a target takes this request, given how far its share has grown.
    fn accepts(&self, index: usize, random: u64, now: Instant) -> bool {
        let Some(since) = self.ramps[index] else { return true };
        let grown = now.saturating_duration_since(since).as_secs_f64() / self.slow_start.as_secs_f64();
        // The upper 53 bits of the mixed number: a fraction evenly spread over 0 to 1.
        let fraction = (mix(!random) >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < grown.max(MIN_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Idle(usize);

    impl Load for Idle {
        fn in_flight(&self) -> u32 {
            0
        }
    }

    fn choices(algorithm: Algorithm, ramps: &[Option<Instant>]) -> Choices<Idle> {
        let targets = ramps.iter().enumerate().map(|(index, ramp)| (Arc::new(Idle(index)), *ramp)).collect();
        Choices::new(algorithm, Duration::from_secs(100), targets)
    }

    fn counted(choices: &Choices<Idle>, requests: usize, now: Instant) -> Vec<usize> {
        let mut counts = vec![0; choices.targets().len()];
        for turn in 0..requests {
            counts[choices.pick(turn, &[], now).unwrap().0] += 1;
        }
        counts
    }

    #[test]
    fn each_in_turn() {
        let choices = choices(Algorithm::RoundRobin, &[None; 3]);
        let order: Vec<usize> =
            (0..6).map(|turn| choices.pick(turn, &[], Instant::now()).unwrap().0).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn random_targets_get_even_shares() {
        let choices = choices(Algorithm::WeightedRandom, &[None; 4]);
        let counts = counted(&choices, 20_000, Instant::now());
        assert!(counts.iter().all(|count| (4800..5200).contains(count)), "{counts:?}");
    }

    #[test]
    fn nothing_is_picked_of_nothing_and_tried_ones_are_left_out() {
        for algorithm in
            [Algorithm::RoundRobin, Algorithm::WeightedRandom, Algorithm::LeastOutstandingRequests]
        {
            assert!(choices(algorithm, &[]).pick(7, &[], Instant::now()).is_none());
            let choices = choices(algorithm, &[None; 3]);
            let tried: Vec<_> = choices.targets()[..2].to_vec();
            for turn in 0..20 {
                assert_eq!(choices.pick(turn, &tried, Instant::now()).unwrap().0, 2);
            }
            assert!(choices.pick(0, choices.targets(), Instant::now()).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Over the slow start, a target's share grows in proportion, and the others share the rest evenly.
        #[test]
        fn shares_grow_linearly(percent in 1_u64..=100, random in any::<bool>()) {
            let start = Instant::now();
            let algorithm = if random { Algorithm::WeightedRandom } else { Algorithm::RoundRobin };
            let choices = choices(algorithm, &[Some(start), None, None, None]);
            let counts = counted(&choices, 40_000, start + Duration::from_secs(percent));
            let grown = percent as f64 / 100.0;
            // It is asked first a quarter of the time, and again whenever it has declined before.
            let expected = 0.25 * grown / (1.0 - 0.25 * (1.0 - grown));
            let share = counts[0] as f64 / 40_000.0;
            prop_assert!((share - expected).abs() < 0.01, "{share} for {expected} at {percent} %");
            for other in &counts[1..] {
                let share = *other as f64 / 40_000.0;
                prop_assert!((share - (1.0 - expected) / 3.0).abs() < 0.01, "{counts:?}");
            }
        }
    }
}
