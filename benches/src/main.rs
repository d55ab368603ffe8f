//! Every number the README promises, printed by one command:
//!
//! ```sh
//! cargo run --release -p coracle-bench
//! ```
//!
//! Each figure stands beside a peer or a bound measured in the same run, because absolute figures say
//! more about the machine than about the program. A peer that is not installed is left out, and the
//! output says how to get it (`benches/setup.sh`).

mod allocs;
mod artifact;
mod cap;
mod density;
mod fairness;
mod instantiate;
mod link;
mod load;
mod metering;
mod noisy;
mod peers;
mod proxy;
mod report;
mod startup;
mod throughput;

use anyhow::Context as _;

/// For the bench `allocs`; an atomic addition for each allocation is too little to be seen in the others.
#[global_allocator]
static ALLOCATOR: allocs::Counting = allocs::Counting;

const HELP: &str = "\
cargo run --release -p coracle-bench [-- NAME…]

  instantiate   creating an instance of hello, with Coracle's limits and without
  throughput    requests per second through the router, beside `wasmtime serve`
  startup       from `coracle up` on a warm data directory to the first answer
  cap           how exactly CPU caps are kept
  proxy         the router as a reverse proxy beside nginx and HAProxy, and in front of components
  metering      what metering costs real programs
  fairness      how CPU shares divide the machine
  density       10,000 live instances, and what each holds
  artifact      from an artifact on disk to the first answer
  allocs        what is allocated for one request
  link          a call from one container of a task to another, beside loopback HTTP
  noisy         latency of one service beside tasks in endless loops

Without a name, all of them.";

fn main() -> anyhow::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if names.iter().any(|name| name == "--help" || name == "-h") {
        println!("{HELP}");
        return Ok(());
    }
    if let [part, args @ ..] = &names[..]
        && part == proxy::PART
    {
        return tokio::runtime::Runtime::new()?.block_on(proxy::run_part(args));
    }
    let known = [
        "instantiate",
        "throughput",
        "startup",
        "cap",
        "metering",
        "fairness",
        "density",
        "artifact",
        "allocs",
        "link",
        "noisy",
        "proxy",
    ];
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        anyhow::bail!("no bench is called {unknown:?}\n\n{HELP}");
    }
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; its figures mean nothing. Use --release.");
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    let runtime = tokio::runtime::Runtime::new()?;
    if wanted("instantiate") {
        instantiate::run().context("instantiate")?;
    }
    if wanted("throughput") {
        runtime.block_on(throughput::run()).context("throughput")?;
    }
    if wanted("startup") {
        startup::run().context("startup")?;
    }
    if wanted("cap") {
        runtime.block_on(cap::run()).context("cap")?;
    }
    if wanted("metering") {
        runtime.block_on(metering::run()).context("metering")?;
    }
    if wanted("fairness") {
        runtime.block_on(fairness::run()).context("fairness")?;
    }
    if wanted("density") {
        runtime.block_on(density::run()).context("density")?;
    }
    if wanted("artifact") {
        runtime.block_on(artifact::run()).context("artifact")?;
    }
    if wanted("allocs") {
        runtime.block_on(allocs::run()).context("allocs")?;
    }
    if wanted("link") {
        link::run().context("link")?;
    }
    if wanted("noisy") {
        runtime.block_on(noisy::run()).context("noisy")?;
    }
    if wanted("proxy") {
        runtime.block_on(proxy::run()).context("proxy")?;
    }
    Ok(())
}
