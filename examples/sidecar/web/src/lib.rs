//! The main container: an HTTP service that serves the greeting its sidecar has written into the volume they share.
//! The two are separate components with separate memories; the volume is all they have in common.
//!
//! Run with, in `examples`, after the greeter
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run --dir /tmp/shared::/shared:ro --listen 127.0.0.1:8000 target/wasm32-wasip2/release/web.wasm
//! curl http://127.0.0.1:8000/
//! ```

use std::fs;

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// Where the greeter writes it.
const FILE: &str = "/shared/greeting.txt";

struct Web;

wasip2::http::proxy::export!(Web);

impl wasip2::exports::http::incoming_handler::Guest for Web {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        match fs::read(FILE) {
            Ok(greeting) => answer(out, 200, &greeting),
            Err(error) => {
                eprintln!("web: {FILE}: {error}");
                answer(out, 503, b"There is no greeting yet; try again in a moment.\n");
            }
        }
    }
}

/// Sends a body that is already whole.
fn answer(out: ResponseOutparam, status: u16, content: &[u8]) {
    let length = content.len().to_string().into_bytes();
    let headers =
        Fields::from_list(&[("content-length".to_owned(), length)]).expect("the header is well formed");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status is one of HTTP's");
    let body = response.body().expect("a response has one body, taken here first");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a body has one stream, taken here first");
    // A stream takes at most 4096 bytes at a time.
    for chunk in content.chunks(4096) {
        if stream.blocking_write_and_flush(chunk).is_err() {
            return; // The client has gone.
        }
    }
    drop(stream);
    // Fails when the client has gone, and there is nobody left to tell.
    let _ = OutgoingBody::finish(body, None);
}
