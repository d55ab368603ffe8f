//! What an idle container of the same program takes, for the bench `density`.

use anyhow::Context as _;

use super::{Engine, Native, Place, Started, engines};
use crate::bench::Context;
use crate::cold_start::{await_answer, natively_hello};
use crate::proc::pss_of;
use crate::report::{Findings, Row, Table};

/// Adds a row for each way to start hello as a program of this machine.
pub async fn density(context: &Context, table: &mut Table, findings: &mut Findings) -> anyhow::Result<()> {
    let count = context.pick(2, 20);
    let measured = tokio::task::block_in_place(|| -> anyhow::Result<_> {
        let native = natively_hello()?;
        let (engines, left_out) = engines();
        let mut rows = Vec::new();
        for engine in engines {
            let mut row = engine.row(&native);
            context.progress(&format!("{count} × {}", row.label));
            match idle(engine.as_ref(), &native, count) {
                Ok(each) => row = row.with_turns(vec![each]),
                Err(error) => row.failed = Some(format!("{}: {error:#}", row.label)),
            }
            rows.push(row);
        }
        Ok((rows, left_out))
    });
    match measured {
        Ok((rows, left_out)) => {
            table.rows.extend(
                rows.into_iter()
                    .map(|row: Row| Row { command: format!("{count} × {}", row.command), ..row }),
            );
            findings.left_out.extend(left_out);
        }
        Err(error) => findings.leave_out("processes and containers", format!("{error:#}")),
    }
    Ok(())
}

/// Starts so many and lets them wait; PSS of one.
#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn idle(engine: &dyn Engine, native: &Native, count: usize) -> anyhow::Result<f64> {
    let mut started: Vec<(Box<dyn Place>, Started)> = Vec::new();
    let result = (|| -> anyhow::Result<f64> {
        for _ in 0..count {
            let place = engine.place(native)?;
            let process = Started::spawn(place.command().stdout(std::process::Stdio::null()))?;
            let address = place.address().context("hello serves")?;
            started.push((place, process));
            let Some((_, process)) = started.last_mut() else { continue };
            await_answer(&address, process.child(), 1)?;
        }
        let pids: Vec<u32> =
            started.iter_mut().flat_map(|(place, process)| place.processes(process.child())).collect();
        Ok(pss_of(&pids) as f64 / count as f64)
    })();
    for (place, process) in &mut started {
        place.stop(process.child());
    }
    // The process before the place it is in.
    started.into_iter().for_each(|(place, process)| {
        drop(process);
        drop(place);
    });
    result
}
