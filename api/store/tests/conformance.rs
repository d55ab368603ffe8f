//! What every store must do, run against each of them.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{count, key, put, value};
use coracle_store::{CommitError, MemoryStore, RedbStore, Store, TransactError, transact};
use coracle_types::{Changes, State};
use proptest::prelude::*;

/// Runs the suite against a store that `make` makes, a new and empty one for each test.
macro_rules! conformance {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;
            conformance!(@ $make,
                begins_empty, commits_are_seen, watch_follows_the_snapshot, stale_writers_are_refused,
                disjoint_writers_are_not, guards_are_checked, absence_is_guarded, deletes_and_returns,
                all_or_nothing, empty_changes_make_no_revision, transact_loses_nothing,
                transact_refuses_at_once, snapshots_do_not_move,
            );

            #[test]
            fn agrees_with_a_model() {
                super::agrees_with_a_model($make);
            }
        }
    };
    (@ $make:expr, $($test:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            let (store, _keep) = $make();
            super::$test(store).await;
        })*
    };
}

fn memory() -> (Arc<dyn Store>, ()) {
    (Arc::new(MemoryStore::new()), ())
}

fn redb() -> (Arc<dyn Store>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (Arc::new(RedbStore::open(folder.path().join("state.redb")).unwrap()), folder)
}

conformance!(in_memory, memory);
conformance!(on_disk, redb);

async fn begins_empty(store: Arc<dyn Store>) {
    assert_eq!(store.snapshot().revision, 0);
    assert_eq!(store.snapshot().records().count(), 0);
    assert_eq!(*store.watch().borrow(), 0);
}

async fn commits_are_seen(store: Arc<dyn Store>) {
    let state = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    assert_eq!(value(&state, "a"), Some(1));
    assert_eq!(state.revision_of(&key("a")), Some(state.revision));
    assert_eq!(value(&store.snapshot(), "a"), Some(1));
}

async fn watch_follows_the_snapshot(store: Arc<dyn Store>) {
    let mut watch = store.watch();
    watch.borrow_and_update();
    let committed = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    watch.changed().await.unwrap();
    assert_eq!(*watch.borrow_and_update(), committed.revision);
    assert!(store.snapshot().revision >= committed.revision);
}

async fn stale_writers_are_refused(store: Arc<dyn Store>) {
    let stale = store.snapshot();
    store.commit(stale.clone(), put("a", 1)).await.unwrap();
    assert_eq!(store.commit(stale, put("a", 2)).await.unwrap_err(), CommitError::Conflict(key("a")));
    assert_eq!(value(&store.snapshot(), "a"), Some(1));
}

async fn disjoint_writers_are_not(store: Arc<dyn Store>) {
    let base = store.snapshot();
    let (a, b) = tokio::join!(store.commit(base.clone(), put("a", 1)), store.commit(base, put("b", 2)));
    assert!(a.unwrap().revision != 0 && b.unwrap().revision != 0);
    let state = store.snapshot();
    assert_eq!((value(&state, "a"), value(&state, "b"), state.revision), (Some(1), Some(2), 2));
}

async fn guards_are_checked(store: Arc<dyn Store>) {
    let base = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    let mut relies_on_a = put("b", 1);
    relies_on_a.guard(key("a"));
    store.commit(base.clone(), put("a", 2)).await.unwrap();
    assert_eq!(store.commit(base, relies_on_a).await.unwrap_err(), CommitError::Conflict(key("a")));
    assert_eq!(value(&store.snapshot(), "b"), None);
}

async fn absence_is_guarded(store: Arc<dyn Store>) {
    let base = store.snapshot();
    store.commit(base.clone(), put("a", 1)).await.unwrap();
    let mut relies_on_nothing = put("b", 1);
    relies_on_nothing.guard(key("a"));
    assert!(store.commit(base, relies_on_nothing).await.is_err());
}

async fn deletes_and_returns(store: Arc<dyn Store>) {
    let one = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    let mut delete = Changes::new();
    delete.delete(key("a"));
    let gone = store.commit(one.clone(), delete).await.unwrap();
    assert_eq!(value(&gone, "a"), None);
    // The same record again is another one: whoever knew the first has missed something.
    store.commit(gone, put("a", 1)).await.unwrap();
    assert_eq!(store.commit(one, put("a", 9)).await.unwrap_err(), CommitError::Conflict(key("a")));
}

async fn all_or_nothing(store: Arc<dyn Store>) {
    let stale = store.snapshot();
    store.commit(stale.clone(), put("b", 1)).await.unwrap();
    let mut both = put("a", 2);
    both.changes.extend(put("b", 2).changes);
    assert!(store.commit(stale, both).await.is_err());
    assert_eq!(value(&store.snapshot(), "a"), None);
}

async fn empty_changes_make_no_revision(store: Arc<dyn Store>) {
    let base = store.snapshot();
    let state = store.commit(base.clone(), Changes::new()).await.unwrap();
    assert_eq!(state.revision, 0);
    store.commit(base.clone(), put("a", 1)).await.unwrap();
    let mut guard_only = Changes::new();
    guard_only.guard(key("a"));
    assert_eq!(store.commit(base, guard_only).await.unwrap_err(), CommitError::Conflict(key("a")));
}

async fn transact_loses_nothing(store: Arc<dyn Store>) {
    assert_eq!(count(store, 8, 25).await, 200);
}

async fn transact_refuses_at_once(store: Arc<dyn Store>) {
    let refused = transact(&*store, |_: &State| Err::<(Changes, ()), _>(std::fmt::Error)).await.unwrap_err();
    assert_eq!(refused, TransactError::Refused(std::fmt::Error));
    assert_eq!(store.snapshot().revision, 0);
}

async fn snapshots_do_not_move(store: Arc<dyn Store>) {
    let before = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    store.commit(before.clone(), put("a", 2)).await.unwrap();
    assert_eq!(value(&before, "a"), Some(1));
}

/// One step of a random history: a writer that read `age` revisions ago changes one of five records.
#[derive(Clone, Debug)]
struct Step {
    age: usize,
    name: u8,
    /// None deletes.
    value: Option<u64>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (0usize..4, 0u8..5, proptest::option::weighted(0.7, 0u64..100))
        .prop_map(|(age, name, value)| Step { age, name, value });
    proptest::collection::vec(step, 1..40)
}

fn agrees_with_a_model<K>(make: impl Fn() -> (Arc<dyn Store>, K)) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let cases = ProptestConfig { cases: 32, ..ProptestConfig::default() };
    proptest!(cases, |(steps in steps())| {
        let (store, _keep) = make();
        let mut history = vec![store.snapshot()];
        let mut model: BTreeMap<String, u64> = BTreeMap::new();
        let mut written: BTreeMap<String, usize> = BTreeMap::new();
        for step in steps {
            let name = format!("token-{}", step.name);
            let seen = history.len().saturating_sub(1 + step.age);
            let changes = match step.value {
                Some(value) => put(&name, value),
                None => {
                    let mut changes = Changes::new();
                    changes.delete(key(&name));
                    changes
                }
            };
            // A deletion of what is absent before and after is nobody's conflict.
            let seen_value = value(&history[seen], &name);
            let absent = seen_value.is_none() && !model.contains_key(&name);
            let stale = written.get(&name).is_some_and(|&at| at > seen) && !absent;
            let outcome = runtime.block_on(store.commit(history[seen].clone(), changes));
            prop_assert_eq!(outcome.is_err(), stale);
            if let Ok(state) = outcome {
                match step.value {
                    Some(value) => { model.insert(name.clone(), value); }
                    None => { model.remove(&name); }
                }
                history.push(state);
                written.insert(name, history.len() - 1);
            }
            let now: BTreeMap<String, u64> = store.snapshot().tokens.values()
                .map(|found| (found.value.id.token.clone(), found.value.fingerprint.parse().unwrap()))
                .collect();
            prop_assert_eq!(&now, &model);
        }
    });
}
