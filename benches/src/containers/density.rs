//! What an idle container of the same program takes, for the bench `density`.

use anyhow::{Context as _, ensure};

use super::{Engine, ErrorOutput, Native, Place, Started, engines};
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

/// Starts so many and lets them wait: what each of the second half added to the PSS of all processes that are there for
/// them. What they share, such as their program, is in the first half.
#[expect(clippy::cast_precision_loss, reason = "megabytes")]
fn idle(engine: &dyn Engine, native: &Native, count: usize) -> anyhow::Result<f64> {
    let mut started: Vec<(Box<dyn Place>, Started)> = Vec::new();
    let mut errors = ErrorOutput::new()?;
    let result = (|| -> anyhow::Result<f64> {
        let mut half = 0;
        for number in 0..count {
            if number == count / 2 {
                half = pss_of_all(&mut started);
            }
            let place = engine.place(native)?;
            let mut command = place.command();
            let process =
                Started::spawn(command.stdout(std::process::Stdio::null()).stderr(errors.emptied()?))?;
            let address = place.address().context("hello serves")?;
            started.push((place, process));
            let Some((_, process)) = started.last_mut() else { continue };
            errors.explain(await_answer(&address, process.child(), 1))?;
        }
        let added = pss_of_all(&mut started).saturating_sub(half);
        ensure!(added > 0, "the processes are not found");
        Ok(added as f64 / (count - count / 2) as f64)
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

fn pss_of_all(started: &mut [(Box<dyn Place>, Started)]) -> u64 {
    let pids: Vec<u32> =
        started.iter_mut().flat_map(|(place, process)| place.processes(process.child())).collect();
    pss_of(&pids)
}
