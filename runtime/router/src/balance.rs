//! Which target gets a request: the one with the fewest in flight. Pure but for the counts it reads.
//!
//! The router and its targets share a process, so the counts are exact and need no estimate of latency:
//! a slow target has more requests in flight, and gets fewer.

use std::sync::Arc;

/// Something requests are counted against.
pub(crate) trait Load {
    /// Requests given to it whose responses have not ended.
    fn in_flight(&self) -> u32;
}

/// Up to this many targets all counts are read and the minimum is exact. Above it, two are drawn at
/// random and compared, which is nearly as good and costs the same however many there are.
const MAX_SCAN: usize = 16;

/// Picks a target that is not among `tried`. `turn` is a counter that moves on with every request: it
/// rotates where the search starts, so that targets with equal counts take turns.
pub(crate) fn pick<'a, T: Load>(targets: &'a [Arc<T>], turn: usize, tried: &[Arc<T>]) -> Option<&'a Arc<T>> {
    match targets {
        [] => return None,
        [only] if tried.is_empty() => return Some(only),
        _ => {}
    }
    if targets.len() > MAX_SCAN {
        let (first, second) = draw_two(targets.len(), turn);
        let (first, second) = (&targets[first], &targets[second]);
        let lighter = if second.in_flight() < first.in_flight() { second } else { first };
        if tried.is_empty() || !is_tried(lighter, tried) {
            return Some(lighter);
        }
    }
    fewest_in_flight(targets, turn, tried)
}

fn fewest_in_flight<'a, T: Load>(targets: &'a [Arc<T>], turn: usize, tried: &[Arc<T>]) -> Option<&'a Arc<T>> {
    let (before, from) = targets.split_at(turn % targets.len());
    let mut best: Option<(u32, &Arc<T>)> = None;
    for slot in from.iter().chain(before) {
        let in_flight = slot.in_flight();
        if best.is_none_or(|(fewest, _)| in_flight < fewest) && !is_tried(slot, tried) {
            if in_flight == 0 {
                return Some(slot);
            }
            best = Some((in_flight, slot));
        }
    }
    best.map(|(_, slot)| slot)
}

fn is_tried<T>(slot: &Arc<T>, tried: &[Arc<T>]) -> bool {
    tried.iter().any(|other| Arc::ptr_eq(slot, other))
}

/// Two different indices below `len` (at least 2), spread evenly over successive turns.
fn draw_two(len: usize, turn: usize) -> (usize, usize) {
    let random = mix(turn as u64);
    let first = scale(random >> 32, len);
    // The second is drawn from the others: one fewer, skipping the first.
    let second = scale(random & 0xffff_ffff, len - 1);
    (first, if second >= first { second + 1 } else { second })
}

/// Maps 32 random bits to `0..len` without a division.
pub(crate) fn scale(random: u64, len: usize) -> usize {
    ((random * len as u64) >> 32) as usize
}

/// A bijective mixer (the finaliser of `SplitMix64`): successive turns become independent draws.
pub(crate) fn mix(turn: u64) -> u64 {
    let mut z = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Slot;
    use crate::tests::harness::slot;

    fn slots(counts: &[u32]) -> Vec<Arc<Slot>> {
        counts
            .iter()
            .enumerate()
            .map(|(index, count)| {
                let slot = slot(&format!("t{index}"));
                (0..*count).for_each(|_| slot.enter());
                slot
            })
            .collect()
    }

    fn picked(targets: &[Arc<Slot>], turn: usize, tried: &[Arc<Slot>]) -> Option<String> {
        pick(targets, turn, tried).map(|slot| slot.id().to_owned())
    }

    #[test]
    fn fewest_wins_whatever_the_turn() {
        let targets = slots(&[3, 1, 2, 5]);
        for turn in 0..8 {
            assert_eq!(picked(&targets, turn, &[]).as_deref(), Some("t1"));
        }
    }

    #[test]
    fn ties_take_turns() {
        let targets = slots(&[2, 2, 2]);
        let order: Vec<_> = (0..6).map(|turn| picked(&targets, turn, &[]).unwrap()).collect();
        assert_eq!(order, ["t0", "t1", "t2", "t0", "t1", "t2"]);
    }

    #[test]
    fn tried_targets_are_left_out() {
        let targets = slots(&[0, 1, 2]);
        assert_eq!(picked(&targets, 0, &targets[..1]).as_deref(), Some("t1"));
        assert_eq!(picked(&targets, 1, &targets[..2]).as_deref(), Some("t2"));
        assert_eq!(picked(&targets, 2, &targets), None);
        assert_eq!(picked(&targets[..1], 0, &targets[..1]), None);
        assert_eq!(picked(&[], 0, &[]), None);
    }

    #[test]
    fn among_many_the_lighter_of_two_is_taken_and_all_get_work() {
        let targets = slots(&[0; 100]);
        for turn in 0..10_000 {
            pick(&targets, turn, &[]).unwrap().enter();
        }
        let counts: Vec<u32> = targets.iter().map(|slot| slot.in_flight()).collect();
        // The exact mean is 100; two choices keep the spread within a few.
        assert!(counts.iter().all(|count| (90..=106).contains(count)), "{counts:?}");
    }

    #[test]
    fn among_many_the_last_untried_target_is_found() {
        let targets = slots(&[0; 40]);
        for turn in 0..100 {
            assert_eq!(picked(&targets, turn, &targets[..39]).as_deref(), Some("t39"));
        }
    }

    #[test]
    fn the_two_draws_differ_and_stay_in_range() {
        for len in 2..50 {
            for turn in 0..500 {
                let (first, second) = draw_two(len, turn);
                assert!(first < len && second < len && first != second, "{len} {turn}: {first} {second}");
            }
        }
    }
}
