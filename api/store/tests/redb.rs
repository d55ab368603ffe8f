//! What only a store on a disk must do.

#![allow(clippy::unwrap_used, reason = "a panic in a test is its report")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use common::{count, put, value};
use coracle_store::{CommitError, OpenError, RedbStore, Store};
use coracle_types::{Changes, Record};
use redb::{Database, TableDefinition};

fn open(folder: &Path) -> RedbStore {
    RedbStore::open(folder.join("state.redb")).unwrap()
}

#[tokio::test]
async fn a_reopened_store_has_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut state = store.commit(store.snapshot(), put("a", 1)).await.unwrap();
    for n in 2..20 {
        state = store.commit(state, put(&format!("token-{}", n % 5), n)).await.unwrap();
    }
    let mut delete = Changes::new();
    delete.delete(common::key("token-3"));
    let state = store.commit(state, delete).await.unwrap();
    drop(store);

    let again = open(folder.path()).snapshot();
    assert_eq!(again.revision, state.revision);
    let records = |state: &coracle_types::State| state.records().collect::<Vec<(Record, u64)>>();
    assert_eq!(records(&again), records(&state));
    assert_eq!(value(&again, "token-3"), None);
}

#[tokio::test]
async fn revisions_go_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let last = store.commit(store.snapshot(), put("a", 1)).await.unwrap().revision;
    drop(store);
    let store = open(folder.path());
    assert_eq!(*store.watch().borrow(), last);
    assert_eq!(store.commit(store.snapshot(), put("b", 1)).await.unwrap().revision, last + 1);
}

#[test]
fn a_database_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let error = RedbStore::open(folder.path().join("state.redb")).unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(first);
    open(folder.path());
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    let database = Database::create(folder.path().join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = RedbStore::open(folder.path().join("state.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Version { found: 99, known: 1, .. }), "{error:?}");
}

#[test]
fn a_broken_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let records: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
    let database = Database::create(folder.path().join("state.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(records)
        .unwrap()
        .insert(&b"{\"Cluster\":1}"[..], &b"12345678nonsense"[..])
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = RedbStore::open(folder.path().join("state.redb")).unwrap_err();
    assert!(matches!(&error, OpenError::Corrupt { key, .. } if key.contains("Cluster")), "{error:?}");
}

#[test]
fn something_else_than_a_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state.redb"), "not a database at all").unwrap();
    let error = RedbStore::open(folder.path().join("state.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    let error = RedbStore::open(folder.path().join("absent/state.redb")).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
}

#[cfg(unix)]
#[test]
fn only_the_owner_may_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let mode = std::fs::metadata(folder.path().join("state.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_at_once_lose_nothing_and_it_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(open(folder.path()));
    assert_eq!(count(Arc::clone(&store), 16, 10).await, 160);
    drop(store);
    assert_eq!(value(&open(folder.path()).snapshot(), "counter"), Some(160));
}

/// Commits that wait together are written together: while the writer is at its first fsync the others
/// queue up, so that many of them are answered with the same state.
#[tokio::test]
async fn commits_that_wait_share_a_transaction() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let base = store.snapshot();
    let commits = (0..500).map(|n| store.commit(Arc::clone(&base), put(&format!("token-{n}"), n)));
    let answers = futures_util::future::join_all(commits).await;
    let states: BTreeSet<u64> = answers.into_iter().map(|answer| answer.unwrap().revision).collect();
    assert_eq!(states.last(), Some(&500));
    assert!(states.len() < 250, "500 commits took {} transactions", states.len());
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let late = store.commit(store.snapshot(), put("a", 1));
    drop(store);
    assert_eq!(late.await.unwrap_err(), CommitError::Closed);
}
