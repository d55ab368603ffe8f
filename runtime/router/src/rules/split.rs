//! How a forward action divides its requests among target groups. Pure but for a counter.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::Forward;

/// Weighted target groups and whose turn it is.
#[derive(Debug)]
pub(crate) struct Split {
    groups: Box<[Share]>,
    total: u64,
    turn: AtomicU64,
    pub(crate) stickiness: Option<Duration>,
}

/// A group and where its part of the whole ends.
#[derive(Debug)]
pub(crate) struct Share {
    /// The target group's ARN.
    pub(crate) id: Box<str>,
    end: u64,
}

impl Split {
    pub(crate) fn new(forward: &Forward) -> Self {
        let mut total = 0;
        let groups = forward
            .groups
            .iter()
            .map(|group| {
                total += u64::from(group.weight);
                Share { id: group.group.clone().into(), end: total }
            })
            .collect();
        Self { groups, total, turn: AtomicU64::new(0), stickiness: forward.stickiness }
    }

    pub(crate) fn groups(&self) -> &[Share] {
        &self.groups
    }

    /// The ARN of the group whose turn it is; none if all weights are 0. Successive turns are spread
    /// evenly over the whole, by steps of the golden ratio: any run of n requests is divided by the
    /// weights with an error that grows with the logarithm of n only.
    pub(crate) fn next(&self) -> Option<&str> {
        if let [only] = &*self.groups {
            return (only.end > 0).then_some(&only.id);
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let at = (u128::from(turn.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * u128::from(self.total)) >> 64;
        self.groups.iter().find(|share| at < u128::from(share.end)).map(|share| &*share.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::WeightedGroup;

    fn counted(weights: &[u32], requests: usize) -> Vec<usize> {
        let groups = weights
            .iter()
            .enumerate()
            .map(|(index, weight)| WeightedGroup { group: index.to_string(), weight: *weight })
            .collect();
        let split = Split::new(&Forward { groups, stickiness: None });
        let mut counts: HashMap<String, usize> = HashMap::new();
        for _ in 0..requests {
            *counts.entry(split.next().unwrap().to_owned()).or_default() += 1;
        }
        (0..weights.len()).map(|index| counts.get(&index.to_string()).copied().unwrap_or(0)).collect()
    }

    #[test]
    fn nothing_goes_to_a_group_of_weight_zero() {
        assert_eq!(counted(&[0, 5, 0], 100), [0, 100, 0]);
        let all_zero =
            Forward { groups: vec![WeightedGroup { group: "a".into(), weight: 0 }], stickiness: None };
        assert_eq!(Split::new(&all_zero).next(), None);
        assert_eq!(Split::new(&Forward::default()).next(), None);
    }

    proptest! {
        #[test]
        fn shares_converge_to_the_weights(weights in prop::collection::vec(0_u32..1000, 1..5)) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let counts = counted(&weights, 2000);
            for (weight, count) in weights.iter().zip(counts) {
                let expected = f64::from(*weight) / f64::from(total);
                let share = count as f64 / 2000.0;
                prop_assert!((share - expected).abs() < 0.01, "{share} for {expected}");
            }
        }
    }
}
