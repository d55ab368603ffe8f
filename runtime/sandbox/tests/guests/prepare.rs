//! What may be prepared, and what is said about what may not.

use crate::{COMMAND, ENGINE, HTTP};
use coracle_sandbox::{Exports, PrepareError};

#[test]
fn exports_are_recognised() {
    assert_eq!(HTTP.exports(), Exports { http: true, command: false });
    assert_eq!(COMMAND.exports(), Exports { http: false, command: true });
}

#[test]
fn a_missing_import_is_named() {
    let wasm = std::fs::read(coracle_fixtures::exotic()).unwrap();
    match ENGINE.prepare_bytes(&wasm) {
        Err(PrepareError::MissingImport { import }) => {
            assert!(import.starts_with("acme:missing/thing@1.2.3"), "{import}");
        }
        other => panic!("{:?}", other.map(|prepared| prepared.exports())),
    }
}

#[test]
fn files_that_are_no_components_are_explained() {
    let refuse = |bytes: &[u8]| match ENGINE.prepare_bytes(bytes) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("accepted"),
    };
    assert_eq!(refuse(b""), "not a WebAssembly component: it is empty");
    assert!(refuse(b"\x1f\x8b\x08\0").contains("gzip"));
    assert!(refuse(b"\0asm\x01\0\0\0").contains("wasm32-wasip2"));
    assert!(refuse(b"\0asm\x0d\0\x01\0").contains("it exports nothing"));
}

#[test]
fn damaged_components_are_refused() {
    let wasm = std::fs::read(coracle_fixtures::command()).unwrap();
    let cut = ENGINE.prepare_bytes(&wasm[..wasm.len() / 2]);
    assert!(matches!(cut, Err(PrepareError::Invalid(_))));
}
