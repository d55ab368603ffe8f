//! Builds the examples, so that the binary carries the one that `coracle demo` deploys.

use std::path::Path;

fn main() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for guest in coracle_guest_build::build_or_exit(&workspace) {
        println!("cargo::rustc-env=CORACLE_EXAMPLE_{}={}", guest.env_name(), guest.path.display());
    }
}
