//! Pagination as ELBv2 has it: `Marker`, `PageSize` and `NextMarker`.

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// How many items a page has, unless told, and at most.
const PAGE_SIZE: u32 = 400;

/// Takes `Marker` and `PageSize`.
///
/// # Errors
/// When one of them is of the wrong type or out of range.
pub fn take(members: &mut Members) -> Result<PageRequest, ApiError> {
    let limit = members.integer_in("PageSize", 1..=PAGE_SIZE)?.unwrap_or(PAGE_SIZE);
    let token = members.text("Marker")?.filter(|token| !token.is_empty());
    Ok(PageRequest { limit: limit as usize, token })
}

/// The asked-for page of `items`, which come in the order of their keys, as the member `name`.
///
/// # Errors
/// `ValidationError` when the marker is not one of this list.
pub fn of(
    request: &PageRequest,
    name: &str,
    items: impl IntoIterator<Item = (String, Value)>,
) -> Result<Value, ApiError> {
    let page = request.of(name, items, |(key, _)| key.clone(), String::clone, |text| Some(text.to_owned()));
    let page = page.map_err(|_| ApiError::Client("The marker is invalid".to_owned()))?;
    let items = list(page.items.into_iter().map(|(_, value)| value));
    Ok(Object::new().with(name, items).maybe("NextMarker", page.next).into())
}
