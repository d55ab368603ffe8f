//! As much of the crate `wasip2` as the example `batch` uses, for building it for this machine.

/// Of `wasi:cli`.
pub mod cli {
    /// `wasi:cli/exit`.
    pub mod exit {
        /// Ends the process.
        pub fn exit_with_code(code: u8) {
            std::process::exit(code.into())
        }
    }
}
