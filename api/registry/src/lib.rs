//! Images by name and digest: the content of the built-in registry, and the one place that turns an
//! `image` string of a task definition into a file on this machine.
//!
//! An image is a WebAssembly binary. Its bytes are kept once, by content, under their sha256; a name
//! such as `acme/web` is a small record that says which digests were pushed under it and which tags
//! point at them. Both are plain files, so that a person can look at them, and each is replaced
//! atomically and synced before a push is acknowledged.
//!
//! What this crate deliberately does not know: ECS, tasks, HTTP, and what a component exports or
//! imports. It only looks at the first bytes of a file, to tell a Wasm binary from the things people
//! push by mistake. Everything here blocks on the disk: callers on an async runtime use
//! `spawn_blocking`.

mod digest;
mod error;
mod file_url;
mod reference;
mod resolve;
mod sniff;
mod storage;

pub use digest::digest_file;
pub use error::{PullError, RegistryError};
pub use reference::{Digest, ImageReference, ReferenceError};
pub use resolve::ResolvedImage;
pub use storage::{ImageEntry, Pushed, Registry};

/// The largest image that can be pushed or resolved, in bytes (512 MiB). Components are a few
/// megabytes; the bound keeps a mistyped path from being hashed for minutes.
pub const MAX_IMAGE_BYTES: u64 = 512 * 1024 * 1024;

/// The most tags and the most digests one name can hold. Pushing past it is refused.
pub const MAX_VERSIONS_PER_NAME: usize = 10_000;
