//! `words` as a library that a host loads and calls: no isolation at all.

include!("words.rs");

/// Gives the number of words, and where the longest of them begins and ends in the text.
///
/// # Safety
/// `text` has `length` bytes, and `range` has room for two numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn summarize_words(text: *const u8, length: usize, range: *mut usize) -> u32 {
    // SAFETY: the caller's promise.
    let text = unsafe { std::slice::from_raw_parts(text, length) };
    let (words, longest) = summarize(text);
    let begin = if longest.is_empty() { 0 } else { longest.as_ptr() as usize - text.as_ptr() as usize };
    // SAFETY: the caller's promise.
    unsafe {
        range.write(begin);
        range.add(1).write(begin + longest.len());
    }
    words
}
