//! Policies that were read before: every request of an identity asks the same documents again.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::policy::Policy;

/// More documents than most accounts have; at 6 KiB for the longest this is 12 MiB at worst.
const DOCUMENTS_MAX: usize = 2048;

/// Policies by their documents, so that there is nothing to forget when a document changes: it is another one.
#[derive(Default)]
pub(crate) struct PolicyCache(RwLock<HashMap<Box<str>, Arc<Policy>>>);

impl PolicyCache {
    /// What a document says. One that cannot be read denies everything, because nobody knows what it was meant to
    /// forbid; none can, since documents are checked when they are put.
    pub(super) fn read(&self, document: &str) -> Arc<Policy> {
        if let Some(known) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(document) {
            return Arc::clone(known);
        }
        let policy = Arc::new(Policy::parse(document).unwrap_or_else(|error| {
            tracing::error!(%error, "a stored policy cannot be read; it denies everything");
            Policy::deny_all()
        }));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Those still in use come back with the next requests.
        if known.len() >= DOCUMENTS_MAX {
            known.clear();
        }
        known.insert(document.into(), Arc::clone(&policy));
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_read_once_and_another_is_another() {
        let document = |action: &str| {
            format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Action":"{action}","Resource":"*"}}}}"#
            )
        };
        let cache = PolicyCache::default();
        let first = cache.read(&document("ecs:*"));
        assert!(Arc::ptr_eq(&first, &cache.read(&document("ecs:*"))));
        assert_ne!(first, cache.read(&document("logs:*")));
        assert_eq!(*cache.read("nonsense"), Policy::deny_all());
        for n in 0..2 * DOCUMENTS_MAX {
            cache.read(&document(&format!("ecs:Action{n}")));
        }
        assert!(cache.0.read().unwrap().len() <= DOCUMENTS_MAX);
        assert_eq!(first, cache.read(&document("ecs:*")));
    }
}
