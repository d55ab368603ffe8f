//! Reads the shell commands people write as health checks, as far as they fetch something from localhost.
//!
//! There is no shell in a component, so a command is never run: it is recognised as an HTTP request to the
//! container's own handler, or it is not recognised. What would change the meaning in a way that can't be
//! kept (a pipe into `grep`, a second command, a variable in the path) is not recognised.

/// The HTTP request a shell command stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fetch {
    /// `GET` or `HEAD`.
    pub(crate) method: http::Method,
    /// Host and port as written, for the `host` header: `localhost:8080`.
    pub(crate) authority: String,
    /// Path and query, beginning with a slash.
    pub(crate) path: String,
    /// Headers given with `-H` or `--header`.
    pub(crate) headers: Vec<(http::HeaderName, http::HeaderValue)>,
}

/// Reads a whole shell command, such as `curl -f http://localhost/health || exit 1`.
///
/// # Errors
/// Says what is not understood.
pub(crate) fn parse(command: &str) -> Result<Fetch, &'static str> {
    let tokens = tokens(command)?;
    let end = tokens.iter().position(|token| matches!(token, Token::Operator(_))).unwrap_or(tokens.len());
    let (fetch, rest) = tokens.split_at(end);
    tail(rest)?;
    let words: Vec<&str> = fetch
        .iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(word.as_str()),
            Token::Operator(_) => None,
        })
        .collect();
    self::words(&words)
}

/// Reads a command that is already split in words, such as `["curl", "-f", "http://localhost/health"]`.
///
/// # Errors
/// Says what is not understood.
pub(crate) fn words<S: AsRef<str>>(words: &[S]) -> Result<Fetch, &'static str> {
    let mut words = words.iter().map(AsRef::as_ref);
    let program = words.next().unwrap_or_default();
    if !is_fetcher(program) {
        return Err("it is not a curl or wget command");
    }
    let mut method = http::Method::GET;
    let mut headers = Vec::new();
    let mut target = None;
    while let Some(word) = words.next() {
        match word {
            "-I" | "--head" | "--spider" => method = http::Method::HEAD,
            "-X" | "--request" => {
                method = match words.next() {
                    Some("GET") => http::Method::GET,
                    Some("HEAD") => http::Method::HEAD,
                    _ => return Err("only GET and HEAD can be sent"),
                };
            }
            "-H" | "--header" => headers.push(header(words.next().unwrap_or_default())?),
            "-d" | "--data" | "--data-raw" | "--post-data" => return Err("only GET and HEAD can be sent"),
            _ => {
                if let Some(given) = word.strip_prefix("--header=") {
                    headers.push(header(given)?);
                } else if let Some(found) = local_url(word)? {
                    if target.is_some() {
                        return Err("it fetches more than one address");
                    }
                    target = Some(found);
                }
            }
        }
    }
    let (authority, path) = target.ok_or("it does not fetch an address of localhost")?;
    Ok(Fetch { method, authority, path, headers })
}

/// Whether a program is one whose commands [`words`] reads.
pub(crate) fn is_fetcher(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("curl" | "wget"))
}

/// What may follow the fetch: `|| exit 1` and its like, which only pass its failure on.
fn tail(tokens: &[Token]) -> Result<(), &'static str> {
    let Some((first, rest)) = tokens.split_first() else { return Ok(()) };
    let words: Option<Vec<&str>> = rest
        .iter()
        .map(|token| match token {
            Token::Word(word) => Some(word.as_str()),
            Token::Operator(_) => None,
        })
        .collect();
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let understood = match (first, words.as_deref()) {
        (Token::Operator("||"), Some(["false"])) => true,
        (Token::Operator("||"), Some(["exit" | "return", code])) => number(code) && *code != "0",
        (Token::Operator("||"), Some(["kill", ..])) => true,
        (Token::Operator("&&"), Some(["true"] | ["exit" | "return", "0"] | ["echo", ..])) => true,
        (Token::Operator(";"), Some([])) => true,
        _ => false,
    };
    if understood { Ok(()) } else { Err("only \"|| exit 1\" may follow the fetch") }
}

fn header(text: &str) -> Result<(http::HeaderName, http::HeaderValue), &'static str> {
    let parsed = text
        .split_once(':')
        .and_then(|(name, value)| Some((name.trim().parse().ok()?, value.trim().parse().ok()?)));
    parsed.ok_or("a header is not of the form Name: value")
}

/// Authority and path of a URL of this container; `None` if the word is no such URL.
fn local_url(word: &str) -> Result<Option<(String, String)>, &'static str> {
    let rest = word.strip_prefix("http://").or_else(|| word.strip_prefix("https://"));
    let has_scheme = rest.is_some();
    let rest = rest.unwrap_or(word);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':').unwrap_or(port)),
        None => authority.split_once(':').unwrap_or((authority, "")),
    };
    if !matches!(host, "localhost" | "127.0.0.1" | "0.0.0.0" | "::1") {
        return if has_scheme { Err("it fetches an address that is not localhost") } else { Ok(None) };
    }
    // A variable as the port does no harm: every port of the container is the one handler.
    let port_is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    if !port_is_number && !port.starts_with('$') {
        return Ok(None);
    }
    let path = path.split('#').next().unwrap_or_default();
    if path.contains(['$', '`']) {
        return Err("the path contains a shell variable");
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        return Err("the path is not a valid one");
    }
    let authority = if port_is_number { authority.to_owned() } else { host.to_owned() };
    Ok(Some((authority, path)))
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Operator(&'static str),
}

/// Splits a command as a POSIX shell does, with redirections taken out.
fn tokens(command: &str) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    let mut word: Option<String> = None;
    // The next word is a redirection's file name.
    let mut redirected = false;
    let mut chars = command.chars().peekable();
    let end_word = |word: &mut Option<String>, redirected: &mut bool, tokens: &mut Vec<Token>| {
        if let Some(word) = word.take()
            && !std::mem::take(redirected)
        {
            tokens.push(Token::Word(word));
        }
    };
    while let Some(char) = chars.next() {
        match char {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(char) => word.push(char),
                        None => return Err("a quote is not closed"),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(char) => word.push(char),
                        None => return Err("a quote is not closed"),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(chars.next()),
            '|' | '&' | ';' | '\n' => {
                end_word(&mut word, &mut redirected, &mut tokens);
                let doubled = char != ';' && char != '\n' && chars.next_if_eq(&char).is_some();
                tokens.push(Token::Operator(match (char, doubled) {
                    ('|', true) => "||",
                    ('&', true) => "&&",
                    ('|', false) => "|",
                    ('&', false) => "&",
                    _ => ";",
                }));
            }
            '>' | '<' => {
                // `2>` is a redirection of stderr, not the word 2.
                if word.as_ref().is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_digit())) {
                    word = None;
                }
                end_word(&mut word, &mut redirected, &mut tokens);
                while chars.next_if(|&char| char == '>' || char == '&').is_some() {}
                redirected = true;
            }
            '(' | ')' | '`' => return Err("it contains a sub-shell"),
            char if char.is_whitespace() => end_word(&mut word, &mut redirected, &mut tokens),
            char => word.get_or_insert_default().push(char),
        }
    }
    end_word(&mut word, &mut redirected, &mut tokens);
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(command: &str, method: &str, authority: &str, path: &str) {
        let fetch = parse(command).unwrap_or_else(|error| panic!("{command}: {error}"));
        assert_eq!(
            (fetch.method.as_str(), fetch.authority.as_str(), fetch.path.as_str()),
            (method, authority, path),
            "{command}"
        );
    }

    #[test]
    fn what_people_write() {
        check("curl -f http://localhost/health || exit 1", "GET", "localhost", "/health");
        check("curl -f http://localhost:8080/ || exit 1", "GET", "localhost:8080", "/");
        check(
            "curl --fail --silent http://127.0.0.1:80/healthz >/dev/null || exit 1",
            "GET",
            "127.0.0.1:80",
            "/healthz",
        );
        check(
            "curl -sf -o /dev/null localhost:3000/ready?deep=1 || false",
            "GET",
            "localhost:3000",
            "/ready?deep=1",
        );
        check(
            "curl -f 'http://localhost/a b' 2>&1 || exit 1".replace("a b", "a").as_str(),
            "GET",
            "localhost",
            "/a",
        );
        check("wget -q --spider http://localhost:8080/health || exit 1", "HEAD", "localhost:8080", "/health");
        check(
            "wget --no-verbose --tries=1 -O - http://localhost/ > /dev/null 2>&1 || exit 1",
            "GET",
            "localhost",
            "/",
        );
        check("/usr/bin/curl -I \"http://[::1]:80\"", "HEAD", "[::1]:80", "/");
        check("curl -kf https://localhost:8443/health", "GET", "localhost:8443", "/health");
        check("curl -f http://localhost:${PORT}/health || exit 1", "GET", "localhost", "/health");
        check("curl -f http://localhost/health && exit 0", "GET", "localhost", "/health");
    }

    #[test]
    fn headers_are_kept() {
        let fetch = parse("curl -f -H 'X-Token: a b' --header=Accept:text/plain http://localhost/ || exit 1")
            .unwrap();
        let headers: Vec<_> =
            fetch.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, [("x-token", "a b"), ("accept", "text/plain")]);
    }

    #[test]
    fn what_can_not_be_kept_is_not_recognised() {
        for command in [
            "",
            "pg_isready -U postgres",
            "test -f /tmp/ready",
            "curl",
            "curl -f http://example.com/health || exit 1",
            "curl -s http://localhost/health | grep -q ok",
            "curl -f http://localhost/a && curl -f http://localhost/b",
            "curl -f http://localhost/a http://localhost/b",
            "curl -f http://localhost/health || exit 0",
            "curl -X POST http://localhost/health",
            "curl -f http://localhost/$CHECK",
            "curl -f $(cat url)",
            "curl -f 'http://localhost/",
            "curl -H nonsense http://localhost/",
        ] {
            assert!(parse(command).is_err(), "{command:?} gave {:?}", parse(command));
        }
    }

    #[test]
    fn commands_already_split() {
        assert_eq!(words(&["curl", "-f", "http://localhost/health"]).unwrap().path, "/health");
        assert!(words::<&str>(&[]).is_err());
    }
}
