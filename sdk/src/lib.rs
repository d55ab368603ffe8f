//! What a component written in Rust needs to be a Coracle task.
//!
//! An HTTP service is one `async fn`. It gets a request and answers with anything that can be a response; what it
//! returns with `?` becomes one too.
//!
//! ```
//! use coracle_sdk::http::{Error, Json, Request, RequestExt, Response, Router};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, Serialize)]
//! struct Greeting {
//!     name: String,
//! }
//!
//! #[coracle_sdk::http]
//! async fn handle(request: Request) -> Response {
//!     Router::new()
//!         .get("/", async |_| "Hello!\n")
//!         .get("/greet/{name}", greet)
//!         .post("/greet", async |mut request: Request| request.json::<Greeting>().await.map(Json))
//!         .handle(request)
//!         .await
//! }
//!
//! async fn greet(request: Request) -> Result<String, Error> {
//!     Ok(format!("Hello, {}!\n", request.param("name")?))
//! }
//!
//! #[coracle_sdk::test]
//! async fn greets() {
//!     let request = Request::get("/greet/you").body(Default::default()).unwrap();
//!     let mut response = handle(request).await;
//!     assert_eq!(response.body_mut().text().await.unwrap(), "Hello, you!\n");
//! }
//! ```
//!
//! The crate is a `cdylib`, and plain `cargo build --release --target wasm32-wasip2` makes a component of it. There is no
//! server loop and no port: the host calls the function, with a fresh instance for every request unless the task
//! definition says otherwise. Natively the same crate compiles for `cargo test`.
//!
//! A batch task is a program whose `main` may be asynchronous:
//!
//! ```no_run
//! #[coracle_sdk::main]
//! async fn main(arguments: Vec<String>) -> Result<(), coracle_sdk::Error> {
//!     for file in &arguments {
//!         if coracle_sdk::stop::requested() {
//!             break; // StopTask, or a deployment: what is done is done
//!         }
//!         println!("{file}: {} bytes", std::fs::metadata(file)?.len());
//!     }
//!     Ok(())
//! }
//! ```
//!
//! What the host grants is reached through one module each; a call that was not granted answers with an error that
//! says which grant is missing.
//!
//! | module | what | granted by, in the task definition |
//! |---|---|---|
//! | [`fetch`] | outgoing HTTP, with time-outs | label `coracle.egress` |
//! | [`keyvalue`] | durable values, per service | always; label `coracle.keyvalue` shares them |
//! | [`config`] | configuration | `environment`, labels `coracle.config.KEY` |
//! | [`secret`] | secrets | `secrets` |
//! | [`task`] | cluster, service, ARNs, limits | always, in a task |
//! | [`metrics`] | figures at `/metrics` | always, in a task |
//! | [`limits`] | memory and fuel that are left | always |
//! | [`stop`] | whether the task is to end | always |
//! | [`log`] | lines of the log, with a level; by `tracing`'s macros with the feature `tracing` | always |
//!
//! Natively all of them work on what the test says: see [`testing`].
//!
//! The interfaces beside WASI's are in `wit/`, the one source of them for guests and host.

mod error;
mod host;
mod outcome;

pub mod config;
pub mod fetch;
pub mod http;
pub mod keyvalue;
pub mod limits;
pub mod log;
pub mod metrics;
pub mod secret;
pub mod stop;
pub mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod time;

pub use coracle_sdk_macros::{http, main, test};
pub use error::{Error, NotGranted};
pub use host::block_on;
pub use outcome::{Exit, Outcome};

#[cfg(feature = "tracing")]
pub use tracing;

/// What the attributes expand to. Not for people.
#[doc(hidden)]
pub mod private {
    pub use crate::outcome::run;

    #[cfg(target_family = "wasm")]
    pub use {
        crate::host::{Incoming, serve},
        wasip2,
    };
}
