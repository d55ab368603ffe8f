//! What may still be used: memory, and the fuel of a budget.

use crate::host;

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What all instances of the container, or of its task, may hold together; None without a limit.
    pub limit: Option<u64>,
    /// What they hold now, what the host holds for them included.
    pub used: u64,
    /// What they may still take now; None without a limit.
    pub available: Option<u64>,
}

/// The memory of the container and its task.
#[must_use]
pub fn memory() -> Memory {
    host::memory()
}

/// Fuel left of the budget of this request or run, about one unit for each WebAssembly instruction; None without a
/// budget. Labels `coracle.fuel-per-request` and `coracle.fuel` set one.
#[must_use]
pub fn fuel() -> Option<u64> {
    host::fuel()
}
