//! What the tests of a guest need: a host that does as they say.
//!
//! Natively a handler is an ordinary function. What it asks its host for is answered by what the test has set before,
//! for its own thread: nothing leaves the process.
//!
//! ```
//! # use coracle_sdk::http::{Body, Error, Request, Response};
//! # use coracle_sdk::{config, fetch, testing};
//! async fn handle(_: Request) -> Result<Response, Error> {
//!     Ok(fetch::get(config::require("BACKEND")?).send().await?)
//! }
//!
//! # coracle_sdk::block_on(async {
//! testing::set_config("BACKEND", "http://back.default.internal/");
//! testing::on_fetch(|request| {
//!     assert_eq!(request.uri().host(), Some("back.default.internal"));
//!     Ok(Response::new(Body::from("from the back")))
//! });
//! let mut response = handle(Request::default()).await.unwrap();
//! assert_eq!(response.body_mut().text().await.unwrap(), "from the back");
//! # });
//! ```
//!
//! With the feature `testing`, `Component` runs the component itself, in this process and under limits.

#[cfg(feature = "testing")]
mod component;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::task::Waker;

#[cfg(feature = "testing")]
pub use component::{Component, ComponentError, Ended};

use crate::fetch::Error as FetchError;
use crate::http::{Request, Response};
use crate::limits::Memory;

type Answer = Rc<dyn Fn(Request) -> Result<Response, FetchError>>;

type Figures = BTreeMap<(String, Vec<(String, String)>), f64>;

/// What a thread's host is like.
pub(crate) struct World {
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
    /// None if it is not granted.
    pub(crate) keyvalue: Option<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    /// None if they are not granted.
    pub(crate) metrics: Option<Figures>,
    pub(crate) fetch: Option<Answer>,
    pub(crate) memory: Memory,
    pub(crate) fuel: Option<u64>,
    /// Whether the task is to stop, and who waits for it.
    pub(crate) stop: (bool, Vec<Waker>),
    pub(crate) log: Vec<String>,
}

thread_local! {
    static WORLD: RefCell<World> = RefCell::new(World {
        variables: BTreeMap::new(),
        config: BTreeMap::new(),
        keyvalue: Some(BTreeMap::new()),
        metrics: Some(Figures::new()),
        fetch: None,
        memory: Memory { limit: None, used: 0, available: None },
        fuel: None,
        stop: (false, Vec::new()),
        log: Vec::new(),
    });
}

impl World {
    pub(crate) fn with<T>(work: impl FnOnce(&mut Self) -> T) -> T {
        WORLD.with_borrow_mut(work)
    }
}

/// Sets an environment variable, or a secret.
pub fn set_variable(name: &str, value: &str) {
    World::with(|world| world.variables.insert(name.to_owned(), value.to_owned()));
}

/// Sets a value of the configuration.
pub fn set_config(key: &str, value: &str) {
    World::with(|world| world.config.insert(key.to_owned(), value.to_owned()));
}

/// Says who answers outgoing requests. Before, none is granted.
pub fn on_fetch(answer: impl Fn(Request) -> Result<Response, FetchError> + 'static) {
    World::with(|world| world.fetch = Some(Rc::new(answer)));
}

/// Takes the grant of the key-value store away.
pub fn deny_keyvalue() {
    World::with(|world| world.keyvalue = None);
}

/// Takes the grant of metrics away.
pub fn deny_metrics() {
    World::with(|world| world.metrics = None);
}

/// Says what [`limits`](crate::limits) answers.
pub fn set_limits(memory: Memory, fuel: Option<u64>) {
    World::with(|world| (world.memory, world.fuel) = (memory, fuel));
}

/// Tells the task to stop.
pub fn stop() {
    let waiting = World::with(|world| {
        world.stop.0 = true;
        std::mem::take(&mut world.stop.1)
    });
    waiting.into_iter().for_each(Waker::wake);
}

/// What a figure is now: of a histogram, the sum of its observations. None if nothing was recorded.
#[must_use]
pub fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut labels: Vec<_> =
        labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    labels.sort();
    World::with(|world| world.metrics.as_ref()?.get(&(name.to_owned(), labels)).copied())
}

/// The lines of the log so far.
#[must_use]
pub fn log_lines() -> Vec<String> {
    World::with(|world| world.log.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{stop, time};

    #[crate::test]
    async fn a_task_is_told_to_stop() {
        assert!(!stop::requested());
        assert!(time::timeout(Duration::from_millis(1), stop::wait()).await.is_err());
        super::stop();
        stop::wait().await;
        assert!(stop::requested());
    }
}
