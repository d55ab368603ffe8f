//! Wildcards as IAM has them: `*` for any characters, none included, and `?` for exactly one.

/// Whether all of `text` matches `pattern`. Takes at most time in proportion to the product of their
/// lengths: only the last `*` is ever tried again.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut seen) = (0, 0);
    // The last star, and how far the text was when it had matched nothing more.
    let mut star: Option<(usize, usize)> = None;
    while seen < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, seen));
                at += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[seen] => {
                at += 1;
                seen += 1;
            }
            _ => match &mut star {
                Some((star_at, star_seen)) => {
                    *star_seen += 1;
                    (at, seen) = (*star_at + 1, *star_seen);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("ecs:*", "ecs:RunTask", true),
            ("ecs:*", "iam:ecs:RunTask", false),
            ("a*b*c", "a__b__b_c", true),
            ("a*b*c", "a__b__b_", false),
            ("*/prod/*", "service/prod/web", true),
            ("*/prod/*", "service/production/web", false),
            ("**x**", "x", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(500), &"b".repeat(5_000)));
    }
}
