//! Dates as signatures carry them: `20261121T090700Z`.

use coracle_types::Timestamp;

/// The moment an ISO 8601 basic date and time in UTC means.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = &bytes[from..to];
        digits
            .iter()
            .all(u8::is_ascii_digit)
            .then(|| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(9, 11)?, number(11, 13)?, number(13, 15)?);
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    valid.then(|| Timestamp((((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March so
/// that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    // 153 days are the five months from March to July, and again from August to December.
    year * 365 + leap_days + (153 * month + 2) / 5 + (day - 1) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse("19700101T000000Z"), Some(Timestamp(0)));
        assert_eq!(parse("20000301T000000Z"), Some(Timestamp(951_868_800_000)));
        assert_eq!(parse("20261121T094625Z"), Some(Timestamp(1_795_254_385_000)));
        for bad in
            ["", "20261121", "20261321T094625Z", "2026112 T094625Z", "20261121T094625", "20261121T254625Z"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
