//! What moved between two reports, beyond noise.
//!
//! A figure has moved when no turn of one run reached into the turns of the other, and the medians differ by more
//! than a twentieth. That is strict where turns scatter and sharp where they don't, and needs no assumption about how
//! they are distributed.

use std::fmt::Write as _;

use super::units::times;
use super::{Better, Report, Row, Table, Verdict};
use crate::stats::{median, spread};

/// Less than this share is never called a change.
const LEAST: f64 = 0.05;

/// How many turns it takes to know their spread.
const TURNS: usize = 3;

/// Which way a figure went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Better,
    Worse,
    /// Where neither way is better.
    Changed,
    Within,
    /// Too few turns to tell.
    Unknown,
}

/// The comparison of two reports, in words.
#[must_use]
pub fn compare(old: &Report, new: &Report) -> String {
    let mut text = String::new();
    let is_same_machine = (&old.machine.cpu, old.machine.cores) == (&new.machine.cpu, new.machine.cores);
    if !is_same_machine {
        text += "These are of different machines: only ratios can be compared.\n";
    }
    if (old.mode, new.mode) != (super::Mode::Full, super::Mode::Full) {
        text += "One of them is of a quick run or of a debug build: its figures promise nothing.\n";
    }
    let (mut lines, mut within, mut unknown, mut gone) = (Vec::new(), 0, 0, Vec::new());
    for (name, old_table) in tables(old) {
        let Some((_, new_table)) =
            tables(new).find(|(other, table)| *other == name && table.id == old_table.id)
        else {
            gone.push(format!("{name}/{}", old_table.id));
            continue;
        };
        let mut moved = Vec::new();
        if is_same_machine {
            moved.extend(old_table.rows.iter().filter_map(|row| moved_row(old_table, row, new_table)));
        }
        moved.extend(moved_ratios(old_table, new_table));
        for (how, line) in moved {
            match how {
                Moved::Within => within += 1,
                Moved::Unknown => unknown += 1,
                Moved::Better => lines.push(format!("  better   {name}: {line}")),
                Moved::Worse => lines.push(format!("  WORSE    {name}: {line}")),
                Moved::Changed => lines.push(format!("  changed  {name}: {line}")),
            }
        }
    }
    if lines.is_empty() {
        text += "Nothing moved beyond noise.\n";
    }
    for line in &lines {
        let _ = writeln!(text, "{line}");
    }
    let _ =
        writeln!(text, "{} moved, {within} within noise, {unknown} with too few turns to tell.", lines.len());
    if !gone.is_empty() {
        let _ = writeln!(text, "Only in the old one: {}.", gone.join(", "));
    }
    text
}

fn tables(report: &Report) -> impl Iterator<Item = (&str, &Table)> {
    report.benches.iter().flat_map(|bench| bench.findings.tables.iter().map(|table| (&bench.name[..], table)))
}

fn moved_row(old_table: &Table, old: &Row, new_table: &Table) -> Option<(Moved, String)> {
    let new = new_table.rows.iter().find(|row| row.id == old.id)?;
    let what = format!("{} ({})", old.label, old_table.title);
    let show = |value| old_table.unit.show(value);
    match (&old.measure, &new.measure) {
        (Some(was), Some(is)) => {
            let how = moved(&was.turns, &is.turns, old_table.better);
            Some((
                how,
                format!("{what}: {} → {}, {}", show(was.value), show(is.value), percent(was.value, is.value)),
            ))
        }
        (Some(was), None) => Some((
            Moved::Worse,
            format!("{what}: {} → failed: {}", show(was.value), new.failed.as_deref().unwrap_or("no figure")),
        )),
        (None, Some(is)) => Some((Moved::Better, format!("{what}: failed → {}", show(is.value)))),
        (None, None) => None,
    }
}

fn moved_ratios(old: &Table, new: &Table) -> Vec<(Moved, String)> {
    let mut all = Vec::new();
    for was in &old.ratios {
        let Some(is) = new.ratios.iter().find(|is| (&is.of, &is.to) == (&was.of, &was.to)) else { continue };
        let what = format!("{} against {} ({})", was.of, was.to, old.title);
        all.push(match (&was.verdict, &is.verdict) {
            (Verdict::Ahead { median: before, pairs: old }, Verdict::Ahead { median: after, pairs: new }) => {
                let how = moved(old, new, Better::Higher);
                (how, format!("{what}: {} → {}", times(*before), times(*after)))
            }
            (Verdict::Ahead { .. }, Verdict::Refused { why }) => {
                (Moved::Worse, format!("{what}: no ratio any more. {why}"))
            }
            (Verdict::Refused { .. }, Verdict::Ahead { median, .. }) => {
                (Moved::Better, format!("{what}: there is a ratio now: {}", times(*median)))
            }
            (Verdict::Refused { .. }, Verdict::Refused { .. }) => continue,
        });
    }
    all
}

fn moved(old: &[f64], new: &[f64], better: Better) -> Moved {
    if old.len() < TURNS || new.len() < TURNS {
        return Moved::Unknown;
    }
    let (Some((old_low, old_high)), Some((new_low, new_high))) = (spread(old), spread(new)) else {
        return Moved::Unknown;
    };
    let (Some(before), Some(after)) = (median(old), median(new)) else { return Moved::Unknown };
    let overlap = new_low <= old_high && old_low <= new_high;
    if overlap || (after / before - 1.0).abs() <= LEAST {
        return Moved::Within;
    }
    match (better, after > before) {
        (Better::Neither, _) => Moved::Changed,
        (Better::Lower, false) | (Better::Higher, true) => Moved::Better,
        _ => Moved::Worse,
    }
}

fn percent(before: f64, after: f64) -> String {
    format!("{:+.0} %", (after / before - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;
    use crate::report::Measure;

    fn with_peer(turns: Vec<f64>) -> Report {
        let mut report = sample();
        report.benches[0].findings.tables[0].rows[1].measure = Measure::of_turns(turns, None);
        report
    }

    #[test]
    fn a_report_does_not_differ_from_itself() {
        let text = compare(&sample(), &sample());
        assert!(text.starts_with("Nothing moved beyond noise."), "{text}");
    }

    #[test]
    fn turns_that_overlap_are_noise() {
        let text = compare(&sample(), &with_peer(vec![6.8e-3, 8.0e-3, 9.0e-3]));
        assert!(text.starts_with("Nothing moved"), "{text}");
    }

    #[test]
    fn turns_apart_have_moved_in_the_direction_that_counts() {
        let text = compare(&sample(), &with_peer(vec![9.0e-3, 9.1e-3, 9.3e-3]));
        assert!(text.contains("WORSE    cold-start: crun, bare") && text.contains("+47 %"), "{text}");
        let text = compare(&with_peer(vec![9.0e-3, 9.1e-3, 9.3e-3]), &sample());
        assert!(text.contains("better   cold-start: crun, bare"), "{text}");
    }

    #[test]
    fn apart_but_hardly_is_noise_too() {
        assert_eq!(moved(&[1.0, 1.0, 1.0], &[1.04, 1.04, 1.04], Better::Lower), Moved::Within);
        assert_eq!(moved(&[1.0, 1.0, 1.0], &[1.06, 1.06, 1.06], Better::Lower), Moved::Worse);
        assert_eq!(moved(&[1.0, 1.0, 1.0], &[1.06, 1.06, 1.06], Better::Neither), Moved::Changed);
        assert_eq!(moved(&[1.0, 1.0], &[2.0, 2.0], Better::Lower), Moved::Unknown);
    }

    #[test]
    fn other_machines_are_compared_by_ratios_only() {
        let mut new = with_peer(vec![9.0e-3, 9.1e-3, 9.3e-3]);
        new.machine.cpu = "another".to_owned();
        let text = compare(&sample(), &new);
        assert!(text.contains("different machines") && !text.contains("+47 %"), "{text}");
    }

    #[test]
    fn what_fails_now_is_worse() {
        let mut new = sample();
        let row = &mut new.benches[0].findings.tables[0].rows[1];
        (row.measure, row.failed) = (None, Some("gone".to_owned()));
        assert!(compare(&sample(), &new).contains("→ failed: gone"));
    }
}
