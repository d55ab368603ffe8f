//! Configuration: the variables of the task definition, and its labels `coracle.config.KEY` over them.
//!
//! By `wasi:config`. A host that grants none does not start a component that asks for it, and says so.

use std::fmt;
use std::str::FromStr;

use crate::host;

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Nobody has set it.
    Missing(String),
    /// It is not what it should be.
    Malformed {
        /// The key.
        key: String,
        /// What was expected instead.
        reason: String,
    },
    /// The host could not say.
    Host(String),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(
                f,
                "configuration {key} is not granted: set it in the task definition, as `environment` or as the label \
                 coracle.config.{key}"
            ),
            Self::Malformed { key, reason } => write!(f, "configuration {key}: {reason}"),
            Self::Host(reason) => write!(f, "configuration can't be read: {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A value, if there is one.
///
/// # Errors
/// When the host can't say.
pub fn get(key: &str) -> Result<Option<String>, ConfigError> {
    host::config(key).map_err(ConfigError::Host)
}

/// A value that there must be.
///
/// # Errors
/// When there is none.
pub fn require(key: &str) -> Result<String, ConfigError> {
    get(key)?.ok_or_else(|| ConfigError::Missing(key.to_owned()))
}

/// A number, or whatever else a text can be, if there is one.
///
/// # Errors
/// When it is not what it should be.
pub fn parse<T: FromStr<Err: fmt::Display>>(key: &str) -> Result<Option<T>, ConfigError> {
    let parse = |value: String| {
        value.parse().map_err(|error: T::Err| ConfigError::Malformed {
            key: key.to_owned(),
            reason: format!("{value:?}: {error}"),
        })
    };
    get(key)?.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        testing::set_config("LIMIT", "ten");
        assert_eq!(get("NOTHING"), Ok(None));
        assert!(require("NOTHING").unwrap_err().to_string().contains("coracle.config.NOTHING"));
        assert!(parse::<u32>("LIMIT").unwrap_err().to_string().contains("\"ten\""));
        testing::set_config("LIMIT", "10");
        assert_eq!(parse("LIMIT"), Ok(Some(10)));
    }
}
