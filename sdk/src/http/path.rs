//! Parts of paths and queries, as text.

/// The text that `%` and two digits stand for; in queries `+` is a blank, too. What is no such thing stays as it is.
pub(super) fn decode(text: &str, plus_is_blank: bool) -> String {
    if !text.contains(['%', '+']) {
        return text.to_owned();
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = (byte == b'%').then(|| digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2)))).flatten();
        match hex {
            Some((high, low)) => {
                // Two hexadecimal digits fit a byte.
                decoded.push(u8::try_from(high * 16 + low).unwrap_or_default());
                at += 3;
                continue;
            }
            None if byte == b'+' && plus_is_blank => decoded.push(b' '),
            None => decoded.push(byte),
        }
        at += 1;
    }
    String::from_utf8(decoded).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone_and_the_rest_is_left() {
        assert_eq!(decode("a%20b%C3%A9", false), "a bé");
        assert_eq!(decode("a+b", true), "a b");
        assert_eq!(decode("a+b", false), "a+b");
        assert_eq!(decode("100%, %zz %4", false), "100%, %zz %4");
        assert_eq!(decode("%ff", false), "\u{fffd}");
    }
}
