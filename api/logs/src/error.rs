//! What a request to the log store can be answered with instead of data.

/// Why an operation on the log store did not happen. The texts of the first four are AWS's own, because
/// scripts look for them.
#[derive(Debug, thiserror::Error)]
pub enum LogsError {
    /// ResourceNotFoundException: no such group in this region.
    #[error("The specified log group does not exist.")]
    NoSuchGroup,
    /// ResourceNotFoundException: the group exists, the stream does not.
    #[error("The specified log stream does not exist.")]
    NoSuchStream,
    /// ResourceAlreadyExistsException.
    #[error("The specified {what} already exists")]
    AlreadyExists {
        /// `log group` or `log stream`.
        what: &'static str,
    },
    /// InvalidParameterException: the text says which parameter and what is allowed.
    #[error("{0}")]
    InvalidParameter(String),
    /// The writer could not store some events; they are gone.
    #[error("{events} log events could not be stored: {reason}")]
    Lost {
        /// How many events were lost since the writer started.
        events: u64,
        /// What failed first, with its causes.
        reason: String,
    },
    /// The disk, or what is on it, failed.
    #[error("cannot {action}")]
    Io {
        /// What was attempted, as a verb phrase.
        action: &'static str,
        /// What the storage engine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl LogsError {
    /// For `map_err`: a failure of the storage engine, with what was attempted.
    pub(crate) fn io<E>(action: &'static str) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |source| Self::Io { action, source: source.into() }
    }

    pub(crate) fn damaged(what: &'static str) -> Self {
        Self::Io { action: "read the log store", source: format!("{what} is damaged").into() }
    }

    /// The error's text followed by its causes'.
    pub(crate) fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    }
}

/// AWS's text for a number outside its bounds.
pub(crate) fn out_of_bounds(parameter: &str, value: u32, is_above: bool, bound: u32) -> LogsError {
    let relation = if is_above { "less" } else { "greater" };
    LogsError::InvalidParameter(format!(
        "1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy constraint: Member must \
         have value {relation} than or equal to {bound}"
    ))
}

/// A limit between 1 and `max`; `max` if none is given.
pub(crate) fn checked_limit(limit: Option<u32>, max: u32) -> Result<usize, LogsError> {
    match limit.unwrap_or(max) {
        0 => Err(out_of_bounds("limit", 0, false, 1)),
        limit if limit > max => Err(out_of_bounds("limit", limit, true, max)),
        limit => Ok(usize::try_from(limit).expect("at most 10000")),
    }
}
