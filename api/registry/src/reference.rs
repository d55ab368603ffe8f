//! Image references as OCI writes them: `[registry[:port]/]path/components[:tag][@sha256:hex]`.

use std::fmt;
use std::str::FromStr;

/// The longest accepted name (registry and path together), in bytes. OCI allows 255; a name is also
/// a file name here, with a suffix, and file systems allow 255.
const NAME_BYTES_MAX: usize = 240;
/// The longest accepted tag, in bytes; OCI's own bound.
const TAG_BYTES_MAX: usize = 128;
/// The longest accepted reference, in bytes: a name, a tag and a digest fit.
const REFERENCE_BYTES_MAX: usize = NAME_BYTES_MAX + 1 + TAG_BYTES_MAX + 1 + "sha256:".len() + 64;

/// The tag meant when a reference names neither a tag nor a digest.
const DEFAULT_TAG: &str = "latest";

/// The sha256 of an image's bytes. Displays as `sha256:` and 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 64 hexadecimal digits without the `sha256:` in front.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let invalid = || ReferenceError::InvalidDigest { digest: shorten(text) };
        let digits = text.strip_prefix("sha256:").ok_or_else(invalid)?;
        // `hex` also takes upper case, which OCI does not: one digest has one spelling.
        if digits.len() != 64 || digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| invalid())?;
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A parsed image reference. No part of it can leave the registry's directory: the grammar has no
/// `..`, no empty components and no absolute paths.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ImageReference {
    name: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageReference {
    /// Parses a reference. A registry's host name is lowercased; everything else must already be as
    /// OCI wants it, because `Web` and `web` being two images would be a trap.
    ///
    /// # Errors
    ///
    /// [`ReferenceError`] names the part that is not well-formed and what is allowed there.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::TooLong { bytes: text.len(), bytes_max: REFERENCE_BYTES_MAX });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the registry's port.
        let path_start = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[path_start..].find(':') {
            Some(colon) => (&rest[..path_start + colon], Some(&rest[path_start + colon + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            validate_tag(tag)?;
        }
        Ok(Self { name: parse_name(name)?, tag: tag.map(str::to_owned), digest })
    }

    /// Registry and path, for example `acme/web` or `registry.example.com:5000/acme/web`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tag as written, if one was.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The tag this reference means: the one written, else `latest`, unless only a digest is given.
    pub fn effective_tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG),
        }
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }
}

impl FromStr for ImageReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no text.
    #[error("it is empty; write an image as NAME:TAG, NAME@sha256:DIGEST or file:///ABSOLUTE/PATH.wasm")]
    Empty,
    /// The whole reference or its name is longer than any real one.
    #[error("it is {bytes} bytes long; at most {bytes_max} are allowed")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// The registry's host or port is malformed.
    #[error("{host:?} is not a registry's host[:port]")]
    InvalidHost {
        /// The part before the first slash.
        host: String,
    },
    /// A component of the path is malformed.
    #[error(
        "{component:?} is not a valid name: use lowercase letters and digits, separated by a single '.', \
         one or two '_', or dashes"
    )]
    InvalidName {
        /// The component between two slashes.
        component: String,
    },
    /// The tag is malformed.
    #[error(
        "{tag:?} is not a valid tag: use up to 128 letters, digits, '_', '.' and '-', not starting with '.' or '-'"
    )]
    InvalidTag {
        /// The part after the colon.
        tag: String,
    },
    /// The digest is malformed.
    #[error("{digest:?} is not a valid digest: write sha256: and 64 lowercase hexadecimal digits")]
    InvalidDigest {
        /// The part after the `@`.
        digest: String,
    },
}

fn parse_name(name: &str) -> Result<String, ReferenceError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(ReferenceError::TooLong { bytes: name.len(), bytes_max: NAME_BYTES_MAX });
    }
    // As in every OCI client: the first component is a registry if it looks like a host.
    let (host, path) = match name.split_once('/') {
        Some((first, path)) if first.contains(['.', ':']) || first.eq_ignore_ascii_case("localhost") => {
            (Some(first), path)
        }
        _ => (None, name),
    };
    for component in path.split('/') {
        if !is_path_component(component) {
            return Err(ReferenceError::InvalidName { component: shorten(component) });
        }
    }
    match host {
        None => Ok(path.to_owned()),
        Some(host) if is_host_and_port(host) => Ok(format!("{}/{path}", host.to_ascii_lowercase())),
        Some(host) => Err(ReferenceError::InvalidHost { host: shorten(host) }),
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends_well = |b: Option<&u8>| b.is_some_and(|&b| is_alphanumeric(b));
    if !ends_well(bytes.first()) || !ends_well(bytes.last()) {
        return false;
    }
    // What stands between two runs of alphanumerics must be exactly one separator.
    bytes
        .split(|&b| is_alphanumeric(b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&b| b == b'-'))
}

fn is_host_and_port(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let port_is_valid = port.is_none_or(|port| {
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    port_is_valid
        && host.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn validate_tag(tag: &str) -> Result<(), ReferenceError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_valid = tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
    if is_valid { Ok(()) } else { Err(ReferenceError::InvalidTag { tag: shorten(tag) }) }
}

/// What an error message repeats of somebody's input.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[track_caller]
    fn check(text: &str, name: &str, tag: Option<&str>, has_digest: bool) {
        let reference = ImageReference::parse(text).unwrap();
        assert_eq!(reference.name(), name);
        assert_eq!(reference.tag(), tag);
        assert_eq!(reference.digest().is_some(), has_digest);
        let again = ImageReference::parse(&reference.to_string()).unwrap();
        assert_eq!(again, reference);
    }

    #[test]
    fn references_as_people_write_them() {
        check("web", "web", None, false);
        check("acme/web:1.4", "acme/web", Some("1.4"), false);
        check("localhost/web", "localhost/web", None, false);
        check("localhost:5000/web:v1", "localhost:5000/web", Some("v1"), false);
        check(
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/web__api:2024-01-01",
            "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/web__api",
            Some("2024-01-01"),
            false,
        );
        check("Registry.Example.com/a/b.c/d--e", "registry.example.com/a/b.c/d--e", None, false);
        check(&format!("web@sha256:{HEX}"), "web", None, true);
        check(&format!("web:1@sha256:{HEX}"), "web", Some("1"), true);
    }

    #[test]
    fn the_tag_meant_when_none_is_written() {
        let tag = |text: &str| ImageReference::parse(text).unwrap().effective_tag().map(str::to_owned);
        assert_eq!(tag("web").as_deref(), Some("latest"));
        assert_eq!(tag("web:1").as_deref(), Some("1"));
        assert_eq!(tag(&format!("web@sha256:{HEX}")), None);
    }

    #[test]
    fn malformed_references_are_refused() {
        use ReferenceError::{Empty, InvalidDigest, InvalidHost, InvalidName, InvalidTag, TooLong};
        let error = |text: &str| ImageReference::parse(text).unwrap_err();
        assert_eq!(error(""), Empty);
        assert!(matches!(error(&"a".repeat(241)), TooLong { bytes: 241, .. }));
        assert!(matches!(error(&"a".repeat(10_000)), TooLong { bytes: 10_000, .. }));
        for text in [
            "..",
            "../web",
            "a/../b",
            "/web",
            "web/",
            "a//b",
            "Web",
            "a_-b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            "a b",
            "ü",
            "a\0b",
            ":tag",
            "@",
            "http://x/y",
        ] {
            assert!(
                matches!(
                    error(text),
                    InvalidName { .. } | InvalidHost { .. } | InvalidTag { .. } | InvalidDigest { .. }
                ),
                "{text}"
            );
        }
        for text in ["web:", "web:.x", "web:-x", "web:a b", "web:a:b"] {
            assert!(matches!(error(text), InvalidTag { .. }), "{text}");
        }
        assert!(matches!(error(&format!("web:{}", "t".repeat(129))), InvalidTag { .. }));
        for text in ["a.b:0/web", "a.b:99999/web", "a.b:+1/web", "-a.b/web", "a..b/web", ":1/web"] {
            assert!(matches!(error(text), InvalidHost { .. }), "{text}");
        }
        for text in ["web@", "web@sha256:12", "web@md5:12"] {
            assert!(matches!(error(text), InvalidDigest { .. }), "{text}");
        }
        assert!(matches!(error(&format!("web@sha256:{}", HEX.to_uppercase())), InvalidDigest { .. }));
    }

    #[test]
    fn error_texts_repeat_only_the_beginning_of_long_input() {
        let text = ImageReference::parse(&format!("web:{}", "é".repeat(120))).unwrap_err().to_string();
        assert!(text.contains('…') && text.len() < 400, "{text}");
    }
}
