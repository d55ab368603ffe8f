//! Where guests compute that take long: on threads of their own, so that requests, timers and I/O never stand in line
//! behind them.
//!
//! An instance begins in the foreground, as a task of tokio. Most answer within one turn there and never leave. One that
//! has computed for a whole turn without waiting for anything moves to the background: its future is handed to a pool
//! of threads, one per processor. When it waits for something it moves back, and what it waited for finds it in the
//! foreground.
//!
//! These threads have the same precedence as all others. With the lowest (nice 19) the kernel takes a processor from a guest
//! as soon as a request comes in, and 99 % of the requests of a hello service beside 50 guests that spin are answered as
//! fast as without them (0.5 to 1.0 ms, against 2.3 to 2.6 ms). But whatever else computes on the machine would then
//! leave guests next to nothing: their caps and shares would mean nothing, and their requests would time out.
//!
//! The pool gives turns to budgets in proportion to their units, whatever the number of their instances, by start-time
//! fair queueing: see [`Precedence`].
//!
//! What this does not know: what an instance may use. Debts and caps are its driver's business
//! ([`drive`](crate::instance::drive)), which sleeps them off without a thread wherever it is.

use crate::control::{Control, Home, Phase};
use crate::cpu::{CpuBudget, Precedence, thread_cpu};
use parking_lot::{Condvar, Mutex};
use std::collections::BinaryHeap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::thread;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

type Instance<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Spawns the task of one instance, which `control` belongs to and `budget` pays for.
pub(crate) fn spawn<T: Send + 'static>(
    control: &Arc<Control>,
    budget: &CpuBudget,
    instance: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    control.move_to(Home::Foreground);
    go_on(control, budget, Box::pin(instance))
}

/// The same, of one that has been polled in the foreground already.
pub(crate) fn go_on<T: Send + 'static>(
    control: &Arc<Control>,
    budget: &CpuBudget,
    instance: Pin<Box<dyn Future<Output = T> + Send>>,
) -> JoinHandle<T> {
    tokio::spawn(Task { control: control.clone(), budget: budget.clone(), place: Place::Here(instance) })
}

/// An instance's task of tokio: the instance itself, or whoever waits for it to come back.
struct Task<T> {
    control: Arc<Control>,
    budget: CpuBudget,
    place: Place<T>,
}

enum Place<T> {
    Here(Instance<T>),
    Background(oneshot::Receiver<Return<T>>),
}

enum Return<T> {
    /// It waits for something.
    Waiting(Instance<T>),
    /// It is over, perhaps by a panic.
    Ended(thread::Result<T>),
}

impl<T: Send + 'static> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let this = &mut *self;
        loop {
            match &mut this.place {
                Place::Here(instance) => {
                    if this.control.wish() != Home::Background {
                        if let Poll::Ready(end) = instance.as_mut().poll(cx) {
                            return Poll::Ready(end);
                        }
                        if this.control.wish() != Home::Background {
                            return Poll::Pending;
                        }
                    }
                    let (back, returned) = oneshot::channel();
                    let Place::Here(instance) =
                        std::mem::replace(&mut this.place, Place::Background(returned))
                    else {
                        return Poll::Pending;
                    };
                    this.control.move_to(Home::Background);
                    POOL.push(Arc::new(Job {
                        state: AtomicU8::new(QUEUED),
                        lodger: Mutex::new(Some(Lodger { instance, back, control: this.control.clone() })),
                        precedence: this.budget.precedence(),
                        runtime: Handle::current(),
                    }));
                }
                Place::Background(returned) => match ready!(Pin::new(returned).poll(cx)) {
                    Ok(Return::Ended(Ok(end))) => return Poll::Ready(end),
                    Ok(Return::Ended(Err(panic))) => resume_unwind(panic),
                    Ok(Return::Waiting(instance)) => this.place = Place::Here(instance),
                    Err(_) => unreachable!("the background keeps an instance until it has returned it"),
                },
            }
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        // The runtime is shutting down; nobody else would stop the instance.
        if let Place::Background(_) = self.place {
            self.control.advance(Phase::Cancelled);
        }
    }
}

/// An instance in the background, between its arrival and its return.
struct Job<T> {
    state: AtomicU8,
    /// Empty when it has returned. Only ever taken by the thread whose turn it is.
    lodger: Mutex<Option<Lodger<T>>>,
    precedence: Precedence,
    runtime: Handle,
}

struct Lodger<T> {
    instance: Instance<T>,
    back: oneshot::Sender<Return<T>>,
    control: Arc<Control>,
}

/// It waits to be woken, for a thread, has one, or has one and was woken meanwhile.
const ASLEEP: u8 = 0;
const QUEUED: u8 = 1;
const RUNNING: u8 = 2;
const WOKEN: u8 = 3;

impl<T: Send + 'static> Wake for Job<T> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| match state {
            ASLEEP => Some(QUEUED),
            RUNNING => Some(WOKEN),
            _ => None,
        });
        if before == Ok(ASLEEP) {
            POOL.push(self.clone());
        }
    }
}

/// What the pool knows of a job.
trait Run: Send + Sync {
    fn precedence(&self) -> &Precedence;
    /// Gives it a turn. Answers itself if it wants another one at once.
    fn run(self: Arc<Self>) -> Option<Arc<dyn Run>>;
}

impl<T: Send + 'static> Run for Job<T> {
    fn precedence(&self) -> &Precedence {
        &self.precedence
    }

    fn run(self: Arc<Self>) -> Option<Arc<dyn Run>> {
        self.state.store(RUNNING, Ordering::Release);
        let mut lodger = self.lodger.lock().take()?;
        // What the guest asks of the host is served by the runtime it came from.
        let _entered = self.runtime.enter();
        let waker = Waker::from(self.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            lodger.instance.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        let ended = match polled {
            Ok(Poll::Pending) => {
                if lodger.control.wish() == Home::Foreground {
                    lodger.control.move_to(Home::Foreground);
                    // Whoever wakes it from here on wakes nothing, but its task polls it as soon as it is there.
                    let _ = lodger.back.send(Return::Waiting(lodger.instance));
                    return None;
                }
                *self.lodger.lock() = Some(lodger);
                if self.state.compare_exchange(RUNNING, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    return None;
                }
                self.state.store(QUEUED, Ordering::Release);
                return Some(self);
            }
            Ok(Poll::Ready(end)) => Ok(end),
            Err(panic) => Err(panic),
        };
        // First, so that whoever waits for its end finds nothing left of it; and its destructors are not trusted either.
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(lodger.instance)));
        let _ = lodger.back.send(Return::Ended(dropped.and(ended)));
        None
    }
}

/// Whether an instance waits for a thread of the background.
pub(crate) fn is_crowded() -> bool {
    POOL.waiting.load(Ordering::Relaxed) > 0
}

static POOL: LazyLock<Pool> = LazyLock::new(Pool::default);

/// The threads and those who wait for one.
#[derive(Default)]
struct Pool {
    queue: Mutex<Queue>,
    ready: Condvar,
    /// How many are in the queue.
    waiting: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: BinaryHeap<Entry>,
    /// Numbers the entries.
    next: u64,
    /// The tag of the last one that got a thread, see [`Precedence`].
    now: u64,
    threads: usize,
    idle: usize,
}

struct Entry {
    tag: u64,
    number: u64,
    job: Arc<dyn Run>,
}

impl Entry {
    /// The least is next.
    fn key(&self) -> std::cmp::Reverse<(u64, u64)> {
        std::cmp::Reverse((self.tag, self.number))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl Pool {
    fn push(&'static self, job: Arc<dyn Run>) {
        let mut queue = self.queue.lock();
        queue.add(job);
        self.waiting.store(queue.jobs.len(), Ordering::Relaxed);
        if queue.idle > 0 {
            queue.idle -= 1;
            self.ready.notify_one();
        } else if queue.threads < *crate::cpu::PROCESSORS {
            let name = format!("guests-{}", queue.threads);
            match thread::Builder::new().name(name).spawn(|| self.work()) {
                Ok(_) => queue.threads += 1,
                // Those that are there do it.
                Err(_) if queue.threads > 0 => {}
                // As tokio does when it can't have its threads.
                Err(error) => panic!("cannot start a thread for guests: {error}"),
            }
        }
    }

    fn work(&self) {
        let mut queue = self.queue.lock();
        loop {
            let Some(job) = queue.take() else {
                queue.idle += 1;
                // Whoever rouses it has taken it off the idle ones.
                self.ready.wait(&mut queue);
                continue;
            };
            self.waiting.store(queue.jobs.len(), Ordering::Relaxed);
            drop(queue);
            let began = thread_cpu();
            let again = job.clone().run();
            let spent = thread_cpu().saturating_sub(began);
            queue = self.queue.lock();
            job.precedence().settle(spent);
            // Nobody is roused for it: this thread takes the next one itself.
            if let Some(job) = again {
                queue.add(job);
            }
        }
    }
}

impl Queue {
    fn add(&mut self, job: Arc<dyn Run>) {
        let tag = job.precedence().tag(self.now);
        let number = self.next;
        self.next += 1;
        self.jobs.push(Entry { tag, number, job });
    }

    fn take(&mut self) -> Option<Arc<dyn Run>> {
        let Entry { tag, job, .. } = self.jobs.pop()?;
        self.now = self.now.max(tag);
        Some(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::TURN;
    use std::future::poll_fn;
    use std::sync::mpsc;
    use std::time::Duration;

    /// An instance that says where it is polled, and wants to be somewhere else after each poll but the last.
    fn wanderer(control: &Arc<Control>, way: &'static [Home]) -> impl Future<Output = Vec<bool>> + use<> {
        let control = control.clone();
        let (mut seen, mut way) = (Vec::new(), way.iter());
        poll_fn(move |_| {
            seen.push(thread::current().name().is_some_and(|name| name.starts_with("guests-")));
            assert_eq!(control.home() == Home::Background, *seen.last().unwrap());
            match way.next() {
                Some(home) => {
                    control.wish_for(*home);
                    Poll::Pending
                }
                None => Poll::Ready(std::mem::take(&mut seen)),
            }
        })
    }

    #[tokio::test]
    async fn an_instance_goes_where_it_wishes() {
        let control = Control::new();
        let way = wanderer(&control, &[Home::Background, Home::Foreground, Home::Background]);
        let seen = spawn(&control, &CpuBudget::unlimited(), way).await.unwrap();
        assert_eq!(seen, [false, true, false, true]);
    }

    #[tokio::test]
    async fn who_is_woken_in_his_own_turn_gets_another() {
        let control = Control::new();
        let turns = {
            let control = control.clone();
            let mut left = 1000;
            poll_fn(move |cx| {
                control.wish_for(Home::Background);
                left -= 1;
                if left == 0 {
                    return Poll::Ready(());
                }
                if control.home() == Home::Background {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
        };
        spawn(&control, &CpuBudget::unlimited(), turns).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_in_the_background_is_woken_there() {
        let control = Control::new();
        let (send, mut receive) = oneshot::channel();
        let waiting = {
            let control = control.clone();
            poll_fn(move |cx| {
                control.wish_for(Home::Background);
                if control.home() != Home::Background {
                    return Poll::Pending;
                }
                Pin::new(&mut receive).poll(cx)
            })
        };
        let task = spawn(&control, &CpuBudget::unlimited(), waiting);
        while control.home() != Home::Background {
            tokio::task::yield_now().await;
        }
        send.send(7).unwrap();
        assert_eq!(task.await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn a_panic_in_the_background_is_its_tasks() {
        let control = Control::new();
        let panics = {
            let control = control.clone();
            poll_fn(move |_| -> Poll<()> {
                assert!(control.home() != Home::Background, "as announced");
                control.wish_for(Home::Background);
                Poll::Pending
            })
        };
        let error = spawn(&control, &CpuBudget::unlimited(), panics).await.unwrap_err();
        assert!(error.is_panic());
    }

    #[test]
    fn the_end_of_the_runtime_is_the_end_of_those_in_the_background() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let control = Control::new();
        let (arrived, arrives) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        let endless = {
            let control = control.clone();
            poll_fn(move |cx| {
                control.wish_for(Home::Background);
                if control.home() == Home::Background {
                    arrived.send(()).unwrap_or_default();
                    cx.waker().wake_by_ref();
                }
                match control.phase() {
                    Phase::Cancelled => {
                        let _ = ended.send(());
                        Poll::Ready(())
                    }
                    Phase::Running | Phase::Lingering => Poll::Pending,
                }
            })
        };
        runtime.block_on(async {
            spawn(&control, &CpuBudget::unlimited(), endless);
            tokio::task::yield_now().await;
        });
        let patience = Duration::from_secs(20);
        arrives.recv_timeout(patience).unwrap();
        assert!(ends.try_recv().is_err());
        drop(runtime);
        ends.recv_timeout(patience).unwrap();
    }

    struct Turn(Precedence);

    impl Run for Turn {
        fn precedence(&self) -> &Precedence {
            &self.0
        }

        fn run(self: Arc<Self>) -> Option<Arc<dyn Run>> {
            None
        }
    }

    /// Who gets the first `turns`, of budgets with so many instances each that always want another one and use so much of
    /// it; by budget.
    fn turns(budgets: &[(CpuBudget, usize, u64)], turns: usize) -> Vec<usize> {
        let mut queue = Queue { now: 5_000_000_000, ..Queue::default() };
        let all: Vec<Arc<dyn Run>> = budgets
            .iter()
            .flat_map(|(budget, count, _)| std::iter::repeat_n(budget, *count))
            .map(|budget| Arc::new(Turn(budget.precedence())) as Arc<dyn Run>)
            .collect();
        let owners: Vec<usize> = budgets
            .iter()
            .enumerate()
            .flat_map(|(owner, (_, count, _))| std::iter::repeat_n(owner, *count))
            .collect();
        all.iter().for_each(|job| queue.add(job.clone()));
        let mut got = vec![0; budgets.len()];
        for _ in 0..turns {
            let job = queue.take().unwrap();
            let owner = owners[all.iter().position(|other| Arc::ptr_eq(other, &job)).unwrap()];
            got[owner] += 1;
            job.precedence().settle(budgets[owner].2);
            queue.add(job);
        }
        got
    }

    #[test]
    fn many_instances_get_no_more_turns_than_one() {
        let budgets = [(CpuBudget::capped(256), 50, TURN), (CpuBudget::capped(256), 1, TURN)];
        assert_eq!(turns(&budgets, 100), [50, 50]);
    }

    #[test]
    fn turns_are_divided_by_units() {
        let budgets = [(CpuBudget::capped(256), 2, TURN), (CpuBudget::shares(768), 2, TURN)];
        let got = turns(&budgets, 400);
        assert!(got[0].abs_diff(100) <= 2, "{got:?}");
    }

    #[test]
    fn who_uses_little_of_his_turns_gets_more_of_them() {
        // A guest with few units is told to wait after a slice: that must not cost it the rest of a turn.
        let budgets = [(CpuBudget::shares(16), 1, TURN / 4), (CpuBudget::shares(1024), 1, TURN)];
        let got = turns(&budgets, 1700);
        assert!(got[0].abs_diff(100) <= 2, "{got:?}: 100 quarters beside 1600 whole ones are 16 of 1024");
        // Who goes on for longer than a turn pays for all of it.
        let budgets = [(CpuBudget::capped(512), 3, 2 * TURN), (CpuBudget::capped(512), 1, TURN)];
        let got = turns(&budgets, 300);
        assert!(got[0].abs_diff(100) <= 3, "{got:?}");
    }

    #[test]
    fn containers_of_a_task_have_one_place_together() {
        let task = CpuBudget::capped(512);
        let budgets =
            [(task.part(256), 1, TURN), (task.part(256), 1, TURN), (CpuBudget::capped(512), 1, TURN)];
        let got = turns(&budgets, 200);
        assert!(got[2].abs_diff(100) <= 2, "{got:?}");
    }

    #[test]
    fn nobody_saves_turns_up() {
        let (busy, idle) = (CpuBudget::capped(256), CpuBudget::capped(256));
        let mut queue = Queue::default();
        let job = |budget: &CpuBudget| Arc::new(Turn(budget.precedence())) as Arc<dyn Run>;
        let (one, other) = (job(&busy), job(&idle));
        queue.add(one.clone());
        for _ in 0..100 {
            let job = queue.take().unwrap();
            queue.add(job);
        }
        queue.add(other.clone());
        let mut got = 0;
        for _ in 0..10 {
            let job = queue.take().unwrap();
            got += u32::from(Arc::ptr_eq(&job, &other));
            queue.add(job);
        }
        assert!((5..=6).contains(&got), "{got} of 10");
    }
}
