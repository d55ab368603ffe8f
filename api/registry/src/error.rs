//! What can go wrong, in words meant for the person who wrote the image name.

use std::io;
use std::path::{Path, PathBuf};

use crate::reference::{Digest, ImageReference, ReferenceError};

/// Why the registry could not be opened, written, listed or cleared.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The pushed bytes are not a Wasm binary.
    #[error("this is {what}, not a WebAssembly component; nothing was pushed")]
    NotWasm {
        /// What it looks like, as a noun phrase.
        what: String,
    },
    /// The pushed bytes are larger than [`crate::MAX_IMAGE_BYTES`].
    #[error("the image is {bytes} bytes; at most {bytes_max} are accepted")]
    TooLarge {
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// The reference carries a digest, and the bytes have another.
    #[error(
        "{reference} names a digest, but the pushed bytes have {actual}; push by tag, or push the file that has this digest"
    )]
    DigestMismatch {
        /// The reference as pushed.
        reference: ImageReference,
        /// The digest of the pushed bytes.
        actual: Digest,
    },
    /// The name already holds [`crate::MAX_VERSIONS_PER_NAME`] tags or digests.
    #[error("{name} already holds {count_max} versions; push under another name")]
    TooManyVersions {
        /// The name pushed to.
        name: String,
        /// The bound.
        count_max: usize,
    },
    /// A name's record can't be read as what this crate writes.
    #[error("the registry's record {} is damaged; delete it and push its images again", path.display())]
    DamagedRecord {
        /// The record.
        path: PathBuf,
        /// Where it stops making sense.
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl RegistryError {
    /// For `map_err`: an I/O error with what was attempted and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why an image could not be found on this machine. The text is complete by itself (it includes the
/// text of its source) and goes behind `CannotPullContainerError: `.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// Not an image reference.
    #[error("{image:?} is not an image reference: {reason}")]
    InvalidReference {
        /// The text as given, shortened.
        image: String,
        /// What is wrong with it.
        reason: ReferenceError,
    },
    /// Not a usable `file:` URL.
    #[error("{image:?} is not a file image: {reason}")]
    InvalidFileUrl {
        /// The text as given, shortened.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A `file:` image that does not exist.
    #[error("there is no file {}; the path must exist on the machine that runs the task", path.display())]
    NoSuchFile {
        /// The path.
        path: PathBuf,
    },
    /// A `file:` image that is a directory, a device, …
    #[error("{} is {what}, not a file; name the .wasm file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, as a noun phrase.
        what: &'static str,
    },
    /// No image of this name was ever pushed.
    #[error(
        "{image} is not in this registry; Coracle runs WebAssembly components, not Docker images, and pulls from \
         nowhere else: build a component and push it with: coracle push FILE {image}"
    )]
    NotInRegistry {
        /// The reference, with its tag.
        image: String,
    },
    /// The name is known, the tag is not.
    #[error(
        "{name} has no tag {tag:?} in this registry ({known}); push it with: coracle push FILE {name}:{tag}"
    )]
    NoSuchTag {
        /// The name.
        name: String,
        /// The tag asked for.
        tag: String,
        /// Which tags there are, in words.
        known: String,
    },
    /// The name is known, the digest was never pushed under it.
    #[error(
        "{name} has no image {digest} in this registry; push the file that has this digest, or use a tag \
         (coracle images lists what is there)"
    )]
    NoSuchDigest {
        /// The name.
        name: String,
        /// The digest asked for.
        digest: Digest,
    },
    /// Tag and digest are both given and belong to different images.
    #[error(
        "{name}:{tag} is {actual}, not {expected}; the tag was moved: drop the tag or the digest from the image"
    )]
    TagMoved {
        /// The name.
        name: String,
        /// The tag asked for.
        tag: String,
        /// The digest asked for.
        expected: Digest,
        /// The digest the tag points at.
        actual: Digest,
    },
    /// The file is something else.
    #[error(
        "{image} is {what}, not a WebAssembly component; build one (for Rust: --target wasm32-wasip2) and use that"
    )]
    NotWasm {
        /// The image as given.
        image: String,
        /// What it looks like, as a noun phrase.
        what: String,
    },
    /// The file is larger than [`crate::MAX_IMAGE_BYTES`].
    #[error("{image} is {bytes} bytes; at most {bytes_max} are accepted")]
    TooLarge {
        /// The image as given.
        image: String,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        bytes_max: u64,
    },
    /// The file was written to while its digest was computed.
    #[error("{} changed while it was being read; start the task again when its build is done", path.display())]
    Changed {
        /// The path.
        path: PathBuf,
    },
    /// The registry's own copy is missing or has another size.
    #[error("the registry's copy of {image} is damaged ({}); push it again", path.display())]
    Damaged {
        /// The reference.
        image: String,
        /// The blob.
        path: PathBuf,
    },
    /// The registry's record of a name could not be read.
    #[error("cannot look up {image}: {reason}")]
    Lookup {
        /// The reference.
        image: String,
        /// What failed, with its causes.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// What was attempted, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
}

impl PullError {
    /// For `map_err`: an I/O error with what was attempted and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { action, path, reason }
    }
}
