//! How many requests a client has made in the present window of time.
//!
//! A window is so many seconds, counted from 1970, and each client has a number in the key-value store for it. To add to
//! that number is one atomic operation, whichever instance does it.

use std::time::{SystemTime, UNIX_EPOCH};

mod bindings {
    wit_bindgen::generate!({
        path: "../../sdk/wit/deps/keyvalue",
        inline: "
            package example:proxy;
            world proxy {
                import wasi:keyvalue/store@0.2.0-draft2;
                import wasi:keyvalue/atomics@0.2.0-draft2;
            }
        ",
        generate_all,
    });
}

use bindings::wasi::keyvalue::{atomics, store};

pub struct Limit {
    /// Requests in a window.
    most: u64,
    /// Its seconds.
    window: u64,
}

/// Where a client stands after a request.
pub struct Verdict {
    most: u64,
    made: u64,
    /// Seconds until the window is over.
    left: u64,
}

impl Limit {
    pub fn from_environment() -> Limit {
        let number = |name: &str, default: u64| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .filter(|&number| number > 0)
                .unwrap_or(default)
        };
        Limit { most: number("LIMIT", 100), window: number("WINDOW", 60) }
    }

    /// Counts a request of a client.
    pub fn count(&self, client: &str) -> Result<Verdict, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let number = now / self.window;
        let key = |window: u64| format!("requests/{window}/{client}");
        let failed = |error: store::Error| format!("key-value store: {error:?}");
        let bucket = store::open("default").map_err(failed)?;
        let made = atomics::increment(&bucket, &key(number), 1).map_err(failed)?;
        if made == 1 {
            // The first one of a window puts the last one away.
            bucket.delete(&key(number.saturating_sub(1))).map_err(failed)?;
        }
        let made = u64::try_from(made).unwrap_or(u64::MAX);
        Ok(Verdict { most: self.most, made, left: self.window - now % self.window })
    }
}

impl Verdict {
    pub fn is_within(&self) -> bool {
        self.made <= self.most
    }

    /// The headers that tell a client.
    pub fn headers(&self) -> Vec<(String, String)> {
        let mut headers = vec![
            ("ratelimit-limit".to_owned(), self.most.to_string()),
            ("ratelimit-remaining".to_owned(), self.most.saturating_sub(self.made).to_string()),
            ("ratelimit-reset".to_owned(), self.left.to_string()),
        ];
        if !self.is_within() {
            headers.push(("retry-after".to_owned(), self.left.to_string()));
        }
        headers
    }
}
