//! Where components come from.

use std::path::PathBuf;

use futures_util::future::BoxFuture;

/// An image that is on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedImage {
    /// The digest of its content: `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Its file. It stays there, unchanged, for at least as long as the task is starting.
    pub path: PathBuf,
}

/// Fetches images. The registry of this process, or a client of one.
pub trait ImageSource: Send + Sync + 'static {
    /// Makes the image a task definition names available as a file.
    ///
    /// # Errors
    /// The text that belongs behind `CannotPullContainerError: `: which image, and what is wrong with it.
    fn fetch(&self, image: &str) -> BoxFuture<'static, Result<FetchedImage, String>>;
}
