//! How much a group takes on: requests in flight, requests that wait, and retries.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::Group;
use crate::model::{Breaker, RetryPolicy};

/// A group's requests.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    in_flight: AtomicU32,
    pending: AtomicU32,
    retrying: AtomicU32,
    /// Notified when a request has left while others waited.
    left: Notify,
}

/// A request's place in its group, given up when this is dropped.
pub(crate) struct Admission {
    group: Arc<Group>,
    is_retrying: bool,
}

/// A request's place among those that wait.
pub(crate) struct Pending<'a>(&'a Traffic);

/// The group has more to do than it may.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Group {
    /// Takes a place among the requests in flight, or waits for one.
    pub(crate) async fn admit(self: &Arc<Self>, breaker: &Breaker) -> Result<Admission, Full> {
        if let Some(admission) = self.try_admit(breaker) {
            return Ok(admission);
        }
        // Boxed, as it is rare: its state would otherwise be part of every request's.
        Box::pin(self.admit_later(breaker)).await
    }

    async fn admit_later(self: &Arc<Self>, breaker: &Breaker) -> Result<Admission, Full> {
        let _pending = self.wait_in_line(breaker)?;
        let deadline = Instant::now() + breaker.pending_timeout;
        loop {
            let mut left = pin!(self.traffic.left.notified());
            // In line before the look, so that no place is missed between look and wait.
            left.as_mut().enable();
            if let Some(admission) = self.try_admit(breaker) {
                return Ok(admission);
            }
            timeout_at(deadline, left).await.map_err(|_| Full)?;
        }
    }

    /// Takes a place among the requests in flight, if there is one.
    pub(crate) fn try_admit(self: &Arc<Self>, breaker: &Breaker) -> Option<Admission> {
        take(&self.traffic.in_flight, breaker.max_in_flight)
            .then(|| Admission { group: Arc::clone(self), is_retrying: false })
    }

    /// Takes a place among the requests that wait.
    pub(crate) fn wait_in_line(&self, breaker: &Breaker) -> Result<Pending<'_>, Full> {
        take(&self.traffic.pending, breaker.max_pending).then(|| Pending(&self.traffic)).ok_or(Full)
    }
}

impl Admission {
    /// Whether the request may be sent once more: it was not before, and fewer are than the budget
    /// allows, which is a minimum and a share of the requests in flight.
    pub(crate) fn try_retry(&mut self, policy: &RetryPolicy) -> bool {
        let traffic = &self.group.traffic;
        let live = u64::from(traffic.in_flight.load(Ordering::Relaxed));
        let share = u32::try_from(live * u64::from(policy.percentage) / 100).unwrap_or(u32::MAX);
        let may = !self.is_retrying && take(&traffic.retrying, policy.minimum.saturating_add(share));
        self.is_retrying |= may;
        may
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let traffic = &self.group.traffic;
        if self.is_retrying {
            traffic.retrying.fetch_sub(1, Ordering::Relaxed);
        }
        // Sequentially consistent with the counter of those who wait: either this sees that somebody
        // waits, or they see the place.
        traffic.in_flight.fetch_sub(1, Ordering::SeqCst);
        if traffic.pending.load(Ordering::SeqCst) > 0 {
            traffic.left.notify_one();
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts one more, unless there are `max`.
fn take(count: &AtomicU32, max: u32) -> bool {
    let add = |count: u32| (count < max).then_some(count + 1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, add).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn breaker(max_in_flight: u32, max_pending: u32) -> Breaker {
        Breaker { max_in_flight, max_pending, pending_timeout: Duration::from_secs(5) }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_waits_then_is_refused() {
        let group = Group::new("g".to_owned(), 0);
        let breaker = breaker(2, 1);
        let first = group.admit(&breaker).await.unwrap();
        let _second = group.admit(&breaker).await.unwrap();
        let waiting = tokio::spawn({
            let group = Arc::clone(&group);
            async move { group.admit(&breaker).await }
        });
        while group.traffic.pending.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(group.admit(&breaker).await.err(), Some(Full), "at once, as one waits already");
        drop(first);
        let _third = waiting.await.unwrap().expect("the place of the first");
        let started = Instant::now();
        assert_eq!(group.admit(&breaker).await.err(), Some(Full));
        assert_eq!(started.elapsed().as_secs(), 5);
        assert_eq!(group.traffic.pending.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn retries_have_a_budget_and_are_never_two_deep() {
        let group = Group::new("g".to_owned(), 0);
        let policy = RetryPolicy { percentage: 20, minimum: 1 };
        let mut all = Vec::new();
        for _ in 0..10 {
            all.push(group.admit(&breaker(100, 0)).await.unwrap());
        }
        let allowed: Vec<bool> = all.iter_mut().map(|request| request.try_retry(&policy)).collect();
        assert_eq!(allowed.iter().filter(|may| **may).count(), 3, "one, and a fifth of ten");
        assert!(!all[0].try_retry(&policy), "it was retried already");
        drop(all);
        let mut alone = group.admit(&breaker(100, 0)).await.unwrap();
        assert!(alone.try_retry(&policy));
    }
}
