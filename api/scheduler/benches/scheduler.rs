//! How fast the scheduler decides: `cargo bench -p coracle-scheduler` prints
//!
//! - placements per second: one plan that places 1,000 tasks among 100,000 others on 10,000 nodes;
//! - a quiet plan: nothing has changed, and then one task has, among 100,000;
//! - convergence: a tenth of the nodes start anew, until all tasks run again;
//! - C2M, the size Nomad published: 6,100 nodes and 2,000,000 tasks, placed by plans that are checked, compared with
//!   the state and committed as the store commits them, in virtual time. Fewer with `CORACLE_C2M_TASKS`.

#![allow(clippy::print_stdout, reason = "a benchmark prints")]

mod cluster;

use std::time::Duration;

use cluster::{Size, challenge, decisions};

fn per_second(count: u32, time: Duration) -> f64 {
    f64::from(count) / time.as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn placements() {
    let size = Size::FULL;
    let found = decisions(size);
    println!("{} nodes, {} tasks, {} to place", size.nodes, size.tasks(), size.placed);
    println!(
        "  of one service:       {:>12.0} placements/s",
        per_second(size.placed, median(found.one_service))
    );
    println!(
        "  of as many services:  {:>12.0} placements/s",
        per_second(size.placed, median(found.many_services))
    );
    println!("  quiet plan:           {:>12.1?}", median(found.quiet));
    println!(
        "  one task has changed: {:>12.1?} (its service has {})",
        median(found.one_changed),
        size.placed
    );
    let replaced = found.replaced.iter().sum::<usize>() / found.replaced.len();
    println!(
        "  a tenth of the nodes start anew: {:.1?} until {replaced} tasks run again",
        median(found.convergence)
    );
}

fn c2m() {
    let tasks = std::env::var("CORACLE_C2M_TASKS").ok().and_then(|tasks| tasks.parse().ok());
    let found = challenge(tasks.unwrap_or(2_000_000));
    println!("C2M: 6,100 nodes, {} tasks, until all are RUNNING", found.tasks);
    println!(
        "  placed and RUNNING:   {:>12.0} tasks/s ({:.1?} in all)",
        per_second(found.tasks, found.time),
        found.time
    );
    println!("  worst decision:       {:>12.1?}", found.worst_decision);
    println!("  memory:               {:>8} MiB", found.bytes >> 20);
}

fn main() {
    // First of all: what an allocator keeps of earlier work would be missing in its memory.
    c2m();
    placements();
}
