//! From starting `coracle up` on a data directory that holds one service to the first answered
//! request, with the artifact cache warm: what a restart costs.

use std::time::Instant;

use coracle_fixtures::example_hello;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::peers::{Coracle, coracle_binary, exchange, poll};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, conclude};

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let starts = context.pick(1, 5);
    let binary = coracle_binary()?;
    let dir = Directory::new()?;
    // The first one compiles and deploys; it is killed, as by a crash.
    Coracle::start(&binary, dir.path())?.deploy("hello", example_hello(), 1)?;
    let row = Row::new("restart", "coracle up, killed before", Whose::Ours, "coracle up --data-dir <dir>")
        .with_settings("one service of one task in the state, its artifact on disk");
    let row = context.with_goal(row, 1.0);
    let (binary, path) = (&binary, dir.path());
    let mut sides = vec![Side::new(row, move || async move {
        let mut times = Times::default();
        for _ in 0..starts {
            let begun = Instant::now();
            let coracle = Coracle::start(binary, path)?;
            let request = "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n";
            poll("the first answer", || {
                exchange(coracle.router, request).ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
            })?;
            times.record(begun.elapsed());
            // Killed again, and waited for, at the end of the turn.
        }
        Ok(Turn::of_times(times, "200"))
    })];
    context.interleave(&mut sides, context.pick(1, 3)).await;
    let table = Table::new(
        "restart",
        "From `coracle up` to the first answer of its service",
        "From starting the process to the first 200 through the router, asked every 2 ms.",
        Unit::Seconds,
    )
    .linear();
    let table = conclude(table, sides, &[]);
    Ok(Findings { tables: vec![table], ..Findings::default() })
}
