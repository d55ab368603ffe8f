//! STS: who one is, and becoming somebody else for a while.

use coracle_types::{AccountId, Timestamp};
use serde_json::Value;

use crate::object::Object;
use crate::shape::{Shape, shape};

/// The version of STS's model, which a form names beside the action.
pub const VERSION: &str = "2011-06-15";
/// The namespace of its answers.
pub const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

const TAG: Shape = shape!({ Key: text, Value: text });
const NOTHING: Shape = shape!({});
const ASSUME_ROLE: Shape = shape!({
    RoleArn: text, RoleSessionName: text, DurationSeconds: int, Policy: text, ExternalId: text, Tags: [TAG],
});
const GET_SESSION_TOKEN: Shape = shape!({ DurationSeconds: int, SerialNumber: text, TokenCode: text });

/// What the request of an operation looks like; None for one there is not.
#[must_use]
pub fn input(operation: &str) -> Option<&'static Shape> {
    match operation {
        "GetCallerIdentity" => Some(&NOTHING),
        "AssumeRole" => Some(&ASSUME_ROLE),
        "GetSessionToken" => Some(&GET_SESSION_TOKEN),
        _ => None,
    }
}

/// The answer to GetCallerIdentity.
#[must_use]
pub fn caller_identity(account: AccountId, arn: &str, user_id: &str) -> Value {
    Object::new().with("Arn", arn).with("UserId", user_id).with("Account", account.to_string()).into()
}

/// Credentials that are good for a while.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// `ASIA…`
    pub access_key: String,
    /// What requests are signed with.
    pub secret: String,
    /// What has to come with each request.
    pub session_token: String,
    /// When they end.
    pub expires: Timestamp,
}

impl Credentials {
    /// As STS answers them.
    #[must_use]
    pub fn encode(self) -> Value {
        Object::new()
            .with("AccessKeyId", self.access_key)
            .with("SecretAccessKey", self.secret)
            .with("SessionToken", self.session_token)
            .with("Expiration", self.expires.iso8601())
            .into()
    }
}

/// Text made fit to stand in XML. Characters XML 1.0 does not allow at all become U+FFFD.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\t' | '\n' | '\r' => escaped.push(character),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {
                escaped.push('\u{fffd}');
            }
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a&\"'>\u{1}"), "&lt;a&amp;&quot;&apos;&gt;\u{fffd}");
    }
}
