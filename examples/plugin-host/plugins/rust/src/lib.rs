//! A plugin: counts words.

wit_bindgen::generate!({ world: "plugin", path: "../../wit" });

struct Words;

impl Guest for Words {
    fn summarize(text: String) -> Summary {
        log("Rust counts words");
        let ignored = std::env::var("IGNORE").unwrap_or_default();
        let is_ignored = |word: &str| ignored.split_whitespace().any(|other| other == word);
        let mut summary = Summary { words: 0, longest: String::new() };
        for word in text.split_whitespace().filter(|word| !is_ignored(word)) {
            summary.words += 1;
            if word.len() > summary.longest.len() {
                summary.longest = word.to_owned();
            }
        }
        summary
    }

    fn crash() {
        panic!("as asked");
    }

    fn spin() {
        loop {
            std::hint::black_box(());
        }
    }
}

export!(Words);
