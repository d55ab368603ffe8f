//! Secrets: the variables that `secrets` of the task definition fills from the secrets manager or the parameter store.

use std::fmt;

use crate::{NotGranted, host};

/// A value that does not show itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value, to be used.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secret in a variable.
///
/// # Errors
/// When the task definition names none.
pub fn get(name: &str) -> Result<Secret, NotGranted> {
    host::variable(name).map(Secret).ok_or_else(|| NotGranted {
        wanted: format!("the secret {name}"),
        grant: format!(
            "add {{\"name\": \"{name}\", \"valueFrom\": …}} to `secrets` in the task definition, with the ARN of a secret \
             or the name of a parameter"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_and_missing_ones_are_named() {
        crate::testing::set_variable("DB_PASSWORD", "123");
        let secret = get("DB_PASSWORD").unwrap();
        assert_eq!((secret.expose(), format!("{secret:?}").contains("123")), ("123", false));
        assert!(get("NOTHING").unwrap_err().to_string().contains("\"name\": \"NOTHING\""));
    }
}
