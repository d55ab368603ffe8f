//! Bodies that are passed on as they come: never more of them is held than one chunk.

use wasip2::http::types::{IncomingBody, OutgoingBody};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream};

/// The most that is moved at once, in bytes. The host moves it; it does not pass through this component's memory.
const CHUNK: u64 = 64 * 1024;

/// A body on its way from one side to the other.
pub struct Pump {
    // Streams go before the bodies they are of.
    from: Option<InputStream>,
    to: Option<OutputStream>,
    _source: IncomingBody,
    sink: Option<OutgoingBody>,
}

impl Pump {
    pub fn new(source: IncomingBody, sink: OutgoingBody) -> Pump {
        Pump { from: source.stream().ok(), to: sink.write().ok(), _source: source, sink: Some(sink) }
    }

    /// Moves what can be moved now. Answers whether there may be more.
    fn step(&mut self) -> bool {
        let (Some(from), Some(to)) = (&self.from, &self.to) else { return false };
        match to.check_write() {
            // Nobody takes anything now.
            Ok(0) => true,
            Ok(room) => match to.splice(from, room.min(CHUNK)) {
                Ok(_) => true,
                // The end of the one, or the other has gone.
                Err(_) => {
                    self.finish();
                    false
                }
            },
            Err(_) => {
                self.finish();
                false
            }
        }
    }

    /// What to wait for before the next step.
    fn ready(&self) -> Option<Pollable> {
        let (from, to) = (self.from.as_ref()?, self.to.as_ref()?);
        Some(if matches!(to.check_write(), Ok(0)) { to.subscribe() } else { from.subscribe() })
    }

    fn finish(&mut self) {
        self.from = None;
        self.to = None;
        if let Some(sink) = self.sink.take() {
            // Fails when the other side has gone, and there is nobody left to tell.
            let _ = OutgoingBody::finish(sink, None);
        }
    }
}

/// Moves a body until something else is ready, and answers it with what is left of the body.
pub fn pump_until<T, E>(
    source: IncomingBody,
    sink: OutgoingBody,
    wanted: &Pollable,
    get: impl Fn() -> Option<Result<T, E>>,
) -> Result<(T, Option<Pump>), E> {
    let mut pump = Pump::new(source, sink);
    loop {
        let more = pump.step();
        if let Some(found) = get() {
            return Ok((found?, more.then_some(pump)));
        }
        match pump.ready() {
            Some(ready) if more => drop(poll(&[&ready, wanted])),
            _ => wanted.block(),
        }
    }
}

/// Moves an answer to its end, and beside it what is left of the request.
pub fn pump_both(mut answer: Pump, mut request: Option<Pump>) {
    while answer.step() {
        if request.as_mut().is_some_and(|request| !request.step()) {
            request = None;
        }
        let waits = [answer.ready(), request.as_ref().and_then(Pump::ready)];
        let waits: Vec<&Pollable> = waits.iter().flatten().collect();
        if !waits.is_empty() {
            poll(&waits);
        }
    }
}

/// Sends a body that is already whole, and shorter than a stream takes at once.
pub fn send(body: OutgoingBody, text: &[u8]) {
    if let Ok(stream) = body.write() {
        // Fails when the client has gone.
        let _ = stream.blocking_write_and_flush(text);
    }
    let _ = OutgoingBody::finish(body, None);
}
