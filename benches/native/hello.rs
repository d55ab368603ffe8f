//! The example `hello`, or as much of it as is measured, as an ordinary program: every request gets its greeting.
//! Serves HTTP at the Unix socket that SOCKET names, or else at 127.0.0.1 and the port in PORT. A socket, so that a
//! container's own network namespace needs no bridge to be reached, which would only make it slower.

use std::env;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\nconnection: close\r\n\r\nHello from Coracle!\n";

fn main() {
    if let Ok(path) = env::var("SOCKET") {
        let listener = UnixListener::bind(path).expect("the socket can be bound");
        listener.incoming().flatten().for_each(answer);
    } else {
        let port = env::var("PORT").ok().and_then(|port| port.parse().ok()).expect("SOCKET or PORT");
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port can be bound");
        listener.incoming().flatten().for_each(answer);
    }
}

fn answer(mut connection: impl Read + Write) {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match connection.read(&mut part) {
            Ok(read) if read > 0 => request.extend_from_slice(&part[..read]),
            _ => return,
        }
    }
    let _ = connection.write_all(ANSWER);
}
