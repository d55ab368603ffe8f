//! A report, made as often as somebody runs the task: reads `orders.csv` (product,quantity,price) in the folder it is
//! given and writes `reports/DATE.txt` beside it. To run it twice on a day makes the day's report anew; a crash leaves
//! the old one or the new one, never half of one.
//!
//! Run with, in `examples`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run --dir /tmp/shop::/shop target/wasm32-wasip2/release/report.wasm -- /shop
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: report FOLDER");
        return ExitCode::FAILURE;
    };
    match make(Path::new(&folder), &today()) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("report: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Reads the orders, writes the report and gives it back.
fn make(folder: &Path, date: &str) -> Result<String, String> {
    let orders = folder.join("orders.csv");
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| format!("{path}: {error}")
    };
    let report = report(&fs::read_to_string(&orders).map_err(named(&orders))?, date);
    let reports = folder.join("reports");
    fs::create_dir_all(&reports).map_err(named(&reports))?;
    let (new, place) = (reports.join(format!(".{date}.new")), reports.join(format!("{date}.txt")));
    fs::write(&new, &report).map_err(named(&new))?;
    fs::rename(&new, &place).map_err(named(&place))?;
    Ok(report)
}

/// What was sold, the most valuable first. Lines that are no orders are counted, and said so on standard error.
fn report(orders: &str, date: &str) -> String {
    let mut sold: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut broken = 0;
    for (number, line) in orders.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match order(line) {
            Some((product, quantity, cents)) => {
                let (pieces, value) = sold.entry(product).or_default();
                *pieces = pieces.saturating_add(quantity);
                *value = value.saturating_add(quantity.saturating_mul(cents));
            }
            // The names of the columns.
            None if number == 0 => {}
            None => {
                broken += 1;
                eprintln!("report: line {} is no order: {line}", number + 1);
            }
        }
    }
    let mut rows: Vec<_> = sold.into_iter().collect();
    rows.sort_by(|(_, (_, one)), (_, (_, other))| other.cmp(one));
    let total = rows.iter().fold(0_u64, |total, (_, (_, value))| total.saturating_add(*value));
    let mut text = format!("Sold until {date}\n");
    for (product, (pieces, value)) in rows {
        let _ = writeln!(text, "{product:<16} {pieces:>6} {:>12}", money(value));
    }
    let _ = writeln!(text, "{:<16} {:>6} {:>12}", "total", "", money(total));
    if broken > 0 {
        let _ = writeln!(text, "{broken} lines could not be read");
    }
    text
}

/// Product, pieces, and the price of one in cents.
fn order(line: &str) -> Option<(&str, u64, u64)> {
    let mut parts = line.split(',').map(str::trim);
    let (product, quantity, price) = (parts.next()?, parts.next()?, parts.next()?);
    let (whole, cents) = price.split_once('.').unwrap_or((price, "00"));
    let cents = (cents.len() == 2).then(|| cents.parse::<u64>().ok()).flatten()?;
    let price = whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(cents)?;
    (!product.is_empty() && parts.next().is_none()).then_some((product, quantity.parse().ok()?, price))
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// Today in UTC, as `2026-03-01`.
fn today() -> String {
    let days = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let (mut year, mut day) = (1970, days);
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if day < length {
            break;
        }
        day -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", day + 1)
}
