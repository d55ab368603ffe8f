//! What figures count, and how they are written for people.

use serde::{Deserialize, Serialize};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Seconds, shown as ns, µs, ms or s.
    Seconds,
    /// So many in a second.
    PerSecond,
    /// Bytes, shown as KiB, MiB or GiB.
    Bytes,
    /// A plain number.
    Count,
    /// A ratio of 1, shown in percent.
    Share,
}

impl Unit {
    /// A figure with its unit, in three digits.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Seconds => {
                let (scaled, unit) = match value.abs() {
                    0.0 => return "0 s".to_owned(),
                    size if size < 1e-6 => (value * 1e9, "ns"),
                    size if size < 1e-3 => (value * 1e6, "µs"),
                    size if size < 1.0 => (value * 1e3, "ms"),
                    _ => (value, "s"),
                };
                format!("{} {unit}", digits(scaled))
            }
            Unit::PerSecond => format!("{}/s", digits(value)),
            Unit::Bytes => {
                let (scaled, unit) = match value.abs() {
                    size if size < 1024.0 => (value, "B"),
                    size if size < 1024.0 * 1024.0 => (value / 1024.0, "KiB"),
                    size if size < 1024.0 * 1024.0 * 1024.0 => (value / 1024.0 / 1024.0, "MiB"),
                    _ => (value / 1024.0 / 1024.0 / 1024.0, "GiB"),
                };
                format!("{} {unit}", digits(scaled))
            }
            Unit::Count => digits(value),
            Unit::Share => format!("{} %", digits(value * 100.0)),
        }
    }
}

/// Three digits, or all before the point, with thin groups of thousands.
pub(crate) fn digits(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 99.95 || size == 0.0 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    };
    let (whole, rest) = text.split_once('.').map_or((&text[..], None), |(whole, rest)| (whole, Some(rest)));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    match rest {
        Some(rest) => format!("{grouped}.{rest}"),
        None => grouped,
    }
}

/// How many times: `6.2 ×`, `212 ×`; two digits below ten.
pub(crate) fn times(ratio: f64) -> String {
    format!("{} ×", digits(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_their_unit() {
        for (unit, value, text) in [
            (Unit::Seconds, 16.4e-6, "16.4 µs"),
            (Unit::Seconds, 6.27e-3, "6.27 ms"),
            (Unit::Seconds, 999.7e-9, "1,000 ns"),
            (Unit::Seconds, 12.0, "12.0 s"),
            (Unit::Seconds, 0.0, "0 s"),
            (Unit::PerSecond, 54_712.3, "54,712/s"),
            (Unit::Bytes, 8192.0, "8.00 KiB"),
            (Unit::Bytes, 13.5 * 1024.0 * 1024.0, "13.5 MiB"),
            (Unit::Count, 1_234_567.0, "1,234,567"),
            (Unit::Count, -1234.0, "-1,234"),
            (Unit::Share, 0.128, "12.8 %"),
        ] {
            assert_eq!(unit.show(value), text);
        }
        assert_eq!(times(212.4), "212 ×");
        assert_eq!(times(0.871), "0.87 ×");
    }
}
