//! Finds which of many texts another text begins with. Pure.

use std::collections::BTreeMap;

/// What is filed under texts, to be found by all texts that begin with one of them.
#[derive(Debug)]
pub(super) struct Beginnings<T> {
    /// In order of their texts.
    files: Box<[File<T>]>,
}

impl<T> Default for Beginnings<T> {
    fn default() -> Self {
        Self { files: Box::default() }
    }
}

#[derive(Debug)]
struct File<T> {
    text: Box<[u8]>,
    /// The file with the longest text that this one's begins with.
    parent: Option<usize>,
    content: T,
}

impl<T> Beginnings<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// What is filed under beginnings of `text`, that of the longest first.
    pub(super) fn of<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a T> {
        // Whatever sorts between a beginning of the text and the text itself has that beginning too: so all of the
        // text's beginnings are the file just before the text, or ancestors of it.
        let last = self.files.partition_point(|file| *file.text <= *text).checked_sub(1);
        let chain = std::iter::successors(last, |index| self.files[*index].parent);
        chain
            .map(|index| &self.files[index])
            .filter(|file| text.starts_with(&file.text))
            .map(|file| &file.content)
    }
}

impl<T> FromIterator<(Vec<u8>, T)> for Beginnings<T> {
    /// Of those with the same text the last remains.
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, T)>>(filed: I) -> Self {
        let in_order: BTreeMap<Vec<u8>, T> = filed.into_iter().collect();
        let mut files: Vec<File<T>> = Vec::with_capacity(in_order.len());
        // The texts that the current one begins with, longest last.
        let mut open: Vec<usize> = Vec::new();
        for (text, content) in in_order {
            while open.last().is_some_and(|index| !text.starts_with(&files[*index].text)) {
                open.pop();
            }
            let parent = open.last().copied();
            open.push(files.len());
            files.push(File { text: text.into(), parent, content });
        }
        Self { files: files.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn all_beginnings_are_found_longest_first(
            filed in prop::collection::btree_set("[ab]{0,4}", 0..12),
            text in "[ab]{0,5}",
        ) {
            let beginnings: Beginnings<String> =
                filed.iter().map(|text| (text.clone().into_bytes(), text.clone())).collect();
            let found: Vec<&String> = beginnings.of(text.as_bytes()).collect();
            let mut expected: Vec<&String> = filed.iter().filter(|filed| text.starts_with(*filed)).collect();
            expected.reverse();
            prop_assert_eq!(found, expected);
        }
    }
}
