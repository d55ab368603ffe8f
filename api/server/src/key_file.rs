//! Keys of a data directory: made once, kept in a file that only its owner may read.

use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rand::Rng as _;

/// Bytes of a key.
pub(crate) const KEY_LEN: usize = 32;

/// The key in the file at `path`, which is made with a new one if there is none.
///
/// # Errors
///
/// When the file cannot be read or written, or holds something else than a key.
pub fn open_key(path: &Path) -> io::Result<[u8; KEY_LEN]> {
    let key = match std::fs::read(path) {
        Ok(key) => key,
        Err(error) if error.kind() == ErrorKind::NotFound => return create(path),
        Err(error) => return Err(error),
    };
    <[u8; KEY_LEN]>::try_from(key.as_slice()).map_err(|_| {
        let found = key.len();
        let text = format!("{} holds {found} bytes, not a key of {KEY_LEN}", path.display());
        io::Error::new(ErrorKind::InvalidData, text)
    })
}

/// Makes the file whole or not at all: a crash in between must not leave half a key behind.
fn create(path: &Path) -> io::Result<[u8; KEY_LEN]> {
    let key: [u8; KEY_LEN] = rand::rng().random();
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(&key)?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(key)
}
