//! Constant load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::{try_http, wait_for};

const CLIENTS: usize = 4;

/// What a client saw: how many answers of each version, and what went wrong.
pub type Seen = (BTreeMap<String, usize>, Vec<String>);

/// Clients that ask for the version of a service, one request after the other, until they are told to stop.
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<Seen>>,
}

impl Load {
    /// Starts them: requests go to `url`, for `host`.
    pub fn start(url: &str, host: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let clients = (0..CLIENTS)
            .map(|_| {
                let (stop, sent) = (Arc::clone(&stop), Arc::clone(&sent));
                let (url, host) = (url.to_owned(), host.to_owned());
                std::thread::spawn(move || {
                    let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
                    while !stop.load(Ordering::Relaxed) {
                        match try_http("GET", &url, "/version", &[("host", &host)], b"") {
                            Ok(answer) if answer.status == 200 => {
                                *answers.entry(answer.text().trim().to_owned()).or_default() += 1;
                            }
                            Ok(answer) => failures.push(format!("{}: {}", answer.status, answer.text())),
                            Err(error) => failures.push(error.to_string()),
                        }
                        sent.fetch_add(1, Ordering::Relaxed);
                    }
                    (answers, failures)
                })
            })
            .collect();
        Self { stop, sent, clients }
    }

    /// Waits until so many more requests have been answered.
    pub fn wait_more(&self, requests: usize) {
        let target = self.sent.load(Ordering::Relaxed) + requests;
        wait_for("more requests", || (self.sent.load(Ordering::Relaxed) >= target).then_some(()));
    }

    /// Stops them, and gives what they saw.
    pub fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
        for client in self.clients {
            let (some, failed) = client.join().unwrap();
            for (version, count) in some {
                *answers.entry(version).or_default() += count;
            }
            failures.extend(failed);
        }
        (answers, failures)
    }
}
