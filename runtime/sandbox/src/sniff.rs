//! What a file that should be a component is instead, by its first bytes.

/// What the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sniffed {
    /// A WebAssembly component of the version wasmtime reads.
    Component,
    /// A core WebAssembly module.
    CoreModule,
    /// Something else, described so that it fits behind "it is ".
    Other(&'static str),
}

const WASM_MAGIC: &[u8] = b"\0asm";
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];
const COMPONENT_VERSION: &[u8] = &[0x0d, 0, 1, 0];

pub(crate) fn sniff(bytes: &[u8]) -> Sniffed {
    if let Some(rest) = bytes.strip_prefix(WASM_MAGIC) {
        return match rest.get(..4) {
            Some(CORE_VERSION) => Sniffed::CoreModule,
            Some(COMPONENT_VERSION) => Sniffed::Component,
            Some([_, _, 1, 0]) => Sniffed::Other("a component in an outdated binary format"),
            Some(_) => Sniffed::Other("WebAssembly of an unknown version"),
            None => Sniffed::Other("truncated WebAssembly"),
        };
    }
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    Sniffed::Other(if bytes.is_empty() {
        "empty"
    } else if starts(&[0x1f, 0x8b]) {
        "a gzip archive (a container image layer?)"
    } else if starts(b"PK\x03\x04") {
        "a zip archive"
    } else if starts(&[0x28, 0xb5, 0x2f, 0xfd]) {
        "a zstd archive (a container image layer?)"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "a tar archive (a container image?)"
    } else if starts(b"\x7fELF") {
        // wasmtime's own artifacts are ELF files with their own OS/ABI byte.
        if bytes.get(7) == Some(&200) {
            "code already compiled by wasmtime (.cwasm); give the component itself"
        } else {
            "an ELF binary (a native Linux program)"
        }
    } else if starts(b"MZ") {
        "a Windows program"
    } else if starts(&[0xcf, 0xfa, 0xed, 0xfe]) {
        "a macOS program"
    } else if starts(b"#!") {
        "a script"
    } else if bytes.len() < 8 && WASM_MAGIC.starts_with(bytes) {
        "truncated WebAssembly"
    } else {
        text(bytes).unwrap_or("an unknown binary format")
    })
}

fn text(bytes: &[u8]) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(512)];
    if start.iter().any(|byte| *byte < 0x09 || (0x0e..0x20).contains(byte)) {
        return None;
    }
    let start = start.trim_ascii_start();
    Some(if start.starts_with(b"(component") || start.starts_with(b"(module") {
        "WebAssembly text; translate it with `wasm-tools parse` first"
    } else if start.starts_with(b"<") {
        "HTML or XML (a web server's error page?)"
    } else if start.starts_with(b"{") || start.starts_with(b"[") {
        "JSON (an image manifest?)"
    } else {
        "text"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_mistakes_are_recognised() {
        let mut tar = vec![b'x'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        let cases: &[(&[u8], Sniffed)] = &[
            (b"\0asm\x0d\0\x01\0...", Sniffed::Component),
            (b"\0asm\x01\0\0\0", Sniffed::CoreModule),
            (b"\0asm\x0a\0\x01\0", Sniffed::Other("a component in an outdated binary format")),
            (b"\0asm", Sniffed::Other("truncated WebAssembly")),
            (b"\0as", Sniffed::Other("truncated WebAssembly")),
            (b"", Sniffed::Other("empty")),
            (b"\x1f\x8b\x08", Sniffed::Other("a gzip archive (a container image layer?)")),
            (&tar, Sniffed::Other("a tar archive (a container image?)")),
            (b"\x7fELF\x02\x01\x01\0", Sniffed::Other("an ELF binary (a native Linux program)")),
            (b"PK\x03\x04", Sniffed::Other("a zip archive")),
            (b"<!doctype html>", Sniffed::Other("HTML or XML (a web server's error page?)")),
            (b" {\"schemaVersion\": 2}", Sniffed::Other("JSON (an image manifest?)")),
            (b"hello\n", Sniffed::Other("text")),
            (b"(component)", Sniffed::Other("WebAssembly text; translate it with `wasm-tools parse` first")),
            (&[0x80, 0x01, 0x02], Sniffed::Other("an unknown binary format")),
        ];
        for (bytes, expected) in cases {
            assert_eq!(&sniff(bytes), expected);
        }
    }
}
