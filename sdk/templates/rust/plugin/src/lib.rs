//! The plugin {{name}}: its functions are those of `wit/plugin.wit`.

wit_bindgen::generate!({ path: "wit", world: "plugin" });

struct Plugin;

export!(Plugin);

impl Guest for Plugin {
    fn summarize(text: String) -> Summary {
        let longest = text.split_whitespace().rev().max_by_key(|word| word.chars().count());
        Summary {
            words: u32::try_from(text.split_whitespace().count()).unwrap_or(u32::MAX),
            longest: longest.unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_words() {
        let summary = Plugin::summarize("every word counts".to_owned());
        assert_eq!((summary.words, summary.longest.as_str()), (3, "counts"));
    }
}
