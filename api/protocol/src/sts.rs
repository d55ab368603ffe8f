//! STS: GetCallerIdentity, a form in and XML out.

use coracle_types::AccountId;

/// The version of STS's model, which a form names beside the action.
pub const VERSION: &str = "2011-06-15";

/// The answer to GetCallerIdentity.
#[must_use]
pub fn get_caller_identity(account: AccountId, request_id: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/{VERSION}/\">\
         <GetCallerIdentityResult><Arn>arn:aws:iam::{account}:root</Arn><UserId>{account}</UserId>\
         <Account>{account}</Account></GetCallerIdentityResult>\
         <ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata></GetCallerIdentityResponse>",
        escape(request_id)
    )
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
    use super::*;

    #[test]
    fn who_am_i() {
        let xml = get_caller_identity(AccountId::default(), "r-1");
        assert!(xml.contains("<Account>123456789012</Account>"), "{xml}");
        assert!(xml.contains("<Arn>arn:aws:iam::123456789012:root</Arn>"), "{xml}");
    }

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(escape("<a&\"'>\u{1}"), "&lt;a&amp;&quot;&apos;&gt;\u{fffd}");
    }
}
