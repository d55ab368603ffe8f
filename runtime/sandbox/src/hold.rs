//! What a request has hold of: an instance of its own, or a place at a worker.

use crate::control::{Control, Phase};
use crate::worker::Ticket;
use std::sync::Arc;

/// The strings attached to a request's guest. Clones are of the same strings.
#[derive(Clone)]
pub(crate) enum Hold {
    Instance(Arc<Control>),
    Ticket(Arc<Ticket>),
}

impl Hold {
    /// The response is complete; the guest may finish what it is doing, but not for ever.
    pub(crate) fn answered(&self) {
        match self {
            Hold::Instance(control) => control.advance(Phase::Lingering),
            Hold::Ticket(ticket) => ticket.answered(),
        }
    }

    /// Whoever read the response has gone.
    pub(crate) fn left(&self) {
        match self {
            Hold::Instance(control) => control.advance(Phase::Cancelled),
            Hold::Ticket(ticket) => ticket.left(),
        }
    }

    /// The request has failed, took too long, or is not wanted any more.
    pub(crate) fn abandon(&self) {
        match self {
            Hold::Instance(control) => control.advance(Phase::Cancelled),
            Hold::Ticket(ticket) => ticket.abandon(),
        }
    }

    /// Whether the guest ended in another way than by returning.
    pub(crate) fn failed(&self) -> bool {
        match self {
            Hold::Instance(control) => control.failed(),
            Hold::Ticket(ticket) => ticket.failed(),
        }
    }
}

/// Abandons a request when dropped, unless somebody else has taken over.
pub(crate) struct AbandonOnDrop(Option<Hold>);

impl AbandonOnDrop {
    pub(crate) fn new(hold: Hold) -> Self {
        AbandonOnDrop(Some(hold))
    }

    /// Hands it over.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        if let Some(hold) = &self.0 {
            hold.abandon();
        }
    }
}
