//! The program `coracle-bench`: what `coracle bench` hands over to.

use std::process::ExitCode;

/// For the bench `allocs`.
#[global_allocator]
static ALLOCATOR: coracle_bench::suite::allocs::Counting = coracle_bench::suite::allocs::Counting;

fn main() -> ExitCode {
    coracle_bench::main()
}
