//! A `localhost` for each task: an address of 127.0.0.0/8 that no other task has.
//!
//! Linux answers on the whole of 127.0.0.0/8 without any set-up, so a task's own network is one address of it: what
//! its guests bind is bound there, and what they call localhost is connected there. They are shown 127.0.0.1.
//!
//! What the address keeps apart are guests: programs of the machine itself reach it as they reach everything on
//! loopback. Processes share the addresses by blocks; a block is taken by binding an abstract Unix socket with its
//! number, which the kernel gives back however the process ends.

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

/// A loopback address that is its holder's alone, until the last clone is dropped.
#[derive(Clone)]
pub struct Loopback(Arc<Held>);

struct Held(Ipv4Addr);

impl Drop for Held {
    fn drop(&mut self) {
        ADDRESSES.lock().free(self.0);
    }
}

/// There is no free address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no loopback address is free: all of this machine's 127.0.0.0/8 is taken")]
pub struct NoLoopback;

impl Loopback {
    /// Takes a free address.
    ///
    /// # Errors
    /// When this process can't get one: other processes have all blocks, or this one's tasks have all addresses.
    pub fn take() -> Result<Self, NoLoopback> {
        ADDRESSES.lock().take().map(|address| Self(Arc::new(Held(address))))
    }

    /// The address on this machine.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.0.0
    }

    /// Where to go instead of an address a guest calls its own machine; others stay as they are.
    pub(crate) fn inward(&self, guest: SocketAddr) -> SocketAddr {
        if guest.ip().to_canonical().is_loopback() {
            SocketAddr::new(self.address().into(), guest.port())
        } else {
            guest
        }
    }

    /// What a guest sees of an address of this machine's loopback; others stay as they are.
    pub(crate) fn outward(&self, host: SocketAddr) -> SocketAddr {
        match host.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), host.port()),
            _ => host,
        }
    }
}

impl fmt::Debug for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loopback({})", self.address())
    }
}

static ADDRESSES: LazyLock<Mutex<Addresses>> = LazyLock::new(|| Mutex::new(Addresses::default()));

/// The addresses this process may give out.
#[derive(Default)]
struct Addresses {
    blocks: Vec<Block>,
    taken: HashSet<Ipv4Addr>,
    /// Where to look next: addresses that were freed a moment ago are not given out again at once.
    next: u32,
}

/// 65,536 addresses that are this process's: 127.N.0.0/16.
struct Block {
    second: u8,
    _lock: UnixListener,
}

/// The addresses of a block that are given out: all but the first and the last, which look like a network's and a
/// broadcast's.
const PER_BLOCK: u32 = 65_534;

/// The most blocks one process takes: a million tasks' worth. There are 253 (127.0 is everybody's, and
/// systemd-resolved lives there).
const MAX_BLOCKS: usize = 16;

impl Addresses {
    fn take(&mut self) -> Result<Ipv4Addr, NoLoopback> {
        let room = |blocks: usize| u32::try_from(blocks).unwrap_or(u32::MAX).saturating_mul(PER_BLOCK);
        if self.taken.len() >= room(self.blocks.len()) as usize {
            if self.blocks.len() == MAX_BLOCKS {
                return Err(NoLoopback);
            }
            self.blocks.push(Block::lock().ok_or(NoLoopback)?);
        }
        let all = room(self.blocks.len());
        for _ in 0..all {
            let number = self.next % all;
            self.next = self.next.wrapping_add(1);
            let address = self.at(number);
            if self.taken.insert(address) {
                return Ok(address);
            }
        }
        Err(NoLoopback)
    }

    fn at(&self, number: u32) -> Ipv4Addr {
        let second = self.blocks[(number / PER_BLOCK) as usize].second;
        let [.., third, fourth] = (number % PER_BLOCK + 1).to_be_bytes();
        Ipv4Addr::new(127, second, third, fourth)
    }

    fn free(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

impl Block {
    /// The first block no other process has.
    fn lock() -> Option<Self> {
        (1..=253).find_map(|second: u8| {
            let name = UnixAddr::from_abstract_name(format!("coracle-loopback-127.{second}")).ok()?;
            let lock = UnixListener::bind_addr(&name).ok()?;
            Some(Self { second, _lock: lock })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_have_the_same_address() {
        let held: Vec<Loopback> = (0..300).map(|_| Loopback::take().unwrap()).collect();
        let addresses: HashSet<Ipv4Addr> = held.iter().map(Loopback::address).collect();
        assert_eq!(addresses.len(), 300);
        assert!(addresses.iter().all(|ip| ip.is_loopback() && ip.octets()[1] > 0), "{addresses:?}");
        let first = held[0].address();
        let kept = held[0].clone();
        drop(held);
        assert!(ADDRESSES.lock().taken.contains(&first));
        drop(kept);
        assert!(!ADDRESSES.lock().taken.contains(&first));
    }

    #[test]
    fn a_block_is_one_holders() {
        let (one, other) = (Block::lock().unwrap(), Block::lock().unwrap());
        assert_ne!(one.second, other.second);
    }

    #[test]
    fn guests_see_localhost() {
        let own = Loopback::take().unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        for local in ["127.0.0.1:80", "127.9.9.9:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(own.inward(at(local)), SocketAddr::new(own.address().into(), 80), "{local}");
        }
        assert_eq!(own.inward(at("10.0.0.1:80")), at("10.0.0.1:80"));
        assert_eq!(own.outward(SocketAddr::new(own.address().into(), 80)), at("127.0.0.1:80"));
        assert_eq!(own.outward(at("10.0.0.1:80")), at("10.0.0.1:80"));
    }
}
