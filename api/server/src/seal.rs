//! Secrets at rest: what is confidential is sealed before it goes into the store.
//!
//! A [`Sealer`] holds one key, kept in a file of the data directory that only its owner may read. Whoever
//! has a copy of the store alone (a backup, a discarded disk) can read no secret; whoever can read the
//! whole data directory can. Each sealed text is bound to a context, the name of what it belongs to, so
//! that a sealed secret cannot be moved to another record.
//!
//! The cipher is AES-256-GCM with a random nonce of 96 bits, which is safe for 2³² seals under one key.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::Rng as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::key_file::{KEY_LEN, open_key};

/// Why a sealed text could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a sealed secret cannot be opened: it is damaged, or was sealed with another key or for something else"
)]
pub struct Unsealable;

/// Seals and opens secrets with the key of one data directory.
pub struct Sealer {
    key: LessSafeKey,
}

impl fmt::Debug for Sealer {
    /// Never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

impl Sealer {
    /// With the key in the file at `path`, which is made with a new one if there is none.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else than a key.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        open_key(path).map(Self::with_key)
    }

    /// With a key of the caller's.
    #[must_use]
    pub fn with_key(key: [u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key).expect("AES-256 takes every key of 32 bytes");
        Self { key: LessSafeKey::new(key) }
    }

    /// Seals `secret` for `context`, as text.
    #[must_use]
    pub fn seal(&self, context: &str, secret: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = rand::rng().random();
        let mut sealed = secret.to_vec();
        let aad = Aad::from(context.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .expect("secrets are far below the 64 GiB that AES-GCM can seal");
        STANDARD.encode([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Self::seal`] sealed for the same context.
    ///
    /// # Errors
    /// [`Unsealable`].
    pub fn open_sealed(&self, context: &str, sealed: &str) -> Result<Vec<u8>, Unsealable> {
        let bytes = STANDARD.decode(sealed).map_err(|_| Unsealable)?;
        let (nonce, sealed) = bytes.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable)?;
        let mut sealed = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut sealed);
        opened.map(|secret| secret.to_vec()).map_err(|_| Unsealable)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_context_only() {
        let sealer = Sealer::with_key([7; KEY_LEN]);
        let sealed = sealer.seal("key/AKID", b"hush");
        assert!(!sealed.contains("hush"));
        assert_ne!(sealed, sealer.seal("key/AKID", b"hush"), "every seal has a nonce of its own");
        assert_eq!(sealer.open_sealed("key/AKID", &sealed).unwrap(), b"hush");
        assert_eq!(sealer.open_sealed("key/OTHER", &sealed), Err(Unsealable));
        assert_eq!(Sealer::with_key([8; KEY_LEN]).open_sealed("key/AKID", &sealed), Err(Unsealable));
        for damaged in ["", "AAAA", "not base64!", &sealed[..sealed.len() - 4]] {
            assert_eq!(sealer.open_sealed("key/AKID", damaged), Err(Unsealable), "{damaged:?}");
        }
    }

    #[test]
    fn the_key_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret-key");
        let sealed = Sealer::open(&path).unwrap().seal("c", b"hush");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Sealer::open(&path).unwrap().open_sealed("c", &sealed).unwrap(), b"hush");
        std::fs::write(&path, b"short").unwrap();
        assert!(Sealer::open(&path).unwrap_err().to_string().contains("5 bytes"));
    }
}
