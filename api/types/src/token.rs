//! Client tokens: what makes a repeated request the same request.

use serde::{Deserialize, Serialize};

use crate::ids::Region;
use crate::time::Timestamp;

/// One client token of one operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TokenId {
    /// The region of the request.
    pub region: Region,
    /// The operation's name, such as `RunTask`.
    pub operation: String,
    /// The token as the client sent it, at most 64 characters.
    pub token: String,
}

/// What the first request with a token did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// The token.
    pub id: TokenId,
    /// A digest of the request's parameters: the same token with others is a conflict.
    pub fingerprint: String,
    /// The ids of the resources that were made, as `Display` prints them.
    pub made: Vec<String>,
    /// When the request was answered; tokens are forgotten after 24 hours, or when there are too many.
    pub at: Timestamp,
}
