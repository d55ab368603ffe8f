//! Any bytes, sent to the router as a connection: nothing panics, and what a target gets has one shape.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(why) = coracle_router::internals::requests_have_one_shape(bytes) {
        panic!("{why}");
    }
});
