//! Tells a Wasm binary from what people give us by mistake, by its first bytes.

/// How many leading bytes [`what_else`] wants to see; a tar archive's magic ends at byte 262.
pub(crate) const SNIFF_BYTES: usize = 512;

/// Whether the bytes start as every Wasm binary does. Whether what follows is a component, and a valid
/// one, is for the sandbox to say.
pub(crate) fn is_wasm(head: &[u8]) -> bool {
    head.starts_with(b"\0asm")
}

/// What the bytes look like, as a noun phrase that follows "is", or `None` for a Wasm binary.
pub(crate) fn what_else(head: &[u8]) -> Option<String> {
    const MAGICS: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "a gzip archive (a container image?)"),
        (b"\x28\xb5\x2f\xfd", "a zstd archive (a container image layer?)"),
        (b"\xfd7zXZ\0", "an xz archive"),
        (b"BZh", "a bzip2 archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x7fELF", "an ELF binary (a native program, or machine code already compiled from a component)"),
        (b"\xfe\xed\xfa\xce", "a Mach-O binary"),
        (b"\xfe\xed\xfa\xcf", "a Mach-O binary"),
        (b"\xcf\xfa\xed\xfe", "a Mach-O binary"),
        (b"\xca\xfe\xba\xbe", "a Mach-O binary or a Java class"),
        (b"MZ", "a Windows executable"),
        (b"BC\xc0\xde", "LLVM bitcode"),
        (b"!<arch>\n", "a static library"),
        (b"#!", "a script"),
    ];
    if is_wasm(head) {
        return None;
    }
    if head.is_empty() {
        return Some("empty".to_owned());
    }
    if let Some((_, what)) = MAGICS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some((*what).to_owned());
    }
    if head.get(257..262) == Some(b"ustar") {
        return Some("a tar archive (a container image?)".to_owned());
    }
    Some(describe_text(head).unwrap_or_else(|| {
        format!("binary data of an unknown kind (it starts with {})", hex::encode(&head[..head.len().min(4)]))
    }))
}

fn describe_text(head: &[u8]) -> Option<String> {
    // The cut after `SNIFF_BYTES` may fall inside a character; that does not make it less of a text.
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).expect("checked up to here by from_utf8")
        }
        Err(_) => return None,
    };
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return None;
    }
    let start = text.trim_start();
    let what = if start.starts_with("(module") || start.starts_with("(component") {
        "WebAssembly text (turn it into a binary with: wasm-tools parse)"
    } else if start.starts_with('{') && (text.contains("mediaType") || text.contains("schemaVersion")) {
        "a container image manifest"
    } else if start.starts_with('{') {
        "JSON text"
    } else if start.starts_with('<') {
        "an HTML or XML page"
    } else {
        "text"
    };
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(head: &[u8], expected: &str) {
        let what = what_else(head).unwrap();
        assert!(what.contains(expected), "{what}");
    }

    #[test]
    fn wasm_is_wasm() {
        assert_eq!(what_else(b"\0asm\x0d\0\x01\0"), None);
        assert_eq!(what_else(b"\0asm\x01\0\0\0"), None);
    }

    #[test]
    fn other_things_are_named() {
        check(b"", "empty");
        check(b"\x1f\x8b\x08", "gzip archive (a container image?)");
        check(b"\x7fELF\x02", "ELF");
        check(b"PK\x03\x04", "zip");
        check(b"#!/bin/sh\n", "script");
        check(b"(component)", "WebAssembly text");
        check(b"  (module (func))", "WebAssembly text");
        check(br#"{"schemaVersion": 2}"#, "image manifest");
        check(br#"{"family": "web"}"#, "JSON");
        check(b"<!doctype html>", "HTML");
        check("héllo".as_bytes(), "text");
        check(b"\0\x01\x02\x03\x04", "00010203");
        let mut tar = vec![0; 512];
        tar[257..262].copy_from_slice(b"ustar");
        check(&tar, "tar archive");
    }

    #[test]
    fn text_cut_inside_a_character_is_text() {
        check(&"é".as_bytes()[..1], "text");
        check(&"xé".as_bytes()[..2], "text");
        check(b"x\xffy", "binary data");
    }
}
