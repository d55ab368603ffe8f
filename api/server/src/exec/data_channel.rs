//! AWS's data channel: what session-manager-plugin speaks once its token has been taken.
//!
//! ```text
//! agent   output_stream_data  handshake request      (sequence 0)
//! plugin  input_stream_data   handshake response
//! agent   output_stream_data  handshake complete     (sequence 1)
//! plugin  input_stream_data   keys, window sizes, flags
//! agent   output_stream_data  what the command writes
//! agent   channel_closed      why it is over
//! ```
//!
//! Each side acknowledges what it has got, and sends again what was not acknowledged. The plugin drops what comes
//! before it is ready to show it, so that is not only for bad connections. There is no encryption by KMS, which the
//! agent would have to ask for, and no resumption of a connection that was lost. Window sizes are not used: a
//! component has no terminal.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::agent_message::{AgentMessage, FLAG_FIRST, FLAG_LAST, kind, payload};
use super::terminal::{Terminal, Typed, interrupt, shown};
use super::{End, Protocol, Step};

/// Of which version the agent claims to be: one that shakes hands, and asks for nothing newer.
const AGENT_VERSION: &str = "3.2.0.0";
/// How much output one message carries, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;
/// How many messages may be without acknowledgement before the command has to wait.
const WINDOW: usize = 64;
/// How long an acknowledgement is waited for before a message is sent again.
const RESEND_AFTER: Duration = Duration::from_millis(200);
/// How long the last output may take to be acknowledged before the channel is closed all the same.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// How far a channel has come.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    /// The plugin has not said yet what it can do.
    Handshake {
        since: Instant,
    },
    Open,
    /// Only what is not acknowledged is waited for.
    Closing {
        why: String,
        until: Instant,
    },
    Closed,
}

/// One channel.
#[derive(Debug)]
pub(super) struct DataChannel {
    session: String,
    stage: Stage,
    terminal: Terminal,
    /// The number of the plugin's next message.
    expected: i64,
    /// The number of our next message.
    next: i64,
    /// What was sent and not acknowledged, in order.
    unacknowledged: VecDeque<Sent>,
}

#[derive(Debug)]
struct Sent {
    sequence: i64,
    message: Bytes,
    at: Instant,
}

impl DataChannel {
    /// The channel of a session.
    pub(super) fn new(session: &str, now: Instant) -> Self {
        Self {
            session: session.to_owned(),
            stage: Stage::Handshake { since: now },
            terminal: Terminal::default(),
            expected: 0,
            next: 0,
            unacknowledged: VecDeque::new(),
        }
    }

    /// Sends a part of the output stream, until it is acknowledged.
    fn stream(&mut self, payload_type: u32, payload: Vec<u8>, now: Instant) -> Step {
        let sequence = self.next;
        self.next += 1;
        let flags = if sequence == 0 { FLAG_FIRST } else { 0 };
        let message: Bytes = message(kind::OUTPUT, sequence, flags, payload_type, payload).into();
        self.unacknowledged.push_back(Sent { sequence, message: message.clone(), at: now });
        Step::Send(message)
    }

    fn show(&mut self, bytes: &[u8], now: Instant) -> Vec<Step> {
        let chunks = bytes.chunks(CHUNK_BYTES);
        chunks.map(|chunk| self.stream(payload::OUTPUT, chunk.to_vec(), now)).collect()
    }

    fn input(&mut self, message: &AgentMessage, now: Instant, room: bool) -> Result<Vec<Step>, String> {
        if message.payload_type == payload::FLAG && message.payload == payload::FLAG_TERMINATE.to_be_bytes() {
            // Whatever came before it does not matter any more.
            self.stage = Stage::Closed;
            return Ok(vec![acknowledgement(message), Step::Close]);
        }
        if !room && message.payload_type == payload::OUTPUT && message.sequence >= self.expected {
            // It is not acknowledged, and will be sent again; only who wants to end the command does not wait.
            let interrupted = message.payload.iter().copied().find_map(interrupt);
            return Ok(interrupted.map(Step::Interrupt).into_iter().collect());
        }
        if message.sequence > self.expected {
            // One before it has not come. It will be sent again, and this one too.
            return Ok(Vec::new());
        }
        let mut steps = vec![acknowledgement(message)];
        if message.sequence < self.expected {
            return Ok(steps);
        }
        self.expected += 1;
        match message.payload_type {
            payload::HANDSHAKE_RESPONSE => steps.extend(self.shake_hands(&message.payload, now)?),
            payload::OUTPUT if self.stage == Stage::Open => {
                for typed in self.terminal.type_in(&message.payload) {
                    match typed {
                        Typed::Echo(bytes) => steps.extend(self.show(&bytes, now)),
                        Typed::Line(line) => steps.push(Step::Input(line)),
                        Typed::EndOfInput => steps.push(Step::EndOfInput),
                        Typed::Interrupt(code) => steps.push(Step::Interrupt(code)),
                    }
                }
            }
            // The size of a window, and what other versions may add.
            _ => {}
        }
        Ok(steps)
    }

    fn shake_hands(&mut self, payload: &[u8], now: Instant) -> Result<Vec<Step>, String> {
        let Stage::Handshake { since } = self.stage else { return Ok(Vec::new()) };
        let response: Value = serde_json::from_slice(payload)
            .map_err(|error| format!("the handshake's response is not JSON: {error}"))?;
        if let Some(errors) = response["Errors"].as_array().filter(|errors| !errors.is_empty()) {
            let errors: Vec<&str> = errors.iter().filter_map(Value::as_str).collect();
            return Err(format!("the client refused the handshake: {}", errors.join("; ")));
        }
        self.stage = Stage::Open;
        let took = u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX);
        let complete = json!({"HandshakeTimeToComplete": took, "CustomerMessage": ""});
        Ok(vec![self.stream(payload::HANDSHAKE_COMPLETE, complete.to_string().into_bytes(), now)])
    }

    fn acknowledged(&mut self, payload: &[u8]) -> Result<(), String> {
        let content: Value = serde_json::from_slice(payload)
            .map_err(|error| format!("an acknowledgement is not JSON: {error}"))?;
        let sequence = content["AcknowledgedMessageSequenceNumber"].as_i64();
        self.unacknowledged.retain(|sent| Some(sent.sequence) != sequence);
        Ok(())
    }

    /// Closes the channel, if it is to be closed and its time has come.
    fn close_in_time(&mut self, now: Instant) -> Vec<Step> {
        let Stage::Closing { why, until } = &self.stage else { return Vec::new() };
        if !self.unacknowledged.is_empty() && now < *until {
            return Vec::new();
        }
        let content = json!({
            "MessageType": kind::CHANNEL_CLOSED,
            "MessageId": Uuid::new_v4().to_string(),
            "DestinationId": self.session,
            "SessionId": self.session,
            "SchemaVersion": 1,
            "CreatedDate": epoch_ms().to_string(),
            "Output": why,
        });
        let payload = content.to_string().into_bytes();
        self.stage = Stage::Closed;
        vec![
            Step::Send(
                message(kind::CHANNEL_CLOSED, 0, FLAG_FIRST | FLAG_LAST, payload::NONE, payload).into(),
            ),
            Step::Close,
        ]
    }
}

impl Protocol for DataChannel {
    fn begin(&mut self, now: Instant) -> Vec<Step> {
        self.stage = Stage::Handshake { since: now };
        let request = json!({
            "AgentVersion": AGENT_VERSION,
            "RequestedClientActions": [{
                "ActionType": "SessionType",
                "ActionParameters": {"SessionType": "InteractiveCommands", "Properties": null},
            }],
        });
        vec![self.stream(payload::HANDSHAKE_REQUEST, request.to_string().into_bytes(), now)]
    }

    fn receive(&mut self, message: &[u8], now: Instant, room: bool) -> Result<Vec<Step>, String> {
        let message = AgentMessage::decode(message)?;
        match message.kind.as_str() {
            kind::INPUT => self.input(&message, now, room),
            kind::ACKNOWLEDGE => {
                self.acknowledged(&message.payload)?;
                Ok(self.close_in_time(now))
            }
            // What AWS's own service says to agents.
            _ => Ok(Vec::new()),
        }
    }

    fn taken(&mut self, _bytes: usize) -> Vec<Step> {
        Vec::new()
    }

    fn has_room(&self) -> bool {
        self.stage == Stage::Open && self.unacknowledged.len() < WINDOW
    }

    fn say(&mut self, bytes: Vec<u8>, _to_stderr: bool, now: Instant) -> Vec<Step> {
        // A terminal shows both streams alike.
        self.show(&shown(&bytes), now)
    }

    fn end(&mut self, end: &End, now: Instant) -> Vec<Step> {
        if matches!(self.stage, Stage::Closing { .. } | Stage::Closed) {
            return Vec::new();
        }
        let why = match end {
            End::Exited(0) => String::new(),
            End::Exited(code) => format!("The command ended with exit code {code}."),
            End::Failed(why) => why.clone(),
        };
        self.stage = Stage::Closing { why, until: now + CLOSE_AFTER };
        self.close_in_time(now)
    }

    fn wakes_at(&self) -> Option<Instant> {
        let resend = self.unacknowledged.front().map(|sent| sent.at + RESEND_AFTER);
        match &self.stage {
            Stage::Closing { until, .. } => Some(resend.map_or(*until, |resend| resend.min(*until))),
            Stage::Closed => None,
            Stage::Handshake { .. } | Stage::Open => resend,
        }
    }

    fn wake(&mut self, now: Instant) -> Vec<Step> {
        let mut steps = Vec::new();
        // The oldest is what the plugin waits for; it keeps those that came out of order.
        if let Some(oldest) = self.unacknowledged.front_mut()
            && oldest.at + RESEND_AFTER <= now
        {
            oldest.at = now;
            steps.push(Step::Send(oldest.message.clone()));
        }
        steps.extend(self.close_in_time(now));
        steps
    }
}

fn acknowledgement(of: &AgentMessage) -> Step {
    let content = json!({
        "AcknowledgedMessageType": of.kind,
        "AcknowledgedMessageId": of.id.to_string(),
        "AcknowledgedMessageSequenceNumber": of.sequence,
        "IsSequentialMessage": true,
    });
    let payload = content.to_string().into_bytes();
    Step::Send(message(kind::ACKNOWLEDGE, 0, FLAG_FIRST | FLAG_LAST, payload::NONE, payload).into())
}

fn message(kind: &str, sequence: i64, flags: u64, payload_type: u32, payload: Vec<u8>) -> Vec<u8> {
    let (kind, id) = (kind.to_owned(), Uuid::new_v4());
    AgentMessage { kind, created_ms: epoch_ms(), sequence, flags, id, payload_type, payload }.encode()
}

fn epoch_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages among some steps.
    fn sent(steps: &[Step]) -> Vec<AgentMessage> {
        let messages = steps.iter().filter_map(|step| match step {
            Step::Send(bytes) => Some(AgentMessage::decode(bytes).unwrap()),
            _ => None,
        });
        messages.collect()
    }

    fn text(message: &AgentMessage) -> String {
        String::from_utf8(message.payload.clone()).unwrap()
    }

    fn input(sequence: i64, payload_type: u32, bytes: &[u8]) -> Vec<u8> {
        message(kind::INPUT, sequence, 0, payload_type, bytes.to_vec())
    }

    fn acknowledge(sequence: i64) -> Vec<u8> {
        let content = json!({"AcknowledgedMessageSequenceNumber": sequence}).to_string();
        message(kind::ACKNOWLEDGE, 0, 3, payload::NONE, content.into_bytes())
    }

    /// A channel after the handshake, with everything acknowledged.
    fn open(now: Instant) -> DataChannel {
        let mut channel = DataChannel::new("ecs-execute-command-1", now);
        let request = &sent(&channel.begin(now))[0];
        assert_eq!((request.sequence, request.payload_type), (0, payload::HANDSHAKE_REQUEST));
        assert!(text(request).contains("InteractiveCommands"), "{request:?}");
        assert!(!channel.has_room());
        let steps = channel
            .receive(&input(0, payload::HANDSHAKE_RESPONSE, b"{\"Errors\": null}"), now, true)
            .unwrap();
        let [ack, complete] = &sent(&steps)[..] else { panic!("{steps:?}") };
        assert_eq!((ack.kind.as_str(), ack.flags), (kind::ACKNOWLEDGE, 3));
        assert_eq!((complete.sequence, complete.payload_type), (1, payload::HANDSHAKE_COMPLETE));
        for sequence in [0, 1] {
            assert_eq!(channel.receive(&acknowledge(sequence), now, true), Ok(vec![]));
        }
        assert!(channel.has_room() && channel.wakes_at().is_none());
        channel
    }

    #[test]
    fn keys_go_in_and_output_comes_out() {
        let now = Instant::now();
        let mut channel = open(now);
        let steps = channel.receive(&input(1, payload::OUTPUT, b"ls\r"), now, true).unwrap();
        assert_eq!(text(&sent(&steps)[1]), "ls\r\n", "the echo");
        assert_eq!(steps[2], Step::Input(Bytes::from_static(b"ls\n")));
        let said = sent(&channel.say(b"a\n".to_vec(), true, now));
        assert_eq!((said[0].sequence, text(&said[0])), (3, "a\r\n".to_owned()));
        let size = channel.receive(&input(2, 3, b"{\"cols\":80,\"rows\":24}"), now, true).unwrap();
        assert_eq!(sent(&size).len(), 1, "only acknowledged");
        let steps = channel.receive(&input(3, payload::OUTPUT, b"\x03"), now, true).unwrap();
        assert_eq!(steps.last(), Some(&Step::Interrupt(130)));
        assert!(channel.receive(b"nonsense", now, true).is_err());
    }

    #[test]
    fn input_without_room_is_taken_later_and_an_interrupt_at_once() {
        let now = Instant::now();
        let mut channel = open(now);
        let line = input(1, payload::OUTPUT, b"x\r");
        assert_eq!(channel.receive(&line, now, false), Ok(vec![]), "not even acknowledged");
        assert_eq!(channel.receive(&acknowledge(9), now, false), Ok(vec![]));
        let interrupted = channel.receive(&input(2, payload::OUTPUT, b"\x03"), now, false);
        assert_eq!(interrupted, Ok(vec![Step::Interrupt(130)]));
        assert_eq!(channel.receive(&line, now, true).unwrap().len(), 3);
        let ended = channel.receive(&input(5, payload::FLAG, &[0, 0, 0, 2]), now, false).unwrap();
        assert_eq!(ended.last(), Some(&Step::Close));
    }

    #[test]
    fn what_comes_twice_counts_once_and_what_comes_early_comes_again() {
        let now = Instant::now();
        let mut channel = open(now);
        let line = input(1, payload::OUTPUT, b"x\r");
        assert_eq!(channel.receive(&line, now, true).unwrap().len(), 3);
        let again = channel.receive(&line, now, true).unwrap();
        assert_eq!(sent(&again).len(), 1, "acknowledged again");
        assert_eq!(again.len(), 1, "and that is all");
        assert_eq!(channel.receive(&input(7, payload::OUTPUT, b"y\r"), now, true), Ok(vec![]));
    }

    #[test]
    fn what_is_not_acknowledged_is_sent_again_and_bounded() {
        let now = Instant::now();
        let mut channel = open(now);
        let first = channel.say(b"first".to_vec(), false, now);
        channel.say(b"second".to_vec(), false, now);
        assert_eq!(channel.wakes_at(), Some(now + RESEND_AFTER));
        assert_eq!(channel.wake(now), []);
        let later = now + RESEND_AFTER;
        assert_eq!(channel.wake(later), first);
        channel.receive(&acknowledge(2), later, true).unwrap();
        assert_eq!(text(&sent(&channel.wake(later))[0]), "second");
        channel.say(vec![b'x'; WINDOW * CHUNK_BYTES], false, later);
        assert!(!channel.has_room());
    }

    #[test]
    fn the_channel_closes_when_everything_was_seen() {
        let now = Instant::now();
        let mut channel = open(now);
        channel.say(b"bye\n".to_vec(), false, now);
        assert_eq!(channel.end(&End::Exited(7), now), []);
        let steps = channel.receive(&acknowledge(2), now, true).unwrap();
        let closed = &sent(&steps)[0];
        assert_eq!(closed.kind, kind::CHANNEL_CLOSED);
        assert!(text(closed).contains("The command ended with exit code 7."), "{}", text(closed));
        assert_eq!(steps[1], Step::Close);

        let mut patient = open(now);
        patient.say(b"bye\n".to_vec(), false, now);
        assert_eq!(patient.end(&End::Exited(0), now), []);
        let steps = patient.wake(now + CLOSE_AFTER);
        assert_eq!(steps.last(), Some(&Step::Close), "nobody acknowledges");
    }

    #[test]
    fn the_client_may_refuse_or_end_it() {
        let now = Instant::now();
        let mut channel = DataChannel::new("s", now);
        channel.begin(now);
        let refused = input(0, payload::HANDSHAKE_RESPONSE, b"{\"Errors\": [\"Unknown session type\"]}");
        assert!(channel.receive(&refused, now, true).unwrap_err().contains("Unknown session type"));
        let mut channel = open(now);
        let steps = channel.receive(&input(1, payload::FLAG, &[0, 0, 0, 2]), now, true).unwrap();
        assert_eq!(steps.last(), Some(&Step::Close));
    }
}
