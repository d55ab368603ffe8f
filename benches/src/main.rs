//! The program `coracle-bench`: what `coracle bench` hands over to.

use std::process::ExitCode;

/// For the bench `allocs`; an atomic addition for each allocation is too little to be seen in the others.
#[global_allocator]
static ALLOCATOR: coracle_bench::suite::allocs::Counting = coracle_bench::suite::allocs::Counting;

fn main() -> ExitCode {
    coracle_bench::main()
}
