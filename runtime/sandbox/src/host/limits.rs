//! Host-side limits that follow from a container's memory.

/// Host-side limits that follow from a container's memory: no knob of wasmtime is left at its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostLimits {
    /// Bytes one call may carry from the guest to the host.
    pub(crate) hostcall_bytes: usize,
    /// Handles of the component model.
    pub(crate) handles: usize,
    /// Resources the host keeps for the guest.
    pub(crate) resources: usize,
    /// Bytes of one set of header fields, bookkeeping included.
    pub(super) fields: usize,
    /// Bytes of random at once.
    pub(super) random: u64,
    /// Bytes of an outgoing body at once; two of them may be waiting.
    pub(super) body_chunk: usize,
}

impl HostLimits {
    /// A part of the memory limit for each, never more than wasmtime's defaults, never so little that ordinary
    /// guests would notice. What lasts is charged to the memory budget too: resources, header fields, bodies on
    /// their way out. What one call carries, and the handles of the component model, are bounded here alone.
    pub(crate) fn for_memory(limit: u64) -> HostLimits {
        let part = |divisor: u64, least: u64, most: u64| {
            usize::try_from((limit / divisor).clamp(least, most)).unwrap_or(usize::MAX)
        };
        HostLimits {
            hostcall_bytes: part(4, 1 << 20, 128 << 20),
            // A handle costs the host about 100 bytes.
            handles: part(1 << 10, 8192, 100_000),
            // Each may be a file descriptor of this process.
            resources: part(1 << 10, 4096, 16_384),
            fields: part(2048, 32 << 10, 128 << 10),
            random: part(16, 64 << 10, 64 << 20) as u64,
            body_chunk: part(4096, 64 << 10, 1 << 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_containers_hold_little_on_the_host() {
        let small = HostLimits::for_memory(16 << 20);
        let large = HostLimits::for_memory(u64::MAX);
        assert_eq!(small.body_chunk, 64 << 10);
        assert_eq!(small.hostcall_bytes, 4 << 20);
        assert_eq!(large.hostcall_bytes, 128 << 20);
        assert_eq!(large.fields, 128 << 10);
        assert!(small.handles < large.handles);
    }
}
