//! One request: where it goes, what happens when that fails, and what the client gets.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use tokio::time::Instant;

use crate::access_log::{Entry, Outcome};
use crate::address::{Address, AddressError, SERVICE_HEADER, parse_header, parse_host};
use crate::answer::Refusal;
use crate::body::{Answer, ClientBody, request_body};
use crate::connection::Connection;
use crate::forward::{self, Handled};
use crate::framing;
use crate::group::{Admission, Member};
use crate::headers::{Scan, TASK_HEADER, UpgradeTo, clean_response};
use crate::load_balancer::LoadBalancerAttributes;
use crate::metrics::{CLIENT_CLOSED, Series};
use crate::router::Shared;
use crate::table::{Route, Routes, Service};
use crate::target::{CallError, RequestBody, ResponseBody, Slot};
use crate::tunnel::{Begun, Duplex, Tunnel, Upgrade};
use crate::websocket;

/// Answers one request of a connection. An error is an answer too.
pub(crate) async fn handle(
    connection: Arc<Connection>,
    mut request: Request<ClientBody>,
) -> Response<Answer> {
    let over_http2 = if connection.is_http2() { websocket::translate(&mut request) } else { None };
    let scan = Scan::request(request.headers());
    let mut response = match connection.listener_id() {
        Some(listener) => match forward::handle(&connection, request, scan, listener) {
            Handled::Now(response) => response,
            Handled::Later(response) => response.await,
        },
        None => to_service(Arc::clone(&connection), request, scan, None, request_body).await,
    };
    if let Some(client) = over_http2 {
        websocket::join(&connection, client, &mut response);
    } else if let Some(begun) = response.extensions_mut().remove::<Begun>() {
        connection.set_tunnel(begun.take());
    }
    response
}

/// Has one request answered by the service it is for: that which is `named`, or else that which it names.
pub(crate) async fn to_service<B: Body>(
    connection: Arc<Connection>,
    mut request: Request<B>,
    scan: Scan,
    named: Option<&Address<'_>>,
    request_body: impl FnOnce(B, &Arc<Connection>) -> RequestBody,
) -> Response<Answer> {
    let entry = connection.log_entry(&request);
    let (service, routed) = route(&connection.router, &mut request, scan, named);
    let mut now = Instant::now();
    let mut in_flight = InFlight::new(Arc::clone(&connection), Arc::clone(&service.metrics), now);
    in_flight.log(entry, None, || service.name.to_string());
    let mut next = match routed {
        Ok(target) => target,
        Err(refusal) => return in_flight.refuse(refusal, scan),
    };

    let is_head = request.method() == Method::HEAD;
    connection.introduce(request.headers_mut(), scan, &LoadBalancerAttributes::OF_DEFAULT_PORT);
    in_flight.log_introduction(request.headers());
    let mut request = request.map(|body| request_body(body, &connection));
    let router = &connection.router;
    let mut tried = Vec::new();
    let mut unreachable = None;
    let mut deadline = None;
    loop {
        let slot = match next {
            Some(slot) => slot,
            None => {
                if let Some(refusal) = unreachable {
                    return in_flight.refuse(refusal, scan);
                }
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + router.config.empty_wait);
                // Boxed, as it is rare: its state would otherwise be part of every request's.
                let name = &service.name;
                let waited = Box::pin(router.wait_for_target(name, &tried, deadline)).await;
                now = Instant::now();
                match waited {
                    Ok(slot) => slot,
                    Err(refusal) => return in_flight.refuse(refusal, scan),
                }
            }
        };
        match in_flight.enter(slot, now).call(request).await {
            Ok(response) => return in_flight.respond(response, is_head, scan),
            Err(error) => {
                let refusal = Refusal::of_call(&error);
                let is_unreachable = matches!(error, CallError::Unreachable { .. });
                let Some(unsent) = error.into_unsent() else { return in_flight.refuse(refusal, scan) };
                request = unsent;
                tried.extend(in_flight.leave());
                if is_unreachable {
                    unreachable = Some(refusal);
                }
                if tried.len() >= router.config.max_attempts {
                    let refusal = router.no_ready_target(&service.name);
                    return in_flight.refuse(refusal, scan);
                }
                next = router.pick(&service.name, &tried);
                now = Instant::now();
            }
        }
    }
}

/// Finds the service and, if it has one, a target. The service is the stand-in where there is none.
fn route<B: Body>(
    router: &Shared,
    request: &mut Request<B>,
    scan: Scan,
    named: Option<&Address<'_>>,
) -> (Arc<Service>, Result<Option<Arc<Slot>>, Refusal>) {
    let routes = router.routes.load();
    let checked =
        framing::check(&router.config, LoadBalancerAttributes::OF_DEFAULT_PORT.desync, request, scan);
    let found = checked.and_then(|()| match named {
        Some(address) => resolve(&routes, address),
        None => find(&routes, request, scan),
    });
    match found {
        Ok(route) => (Arc::clone(&route.service), Ok(route.pick(&[]).map(Arc::clone))),
        Err(refusal) => (Arc::clone(&router.unknown), Err(refusal)),
    }
}

fn resolve<'a>(routes: &'a Routes, address: &Address<'_>) -> Result<&'a Route, Refusal> {
    routes
        .resolve(address)
        .map_err(|error| Refusal::of_route(error, address.cluster, address.service, routes))
}

fn find<'a, B>(routes: &'a Routes, request: &Request<B>, scan: Scan) -> Result<&'a Route, Refusal> {
    if scan.service_headers > 0 {
        if scan.service_headers > 1 {
            return Err(Refusal::bad_service_header("there is more than one"));
        }
        let value = request.headers().get(SERVICE_HEADER).and_then(|value| value.to_str().ok());
        let address = value.map_or(Err(AddressError::Malformed("it is not ASCII")), parse_header);
        let address = address.map_err(|error| match error {
            AddressError::Malformed(why) => Refusal::bad_service_header(why),
            AddressError::NoService => Refusal::bad_service_header("it names no service"),
        })?;
        return resolve(routes, &address);
    }
    let Some(host) = request.headers().get(header::HOST) else {
        return routes.default_service().ok_or_else(Refusal::no_host);
    };
    let host = host.to_str().map_err(|_| Refusal::bad_host("it is not ASCII"))?;
    match parse_host(host) {
        Ok(address) => resolve(routes, &address),
        Err(error @ AddressError::NoService) => {
            routes.default_service().ok_or_else(|| Refusal::of_host(error, host, routes))
        }
        Err(error) => Err(Refusal::of_host(error, host, routes)),
    }
}

/// A request from its head to the end of its response. Whichever way it ends, dropping this counts it. In a box, as it
/// goes through many hands, and would be part of all they keep.
pub(crate) struct InFlight {
    connection: Arc<Connection>,
    series: Arc<Series>,
    slot: Option<Arc<Slot>>,
    member: Option<Arc<Member>>,
    /// Only held: dropping it gives the place up.
    _admission: Option<Admission>,
    started: Instant,
    called: Option<Instant>,
    outcome: Outcome,
    entry: Option<Box<Entry>>,
}

impl InFlight {
    /// A request whose head came `now`.
    pub(crate) fn new(connection: Arc<Connection>, series: Arc<Series>, now: Instant) -> Box<Self> {
        connection.request_started();
        series.in_flight.inc();
        Box::new(Self {
            connection,
            series,
            slot: None,
            member: None,
            _admission: None,
            started: now,
            called: None,
            outcome: Outcome::default(),
            entry: None,
        })
    }

    /// Has the request logged by what `entry` has of it; `backend` is what it was routed to.
    pub(crate) fn log(
        &mut self,
        entry: Option<Box<Entry>>,
        load_balancer: Option<&str>,
        backend: impl FnOnce() -> String,
    ) {
        self.entry = entry.map(|mut entry| {
            entry.load_balancer = load_balancer.map(Arc::from);
            entry.backend = Some(backend()).filter(|backend| !backend.is_empty()).map(Arc::from);
            entry
        });
    }

    /// Has logged what targets are told with the request.
    pub(crate) fn log_introduction(&mut self, headers: &HeaderMap) {
        if let Some(entry) = &mut self.entry {
            entry.introduced(headers);
        }
    }

    /// Bytes of the response's body are on their way.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.outcome.sent += bytes as u64;
    }

    /// Counts the request against a target.
    fn enter(&mut self, slot: Arc<Slot>, now: Instant) -> &Slot {
        slot.enter();
        self.outcome.until_called = Some(now - self.started);
        self.called = Some(now);
        if let Some(entry) = &mut self.entry {
            entry.target = Some(Arc::from(slot.id()));
        }
        self.slot.insert(slot)
    }

    /// Counts the request against a target of a group, unless it drains.
    pub(crate) fn enter_member(&mut self, member: &Arc<Member>, now: Instant) -> bool {
        let may = member.try_enter();
        if may {
            self.enter(Arc::clone(&member.slot), now);
            self.member = Some(Arc::clone(member));
        }
        may
    }

    /// Keeps the request's place in its group until it has ended.
    pub(crate) fn keep(&mut self, admission: Admission) {
        self._admission = Some(admission);
    }

    /// Takes the request off the target again.
    pub(crate) fn leave(&mut self) -> Option<Arc<Slot>> {
        if let Some(member) = self.member.take() {
            member.leave();
        }
        self.slot.take().inspect(|slot| slot.leave())
    }

    fn answered(&mut self, status: StatusCode) {
        self.outcome.status = Some(status.as_u16());
        self.series.answered(status.as_u16());
    }

    /// A target has answered.
    fn answered_by_target(&mut self, status: StatusCode) {
        self.outcome.target_status = Some(status.as_u16());
        // Looking at the clock is worth avoiding where nobody wants to know.
        if self.entry.is_some() || self.series.traffic.is_some() {
            let took = self.called.map(|called| called.elapsed()).unwrap_or_default();
            self.outcome.until_answered = Some(took);
            if let Some(traffic) = &self.series.traffic {
                traffic.answered(status.as_u16(), took);
            }
        }
        self.answered(status);
    }

    /// The router answers itself.
    fn answered_here(&mut self, status: StatusCode, had_target: bool) {
        if let Some(traffic) = &self.series.traffic {
            traffic.refused(status.as_u16(), had_target);
        }
        self.answered(status);
    }

    pub(crate) fn refuse(mut self: Box<Self>, refusal: Refusal, scan: Scan) -> Response<Answer> {
        let slot = self.leave();
        self.outcome.error = Some(refusal.code());
        let mut response = refusal.into_response(scan.accepts_json);
        self.answered_here(response.status(), slot.is_some());
        if let Some(slot) = slot {
            response.headers_mut().insert(TASK_HEADER, slot.label());
        }
        response.map(|text| Answer::text(text, self))
    }

    /// Sends an answer that a rule has in it.
    pub(crate) fn answer(mut self: Box<Self>, response: Response<Bytes>, is_head: bool) -> Response<Answer> {
        self.answered_here(response.status(), false);
        let has_no_body = is_head || response.status() == StatusCode::NO_CONTENT;
        response.map(|text| if has_no_body { Answer::empty(self) } else { Answer::text(text, self) })
    }

    /// Makes a target's response fit to be sent. It comes from a guest: anything may be in it.
    pub(crate) fn respond(
        mut self: Box<Self>,
        response: Response<ResponseBody>,
        is_head: bool,
        scan: Scan,
    ) -> Response<Answer> {
        let (mut head, body) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS
            && scan.upgrade == UpgradeTo::WebSocket
            && let Some(target) = head.extensions.remove::<Upgrade>().and_then(|upgrade| upgrade.take())
        {
            return self.switch(head, target);
        }
        if head.status.is_informational() {
            let what = format!("{} is not a final status", head.status.as_u16());
            return self.refuse(Refusal::bad_response(&what), scan);
        }
        let Ok(claimed) = clean_response(&mut head.headers) else {
            let what = "its Content-Length is not one number";
            return self.refuse(Refusal::bad_response(what), scan);
        };
        let has_no_body = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !has_no_body
            && let (Some(claimed), Some(actual)) = (claimed, body.size_hint().exact())
            && claimed != actual
        {
            let what = format!("its Content-Length is {claimed}, its body {actual} bytes long");
            return self.refuse(Refusal::bad_response(&what), scan);
        }
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        if let Some(slot) = &self.slot {
            head.headers.insert(TASK_HEADER, slot.label());
        }
        head.version = Version::HTTP_11;
        self.answered_by_target(head.status);
        let answer = if has_no_body { Answer::empty(self) } else { Answer::from_target(body, claimed, self) };
        Response::from_parts(head, answer)
    }
}

impl InFlight {
    /// Leaves HTTP: the request is in flight until the tunnel to its target ends.
    fn switch(
        mut self: Box<Self>,
        mut head: http::response::Parts,
        target: Box<dyn Duplex>,
    ) -> Response<Answer> {
        // What of it is about framing means nothing here.
        let _ = clean_response(&mut head.headers);
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        if let Some(slot) = &self.slot {
            head.headers.insert(TASK_HEADER, slot.label());
        }
        head.version = Version::HTTP_11;
        self.answered_by_target(head.status);
        head.extensions.insert(Begun::new(Tunnel::new(target, self)));
        Response::from_parts(head, Answer::detached())
    }

    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.leave();
        if self.outcome.status.is_none() {
            self.series.answered(CLIENT_CLOSED);
        }
        self.series.in_flight.dec();
        let total = self.started.elapsed();
        self.series.ended(total);
        if let (Some(mut entry), Some(log)) = (self.entry.take(), &self.connection.router.access_log) {
            entry.outcome = Outcome { total, ..self.outcome };
            log.write(*entry);
        }
        self.connection.request_ended();
    }
}
