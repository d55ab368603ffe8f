//! Pagination: `maxResults`, `nextToken`, and the token between two pages.
//!
//! A token says where the last page ended, by key and not by number, so that what comes and goes
//! between two requests neither repeats nor hides anything else. It also says which list it belongs
//! to, and is refused by every other.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::ApiError;
use crate::members::Members;

/// The longest token that is looked at, in bytes. Keys are names of up to 512 characters.
const TOKEN_BYTES_MAX: usize = 4096;

/// Which part of a list is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// At most this many items.
    pub limit: usize,
    /// The token of the page before.
    pub token: Option<String>,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// What to ask the next page with, if there is one.
    pub next: Option<String>,
}

impl PageRequest {
    /// Takes `maxResults` (1 to 100) and `nextToken`.
    ///
    /// # Errors
    /// When one of them is of the wrong type or out of range.
    pub fn take(members: &mut Members, default: u32) -> Result<Self, ApiError> {
        Self::take_up_to(members, default, 100)
    }

    /// The same for a list whose pages have at most `max` items.
    ///
    /// # Errors
    /// When one of them is of the wrong type or out of range.
    pub fn take_up_to(members: &mut Members, default: u32, max: u32) -> Result<Self, ApiError> {
        let limit = members.integer_in("maxResults", 1..=max)?.unwrap_or(default);
        let token = members.text("nextToken")?.filter(|token| !token.is_empty());
        Ok(Self { limit: limit as usize, token })
    }

    /// The asked-for page of `items`, which come in the order of `key`. `list` names the list.
    ///
    /// # Errors
    /// `InvalidParameterException` when the token is not one of this list.
    pub fn of<T, K: Ord>(
        &self,
        list: &str,
        items: impl IntoIterator<Item = T>,
        key: impl Fn(&T) -> K,
        print: impl Fn(&K) -> String,
        parse: impl Fn(&str) -> Option<K>,
    ) -> Result<Page<T>, ApiError> {
        let after = match &self.token {
            None => None,
            Some(token) => Some(decode(list, token).and_then(|text| parse(&text)).ok_or_else(invalid)?),
        };
        let mut wanted =
            items.into_iter().filter(|item| after.as_ref().is_none_or(|after| key(item) > *after));
        let page: Vec<T> = wanted.by_ref().take(self.limit).collect();
        let more = wanted.next().is_some();
        let next = page.last().filter(|_| more).map(|last| encode(list, &print(&key(last))));
        Ok(Page { items: page, next })
    }

    /// The asked-for page of `items` that are in the order of their text.
    ///
    /// # Errors
    /// `InvalidParameterException` when the token is not one of this list.
    pub fn of_texts(
        &self,
        list: &str,
        items: impl IntoIterator<Item = String>,
    ) -> Result<Page<String>, ApiError> {
        self.of(list, items, String::clone, String::clone, |text| Some(text.to_owned()))
    }
}

fn invalid() -> ApiError {
    ApiError::InvalidParameter("Invalid token.".to_owned())
}

fn encode(list: &str, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("1\n{list}\n{after}"))
}

fn decode(list: &str, token: &str) -> Option<String> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    text.strip_prefix("1\n")?.strip_prefix(list)?.strip_prefix('\n').map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn pages_join_up_while_items_come_and_go() {
        let first = PageRequest { limit: 2, token: None };
        let page = first.of_texts("things", texts(&["a", "b", "c", "d"])).unwrap();
        assert_eq!(page.items, ["a", "b"]);
        let second = PageRequest { limit: 2, token: page.next };
        let page = second.of_texts("things", texts(&["aa", "c", "d"])).unwrap();
        assert_eq!((page.items, page.next), (texts(&["c", "d"]), None));
    }

    #[test]
    fn tokens_belong_to_one_list() {
        let page = PageRequest { limit: 1, token: None }.of_texts("things", texts(&["a", "b"])).unwrap();
        for token in [page.next.unwrap(), "!!".to_owned(), "x".repeat(10_000), encode("others", "a")] {
            let ours = token == encode("things", "a");
            let request = PageRequest { limit: 1, token: Some(token) };
            assert_eq!(request.of_texts("things", texts(&["a", "b"])).is_ok(), ours);
        }
    }
}
