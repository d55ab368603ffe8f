//! The report as one HTML page that needs nothing else: no scripts, no fonts, no network.

use std::fmt::Write as _;

use super::chart::chart;
use super::text::{extra_names, goal_sentence, sentence};
use super::units::times;
use super::{BenchResult, Better, Mode, Ratio, Report, Row, Scale, Side, Table, Verdict};

/// The whole page.
#[must_use]
pub fn page(report: &Report) -> String {
    let mut page = String::from("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">";
    page += "<link rel=\"icon\" href=\"data:,\"><title>Coracle benchmarks</title>";
    let _ = write!(page, "<style>{}</style></head><body>", include_str!("style.css"));
    head(&mut page, report);
    page += "<main>";
    glance(&mut page, report);
    for bench in &report.benches {
        section(&mut page, bench);
    }
    machine(&mut page, report);
    page += "</main><footer><p>Bars are medians. Where single events were timed, the thin line runs from the shortest \
             to the 99th percentile; else from the least to the greatest turn. Ratios are made turn by turn within one \
             run, sides alternating, and only where both gave the same answers without an error. Absolute figures hold \
             for this machine only. How it is done, and what is not measured: <code>benches/README.md</code>.</p>\
             </footer></body></html>\n";
    page
}

/// Text for HTML, in elements and attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn head(page: &mut String, report: &Report) {
    let machine = &report.machine;
    let _ = write!(
        page,
        "<header><h1>Coracle benchmarks</h1><p class=\"soft\">{} · {} × {} · {} · {}</p>",
        escape(&date(report.began_at)),
        machine.cores,
        escape(&machine.cpu),
        escape(&machine.kernel),
        escape(&machine.system)
    );
    match report.mode {
        Mode::Full => {}
        Mode::Quick => {
            *page += "<p class=\"warning\">A quick run, made to see that every bench still runs. Its figures promise \
                      nothing.</p>";
        }
        Mode::Debug => {
            *page += "<p class=\"warning\">Made by a debug build. These figures mean nothing.</p>";
        }
    }
    *page += "<nav>";
    for bench in &report.benches {
        let name = escape(&bench.name);
        let _ = write!(page, "<a href=\"#{name}\">{name}</a>");
    }
    *page += "<a href=\"#machine\">machine</a></nav></header>";
}

/// Rows and ratios with a goal first of all: what was promised, and whether it is kept.
fn glance(page: &mut String, report: &Report) {
    let tables = || report.benches.iter().flat_map(|bench| &bench.findings.tables);
    let promised: Vec<(&Table, &Ratio)> = tables()
        .flat_map(|table| table.ratios.iter().map(move |ratio| (table, ratio)))
        .filter(|(_, ratio)| ratio.goal.is_some())
        .collect();
    let reached: Vec<(&Table, &Row, bool)> = tables()
        .flat_map(|table| table.rows.iter().map(move |row| (table, row)))
        .filter_map(|(table, row)| Some((table, row, row.reaches_goal(table.better)?)))
        .collect();
    if promised.is_empty() && reached.is_empty() {
        return;
    }
    *page += "<section class=\"glance\"><h3>At a glance</h3><div class=\"scroll\"><table><tr><th></th><th>figure, \
              or times ahead</th><th>goal</th><th class=\"text\">measured</th></tr>";
    for (table, row, is_reached) in reached {
        let show = |value: Option<f64>| value.map(|value| table.unit.show(value)).unwrap_or_default();
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"{}\">{}</td><td>{}</td><td class=\"text soft\">{}</td></tr>",
            escape(&row.label),
            if is_reached { "good" } else { "bad" },
            show(row.measure.as_ref().map(|measure| measure.value)),
            show(row.goal),
            escape(&table.title)
        );
    }
    for (table, ratio) in promised {
        let label =
            |id: &str| escape(table.rows.iter().find(|row| row.id == id).map_or(id, |row| &row.label));
        let (verdict, class) = match (&ratio.verdict, ratio.goal) {
            (Verdict::Ahead { median, .. }, Some(goal)) => {
                (times(*median), if *median >= goal { "good" } else { "bad" })
            }
            _ => ("no ratio".to_owned(), "bad"),
        };
        let _ = write!(
            page,
            "<tr><td>{} <span class=\"soft\">against</span> {}</td><td class=\"{class}\">{verdict}</td><td>{}</td>\
             <td class=\"text soft\">{}</td></tr>",
            label(&ratio.of),
            label(&ratio.to),
            ratio.goal.map(times).unwrap_or_default(),
            escape(&table.title)
        );
    }
    *page += "</table></div></section>";
}

fn section(page: &mut String, bench: &BenchResult) {
    let _ = write!(
        page,
        "<section><h2 id=\"{0}\">{0}</h2><p class=\"soft\">{1}</p>",
        escape(&bench.name),
        escape(&bench.about)
    );
    if let Some(failed) = &bench.failed {
        let _ = write!(page, "<p class=\"warning\">It failed: {}</p>", escape(failed));
    }
    for table in &bench.findings.tables {
        table_section(page, table);
    }
    if !bench.findings.notes.is_empty() {
        *page += "<ul>";
        for note in &bench.findings.notes {
            let _ = write!(page, "<li>{}</li>", escape(note));
        }
        *page += "</ul>";
    }
    if !bench.findings.left_out.is_empty() {
        *page += "<h3>Left out</h3><ul>";
        for left_out in &bench.findings.left_out {
            let (what, why) = (escape(&left_out.what), escape(&left_out.why));
            let _ = write!(page, "<li><b>{what}</b>: {why}</li>");
        }
        *page += "</ul>";
    }
    *page += "</section>";
}

fn table_section(page: &mut String, table: &Table) {
    let _ = write!(
        page,
        "<h3>{}</h3><p class=\"measured\">{}</p>",
        escape(&table.title),
        escape(&table.measured)
    );
    let drawing = chart(table);
    if !drawing.is_empty() {
        let _ = write!(page, "<figure>{drawing}<figcaption>{}</figcaption></figure>", caption(table));
    }
    let goals: Vec<(&Row, String)> =
        table.rows.iter().filter_map(|row| Some((row, goal_sentence(table, row)?))).collect();
    if !table.ratios.is_empty() || !goals.is_empty() {
        *page += "<ul class=\"ratios\">";
        for (row, goal) in goals {
            let class = if row.reaches_goal(table.better) == Some(true) { "good" } else { "bad" };
            let _ = write!(page, "<li class=\"{class}\">{}</li>", escape(&goal));
        }
        for ratio in &table.ratios {
            let class = match (&ratio.verdict, ratio.goal) {
                (Verdict::Ahead { median, .. }, Some(goal)) if *median < goal => "bad",
                (Verdict::Ahead { median, .. }, _) if *median < 1.0 && table.better != Better::Neither => {
                    "bad"
                }
                (Verdict::Ahead { .. }, Some(_)) => "good",
                (Verdict::Ahead { .. }, None) => "",
                (Verdict::Refused { .. }, _) => "bad",
            };
            let _ = write!(page, "<li class=\"{class}\">{}</li>", escape(&sentence(table, ratio)));
        }
        *page += "</ul>";
    }
    rows(page, table);
}

fn caption(table: &Table) -> String {
    let has = |side: Side| table.rows.iter().any(|row| row.side == side);
    let mut caption = String::new();
    for (side, class, name) in [
        (Side::Ours, "ours", "Coracle"),
        (Side::Peer, "peer", "instead of it"),
        (Side::Bound, "bound", "the machine, for scale"),
    ] {
        if has(side) {
            let _ = write!(caption, "<span class=\"key {class}\"></span>{name}");
        }
    }
    caption += match (table.scale, table.better) {
        (Scale::Log, Better::Lower) => " · log scale, shorter is better",
        (Scale::Log, Better::Higher) => " · log scale, longer is better",
        (Scale::Log, Better::Neither) => " · log scale",
        (Scale::Linear, Better::Lower) => " · shorter is better",
        (Scale::Linear, Better::Higher) => " · longer is better",
        (Scale::Linear, Better::Neither) => "",
    };
    caption
}

fn rows(page: &mut String, table: &Table) {
    let extras = extra_names(table);
    *page += "<details><summary>figures, and the exact command of each row</summary><div class=\"scroll\"><table><tr>";
    *page += "<th></th><th>median</th><th>min / low</th><th>p90</th><th>p99 / high</th><th>n</th>";
    for name in &extras {
        let _ = write!(page, "<th>{}</th>", escape(name));
    }
    *page += "</tr>";
    for row in &table.rows {
        let _ = write!(page, "<tr><td>{}</td>", escape(&row.label));
        for figure in figures(table, row) {
            let _ = write!(page, "<td>{}</td>", escape(&figure));
        }
        for name in &extras {
            let extra = row.extras.iter().find(|extra| extra.name == *name);
            let _ =
                write!(page, "<td>{}</td>", escape(&extra.map(|e| e.unit.show(e.value)).unwrap_or_default()));
        }
        *page += "</tr>";
    }
    *page += "</table></div><ul>";
    for row in &table.rows {
        let _ = write!(page, "<li><b>{}</b> <code>{}</code>", escape(&row.label), escape(&row.command));
        if !row.settings.is_empty() {
            let _ = write!(page, " {}", escape(&row.settings));
        }
        if let Some(failed) = &row.failed {
            let _ = write!(page, " <span class=\"bad\">failed: {}</span>", escape(failed));
        }
        *page += "</li>";
    }
    *page += "</ul></details>";
}

/// Median, least, p90, greatest, number.
fn figures(table: &Table, row: &Row) -> [String; 5] {
    let show = |value: f64| table.unit.show(value);
    match &row.measure {
        None => ["failed".to_owned(), String::new(), String::new(), String::new(), String::new()],
        Some(measure) => match &measure.times {
            Some(times) => {
                [show(times.p50), show(times.min), show(times.p90), show(times.p99), times.n.to_string()]
            }
            None => [
                show(measure.value),
                show(measure.low),
                String::new(),
                show(measure.high),
                measure.turns.len().to_string(),
            ],
        },
    }
}

fn machine(page: &mut String, report: &Report) {
    *page += "<section><h2 id=\"machine\">machine</h2><div class=\"scroll\"><table>";
    let began = ("began".to_owned(), date(report.began_at));
    let command = ("command".to_owned(), report.command.clone());
    for (name, value) in [began, command].into_iter().chain(report.machine.lines()) {
        let _ = write!(
            page,
            "<tr><td class=\"soft\">{}</td><td class=\"text\">{}</td></tr>",
            escape(&name),
            escape(&value)
        );
    }
    *page += "</table></div></section>";
}

/// `2026-11-26 18:40 UTC`, of seconds since 1970.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years of the Gregorian calendar begun in March have their odd day at the end: days since 0000-03-01.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_page_holds_everything_and_needs_nothing() {
        let page = page(&sample());
        for part in [
            "To the &lt;first&gt; answer &amp; back",
            "crun run --bundle &lt;dir&gt; 'x'",
            "no seccomp profile",
            "no engine answers",
            "12.4 ×",
            "<td class=\"bad\">54,500/s</td><td>60,000/s</td>",
            "no ratio. runc: 3 errors",
            "exit code 1: &quot;no cgroup&quot;",
            "2023-11-14 22:13 UTC",
            "prefers-color-scheme: dark",
        ] {
            assert!(page.contains(part), "no {part:?}");
        }
        assert_eq!(page.matches("<svg").count(), 2);
        for outside in ["<script", "http://", "https://", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn every_element_is_closed() {
        let page = page(&sample());
        for element in
            ["section", "table", "tr", "td", "ul", "li", "figure", "svg", "g", "details", "div", "main"]
        {
            let opened =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
    }

    #[test]
    fn a_quick_run_says_so() {
        let quick = Report { mode: Mode::Quick, ..sample() };
        assert!(page(&quick).contains("promise nothing"));
        assert!(!page(&sample()).contains("promise nothing"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_827_696), "2000-02-29 12:34 UTC");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59 UTC");
    }
}
