//! Names and what they were resolved to.
//!
//! A name is resolved once for each connection, and what comes of it is what is checked and connected to. Guests that
//! use sockets look up a name first and connect to an address later; so that no second look-up can give another
//! answer, the first one is kept here, and the connection is judged by it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

/// Finds the addresses of names.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of a host name, in the order in which they should be tried.
    ///
    /// # Errors
    /// What the resolver says of a name it does not know.
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The machine's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

/// How long the machine's resolver may take. A look-up that hangs holds one of its threads for so long at least.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, 0)))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(found.map(|address| address.ip().to_canonical()).collect())
        })
    }
}

/// The most addresses that are remembered; the oldest are forgotten first.
const MAX_ANSWERS: usize = 1024;

/// The most names that are remembered for one address: a hundred sites may be behind one.
const MAX_NAMES: usize = 16;

/// The names that led to an address.
#[derive(Default)]
pub(crate) struct Answers {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    names: HashMap<IpAddr, Vec<Arc<str>>>,
    order: VecDeque<IpAddr>,
}

impl Answers {
    /// Remembers what `name` was resolved to.
    pub(crate) fn remember(&self, name: &str, addresses: &[IpAddr]) {
        let name: Arc<str> = name.into();
        let known = &mut *self.known.lock();
        for &address in addresses {
            let names = known.names.entry(address).or_insert_with(|| {
                known.order.push_back(address);
                Vec::new()
            });
            if !names.contains(&name) {
                if names.len() == MAX_NAMES {
                    names.remove(0);
                }
                names.push(Arc::clone(&name));
            }
        }
        while known.order.len() > MAX_ANSWERS {
            if let Some(oldest) = known.order.pop_front() {
                known.names.remove(&oldest);
            }
        }
    }

    /// Whether one of the names that led to this address will do.
    pub(crate) fn any(&self, address: IpAddr, will_do: impl Fn(&str) -> bool) -> bool {
        let known = self.known.lock();
        known.names.get(&address).is_some_and(|names| names.iter().any(|name| will_do(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_kept_and_bounded() {
        let answers = Answers::default();
        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..2000 {
            answers.remember(&format!("host-{number}"), &[address(number), address(5000)]);
        }
        assert!(answers.any(address(1999), |name| name == "host-1999"));
        assert!(!answers.any(address(1999), |name| name == "host-1998"));
        assert!(!answers.any(address(0), |_| true), "the oldest is forgotten");
        let known = answers.known.lock();
        assert!(known.names.len() <= MAX_ANSWERS && known.order.len() <= MAX_ANSWERS);
        assert!(known.names.values().all(|names| names.len() <= MAX_NAMES));
    }
}
