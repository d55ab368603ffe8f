//! Connections between two requests. Knows nothing of what a connection is, and is told the time.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Idle connections, the most recently used on top: under little load the others run out.
pub(super) struct Idle<T> {
    max: usize,
    entries: Mutex<Vec<Entry<T>>>,
}

struct Entry<T> {
    connection: T,
    good_until: Instant,
}

impl<T> Idle<T> {
    pub(super) fn new(max: usize) -> Self {
        Self { max, entries: Mutex::default() }
    }

    /// The most recently used connection that is not over its time.
    pub(super) fn take(&self, now: Instant) -> Option<T> {
        loop {
            // The statement ends the lock: a connection that is over its time is closed outside of it.
            let entry = self.entries.lock().pop()?;
            if entry.good_until > now {
                return Some(entry.connection);
            }
        }
    }

    /// Keeps a connection, or closes it when there are enough. Returns whether it is the only one.
    pub(super) fn put(&self, connection: T, good_until: Instant) -> bool {
        let mut entries = self.entries.lock();
        if entries.len() < self.max {
            entries.push(Entry { connection, good_until });
            return entries.len() == 1;
        }
        drop(entries);
        false
    }

    /// Closes the connections that are over their time or that `is_dead`, and returns how many are left.
    pub(super) fn sweep(&self, now: Instant, mut is_dead: impl FnMut(&mut T) -> bool) -> usize {
        let mut gone = Vec::new();
        let mut entries = self.entries.lock();
        for mut entry in std::mem::take(&mut *entries) {
            if entry.good_until <= now || is_dead(&mut entry.connection) {
                gone.push(entry);
            } else {
                entries.push(entry);
            }
        }
        entries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_one_put_is_taken_first_and_none_past_its_time() {
        let idle = Idle::new(3);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(idle.put("a", at(1)));
        assert!(!idle.put("b", at(5)));
        assert!(!idle.put("c", at(2)));
        assert!(!idle.put("too many", at(9)));
        assert_eq!(idle.take(at(3)), Some("b"), "c was over its time");
        assert_eq!(idle.take(at(0)), Some("a"));
        assert_eq!(idle.take(at(0)), None);
    }

    #[test]
    fn sweeping_leaves_what_is_alive_and_in_time() {
        let idle = Idle::new(8);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        for (name, until) in [("over", 1), ("dead", 9), ("good", 9)] {
            idle.put(name, at(until));
        }
        assert_eq!(idle.sweep(at(2), |name| *name == "dead"), 1);
        assert_eq!(idle.take(at(2)), Some("good"));
    }
}
