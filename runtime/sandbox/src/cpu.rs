//! CPU budgets: token buckets in thread-CPU time.
//!
//! A guest runs in slices of fuel (see [`EngineConfig::fuel_slice`](crate::EngineConfig)); each slice is one poll
//! of a future, and one or more of them are a turn, timed by the clock of the thread that polls it (see [`Turn`]). That
//! counts what the guest computes and what the host computes for it, and nothing else. Who owes time sleeps it off on a
//! timer, without a thread.
//!
//! A budget may be divided into parts, as a task's is between its containers: what a part uses is charged to both, and
//! while the whole is short, each part is held to what [`Parts`](crate::shares::Parts) grants it.

use crate::shares::{self, Demand, Parts};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// 1024 units are one core.
pub(crate) const UNITS_PER_CORE: u64 = 1024;

/// In what rates are reckoned: parts of a unit, as two units of a full machine divided by a thousand others come to 3.99,
/// and a quarter less is not within anybody's idea of a share.
pub(crate) const PARTS_PER_UNIT: u64 = 1000;

/// How many threads can compute at the same time.
pub(crate) static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// How much unused time a bucket keeps, in wall-clock nanoseconds of its own rate: a quarter-core bucket that was
/// idle may use 12.5 ms of CPU at once. Linux's CFS gives a full 100 ms period; half of that lets a burst of
/// short requests through undelayed, and costs a busy loop measured over 5 s only 1 % of accuracy.
const BURST: u64 = 50_000_000;

/// Debt that is not worth a sleep, in wall-clock nanoseconds. A sleep costs several microseconds on its own account
/// (timer, idle thread, waking up), so a guest pays its debt in few long sleeps rather than many short ones. Timers
/// tick in milliseconds; what is slept too long comes back as credit.
const SLACK: u64 = 20_000_000;

/// What is charged for each turn beside its measured time: scheduling it and reading the clock happen outside.
const TURN_COST: u64 = 1_000;

/// What is charged for each sleep: the timer, the threads that go idle (the guest's, and the one that keeps the timer),
/// and those that are roused for it. Measured as what a process with one capped busy loop used beyond what its slices were
/// billed, on a virtual machine, where all of that costs most. Only who has a cap pays it: under shares somebody sleeps
/// only while the machine is full, so that no thread goes idle for it, and the fewer units he has, the more he would pay.
const SLEEP_COST: u64 = 150_000;

/// What is charged for yielding to tokio while threads are idle: one of them is roused in vain.
const YIELD_COST: i64 = 20_000;

/// What an instance pays in advance when it starts, and gets back with its first bill. Without it a flood of
/// requests that each end in their first slice would never wait for the debt they leave.
const ADVANCE: i64 = 20_000;

/// CPU time that several instances share. Clones share the budget.
#[derive(Clone)]
pub struct CpuBudget(Arc<Bucket>);

/// The shared state of a budget.
pub(crate) struct Bucket {
    kind: Kind,
    /// Thread-CPU nanoseconds used.
    used: AtomicU64,
    /// The moment up to which everything used so far is paid for, in nanoseconds since [`EPOCH`]. In the future:
    /// that much debt. In the past: credit, of which [`BURST`] counts.
    ///
    /// One number instead of tokens and a time: every charge moves it on atomically and learns its own turn,
    /// so that waiters wake one after the other and not all at once.
    paid_until: AtomicU64,
    /// What the ledger of shares, or of the whole it is a part of, knows and says about this bucket.
    pub(crate) demand: Demand,
    /// What it is a part of.
    whole: Option<Arc<Bucket>>,
    /// How it is divided, if it is.
    parts: Parts,
    /// Up to where its instances have been given turns, see [`Precedence`].
    turns: AtomicU64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unlimited,
    Capped {
        units: u64,
    },
    Shares,
    /// Of another budget.
    Part,
}

/// When time began, for [`Bucket::paid_until`]. A second before the first use, so that credit never underflows.
static EPOCH: LazyLock<Instant> =
    LazyLock::new(|| Instant::now().checked_sub(Duration::from_secs(1)).unwrap_or_else(Instant::now));

pub(crate) fn nanos_since_epoch() -> u64 {
    u64::try_from(EPOCH.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The CPU time of the calling thread, by a call into the kernel.
pub(crate) fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

impl CpuBudget {
    /// A hard cap: never more than `units` / 1024 cores, even on an idle machine. 0 counts as 1.
    pub fn capped(units: u32) -> Self {
        Self::with_kind(Kind::Capped { units: u64::from(units.max(1)) }, units, None)
    }

    /// A weight: as much as is idle, and under contention a part of the machine in proportion to `units` among
    /// all budgets of this process that want CPU time. 0 counts as 2, as in ECS.
    pub fn shares(units: u32) -> Self {
        let budget = Self::with_kind(Kind::Shares, units.max(2), None);
        shares::enrol(&budget.0);
        budget
    }

    /// No limit; use is still measured.
    pub fn unlimited() -> Self {
        Self::with_kind(Kind::Unlimited, 1024, None)
    }

    /// A part of this budget: what it uses is used of the whole. While the whole has enough, a part takes what it wants;
    /// else the parts that want more than they get divide it in proportion to their `units`. 0 counts as 2, as in ECS.
    pub fn part(&self, units: u32) -> Self {
        let part = Self::with_kind(Kind::Part, units.max(2), Some(self.0.clone()));
        self.0.parts.enrol(&part.0);
        part
    }

    fn with_kind(kind: Kind, units: u32, whole: Option<Arc<Bucket>>) -> Self {
        CpuBudget(Arc::new(Bucket {
            kind,
            used: AtomicU64::new(0),
            paid_until: AtomicU64::new(0),
            demand: Demand::new(units),
            whole,
            parts: Parts::default(),
            turns: AtomicU64::new(0),
        }))
    }

    /// Charges what was computed for a guest elsewhere than in its polls; it pays before its next one.
    pub(crate) fn bill(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.account(nanos, 0, nanos_since_epoch());
    }

    /// Its place among all who want the processors.
    pub(crate) fn precedence(&self) -> Precedence {
        let mut root = &self.0;
        while let Some(whole) = &root.whole {
            root = whole;
        }
        Precedence(root.clone())
    }

    /// CPU time used so far by everything that holds this budget.
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.0.used.load(Ordering::Relaxed))
    }
}

impl Bucket {
    /// It and what it is a part of.
    fn chain(&self) -> impl Iterator<Item = &Bucket> {
        std::iter::successors(Some(self), |bucket| bucket.whole.as_deref())
    }

    /// Whether nothing has to be paid.
    fn is_free(&self) -> bool {
        self.chain().all(|bucket| matches!(bucket.kind, Kind::Unlimited | Kind::Part))
    }

    /// Whether it matters how long an instance waits for a thread.
    fn is_shared(&self) -> bool {
        self.chain().any(|bucket| matches!(bucket.kind, Kind::Shares | Kind::Part))
    }

    /// Whether it is held to a rate however idle the machine is.
    fn is_capped(&self) -> bool {
        self.chain().any(|bucket| matches!(bucket.kind, Kind::Capped { .. }))
    }

    /// Books time that was used, and bills it. Answers when the next slice may start, if not now.
    fn account(&self, nanos: u64, advance: i64, now: u64) -> Option<u64> {
        for bucket in self.chain() {
            bucket.used.fetch_add(nanos, Ordering::Relaxed);
        }
        if self.is_free() {
            return None;
        }
        for bucket in self.chain() {
            bucket.demand.used(nanos);
            match (&bucket.kind, &bucket.whole) {
                (Kind::Shares, _) => shares::tick(now),
                (Kind::Part, Some(whole)) => whole.parts.tick(whole, now),
                _ => {}
            }
        }
        self.charge_turn(nanos, advance, now)
    }

    /// Bills a turn, and the sleep that follows, if one does. Answers when that ends.
    fn charge_turn(&self, nanos: u64, advance: i64, now: u64) -> Option<u64> {
        let signed = |nanos: u64| i64::try_from(nanos).unwrap_or(i64::MAX);
        let turn = self.charge_all(signed(nanos + TURN_COST).saturating_sub(advance), now)?;
        self.delay();
        if self.is_capped() { self.charge_all(signed(SLEEP_COST), now) } else { Some(turn) }
    }

    /// Charges it and what it is a part of; answers the last of their turns.
    fn charge_all(&self, nanos: i64, now: u64) -> Option<u64> {
        // All of them are charged, whichever says to wait.
        self.chain().filter_map(|bucket| bucket.charge(nanos, now)).max()
    }

    /// An instance has been told to wait.
    fn delay(&self) {
        for bucket in self.chain() {
            bucket.demand.delayed.store(true, Ordering::Relaxed);
        }
    }

    /// The rate at which debt is paid: thousandths of CPU units, or `None` for as fast as can be.
    pub(crate) fn rate(&self) -> Option<u64> {
        match self.kind {
            Kind::Unlimited => None,
            Kind::Capped { units } => Some(units * PARTS_PER_UNIT),
            Kind::Shares | Kind::Part => self.demand.granted(),
        }
    }

    /// Moves `paid_until` by what `nanos` of CPU time cost; answers when it will be paid, if that is worth waiting
    /// for. A negative amount is given back.
    fn charge(&self, nanos: i64, now: u64) -> Option<u64> {
        let Some(rate) = self.rate() else {
            // Nothing is owed while there is enough for everybody.
            self.paid_until.store(now, Ordering::Relaxed);
            return None;
        };
        let cost =
            i64::try_from(i128::from(nanos) * i128::from(UNITS_PER_CORE * PARTS_PER_UNIT) / i128::from(rate))
                .unwrap_or(i64::MAX);
        let floor = now.saturating_sub(BURST);
        let before = self
            .paid_until
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |paid| {
                Some(paid.max(floor).saturating_add_signed(cost))
            })
            .unwrap_or(floor);
        let paid = before.max(floor).saturating_add_signed(cost);
        (paid > now + SLACK).then_some(paid)
    }
}

/// How long a turn on a processor is while others wait for theirs, in CPU nanoseconds.
pub(crate) const TURN: u64 = 1_000_000;

/// When it is a budget's turn, by start-time fair queueing: each turn begins, in virtual time, where the budget's last
/// one ended, and lasts the longer the fewer units it has. Who begins first is next. A budget with many instances waits
/// for many turns and gets them one after the other; one that comes back from a pause begins with those that have
/// their turn now, so that nobody saves turns up. How long a turn was is known at its end, and settled then.
///
/// A task's containers have one place together, its own.
pub(crate) struct Precedence(Arc<Bucket>);

impl Precedence {
    /// Where the next turn begins, if that of those who have theirs is `now`. For one caller at a time.
    pub(crate) fn tag(&self, now: u64) -> u64 {
        let begin = self.0.turns.load(Ordering::Relaxed).max(now);
        let end = begin.saturating_add(TURN * UNITS_PER_CORE / self.0.demand.weight);
        self.0.turns.store(end, Ordering::Relaxed);
        begin
    }

    /// After a turn that used so many CPU nanoseconds: its end was reckoned as if it were a whole one. For one caller at a
    /// time.
    pub(crate) fn settle(&self, spent: u64) {
        let virtual_time = |nanos: u64| nanos.saturating_mul(UNITS_PER_CORE) / self.0.demand.weight;
        let end = self.0.turns.load(Ordering::Relaxed);
        let settled = end.saturating_add(virtual_time(spent)).saturating_sub(virtual_time(TURN));
        self.0.turns.store(settled, Ordering::Relaxed);
    }
}

/// One instance's account with its budget.
pub(crate) struct Meter {
    bucket: Arc<Bucket>,
    /// Paid in advance and not billed yet.
    advance: i64,
    /// When the last poll ended, if it ended because its slice did: the time to the next is time it waited for a
    /// thread.
    ready_since: Option<Instant>,
    /// [`METERED`] when the poll began.
    metered: u64,
}

/// A turn that is being timed.
///
/// Only the kernel can tell a thread's CPU time, and most turns are short: an answer of 13 µs would pay a twentieth of
/// itself for two calls. The clock on the wall is read without one, and says the same unless the thread loses its
/// processor. So a turn within [`SHORT_TURN`] is charged by the wall: whatever took the thread's place in it was as
/// short. A longer one is charged the wall's time too, but no more than what the thread has computed since its clock
/// was last read. That was at most [`READING`] before the turn, and by so much at most a turn is charged too much, if
/// its thread lost its processor.
pub(crate) struct Turn {
    /// In nanoseconds since [`EPOCH`].
    pub(crate) began: u64,
    /// The thread's CPU time when it was last read.
    cpu_before: u64,
}

/// In nanoseconds.
const SHORT_TURN: u64 = 20_000;

/// For how long a reading of the thread's clock will do, in nanoseconds.
const READING: u64 = 250_000;

impl Turn {
    fn begin() -> Self {
        let began = nanos_since_epoch();
        let (read_at, cpu) = READ.get();
        let cpu_before = if began < read_at + READING { cpu } else { Self::read_clock(began) };
        Turn { began, cpu_before }
    }

    /// What it took by the clock on the wall until `now`, and of the processor.
    fn end(&self, now: u64) -> (u64, u64) {
        let elapsed = now.saturating_sub(self.began);
        let spent = if elapsed < SHORT_TURN {
            elapsed
        } else {
            elapsed.min(Self::read_clock(now).saturating_sub(self.cpu_before))
        };
        (elapsed, spent)
    }

    fn read_clock(now: u64) -> u64 {
        let cpu = thread_cpu();
        READ.set((now, cpu));
        cpu
    }
}

thread_local! {
    /// When this thread's clock was last read, in nanoseconds since [`EPOCH`], and what it said.
    static READ: Cell<(u64, u64)> = const { Cell::new((0, 0)) };

    /// The nanoseconds of this thread that meters have measured. An instance may be polled within another's poll, when
    /// one calls the other by a link: what the inner meter has billed meanwhile is not the outer one's.
    static METERED: Cell<u64> = const { Cell::new(0) };
}

/// A poll that computed for less ended because it waits for something, not because its slice did.
pub(crate) const BUSY_POLL: u64 = 10_000;

impl Meter {
    pub(crate) fn new(budget: &CpuBudget) -> Self {
        Meter { bucket: budget.0.clone(), advance: 0, ready_since: None, metered: 0 }
    }

    /// Before the first poll: when the instance may start, if not now.
    pub(crate) fn start(&mut self) -> Option<Instant> {
        self.bucket.chain().find_map(Bucket::rate)?;
        self.advance = ADVANCE;
        let turn = self.bucket.charge_all(self.advance, nanos_since_epoch())?;
        self.bucket.delay();
        Some(instant(turn))
    }

    /// Before a turn: one poll, or several that follow one another at once.
    pub(crate) fn resume(&mut self) -> Turn {
        if let Some(since) = self.ready_since.take() {
            let waited = since.elapsed();
            self.bucket.chain().for_each(|bucket| bucket.demand.waited(waited));
        }
        self.metered = METERED.get();
        Turn::begin()
    }

    /// The thread was offered to others; `idle` if there were probably none.
    pub(crate) fn yielded(&self, idle: bool) {
        if idle && !self.bucket.is_free() {
            self.bucket.charge_all(YIELD_COST, nanos_since_epoch());
        }
    }

    /// After a turn: when the next may be, if not now. Answers the CPU time used, too.
    pub(crate) fn pause(&mut self, turn: &Turn) -> (u64, Option<Instant>) {
        let now = nanos_since_epoch();
        let (elapsed, whole) = turn.end(now);
        let spent = whole.saturating_sub(METERED.get() - self.metered);
        let is_shared = self.bucket.is_shared();
        if is_shared {
            // Its thread had to let others go first.
            let waited = Duration::from_nanos(elapsed - whole);
            self.bucket.chain().for_each(|bucket| bucket.demand.waited(waited));
        }
        METERED.set(self.metered + whole);
        let next = self.bucket.account(spent, std::mem::take(&mut self.advance), now);
        let waits_for_a_thread = next.is_none() && spent >= BUSY_POLL && is_shared;
        self.ready_since = waits_for_a_thread.then(Instant::now);
        (spent, next.map(instant))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        // An instance that was stopped before its first bill.
        if self.advance > 0 {
            self.bucket.charge_all(-self.advance, nanos_since_epoch());
        }
    }
}

fn instant(nanos_since_epoch: u64) -> Instant {
    *EPOCH + Duration::from_nanos(nanos_since_epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Spends slices of `slice` CPU nanoseconds for `wall` nanoseconds of pretended time, always waiting when
    /// told to; answers the CPU time used.
    fn busy_loop(budget: &CpuBudget, slice: u64, wall: u64) -> u64 {
        let (mut now, mut used) = (10 * SECOND, 0);
        let end = now + wall;
        while now < end {
            now += slice;
            used += slice;
            let cost = i64::try_from(slice).unwrap();
            if let Some(turn) = budget.0.charge(cost, now) {
                // Timers tick in milliseconds and are never early.
                now = turn.div_ceil(1_000_000) * 1_000_000;
            }
        }
        used
    }

    #[test]
    fn a_cap_is_kept_within_two_percent() {
        for units in [128_u32, 256, 512, 1000] {
            let used = busy_loop(&CpuBudget::capped(units), 50_000, 5 * SECOND);
            let target = u64::from(units) * 5 * SECOND / 1024;
            let error = used.abs_diff(target) as f64 / target as f64;
            assert!(error < 0.02, "{units} units used {used} instead of {target}");
        }
    }

    /// Endless loops side by side, each on a thread of its own, for `wall` nanoseconds of pretended time; answers what
    /// each used of all that was used, in percent, and what was charged for sleeps that cost nothing here.
    fn side_by_side(budgets: &[CpuBudget], wall: u64) -> (Vec<u64>, u64) {
        const SLICE: u64 = 50_000;
        let (begin, mut next) = (10 * SECOND, vec![10 * SECOND; budgets.len()]);
        let (mut used, mut slept) = (vec![0; budgets.len()], 0);
        while let Some((turn, &now)) = next.iter().enumerate().min_by_key(|(_, at)| **at)
            && now < begin + wall
        {
            let now = now + SLICE;
            // The first second is for settling.
            used[turn] += if now > begin + SECOND { SLICE } else { 0 };
            let ready = budgets[turn].0.account(SLICE, 0, now);
            slept += if ready.is_some() { SLEEP_COST } else { 0 };
            next[turn] = ready.map_or(now, |ready| ready.div_ceil(1_000_000) * 1_000_000);
        }
        let all: u64 = used.iter().sum();
        (used.iter().map(|used| used * 100 / all).collect(), slept)
    }

    #[test]
    fn a_task_is_divided_between_its_containers_by_their_units() {
        let task = CpuBudget::capped(256);
        let parts = [task.part(768), task.part(256)];
        let (used, slept) = side_by_side(&parts, 6 * SECOND);
        assert!(used[0].abs_diff(75) <= 5 && used[1].abs_diff(25) <= 5, "{used:?} percent");
        let target = 6 * SECOND / 4;
        let whole = u64::try_from(task.used().as_nanos()).unwrap();
        assert!(
            (whole + slept).abs_diff(target) < target / 20,
            "the cap of the whole stays: {whole} and {slept} for sleeps, of {target}"
        );
        let sum: Duration = parts.iter().map(CpuBudget::used).sum();
        assert_eq!(sum, task.used());
    }

    #[test]
    fn who_is_alone_in_a_task_has_all_of_it() {
        let task = CpuBudget::capped(512);
        let (busy, _idle) = (task.part(2), task.part(1022));
        let (_, slept) = side_by_side(std::slice::from_ref(&busy), 4 * SECOND);
        let (used, target) = (u64::try_from(busy.used().as_nanos()).unwrap(), 2 * SECOND);
        assert!((used + slept).abs_diff(target) < target / 20, "{used} and {slept} for sleeps, of {target}");
    }

    #[test]
    fn sleeping_is_charged_to_caps_and_not_to_shares() {
        // Two units beside 1024 of two processors, in thousandths.
        const RATE: u64 = 3_992;
        let now = 10 * SECOND;
        let cost = |nanos: u64| nanos * UNITS_PER_CORE * PARTS_PER_UNIT / RATE;
        let shares = CpuBudget::with_kind(Kind::Shares, 2, None);
        shares.0.demand.grant(RATE);
        for turn in [300_000, 1_000_000] {
            shares.0.paid_until.store(now, Ordering::Relaxed);
            let ready = shares.0.charge_turn(turn, 0, now);
            assert_eq!(ready, Some(now + cost(turn + TURN_COST)), "a turn of {turn} ns");
        }
        let capped = CpuBudget::capped(2);
        capped.0.paid_until.store(now, Ordering::Relaxed);
        let paid = (1_000_000 + TURN_COST + SLEEP_COST) * UNITS_PER_CORE / 2;
        assert_eq!(capped.0.charge_turn(1_000_000, 0, now), Some(now + paid));
    }

    #[test]
    fn one_thread_never_owes_anything_to_two_cores() {
        let used = busy_loop(&CpuBudget::capped(2048), 50_000, SECOND);
        assert!(used >= SECOND, "{used}");
    }

    #[test]
    fn waiters_take_turns() {
        let budget = CpuBudget::capped(256);
        let now = 10 * SECOND;
        while budget.0.charge(1_000_000, now).is_none() {}
        let turns: Vec<u64> = (0..4).filter_map(|_| budget.0.charge(1_000_000, now)).collect();
        assert_eq!(turns.len(), 4);
        for pair in turns.windows(2) {
            assert_eq!(pair[1] - pair[0], 4_000_000, "a quarter core pays 1 ms in 4 ms");
        }
    }

    #[test]
    fn idle_time_is_kept_only_up_to_the_burst() {
        let budget = CpuBudget::capped(1024);
        assert!(budget.0.charge(1, 10 * SECOND).is_none());
        let later = 1000 * SECOND;
        let mut free = 0;
        while budget.0.charge(1_000_000, later).is_none() {
            free += 1_000_000;
        }
        assert!(free <= BURST + SLACK, "{free}");
    }

    #[test]
    fn a_poll_within_a_poll_is_billed_once() {
        let spin = |nanos: u64| {
            let started = thread_cpu();
            let mut x = 0_u64;
            while thread_cpu() - started < nanos {
                x = std::hint::black_box(x + 1);
            }
        };
        let (outside, inside) = (CpuBudget::unlimited(), CpuBudget::unlimited());
        let (mut outer, mut inner) = (Meter::new(&outside), Meter::new(&inside));
        let began = thread_cpu();
        let turn = outer.resume();
        for _ in 0..2 {
            spin(200_000);
            let within = inner.resume();
            spin(1_000_000);
            inner.pause(&within);
        }
        outer.pause(&turn);
        let whole = Duration::from_nanos(thread_cpu() - began);
        assert!(inside.used() >= Duration::from_millis(2));
        assert!(outside.used() >= Duration::from_micros(400));
        assert!(outside.used() + inside.used() <= whole);
    }

    #[test]
    fn a_turn_is_charged_what_its_thread_computed_and_not_what_it_waited() {
        let budget = CpuBudget::unlimited();
        let mut meter = Meter::new(&budget);
        let started = thread_cpu();
        while thread_cpu() - started < 2_000_000 {}
        // As if its thread had been off its processor for 20 ms.
        let turn = Turn { began: meter.resume().began - 20_000_000, cpu_before: thread_cpu() };
        assert!(meter.pause(&turn).0 < 10_000_000);
        // As if the clock had been read 1 ms of computing before.
        let turn = Turn { began: nanos_since_epoch() - 100_000, cpu_before: thread_cpu() - 1_000_000 };
        let spent = meter.pause(&turn).0;
        assert!((100_000..1_000_000).contains(&spent), "{spent}");
        // Too short to ask the kernel.
        let turn = meter.resume();
        let read = READ.get();
        assert!(meter.pause(&turn).0 < SHORT_TURN || READ.get() != read);
        // A reading that is too old is not used.
        READ.set((nanos_since_epoch() - READING, 0));
        assert!(meter.resume().cpu_before > 0);
    }

    #[test]
    fn an_unlimited_budget_only_counts() {
        let budget = CpuBudget::unlimited();
        let mut meter = Meter::new(&budget);
        assert!(meter.start().is_none());
        let turn = meter.resume();
        let (mut x, started) = (0_u64, thread_cpu());
        while thread_cpu() - started < 100_000 {
            x = std::hint::black_box(x + 1);
        }
        let (spent, next) = meter.pause(&turn);
        assert!(spent >= 100_000 && next.is_none());
        assert_eq!(budget.used(), Duration::from_nanos(spent));
    }
}
