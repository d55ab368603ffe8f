//! The connection of one session: a WebSocket that carries one of the protocols.
//!
//! The first message is text, the same for both protocols, and has the session's token:
//! `{"TokenValue": "…"}` with whatever else the client wants to say of itself. The messages after it are binary.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use coracle_types::ExecOutput;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::data_channel::DataChannel;
use super::frames::{self, Frames};
use super::{End, ExecStream, INPUT_BYTES_MAX, Protocol, Step};
use crate::admin::json_response;
use crate::api::Api;

/// The largest message of a client, in bytes. The plugin's are of a kilobyte.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long a client has to send the token.
const TOKEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a session may rest without input and output, as in ECS.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// How long a client may take to take the end of the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read ahead and written together, in bytes.
const BUFFER_BYTES: usize = 8 * 1024;

/// `GET /_coracle/exec/SESSION`.
pub(crate) async fn connect(
    State(api): State<Arc<Api>>,
    Path(session): Path<String>,
    mut request: Request,
) -> Response {
    let plain = asks_for_frames(request.headers());
    let mut response = match create_response_with_body(&request, Body::empty) {
        Ok(response) => response,
        Err(error) => {
            let message = format!("this is the address of a WebSocket: {error}");
            let mut response = json_response(StatusCode::UPGRADE_REQUIRED, &json!({ "message": message }));
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            return response;
        }
    };
    if plain {
        let name = HeaderValue::from_static(frames::NAME);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name);
    }
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let connection = match upgraded.await {
            Ok(connection) => TokioIo::new(connection),
            Err(error) => return tracing::debug!(%error, "a session of ExecuteCommand was not upgraded"),
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER_BYTES)
            .write_buffer_size(BUFFER_BYTES)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let mut socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        let ended = serve(&api, &session, plain, &mut socket).await;
        if let Err(error) = ended {
            tracing::debug!(session, error, "a session of ExecuteCommand ended early");
        }
        // Whoever is gone does not take it.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, socket.close(None)).await;
    });
    response
}

fn asks_for_frames(headers: &HeaderMap) -> bool {
    let given = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let mut names = given.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.any(|name| name.trim() == frames::NAME)
}

/// Takes the token, starts the command, and carries what goes between.
async fn serve<C: AsyncRead + AsyncWrite + Unpin>(
    api: &Api,
    session: &str,
    plain: bool,
    socket: &mut WebSocketStream<C>,
) -> Result<(), String> {
    let token = tokio::time::timeout(TOKEN_TIMEOUT, token(socket));
    let token = token.await.map_err(|_| "the token did not come in time".to_owned())??;
    let mut protocol: Box<dyn Protocol> =
        if plain { Box::new(Frames::default()) } else { Box::new(DataChannel::new(session, Instant::now())) };
    let command = api.exec_sessions.take(session, &token);
    let (Some(command), Some(host)) = (command, api.exec.clone()) else {
        let why = "There is no such session, it was used or is over, or the token is another one's.";
        // Not a word of a protocol for those who have no business here.
        return Err(why.to_owned());
    };
    let started = host.exec(command).await.map_err(|error| End::Failed(error.to_string()));
    carry(&mut *protocol, started, socket).await
}

/// The token in the first message.
async fn token<C: AsyncRead + AsyncWrite + Unpin>(socket: &mut WebSocketStream<C>) -> Result<String, String> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let opening: Value = serde_json::from_str(&text)
                    .map_err(|error| format!("the first message is not JSON: {error}"))?;
                let token = opening["TokenValue"].as_str().ok_or("the first message has no TokenValue")?;
                return Ok(token.to_owned());
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(_)) => return Err("the first message is no text".to_owned()),
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the client went away".to_owned()),
        }
    }
}

/// A command's input on its way.
#[derive(Default)]
struct Feed {
    /// None once the input has ended.
    input: Option<mpsc::Sender<Bytes>>,
    /// What the command has not taken yet.
    waiting: VecDeque<Bytes>,
    /// The input ends after that.
    ending: bool,
}

impl Feed {
    fn is_full(&self) -> bool {
        self.waiting.iter().map(Bytes::len).sum::<usize>() >= INPUT_BYTES_MAX
    }

    fn push(&mut self, bytes: Bytes) {
        if self.input.is_some() && !self.ending {
            self.waiting.push_back(bytes);
        }
    }

    fn end(&mut self) {
        self.ending = true;
        if self.waiting.is_empty() {
            self.input = None;
        }
    }

    /// Hands the command a piece of input as soon as it takes one; how many bytes that was.
    async fn hand_over(&mut self) -> usize {
        let Some(input) = self.input.clone().filter(|_| !self.waiting.is_empty()) else {
            return std::future::pending().await;
        };
        let taken = match input.reserve().await {
            Ok(place) => {
                let piece = self.waiting.pop_front().unwrap_or_default();
                let taken = piece.len();
                place.send(piece);
                taken
            }
            // The command does not read any more, and may go on writing.
            Err(_) => {
                let lost = self.waiting.iter().map(Bytes::len).sum();
                *self = Self::default();
                return lost;
            }
        };
        if self.ending && self.waiting.is_empty() {
            self.input = None;
        }
        taken
    }
}

/// What a command writes next; None when it was lost with whoever ran it.
async fn written(output: &mut Option<mpsc::Receiver<ExecOutput>>) -> Option<ExecOutput> {
    match output {
        Some(output) => output.recv().await,
        None => std::future::pending().await,
    }
}

/// Carries a command's input and output until it is over or the client goes away.
async fn carry<C: AsyncRead + AsyncWrite + Unpin>(
    protocol: &mut dyn Protocol,
    started: Result<ExecStream, End>,
    socket: &mut WebSocketStream<C>,
) -> Result<(), String> {
    let mut steps = protocol.begin(Instant::now());
    let mut feed = Feed::default();
    let mut output = None;
    match started {
        Ok(stream) => (feed.input, output) = (Some(stream.input), Some(stream.output)),
        Err(end) => steps.extend(protocol.end(&end, Instant::now())),
    }
    let mut idle_at = Instant::now() + IDLE_TIMEOUT;
    loop {
        let mut end = None;
        for step in std::mem::take(&mut steps) {
            match step {
                Step::Send(bytes) => send(socket, bytes).await?,
                Step::Input(bytes) => feed.push(bytes),
                Step::EndOfInput => feed.end(),
                Step::Interrupt(code) => end = Some(End::Exited(code)),
                Step::Close => return Ok(()),
            }
        }
        let now = Instant::now();
        if end.is_none() && now >= idle_at {
            let minutes = IDLE_TIMEOUT.as_secs() / 60;
            end =
                Some(End::Failed(format!("The session was idle for {minutes} minutes and has been ended.")));
        }
        if let Some(end) = end
            && output.take().is_some()
        {
            feed = Feed::default();
            // What is left, the goodbye, is not idle yet.
            idle_at = now + IDLE_TIMEOUT;
            steps = protocol.end(&end, now);
            continue;
        }
        let wakes_at = protocol.wakes_at().map_or(idle_at, |at| at.min(idle_at));
        let (takes_input, has_room) = (!feed.is_full(), protocol.has_room());
        tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Binary(message))) => {
                    let now = Instant::now();
                    steps = protocol.receive(&message, now, takes_input)?;
                    if steps.iter().any(|step| matches!(step, Step::Input(_) | Step::EndOfInput)) {
                        idle_at = now + IDLE_TIMEOUT;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(WebSocketError::ConnectionClosed)) | None => return Ok(()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.to_string()),
            },
            taken = feed.hand_over() => steps = protocol.taken(taken),
            next = written(&mut output), if has_room => {
                let now = Instant::now();
                idle_at = now + IDLE_TIMEOUT;
                let end = match next {
                    Some(ExecOutput::Stdout(bytes)) => {
                        steps = protocol.say(bytes, false, now);
                        continue;
                    }
                    Some(ExecOutput::Stderr(bytes)) => {
                        steps = protocol.say(bytes, true, now);
                        continue;
                    }
                    Some(ExecOutput::Exit(code)) => End::Exited(code),
                    None => End::Failed("The command was lost.".to_owned()),
                };
                (feed, output) = (Feed::default(), None);
                steps = protocol.end(&end, now);
            }
            () = tokio::time::sleep_until(wakes_at) => steps = protocol.wake(Instant::now()),
        }
    }
}

async fn send<C: AsyncRead + AsyncWrite + Unpin>(
    socket: &mut WebSocketStream<C>,
    bytes: Bytes,
) -> Result<(), String> {
    // Somebody may have stopped his terminal, to read.
    match tokio::time::timeout(IDLE_TIMEOUT, socket.send(Message::Binary(bytes))).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("the client does not take what it is sent".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// A command that says what it is told, in capitals, and ends with 7 when its input ends.
    fn shouting() -> ExecStream {
        let (input, mut lines) = mpsc::channel::<Bytes>(1);
        let (says, output) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                let _ = says.send(ExecOutput::Stdout(line.to_ascii_uppercase())).await;
            }
            let _ = says.send(ExecOutput::Stderr(b"bye".to_vec())).await;
            let _ = says.send(ExecOutput::Exit(7)).await;
        });
        ExecStream { input, output }
    }

    type Socket = WebSocketStream<DuplexStream>;

    /// A client's end, and the server's in a task.
    async fn carried(
        started: Result<ExecStream, End>,
    ) -> (Socket, tokio::task::JoinHandle<Result<(), String>>) {
        let (client, server) = tokio::io::duplex(1024);
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let carrying = tokio::spawn(async move {
            let mut server = WebSocketStream::from_raw_socket(server, Role::Server, None).await;
            let ended = carry(&mut Frames::default(), started, &mut server).await;
            let _ = server.close(None).await;
            ended
        });
        (client, carrying)
    }

    async fn binary(client: &mut Socket, bytes: &'static [u8]) {
        client.send(Message::Binary(Bytes::from_static(bytes))).await.unwrap();
    }

    /// The binary messages until the other side closes.
    async fn rest(client: &mut Socket) -> Vec<Bytes> {
        let mut all = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(bytes) = message {
                all.push(bytes);
            }
        }
        all
    }

    #[tokio::test]
    async fn input_goes_in_and_output_and_the_exit_code_come_out() {
        let (mut client, carrying) = carried(Ok(shouting())).await;
        binary(&mut client, b"\0hello").await;
        assert_eq!(
            client.next().await.unwrap().unwrap(),
            Message::Binary(Bytes::from_static(b"\x06\0\0\0\x05"))
        );
        assert_eq!(client.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(b"\x01HELLO")));
        client.send(Message::Ping(Bytes::from_static(b"keepalive"))).await.unwrap();
        binary(&mut client, b"\0more").await;
        binary(&mut client, b"\x04").await;
        let expected: [&[u8]; 4] = [b"\x06\0\0\0\x04", b"\x01MORE", b"\x02bye", b"\x03\0\0\0\x07"];
        assert_eq!(rest(&mut client).await, expected);
        assert_eq!(carrying.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_command_that_was_not_started_says_why() {
        let (mut client, carrying) = carried(Err(End::Failed("no export of that name".to_owned()))).await;
        assert_eq!(rest(&mut client).await, [&b"\x05no export of that name"[..]]);
        assert_eq!(carrying.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_or_sends_nonsense_ends_it() {
        let (input, lines) = mpsc::channel::<Bytes>(1);
        let (_says, output) = mpsc::channel(1);
        let (client, carrying) = carried(Ok(ExecStream { input, output })).await;
        drop(client);
        let _ = carrying.await.unwrap();
        assert!(lines.is_closed(), "the command is told");
        let (mut client, carrying) = carried(Ok(shouting())).await;
        binary(&mut client, b"\x09").await;
        assert!(carrying.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_noticed_while_nothing_reads_its_input() {
        let (input, lines) = mpsc::channel::<Bytes>(1);
        let (_says, output) = mpsc::channel(1);
        let (mut client, carrying) = carried(Ok(ExecStream { input, output })).await;
        for _ in 0..4 {
            let mut frame = vec![0; 1 + INPUT_BYTES_MAX / 4];
            frame[1] = b'x';
            client.send(Message::Binary(frame.into())).await.unwrap();
        }
        drop(client);
        let _ = carrying.await.unwrap();
        assert!(lines.is_closed(), "the command is told");
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_session_is_ended() {
        let (input, _lines) = mpsc::channel::<Bytes>(1);
        let (_says, output) = mpsc::channel::<ExecOutput>(1);
        let (mut client, carrying) = carried(Ok(ExecStream { input, output })).await;
        let said = rest(&mut client).await;
        assert!(String::from_utf8_lossy(&said[0]).contains("idle for 20 minutes"), "{said:?}");
        assert_eq!(carrying.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn input_that_is_not_read_is_bounded() {
        let (input, _lines) = mpsc::channel::<Bytes>(1);
        let mut feed = Feed { input: Some(input), ..Feed::default() };
        for _ in 0..3 {
            assert!(!feed.is_full());
            feed.push(Bytes::from(vec![0; INPUT_BYTES_MAX / 2]));
            tokio::select! {
                biased;
                _ = feed.hand_over() => {}
                () = std::future::ready(()) => {}
            }
        }
        assert!(feed.is_full());
    }
}
