//! Finds the first rule that matches without looking at every rule. Pure.
//!
//! Most rules name a host, a path, or both. Each rule is filed under the hosts it names literally, or
//! under "any host", and there under the literal beginnings of its paths. A request looks at the files of
//! its host and of any host, and there at those whose beginning its path has. What is filed under nothing,
//! because it decides by wildcards at the front, by regular expressions or by headers only, is looked at
//! for every request.

use std::collections::HashMap;

/// A rule's place in order of priority.
pub(super) type Place = u32;

/// Beyond this many files for one rule, it is filed under nothing.
const MAX_FILES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Index {
    by_host: HashMap<Box<[u8]>, Paths>,
    any_host: Paths,
}

/// Where a rule is to be filed.
#[derive(Debug, Default)]
pub(super) struct Filing {
    /// Lower-case hosts, one of which a request must have; none if any will do.
    pub(super) hosts: Vec<Vec<u8>>,
    /// Beginnings, one of which the path must have; none if any will do.
    pub(super) prefixes: Vec<Vec<u8>>,
}

impl Index {
    /// Files rules given in order of priority.
    pub(super) fn new(filings: impl IntoIterator<Item = Filing>) -> Self {
        let mut by_host: HashMap<Box<[u8]>, PathsBuilder> = HashMap::new();
        let mut any_host = PathsBuilder::default();
        for (place, mut filing) in (0..).zip(filings) {
            if filing.hosts.len() * filing.prefixes.len().max(1) > MAX_FILES {
                filing = Filing::default();
            }
            if filing.prefixes.is_empty() {
                filing.prefixes.push(Vec::new());
            }
            if filing.hosts.is_empty() {
                any_host.insert(&filing.prefixes, place);
            }
            for host in filing.hosts {
                by_host.entry(host.into()).or_default().insert(&filing.prefixes, place);
            }
        }
        let by_host = by_host.into_iter().map(|(host, paths)| (host, paths.build())).collect();
        Self { by_host, any_host: any_host.build() }
    }

    /// The first place `matches` says yes to, of those filed for this host and path.
    pub(super) fn first(
        &self,
        host: &[u8],
        path: &[u8],
        mut matches: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let mut best = None;
        let mut lower = [0; 256];
        if !self.by_host.is_empty()
            && let Some(lower) = lower.get_mut(..host.len())
        {
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            if let Some(paths) = self.by_host.get(&*lower) {
                paths.first(path, &mut best, &mut matches);
            }
        }
        self.any_host.first(path, &mut best, &mut matches);
        best
    }
}

/// Files by the beginning of paths.
#[derive(Debug, Default)]
struct Paths {
    /// In order of their prefix.
    files: Box<[File]>,
}

#[derive(Debug)]
struct File {
    prefix: Box<[u8]>,
    /// The file with the longest prefix that this one's begins with.
    parent: Option<usize>,
    /// In order.
    places: Box<[Place]>,
}

impl Paths {
    /// Lowers `best` to the first place that matches, if it is lower.
    fn first(&self, path: &[u8], best: &mut Option<Place>, matches: &mut impl FnMut(Place) -> bool) {
        // Whatever sorts between a beginning of the path and the path itself has that beginning too: so
        // all of the path's beginnings are the file just before the path, or ancestors of it.
        let after = self.files.partition_point(|file| *file.prefix <= *path);
        let mut next = after.checked_sub(1);
        while let Some(file) = next.map(|index| &self.files[index]) {
            if path.starts_with(&file.prefix) {
                let better = file.places.iter().take_while(|place| best.is_none_or(|best| **place < best));
                if let Some(found) = better.copied().find(|place| matches(*place)) {
                    *best = Some(found);
                }
            }
            next = file.parent;
        }
    }
}

#[derive(Default)]
struct PathsBuilder(std::collections::BTreeMap<Vec<u8>, Vec<Place>>);

impl PathsBuilder {
    fn insert(&mut self, prefixes: &[Vec<u8>], place: Place) {
        for prefix in prefixes {
            let places = self.0.entry(prefix.clone()).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }

    fn build(self) -> Paths {
        let mut files: Vec<File> = Vec::with_capacity(self.0.len());
        // The prefixes that the current one begins with, longest last.
        let mut open: Vec<usize> = Vec::new();
        for (prefix, places) in self.0 {
            while open.last().is_some_and(|index| !prefix.starts_with(&files[*index].prefix)) {
                open.pop();
            }
            open.push(files.len());
            let parent = open.len().checked_sub(2).map(|index| open[index]);
            files.push(File { prefix: prefix.into(), parent, places: places.into() });
        }
        Paths { files: files.into() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filing(hosts: &[&str], prefixes: &[&str]) -> Filing {
        let owned = |list: &[&str]| list.iter().map(|text| text.as_bytes().to_vec()).collect();
        Filing { hosts: owned(hosts), prefixes: owned(prefixes) }
    }

    #[test]
    fn only_what_may_match_is_looked_at() {
        let index = Index::new([
            filing(&["a.com"], &["/x/", "/y/"]),
            filing(&["b.com"], &[]),
            filing(&[], &["/x/long"]),
            filing(&[], &["/x"]),
            filing(&[], &[]),
        ]);
        let looked_at = |host: &str, path: &str| {
            let mut places = Vec::new();
            let none = index.first(host.as_bytes(), path.as_bytes(), |place| {
                places.push(place);
                false
            });
            assert_eq!(none, None);
            places.sort_unstable();
            places
        };
        assert_eq!(looked_at("A.com", "/x/1"), [0, 3, 4]);
        assert_eq!(looked_at("b.com", "/x/long"), [1, 2, 3, 4]);
        assert_eq!(looked_at("c.com", "/y/"), [4]);
        assert_eq!(looked_at(&"h".repeat(300), "/x"), [3, 4]);
    }

    proptest! {
        /// The index finds what a walk over all rules finds.
        #[test]
        fn the_first_match_is_found(
            rules in prop::collection::vec(("[ab]{0,2}", "/[ab]{0,3}"), 0..20),
            host in "[ab]{0,2}",
            path in "/[ab]{0,4}",
        ) {
            let index = Index::new(rules.iter().map(|(host, prefix)| match host.as_str() {
                "" => filing(&[], &[prefix]),
                host => filing(&[host], &[prefix]),
            }));
            let fits = |(of_rule, prefix): &(String, String)| {
                (of_rule.is_empty() || *of_rule == host) && path.starts_with(prefix)
            };
            let expected = rules.iter().position(fits);
            let found = index.first(host.as_bytes(), path.as_bytes(), |place| fits(&rules[place as usize]));
            prop_assert_eq!(found.map(|place| place as usize), expected);
        }
    }
}
