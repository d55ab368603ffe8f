//! A proxy: it gives each request to one upstream and streams bodies both ways, so that they may be larger than its
//! memory. Each client may make so many requests in a window of time; they are counted in the key-value store that all
//! instances and tasks of the service share.
//!
//! | variable | is |
//! |---|---|
//! | `UPSTREAM` | where requests go: `http://hello.default.internal` |
//! | `LIMIT` | requests of one client in a window: 100 |
//! | `WINDOW` | seconds of a window: 60 |
//!
//! A client is whom its `x-api-key` names, or else the address at the end of `x-forwarded-for`, which is the router's
//! own word.

mod body;
mod limit;

use limit::{Limit, Verdict};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, IncomingResponse, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
};

/// Headers of one connection only, and those that the host writes itself.
const OF_THE_CONNECTION: &[&str] = &[
    "connection",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

struct Proxy;

wasip2::http::proxy::export!(Proxy);

impl wasip2::exports::http::incoming_handler::Guest for Proxy {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let headers = request.headers();
        let header = |name: &str| headers.get(name).pop().and_then(|value| String::from_utf8(value).ok());
        let address =
            header("x-forwarded-for").and_then(|all| all.rsplit(',').next().map(|one| one.trim().to_owned()));
        let client = header("x-api-key").or(address).unwrap_or_else(|| "nobody".to_owned());
        let verdict = match Limit::from_environment().count(&client) {
            Ok(verdict) => verdict,
            Err(error) => {
                eprintln!("proxy: {error}");
                return say(out, 503, &[], "Requests can't be counted at the moment.\n");
            }
        };
        let counted = verdict.headers();
        if !verdict.is_within() {
            return say(out, 429, &counted, "Too many requests.\n");
        }
        if let Err(error) = forward(&request, &verdict, out) {
            eprintln!("proxy: {error}");
        }
    }
}

/// Gives the request to the upstream, and its answer to the client.
fn forward(request: &IncomingRequest, verdict: &Verdict, out: ResponseOutparam) -> Result<(), String> {
    let outgoing = match outgoing(request) {
        Ok(outgoing) => outgoing,
        Err(error) => {
            say(out, 500, &[], "The proxy is not set up.\n");
            return Err(error);
        }
    };
    let sink = outgoing.body().expect("a request has one body, taken here first");
    let answer = match outgoing_handler::handle(outgoing, None) {
        Ok(answer) => answer,
        Err(error) => {
            say(out, 502, &[], "The upstream can't be reached.\n");
            return Err(format!("upstream: {error}"));
        }
    };
    let source = request.consume().expect("a request has one body, taken here first");
    // The answer may begin while the request is still being sent.
    let answer = body::pump_until(source, sink, &answer.subscribe(), || {
        answer.get().map(|answer| answer.expect("an answer is taken once, here"))
    });
    match answer {
        Ok((answer, rest)) => {
            respond(&answer, verdict, out, rest);
            Ok(())
        }
        Err(error) => {
            say(out, 502, &[], "The upstream does not answer.\n");
            Err(format!("upstream: {error}"))
        }
    }
}

/// The request that goes to the upstream.
fn outgoing(request: &IncomingRequest) -> Result<OutgoingRequest, String> {
    let upstream = std::env::var("UPSTREAM").map_err(|_| "UPSTREAM is not set".to_owned())?;
    let (scheme, authority) = match upstream.split_once("://") {
        Some(("http", authority)) => (Scheme::Http, authority),
        Some(("https", authority)) => (Scheme::Https, authority),
        _ => return Err(format!("UPSTREAM is {upstream:?}, not http://… or https://…")),
    };
    let outgoing = OutgoingRequest::new(passed_on(&request.headers(), &[]));
    let set = outgoing
        .set_method(&request.method())
        .and_then(|()| outgoing.set_scheme(Some(&scheme)))
        .and_then(|()| outgoing.set_authority(Some(authority.trim_end_matches('/'))))
        .and_then(|()| outgoing.set_path_with_query(request.path_with_query().as_deref()));
    set.map_err(|()| format!("UPSTREAM {upstream:?} is no address"))?;
    Ok(outgoing)
}

/// Sends the upstream's answer on, as it comes.
fn respond(answer: &IncomingResponse, verdict: &Verdict, out: ResponseOutparam, rest: Option<body::Pump>) {
    let response = OutgoingResponse::new(passed_on(&answer.headers(), &verdict.headers()));
    response.set_status_code(answer.status()).expect("it was the status of an answer");
    let sink = response.body().expect("a response has one body, taken here first");
    ResponseOutparam::set(out, Ok(response));
    let source = answer.consume().expect("an answer has one body, taken here first");
    body::pump_both(body::Pump::new(source, sink), rest);
}

/// Headers for the next hop.
fn passed_on(headers: &Fields, more: &[(String, String)]) -> Fields {
    let mut entries = headers.entries();
    entries.retain(|(name, _)| !OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()));
    entries.extend(more.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
    Fields::from_list(&entries).expect("headers that have arrived, and our own, are well formed")
}

/// Answers by itself.
fn say(out: ResponseOutparam, status: u16, more: &[(String, String)], text: &str) {
    let mut headers = vec![("content-length".to_owned(), text.len().to_string().into_bytes())];
    headers.extend(more.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())));
    let response =
        OutgoingResponse::new(Fields::from_list(&headers).expect("our own headers are well formed"));
    response.set_status_code(status).expect("the status is one of HTTP's");
    let body = response.body().expect("a response has one body, taken here first");
    ResponseOutparam::set(out, Ok(response));
    body::send(body, text.as_bytes());
}
