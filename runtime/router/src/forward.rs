//! One request to a listener with rules: which rule it meets, and what that does with it.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

use crate::answer::Refusal;
use crate::body::{Answer, ClientBody};
use crate::connection::Connection;
use crate::framing;
use crate::group::GroupRoute;
use crate::handler::InFlight;
use crate::headers::Scan;
use crate::listeners::ListenerRoute;
use crate::model::{Redirect, RedirectStatus};
use crate::relay::{Way, relay};
use crate::rules::{CompiledAction, CompiledRule, Origin, RequestView, Split, location};
use crate::sticky::Cookie;
use crate::table::Routes;

/// An answer, or the way to one.
pub(crate) enum Handled {
    Now(Response<Answer>),
    Later(BoxFuture<'static, Response<Answer>>),
}

/// Answers a request that came to the listener of this ARN, as far as that needs no wait.
pub(crate) fn handle(
    connection: &Arc<Connection>,
    mut request: Request<ClientBody>,
    scan: Scan,
    listener: &str,
) -> Handled {
    let now = Instant::now();
    let entry = connection.log_entry(&request);
    let routes = connection.router.routes.load();
    let found = routes.listeners.find(listener);
    let (mut in_flight, decision) = match found {
        Some(found) => decide(connection, &mut request, scan, &routes, found, now),
        None => {
            let series = Arc::clone(&connection.router.unknown.metrics);
            let in_flight = InFlight::new(Arc::clone(connection), series, now);
            (in_flight, Decision::Refuse(Refusal::listener_gone()))
        }
    };
    if entry.is_some() {
        let load_balancer = found.map(|found| found.config.load_balancer.id.as_str());
        in_flight.log(entry, load_balancer, || match &decision {
            Decision::Forward(way) => way.route.group.id.to_string(),
            Decision::Refuse(_) | Decision::Answer(_) => String::new(),
        });
    }
    let mut handled = match decision {
        Decision::Refuse(refusal) => Handled::Now(in_flight.refuse(refusal, scan)),
        Decision::Answer(response) => {
            Handled::Now(in_flight.answer(response, request.method() == Method::HEAD))
        }
        Decision::Forward(way) => relay(Arc::clone(connection), request, scan, in_flight, way, now),
    };
    if let Handled::Now(response) = &mut handled
        && let Some(attributes) = found.and_then(|found| found.attributes.as_ref())
    {
        attributes.answer(response.headers_mut());
    }
    handled
}

/// What is to become of a request.
enum Decision {
    Refuse(Refusal),
    Answer(Response<bytes::Bytes>),
    Forward(Way),
}

/// Decides by one snapshot, and changes the request as the rule says.
fn decide(
    connection: &Arc<Connection>,
    request: &mut Request<ClientBody>,
    scan: Scan,
    routes: &Routes,
    listener: &ListenerRoute,
    now: Instant,
) -> (Box<InFlight>, Decision) {
    let router = &connection.router;
    let in_flight = |series| InFlight::new(Arc::clone(connection), Arc::clone(series), now);
    let attributes = listener.config.load_balancer.attributes;
    if let Err(refusal) = framing::check(&router.config, attributes.desync, request, scan) {
        return (in_flight(&listener.series), Decision::Refuse(refusal));
    }
    let rule = find(connection, request, listener);
    if let Some(limiter) = &rule.limiter
        && let Err(retry_after) = limiter.check(connection.client, request.headers(), now)
    {
        return (in_flight(&listener.series), Decision::Refuse(Refusal::rate_limited(retry_after)));
    }
    match &rule.action {
        CompiledAction::Forward(split) => {
            let kept = split.stickiness.and_then(|_| kept_group(connection, request, split, routes));
            let route = kept.or_else(|| routes.listeners.group(split.next()?));
            let Some(route) = route else {
                return (in_flight(&listener.series), Decision::Refuse(Refusal::no_target_group()));
            };
            let way = Way {
                about_clients: attributes,
                attributes: listener.attributes.clone(),
                route: Arc::clone(route),
                group_stickiness: split.stickiness,
                timeout: route.attributes.response_timeout.unwrap_or(attributes.idle_timeout),
            };
            let decision = rewrite(request, rule).map_or_else(Decision::Refuse, |()| Decision::Forward(way));
            (in_flight(&route.series), decision)
        }
        CompiledAction::Redirect(redirect) => {
            let decision = redirected(connection, request, redirect);
            (in_flight(&listener.series), decision.map_or_else(Decision::Refuse, Decision::Answer))
        }
        CompiledAction::Fixed { status, content_type, body } => {
            let mut response = Response::new(body.clone());
            *response.status_mut() = *status;
            if let Some(content_type) = content_type {
                response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
            }
            (in_flight(&listener.series), Decision::Answer(response))
        }
    }
}

/// The group a cookie says the client was sent to before, if the rule still forwards to it.
fn kept_group<'a>(
    connection: &Connection,
    request: &Request<ClientBody>,
    split: &Split,
    routes: &'a Routes,
) -> Option<&'a Arc<GroupRoute>> {
    let key = &connection.router.config.cookie_key;
    let whom = key.read(request.headers(), Cookie::TargetGroup, SystemTime::now())?;
    let mut groups = split.groups().iter().filter_map(|share| routes.listeners.group(&share.id));
    groups.find(|route| route.group.fingerprint == whom)
}

fn find<'a>(
    connection: &Connection,
    request: &Request<ClientBody>,
    listener: &'a ListenerRoute,
) -> &'a Arc<CompiledRule> {
    listener.rules.find(&RequestView {
        method: request.method(),
        host: host(request),
        path: request.uri().path(),
        query: request.uri().query(),
        headers: request.headers(),
        client: connection.client,
    })
}

/// The request's host without its port; empty without one, or if it is not text.
fn host<T>(request: &Request<T>) -> &str {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    without_port(host)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // A colon inside brackets is part of an IPv6 address.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

fn redirected(
    connection: &Connection,
    request: &Request<ClientBody>,
    redirect: &Redirect,
) -> Result<Response<bytes::Bytes>, Refusal> {
    let location = location(
        redirect,
        &Origin {
            protocol: connection.scheme(),
            host: host(request),
            port: connection.port(),
            path: request.uri().path(),
            query: request.uri().query(),
        },
    );
    let location = HeaderValue::try_from(location).map_err(|_| Refusal::bad_redirect())?;
    let mut response = Response::new(bytes::Bytes::new());
    *response.status_mut() = match redirect.status {
        RedirectStatus::Permanent => StatusCode::MOVED_PERMANENTLY,
        RedirectStatus::Temporary => StatusCode::FOUND,
    };
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// Does the rule's transforms.
fn rewrite(request: &mut Request<ClientBody>, rule: &CompiledRule) -> Result<(), Refusal> {
    if rule.rewrites.is_empty() {
        return Ok(());
    }
    let host = request.headers().get(header::HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let url = request.uri().path_and_query().map_or("/", |url| url.as_str());
    let rewritten = rule.rewrites.apply(host, url.as_bytes());
    if let Some(host) = rewritten.host {
        let host = HeaderValue::try_from(host).map_err(|_| Refusal::bad_rewrite("host"))?;
        request.headers_mut().insert(header::HOST, host);
    }
    if let Some(url) = rewritten.url {
        let url = Some(url).filter(|url| url.starts_with(b"/")).ok_or_else(|| Refusal::bad_rewrite("URL"))?;
        *request.uri_mut() = http::Uri::try_from(url).map_err(|_| Refusal::bad_rewrite("URL"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn ports_are_taken_off_hosts() {
        for (host, name) in
            [("a.com:80", "a.com"), ("a.com", "a.com"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            assert_eq!(without_port(host), name);
        }
    }
}
