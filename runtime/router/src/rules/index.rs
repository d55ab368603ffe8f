//! Finds the first rule that matches without looking at every rule. Pure.
//!
//! Each rule is filed twice over. First by host: under the hosts it names, under the endings of hosts it names
//! (`*.example.com`), or under "any host". There it is filed under the beginnings of the paths it names, or, if it
//! names none, under a header and the beginnings of its values. A request looks into the files of its host, of its
//! host's endings and of any host, and there at those whose beginnings its path and its headers have. What is filed
//! under nothing, because it decides by the middle of a text, by regular expressions, by clients, methods or queries
//! only, is looked at for every request.

use std::collections::HashMap;

use http::{HeaderMap, HeaderName};

use super::beginnings::Beginnings;

/// A rule's place in order of priority.
pub(super) type Place = u32;

/// Beyond this many files for one rule, it is filed under nothing.
const MAX_FILES: usize = 64;

/// Bytes of a host, or of a header's value, by which rules are filed. ELBv2's patterns are of at most 128.
const MAX_KEY: usize = 128;

/// Places, in order.
type Places = Box<[Place]>;

#[derive(Debug, Default)]
pub(super) struct Index {
    by_host: HashMap<Box<[u8]>, Shelf>,
    /// By the endings of hosts, read backwards.
    by_ending: Beginnings<Shelf>,
    any_host: Shelf,
}

/// Rules for the same hosts.
#[derive(Debug, Default)]
struct Shelf {
    by_path: Beginnings<Places>,
    by_header: HashMap<HeaderName, Beginnings<Places>>,
}

/// Where a rule is to be filed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filing {
    /// One of which a request must have; none if any will do.
    pub(super) hosts: Vec<Host>,
    pub(super) within: Within,
}

/// A host, or hosts. Lower-case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Named(Vec<u8>),
    EndingIn(Vec<u8>),
}

/// What else a request must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Within {
    /// A path that begins with one of these; none if any will do.
    Paths(Vec<Vec<u8>>),
    /// This header with a value that begins with one of these, lower-case.
    Header(HeaderName, Vec<Vec<u8>>),
}

impl Default for Within {
    fn default() -> Self {
        Self::Paths(Vec::new())
    }
}

impl Filing {
    fn files(&self) -> usize {
        let (Within::Paths(within) | Within::Header(_, within)) = &self.within;
        self.hosts.len().max(1) * within.len().max(1)
    }
}

impl Index {
    /// Files rules given in order of priority.
    pub(super) fn new(filings: impl IntoIterator<Item = Filing>) -> Self {
        let mut by_host: HashMap<Vec<u8>, ShelfBuilder> = HashMap::new();
        let mut by_ending: HashMap<Vec<u8>, ShelfBuilder> = HashMap::new();
        let mut any_host = ShelfBuilder::default();
        for (place, mut filing) in (0..).zip(filings) {
            if filing.files() > MAX_FILES {
                filing = Filing::default();
            }
            let Filing { hosts, within } = filing;
            if hosts.is_empty() {
                any_host.insert(&within, place);
            }
            for host in hosts {
                let shelf = match host {
                    Host::Named(host) => by_host.entry(host).or_default(),
                    Host::EndingIn(ending) => {
                        by_ending.entry(ending.into_iter().rev().take(MAX_KEY).collect()).or_default()
                    }
                };
                shelf.insert(&within, place);
            }
        }
        Self {
            by_host: by_host.into_iter().map(|(host, shelf)| (host.into(), shelf.build())).collect(),
            by_ending: by_ending.into_iter().map(|(ending, shelf)| (ending, shelf.build())).collect(),
            any_host: any_host.build(),
        }
    }

    /// The first place `matches` says yes to, of those filed for this request.
    pub(super) fn first(
        &self,
        host: &[u8],
        path: &[u8],
        headers: &HeaderMap,
        matches: impl FnMut(Place) -> bool,
    ) -> Option<Place> {
        let mut search = Search { path, headers, best: None, matches };
        let mut buffer = [0; 2 * MAX_KEY];
        if !self.by_host.is_empty()
            && let Some(lower) = buffer.get_mut(..host.len())
        {
            lower.copy_from_slice(host);
            lower.make_ascii_lowercase();
            if let Some(shelf) = self.by_host.get(&*lower) {
                search.look_into(shelf);
            }
        }
        if !self.by_ending.is_empty() {
            let length = host.len().min(MAX_KEY);
            let backwards = &mut buffer[..length];
            for (to, from) in backwards.iter_mut().zip(host.iter().rev()) {
                *to = from.to_ascii_lowercase();
            }
            for shelf in self.by_ending.of(backwards) {
                search.look_into(shelf);
            }
        }
        search.look_into(&self.any_host);
        search.best
    }
}

/// A search under way.
struct Search<'a, M> {
    path: &'a [u8],
    headers: &'a HeaderMap,
    best: Option<Place>,
    matches: M,
}

impl<M: FnMut(Place) -> bool> Search<'_, M> {
    fn look_into(&mut self, shelf: &Shelf) {
        for places in shelf.by_path.of(self.path) {
            self.look_at(places);
        }
        // Whichever is less: the headers that rules name, or those of the request.
        if shelf.by_header.len() <= self.headers.keys_len() {
            for (name, by_value) in &shelf.by_header {
                self.look_at_header(name, by_value);
            }
        } else {
            for name in self.headers.keys() {
                if let Some(by_value) = shelf.by_header.get(name) {
                    self.look_at_header(name, by_value);
                }
            }
        }
    }

    fn look_at_header(&mut self, name: &HeaderName, by_value: &Beginnings<Places>) {
        for value in self.headers.get_all(name) {
            let mut buffer = [0; MAX_KEY];
            let value = value.as_bytes();
            let lower = &mut buffer[..value.len().min(MAX_KEY)];
            lower.copy_from_slice(&value[..lower.len()]);
            lower.make_ascii_lowercase();
            for places in by_value.of(lower) {
                self.look_at(places);
            }
        }
    }

    /// Lowers `best` to the first place that matches, if it is lower.
    fn look_at(&mut self, places: &[Place]) {
        let best = self.best;
        let mut better = places.iter().copied().take_while(|place| best.is_none_or(|best| *place < best));
        if let Some(found) = better.find(|place| (self.matches)(*place)) {
            self.best = Some(found);
        }
    }
}

#[derive(Default)]
struct ShelfBuilder {
    by_path: HashMap<Vec<u8>, Vec<Place>>,
    by_header: HashMap<HeaderName, HashMap<Vec<u8>, Vec<Place>>>,
}

impl ShelfBuilder {
    fn insert(&mut self, within: &Within, place: Place) {
        match within {
            Within::Paths(prefixes) if prefixes.is_empty() => file(&mut self.by_path, &[], place),
            Within::Paths(prefixes) => {
                prefixes.iter().for_each(|prefix| file(&mut self.by_path, prefix, place));
            }
            Within::Header(name, values) => {
                let by_value = self.by_header.entry(name.clone()).or_default();
                for value in values {
                    file(by_value, &value[..value.len().min(MAX_KEY)], place);
                }
            }
        }
    }

    fn build(self) -> Shelf {
        let build = |files: HashMap<Vec<u8>, Vec<Place>>| {
            files.into_iter().map(|(text, places)| (text, places.into())).collect()
        };
        Shelf {
            by_path: build(self.by_path),
            by_header: self.by_header.into_iter().map(|(name, files)| (name, build(files))).collect(),
        }
    }
}

fn file(files: &mut HashMap<Vec<u8>, Vec<Place>>, text: &[u8], place: Place) {
    let places = files.entry(text.to_vec()).or_default();
    if places.last() != Some(&place) {
        places.push(place);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn bytes(list: &[&str]) -> Vec<Vec<u8>> {
        list.iter().map(|text| text.as_bytes().to_vec()).collect()
    }

    fn filing(hosts: &[&str], prefixes: &[&str]) -> Filing {
        let host = |host: &&str| match host.strip_prefix('*') {
            Some(ending) => Host::EndingIn(ending.into()),
            None => Host::Named((*host).into()),
        };
        Filing { hosts: hosts.iter().map(host).collect(), within: Within::Paths(bytes(prefixes)) }
    }

    fn by_header(hosts: &[&str], name: &'static str, values: &[&str]) -> Filing {
        let within = Within::Header(HeaderName::from_static(name), bytes(values));
        Filing { within, ..filing(hosts, &[]) }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    /// The places that are looked at, in order.
    fn looked_at(index: &Index, host: &str, path: &str, headers: &HeaderMap) -> Vec<Place> {
        let mut places = Vec::new();
        let none = index.first(host.as_bytes(), path.as_bytes(), headers, |place| {
            places.push(place);
            false
        });
        assert_eq!(none, None);
        places.sort_unstable();
        places
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
        let looked_at = |host: &str, path: &str| looked_at(&index, host, path, &HeaderMap::new());
        assert_eq!(looked_at("A.com", "/x/1"), [0, 3, 4]);
        assert_eq!(looked_at("b.com", "/x/long"), [1, 2, 3, 4]);
        assert_eq!(looked_at("c.com", "/y/"), [4]);
        assert_eq!(looked_at(&"h".repeat(300), "/x"), [3, 4]);
    }

    #[test]
    fn hosts_are_found_by_their_endings() {
        let long = format!("*{}.com", "l".repeat(200));
        let index = Index::new([
            filing(&["*.a.com"], &["/x"]),
            filing(&["*.a.com", "*.b.com"], &[]),
            filing(&["*.com"], &[]),
            filing(&[&long], &[]),
        ]);
        let looked_at = |host: &str, path: &str| looked_at(&index, host, path, &HeaderMap::new());
        assert_eq!(looked_at("www.A.com", "/x"), [0, 1, 2]);
        assert_eq!(looked_at("www.b.com", "/x"), [1, 2]);
        assert!(looked_at("c.org", "/x").is_empty());
        assert_eq!(looked_at(&format!("{}.com", "l".repeat(500)), "/"), [2, 3]);
    }

    #[test]
    fn rules_about_headers_are_found_by_their_values() {
        let index = Index::new([
            by_header(&[], "x-tier", &["gold", "silver"]),
            by_header(&[], "x-tier", &["g"]),
            by_header(&[], "x-other", &[""]),
            by_header(&["a.com"], "x-tier", &["gold"]),
            by_header(&["a.com"], "x-third", &[""]),
            by_header(&["a.com"], "x-fourth", &[""]),
        ]);
        let looked_at =
            |host: &str, lines: &[(&'static str, &str)]| looked_at(&index, host, "/", &headers(lines));
        assert!(looked_at("b.com", &[]).is_empty());
        assert_eq!(looked_at("b.com", &[("x-tier", "GOLD")]), [0, 1]);
        assert_eq!(looked_at("b.com", &[("x-tier", "bronze"), ("x-tier", "silver")]), [0]);
        assert_eq!(looked_at("a.com", &[("x-tier", "gold-2"), ("accept", "*/*")]), [0, 1, 3]);
        assert_eq!(looked_at("b.com", &[("x-other", &"v".repeat(300))]), [2]);
    }

    proptest! {
        /// The index finds what a walk over all rules finds.
        #[test]
        fn the_first_match_is_found(
            rules in prop::collection::vec(("\\*?[ab]{0,2}", "/[ab]{0,3}", "[ab]{0,2}"), 0..20),
            host in "[ab]{0,3}",
            path in "/[ab]{0,4}",
            header in "[ab]{0,3}",
        ) {
            let index = Index::new(rules.iter().map(|(host, prefix, value)| {
                let hosts: &[&str] = if host.is_empty() { &[] } else { &[host] };
                match value.as_str() {
                    "" => filing(hosts, &[prefix]),
                    value => by_header(hosts, "x", &[value]),
                }
            }));
            let fits = |(of_rule, prefix, value): &(String, String, String)| {
                let is_host = match of_rule.strip_prefix('*') {
                    Some(ending) => host.ends_with(ending),
                    None => of_rule.is_empty() || *of_rule == host,
                };
                is_host && if value.is_empty() { path.starts_with(prefix) } else { header.starts_with(value) }
            };
            let expected = rules.iter().position(fits);
            let (host, path, headers) = (host.as_bytes(), path.as_bytes(), headers(&[("x", &header)]));
            let found = index.first(host, path, &headers, |place| fits(&rules[place as usize]));
            prop_assert_eq!(found.map(|place| place as usize), expected);
        }
    }
}
