//! Runs one future to its end, waiting where it waits: the host's pollables are the only thing there is to wait for.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use wasip2::clocks::monotonic_clock;
use wasip2::io::poll::{Pollable, poll};

thread_local! {
    /// What is waited for. Whoever waits holds the pollable; what nobody holds any more is passed over.
    static WAITING: RefCell<Vec<(Weak<Pollable>, Waker)>> = const { RefCell::new(Vec::new()) };
}

/// Whether the outermost future was woken by something else than a pollable.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end.
///
/// # Panics
/// When it waits for something that nobody will ever do: there are no threads here.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        if !woken.0.swap(false, Ordering::Relaxed) {
            wait();
            woken.0.store(false, Ordering::Relaxed);
        }
    }
}

/// Waits for the first of all pollables, and wakes those who wait for it.
fn wait() {
    let waiting = WAITING.take();
    let (pollables, wakers): (Vec<_>, Vec<_>) =
        waiting.into_iter().filter_map(|(pollable, waker)| Some((pollable.upgrade()?, waker))).unzip();
    assert!(!pollables.is_empty(), "the future waits for what can't happen: nothing of the host's");
    let borrowed: Vec<&Pollable> = pollables.iter().map(|pollable| &**pollable).collect();
    let mut ready = vec![false; borrowed.len()];
    for position in poll(&borrowed) {
        if let Some(ready) = usize::try_from(position).ok().and_then(|position| ready.get_mut(position)) {
            *ready = true;
        }
    }
    for ((pollable, waker), ready) in pollables.iter().zip(wakers).zip(ready) {
        if ready {
            waker.wake();
        } else {
            WAITING.with_borrow_mut(|waiting| waiting.push((Rc::downgrade(pollable), waker)));
        }
    }
}

/// Resolves when a pollable is ready.
pub(super) async fn until(pollable: Pollable) {
    let pollable = Rc::new(pollable);
    poll_fn(|cx| {
        if pollable.ready() {
            return Poll::Ready(());
        }
        WAITING.with_borrow_mut(|waiting| {
            // Polled again for another reason: it waits already.
            let mine = |known: &&mut (Weak<Pollable>, Waker)| known.0.as_ptr() == Rc::as_ptr(&pollable);
            match waiting.iter_mut().find(mine) {
                Some((_, waker)) => waker.clone_from(cx.waker()),
                None => waiting.push((Rc::downgrade(&pollable), cx.waker().clone())),
            }
        });
        Poll::Pending
    })
    .await;
}

/// Resolves after so long.
pub(crate) async fn sleep(duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    until(monotonic_clock::subscribe_duration(nanos)).await;
}
