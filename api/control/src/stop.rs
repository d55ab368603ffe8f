//! Being told to end.

use tokio::sync::watch;

/// Resolves when the loop should end: the signal is true, or nobody is left to give it.
pub(crate) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|stop| *stop).await;
}
