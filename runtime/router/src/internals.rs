//! What benches and fuzz targets reach of the inside. Not part of the interface: it changes at will.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Empty};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use crate::group::{GroupRoute, Keeper};
use crate::metrics::Metrics;
use crate::model::{
    Action, Backend, Condition, FixedResponse, HealthCheck, LoadBalancer, QueryPair, RegisteredTarget, Rule,
    TargetGroup, TargetGroupAttributes, TargetId, TextMatch,
};
use crate::rules::{RequestView, RuleSet};
use crate::serve::Accept;
use crate::target::{CallError, RequestBody, ResponseBody, Slot, Target};
use crate::{CookieKey, Router, RouterConfig, RoutingTable, ServiceName, TargetProtocol};

/// A listener's rules.
pub struct Rules(RuleSet);

/// What rules look at.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// The host without its port.
    pub host: String,
    /// The path without its query.
    pub path: String,
    /// The query.
    pub query: Option<String>,
    /// All headers.
    pub headers: HeaderMap,
    /// The client's address.
    pub client: IpAddr,
}

impl Rules {
    /// Compiles rules; those that can't be understood are left out.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        Self(RuleSet::new("default", rules, &nothing(), None))
    }

    /// The id of the rule a request meets; `default` if there is none.
    #[must_use]
    pub fn find(&self, head: &Head) -> &str {
        let Head { method, host, path, query, headers, client } = head;
        let query = query.as_deref();
        &self.0.find(&RequestView { method, host, path, query, headers, client: *client }).source.id
    }
}

fn nothing() -> Action {
    Action::FixedResponse(FixedResponse { status: 404, content_type: None, body: String::new() })
}

/// A target group's targets, of which none is ever called.
pub struct Targets(GroupRoute);

struct Silent;

impl Target for Silent {
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>> {
        async { Err(CallError::NotStarted(request)) }.boxed()
    }
}

impl Targets {
    /// So many targets, spread over by `attributes`.
    ///
    /// # Panics
    ///
    /// Never: the metrics are in a registry of their own.
    #[must_use]
    pub fn new(count: u16, attributes: TargetGroupAttributes) -> Self {
        let target = |index: u16| RegisteredTarget {
            id: TargetId { id: index.to_string(), port: 80 },
            backend: Backend::InProcess(Slot::new(index.to_string(), Arc::new(Silent))),
        };
        let config = TargetGroup {
            id: "group".to_owned(),
            name: "group".to_owned(),
            protocol: TargetProtocol::Http1,
            tls: false,
            health_check: HealthCheck { is_enabled: false, ..HealthCheck::default() },
            attributes,
            activates: false,
            targets: (0..count).map(target).collect(),
        };
        let user = LoadBalancer {
            id: "lb".to_owned(),
            name: "lb".to_owned(),
            attributes: crate::LoadBalancerAttributes::DEFAULT,
        };
        let metrics = Metrics::new(&prometheus::Registry::new()).expect("the registry is empty");
        let mut keeper = Keeper::new(&config, &CookieKey::default());
        keeper.configure(config, Some(&user), &metrics, Instant::now());
        Self(keeper.route().expect("a load balancer uses it"))
    }

    /// Picks a target, and tells whether there was one.
    #[must_use]
    pub fn pick(&self, now: Instant) -> bool {
        self.0.pick(&[], now).is_some()
    }
}

/// Reads rules and a request from any text, and checks that the index finds the rule that a walk over all
/// of them finds. The first line is the request: method, host, URL and client, separated by blanks. Each
/// further line is a condition: a letter and its value; an empty line begins the next rule.
///
/// # Errors
///
/// What was found by either way, if they differ.
pub fn rules_agree(text: &str) -> Result<(), String> {
    let mut lines = text.lines();
    let Some(head) = lines.next().and_then(read_head) else { return Ok(()) };
    let mut rules = Vec::new();
    let mut conditions = Vec::new();
    for line in lines.chain([""]).take(64) {
        match read_condition(line) {
            Some(condition) => conditions.push(condition),
            None => rules.push(std::mem::take(&mut conditions)),
        }
    }
    let rules: Vec<Rule> = rules
        .into_iter()
        .zip(1..)
        .map(|(conditions, priority)| Rule {
            id: priority.to_string(),
            priority,
            conditions,
            transforms: Vec::new(),
            action: nothing(),
            rate_limit: None,
        })
        .collect();
    let by_index = Rules::new(&rules);
    let alone = |rule: &&Rule| Rules::new(std::slice::from_ref(*rule)).find(&head) != "default";
    let by_walk = rules.iter().find(alone).map_or("default", |rule| &rule.id);
    match by_index.find(&head) {
        found if found == by_walk => Ok(()),
        found => {
            let mut told = String::new();
            let _ = write!(told, "the index finds {found}, a walk {by_walk}: {head:?} {rules:?}");
            Err(told)
        }
    }
}

fn read_head(line: &str) -> Option<Head> {
    let mut words = line.split(' ');
    let method = Method::from_bytes(words.next()?.as_bytes()).ok()?;
    let host = words.next()?.to_owned();
    let url = words.next()?;
    let (path, query) =
        url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query.to_owned())));
    let client = words.next().and_then(|client| client.parse().ok()).unwrap_or(IpAddr::from([192, 0, 2, 7]));
    let mut headers = HeaderMap::new();
    if let Some(value) = words.next().and_then(|value| http::HeaderValue::from_str(value).ok()) {
        headers.append("x-test", value);
    }
    Some(Head { method, host, path: path.to_owned(), query, headers, client })
}

fn read_condition(line: &str) -> Option<Condition> {
    let (kind, value) = line.split_at_checked(1)?;
    let values = || value.split(' ').map(str::to_owned).collect();
    let patterns = || TextMatch { values: values(), regex_values: Vec::new() };
    let regexes = || TextMatch { values: Vec::new(), regex_values: values() };
    Some(match kind {
        "h" => Condition::HostHeader(patterns()),
        "H" => Condition::HostHeader(regexes()),
        "p" => Condition::PathPattern(patterns()),
        "P" => Condition::PathPattern(regexes()),
        "n" => Condition::HttpHeader { name: "x-test".to_owned(), matches: patterns() },
        "N" => Condition::HttpHeader { name: value.to_owned(), matches: regexes() },
        "m" => Condition::HttpRequestMethod(values()),
        "s" => Condition::SourceIp(values()),
        "q" => {
            let (key, value) = value.split_once('=').map_or((None, value), |(key, value)| (Some(key), value));
            let (key, value) = (key.map(str::to_owned), value.to_owned());
            Condition::QueryString(vec![QueryPair { key, value }])
        }
        _ => return None,
    })
}

/// Sends `bytes` to a router as a client's connection, and checks each request a target gets: its URI is in
/// origin form, it names one host at most, nothing in it is about the connection, and its length is that of
/// its body.
///
/// # Errors
///
/// What was wrong with a request.
///
/// # Panics
///
/// If the router panics.
pub fn requests_have_one_shape(bytes: &[u8]) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing");
    runtime.block_on(async {
        let found = Arc::new(Mutex::new(Ok(())));
        let router = Router::new(RouterConfig::default(), &prometheus::Registry::new())
            .expect("the registry is empty");
        let name = ServiceName { region: "r".into(), cluster: "default".into(), service: "s".into() };
        let mut table = RoutingTable::new("r");
        let target = Arc::new(Judge(Arc::clone(&found)));
        table.insert(name.clone(), vec![Slot::new("s".to_owned(), target)], String::new());
        table.set_default_service(name);
        router.publish(table);
        let (mut client, server) = tokio::io::duplex(64 * 1024);
        let serving = tokio::spawn(router.serve_from(One(Some(server)), 80, None, std::future::pending()));
        // Time passes only when everybody waits: a connection that hangs is closed by its limits.
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let sent = async {
            // The router may have closed the connection by then.
            let _ = writer.write_all(bytes).await;
            let _ = writer.shutdown().await;
        };
        let mut answers = Vec::new();
        let (_, read) = tokio::join!(sent, reader.read_to_end(&mut answers));
        drop(read);
        assert!(!serving.is_finished(), "the router stopped serving");
        serving.abort();
        std::mem::replace(&mut *found.lock(), Ok(()))
    })
}

/// Gives out one connection.
struct One(Option<DuplexStream>);

impl Accept for One {
    type Io = DuplexStream;

    async fn accept(&mut self) -> std::io::Result<(DuplexStream, SocketAddr)> {
        match self.0.take() {
            Some(io) => Ok((io, ([192, 0, 2, 7], 50_000).into())),
            None => std::future::pending().await,
        }
    }
}

/// Judges the requests it gets.
struct Judge(Arc<Mutex<Result<(), String>>>);

impl Target for Judge {
    fn call(
        &self,
        request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>> {
        let found = Arc::clone(&self.0);
        async move {
            let (head, body) = request.into_parts();
            let judged = judge(&head);
            let body = body.collect().await.map(|body| body.to_bytes());
            let length = head.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
            let judged = judged.and_then(|()| match (&body, length) {
                (Ok(body), Some(length)) if body.len().to_string() != length => {
                    Err(format!("Content-Length is {length}"))
                }
                _ => Ok(()),
            });
            if let Err(why) = judged {
                *found.lock() = Err(format!("{why}: {} {} {:?}", head.method, head.uri, head.headers));
            }
            Ok(Response::new(ResponseBody::new(Empty::new().map_err(|never| match never {}))))
        }
        .boxed()
    }
}

fn judge(head: &http::request::Parts) -> Result<(), String> {
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    if head.uri.authority().is_some() || !(path.starts_with('/') || path == "*") || !path.is_ascii() {
        return Err("the URI is not in origin form".to_owned());
    }
    for name in ["host", "content-length", "x-forwarded-for", "x-forwarded-proto", "x-amzn-trace-id"] {
        if head.headers.get_all(name).iter().count() > 1 {
            return Err(format!("{name} is there twice"));
        }
    }
    for name in ["transfer-encoding", "te", "keep-alive", "proxy-connection", "http2-settings", "upgrade"] {
        if head.headers.contains_key(name) {
            return Err(format!("{name} is there"));
        }
    }
    match head.headers.values().all(|value| !value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte))) {
        true => Ok(()),
        false => Err("a value has a line's end in it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_difference_would_be_found() {
        let text = "GET a.com /x/y?k=v 192.0.2.1 gold\nha.com\np/x*\n\nh*.com\n\nqk=v\n\ngarbage";
        assert_eq!(rules_agree(text), Ok(()));
        let head = read_head(text.lines().next().unwrap()).unwrap();
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/x/y", Some("k=v")));
        assert_eq!(head.headers["x-test"], "gold");
    }

    proptest! {
        #[test]
        fn the_index_agrees_with_a_walk(
            head in "(GET|PUT) [ab.]{0,4} /[ab/]{0,4}(\\?[ab=&%]{0,4})? (192\\.0\\.2\\.1|::1) [ab]{0,2}",
            conditions in prop::collection::vec("|h[ab.*?]{0,4}|H[ab.*(]{0,3}|p/[ab/*?]{0,4}( /[ab]{0,3})?|P[/ab$^]{0,3}|n[ab*]{0,2}|mGET|q[ab*=]{0,3}|s192.0.2.0/24|s[:1/]{0,5}", 0..12),
        ) {
            let text = format!("{head}\n{}", conditions.join("\n"));
            prop_assert_eq!(rules_agree(&text), Ok(()));
        }

        #[test]
        fn any_text_will_do(text in "\\PC{0,200}") {
            prop_assert_eq!(rules_agree(&text), Ok(()));
        }
    }
}
