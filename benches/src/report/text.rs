//! Tables for terminals.

use std::fmt::Write as _;

use super::units::times;
use super::{BenchResult, Better, Ratio, Row, Scale, Side, Table, Verdict};

/// Columns of a bar.
const BAR: usize = 24;

/// A bench, as it is printed when it has run.
#[must_use]
pub fn print_bench(bench: &BenchResult) -> String {
    let mut text = format!("\n{} — {} ({:.0} s)\n", bench.name, bench.about, bench.seconds);
    if let Some(failed) = &bench.failed {
        let _ = writeln!(text, "  FAILED: {failed}");
    }
    for table in &bench.findings.tables {
        print_table(&mut text, table);
    }
    for left_out in &bench.findings.left_out {
        let _ = writeln!(text, "  left out: {}: {}", left_out.what, left_out.why);
    }
    for note in &bench.findings.notes {
        let _ = writeln!(text, "  {note}");
    }
    text
}

fn print_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "\n  {}", table.title);
    let extras = extra_names(table);
    let timed =
        table.rows.iter().any(|row| row.measure.as_ref().is_some_and(|measure| measure.times.is_some()));
    let mut head = vec![String::new(), "median".to_owned()];
    if timed {
        head.extend(["min", "p90", "p99", "n"].map(str::to_owned));
    } else {
        head.extend(["low", "high"].map(str::to_owned));
    }
    head.extend(extras.iter().cloned());
    let mut lines = vec![(head, String::new())];
    let scale = BarScale::new(table);
    for row in &table.rows {
        let (cells, bar) = cells(table, row, timed, &extras, &scale);
        lines.push((cells, bar));
    }
    let columns = lines.iter().map(|(cells, _)| cells.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            lines
                .iter()
                .filter_map(|(cells, _)| cells.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for (cells, bar) in lines {
        let mut line = String::from("  ");
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let pad = " ".repeat(width - cell.chars().count());
            match column {
                0 => line += &format!("  {cell}{pad}"),
                _ => line += &format!("  {pad}{cell}"),
            }
        }
        let _ = writeln!(text, "{}", format!("{line}  {bar}").trim_end());
    }
    for goal in table.rows.iter().filter_map(|row| goal_sentence(table, row)) {
        let _ = writeln!(text, "    {goal}");
    }
    for ratio in &table.ratios {
        let _ = writeln!(text, "    {}", sentence(table, ratio));
    }
    for row in &table.rows {
        if let Some(failed) = &row.failed {
            let _ = writeln!(text, "    failed: {failed}");
        }
    }
}

/// The names of the figures that stand beside the main one in some row.
pub(super) fn extra_names(table: &Table) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for extra in table.rows.iter().flat_map(|row| &row.extras) {
        if !names.contains(&extra.name) {
            names.push(extra.name.clone());
        }
    }
    names
}

fn cells(
    table: &Table,
    row: &Row,
    timed: bool,
    extras: &[String],
    scale: &BarScale,
) -> (Vec<String>, String) {
    let show = |value: f64| table.unit.show(value);
    let mut cells = vec![row.label.clone()];
    let Some(measure) = &row.measure else {
        cells.push("failed".to_owned());
        return (cells, String::new());
    };
    cells.push(show(measure.value));
    match (&measure.times, timed) {
        (Some(times), _) => {
            cells.extend([show(times.min), show(times.p90), show(times.p99), times.n.to_string()]);
        }
        (None, true) => {
            cells.extend([show(measure.low), String::new(), String::new(), measure.turns.len().to_string()]);
        }
        (None, false) => cells.extend([show(measure.low), show(measure.high)]),
    }
    for name in extras {
        let extra = row.extras.iter().find(|extra| extra.name == *name);
        cells.push(extra.map(|extra| extra.unit.show(extra.value)).unwrap_or_default());
    }
    (cells, scale.bar(measure.value, row.side))
}

/// How long bars are.
struct BarScale {
    scale: Scale,
    least: f64,
    greatest: f64,
}

impl BarScale {
    fn new(table: &Table) -> Self {
        let values = || table.rows.iter().filter_map(|row| Some(row.measure.as_ref()?.value));
        Self {
            scale: table.scale,
            least: values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min),
            greatest: values().fold(0.0, f64::max),
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "columns of a terminal"
    )]
    fn bar(&self, value: f64, side: Side) -> String {
        let share = match self.scale {
            Scale::Linear => value / self.greatest,
            // A tenth of the width is the least: the least has a bar too.
            Scale::Log if self.greatest > self.least => {
                0.1 + 0.9 * (value / self.least).ln() / (self.greatest / self.least).ln()
            }
            Scale::Log => 1.0,
        };
        let block = if side == Side::Ours { '█' } else { '░' };
        let length = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
        block.to_string().repeat(if value > 0.0 { length.max(1) } else { 0 })
    }
}

/// Whether a row reaches its goal, in words; `None` without one.
pub(super) fn goal_sentence(table: &Table, row: &Row) -> Option<String> {
    let show = |value: f64| table.unit.show(value);
    let value = show(row.measure.as_ref()?.value);
    let word = if row.reaches_goal(table.better)? { "met" } else { "NOT met" };
    let bound = if table.better == Better::Higher { "at least" } else { "at most" };
    Some(format!("{}: {value} (goal {bound} {}: {word})", row.label, show(row.goal?)))
}

/// A ratio, in words.
pub(super) fn sentence(table: &Table, ratio: &Ratio) -> String {
    let label = |id: &str| table.rows.iter().find(|row| row.id == id).map_or(id, |row| &row.label).to_owned();
    let (of, to) = (label(&ratio.of), label(&ratio.to));
    match &ratio.verdict {
        Verdict::Refused { why } => format!("{of} against {to}: no ratio. {why}"),
        Verdict::Ahead { median, pairs } => {
            let (least, greatest) = crate::stats::spread(pairs).unwrap_or((*median, *median));
            let goal = match ratio.goal {
                None => String::new(),
                Some(goal) if *median >= goal => format!("; goal {}: met", times(goal)),
                Some(goal) => format!("; goal {}: NOT met", times(goal)),
            };
            let words = words(table, *median);
            // In the terms of the words: so many times the time of the other one.
            let (least, greatest) = if is_behind(*median) && table.better == Better::Lower {
                (1.0 / greatest, 1.0 / least)
            } else {
                (least, greatest)
            };
            format!("{of}: {words} {to} (pairs {} to {}{goal})", times(least), times(greatest))
        }
    }
}

/// What being so many times ahead is called where lower, or higher, is better.
fn words(table: &Table, ratio: f64) -> String {
    use super::Unit;
    let (ahead, behind) = match (table.better, table.unit) {
        (Better::Lower, Unit::Seconds) => ("as fast as", "the time of"),
        (Better::Lower, _) => ("less than", "as much as"),
        _ => ("that of", "that of"),
    };
    match (is_behind(ratio), table.better) {
        (false, _) => format!("{} {ahead}", times(ratio)),
        (true, Better::Lower) => format!("BEHIND, {} {behind}", times(1.0 / ratio)),
        (true, _) => format!("BEHIND, {} {behind}", times(ratio)),
    }
}

/// What is written as 1.00 is not behind.
fn is_behind(ratio: f64) -> bool {
    ratio < 0.995
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn a_bench_is_printed_with_its_rows_ratios_and_gaps() {
        let text = print_bench(&sample().benches[0]);
        for part in [
            "cold-start — how fast things start",
            "component, in memory",
            "6.20 ms",
            "CPU/start",
            "component, in memory: 12.4 × as fast as crun, bare (pairs 12.4 × to 13.2 ×; goal 200 ×: NOT met)",
            "component, in memory against runc, bare: no ratio. runc: 3 errors",
            "failed: exit code 1",
            "    a: 54,500/s (goal at least 60,000/s: NOT met)",
            "left out: docker: no engine answers",
            "A note.",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        assert!(!text.lines().any(|line| line.ends_with(' ')));
    }

    #[test]
    fn who_is_behind_is_told_so() {
        let table = &sample().benches[0].findings.tables[0];
        assert_eq!(words(table, 0.5), "BEHIND, 2.00 × the time of");
        let rates = &sample().benches[0].findings.tables[1];
        assert_eq!(words(rates, 0.5), "BEHIND, 0.50 × that of");
        assert_eq!(words(rates, 3.0), "3.00 × that of");
    }

    #[test]
    fn the_pairs_of_who_is_behind_are_in_the_same_terms() {
        let mut table = sample().benches[0].findings.tables[0].clone();
        table.ratios[0].verdict = Verdict::Ahead { median: 0.5, pairs: vec![0.4, 0.5, 0.8] };
        let said = sentence(&table, &table.ratios[0]);
        assert!(said.contains("BEHIND, 2.00 × the time of crun, bare (pairs 1.25 × to 2.50 ×;"), "{said}");
    }
}
