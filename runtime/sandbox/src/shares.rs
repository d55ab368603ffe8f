//! CPU shares: who may borrow idle time, and how the machine is divided when there is none.
//!
//! One ledger per process. In every window it sums up what each budget used and how long its instances waited
//! for a thread. While the process leaves the machine some idle time, nobody is held back. Otherwise what guests
//! got in the window is divided by weight among those who wanted more than they got (max-min fairness), and
//! their buckets are refilled at that rate during the next window.
//!
//! What it does not see: other processes on the machine, and waits of less than a slice.

use crate::cpu::{Bucket, PARTS_PER_UNIT, UNITS_PER_CORE};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

/// How long a window is, in nanoseconds: long enough for dozens of slices, short enough that a newcomer gets his
/// part before anybody notices.
const WINDOW: u64 = 25_000_000;

/// The machine is full from this part of it on, and has room again below the other (in percent).
const FULL: u64 = 92;
const ROOM: u64 = 85;

/// A wait longer than this was not for a thread. (Fifty that want to compute, on two processors, wait for 25 ms.)
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What one budget wanted and got in the current window, and what it may have in the next.
pub(crate) struct Demand {
    /// CPU units, at least 1.
    pub(crate) weight: u64,
    used: AtomicU64,
    waited: AtomicU64,
    /// Whether an instance was told to wait for tokens.
    pub(crate) delayed: AtomicBool,
    /// Thousandths of CPU units granted; 0 means no limit.
    granted: AtomicU64,
}

impl Demand {
    pub(crate) fn new(weight: u32) -> Self {
        Demand {
            weight: u64::from(weight.max(1)),
            used: AtomicU64::new(0),
            waited: AtomicU64::new(0),
            delayed: AtomicBool::new(false),
            granted: AtomicU64::new(0),
        }
    }

    pub(crate) fn granted(&self) -> Option<u64> {
        Some(self.granted.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
    }

    /// What it may have from now on, in thousandths of CPU units; 0 for no limit.
    pub(crate) fn grant(&self, rate: u64) {
        self.granted.store(rate, Ordering::Relaxed);
    }

    pub(crate) fn used(&self, nanos: u64) {
        self.used.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn waited(&self, time: Duration) {
        if time <= LONGEST_WAIT {
            self.waited.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(0), Ordering::Relaxed);
        }
    }
}

struct Ledger {
    next: AtomicU64,
    state: Mutex<State>,
}

struct State {
    members: Vec<Weak<Bucket>>,
    since: u64,
    process_cpu: u64,
    full: bool,
}

static LEDGER: LazyLock<Ledger> = LazyLock::new(|| Ledger {
    next: AtomicU64::new(0),
    state: Mutex::new(State { members: Vec::new(), since: 0, process_cpu: 0, full: false }),
});

static CORES: LazyLock<u64> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64));

pub(crate) fn enrol(bucket: &Arc<Bucket>) {
    let mut state = LEDGER.state.lock();
    state.members.retain(|member| member.strong_count() > 0);
    state.members.push(Arc::downgrade(bucket));
}

/// Closes the window if it is over. Called after every slice; almost always one atomic load.
pub(crate) fn tick(now: u64) {
    if now < LEDGER.next.load(Ordering::Relaxed) {
        return;
    }
    // Somebody else is at it.
    let Some(mut state) = LEDGER.state.try_lock() else { return };
    if now < LEDGER.next.load(Ordering::Relaxed) {
        return;
    }
    LEDGER.next.store(now + WINDOW, Ordering::Relaxed);
    state.close_window(now);
}

impl State {
    fn close_window(&mut self, now: u64) {
        let process_cpu = process_cpu();
        let elapsed = now.saturating_sub(std::mem::replace(&mut self.since, now)).max(1);
        let busy = process_cpu.saturating_sub(std::mem::replace(&mut self.process_cpu, process_cpu));
        let percent = busy.saturating_mul(100) / elapsed.saturating_mul(*CORES);
        // After a pause the window says nothing about now.
        self.full = elapsed < 4 * WINDOW && percent >= if self.full { ROOM } else { FULL };

        let members: Vec<Arc<Bucket>> = self.members.iter().filter_map(Weak::upgrade).collect();
        let wants: Vec<Want> = members.iter().map(|bucket| bucket.demand.close_window(elapsed)).collect();
        let idle = rate(elapsed.saturating_mul(*CORES).saturating_sub(busy), elapsed);
        let grants = if self.full { divide(&wants, idle) } else { vec![0; wants.len()] };
        for (bucket, grant) in members.iter().zip(grants) {
            bucket.demand.grant(grant);
        }
    }
}

/// How the parts of a budget divide it: a ledger of their own, as long as the budget they are parts of has a limit.
#[derive(Default)]
pub(crate) struct Parts {
    next: AtomicU64,
    state: Mutex<PartsState>,
}

#[derive(Default)]
struct PartsState {
    members: Vec<Weak<Bucket>>,
    since: u64,
}

/// A window of parts, in nanoseconds. Small budgets sleep off their debts in tens of milliseconds: one that only sleeps
/// in a window would seem to want nothing.
const PARTS_WINDOW: u64 = 200_000_000;

impl Parts {
    pub(crate) fn enrol(&self, part: &Arc<Bucket>) {
        let mut state = self.state.lock();
        state.members.retain(|member| member.strong_count() > 0);
        state.members.push(Arc::downgrade(part));
    }

    /// Closes the window if it is over. Almost always one atomic load.
    pub(crate) fn tick(&self, whole: &Bucket, now: u64) {
        if now < self.next.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut state) = self.state.try_lock() else { return };
        if now < self.next.load(Ordering::Relaxed) {
            return;
        }
        self.next.store(now + PARTS_WINDOW, Ordering::Relaxed);
        let elapsed = now.saturating_sub(std::mem::replace(&mut state.since, now)).max(1);
        let members: Vec<Arc<Bucket>> = state.members.iter().filter_map(Weak::upgrade).collect();
        let wants: Vec<Want> = members.iter().map(|part| part.demand.close_window(elapsed)).collect();
        let is_short = wants.iter().any(|want| want.wanted == u64::MAX);
        let grants = match whole.rate() {
            Some(rate) if is_short => {
                let got: u64 = wants.iter().map(|want| want.got).sum();
                divide(&wants, rate.saturating_sub(got))
            }
            // There is enough for everybody.
            _ => vec![0; wants.len()],
        };
        for (part, grant) in members.iter().zip(grants) {
            part.demand.grant(grant);
        }
    }
}

impl Demand {
    fn close_window(&self, elapsed: u64) -> Want {
        let used = self.used.swap(0, Ordering::Relaxed);
        let waited = self.waited.swap(0, Ordering::Relaxed);
        let delayed = self.delayed.swap(false, Ordering::Relaxed);
        Want {
            weight: self.weight,
            got: rate(used, elapsed),
            wanted: if delayed { u64::MAX } else { rate(used.saturating_add(waited), elapsed) },
        }
    }
}

/// CPU nanoseconds in a window of `elapsed`, as thousandths of CPU units. In 128 bits, because a window after a long
/// pause is weeks long.
fn rate(nanos: u64, elapsed: u64) -> u64 {
    u64::try_from(
        u128::from(nanos) * u128::from(UNITS_PER_CORE * PARTS_PER_UNIT) / u128::from(elapsed.max(1)),
    )
    .unwrap_or(u64::MAX)
}

/// One budget's window, in thousandths of CPU units.
#[derive(Clone, Copy)]
struct Want {
    weight: u64,
    got: u64,
    wanted: u64,
}

/// Divides what all of them got, and what was idle, by weight; what somebody does not want goes to the others.
/// Who wants less may have what would be his part if he wanted more, beside those who do: not beside those who want
/// nothing, or a task that is busy would be held to a fraction of the machine that the rest leaves idle.
/// Answers at least 1 for each, because 0 means no limit.
fn divide(wants: &[Want], idle: u64) -> Vec<u64> {
    let mut left: u64 = wants.iter().map(|want| want.got).sum::<u64>() + idle;
    let whole = left;
    let mut hungry: Vec<usize> = (0..wants.len()).filter(|i| wants[*i].wanted > 0).collect();
    // Who wants less than his part is served first, until everybody left wants more.
    loop {
        let weights: u64 = hungry.iter().map(|i| wants[*i].weight).sum();
        let Some(place) =
            hungry.iter().position(|i| wants[*i].wanted < left * wants[*i].weight / weights.max(1))
        else {
            break;
        };
        left = left.saturating_sub(wants[hungry.swap_remove(place)].wanted);
    }
    let weights: u64 = hungry.iter().map(|i| wants[*i].weight).sum();
    (0..wants.len())
        .map(|i| {
            let (of, among) =
                if hungry.contains(&i) { (left, weights) } else { (whole, weights + wants[i].weight) };
            (of * wants[i].weight / among.max(1)).max(1)
        })
        .collect()
}

fn process_cpu() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(weight: u64, got: u64, wanted: u64) -> Want {
        Want { weight, got, wanted }
    }

    #[test]
    fn the_hungry_divide_by_weight() {
        let grants = divide(&[want(256, 1024, u64::MAX), want(512, 1024, u64::MAX)], 0);
        assert_eq!(grants, [682, 1365]);
    }

    #[test]
    fn the_smallest_has_its_part_too() {
        // 2 of 1026 of two cores are 3.99 units; as whole ones they would be 3.
        let grants = divide(&[want(2, 4_000, u64::MAX), want(1024, 2_044_000, u64::MAX)], 0);
        assert_eq!(grants, [3_992, 2_044_007]);
    }

    #[test]
    fn what_one_leaves_the_other_gets() {
        let grants = divide(&[want(256, 1500, u64::MAX), want(768, 548, 548)], 0);
        assert_eq!(grants[0], 1500, "all that the modest one leaves");
        assert_eq!(grants[1], 1536, "who wants little may want his full part in the next window");
    }

    #[test]
    fn who_has_all_he_wants_is_not_held_to_his_part_of_idle_budgets() {
        let mut wants = vec![want(1024, 2_000_000, 2_000_000)];
        wants.extend([want(1024, 0, 0); 10]);
        assert_eq!(divide(&wants, 48_000)[0], 2_048_000, "nobody else wants any of the machine");
        // One of two units that only slept in this window, beside a busy one and idle ones.
        wants[0] = want(1024, 2_040_000, u64::MAX);
        wants.push(want(2, 0, 0));
        let grants = divide(&wants, 8_000);
        assert_eq!((grants[0], grants[11]), (2_048_000, 3_992));
    }

    #[test]
    fn idle_budgets_take_no_part() {
        let grants = divide(&[want(256, 1024, u64::MAX), want(256, 1024, u64::MAX), want(2048, 0, 0)], 0);
        assert_eq!(&grants[..2], [1024, 1024]);
        assert!(grants[2] >= 1);
    }

    #[test]
    fn a_window_may_be_as_long_as_the_process_lives() {
        let mut state = State { members: Vec::new(), since: 0, process_cpu: 0, full: true };
        state.close_window(u64::MAX / 2);
        assert!(!state.full);
    }

    #[test]
    fn nobody_is_no_problem() {
        assert!(divide(&[], 100).is_empty());
    }
}
