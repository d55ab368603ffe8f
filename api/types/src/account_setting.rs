//! Account settings that somebody changed.

use serde::{Deserialize, Serialize};

use crate::ids::Region;

/// One account setting of one principal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AccountSettingId {
    /// Settings are per region.
    pub region: Region,
    /// Whose setting it is, as an ARN; None is the account's default, which holds for everybody who has
    /// none of their own.
    pub principal: Option<String>,
    /// Its name, such as `containerInsights`.
    pub name: String,
}

/// A changed account setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// Which one.
    pub id: AccountSettingId,
    /// Its value.
    pub value: String,
}
