//! From starting `coracle up` on a data directory that holds one service to the first answered
//! request, with the artifact cache warm: what a restart costs.

use std::time::Instant;

use coracle_fixtures::example_hello;
use hdrhistogram::Histogram;

use crate::peers::{Coracle, coracle_binary, exchange, poll};

/// How often it is started.
const STARTS: usize = 10;

pub(crate) fn run() -> anyhow::Result<()> {
    println!(
        "\nStart: `coracle up` with one service of one task, to the first answered request (goal: under 1 s)"
    );
    let binary = coracle_binary()?;
    let dir = tempfile::tempdir()?;
    // The first one compiles and deploys; it is killed, as by a crash.
    Coracle::start(&binary, dir.path())?.deploy("hello", example_hello(), 1)?;
    let mut times = Histogram::<u64>::new(3)?;
    for _ in 0..STARTS {
        let begun = Instant::now();
        let coracle = Coracle::start(&binary, dir.path())?;
        let request = "GET / HTTP/1.1\r\nhost: hello.default.localhost\r\nconnection: close\r\n\r\n";
        poll("the first answer", || {
            exchange(coracle.router, request).ok().filter(|answer| answer.starts_with("HTTP/1.1 200"))
        })?;
        times.record(u64::try_from(begun.elapsed().as_millis())?)?;
        // Killed again, and waited for.
        drop(coracle);
    }
    println!(
        "  n {STARTS}   min {} ms   median {} ms   max {} ms",
        times.min(),
        times.value_at_quantile(0.5),
        times.max()
    );
    Ok(())
}
