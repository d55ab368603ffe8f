//! CBOR (RFC 8949), as far as Smithy's RPC v2 uses it: to and from the JSON values everything here works with.
//!
//! The two can't say the same things. Moments are tagged in CBOR and numbers in JSON: in, the tag is dropped; out,
//! members whose names end in `Timestamp` or `Timestamps` get it, which is what all moments in the models spoken here are
//! called. Bytes, numbers that are none, and numbers larger than 64 bits mean nothing in these models and are refused.

use serde_json::{Map, Number, Value};

/// How deep lists and maps may be nested.
const DEPTH_MAX: usize = 32;
/// A moment, in seconds since the Unix epoch.
const EPOCH_TAG: u64 = 1;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;
/// The end of a list, map or text of no stated length.
const BREAK: u8 = 0xff;

/// Why bytes are not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// They end too soon.
    #[error("it ends within a value")]
    Short,
    /// There is more behind the value.
    #[error("{0} bytes are left behind its end")]
    Long(usize),
    /// It is nested too deep.
    #[error("it is nested deeper than {DEPTH_MAX} levels")]
    Deep,
    /// Something that has no place here.
    #[error("at byte {at} there is {what}")]
    Unexpected {
        /// Where it begins.
        at: usize,
        /// What it is.
        what: &'static str,
    },
}

/// Reads one value, of which `bytes` has to be all.
///
/// # Errors
/// When it is not CBOR, or has something in it that JSON does not have.
pub fn decode(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Reader { bytes, at: 0 };
    let value = reader.value(DEPTH_MAX)?;
    match bytes.len() - reader.at {
        0 => Ok(value),
        left => Err(CborError::Long(left)),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: u64) -> Result<&'a [u8], CborError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or(CborError::Short)?;
        self.at += taken.len();
        Ok(taken)
    }

    fn unexpected<T>(&self, begin: usize, what: &'static str) -> Result<T, CborError> {
        Err(CborError::Unexpected { at: begin, what })
    }

    /// Whether the next byte ends something of no stated length; takes it if so.
    fn ends(&mut self) -> Result<bool, CborError> {
        let ends = *self.bytes.get(self.at).ok_or(CborError::Short)? == BREAK;
        self.at += usize::from(ends);
        Ok(ends)
    }

    /// The head of a value: its kind, its lower five bits, and its number; None for no stated length.
    fn head(&mut self) -> Result<(u8, u8, Option<u64>), CborError> {
        let begin = self.at;
        let &[first] = self.take(1)? else { return Err(CborError::Short) };
        let (kind, low) = (first >> 5, first & 0x1f);
        let number = match low {
            0..=23 => Some(u64::from(low)),
            24..=27 => {
                let more = self.take(1 << (low - 24))?;
                Some(more.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
            }
            31 => None,
            _ => return self.unexpected(begin, "a reserved kind of number"),
        };
        Ok((kind, low, number))
    }

    fn value(&mut self, levels: usize) -> Result<Value, CborError> {
        let begin = self.at;
        let (kind, low, number) = self.head()?;
        match (kind, number) {
            (UNSIGNED, Some(number)) => Ok(number.into()),
            (NEGATIVE, Some(number)) => match i64::try_from(number) {
                Ok(number) => Ok((-1 - number).into()),
                Err(_) => self.unexpected(begin, "a number of more than 64 bits"),
            },
            (TEXT, length) => Ok(Value::String(self.text(begin, length)?)),
            (LIST, length) => self.list(length, levels),
            (MAP, length) => self.map(length, levels),
            (TAG, Some(EPOCH_TAG)) => match self.value(levels.checked_sub(1).ok_or(CborError::Deep)?)? {
                Value::Number(moment) => Ok(Value::Number(moment)),
                _ => self.unexpected(begin, "a moment that is no number"),
            },
            (TAG, _) => self.unexpected(begin, "a tag that means nothing here"),
            (SIMPLE, Some(bits)) => self.simple(begin, low, bits),
            (SIMPLE, None) => self.unexpected(begin, "an end of nothing"),
            _ => self.unexpected(begin, "a byte string, or a number without a length"),
        }
    }

    fn text(&mut self, begin: usize, length: Option<u64>) -> Result<String, CborError> {
        let mut bytes = Vec::new();
        match length {
            Some(length) => bytes.extend_from_slice(self.take(length)?),
            None => {
                while !self.ends()? {
                    let (TEXT, _, Some(length)) = self.head()? else {
                        return self.unexpected(begin, "a text of other things than texts");
                    };
                    bytes.extend_from_slice(self.take(length)?);
                }
            }
        }
        String::from_utf8(bytes).or_else(|_| self.unexpected(begin, "a text that is not UTF-8"))
    }

    fn list(&mut self, length: Option<u64>, levels: usize) -> Result<Value, CborError> {
        let levels = levels.checked_sub(1).ok_or(CborError::Deep)?;
        let mut items = Vec::new();
        let mut left = length;
        while self.has_more(&mut left)? {
            items.push(self.value(levels)?);
        }
        Ok(Value::Array(items))
    }

    fn map(&mut self, length: Option<u64>, levels: usize) -> Result<Value, CborError> {
        let levels = levels.checked_sub(1).ok_or(CborError::Deep)?;
        let mut members = Map::new();
        let mut left = length;
        while self.has_more(&mut left)? {
            let begin = self.at;
            let (TEXT, _, length) = self.head()? else {
                return self.unexpected(begin, "the name of a member that is no text");
            };
            let name = self.text(begin, length)?;
            members.insert(name, self.value(levels)?);
        }
        Ok(Value::Object(members))
    }

    /// Whether a list or map goes on. What it says of its length is no reason to make room for it.
    fn has_more(&mut self, left: &mut Option<u64>) -> Result<bool, CborError> {
        match left {
            None => Ok(!self.ends()?),
            Some(0) => Ok(false),
            Some(count) => {
                *count -= 1;
                Ok(true)
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as many bits as were read")]
    fn simple(&self, begin: usize, low: u8, bits: u64) -> Result<Value, CborError> {
        let float = match low {
            20 => return Ok(Value::Bool(false)),
            21 => return Ok(Value::Bool(true)),
            // Undefined, too.
            22 | 23 => return Ok(Value::Null),
            25 => half(bits as u16),
            26 => f64::from(f32::from_bits(bits as u32)),
            27 => f64::from_bits(bits),
            _ => return self.unexpected(begin, "a simple value that means nothing here"),
        };
        match Number::from_f64(float) {
            Some(number) => Ok(Value::Number(number)),
            None => self.unexpected(begin, "a number that is none, or without bounds"),
        }
    }
}

/// A float of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2.0_f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2.0_f64.powi(exponent - 25),
    }
}

/// Writes a value.
#[must_use]
pub fn encode(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, value, false);
    bytes
}

/// Writes a value; its numbers as moments, if it is one or a list of them.
fn write(bytes: &mut Vec<u8>, value: &Value, moments: bool) {
    match value {
        Value::Null => bytes.push(SIMPLE << 5 | 22),
        Value::Bool(value) => bytes.push(SIMPLE << 5 | if *value { 21 } else { 20 }),
        Value::Number(number) => {
            if moments {
                head(bytes, TAG, EPOCH_TAG);
            }
            match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => head(bytes, UNSIGNED, number),
                (None, Some(number), _) => head(bytes, NEGATIVE, number.unsigned_abs() - 1),
                (None, None, float) => {
                    bytes.push(SIMPLE << 5 | 27);
                    bytes.extend_from_slice(&float.unwrap_or_default().to_be_bytes());
                }
            }
        }
        Value::String(text) => write_text(bytes, text),
        Value::Array(items) => {
            head(bytes, LIST, items.len() as u64);
            items.iter().for_each(|item| write(bytes, item, moments));
        }
        Value::Object(members) => {
            head(bytes, MAP, members.len() as u64);
            for (name, member) in members {
                write_text(bytes, name);
                write(bytes, member, name.ends_with("Timestamp") || name.ends_with("Timestamps"));
            }
        }
    }
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    head(bytes, TEXT, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

fn head(bytes: &mut Vec<u8>, kind: u8, number: u64) {
    let written = number.to_be_bytes();
    let (low, length) = match number {
        0..24 => (written[7], 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    bytes.push(kind << 5 | low);
    bytes.extend_from_slice(&written[8 - length..]);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    /// From the examples of RFC 8949.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        for (encoded, value) in [
            ("00", json!(0)),
            ("17", json!(23)),
            ("1818", json!(24)),
            ("1903e8", json!(1000)),
            ("1bffffffffffffffff", json!(u64::MAX)),
            ("3863", json!(-100)),
            ("f90000", json!(0.0)),
            ("f93c00", json!(1.0)),
            ("f93e00", json!(1.5)),
            ("f90001", json!(5.960_464_477_539_063e-8)),
            ("f9c400", json!(-4.0)),
            ("fa47c35000", json!(100_000.0)),
            ("fb3ff199999999999a", json!(1.1)),
            ("f4", json!(false)),
            ("f6", json!(null)),
            ("f7", json!(null)),
            ("c11a514b67b0", json!(1_363_896_240)),
            ("c1fb41d452d9ec200000", json!(1_363_896_240.5)),
            ("6449455446", json!("IETF")),
            ("62c3bc", json!("ü")),
            ("83010203", json!([1, 2, 3])),
            ("a26161016162820203", json!({"a": 1, "b": [2, 3]})),
            ("7f657374726561646d696e67ff", json!("streaming")),
            ("9f018202039f0405ffff", json!([1, [2, 3], [4, 5]])),
            ("bf61610161629f0203ffff", json!({"a": 1, "b": [2, 3]})),
        ] {
            assert_eq!(decode(&bytes(encoded)), Ok(value), "{encoded}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_moments_are_tagged() {
        let value = json!({
            "Name": "x".repeat(300), "Count": 65_536, "Less": -1, "Threshold": 5.0, "Is": true, "None": null,
            "StateUpdatedTimestamp": 1.5, "Timestamps": [1, 2], "List": [{"Timestamp": 7.0}, i64::MIN],
        });
        let written = encode(&value);
        assert_eq!(decode(&written), Ok(value));
        let tagged = |text: &str| hex::encode(&written).contains(text);
        assert!(tagged(&format!("{}c1fb", hex::encode("StateUpdatedTimestamp"))));
        assert!(tagged(&format!("{}82c101c102", hex::encode("Timestamps"))));
        assert!(tagged(&format!("{}fb4014000000000000", hex::encode("Threshold"))), "a float that is whole");
    }

    #[test]
    fn what_is_broken_is_refused() {
        for (encoded, says) in [
            ("", "ends within"),
            ("18", "ends within"),
            ("6449", "ends within"),
            ("7bffffffffffffffff", "ends within"),
            ("9bffffffffffffffff00", "ends within"),
            ("9f01", "ends within"),
            ("0000", "1 bytes are left"),
            ("4161", "byte string"),
            ("5f", "byte string"),
            ("f97e00", "number that is none"),
            ("f97c00", "number that is none"),
            ("3bffffffffffffffff", "64 bits"),
            ("c249010000000000000000", "a tag"),
            ("c16161", "a moment that is no number"),
            ("a10102", "the name of a member"),
            ("61ff", "not UTF-8"),
            ("7f01ff", "other things"),
            ("ff", "an end of nothing"),
            ("1c", "reserved"),
            ("e0", "simple value"),
        ] {
            let error = decode(&bytes(encoded)).unwrap_err().to_string();
            assert!(error.contains(says), "{encoded}: {error}");
        }
        assert_eq!(decode(&[0x81; 100_000]), Err(CborError::Deep));
        assert_eq!(decode(&[0xc1; 100_000]), Err(CborError::Deep));
    }
}
