//! Durable values by key, in buckets of the service's own: `wasi:keyvalue`.
//!
//! What is written is on disk when the call returns. Services share what they write when their labels
//! `coracle.keyvalue` are the same. A call holds up this instance alone.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{NotGranted, host};

/// Why something was not read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyValueError {
    /// The host gives no key-value store to this component.
    NotGranted(NotGranted),
    /// There is no bucket of this name.
    NoSuchBucket(String),
    /// Something else, in words: a key or value that is too large, a number that is none.
    Refused(String),
    /// The value is not the JSON that was expected.
    Json(String),
}

impl fmt::Display for KeyValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted(error) => error.fmt(f),
            Self::NoSuchBucket(name) => write!(f, "there is no bucket {name:?}"),
            Self::Refused(reason) => write!(f, "key-value store: {reason}"),
            Self::Json(reason) => write!(f, "key-value store: the value is not as expected: {reason}"),
        }
    }
}

impl std::error::Error for KeyValueError {}

impl KeyValueError {
    pub(crate) fn not_granted() -> Self {
        Self::NotGranted(NotGranted {
            wanted: "the key-value store".to_owned(),
            grant:
                "a host of its own has to set `keyvalue` of its ContainerSpec; in a Coracle task it always is"
                    .to_owned(),
        })
    }
}

/// What a call answers.
pub type Result<T> = std::result::Result<T, KeyValueError>;

/// Values by key.
pub struct Bucket(host::Bucket);

impl Bucket {
    /// A bucket by its name; `default` is as good as any. It needs no making.
    ///
    /// # Errors
    /// When the host grants none.
    pub fn open(name: &str) -> Result<Self> {
        host::Bucket::open(name).map(Self)
    }

    /// A value, if there is one.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.0.get(key)
    }

    /// A value as JSON, if there is one.
    ///
    /// # Errors
    /// When it can't be read, or is not what `T` takes.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        let parse = |value: Vec<u8>| serde_json::from_slice(&value);
        self.get(key)?.map(parse).transpose().map_err(|error| KeyValueError::Json(error.to_string()))
    }

    /// Sets a value.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.0.set(key, value.as_ref())
    }

    /// Sets a value as JSON.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn set_json<T: Serialize>(&self, key: &str, value: &T) -> Result<()> {
        let text = serde_json::to_vec(value).map_err(|error| KeyValueError::Json(error.to_string()))?;
        self.set(key, text)
    }

    /// Removes a value, if there is one.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn delete(&self, key: &str) -> Result<()> {
        self.0.delete(key)
    }

    /// Whether there is a value.
    ///
    /// # Errors
    /// When that can't be told.
    pub fn exists(&self, key: &str) -> Result<bool> {
        self.0.exists(key)
    }

    /// All keys, in their order.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn keys(&self) -> Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = None;
        loop {
            let (page, next) = self.0.keys(cursor)?;
            keys.extend(page);
            if next.is_none() {
                return Ok(keys);
            }
            cursor = next;
        }
    }

    /// Adds to a number, which is 0 if it is not there, and answers what it then is. Nothing comes in between.
    ///
    /// # Errors
    /// When the value is no number.
    pub fn increment(&self, key: &str, by: i64) -> Result<i64> {
        self.0.increment(key, by)
    }

    /// Makes a new value of the one there is, and answers the new one. When somebody else was faster, it is done again
    /// with what they wrote.
    ///
    /// # Errors
    /// When it can't be read or written, or after 100 times.
    pub fn update(&self, key: &str, mut change: impl FnMut(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>> {
        let mut found = self.0.watch(key)?;
        for _ in 0..100 {
            let value = change(found.current()?);
            match self.0.swap(found, &value)? {
                None => return Ok(value),
                Some(newer) => found = newer,
            }
        }
        Err(KeyValueError::Refused(format!("others were always faster to write {key:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_and_counted() {
        let bucket = Bucket::open("default").unwrap();
        bucket.set_json("a", &vec![1, 2]).unwrap();
        assert_eq!(bucket.get_json::<Vec<u32>>("a").unwrap(), Some(vec![1, 2]));
        assert!(matches!(bucket.get_json::<String>("a"), Err(KeyValueError::Json(_))));
        assert_eq!((bucket.increment("n", 2).unwrap(), bucket.increment("n", -3).unwrap()), (2, -1));
        assert!(bucket.increment("a", 1).is_err());
        let value = bucket.update("b", |found| [found.unwrap_or_default(), b"x".to_vec()].concat()).unwrap();
        assert_eq!(value, b"x");
        assert_eq!(bucket.keys().unwrap(), ["a", "b", "n"]);
        bucket.delete("a").unwrap();
        assert!(!bucket.exists("a").unwrap());
    }

    #[test]
    fn what_is_not_granted_is_named() {
        crate::testing::deny_keyvalue();
        let Err(error) = Bucket::open("default") else { panic!("it is granted") };
        assert!(
            error.to_string().contains("not granted") && error.to_string().contains("`keyvalue`"),
            "{error}"
        );
    }
}
