//! `words` as a plugin of Extism: a core module that asks its host for the text, eight bytes at a time, and gives the
//! answer in a piece of the host's memory.

#![no_std]

include!("words.rs");

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

#[link(wasm_import_module = "extism:host/env")]
unsafe extern "C" {
    safe fn input_length() -> u64;
    safe fn input_load_u64(at: u64) -> u64;
    safe fn input_load_u8(at: u64) -> u32;
    safe fn alloc(length: u64) -> u64;
    safe fn store_u8(at: u64, byte: u32);
    safe fn output_set(at: u64, length: u64);
}

/// The most text there may be.
const ROOM: usize = 64 * 1024;

/// Extism calls this.
#[unsafe(no_mangle)]
pub extern "C" fn words() -> i32 {
    let mut text = [0; ROOM];
    let length = (input_length() as usize).min(ROOM);
    let whole = length / 8 * 8;
    for at in (0..whole).step_by(8) {
        text[at..at + 8].copy_from_slice(&input_load_u64(at as u64).to_le_bytes());
    }
    for at in whole..length {
        text[at] = input_load_u8(at as u64) as u8;
    }
    let (words, longest) = summarize(&text[..length]);
    let mut answer = [0; 16];
    let digits = decimal(words, &mut answer);
    let size = (digits.len() + 1 + longest.len()) as u64;
    let to = alloc(size);
    for (at, byte) in digits.iter().chain(b" ").chain(longest).enumerate() {
        store_u8(to + at as u64, u32::from(*byte));
    }
    output_set(to, size);
    0
}

/// A number in digits, at the end of this room.
fn decimal(mut number: u32, room: &mut [u8; 16]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}
