// What the example plugin `words` computes, for the same work outside of it: how many words, and the longest of them.
// Included by the sources beside it; without `std`, for Extism's sake.

fn summarize(text: &[u8]) -> (u32, &[u8]) {
    let mut words = 0;
    let mut longest: &[u8] = &[];
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        words += 1;
        if word.len() > longest.len() {
            longest = word;
        }
    }
    (words, longest)
}
