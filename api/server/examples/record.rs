//! Records what a client sends and is answered, as a transcript that the tests replay.
//!
//! ```text
//! cargo run -p coracle-server --example record -- 127.0.0.1:4566 api/server/tests/api/transcripts/ecs.jsonl &
//! AWS_ENDPOINT_URL=http://127.0.0.1:4566 python3 api/server/tests/api/transcripts/record.py
//! ```
//!
//! It ends, and writes the transcript, with the first `GET /done`. A client may also be given what an earlier transcript
//! says, as `rust_sdk.py` beside it does: a name that stands for an id there means that id of this run.

#![expect(clippy::unwrap_used, reason = "a tool for whoever works on this")]
#![expect(dead_code, reason = "the tests use the rest")]

#[path = "../tests/api/harness.rs"]
mod harness;
#[path = "../tests/api/world.rs"]
mod world;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify};

use self::world::{Names, World};

struct Recorder {
    world: World,
    /// One request after the other, as they will be replayed.
    transcript: Mutex<(Names, String)>,
    done: Notify,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let [address, path] = [1, 2].map(|index| std::env::args().nth(index).expect("ADDRESS FILE"));
    let listener = TcpListener::bind(address).await.unwrap();
    let recorder = Arc::new(Recorder {
        world: World::new(),
        transcript: Mutex::new((Names::new(), String::new())),
        done: Notify::new(),
    });
    let done = async |State(recorder): State<Arc<Recorder>>| recorder.done.notify_one();
    let app = Router::new().route("/done", get(done)).fallback(record).with_state(Arc::clone(&recorder));
    tokio::select! {
        served = axum::serve(listener, app) => served.unwrap(),
        () = recorder.done.notified() => {}
    }
    std::fs::write(path, &recorder.transcript.lock().await.1).unwrap();
}

async fn record(State(recorder): State<Arc<Recorder>>, headers: HeaderMap, body: String) -> Response {
    let target = headers["x-amz-target"].to_str().unwrap();
    let operation = target.rsplit('.').next().unwrap();
    let mut transcript = recorder.transcript.lock().await;
    let (names, lines) = &mut *transcript;
    let request = names.reveal(&serde_json::from_str(&body).unwrap());
    let answer = recorder.world.answer(operation, &request).await;
    let exchange = json!({
        "operation": operation, "request": names.hide_known(&request), "status": answer.status,
        "response": names.hide(&answer.json()),
    });
    lines.push_str(&exchange.to_string());
    lines.push('\n');
    let mut response = Response::new(Body::from(answer.text));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    *response.headers_mut() = answer.headers;
    response
}
