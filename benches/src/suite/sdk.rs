//! What the SDK costs a guest: hello on the SDK beside hello on the bindings of WASI alone, in turns on one thread. An
//! instance is created and dropped, and a request is answered in a fresh one; the size of the component and the fuel of a
//! request, which are the same every time, stand beside that.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use coracle_fixtures::{example_hello, example_hello_sdk};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Empty};

use super::instantiate::{Limited, on_one_thread};
use crate::bench::Context;
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Pair, Side, Turn, conclude};

/// A component under limits, and what is known of it without a clock.
struct Guest {
    id: &'static str,
    label: &'static str,
    whose: Whose,
    limited: Arc<Limited>,
    bytes: usize,
    /// Of one request, from the creation of its instance on.
    fuel: u64,
    answer: Vec<u8>,
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let count = context.pick(200, 10_000);
    let guests = [
        Guest::new("sdk", "with the SDK", Whose::Ours, example_hello_sdk()).await?,
        Guest::new("plain", "without", Whose::Bound, example_hello()).await?,
    ];
    for guest in &guests {
        // Once without counting: pools are filled, and lazy things made.
        guest.limited.turn(count / 10).await?;
        requests(&guest.limited, count / 10).await?;
    }
    let create = Table::new(
        "create",
        "Creating and removing an instance of hello, with the SDK and without",
        "One thread, in a loop, without entering it. Goal: no slower with the SDK.",
        Unit::Seconds,
    )
    .linear();
    let request = Table::new(
        "request",
        "A request to hello in a fresh instance, with the SDK and without",
        "One thread, one request after the other, in process: from the request to the end of the answer.",
        Unit::Seconds,
    )
    .linear();
    let tables = vec![
        measure(context, &guests, create, count, |limited, count| Box::pin(limited.turn(count))).await,
        measure(context, &guests, request, count, |limited, count| Box::pin(requests(limited, count))).await,
    ];
    Ok(Findings { tables, ..Findings::default() })
}

type Measured = for<'a> fn(&'a Limited, usize) -> BoxFuture<'a, anyhow::Result<Times>>;

/// Both guests in turns.
async fn measure(
    context: &Context,
    guests: &[Guest],
    table: Table,
    count: usize,
    measured: Measured,
) -> Table {
    let side = |guest: &Guest| {
        let (limited, answer) = (Arc::clone(&guest.limited), guest.answer.clone());
        Side::new(guest.row(), move || {
            let (limited, answer) = (Arc::clone(&limited), answer.clone());
            async move { Ok(Turn { answer, ..on_one_thread(limited, count, measured).await? }) }
        })
    };
    let mut sides: Vec<_> = guests.iter().map(side).collect();
    context.interleave(&mut sides, context.pick(1, 7)).await;
    conclude(table, sides, &[Pair::new("sdk", "plain")])
}

impl Guest {
    async fn new(id: &'static str, label: &'static str, whose: Whose, wasm: &Path) -> anyhow::Result<Self> {
        let wasm = std::fs::read(wasm)?;
        let limited = Limited::new(&wasm)?;
        let answer = ask(&limited).await?;
        let fuel = limited.container().stats().fuel_used;
        Ok(Self { id, label, whose, limited: Arc::new(limited), bytes: wasm.len(), fuel, answer })
    }

    #[expect(clippy::cast_precision_loss, reason = "kilobytes, and thousands of instructions")]
    fn row(&self) -> Row {
        Row::new(self.id, self.label, self.whose, "GET /")
            .with_settings("fuel, CPU cap, memory budget, bounds on all that the host holds for the guest")
            .with_extra("component", Unit::Bytes, self.bytes as f64)
            .with_extra("fuel of a request", Unit::Count, self.fuel as f64)
    }
}

async fn requests(limited: &Limited, count: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for _ in 0..count {
        let begun = Instant::now();
        ask(limited).await?;
        times.record(begun.elapsed());
    }
    Ok(times)
}

/// The body of the answer to a request.
async fn ask(limited: &Limited) -> anyhow::Result<Vec<u8>> {
    let request = http::Request::get("/").header("host", "hello").body(Empty::new())?;
    let answer = limited.container().handle(request).await?;
    anyhow::ensure!(answer.status() == 200, "it answers {}", answer.status());
    Ok(answer.into_body().collect().await?.to_bytes().into())
}
