//! Rules and a request from any text: nothing panics, and the index finds what a walk over all rules finds.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(difference) = coracle_router::internals::rules_agree(text) {
        panic!("{difference}");
    }
});
