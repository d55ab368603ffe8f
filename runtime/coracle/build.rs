//! Builds the component that `coracle demo` deploys, so that the binary carries it.

use std::path::Path;

use coracle_guest_build::{Members, build_or_exit};

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for guest in build_or_exit(&workspace, Members::One("hello")) {
        println!("cargo::rustc-env=CORACLE_EXAMPLE_{}={}", guest.env_name(), guest.path.display());
    }
}
