//! One instance: its store, and the future that drives it.

use crate::background;
use crate::container::Shared;
use crate::control::{Control, Home, Phase};
use crate::cpu::{BUSY_POLL, CpuBudget, Meter, PROCESSORS, TURN, Turn, nanos_since_epoch};
use crate::entry::Entry;
use crate::exit::{Exit, HandleError, TrapInfo, TrapKind};
use crate::host::HostState;
use crate::memory::{INSTANCE_MEMORY, Limiter, MemoryRefused};
use crate::usage::Metered;
use std::cmp::Ordering::{Equal, Greater, Less};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use wasmtime::{AsContextMut, PoolConcurrencyLimitError, Store};

/// A live instance.
pub(crate) struct Instance<E> {
    pub(crate) store: Store<HostState>,
    pub(crate) exports: E,
    /// The fuel it started with, or was last given.
    pub(crate) fuel: u64,
    /// The request it serves, if somebody wants to know what that uses.
    pub(crate) metered: Option<Metered>,
    shared: Arc<Shared>,
}

/// Why there is no instance.
pub(crate) enum NoInstance {
    /// It did not get that far, and won't get farther next time.
    Died(Exit),
    /// There is no room for it, and waiting for some took too long.
    NoRoom { limit: u64, peak: u64 },
    /// The pool is full, and waiting took too long.
    PoolFull,
}

impl From<NoInstance> for Exit {
    fn from(none: NoInstance) -> Exit {
        match none {
            NoInstance::Died(exit) => exit,
            NoInstance::NoRoom { limit, peak } => Exit::OutOfMemory { limit, peak },
            NoInstance::PoolFull => {
                let kind = TrapKind::Host("there was no room for another instance for too long".to_owned());
                Exit::Trap(TrapInfo { function: None, message: kind.to_string(), kind })
            }
        }
    }
}

/// How long until the pool is asked again for a slot it said it did not have. Only components that use more of
/// the pool than they declare (garbage-collected heaps) ever see this.
const POOL_RETRY: Duration = Duration::from_millis(2);

impl<E: Send> Instance<E> {
    /// Instantiates, with `fuel` at most. While the memory budget has no room but others hold part of it, waits
    /// until `deadline`.
    pub(crate) async fn create(
        shared: &Arc<Shared>,
        entry: &impl Entry<Exports = E>,
        fuel: Option<u64>,
        deadline: Instant,
    ) -> Result<Instance<E>, NoInstance> {
        let budget = &shared.spec.memory;
        loop {
            let limit = budget.effective_limit();
            // What the last instance needed at its start is set aside first: an instance that gets only half of
            // it would hold that half and die.
            let credit = shared.counters.initial_memory.load(Ordering::Relaxed).min(limit);
            if !budget.try_charge(credit) && timeout_at(deadline, budget.charge(credit)).await.is_err() {
                return Err(NoInstance::NoRoom { limit, peak: budget.peak() });
            }
            let started = std::time::Instant::now();
            let mut limiter = Limiter::new(budget.clone(), credit);
            if !limiter.hold(INSTANCE_MEMORY) {
                return Err(NoInstance::Died(Exit::OutOfMemory { limit, peak: budget.peak() }));
            }
            let mut store = new_store(shared, limiter, fuel);
            let error = match entry.instantiate(&mut store).await {
                Ok(exports) => {
                    store.data_mut().limiter.release_credit();
                    shared.counters.instantiated(started.elapsed(), store.data().limiter.held());
                    return Ok(Instance {
                        store,
                        exports,
                        fuel: fuel.unwrap_or(u64::MAX),
                        metered: None,
                        shared: shared.clone(),
                    });
                }
                Err(error) => error,
            };
            let limiter = &store.data().limiter;
            let (oom, wanted) = (limiter.out_of_memory(), limiter.wanted());
            drop(store);
            if error.is::<PoolConcurrencyLimitError>() {
                if Instant::now() >= deadline {
                    return Err(NoInstance::PoolFull);
                }
                sleep(POOL_RETRY).await;
            } else if oom.is_some() && wanted <= limit && wanted > credit && Instant::now() < deadline {
                // It would fit alone. Now its need is known, wait for that.
                shared.counters.initial_memory.fetch_max(wanted, Ordering::Relaxed);
            } else {
                return Err(NoInstance::Died(Exit::from_error(&error, fuel.unwrap_or(u64::MAX), oom)));
            }
        }
    }

    /// How the guest ended, from what its call returned.
    pub(crate) fn exit_from(&self, error: &wasmtime::Error) -> Exit {
        let limiter = &self.store.data().limiter;
        let oom = if error.is::<MemoryRefused>() {
            Some(limiter.limit_and_peak())
        } else {
            limiter.out_of_memory()
        };
        Exit::from_error(error, self.fuel, oom)
    }

    /// How a guest ended that returned an error and no exit code. JavaScript's runtime does so without a word when it
    /// gets no memory; a Linux process would have been killed.
    pub(crate) fn exit_from_failure(&self) -> Exit {
        match self.store.data().limiter.out_of_memory() {
            Some((limit, peak)) => Exit::OutOfMemory { limit, peak },
            None => Exit::Code(1),
        }
    }
}

/// Gives a store the fuel of one request or call, and books what was used before. `given` is what it was last given.
pub(crate) fn refuel(
    mut store: impl AsContextMut<Data = HostState>,
    given: &mut u64,
    shared: &Shared,
    fuel: u64,
) {
    let mut store = store.as_context_mut();
    // Neither fails on an engine with metering, and without it there is nothing to limit.
    if let Ok(left) = store.get_fuel()
        && store.set_fuel(fuel).is_ok()
    {
        shared.counters.burnt(given.saturating_sub(left));
        *given = fuel;
    }
}

impl<E> Instance<E> {
    /// Tells what the request has used, if somebody wants to know.
    pub(crate) fn end_request(&mut self) {
        if let Some(metered) = self.metered.take() {
            metered.end(self.store.get_fuel().ok(), self.store.data().limiter.held());
        }
    }
}

impl<E> Drop for Instance<E> {
    fn drop(&mut self) {
        self.end_request();
        let left = self.store.get_fuel().unwrap_or(self.fuel);
        self.shared.counters.instance_ended(self.fuel.saturating_sub(left));
    }
}

fn new_store(shared: &Arc<Shared>, limiter: Limiter, fuel: Option<u64>) -> Store<HostState> {
    let prepared = &shared.prepared.0;
    let limits = shared.host_limits;
    let mut store = Store::new(&prepared.runtime().wasmtime, HostState::new(shared.clone(), limiter));
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.handles);
    if let Some(table) = store.concurrent_resource_table() {
        table.set_max_capacity(limits.resources);
    }
    if let Some(slice) = prepared.engine.0.fuel_slice {
        store
            .fuel_async_yield_interval(Some(slice))
            .and_then(|()| store.set_fuel(fuel.unwrap_or(u64::MAX)))
            .expect("the engine is configured with fuel, and a slice is at least 1");
    }
    store
}

/// A guest that has been polled once.
pub(crate) enum Begun<T> {
    /// It is done. `None` after a panic of the host's, or when it was asked before.
    Ended(Option<T>),
    /// It goes on as a task of its own, or in the background.
    Goes(JoinHandle<T>),
}

/// Begins with a guest here and now, in the task of who asks for it. Most guests are done at once: no task is made for
/// them, no other thread is woken, and their answer need not be handed over. What is not done then goes on by itself.
pub(crate) async fn begin<F>(
    control: &Arc<Control>,
    budget: &CpuBudget,
    guest: Pin<Box<F>>,
) -> Begun<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let mut guest = Some(guest);
    control.move_to(Home::Foreground);
    poll_fn(move |cx| {
        // A panic while a store is dropped ends this guest, not who asks for it.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let mut begun = guest.take()?;
            match begun.as_mut().poll(cx) {
                Poll::Ready(end) => Some(Begun::Ended(Some(end))),
                Poll::Pending => Some(Begun::Goes(background::go_on(control, budget, begun))),
            }
        }));
        Poll::Ready(polled.ok().flatten().unwrap_or(Begun::Ended(None)))
    })
    .await
}

impl<T> Begun<T> {
    /// How it ended, once it has. `None` after a panic of the host's.
    pub(crate) async fn ended(&mut self) -> Option<T> {
        match self {
            Begun::Ended(end) => end.take(),
            Begun::Goes(task) => task.await.ok(),
        }
    }
}

/// Drives a guest: in slices, each timed and charged, with pauses when its budget is overdrawn, until it ends or is
/// stopped. After that it is only to be dropped, and its store with it.
pub(crate) async fn drive<F, T>(shared: &Shared, control: &Arc<Control>, mut guest: Pin<&mut F>) -> T
where
    F: Future<Output = T>,
    T: From<Exit>,
{
    let mut meter = Meter::new(&shared.spec.cpu);
    let mut pause = meter.start().map(timer);
    let mut linger: Option<Pin<Box<Sleep>>> = None;
    let waker = Waker::from(control.clone());
    let mut busy = Busy(false);
    // What it has computed since it last waited for anything.
    let mut burst = 0;
    let end = poll_fn(|cx| {
        control.watch(cx.waker());
        let stopped = match control.phase() {
            Phase::Running => false,
            Phase::Lingering => linger
                .get_or_insert_with(|| Box::pin(sleep(shared.spec.request_timeout)))
                .as_mut()
                .poll(cx)
                .is_ready(),
            Phase::Cancelled => true,
        };
        if stopped {
            control.set_failed();
            return Poll::Ready(T::from(Exit::Killed));
        }
        if let Some(timer) = &mut pause {
            ready!(timer.as_mut().poll(cx));
            pause = None;
        }
        let home = control.home();
        let turn = meter.resume();
        let mut clock = TurnClock::of(&turn);
        let polled = loop {
            control.begin_poll();
            // A panic in a host function ends this guest, not the thread's other ones.
            let polled =
                catch_unwind(AssertUnwindSafe(|| guest.as_mut().poll(&mut Context::from_waker(&waker))));
            let runnable = control.end_poll();
            let Ok(Poll::Pending) = polled else { break polled.map(|end| (end, runnable)) };
            let longest_turn = match home {
                Home::Inline => Busy::longest_turn(),
                Home::Foreground => FIRST_TURN.saturating_sub(burst),
                Home::Background if background::is_crowded() => TURN,
                Home::Background => LONGEST_TURN_ALONE,
            };
            if !runnable || !clock.goes_on(longest_turn) || control.phase() != Phase::Running {
                break Ok((Poll::Pending, runnable));
            }
        };
        let (spent, next) = meter.pause(&turn);
        shared.counters.cpu_nanos.fetch_add(spent, Ordering::Relaxed);
        let runnable = match polled {
            Ok((Poll::Ready(end), _)) => return Poll::Ready(end),
            Ok((Poll::Pending, runnable)) => runnable,
            Err(panic) => {
                control.set_failed();
                return Poll::Ready(T::from(Exit::Trap(TrapInfo::host_panic(&*panic))));
            }
        };
        busy.set(home == Home::Inline && runnable && next.is_none());
        if let Some(next) = next {
            let timer = pause.insert(timer(next));
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
            return Poll::Pending;
        }
        if !runnable {
            burst = 0;
            control.wish_for(Home::Foreground);
            return Poll::Pending;
        }
        burst += spent;
        match home {
            Home::Inline => give_way(cx, &meter),
            // Whoever moves it sees to it that it is polled there.
            Home::Foreground if burst >= FIRST_TURN => control.wish_for(Home::Background),
            Home::Foreground | Home::Background => cx.waker().wake_by_ref(),
        }
        Poll::Pending
    })
    .await;
    control.unwatch();
    end
}

/// Says when a turn is over. By the clock on the wall, which runs no slower than the thread's and is read without a call
/// into the kernel: what a turn took of the processor is asked at its end only.
struct TurnClock {
    /// In nanoseconds since the clock of [`cpu`](crate::cpu) began.
    began: u64,
    /// Since its beginning, up to the last slice's end.
    elapsed: u64,
    /// How many of its slices ended early.
    early: u32,
}

impl TurnClock {
    fn of(turn: &Turn) -> Self {
        TurnClock { began: turn.began, elapsed: 0, early: 0 }
    }

    /// After a slice that left more to do.
    fn goes_on(&mut self, longest: u64) -> bool {
        let elapsed = nanos_since_epoch().saturating_sub(self.began);
        let slice = elapsed.saturating_sub(std::mem::replace(&mut self.elapsed, elapsed));
        self.early += u32::from(slice < BUSY_POLL);
        self.early < MOST_EARLY && elapsed < longest
    }
}

/// How many slices may end before their fuel does until the turn does. A guest of WASI 0.3 gives way several times on the
/// way to an answer, whenever one of its tasks hands something to another; would it have to queue for its thread each time,
/// a quarter of what an answer costs would be for that, and its body would come too late to be sent with its head. One that
/// gives way because it waits for others gets its wish a few microseconds later.
const MOST_EARLY: u32 = 8;

/// For how long a guest may compute before it moves to the background, in CPU nanoseconds. Most requests take less;
/// of those that take more, it is what others may have to wait for.
const FIRST_TURN: u64 = 250_000;

/// How long a guest may go on from slice to slice, in CPU nanoseconds, while nobody waits for its thread.
const LONGEST_TURN_ALONE: u64 = 2_000_000;

/// The same inline, while each thread has its busy guest. When guests are more than that, every slice ends a turn.
const LONGEST_TURN: u64 = 500_000;

/// Lets others have the thread, and comes back.
fn give_way(cx: &mut Context<'_>, meter: &Meter) {
    let crowd = Busy::crowd();
    if crowd == Greater {
        cx.waker().wake_by_ref();
        return;
    }
    // Who wakes a task rouses an idle thread, and that one steals it. Who yields is woken only after his own thread
    // found nothing else to do, and stays there. (An idle thread is roused all the same, to look for work in vain.)
    let _always_pending = pin!(tokio::task::yield_now()).poll(cx);
    meter.yielded(crowd == Less);
}

/// Whether an instance that is polled inline wants to go on computing; counts those that do.
struct Busy(bool);

static BUSY: AtomicUsize = AtomicUsize::new(0);

impl Busy {
    fn set(&mut self, busy: bool) {
        if self.0 != busy {
            self.0 = busy;
            if busy {
                BUSY.fetch_add(1, Ordering::Relaxed);
            } else {
                BUSY.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether there are fewer busy guests than threads, as many, or more.
    fn crowd() -> std::cmp::Ordering {
        BUSY.load(Ordering::Relaxed).cmp(&*PROCESSORS)
    }

    fn longest_turn() -> u64 {
        match Busy::crowd() {
            Less => LONGEST_TURN_ALONE,
            Equal => LONGEST_TURN,
            Greater => 0,
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.set(false);
    }
}

fn timer(at: std::time::Instant) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::from_std(at)))
}

/// How a request's instance ended.
pub(crate) type RequestEnd = Result<Exit, HandleError>;

/// [`RequestEnd`] as a type of our own, for the conversion [`drive`] needs.
pub(crate) struct End(pub(crate) RequestEnd);

impl From<Exit> for End {
    fn from(exit: Exit) -> End {
        End(Ok(exit))
    }
}
