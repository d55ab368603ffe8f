//! An HTTP service as a component: it exports `wasi:http/incoming-handler`, and nothing more is needed to be
//! one. There is no server loop and no port: the host calls `handle` with a fresh instance for every request.
//!
//! Run with, in `examples`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run target/wasm32-wasip2/release/hello.wasm --listen 127.0.0.1:8000
//! curl http://127.0.0.1:8000/
//! ```

use std::io::Write;

use wasip2::cli::environment;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        match path.split('?').next().unwrap_or_default() {
            "/" => answer(out, 200, b"Hello from Coracle!\n"),
            "/echo" => echo(&request, out),
            "/env" => answer(out, 200, surroundings().as_bytes()),
            "/log" => {
                println!("a line for the log: {path}");
                answer(out, 200, b"Look at the service's log.\n");
            }
            "/health" => answer(out, 200, b"ok\n"),
            "/spin" => spin(),
            "/hog" => hog(),
            _ => answer(out, 404, b"Try /, /echo, /env, /log, /health, /spin or /hog.\n"),
        }
    }
}

/// Sends a body that is already whole.
fn answer(out: ResponseOutparam, status: u16, text: &[u8]) {
    let length = text.len().to_string().into_bytes();
    let headers =
        Fields::from_list(&[("content-length".to_owned(), length)]).expect("the header is well formed");
    let response = OutgoingResponse::new(headers);
    if status != 200 {
        response.set_status_code(status).expect("the status is one of HTTP's");
    }
    let body = response.body().expect("a response has one body, taken here first");
    // From here on the host may send the head, while the body is still being written.
    ResponseOutparam::set(out, Ok(response));
    let mut stream = body.write().expect("a body has one stream, taken here first");
    // No flush: the host holds the bytes already, and waiting for the connection to take them would only keep this
    // instance alive for longer. This call and the last one fail when the client has gone; nobody is left to tell.
    let _ = stream.write_all(text);
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}

/// Streams the request's body back, so a body larger than the component's memory is no trouble.
fn echo(request: &IncomingRequest, out: ResponseOutparam) {
    let response = OutgoingResponse::new(Fields::new());
    let outgoing = response.body().expect("a response has one body, taken here first");
    let incoming: IncomingBody = request.consume().expect("a request has one body, taken here first");
    ResponseOutparam::set(out, Ok(response));
    let source = incoming.stream().expect("a body has one stream, taken here first");
    let sink = outgoing.write().expect("a body has one stream, taken here first");
    // The host moves the bytes; an error means that one side has reached its end.
    while sink.blocking_splice(&source, 64 * 1024).is_ok() {}
    drop((source, sink));
    let _ = OutgoingBody::finish(outgoing, None);
}

/// The environment and arguments of this container: what its task definition says, and where it runs. There is
/// nothing else in it.
fn surroundings() -> String {
    let mut text = String::new();
    for (name, value) in environment::get_environment() {
        text += &format!("{name}={value}\n");
    }
    for argument in environment::get_arguments() {
        text += &format!("argument {argument}\n");
    }
    text
}

/// Computes for ever. The request ends at its time-out, and other requests don't notice.
fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// Takes memory until there is no more. The task stops with exit code 137, and the service replaces it.
fn hog() {
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; 1024 * 1024]));
    }
}
