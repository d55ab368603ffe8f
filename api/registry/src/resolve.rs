//! From an `image` string to a file on this machine.

use std::path::PathBuf;

use crate::error::PullError;
use crate::file_url;
use crate::reference::ImageReference;
use crate::storage::{Record, Registry};

/// An image on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedImage {
    /// `sha256:` and the hexadecimal digest of the file's bytes.
    pub digest: String,
    /// Where the bytes are. A pushed image's file never changes; a `file:` image is the user's own file
    /// and may: whoever reads it later and depends on the digest must check it.
    pub path: PathBuf,
    /// Size in bytes.
    pub size: u64,
}

impl Registry {
    /// Finds an image: `file:///absolute/path.wasm` on this machine, or `NAME[:TAG]` and
    /// `NAME@sha256:DIGEST` among what was pushed (the tag is `latest` unless said otherwise). Blocks: a
    /// `file:` image is hashed the first time, and again whenever it has changed.
    ///
    /// # Errors
    ///
    /// A [`PullError`], whose text is meant for the user.
    pub fn resolve(&self, image: &str) -> Result<ResolvedImage, PullError> {
        if let Some(path) = file_url::parse(image) {
            let path = path.map_err(|reason| PullError::InvalidFileUrl { image: shorten(image), reason })?;
            let (digest, size) = self.files.digest_of(image, &path)?;
            return Ok(ResolvedImage { digest: digest.to_string(), path, size });
        }
        let reference = ImageReference::parse(image)
            .map_err(|reason| PullError::InvalidReference { image: shorten(image), reason })?;
        self.resolve_reference(&reference)
    }

    fn resolve_reference(&self, reference: &ImageReference) -> Result<ResolvedImage, PullError> {
        let name = reference.name();
        let record = self.record(name).map_err(|error| PullError::Lookup {
            image: reference.to_string(),
            reason: with_causes(&error),
        })?;
        let Some(record) = record else {
            let image = match reference.effective_tag() {
                Some(tag) => format!("{name}:{tag}"),
                None => name.to_owned(),
            };
            return Err(PullError::NotInRegistry { image });
        };
        let tagged = match reference.effective_tag() {
            None => None,
            Some(tag) => match record.tags.get(tag) {
                Some(to) => Some((tag, to.digest)),
                None => {
                    let (name, tag, known) = (name.to_owned(), tag.to_owned(), known_tags(&record));
                    return Err(PullError::NoSuchTag { name, tag, known });
                }
            },
        };
        let digest = match (tagged, reference.digest()) {
            (Some((tag, actual)), Some(expected)) if actual != expected => {
                let (name, tag) = (name.to_owned(), tag.to_owned());
                return Err(PullError::TagMoved { name, tag, expected, actual });
            }
            (_, Some(digest)) | (Some((_, digest)), None) => digest,
            (None, None) => unreachable!("a reference without a digest has an effective tag"),
        };
        let Some(known) = record.digests.get(&digest) else {
            return Err(PullError::NoSuchDigest { name: name.to_owned(), digest });
        };
        let path = self.blob_path(&digest);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() && metadata.len() == known.size => {
                Ok(ResolvedImage { digest: digest.to_string(), path, size: known.size })
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(PullError::io("read", &path)(error))
            }
            _ => Err(PullError::Damaged { image: reference.to_string(), path }),
        }
    }
}

fn known_tags(record: &Record) -> String {
    const SHOWN_MAX: usize = 5;
    let tags: Vec<&str> = record.tags.keys().map(String::as_str).collect();
    match tags.len() {
        0 => "it has no tags".to_owned(),
        count if count > SHOWN_MAX => {
            format!("it has {}, and {} more", tags[..SHOWN_MAX].join(", "), count - SHOWN_MAX)
        }
        _ => format!("it has {}", tags.join(", ")),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn shorten(text: &str) -> String {
    text.chars().take(100).collect()
}
