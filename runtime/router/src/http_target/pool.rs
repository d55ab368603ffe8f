//! Connections between two requests. Knows nothing of what a connection is, and is told the time.
//!
//! They are kept by place: a connection goes back to the thread that has used it, whose runtime it belongs to.

use parking_lot::Mutex;
use tokio::time::Instant;

/// Idle connections, the most recently used on top: under little load the others run out.
pub(super) struct Idle<T> {
    /// How many may be kept at each place.
    max: usize,
    places: Box<[Mutex<Vec<Entry<T>>>]>,
}

struct Entry<T> {
    connection: T,
    good_until: Instant,
}

impl<T> Idle<T> {
    pub(super) fn new(max: usize, places: usize) -> Self {
        Self { max, places: (0..places.max(1)).map(|_| Mutex::default()).collect() }
    }

    /// The most recently used connection of a place that is not over its time.
    pub(super) fn take(&self, place: usize, now: Instant) -> Option<T> {
        let entries = &self.places[place % self.places.len()];
        loop {
            // The statement ends the lock: a connection that is over its time is closed outside of it.
            let entry = entries.lock().pop()?;
            if entry.good_until > now {
                return Some(entry.connection);
            }
        }
    }

    /// A connection of any place that is not over its time.
    pub(super) fn take_any(&self, now: Instant) -> Option<T> {
        (0..self.places.len()).find_map(|place| self.take(place, now))
    }

    /// Keeps a connection, or closes it when there are enough. Returns whether it is the only one of its place.
    pub(super) fn put(&self, place: usize, connection: T, good_until: Instant) -> bool {
        let mut entries = self.places[place % self.places.len()].lock();
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
        let mut left = 0;
        for place in &self.places {
            let mut entries = place.lock();
            for mut entry in std::mem::take(&mut *entries) {
                if entry.good_until <= now || is_dead(&mut entry.connection) {
                    gone.push(entry);
                } else {
                    entries.push(entry);
                }
            }
            left += entries.len();
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_last_one_put_is_taken_first_and_none_past_its_time() {
        let idle = Idle::new(3, 1);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(idle.put(0, "a", at(1)));
        assert!(!idle.put(0, "b", at(5)));
        assert!(!idle.put(0, "c", at(2)));
        assert!(!idle.put(0, "too many", at(9)));
        assert_eq!(idle.take(0, at(3)), Some("b"), "c was over its time");
        assert_eq!(idle.take(0, at(0)), Some("a"));
        assert_eq!(idle.take(0, at(0)), None);
    }

    #[test]
    fn sweeping_leaves_what_is_alive_and_in_time() {
        let idle = Idle::new(8, 2);
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        for (name, until) in [("over", 1), ("dead", 9), ("good", 9)] {
            idle.put(0, name, at(until));
        }
        assert_eq!(idle.sweep(at(2), |name| *name == "dead"), 1);
        assert_eq!(idle.take(0, at(2)), Some("good"));
    }

    #[test]
    fn each_place_has_its_own_until_there_is_need() {
        let idle = Idle::new(1, 2);
        let until = Instant::now() + Duration::from_secs(1);
        assert!(idle.put(0, "a", until) && idle.put(1, "b", until));
        assert_eq!((idle.take(1, Instant::now()), idle.take(1, Instant::now())), (Some("b"), None));
        assert_eq!(idle.take_any(Instant::now()), Some("a"));
    }
}
