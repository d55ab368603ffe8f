//! Filter patterns for unstructured events: CloudWatch Logs' term syntax.
//!
//! | pattern | matches messages that |
//! |---|---|
//! | `ERROR timeout` | contain both terms |
//! | `"connection refused"` | contain the phrase (`\"` and `\\` stand for a quote and a backslash) |
//! | `ERROR -retry` | contain the first and not the second |
//! | `?ERROR ?WARN` | contain at least one |
//!
//! Terms are found anywhere in the message and are case-sensitive. As with AWS, `?` terms beside others
//! have no effect. JSON (`{ $.x = 1 }`), space-delimited (`[a, b]`) and regular-expression (`%…%`) patterns
//! are refused.

use std::str::FromStr;

use crate::error::LogsError;

/// The longest pattern, in bytes; AWS's bound.
const PATTERN_BYTES_MAX: usize = 1024;

/// A parsed filter pattern. The default matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterPattern {
    required: Vec<String>,
    excluded: Vec<String>,
    optional: Vec<String>,
}

impl FilterPattern {
    /// Whether the pattern selects this message.
    pub fn matches(&self, message: &str) -> bool {
        let is_in_message = |term: &String| message.contains(term.as_str());
        if self.required.is_empty() && self.excluded.is_empty() && !self.optional.is_empty() {
            return self.optional.iter().any(is_in_message);
        }
        self.required.iter().all(is_in_message) && !self.excluded.iter().any(is_in_message)
    }
}

impl FromStr for FilterPattern {
    type Err = LogsError;

    /// Parses a pattern; an empty one matches everything.
    fn from_str(text: &str) -> Result<Self, LogsError> {
        if text.len() > PATTERN_BYTES_MAX {
            let bytes = text.len();
            return Err(invalid(&format!(
                "it is {bytes} bytes long; at most {PATTERN_BYTES_MAX} are allowed"
            )));
        }
        let mut rest = text.trim();
        let unsupported = match rest.chars().next() {
            Some('{') => Some("JSON patterns ({ $.field = … })"),
            Some('[') => Some("space-delimited patterns ([field, …])"),
            Some('%') => Some("regular expressions (%…%)"),
            _ => None,
        };
        if let Some(what) = unsupported {
            return Err(invalid(&format!(
                "{what} are not supported here; use terms (ERROR -retry), \"phrases\" or ?alternatives, and quote a \
                 term that starts with such a character"
            )));
        }
        let mut pattern = Self::default();
        while !rest.is_empty() {
            let (terms, after_sign) = match rest.as_bytes()[0] {
                b'-' => (&mut pattern.excluded, &rest[1..]),
                b'?' => (&mut pattern.optional, &rest[1..]),
                _ => (&mut pattern.required, rest),
            };
            let (term, after_term) = take_term(after_sign)?;
            terms.push(term);
            rest = after_term.trim_start();
        }
        Ok(pattern)
    }
}

/// The term at the start of the text, and what follows it.
fn take_term(text: &str) -> Result<(String, &str), LogsError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (term, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
        if term.is_empty() {
            return Err(invalid("a '-' or '?' in it is not followed by a term; quote it to search for it"));
        }
        return Ok((term.to_owned(), rest));
    };
    let mut phrase = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((phrase, &quoted[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => phrase.push(escaped),
                Some((_, other)) => phrase.extend(['\\', other]),
                None => break,
            },
            _ => phrase.push(c),
        }
    }
    Err(invalid("a quote in it is not closed"))
}

fn invalid(reason: &str) -> LogsError {
    LogsError::InvalidParameter(format!("Invalid filter pattern: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let parsed: FilterPattern = pattern.parse().unwrap();
        for message in matching {
            assert!(parsed.matches(message), "{pattern} should match {message}");
        }
        for message in others {
            assert!(!parsed.matches(message), "{pattern} should not match {message}");
        }
    }

    #[test]
    fn terms() {
        check("", &["", "anything"], &[]);
        check("   ", &["", "anything"], &[]);
        check("ERROR", &["ERROR", "an ERROR.", "[ERROR]"], &["", "error"]);
        check("ERROR timeout", &["timeout ERROR"], &["ERROR", "timeout"]);
        check(
            r#""connection refused""#,
            &["x: connection refused"],
            &["connection  refused", "refused connection"],
        );
        check("-retry", &["", "ERROR"], &["ERROR retry"]);
        check(r#"ERROR -"will retry""#, &["ERROR retry"], &["ERROR will retry", "x"]);
        check("?ERROR ?WARN", &["ERROR", "a WARN"], &["INFO", ""]);
        check("?ERROR WARN", &["WARN"], &["ERROR"]);
        check(r#""say \"hi\" \\ \d""#, &[r#"say "hi" \ \d"#], &["say hi"]);
        check(r#""{a}""#, &["x{a}"], &["a"]);
        check(r#"a"b c"#, &[r#"a"b c"#], &["a c"]);
        check("8.8.8.8:53 a=b", &["to 8.8.8.8:53 a=b"], &["a=b"]);
    }

    #[test]
    fn what_is_not_supported_says_so() {
        for (pattern, expected) in [
            ("{ $.status = 500 }", "JSON"),
            ("[ip, user, status=5*]", "space-delimited"),
            ("%ERR.*%", "regular expressions"),
            ("\"open", "not closed"),
            ("\"open\\", "not closed"),
            ("a -", "not followed"),
            ("? b", "not followed"),
            (&"a".repeat(1025), "1025 bytes"),
        ] {
            let error = pattern.parse::<FilterPattern>().unwrap_err();
            assert!(matches!(error, LogsError::InvalidParameter(_)));
            assert!(error.to_string().contains(expected), "{pattern}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(pattern in ".{0,40}", message in ".{0,40}") {
            if let Ok(pattern) = pattern.parse::<FilterPattern>() {
                pattern.matches(&message);
            }
        }

        #[test]
        fn a_quoted_phrase_is_found_literally(phrase in r#"[a-c"\\ -]{1,6}"#, message in r#"[a-c"\\ -]{0,12}"#) {
            let quoted = format!("\"{}\"", phrase.replace('\\', "\\\\").replace('"', "\\\""));
            let parse = |pattern: String| pattern.parse::<FilterPattern>().unwrap();
            let is_inside = message.contains(&phrase);
            prop_assert_eq!(parse(quoted.clone()).matches(&message), is_inside);
            prop_assert_eq!(parse(format!("-{quoted}")).matches(&message), !is_inside);
            prop_assert_eq!(parse(format!("?{quoted} ?{quoted}")).matches(&message), is_inside);
        }
    }
}
