//! The key-value stores of tasks: one file of the data directory, a namespace for each service.
//!
//! A write is on disk when the guest is told that it is done. Reading and writing block, so they are done where they
//! may.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use coracle_agent::KeyValueSource;
use coracle_sandbox::KeyValue;
use futures_util::future::BoxFuture;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

/// Namespace, bucket and key; the value.
const VALUES: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("values");

/// All key-value stores of a node.
pub(crate) struct KeyValueStores(Arc<Database>);

impl KeyValueStores {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let database = Database::create(path)
            .with_context(|| format!("cannot open the key-value stores in {}", path.display()))?;
        Ok(Self(Arc::new(database)))
    }
}

impl KeyValueSource for KeyValueStores {
    fn open(&self, namespace: &str) -> Arc<dyn KeyValue> {
        Arc::new(Namespace { database: Arc::clone(&self.0), name: namespace.into() })
    }
}

/// The buckets of one namespace.
struct Namespace {
    database: Arc<Database>,
    name: Arc<str>,
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
        let bucket = bucket.to_owned();
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(VALUES)?;
                for (key, value) in &changes {
                    let key = (namespace, bucket.as_str(), key.as_str());
                    match value {
                        Some(value) => drop(table.insert(key, value.as_slice())?),
                        None => drop(table.remove(key)?),
                    }
                }
            }
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
        let bucket = bucket.to_owned();
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            let sum = {
                let mut table = transaction.open_table(VALUES)?;
                let key = (namespace, bucket.as_str(), key.as_str());
                let before = match table.get(key)? {
                    None => 0,
                    Some(value) => std::str::from_utf8(value.value())
                        .ok()
                        .and_then(|text| text.parse::<i64>().ok())
                        .ok_or_else(|| Failure::Guest(format!("the value of {:?} is no number", key.2)))?,
                };
                let sum = before
                    .checked_add(delta)
                    .ok_or_else(|| Failure::Guest(format!("the number in {:?} would be too large", key.2)))?;
                table.insert(key, sum.to_string().as_bytes())?;
                sum
            };
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
        let bucket = bucket.to_owned();
        self.work(move |database, namespace| {
            let transaction = database.begin_write()?;
            {
                let mut table = transaction.open_table(VALUES)?;
                let key = (namespace, bucket.as_str(), key.as_str());
                let found = table.get(key)?.map(|found| found.value().to_vec());
                if found != expected {
                    return Ok(false);
                }
                table.insert(key, value.as_slice())?;
            }
            transaction.commit()?;
            Ok(true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn values_are_kept_apart_and_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keyvalue.redb");
        let set = |key: &str, value: &str| vec![(key.to_owned(), Some(value.as_bytes().to_vec()))];
        {
            let stores = KeyValueStores::open(&path).unwrap();
            let (one, other) = (stores.open("one"), stores.open("other"));
            assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>]);
            one.apply("b", set("k", "v")).await.unwrap();
            assert_eq!(
                other.get("b", vec!["k".into()]).await.unwrap(),
                [None::<Vec<u8>>],
                "another namespace"
            );
            assert_eq!(one.get("c", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>], "another bucket");
        }
        let one = KeyValueStores::open(&path).unwrap().open("one");
        assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [Some(b"v".to_vec())]);
        one.apply("b", vec![("k".into(), None)]).await.unwrap();
        assert_eq!(one.get("b", vec!["k".into()]).await.unwrap(), [None::<Vec<u8>>]);
    }

    #[tokio::test]
    async fn lists_increments_and_swaps() {
        let dir = tempfile::tempdir().unwrap();
        let stores = KeyValueStores::open(&dir.path().join("keyvalue.redb")).unwrap();
        let store = stores.open("n");
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
        let store = stores.open("n");
        let work = (0..20).map(|_| tokio::spawn(store.increment("b", "count".into(), 1)));
        for one in work.collect::<Vec<_>>() {
            one.await.unwrap().unwrap();
        }
        assert_eq!(store.increment("b", "count".into(), 0).await.unwrap(), 20);
    }
}
