//! Patterns with `*` and `?`, as conditions have them. Pure.

/// A pattern, split into what is compared at once and what has to be searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wildcard {
    /// The literal bytes before the first wildcard; lower-case if case is ignored.
    prefix: Box<[u8]>,
    rest: Box<[Token]>,
    /// The literal bytes after the last wildcard: most texts that don't match are told by them.
    suffix: Box<[u8]>,
    case: Case,
}

/// Whether upper and lower case are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Exact,
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any one character; texts are ASCII, where that is a byte.
    One,
    /// Any characters, or none.
    Many,
}

impl Wildcard {
    pub(super) fn new(pattern: &str, case: Case) -> Self {
        Self::from_tokens(pattern.bytes().map(token), case)
    }

    /// A pattern in which a backslash makes a wildcard, or a backslash, mean itself.
    pub(super) fn with_escapes(pattern: &str, case: Case) -> Self {
        let mut bytes = pattern.bytes().peekable();
        let tokens = std::iter::from_fn(move || {
            let byte = bytes.next()?;
            let escaped = if byte == b'\\' { bytes.next_if(|next| br"*?\".contains(next)) } else { None };
            Some(escaped.map_or_else(|| token(byte), Token::Byte))
        });
        Self::from_tokens(tokens, case)
    }

    fn from_tokens(tokens: impl Iterator<Item = Token>, case: Case) -> Self {
        let fold = |byte: u8| if case == Case::Ignored { byte.to_ascii_lowercase() } else { byte };
        let (mut prefix, mut rest) = (Vec::new(), Vec::new());
        for token in tokens {
            match token {
                Token::Byte(byte) if rest.is_empty() => prefix.push(fold(byte)),
                Token::Byte(byte) => rest.push(Token::Byte(fold(byte))),
                // Stars in a row are one; the search would try each of them.
                Token::Many if rest.last() == Some(&Token::Many) => {}
                wildcard => rest.push(wildcard),
            }
        }
        let literals = rest.iter().rev().map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Many => None,
        });
        let mut suffix: Vec<u8> = literals.collect();
        suffix.reverse();
        Self { prefix: prefix.into(), rest: rest.into(), suffix: suffix.into(), case }
    }

    /// What every text that matches begins with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// What every text that matches ends with; nothing if there is no wildcard.
    pub(super) fn suffix(&self) -> &[u8] {
        &self.suffix
    }

    /// The only text that matches, if there is no wildcard.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        self.rest.is_empty().then_some(&*self.prefix)
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        let Some((head, tail)) = text.split_at_checked(self.prefix.len()) else { return false };
        let Some(end) = tail.len().checked_sub(self.suffix.len()) else { return false };
        let is_same = |text: &[u8], literal: &[u8]| match self.case {
            Case::Exact => text == literal,
            Case::Ignored => text.eq_ignore_ascii_case(literal),
        };
        is_same(&tail[end..], &self.suffix)
            && is_same(head, &self.prefix)
            && match *self.rest {
                [] => tail.is_empty(),
                [Token::Many] => true,
                _ => self.search(tail),
            }
    }

    /// Matches greedily from the last star on: a star takes as little as it can, and one more byte each
    /// time that what follows it fails. Earlier stars need not be tried again, as whatever they could
    /// take can be taken by the last one. Time is at most the product of both lengths.
    fn search(&self, text: &[u8]) -> bool {
        let (mut at, mut token) = (0, 0);
        let mut last_star = None;
        while at < text.len() {
            match self.rest.get(token) {
                Some(Token::Many) => {
                    last_star = Some((token, at));
                    token += 1;
                }
                Some(Token::One) => (at, token) = (at + 1, token + 1),
                Some(Token::Byte(byte)) if self.is_same(text[at], *byte) => (at, token) = (at + 1, token + 1),
                _ => {
                    let Some((star, taken)) = last_star else { return false };
                    last_star = Some((star, taken + 1));
                    (at, token) = (taken + 1, star + 1);
                }
            }
        }
        self.rest[token..].iter().all(|token| *token == Token::Many)
    }

    fn is_same(&self, byte: u8, ours: u8) -> bool {
        match self.case {
            Case::Exact => byte == ours,
            Case::Ignored => byte.to_ascii_lowercase() == ours,
        }
    }
}

fn token(byte: u8) -> Token {
    match byte {
        b'*' => Token::Many,
        b'?' => Token::One,
        byte => Token::Byte(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("/img/*", "/img/", true),
            ("/img/*", "/img/a/b.png", true),
            ("/img/*", "/img", false),
            ("/img/*/pics", "/img/a/b/pics", true),
            ("/img/*/pics", "/img/a/pics/x", false),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("/a?c", "/abc", true),
            ("/a?c", "/ac", false),
            ("*a*b", "xaxxbxb", true),
            ("", "", true),
            ("", "x", false),
            ("***", "", true),
            ("/A", "/a", false),
        ] {
            assert_eq!(
                Wildcard::new(pattern, Case::Exact).matches(text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
        assert!(Wildcard::new("WWW.*.Com", Case::Ignored).matches(b"www.EXAMPLE.cOM"));
    }

    #[test]
    fn escapes_make_wildcards_literal() {
        let star = Wildcard::with_escapes(r"a\*b\?\\*", Case::Ignored);
        assert!(star.matches(br"A*B?\anything"));
        assert!(!star.matches(br"axb?\"));
        assert_eq!(Wildcard::with_escapes(r"a\b", Case::Exact).literal(), Some(&br"a\b"[..]));
    }

    /// The definition, which takes exponential time.
    fn defined(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| defined(rest, &text[taken..])),
            ([b'?', pattern @ ..], [_, text @ ..]) => defined(pattern, text),
            ([byte, pattern @ ..], [first, text @ ..]) => byte == first && defined(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let found = Wildcard::new(&pattern, Case::Exact).matches(text.as_bytes());
            prop_assert_eq!(found, defined(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
