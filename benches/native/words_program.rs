//! `words` as a program: the text on standard input, the answer on standard output.

use std::io::Read;

include!("words.rs");

fn main() {
    let mut text = Vec::new();
    std::io::stdin().read_to_end(&mut text).expect("the text can be read");
    let (words, longest) = summarize(&text);
    print!("{words} {}", String::from_utf8_lossy(longest));
}
