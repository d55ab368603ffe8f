//! `file:` images: a path on this machine, written as a URL.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// The longest accepted URL, in bytes; Linux's own bound on a path.
const URL_BYTES_MAX: usize = 4096;

/// The absolute path a `file:` image names. `%XX` is decoded; `?` and `#` are ordinary characters,
/// because a path has neither a query nor a fragment. The error says what is wrong, to follow the image.
pub(crate) fn parse(image: &str) -> Option<Result<PathBuf, String>> {
    Some(parse_path(image.strip_prefix("file:")?, image.len()))
}

fn parse_path(rest: &str, bytes: usize) -> Result<PathBuf, String> {
    if bytes > URL_BYTES_MAX {
        return Err(format!("it is {bytes} bytes long; at most {URL_BYTES_MAX} are allowed"));
    }
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(authority_and_path) => {
            let path_start = authority_and_path.find('/').unwrap_or(authority_and_path.len());
            let (host, path) = authority_and_path.split_at(path_start);
            if !host.is_empty() && host != "localhost" {
                return Err(format!(
                    "{host:?} stands where a host would; a file image is on this machine: write file:///ABSOLUTE/PATH"
                ));
            }
            path
        }
    };
    if !path.starts_with('/') {
        return Err("its path is not absolute; write file:///ABSOLUTE/PATH".to_owned());
    }
    let decoded = percent_decode(path)?;
    if decoded.contains(&0) {
        return Err("its path contains a NUL byte".to_owned());
    }
    Ok(PathBuf::from(OsString::from_vec(decoded)))
}

fn percent_decode(text: &str) -> Result<Vec<u8>, String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'%' {
            decoded.push(byte);
            rest = tail;
            continue;
        }
        let mut value = [0];
        match tail.get(..2).map(|digits| hex::decode_to_slice(digits, &mut value)) {
            Some(Ok(())) => decoded.push(value[0]),
            _ => {
                return Err(
                    "a '%' in it is not followed by two hexadecimal digits; write a plain '%' as %25"
                        .to_owned(),
                );
            }
        }
        rest = &tail[2..];
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn path(image: &str) -> String {
        parse(image).unwrap().unwrap().into_os_string().into_string().unwrap()
    }

    #[test]
    fn paths() {
        assert_eq!(parse("web:latest"), None);
        assert_eq!(path("file:///srv/x.wasm"), "/srv/x.wasm");
        assert_eq!(path("file:/srv/x.wasm"), "/srv/x.wasm");
        assert_eq!(path("file://localhost/srv/x.wasm"), "/srv/x.wasm");
        assert_eq!(path("file:///srv/my%20app%2b%C3%A9.wasm"), "/srv/my app+é.wasm");
        assert_eq!(path("file:///a?b#c"), "/a?b#c");
    }

    #[test]
    fn what_is_not_a_path_on_this_machine() {
        for (image, expected) in [
            ("file:x.wasm", "not absolute"),
            ("file://", "not absolute"),
            ("file:", "not absolute"),
            ("file://x.wasm", "where a host would"),
            ("file://example.com/x.wasm", "where a host would"),
            ("file:///a%zz", "%25"),
            ("file:///a%4", "%25"),
            ("file:///a%", "%25"),
            ("file:///a%00b", "NUL"),
        ] {
            let error = parse(image).unwrap().unwrap_err();
            assert!(error.contains(expected), "{image}: {error}");
        }
        assert!(parse(&format!("file:///{}", "a".repeat(5000))).unwrap().unwrap_err().contains("5008 bytes"));
    }
}
