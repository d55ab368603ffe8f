//! The example `hello`, or as much of it as is measured, as an ordinary program: every request gets its greeting.
//! Serves HTTP at the Unix socket that SOCKET names, or else at 127.0.0.1 and the port in PORT. A socket, so that a
//! container's own network namespace needs no bridge to be reached, which would only make it slower.

use std::env;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nHello from Coracle!\n";

fn main() {
    if let Ok(path) = env::var("SOCKET") {
        let listener = UnixListener::bind(path).expect("the socket can be bound");
        listener.incoming().flatten().for_each(serve);
    } else {
        let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).expect("SOCKET or PORT");
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port can be bound");
        listener.incoming().flatten().for_each(serve);
    }
}

/// Answers one request after the other, until the client has enough. The first one at once, for that is what a cold start
/// is measured by; a connection that goes on gets a thread.
fn serve(mut connection: impl Read + Write + Send + 'static) {
    if answer(&mut connection) {
        std::thread::spawn(move || while answer(&mut connection) {});
    }
}

/// Answers a request. Whether there may be another.
fn answer(connection: &mut (impl Read + Write)) -> bool {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match connection.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return false,
        }
    }
    let is_last = request.windows(17).any(|window| window == b"connection: close");
    connection.write_all(ANSWER).is_ok() && !is_last
}
