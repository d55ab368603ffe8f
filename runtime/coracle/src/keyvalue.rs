//! The key-value stores of tasks: one file of the data directory, a namespace for each service.
//!
//! What a namespace holds is counted with every write, in the same transaction, and a write that would make it larger than
//! it may be is refused as a whole. One that makes it smaller never is.
//!
//! A write is on disk when the guest is told that it is done. Reading and writing block, so they are done where they
//! may.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use coracle_agent::KeyValueSource;
use coracle_sandbox::KeyValue;
use futures_util::future::BoxFuture;
use redb::{
    Database, ReadableDatabase as _, ReadableTable as _, Table, TableDefinition, TableError, WriteTransaction,
};

use crate::cli::{KeyvalueArgs, KeyvalueCommand};
use crate::config::default_data_dir;
use crate::output::say;

/// Namespace, bucket and key; the value.
const VALUES: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("values");

/// The bytes each namespace holds. One that was written before they were counted is not in it yet.
const USED: TableDefinition<'_, &str, u64> = TableDefinition::new("used");

/// What a value costs beside itself and its names.
const VALUE_BYTES: u64 = 64;

/// All key-value stores of a node.
pub(crate) struct KeyValueStores(Arc<Database>);

impl KeyValueStores {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let database = Database::create(path)
            .with_context(|| format!("cannot open the key-value stores in {}", path.display()))?;
        Ok(Self(Arc::new(database)))
    }

    /// Each namespace that holds something, and how many bytes.
    pub(crate) fn namespaces(&self) -> anyhow::Result<Vec<(String, u64)>> {
        let read = || -> Result<Vec<(String, u64)>, redb::Error> {
            let values = match self.0.begin_read()?.open_table(VALUES) {
                Ok(values) => values,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut found: Vec<(String, u64)> = Vec::new();
            for entry in values.iter()? {
                let (key, value) = entry?;
                let (namespace, bucket, key) = key.value();
                let bytes = cost(bucket, key, value.value());
                match found.last_mut() {
                    Some((last, sum)) if last == namespace => *sum += bytes,
                    _ => found.push((namespace.to_owned(), bytes)),
                }
            }
            Ok(found)
        };
        read().context("cannot read the key-value stores")
    }

    /// Deletes all that a namespace holds; answers whether it held anything.
    pub(crate) fn clear(&self, namespace: &str) -> anyhow::Result<bool> {
        let clear = || -> Result<bool, redb::Error> {
            let transaction = self.0.begin_write()?;
            let mut any = false;
            {
                let mut values = transaction.open_table(VALUES)?;
                // The next name that can be.
                let end = format!("{namespace}\0");
                values.retain_in((namespace, "", "")..(end.as_str(), "", ""), |_, _| {
                    any = true;
                    false
                })?;
                transaction.open_table(USED)?.insert(namespace, 0)?;
            }
            transaction.commit()?;
            Ok(any)
        };
        clear().with_context(|| format!("cannot clear the key-value namespace {namespace}"))
    }
}

impl KeyValueSource for KeyValueStores {
    fn open(&self, namespace: &str, limit_bytes: u64) -> Arc<dyn KeyValue> {
        Arc::new(Namespace { database: Arc::clone(&self.0), name: namespace.into(), limit: limit_bytes })
    }
}

/// `coracle keyvalue`: only one process at a time can have the file.
pub(crate) fn keyvalue(args: &KeyvalueArgs) -> anyhow::Result<ExitCode> {
    let data_dir = args.data_dir.clone().map_or_else(default_data_dir, Ok)?;
    let path = data_dir.join("keyvalue.redb");
    if !path.exists() {
        bail!("there are no key-value stores in {}", data_dir.display());
    }
    let stores =
        KeyValueStores::open(&path).map_err(|error| match error.downcast_ref::<redb::DatabaseError>() {
            Some(redb::DatabaseError::DatabaseAlreadyOpen) => error.context(
                "another coracle uses this data directory; stop it first, or let a component delete the keys",
            ),
            _ => error,
        })?;
    match &args.command {
        KeyvalueCommand::List => {
            for (namespace, bytes) in stores.namespaces()? {
                say!("{bytes:>12}  {namespace}")?;
            }
        }
        KeyvalueCommand::Clear { namespace } => {
            if !stores.clear(namespace)? {
                bail!(
                    "the key-value namespace {namespace:?} holds nothing; `coracle keyvalue list` prints those that do"
                );
            }
            say!("cleared {namespace}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn cost(bucket: &str, key: &str, value: &[u8]) -> u64 {
    (bucket.len() + key.len() + value.len()) as u64 + VALUE_BYTES
}

/// One bucket of a namespace that is being written to.
struct Writing<'t> {
    values: Table<'t, (&'static str, &'static str, &'static str), &'static [u8]>,
    used: Table<'t, &'static str, u64>,
    namespace: &'t str,
    bucket: &'t str,
    /// Bytes of the whole namespace, before and now.
    before: u64,
    now: u64,
}

impl<'t> Writing<'t> {
    fn begin(
        transaction: &'t WriteTransaction,
        namespace: &'t str,
        bucket: &'t str,
    ) -> Result<Self, redb::Error> {
        let values = transaction.open_table(VALUES)?;
        let used = transaction.open_table(USED)?;
        let counted = used.get(namespace)?.map(|bytes| bytes.value());
        let before = match counted {
            Some(bytes) => bytes,
            None => {
                let mut bytes = 0;
                for entry in values.range((namespace, "", "")..)? {
                    let (key, value) = entry?;
                    let (found, bucket, key) = key.value();
                    if found != namespace {
                        break;
                    }
                    bytes += cost(bucket, key, value.value());
                }
                bytes
            }
        };
        Ok(Self { values, used, namespace, bucket, before, now: before })
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, redb::Error> {
        let found = self.values.get((self.namespace, self.bucket, key))?;
        Ok(found.map(|value| value.value().to_vec()))
    }

    /// Sets a key, or deletes it.
    fn set(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), redb::Error> {
        let place = (self.namespace, self.bucket, key);
        let old = match value {
            Some(value) => self.values.insert(place, value)?,
            None => self.values.remove(place)?,
        };
        let old = old.map_or(0, |old| cost(self.bucket, key, old.value()));
        let new = value.map_or(0, |value| cost(self.bucket, key, value));
        self.now = (self.now + new).saturating_sub(old);
        Ok(())
    }

    /// Books what has changed, if there is room for it.
    fn end(mut self, limit: u64) -> Result<(), Failure> {
        if self.now > self.before && self.now > limit {
            return Err(Failure::Guest(format!(
                "the key-value namespace is full: it holds {} bytes, this would make them {}, and it may hold {limit}; \
                 delete keys, or raise the label coracle.keyvalue-limit",
                self.before, self.now
            )));
        }
        self.used.insert(self.namespace, self.now)?;
        Ok(())
    }
}

/// The buckets of one namespace.
struct Namespace {
    database: Arc<Database>,
    name: Arc<str>,
    /// Bytes it may hold.
    limit: u64,
}

impl Namespace {
    /// Does something with the file where it may block. Its own failures are ours to know of, not the guest's.
    fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database, &str) -> Result<T, Failure> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, String>> {
        let (database, name) = (Arc::clone(&self.database), Arc::clone(&self.name));
        Box::pin(async move {
            let done = tokio::task::spawn_blocking(move || work(&database, &name)).await;
            match done {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(Failure::Guest(reason))) => Err(reason),
                Ok(Err(Failure::Database(error))) => {
                    tracing::error!("a key-value store failed: {error}");
                    Err("the key-value store could not be read or written".to_owned())
                }
                Err(error) => {
                    tracing::error!("a key-value store failed: {error}");
                    Err("the key-value store failed".to_owned())
                }
            }
        })
    }
}

/// Why something was not done.
enum Failure {
    /// It can't be; the guest is told why.
    Guest(String),
    Database(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

impl KeyValue for Namespace {
    fn get(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, String>> {
        let bucket = bucket.to_owned();
        self.work(move |database, namespace| {
            let table = match database.begin_read()?.open_table(VALUES) {
                Ok(table) => table,
                // Nothing has ever been written.
                Err(TableError::TableDoesNotExist(_)) => return Ok(vec![None; keys.len()]),
                Err(error) => return Err(error.into()),
            };
            let read = |key: &String| -> Result<Option<Vec<u8>>, Failure> {
                let value = table.get((namespace, bucket.as_str(), key.as_str()))?;
                Ok(value.map(|value| value.value().to_vec()))
            };
            keys.iter().map(read).collect()
        })
    }

    fn apply(
        &self,
        bucket: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let (bucket, limit) = (bucket.to_owned(), self.limit);
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            let mut writing = Writing::begin(&transaction, namespace, &bucket)?;
            for (key, value) in &changes {
                writing.set(key, value.as_deref())?;
            }
            writing.end(limit)?;
            Ok(transaction.commit()?)
        })
    }

    fn keys(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<String>, String>> {
        let bucket = bucket.to_owned();
        self.work(move |database, namespace| {
            let table = match database.begin_read()?.open_table(VALUES) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let first = after.as_deref().unwrap_or_default();
            let mut keys = Vec::new();
            for found in table.range((namespace, bucket.as_str(), first)..)? {
                let (key, _) = found?;
                let (found_namespace, found_bucket, key) = key.value();
                if found_namespace != namespace || found_bucket != bucket || keys.len() == limit {
                    break;
                }
                if after.as_deref() != Some(key) {
                    keys.push(key.to_owned());
                }
            }
            Ok(keys)
        })
    }

    fn increment(&self, bucket: &str, key: String, delta: i64) -> BoxFuture<'static, Result<i64, String>> {
        let (bucket, limit) = (bucket.to_owned(), self.limit);
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            let mut writing = Writing::begin(&transaction, namespace, &bucket)?;
            let before = match writing.get(&key)? {
                None => 0,
                Some(value) => std::str::from_utf8(&value)
                    .ok()
                    .and_then(|text| text.parse::<i64>().ok())
                    .ok_or_else(|| Failure::Guest(format!("the value of {key:?} is no number")))?,
            };
            let sum = before
                .checked_add(delta)
                .ok_or_else(|| Failure::Guest(format!("the number in {key:?} would be too large")))?;
            writing.set(&key, Some(sum.to_string().as_bytes()))?;
            writing.end(limit)?;
            transaction.commit()?;
            Ok(sum)
        })
    }

    fn swap(
        &self,
        bucket: &str,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> BoxFuture<'static, Result<bool, String>> {
        let (bucket, limit) = (bucket.to_owned(), self.limit);
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            let mut writing = Writing::begin(&transaction, namespace, &bucket)?;
            if writing.get(&key)? != expected {
                return Ok(false);
            }
            writing.set(&key, Some(&value))?;
            writing.end(limit)?;
            transaction.commit()?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUCH: u64 = 1 << 30;

    #[tokio::test]
    async fn a_namespace_holds_what_it_may_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyvalue.redb");
        let stores = KeyValueStores::open(&path).unwrap();
        let small = stores.open("small", 1000);
        let set = |key: &str, bytes: usize| vec![(key.to_owned(), Some(vec![7; bytes]))];
        small.apply("b", set("first", 500)).await.unwrap();
        let error = small.apply("b", set("second", 500)).await.unwrap_err();
        assert!(error.contains("holds 570 bytes") && error.contains("coracle.keyvalue-limit"), "{error}");
        assert_eq!(small.keys("b", None, 10).await.unwrap(), ["first"], "nothing of it was done");
        assert!(small.swap("b", "s".into(), None, vec![7; 500]).await.unwrap_err().contains("full"));
        // In place of what is there, there is room; and for less there always is.
        small.apply("b", set("first", 900)).await.unwrap();
        assert!(small.increment("b", "count".into(), 1).await.unwrap_err().contains("full"));
        stores.open("small", 10).apply("b", set("first", 800)).await.unwrap();
        stores.open("other", 1000).apply("b", set("x", 900)).await.unwrap();
        let held = [("other".to_owned(), 966), ("small".to_owned(), 870)];
        assert_eq!(stores.namespaces().unwrap(), held);
        assert!(stores.clear("small").unwrap() && !stores.clear("small").unwrap());
        assert_eq!(stores.namespaces().unwrap(), held[..1]);
        small.apply("b", set("second", 900)).await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_before_it_was_counted_counts() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KeyValueStores::open(&dir.path().join("keyvalue.redb")).unwrap();
        let set = |key: &str| vec![(key.to_owned(), Some(vec![7; 500]))];
        stores.open("n", MUCH).apply("b", set("first")).await.unwrap();
        let transaction = stores.0.begin_write().unwrap();
        transaction.delete_table(USED).unwrap();
        transaction.commit().unwrap();
        assert!(stores.open("n", 1000).apply("b", set("second")).await.unwrap_err().contains("full"));
    }

    #[tokio::test]
    async fn values_are_kept_apart_and_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyvalue.redb");
        let set = |key: &str, value: &str| vec![(key.to_owned(), Some(value.as_bytes().to_vec()))];
        {
            let stores = KeyValueStores::open(&path).unwrap();
            let (one, other) = (stores.open("one", MUCH), stores.open("other", MUCH));
            assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>]);
            one.apply("b", set("k", "v")).await.unwrap();
            assert_eq!(
                other.get("b", vec!["k".into()]).await.unwrap(),
                [None::<Vec<u8>>],
                "another namespace"
            );
            assert_eq!(one.get("c", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>], "another bucket");
        }
        let one = KeyValueStores::open(&path).unwrap().open("one", MUCH);
        assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [Some(b"v".to_vec())]);
        one.apply("b", vec![("k".into(), None)]).await.unwrap();
        assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>]);
    }

    #[tokio::test]
    async fn lists_increments_and_swaps() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KeyValueStores::open(&dir.path().join("keyvalue.redb")).unwrap();
        let store = stores.open("n", MUCH);
        assert_eq!(store.keys("b", None, 10).await.unwrap(), Vec::<String>::new());
        let changes = (0..5).map(|number| (format!("k{number}"), Some(vec![number])));
        store.apply("b", changes.collect()).await.unwrap();
        store.apply("c", vec![("other".into(), Some(vec![]))]).await.unwrap();
        assert_eq!(store.keys("b", None, 2).await.unwrap(), ["k0", "k1"]);
        assert_eq!(store.keys("b", Some("k1".into()), 10).await.unwrap(), ["k2", "k3", "k4"]);

        assert_eq!(store.increment("b", "count".into(), 5).await.unwrap(), 5);
        assert_eq!(store.increment("b", "count".into(), -7).await.unwrap(), -2);
        assert!(store.increment("b", "count".into(), i64::MIN).await.unwrap_err().contains("too large"));
        assert!(store.increment("b", "k0".into(), 1).await.unwrap_err().contains("no number"));

        assert!(store.swap("b", "s".into(), None, b"1".to_vec()).await.unwrap());
        assert!(!store.swap("b", "s".into(), None, b"2".to_vec()).await.unwrap());
        assert!(store.swap("b", "s".into(), Some(b"1".to_vec()), b"2".to_vec()).await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn increments_at_the_same_time_are_all_counted() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KeyValueStores::open(&dir.path().join("keyvalue.redb")).unwrap();
        let store = stores.open("n", MUCH);
        let work = (0..20).map(|_| tokio::spawn(store.increment("b", "count".into(), 1)));
        for one in work.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
        assert_eq!(store.increment("b", "count".into(), 0).await.unwrap(), 20);
    }
}
