//! HTTP/1.1: what both sides of it share, and the server's side.
//!
//! `codec` reads and writes what is the same in both directions, `io` has the buffers a connection reads into and
//! writes from. The router's client side, towards targets, is in `http_target`.
//!
//! `server` serves the connections of clients: `request` reads a head, `received` hands a body to whoever asks for it,
//! `response` writes a head, `date` its date. A connection is one task, which polls the handler of its request and
//! whatever moves between the two: there is no channel, and nothing is handed over to another task unless a body is.
//!
//! What is deliberately absent: what a request means. Heads are held to one reading of where messages end, and to
//! bounds; everything else is for `framing` and the handler to judge.

pub(crate) mod codec;
mod date;
pub(crate) mod io;
mod received;
mod request;
mod response;
mod server;

pub(crate) use received::Received;
pub(crate) use server::{Served, serve};
