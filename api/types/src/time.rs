//! Points in time, as the records keep them.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. The scheduler gets "now" as one of these; nothing here reads a
/// clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        self.0
    }

    /// This moment and `duration` more, or the latest moment there is.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was at this moment; zero if it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// ISO 8601 in UTC, with milliseconds: `2026-03-01T12:00:00.250Z`.
    #[must_use]
    pub fn iso8601(self) -> String {
        const DAY_MS: i64 = 86_400_000;
        let (days, ms) = (self.as_millis().div_euclid(DAY_MS), self.as_millis().rem_euclid(DAY_MS));
        // Days in eras of 400 years that begin on a 1st of March, so that a leap day is the last of its year.
        let days = days + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

impl Timestamp {
    /// The moment that ISO 8601 in UTC, or with an offset, means: `2026-03-01T12:00:00Z`, `2026-03-01T12:00:00.25+01:00`.
    #[must_use]
    pub fn from_iso8601(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once('T')?;
        let zone_at = rest.find(['Z', '+', '-'])?;
        let (time, zone) = rest.split_at(zone_at);
        let number = |digits: &str, length: usize| -> Option<i64> {
            let fits = digits.len() == length && digits.bytes().all(|digit| digit.is_ascii_digit());
            fits.then(|| digits.parse().ok()).flatten()
        };
        let three = |text: &str, separator: char, first: usize| -> Option<(i64, i64, i64)> {
            let (one, rest) = text.split_once(separator)?;
            let (two, three) = rest.split_once(separator)?;
            Some((number(one, first)?, number(two, 2)?, number(three, 2)?))
        };
        let (year, month, day) = three(date, '-', 4)?;
        let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let (hour, minute, second) = three(time, ':', 2)?;
        number(fraction, fraction.len())?;
        let millis = number(format!("{fraction:0<3}").get(..3)?, 3)?;
        let offset = match zone.split_at(1) {
            ("Z", "") => 0,
            (sign, zone) => {
                let (hours, minutes) = zone.split_once(':')?;
                let minutes = number(hours, 2)? * 60 + number(minutes, 2)?;
                if sign == "-" { -minutes } else { minutes }
            }
        };
        let valid =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
        // As in `iso8601`, years begin in March; 153 days are the five months from then to July, and again to December.
        let (from_march_year, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let leap_days = from_march_year / 4 - from_march_year / 100 + from_march_year / 400;
        let days = from_march_year * 365 + leap_days + (153 * from_march + 2) / 5 + day - 1 - 719_468;
        let seconds = ((days * 24 + hour) * 60 + minute - offset) * 60 + second;
        valid.then_some(Self(seconds * 1000 + millis))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.div_euclid(1000), self.0.rem_euclid(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_iso_8601() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_254_385_250, "2026-11-21T09:46:25.250Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp(at).iso8601(), text);
            assert_eq!(Timestamp::from_iso8601(text), Some(Timestamp(at)));
        }
        for (text, at) in [
            ("1970-01-01T00:00:01Z", Some(1000)),
            ("1970-01-01T01:00:01.5+01:00", Some(1500)),
            ("1969-12-31T23:30:00.123456-00:30", Some(123)),
            ("1970-01-01", None),
            ("1970-13-01T00:00:00Z", None),
            ("1970-01-01T00:00:00", None),
            ("1970-01-01T00:00:00.Z", None),
            ("1970-01-01T00:00:00.1é9Z", None),
            ("1970-01-01T00:00:00Zulu", None),
        ] {
            assert_eq!(Timestamp::from_iso8601(text), at.map(Timestamp), "{text}");
        }
    }
}
