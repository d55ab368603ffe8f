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
    /// guests would notice. What an instance makes the host hold is not charged to the memory budget, so these
    /// bound it: as many resources as there may be, each a full set of header fields, or a third of them a body
    /// with two chunks waiting, are about three times the limit, and more only below 64 MiB.
    pub(crate) fn for_memory(limit: u64) -> HostLimits {
        let part = |divisor: u64, least: u64, most: u64| {
            usize::try_from((limit / divisor).clamp(least, most)).unwrap_or(usize::MAX)
        };
        HostLimits {
            hostcall_bytes: part(2, 1 << 20, 128 << 20),
            // A handle costs the host about 100 bytes, a resource about 200 and what it holds, which may also be
            // a file descriptor of this process.
            handles: part(1000, 1000, 100_000),
            resources: part(64 << 10, 1000, 16_384),
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
        assert_eq!(small.hostcall_bytes, 8 << 20);
        assert_eq!(large.hostcall_bytes, 128 << 20);
        assert_eq!(large.fields, 128 << 10);
        assert!(small.resources < large.resources);
    }

    #[test]
    fn what_the_host_holds_is_in_proportion_to_the_limit() {
        for mib in [64_u64, 128, 256, 512, 1024, 2048, 4096, 65_536] {
            let limits = HostLimits::for_memory(mib << 20);
            let headers = limits.resources * limits.fields;
            // A request, its headers or its stream, and its body.
            let bodies = limits.resources / 3 * 2 * limits.body_chunk;
            assert!(headers.max(bodies) as u64 <= 3 * (mib << 20), "{mib} MiB: {headers} {bodies}");
        }
    }
}
