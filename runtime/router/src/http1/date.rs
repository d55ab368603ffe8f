//! The date of an answer (RFC 9110, 5.6.7), written once a second by each thread.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::access_log::civil;

/// `Thu, 01 Jan 1970 00:00:00 GMT`.
pub(super) type Date = [u8; 29];

thread_local! {
    /// The last one, with its second.
    static LAST: Cell<(u64, Date)> = const { Cell::new((u64::MAX, [0; 29])) };
}

/// The date now.
pub(super) fn now() -> Date {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (of, date) = LAST.get();
    if of == second {
        return date;
    }
    let date = written(second);
    LAST.set((second, date));
    date
}

/// The date that many seconds after 1970 began.
fn written(second: u64) -> Date {
    const DAYS: &[u8] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, of_day) = (second / 86_400, second % 86_400);
    let (year, month, day) = civil(days);
    let name = |names: &'static [u8], index: u64| names.chunks(3).nth(index as usize).unwrap_or_default();
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    date[..3].copy_from_slice(name(DAYS, days % 7));
    write_digits(&mut date[5..7], day);
    date[8..11].copy_from_slice(name(MONTHS, month - 1));
    write_digits(&mut date[12..16], year);
    write_digits(&mut date[17..19], of_day / 3600);
    write_digits(&mut date[20..22], of_day / 60 % 60);
    write_digits(&mut date[23..25], of_day % 60);
    date
}

fn write_digits(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        for (second, date) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&written(second)).unwrap(), date);
        }
        assert_eq!(now().len(), 29);
    }
}
