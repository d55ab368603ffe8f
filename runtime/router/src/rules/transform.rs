//! Rewrites of host and URL. Pure.

use regex::bytes::Regex;

use super::condition::regex;
use super::wildcard::Case;
use crate::model::{Rewrite, RuleError, Transform};

/// The rewrites of one rule.
#[derive(Debug, Default)]
pub(crate) struct Rewrites {
    host: Box<[Replacement]>,
    url: Box<[Replacement]>,
}

#[derive(Debug)]
struct Replacement {
    regex: Regex,
    with: Box<[u8]>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rewritten {
    pub(crate) host: Option<Vec<u8>>,
    /// Path and query.
    pub(crate) url: Option<Vec<u8>>,
}

impl Rewrites {
    pub(super) fn compile(transforms: &[Transform]) -> Result<Self, RuleError> {
        let (mut host, mut url) = (Vec::new(), Vec::new());
        for transform in transforms {
            match transform {
                Transform::HostHeader(rewrites) => compile_into(&mut host, rewrites)?,
                Transform::Url(rewrites) => compile_into(&mut url, rewrites)?,
            }
        }
        Ok(Self { host: host.into(), url: url.into() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.host.is_empty() && self.url.is_empty()
    }

    /// Rewrites the host, as the request has it, and the URL: path and query.
    pub(crate) fn apply(&self, host: &[u8], url: &[u8]) -> Rewritten {
        Rewritten { host: rewrite(&self.host, host), url: rewrite(&self.url, url) }
    }
}

fn compile_into(into: &mut Vec<Replacement>, rewrites: &[Rewrite]) -> Result<(), RuleError> {
    if rewrites.is_empty() {
        return Err(RuleError::NoValues);
    }
    for rewrite in rewrites {
        let regex = regex(&rewrite.regex, Case::Exact)?;
        into.push(Replacement { regex, with: braced(&rewrite.replace).into() });
    }
    Ok(())
}

/// The replacement in the notation of the regex crate, which would read `$1abc` as a group of that name.
fn braced(replace: &str) -> Vec<u8> {
    let mut braced = Vec::with_capacity(replace.len() + 8);
    let mut bytes = replace.bytes().peekable();
    while let Some(byte) = bytes.next() {
        braced.push(byte);
        if byte != b'$' {
            continue;
        }
        match bytes.peek() {
            Some(digit) if digit.is_ascii_digit() => {
                braced.push(b'{');
                while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                    braced.push(digit);
                }
                braced.push(b'}');
            }
            Some(b'{') => {}
            // A dollar that stands for itself.
            _ => braced.push(b'$'),
        }
    }
    braced
}

fn rewrite(replacements: &[Replacement], text: &[u8]) -> Option<Vec<u8>> {
    let replacement = replacements.iter().find(|replacement| replacement.regex.is_match(text))?;
    Some(replacement.regex.replace(text, &*replacement.with).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(regex: &str, replace: &str, text: &str) -> Option<String> {
        let rewrite = Rewrite { regex: regex.to_owned(), replace: replace.to_owned() };
        let rewrites = Rewrites::compile(&[Transform::Url(vec![rewrite])]).unwrap();
        rewrites.apply(b"", text.as_bytes()).url.map(|url| String::from_utf8(url).unwrap())
    }

    #[test]
    fn groups_are_put_in_place() {
        assert_eq!(url("^/api/(.*)$", "/$1", "/api/users?x=1").as_deref(), Some("/users?x=1"));
        assert_eq!(url("^/(v[0-9])/(.*)", "/$2/$1abc", "/v1/x").as_deref(), Some("/x/v1abc"));
        assert_eq!(url("/old", "/new${0}$", "/old/old").as_deref(), Some("/new/old$/old"));
        assert_eq!(url("^/api", "/", "/other"), None);
    }

    #[test]
    fn the_first_rewrite_that_matches_is_done() {
        let rewrite = |regex: &str, replace: &str| Rewrite { regex: regex.into(), replace: replace.into() };
        let hosts =
            vec![rewrite("^no", "x"), rewrite(r"^(.*)\.example\.com$", "$1.internal"), rewrite("a", "b")];
        let rewrites = Rewrites::compile(&[Transform::HostHeader(hosts)]).unwrap();
        let rewritten = rewrites.apply(b"a.example.com", b"/");
        assert_eq!(rewritten, Rewritten { host: Some(b"a.internal".to_vec()), url: None });
        assert!(Rewrites::compile(&[Transform::Url(vec![])]).is_err());
        assert!(Rewrites::default().is_empty());
    }
}
