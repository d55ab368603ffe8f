//! How many instances the kernel has mappings for.
//!
//! Linux allows a process 65,530 mappings by default (`vm.max_map_count`), and ends in `Cannot allocate memory` beyond.
//! Each slot of the pool has two for its stack and the guard page below it, in use or not. A live instance of hello was
//! measured to have 4.0 to 4.6 more for its linear memory, which begins as a copy-on-write image: what lies before
//! the image, the image, what can be used behind it, what can't, and pieces that do not join. Without an image it is
//! two or so less. Images are worth having: without them an instance is made by copying, which costs a third of the
//! throughput. So they go only where more instances are asked for than would fit with them.

/// Mappings left for everything else in the process: threads, artifacts, the allocator.
const OTHER_MAPS: u32 = 12_000;

/// Per slot: a stack with its guard page.
const STACK: u32 = 2;

/// Per live instance: its memory, rounded up.
const MEMORY: u32 = 3;

/// The same with an image in it.
const MEMORY_WITH_IMAGE: u32 = 5;

/// What fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// Slots of the pool for WASI 0.2, which is also how many instances live at once.
    pub(crate) instances: u32,
    /// Slots of the pool for WASI 0.3, if there is one: both may be full of stacks.
    pub(crate) concurrent: u32,
    /// Whether memories begin as copy-on-write images.
    pub(crate) images: bool,
}

/// What the kernel of this machine allows.
pub(crate) fn fit(wanted: u32, smallest: u32) -> Fit {
    let allowed = std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok())
        .unwrap_or(65_530);
    fit_into(allowed, wanted, smallest)
}

fn fit_into(allowed: u32, wanted: u32, smallest: u32) -> Fit {
    let maps = allowed.saturating_sub(OTHER_MAPS);
    let wanted = wanted.max(smallest);
    // Two pools of stacks, one set of memories.
    let with_images = maps / (2 * STACK + MEMORY_WITH_IMAGE);
    if wanted <= with_images {
        return Fit { instances: wanted, concurrent: wanted, images: true };
    }
    let instances = wanted.min(maps / (STACK + MEMORY)).max(smallest);
    let left = maps.saturating_sub(instances.saturating_mul(STACK + MEMORY));
    Fit { instances, concurrent: (left / (STACK + MEMORY)).clamp(smallest, instances), images: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_fit_the_kernels_default() {
        assert_eq!(fit_into(65_530, 4000, 16), Fit { instances: 4000, concurrent: 4000, images: true });
        let many = fit_into(65_530, 10_000, 16);
        assert_eq!((many.instances, many.images), (10_000, false));
        assert!(fit_into(65_530, 100_000, 16).instances > 10_000);
    }

    #[test]
    fn what_fits_leaves_room_for_others() {
        for wanted in [1, 1000, 5000, 10_000, 50_000] {
            let Fit { instances, concurrent, images } = fit_into(65_530, wanted, 16);
            let memory = if images { MEMORY_WITH_IMAGE } else { MEMORY };
            let used = STACK * (instances + concurrent) + memory * instances;
            assert!(used <= 65_530 - OTHER_MAPS + 16 * (STACK + MEMORY), "{wanted}: {used}");
        }
        assert_eq!(fit_into(0, 4000, 16).instances, 16, "it is tried all the same");
    }
}
