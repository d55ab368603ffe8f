//! `wasi:keyvalue`: buckets of the embedder's, with batches, atomic increments and compare-and-swap.
//!
//! Two drafts are about, and components are built for either: `0.2.0-draft`, with numbers as cursors, and
//! `0.2.0-draft2`, with compare-and-swap. Both work on the same [`KeyValue`].

use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType};

use super::HostState;

/// What every version's interfaces begin with.
pub(super) const PACKAGE: &str = "wasi:keyvalue/";

/// Values by bucket and key, for one container or several. Whatever changes them is durable when it resolves.
///
/// Errors are texts for the guest's author.
pub trait KeyValue: Send + Sync + 'static {
    /// The values of these keys, in their order.
    fn get(
        &self,
        bucket: &str,
        keys: Vec<String>,
    ) -> BoxFuture<'static, Result<Vec<Option<Vec<u8>>>, String>>;

    /// Sets keys that have a value here, and deletes those that have none: all or nothing.
    fn apply(
        &self,
        bucket: &str,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> BoxFuture<'static, Result<(), String>>;

    /// The first keys after `after`, in their order, at most so many.
    fn keys(
        &self,
        bucket: &str,
        after: Option<String>,
        limit: usize,
    ) -> BoxFuture<'static, Result<Vec<String>, String>>;

    /// Adds to the number a key holds as decimal text, 0 if it is not there, and answers what it then is.
    fn increment(&self, bucket: &str, key: String, delta: i64) -> BoxFuture<'static, Result<i64, String>>;

    /// Sets a key if its value is still the expected one; answers whether it was.
    fn swap(
        &self,
        bucket: &str,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> BoxFuture<'static, Result<bool, String>>;
}

/// The longest name of a bucket and the longest key, in bytes.
const LONGEST_KEY: usize = 1024;

/// The largest value, in bytes.
const LARGEST_VALUE: usize = 4 << 20;

/// The most keys in one batch, and on one page of a list.
const MOST_KEYS: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
enum StoreError {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

impl From<String> for StoreError {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct NumberedPage {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<u64>,
}

#[derive(Clone, Debug, ComponentType, Lift, Lower)]
#[component(record)]
struct Page {
    #[component(name = "keys")]
    keys: Vec<String>,
    #[component(name = "cursor")]
    cursor: Option<String>,
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum CasError {
    #[component(name = "store-error")]
    Store(StoreError),
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

/// An opened bucket.
#[derive(Clone)]
struct Bucket {
    name: Arc<str>,
    store: Arc<dyn KeyValue>,
}

/// A key whose value is to be swapped, and the value it had.
struct Cas {
    bucket: Bucket,
    key: String,
    seen: Option<Vec<u8>>,
}

type Store<'a> = StoreContextMut<'a, HostState>;

/// What a function returns to the guest.
type Answer<T> = wasmtime::Result<(Result<T, StoreError>,)>;

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    for version in ["0.2.0-draft", "0.2.0-draft2"] {
        let mut store = linker.instance(&format!("{PACKAGE}store@{version}"))?;
        link_store(&mut store)?;
        if version == "0.2.0-draft" {
            link_numbered_pages(&mut store)?;
        } else {
            link_pages(&mut store)?;
        }
        let mut atomics = linker.instance(&format!("{PACKAGE}atomics@{version}"))?;
        if version == "0.2.0-draft" {
            link_unsigned_increment(&mut atomics)?;
        } else {
            link_atomics(&mut atomics)?;
        }
        let mut batch = linker.instance(&format!("{PACKAGE}batch@{version}"))?;
        if version == "0.2.0-draft" {
            link_get_many_of_pairs(&mut batch)?;
        } else {
            link_get_many(&mut batch)?;
        }
        link_batch(&mut batch)?;
    }
    Ok(())
}

/// Does something with a bucket.
async fn with_bucket<T, F: Future<Output = Result<T, String>> + Send>(
    store: &mut Store<'_>,
    bucket: &Resource<Bucket>,
    work: impl FnOnce(Bucket) -> Result<F, StoreError> + Send,
) -> Answer<T> {
    let bucket = store.data_mut().table.get(bucket)?.clone();
    match work(bucket) {
        Ok(work) => Ok((work.await.map_err(StoreError::from),)),
        Err(refused) => Ok((Err(refused),)),
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(StoreError::Other(format!(
            "a key has 1 to {LONGEST_KEY} bytes; this one has {}",
            key.len()
        )));
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > LARGEST_VALUE {
        let length = value.len();
        return Err(StoreError::Other(format!(
            "a value has at most {LARGEST_VALUE} bytes; this one has {length}"
        )));
    }
    Ok(())
}

fn check_keys(keys: &[String]) -> Result<(), StoreError> {
    if keys.len() > MOST_KEYS {
        let count = keys.len();
        return Err(StoreError::Other(format!("a batch has at most {MOST_KEYS} keys; this one has {count}")));
    }
    keys.iter().try_for_each(|key| check_key(key))
}

fn link_store(store: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    store.resource("bucket", ResourceType::host::<Bucket>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Bucket>::new_own(rep))?;
        Ok(())
    })?;
    store.func_wrap("open", |mut store: Store<'_>, (name,): (String,)| -> Answer<Resource<Bucket>> {
        let state = store.data_mut();
        let Some(granted) = state.container.spec.keyvalue.clone() else {
            return Ok((Err(StoreError::AccessDenied),));
        };
        if name.len() > LONGEST_KEY {
            return Ok((Err(StoreError::NoSuchStore),));
        }
        Ok((Ok(state.table().push(Bucket { name: name.into(), store: granted })?),))
    })?;
    store.func_wrap_async(
        "[method]bucket.get",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let answer = with_bucket(&mut store, &bucket, |bucket| {
                    check_key(&key)?;
                    Ok(bucket.store.get(&bucket.name, vec![key]))
                });
                let (found,) = answer.await?;
                Ok((found.map(|mut found| found.pop().flatten()),))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.exists",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let answer = with_bucket(&mut store, &bucket, |bucket| {
                    check_key(&key)?;
                    Ok(bucket.store.get(&bucket.name, vec![key]))
                });
                let (found,) = answer.await?;
                Ok((found.map(|found| found.iter().any(Option::is_some)),))
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.set",
        |mut store: Store<'_>, (bucket, key, value): (Resource<Bucket>, String, Vec<u8>)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_key(&key)?;
                    check_value(&value)?;
                    Ok(bucket.store.apply(&bucket.name, vec![(key, Some(value))]))
                };
                with_bucket(&mut store, &bucket, work).await
            })
        },
    )?;
    store.func_wrap_async(
        "[method]bucket.delete",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_key(&key)?;
                    Ok(bucket.store.apply(&bucket.name, vec![(key, None)]))
                };
                with_bucket(&mut store, &bucket, work).await
            })
        },
    )
}

/// Cursors that are the last key of the page before.
fn link_pages(store: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store: Store<'_>, (bucket, cursor): (Resource<Bucket>, Option<String>)| {
            Box::new(async move {
                let work = |bucket: Bucket| Ok(bucket.store.keys(&bucket.name, cursor, MOST_KEYS));
                let (keys,) = with_bucket(&mut store, &bucket, work).await?;
                Ok((keys.map(|keys| Page {
                    cursor: keys.last().filter(|_| keys.len() == MOST_KEYS).cloned(),
                    keys,
                }),))
            })
        },
    )
}

/// Cursors that say how many keys the pages before had. What comes and goes between two pages may be missed or seen
/// twice, as this draft allows.
fn link_numbered_pages(store: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    store.func_wrap_async(
        "[method]bucket.list-keys",
        |mut store: Store<'_>, (bucket, cursor): (Resource<Bucket>, Option<u64>)| {
            Box::new(async move {
                let skip = usize::try_from(cursor.unwrap_or(0)).unwrap_or(usize::MAX);
                // What is skipped is read all the same: no more than this.
                const FURTHEST: usize = 100_000;
                let work = |bucket: Bucket| {
                    if skip > FURTHEST {
                        return Err(StoreError::Other(format!("no list goes further than {FURTHEST} keys")));
                    }
                    Ok(bucket.store.keys(&bucket.name, None, skip + MOST_KEYS))
                };
                let (keys,) = with_bucket(&mut store, &bucket, work).await?;
                Ok((keys.map(|mut keys| {
                    let more = keys.len() == skip + MOST_KEYS;
                    NumberedPage {
                        cursor: more.then_some(keys.len() as u64),
                        keys: keys.split_off(skip.min(keys.len())),
                    }
                }),))
            })
        },
    )
}

fn link_unsigned_increment(atomics: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    atomics.func_wrap_async(
        "increment",
        |mut store: Store<'_>, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_key(&key)?;
                    let delta = i64::try_from(delta)
                        .map_err(|_| StoreError::Other("the increment is too large".to_owned()))?;
                    Ok(bucket.store.increment(&bucket.name, key, delta))
                };
                let (sum,) = with_bucket(&mut store, &bucket, work).await?;
                let positive = |sum: i64| {
                    u64::try_from(sum).map_err(|_| StoreError::Other(format!("the sum is negative: {sum}")))
                };
                Ok((sum.and_then(positive),))
            })
        },
    )
}

fn link_atomics(atomics: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    atomics.resource("cas", ResourceType::host::<Cas>(), |mut store, rep| {
        store.data_mut().table.delete(Resource::<Cas>::new_own(rep))?;
        Ok(())
    })?;
    atomics.func_wrap_async(
        "increment",
        |mut store: Store<'_>, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_key(&key)?;
                    Ok(bucket.store.increment(&bucket.name, key, delta))
                };
                with_bucket(&mut store, &bucket, work).await
            })
        },
    )?;
    atomics.func_wrap_async(
        "[static]cas.new",
        |mut store: Store<'_>, (bucket, key): (Resource<Bucket>, String)| {
            Box::new(async move {
                let bucket = store.data_mut().table.get(&bucket)?.clone();
                if let Err(refused) = check_key(&key) {
                    return Ok((Err(refused),));
                }
                match read_for_swap(bucket, key).await {
                    Ok(cas) => Ok((Ok(store.data_mut().table().push(cas)?),)),
                    Err(error) => Ok((Err(error),)),
                }
            })
        },
    )?;
    atomics.func_wrap(
        "[method]cas.current",
        |mut store: Store<'_>, (cas,): (Resource<Cas>,)| -> Answer<Option<Vec<u8>>> {
            Ok((Ok(store.data_mut().table.get(&cas)?.seen.clone()),))
        },
    )?;
    atomics.func_wrap_async("swap", |mut store: Store<'_>, (cas, value): (Resource<Cas>, Vec<u8>)| {
        Box::new(async move {
            let Cas { bucket, key, seen } = store.data_mut().table.delete(cas)?;
            if let Err(refused) = check_value(&value) {
                return Ok((Err(CasError::Store(refused)),));
            }
            match bucket.store.swap(&bucket.name, key.clone(), seen, value).await {
                Ok(true) => Ok((Ok(()),)),
                Err(error) => Ok((Err(CasError::Store(error.into())),)),
                // Somebody was faster: a new handle, with what is there now.
                Ok(false) => Ok((Err(match read_for_swap(bucket, key).await {
                    Ok(cas) => CasError::Failed(store.data_mut().table().push(cas)?),
                    Err(error) => CasError::Store(error),
                }),)),
            }
        })
    })
}

async fn read_for_swap(bucket: Bucket, key: String) -> Result<Cas, StoreError> {
    let mut found = bucket.store.get(&bucket.name, vec![key.clone()]).await?;
    Ok(Cas { bucket, key, seen: found.pop().flatten() })
}

fn link_get_many(batch: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    batch.func_wrap_async(
        "get-many",
        |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_keys(&keys)?;
                    Ok(bucket.store.get(&bucket.name, keys.clone()))
                };
                let (found,) = with_bucket(&mut store, &bucket, work).await?;
                Ok((found.map(|found| keys.into_iter().zip(found).collect::<Vec<_>>()),))
            })
        },
    )
}

fn link_get_many_of_pairs(batch: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    batch.func_wrap_async(
        "get-many",
        |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_keys(&keys)?;
                    Ok(bucket.store.get(&bucket.name, keys.clone()))
                };
                let (found,) = with_bucket(&mut store, &bucket, work).await?;
                let pair = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
                Ok((found.map(|found| keys.into_iter().zip(found).map(pair).collect::<Vec<_>>()),))
            })
        },
    )
}

fn link_batch(batch: &mut LinkerInstance<'_, HostState>) -> wasmtime::Result<()> {
    batch.func_wrap_async(
        "set-many",
        |mut store: Store<'_>, (bucket, pairs): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    if pairs.len() > MOST_KEYS {
                        return Err(StoreError::Other(format!("a batch has at most {MOST_KEYS} keys")));
                    }
                    for (key, value) in &pairs {
                        check_key(key)?;
                        check_value(value)?;
                    }
                    let changes = pairs.into_iter().map(|(key, value)| (key, Some(value))).collect();
                    Ok(bucket.store.apply(&bucket.name, changes))
                };
                with_bucket(&mut store, &bucket, work).await
            })
        },
    )?;
    batch.func_wrap_async(
        "delete-many",
        |mut store: Store<'_>, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            Box::new(async move {
                let work = |bucket: Bucket| {
                    check_keys(&keys)?;
                    let changes = keys.into_iter().map(|key| (key, None)).collect();
                    Ok(bucket.store.apply(&bucket.name, changes))
                };
                with_bucket(&mut store, &bucket, work).await
            })
        },
    )
}
