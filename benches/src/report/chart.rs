//! Bars as SVG: horizontal, one per row, on a log axis or from zero, with error bars. Colours come from the page's
//! style sheet, so that one drawing serves light and dark.

use std::fmt::Write as _;

use super::html::escape;
use super::{Row, Scale, Side, Table};

/// Widths in the drawing's own units, which are pixels at full size.
const LABELS: f64 = 300.0;
const PLOT: f64 = 490.0;
const VALUES: f64 = 110.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
const TOP: f64 = 8.0;
const AXIS: f64 = 34.0;

/// The chart of a table; nothing if no row has a figure.
pub(super) fn chart(table: &Table) -> String {
    let Some(axis) = Axis::new(table) else { return String::new() };
    let rows: Vec<&Row> = table.rows.iter().collect();
    #[expect(clippy::cast_precision_loss, reason = "a few rows")]
    let plot_height = rows.len() as f64 * ROW;
    let (width, height) = (LABELS + PLOT + VALUES, TOP + plot_height + AXIS);
    let mut svg = format!(
        "<svg class=\"chart\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" data-bars=\"{}\">",
        escape(&table.title),
        table.rows.iter().filter(|row| row.measure.is_some()).count()
    );
    let bottom = TOP + plot_height;
    for (value, is_named) in axis.ticks() {
        let x = LABELS + axis.x(value);
        let class = if is_named { "grid" } else { "grid minor" };
        let _ =
            write!(svg, "<line class=\"{class}\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>");
        if is_named {
            let _ = write!(
                svg,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 18.0,
                escape(&tick_label(table, value))
            );
        }
    }
    for (place, row) in rows.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "a few rows")]
        let middle = TOP + (place as f64 + 0.5) * ROW;
        draw_row(&mut svg, table, row, &axis, middle);
    }
    svg + "</svg>"
}

fn draw_row(svg: &mut String, table: &Table, row: &Row, axis: &Axis, middle: f64) {
    let side = match row.side {
        Side::Ours => "ours",
        Side::Peer => "peer",
        Side::Bound => "bound",
    };
    let _ = write!(svg, "<g class=\"row {side}\"><title>{}</title>", escape(&row.command));
    let baseline = middle + 4.5;
    let _ = write!(
        svg,
        "<text class=\"label\" x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
        LABELS - 10.0,
        escape(&row.label)
    );
    if let Some(measure) = &row.measure {
        let end = axis.x(measure.value);
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
            middle - BAR / 2.0,
            end.max(1.0)
        );
        let (low, high) = (LABELS + axis.x(measure.low), LABELS + axis.x(measure.high));
        if high - low > 1.0 {
            let (top, bottom) = (middle - 4.0, middle + 4.0);
            let _ = write!(
                svg,
                "<path class=\"error\" d=\"M{low:.1} {middle:.1}H{high:.1}M{low:.1} {top:.1}V{bottom:.1}M{high:.1} \
                 {top:.1}V{bottom:.1}\"/>"
            );
        }
    }
    let value = match &row.measure {
        Some(measure) => table.unit.show(measure.value),
        None => "failed".to_owned(),
    };
    let _ = write!(
        svg,
        "<text class=\"value\" x=\"{:.1}\" y=\"{baseline:.1}\">{}</text></g>",
        LABELS + PLOT + VALUES,
        escape(&value)
    );
}

/// What is written at a gridline: without needless digits.
fn tick_label(table: &Table, value: f64) -> String {
    let text = table.unit.show(value);
    let (figure, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let figure =
        if figure.contains('.') { figure.trim_end_matches('0').trim_end_matches('.') } else { figure };
    if unit.is_empty() { figure.to_owned() } else { format!("{figure} {unit}") }
}

/// Where figures lie.
struct Axis {
    scale: Scale,
    /// The first and last figure on the axis; for a log axis whole powers of ten.
    from: f64,
    to: f64,
}

impl Axis {
    fn new(table: &Table) -> Option<Self> {
        let measures = || table.rows.iter().filter_map(|row| row.measure.as_ref());
        let greatest = measures().map(|measure| measure.high.max(measure.value)).fold(0.0, f64::max);
        if !(greatest > 0.0 && greatest.is_finite()) {
            return None;
        }
        let least = measures()
            .flat_map(|measure| [measure.low, measure.value])
            .filter(|value| *value > 0.0)
            .fold(greatest, f64::min);
        Some(match table.scale {
            Scale::Linear => Self { scale: Scale::Linear, from: 0.0, to: greatest },
            Scale::Log => {
                // The shortest bar is to be seen as well.
                let from = 10_f64.powf((least / 1.5).log10().floor());
                let to = 10_f64.powf(greatest.log10().ceil()).max(from * 10.0);
                Self { scale: Scale::Log, from, to }
            }
        })
    }

    /// From the axis's beginning, in the drawing's units.
    fn x(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => value / self.to,
            Scale::Log if value <= self.from => 0.0,
            Scale::Log => (value / self.from).log10() / (self.to / self.from).log10(),
        };
        share.clamp(0.0, 1.0) * (PLOT - 12.0)
    }

    /// Gridlines, and whether each is named.
    fn ticks(&self) -> Vec<(f64, bool)> {
        match self.scale {
            Scale::Linear => {
                let step = nice_step(self.to / 5.0);
                (0..)
                    .map(|n| f64::from(n) * step)
                    .take_while(|value| *value <= self.to)
                    .map(|at| (at, true))
                    .collect()
            }
            Scale::Log => {
                let mut ticks = Vec::new();
                #[expect(clippy::cast_possible_truncation, reason = "a few decades")]
                let decades = (self.to / self.from).log10().round() as i32;
                for decade in 0..=decades {
                    let at = self.from * 10_f64.powi(decade);
                    ticks.push((at, true));
                    // With few decades there is room for the lines between.
                    if decades <= 4 && decade < decades {
                        ticks.extend([2.0, 5.0].map(|factor| (at * factor, decades == 1)));
                    }
                }
                ticks
            }
        }
    }
}

/// 1, 2 or 5 times a power of ten, at least this much.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|factor| factor * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(power * 10.0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::super::{Measure, Unit};
    use super::*;

    fn row(value: f64) -> Row {
        let mut row = Row::new("x", "x", Side::Ours, "x");
        row.measure = Measure::of_turns(vec![value], None);
        row
    }

    #[test]
    fn a_chart_has_a_bar_for_every_row_with_a_figure() {
        let svg = chart(&sample().benches[0].findings.tables[0]);
        assert_eq!(svg.matches("class=\"bar\"").count(), 2);
        assert!(svg.contains("data-bars=\"2\""));
        assert_eq!(svg.matches("class=\"label\"").count(), 3, "also the one that failed");
        assert!(svg.contains("&lt;first&gt; answer &amp; back"));
        assert!(svg.contains(">1 ms<") && svg.contains(">100 µs<"), "{svg}");
    }

    #[test]
    fn a_log_axis_has_equal_steps_for_equal_ratios() {
        let table = Table { rows: vec![row(20e-6), row(0.5)], ..Table::new("t", "", "", Unit::Seconds) };
        let axis = Axis::new(&table).unwrap();
        let (first, second) = (axis.x(1e-3) - axis.x(1e-4), axis.x(0.1) - axis.x(0.01));
        assert!((first - second).abs() < 1e-6 && first > 0.0);
        assert!(axis.x(20e-6) > 10.0, "the shortest bar is to be seen");
        assert_eq!(axis.x(0.0), 0.0);
    }

    #[test]
    fn a_linear_axis_begins_at_zero() {
        let table =
            Table { rows: vec![row(15_000.0), row(54_000.0)], ..Table::new("t", "", "", Unit::PerSecond) }
                .linear();
        let axis = Axis::new(&table).unwrap();
        assert_eq!(axis.x(0.0), 0.0);
        assert!((axis.x(30_000.0) / axis.x(15_000.0) - 2.0).abs() < 1e-9);
        assert_eq!(axis.ticks()[1].0, 20_000.0);
    }

    #[test]
    fn nothing_measured_has_no_chart() {
        assert_eq!(chart(&Table::new("t", "", "", Unit::Seconds)), "");
        let zero = Table { rows: vec![row(0.0)], ..Table::new("t", "", "", Unit::Seconds) };
        assert_eq!(chart(&zero), "");
    }
}
