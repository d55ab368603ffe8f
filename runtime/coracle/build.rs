//! Builds the component that `coracle demo` deploys, so that the binary carries it, and gathers what `coracle new` writes:
//! the templates, and the SDK that its Rust projects carry.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use coracle_guest_build::{Members, build_or_exit};

fn main() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for guest in build_or_exit(&here.join("../../examples"), Members::One("hello")) {
        println!("cargo::rustc-env=CORACLE_EXAMPLE_{}={}", guest.env_name(), guest.path.display());
    }

    let sdk = here.join("../../sdk");
    let mut table = String::from("&[\n");
    for part in ["templates", "src", "macros/src"] {
        println!("cargo::rerun-if-changed={}", sdk.join(part).display());
        for file in files(&sdk.join(part)) {
            let name = file.strip_prefix(&sdk).expect("it is below the folder");
            writeln!(table, "    ({name:?}, include_bytes!({file:?})),").expect("a String takes everything");
        }
    }
    table.push_str("]\n");
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it for build scripts");
    fs::write(Path::new(&out).join("templates.rs"), table).expect("cargo's own folder can be written to");
}

/// The files below a folder, in their order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths.into_iter().flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
