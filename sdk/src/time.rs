//! Waiting.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::host;

/// It took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(
    /// How long it was given.
    pub Duration,
);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not done after {:?}", self.0)
    }
}

impl std::error::Error for Elapsed {}

/// Resolves after so long. The instance uses no CPU meanwhile.
pub async fn sleep(duration: Duration) {
    host::sleep(duration).await;
}

/// Does something, for so long at most.
///
/// # Errors
/// When it was not done by then; it is dropped.
pub async fn timeout<T>(duration: Duration, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let (mut work, mut sleep) = (pin!(work), pin!(host::sleep(duration)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed(duration))),
    })
    .await
}

/// Waits for all of them, together; what they answer is in their order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(output) => *done = Some(output),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, done)| done).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[crate::test]
    async fn what_takes_too_long_is_given_up() {
        let long = Duration::from_secs(3600);
        assert_eq!(timeout(long, std::future::ready(1)).await, Ok(1));
        let short = Duration::from_millis(1);
        assert_eq!(timeout(short, sleep(long)).await, Err(Elapsed(short)));
    }

    #[crate::test]
    async fn several_wait_together() {
        let one = |number| async move {
            sleep(Duration::from_millis(1)).await;
            number
        };
        assert_eq!(join_all([one(1), one(2), one(3)]).await, [1, 2, 3]);
    }
}
