//! The stream of one session: an HTTP/1.1 connection that is upgraded to `coracle-exec`.
//!
//! Both sides then send frames: one byte that says what it is, four bytes of length (big endian), and that much.
//!
//! ```text
//! client:  0 input      4 end of input
//! server:  1 output     2 error output     3 exit code (4 bytes, big endian)     5 why it was not started (text)
//! ```
//!
//! The server closes the connection after a 3 or a 5. A client that goes away ends the command.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::{ExecOutput, ExecStream};
use crate::admin::json_response;
use crate::api::Api;

/// What the connection is upgraded to.
const PROTOCOL: &str = "coracle-exec";
/// The header with the session's token.
const TOKEN: &str = "x-coracle-token";
/// The largest frame of a client, in bytes.
const FRAME_BYTES_MAX: u32 = 64 * 1024;

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERROR_OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const NOT_STARTED: u8 = 5;

/// `GET /_coracle/exec/SESSION`.
pub(crate) async fn connect(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    mut request: Request,
) -> Response {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let refuse = |status, message: &str| json_response(status, &json!({ "message": message }));
    if !header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case(PROTOCOL)) {
        return refuse(StatusCode::UPGRADE_REQUIRED, "upgrade the connection to coracle-exec");
    }
    let command = header(TOKEN).and_then(|token| api.exec_sessions.take(&session, token));
    let (Some(command), Some(host)) = (command, api.exec.clone()) else {
        return refuse(
            StatusCode::FORBIDDEN,
            "there is no such session, it was used or is over, or the token is another one's",
        );
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => {
                let started = host.exec(command).await.map_err(|error| error.to_string());
                if let Err(error) = carry(TokioIo::new(connection), started).await {
                    tracing::debug!(%error, "a session of ExecuteCommand ended early");
                }
            }
            Err(error) => tracing::debug!(%error, "a session of ExecuteCommand was not upgraded"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Carries a command's input and output until it ends, or the client goes away.
async fn carry(
    connection: impl AsyncRead + AsyncWrite,
    started: Result<ExecStream, String>,
) -> std::io::Result<()> {
    let (reading, mut writing) = tokio::io::split(connection);
    let ExecStream { input, mut output } = match started {
        Ok(stream) => stream,
        Err(why) => {
            write(&mut writing, NOT_STARTED, why.as_bytes()).await?;
            return writing.shutdown().await;
        }
    };
    let mut feeding = std::pin::pin!(feed(reading, input));
    let mut fed = false;
    loop {
        tokio::select! {
            gone = &mut feeding, if !fed => {
                // An end of input is no end of the command; an end of the connection is.
                gone?;
                fed = true;
            }
            next = output.recv() => match next {
                Some(ExecOutput::Stdout(bytes)) => write(&mut writing, OUTPUT, &bytes).await?,
                Some(ExecOutput::Stderr(bytes)) => write(&mut writing, ERROR_OUTPUT, &bytes).await?,
                Some(ExecOutput::Exit(code)) => {
                    write(&mut writing, EXIT, &code.to_be_bytes()).await?;
                    return writing.shutdown().await;
                }
                None => {
                    write(&mut writing, NOT_STARTED, b"the command was lost").await?;
                    return writing.shutdown().await;
                }
            }
        }
    }
}

async fn write(writing: &mut (impl AsyncWrite + Unpin), kind: u8, bytes: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind);
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    writing.write_all(&frame).await?;
    writing.flush().await
}

/// Hands a client's input to the command until the client says that was all.
///
/// # Errors
/// When the connection ends, or what comes over it is no frame of a client.
async fn feed(mut reading: impl AsyncRead + Unpin, input: mpsc::Sender<Bytes>) -> std::io::Result<()> {
    loop {
        let kind = reading.read_u8().await?;
        let length = reading.read_u32().await?;
        if length > FRAME_BYTES_MAX || !matches!(kind, INPUT | END_OF_INPUT) {
            return Err(std::io::Error::other(format!("a frame of kind {kind} with {length} bytes")));
        }
        let mut bytes = vec![0; length as usize];
        reading.read_exact(&mut bytes).await?;
        // A command that does not read its input any more may go on writing.
        if kind == END_OF_INPUT || input.send(bytes.into()).await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that says what it is told, in capitals, and ends with 7 when its input ends.
    fn shouting() -> ExecStream {
        let (input, mut lines) = mpsc::channel::<Bytes>(1);
        let (says, output) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                let _ = says.send(ExecOutput::Stdout(line.to_ascii_uppercase().into())).await;
            }
            let _ = says.send(ExecOutput::Stderr(Bytes::from_static(b"bye"))).await;
            let _ = says.send(ExecOutput::Exit(7)).await;
        });
        ExecStream { input, output }
    }

    #[tokio::test]
    async fn input_goes_in_and_output_and_the_exit_code_come_out() {
        let (mut client, server) = tokio::io::duplex(1024);
        let carried = tokio::spawn(carry(server, Ok(shouting())));
        client.write_all(b"\0\0\0\0\x05hello").await.unwrap();
        let mut answer = [0; 10];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"\x01\0\0\0\x05HELLO");
        client.write_all(b"\x04\0\0\0\0").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\x02\0\0\0\x03bye\x03\0\0\0\x04\0\0\0\x07");
        carried.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_command_that_was_not_started_says_why() {
        let (mut client, server) = tokio::io::duplex(1024);
        carry(server, Err("no export of that name".to_owned())).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(&answer[5..], b"no export of that name");
        assert_eq!(answer[0], NOT_STARTED);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_or_sends_nonsense_ends_it() {
        for nonsense in [&b""[..], b"\x09\0\0\0\0", b"\0\xff\xff\xff\xff"] {
            let (mut client, server) = tokio::io::duplex(1024);
            let carried = tokio::spawn(carry(server, Ok(shouting())));
            client.write_all(nonsense).await.unwrap();
            client.shutdown().await.unwrap();
            assert!(carried.await.unwrap().is_err(), "{nonsense:?}");
        }
    }
}
