//! Reading the parts of a signature, without judging them.

use coracle_protocol::ApiError;
use coracle_types::Timestamp;
use http::request::Parts;

use super::date;
use crate::dispatch::form_value;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What a request says about its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature {
    /// The id of the key.
    pub(crate) access_key: String,
    /// The day of the scope, `20261121`.
    pub(crate) date: String,
    /// The region of the scope.
    pub(crate) region: String,
    /// The service of the scope.
    pub(crate) service: String,
    /// The names of the signed headers, in lower case, in the given order.
    pub(crate) signed_headers: Vec<String>,
    /// The signature in hexadecimal.
    pub(crate) signature: String,
    /// When it was signed, as it was written.
    pub(crate) time: String,
    /// How many seconds a presigned request is good for; None for the header form.
    pub(crate) expires_s: Option<u64>,
    /// What proves that the key is one of temporary credentials.
    pub(crate) session_token: Option<String>,
}

impl Signature {
    /// The signature of a request: of its `Authorization` header, else of its query. None when it has
    /// neither.
    ///
    /// # Errors
    /// `IncompleteSignature` when there is one and a part of it is missing.
    pub(crate) fn of(parts: &Parts) -> Result<Option<Self>, ApiError> {
        if let Some(header) = parts.headers.get(http::header::AUTHORIZATION) {
            let header = header.to_str().map_err(|_| incomplete("the Authorization header is not text"))?;
            return Self::of_header(header, parts).map(Some);
        }
        let query = parts.uri.query().unwrap_or_default();
        if form_value(query, "X-Amz-Algorithm").is_none() {
            return Ok(None);
        }
        Self::of_query(query).map(Some)
    }

    fn of_header(header: &str, parts: &Parts) -> Result<Self, ApiError> {
        let members = header
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("the Authorization header must begin with AWS4-HMAC-SHA256"))?;
        let member = |name: &str| {
            let found = members.split(',').filter_map(|member| member.trim().split_once('='));
            let found = found.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim());
            found.ok_or_else(|| incomplete(&format!("Authorization header requires '{name}' parameter.")))
        };
        let time = ["x-amz-date", "date"].iter().find_map(|name| parts.headers.get(*name));
        let time = time.and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self::new(
            member("Credential")?,
            member("SignedHeaders")?,
            member("Signature")?,
            time.to_owned(),
            None,
            parts
                .headers
                .get("x-amz-security-token")
                .and_then(|token| token.to_str().ok())
                .map(str::to_owned),
        )
    }

    fn of_query(query: &str) -> Result<Self, ApiError> {
        let member = |name: &str| {
            form_value(query, name)
                .ok_or_else(|| incomplete(&format!("AWS query-string parameters must include '{name}'.")))
        };
        if member("X-Amz-Algorithm")? != ALGORITHM {
            return Err(incomplete("X-Amz-Algorithm must be AWS4-HMAC-SHA256"));
        }
        let expires = form_value(query, "X-Amz-Expires").unwrap_or_else(|| "900".to_owned());
        let expires = expires.parse().map_err(|_| incomplete("X-Amz-Expires must be a number of seconds"))?;
        Self::new(
            &member("X-Amz-Credential")?,
            &member("X-Amz-SignedHeaders")?,
            &member("X-Amz-Signature")?,
            member("X-Amz-Date")?,
            Some(expires),
            form_value(query, "X-Amz-Security-Token"),
        )
    }

    fn new(
        credential: &str,
        signed_headers: &str,
        signature: &str,
        time: String,
        expires_s: Option<u64>,
        session_token: Option<String>,
    ) -> Result<Self, ApiError> {
        let mut scope = credential.rsplitn(5, '/');
        let (Some("aws4_request"), Some(service), Some(region), Some(date), Some(access_key)) =
            (scope.next(), scope.next(), scope.next(), scope.next(), scope.next())
        else {
            return Err(incomplete("Credential must be KEY/DATE/REGION/SERVICE/aws4_request"));
        };
        Ok(Self {
            access_key: access_key.to_owned(),
            date: date.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: signed_headers.split(';').map(str::to_ascii_lowercase).collect(),
            signature: signature.to_owned(),
            time,
            expires_s,
            session_token: session_token.filter(|token| !token.is_empty()),
        })
    }

    /// The moment it was signed, which must be of the scope's day.
    pub(super) fn signed_at(&self) -> Result<Timestamp, ApiError> {
        let at = date::parse(&self.time).ok_or_else(|| {
            incomplete("the date of the signature (X-Amz-Date) must be given as YYYYMMDD'T'HHMMSS'Z'")
        })?;
        if !self.time.starts_with(&self.date) {
            return Err(ApiError::InvalidSignature(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: {:?} is not \
                 the day of {:?}",
                self.date, self.time
            )));
        }
        Ok(at)
    }
}

fn incomplete(why: &str) -> ApiError {
    ApiError::IncompleteSignature(why.to_owned())
}
