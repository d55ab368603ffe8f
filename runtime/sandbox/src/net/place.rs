//! What an open socket takes: a place in the quota of connections, and memory for what its buffers may hold.
//!
//! Left alone, Linux lets the buffers of a connection grow to tens of MiB, as fast as its peers send. Here they have a
//! size, which a guest pays for when it opens the socket; it may enlarge them as far as its memory allows. What the
//! kernel adds for its own book-keeping, as much once more, is not charged.

use super::Network;
use super::quota::Permit;
use crate::memory::{MemoryBudget, MemoryHold};
use parking_lot::Mutex;
use std::sync::Arc;

/// Bytes that a socket holds in each direction unless its guest asks for more.
pub(super) const BUFFER: u64 = 64 << 10;

/// The most it gets when it asks.
pub(super) const LARGEST_BUFFER: u64 = 4 << 20;

/// What is charged for a socket when it is opened.
const SOCKET: u64 = 2 * BUFFER;

/// One of the two directions of a socket.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Receive,
    Send,
}

/// A socket's places, for as long as it or what reads and writes it exists.
pub(crate) struct Place {
    _permit: Option<Permit>,
    buffers: Mutex<Buffers>,
}

struct Buffers {
    held: Option<MemoryHold>,
    /// How large each of them is, as far as was paid for.
    receive: u64,
    send: u64,
}

impl Place {
    /// For a socket that is about to be opened. None if there may be no more, or the memory does not allow it.
    pub(crate) fn take(network: &Network, memory: &MemoryBudget) -> Option<Arc<Place>> {
        Some(Self::new(Some(network.connection()?), Some(memory.hold(SOCKET)?)))
    }

    /// Whether there is another.
    pub(super) fn is_free(network: &Network, memory: &MemoryBudget) -> bool {
        network.0.connections.has_room() && memory.available() >= SOCKET
    }

    /// For a connection that has been accepted because one was free. If somebody else was faster, it takes none.
    pub(crate) fn accepted(network: &Network, memory: &MemoryBudget) -> Arc<Place> {
        Self::new(network.connection(), memory.hold(SOCKET))
    }

    fn new(permit: Option<Permit>, held: Option<MemoryHold>) -> Arc<Place> {
        Arc::new(Place {
            _permit: permit,
            buffers: Mutex::new(Buffers { held, receive: BUFFER, send: BUFFER }),
        })
    }

    /// Pays for a larger buffer. What it was enlarged by is given back with the socket.
    pub(super) fn enlarge(&self, direction: Direction, bytes: u64) -> bool {
        let Buffers { held, receive, send } = &mut *self.buffers.lock();
        let size = match direction {
            Direction::Receive => receive,
            Direction::Send => send,
        };
        let more = bytes.saturating_sub(*size);
        let is_paid = more == 0 || held.as_mut().is_some_and(|held| held.grow(more));
        if is_paid {
            *size += more;
        }
        is_paid
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NetworkQuotas, NetworkSpec};
    use super::*;

    #[test]
    fn buffers_are_paid_for_as_they_grow() {
        let quotas = NetworkQuotas { connections: 2, ..NetworkQuotas::default() };
        let network = Network::new(NetworkSpec { quotas, ..NetworkSpec::default() });
        let memory = MemoryBudget::new(4 * SOCKET);
        let place = Place::take(&network, &memory).unwrap();
        assert_eq!((memory.current(), network.open_connections()), (SOCKET, 1));
        assert!(place.enlarge(Direction::Receive, BUFFER / 2), "it is as large already");
        assert!(place.enlarge(Direction::Send, 3 * BUFFER));
        assert_eq!(memory.current(), 2 * SOCKET);
        assert!(!place.enlarge(Direction::Receive, 1 << 30));
        assert!(place.enlarge(Direction::Send, 3 * BUFFER), "it has been paid for");
        assert_eq!(memory.current(), 2 * SOCKET);
        let other = Place::take(&network, &memory).unwrap();
        assert!(!Place::is_free(&network, &memory), "there are two already");
        assert!(Place::take(&network, &memory).is_none());
        drop((place, other));
        assert_eq!((memory.current(), network.open_connections()), (0, 0));
        let _rest = memory.hold(3 * SOCKET + 1).unwrap();
        assert!(!Place::is_free(&network, &memory), "there is no memory");
        assert!(Place::take(&network, &memory).is_none());
        assert_eq!(network.open_connections(), 0, "what was taken for it is given back");
    }
}
