//! Where a redirect leads. Pure.

use crate::model::Redirect;

/// What the placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// `http` or `https`.
    pub(crate) protocol: &'a str,
    /// The request's host without the port.
    pub(crate) host: &'a str,
    /// The listener's port.
    pub(crate) port: u16,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

/// The `Location` of a redirect: always a whole URL with its port, as an Application Load Balancer sends it.
pub(crate) fn location(redirect: &Redirect, origin: &Origin<'_>) -> String {
    let fill = |template: &str| filled(template, origin);
    let protocol = fill(&redirect.protocol).to_ascii_lowercase();
    let (host, port, path) = (fill(&redirect.host), fill(&redirect.port), fill(&redirect.path));
    let query = fill(&redirect.query);
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{protocol}://{host}:{port}{path}{mark}{query}")
}

fn filled(template: &str, origin: &Origin<'_>) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find("#{") {
        let (before, placeholder) = rest.split_at(at);
        filled.push_str(before);
        let Some(end) = placeholder.find('}') else {
            rest = placeholder;
            break;
        };
        let (placeholder, after) = placeholder.split_at(end + 1);
        match placeholder {
            "#{protocol}" => filled.push_str(origin.protocol),
            "#{host}" => filled.push_str(origin.host),
            "#{port}" => filled.push_str(&origin.port.to_string()),
            "#{path}" => filled.push_str(origin.path.strip_prefix('/').unwrap_or(origin.path)),
            "#{query}" => filled.push_str(origin.query.unwrap_or_default()),
            other => filled.push_str(other),
        }
        rest = after;
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RedirectStatus;

    const ORIGIN: Origin<'_> =
        Origin { protocol: "http", host: "example.com", port: 80, path: "/a/b", query: Some("x=1") };

    #[test]
    fn what_is_not_changed_stays() {
        let unchanged = Redirect::unchanged(RedirectStatus::Permanent);
        assert_eq!(location(&unchanged, &ORIGIN), "http://example.com:80/a/b?x=1");
        let https = Redirect { protocol: "HTTPS".into(), port: "443".into(), ..unchanged.clone() };
        assert_eq!(location(&https, &ORIGIN), "https://example.com:443/a/b?x=1");
        let no_query = Origin { query: None, ..ORIGIN };
        assert_eq!(location(&https, &no_query), "https://example.com:443/a/b");
    }

    #[test]
    fn placeholders_stand_anywhere() {
        let redirect = Redirect {
            host: "www.#{host}".into(),
            path: "/new/#{path}/#{port}".into(),
            query: "#{query}&from=#{host}#{unknown}#{".into(),
            ..Redirect::unchanged(RedirectStatus::Temporary)
        };
        assert_eq!(
            location(&redirect, &ORIGIN),
            "http://www.example.com:80/new/a/b/80?x=1&from=example.com#{unknown}#{"
        );
    }

    #[test]
    fn what_the_request_says_is_not_filled_in_again() {
        let origin = Origin { path: "/#{host}", ..ORIGIN };
        let unchanged = Redirect::unchanged(RedirectStatus::Permanent);
        assert_eq!(location(&unchanged, &origin), "http://example.com:80/#{host}?x=1");
    }
}
