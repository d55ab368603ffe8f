//! Errors that become responses, and the one for what was not granted.

use std::error::Error as StdError;
use std::fmt;

use ::http::StatusCode;

use crate::http::Rejection;

/// What a handler, or a batch task, gives up with. Any error becomes one by `?`.
///
/// As a response it has a status and a short text. What it was made of goes to the log and not to the client: a
/// [`Rejection`] and an error of [`fetch`](crate::fetch) keep their status and text, all others are a 500.
pub struct Error {
    status: StatusCode,
    /// For the client.
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A response with this status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), source: None }
    }

    /// A 500 that says nothing to the client; the text is for the log.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { source: Some(message.into().into()), ..Self::hidden() }
    }

    /// A 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The text of the response.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What it was made of.
    pub(crate) fn source(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    fn hidden() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let any: &(dyn StdError + 'static) = &error;
        if let Some(rejection) = any.downcast_ref::<Rejection>() {
            return Self::new(rejection.status(), rejection.to_string());
        }
        let shown = match any.downcast_ref::<crate::fetch::Error>() {
            Some(error) => Self::new(error.status(), "the service behind this one did not answer"),
            None => Self::hidden(),
        };
        Self { source: Some(Box::new(error)), ..shown }
    }
}

/// What went wrong, with everything that led to it.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(source) = &self.source else { return f.write_str(&self.message) };
        write!(f, "{source}")?;
        let mut cause = source.source();
        while let Some(next) = cause {
            write!(f, ": {next}")?;
            cause = next.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self, self.status.as_u16())
    }
}

/// The host did not grant what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotGranted {
    /// What was asked for.
    pub wanted: String,
    /// What has to be said, and where, for it to be granted.
    pub grant: String,
}

impl fmt::Display for NotGranted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not granted: {}", self.wanted, self.grant)
    }
}

impl StdError for NotGranted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_learn_what_concerns_them() {
        let error = Error::from("x".parse::<u32>().unwrap_err());
        assert_eq!(
            (error.status(), error.message()),
            (StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
        );
        assert_eq!(error.to_string(), "invalid digit found in string");

        let error = Error::from(Rejection::new(StatusCode::PAYLOAD_TOO_LARGE, "too large".to_owned()));
        assert_eq!((error.status(), error.message()), (StatusCode::PAYLOAD_TOO_LARGE, "too large"));

        let error = Error::from(crate::fetch::Error::TimedOut);
        assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(Error::not_found("no such user").to_string(), "no such user");
    }
}
