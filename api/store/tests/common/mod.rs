//! Small records for the store's tests: client tokens, which have few fields.

use std::convert::Infallible;
use std::sync::Arc;

use coracle_store::{Store, transact};
use coracle_types::{Changes, Key, State, Timestamp, TokenId, TokenRecord};

/// The id of the token with this name.
pub(crate) fn id(name: &str) -> TokenId {
    TokenId { region: "us-east-1".parse().unwrap(), operation: "RunTask".to_owned(), token: name.to_owned() }
}

/// The key of the token with this name.
pub(crate) fn key(name: &str) -> Key {
    Key::Token(id(name))
}

/// A token that holds a number.
fn token(name: &str, value: u64) -> TokenRecord {
    TokenRecord { id: id(name), fingerprint: value.to_string(), made: Vec::new(), at: Timestamp(0) }
}

/// Changes that write one token.
pub(crate) fn put(name: &str, value: u64) -> Changes {
    let mut changes = Changes::new();
    changes.put(token(name, value));
    changes
}

/// The number a token holds.
pub(crate) fn value(state: &State, name: &str) -> Option<u64> {
    state.tokens.get(&id(name)).map(|found| found.value.fingerprint.parse().unwrap())
}

/// Adds one to a token, from many tasks at once; the answer is what it came to.
pub(crate) async fn count(store: Arc<dyn Store>, tasks: u64, each: u64) -> u64 {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let store = Arc::clone(&store);
        running.spawn(async move {
            for _ in 0..each {
                transact(&*store, |state| {
                    let next = value(state, "counter").unwrap_or(0) + 1;
                    Ok::<_, Infallible>((put("counter", next), ()))
                })
                .await
                .unwrap();
            }
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap();
    }
    value(&store.snapshot(), "counter").unwrap_or(0)
}
