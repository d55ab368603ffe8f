//! Every number the README promises, and the answer to "how much faster does it start than a container, here?":
//!
//! ```sh
//! cargo run --release -- bench
//! ```
//!
//! Each figure stands beside a peer or a bound measured in the same run, because absolute figures say more about the
//! machine than about the program. A peer that is not installed is left out, and the output says how to get it
//! (`benches/setup.sh`). What is measured, and what is not, is told in `benches/README.md`.
//!
//! - [`mod@bench`] is what a bench is, and the list of them; [`suite`] holds them, and [`cold_start`] the largest.
//! - [`turns`] lets sides alternate and makes ratios, or refuses to; [`stats`] is the arithmetic.
//! - [`report`] is what comes out: JSON, a terminal's tables, an HTML page, a comparison of two.
//! - [`containers`] and [`peers`] start what Coracle is held against; [`cleanup`] leaves nothing of it behind.

pub mod bench;
pub mod cleanup;
mod cli;
pub mod cold_start;
pub mod containers;
mod grpc;
mod load;
mod machine;
pub mod peers;
mod proc;
pub mod report;
pub mod stats;
pub mod suite;
pub mod turns;

pub use cli::main;
pub use machine::Machine;
