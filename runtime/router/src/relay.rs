//! Sends a request to a target of a group, and to another one where that is safe.
//!
//! A request that a target has seen nothing of goes to the next one, without limit but that of attempts.
//! One that a target broke on is sent once more if nobody can tell the difference: its method is
//! idempotent, it has no body, it was not sent twice before (here, or by a router in front that said so
//! with `x-coracle-attempt`), and the group's budget of retries allows it.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::future::BoxFuture;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response};
use tokio::time::{Duration, Instant, timeout_at};

use crate::answer::Refusal;
use crate::body::{ClientBody, request_body};
use crate::bounded::Bounded;
use crate::connection::Connection;
use crate::forward::Handled;
use crate::group::{Admission, GroupRoute, Member};
use crate::handler::InFlight;
use crate::headers::Scan;
use crate::http_target::Spare;
use crate::load_balancer::LoadBalancerAttributes;
use crate::model::{ListenerAttributes, Stickiness, StickinessKind, TargetGroupAttributes};
use crate::sticky::{self, Cookie, CookieKey, Fingerprint};
use crate::target::{CallError, RequestBody, ResponseBody};

/// Tells a router further on that a request was sent before.
const ATTEMPT_HEADER: HeaderName = HeaderName::from_static("x-coracle-attempt");

/// When to come back to a group that has too much to do.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a request goes, and what to remember of that.
pub(crate) struct Way {
    pub(crate) route: Arc<GroupRoute>,
    /// What the load balancer has its targets told.
    pub(crate) about_clients: LoadBalancerAttributes,
    /// What the listener changes, if it does.
    pub(crate) attributes: Option<Arc<ListenerAttributes>>,
    /// How long the client keeps the group, if it does.
    pub(crate) group_stickiness: Option<Duration>,
    /// Time to the head of the answer.
    pub(crate) timeout: Duration,
}

/// Sends the request on its way and the answer back. It is `now`.
pub(crate) fn relay(
    connection: Arc<Connection>,
    mut request: Request<ClientBody>,
    scan: Scan,
    mut in_flight: Box<InFlight>,
    way: Way,
    now: Instant,
) -> Handled {
    let attributes = &way.route.attributes;
    if let Err(refusal) = check_size(&request, attributes) {
        return Handled::Now(in_flight.refuse(refusal, scan));
    }
    let is_head = request.method() == Method::HEAD;
    let cookies = Cookies::read(&connection.router.config.cookie_key, request.headers(), &way);
    connection.introduce(request.headers_mut(), scan, &way.about_clients);
    if let Some(attributes) = &way.attributes {
        attributes.rename(request.headers_mut());
    }
    in_flight.log_introduction(request.headers());
    let request = request.map(|body| request_body(body, &connection));
    let (request, exceeded) = Bounded::wrap(request, attributes.max_request_body_bytes);
    let mut request = Some(request);
    // All that waits is in here, and once only: this is room every request in flight takes.
    Handled::Later(Box::pin(async move {
        let (group, breaker) = (&way.route.group, &way.route.attributes.breaker);
        let (admitted, now) = match group.try_admit(breaker) {
            Some(admission) => (Ok(admission), now),
            None => (group.admit(breaker).await, Instant::now()),
        };
        let mut answer = match admitted {
            Err(_) => in_flight.refuse(Refusal::group_is_full(&way.route.name, RETRY_AFTER), scan),
            Ok(admission) => {
                let mut attempts = Attempts {
                    connection: &connection,
                    route: Arc::clone(&way.route),
                    admission,
                    now,
                    tried: Vec::new(),
                    unreachable: None,
                    sticky: cookies.target,
                };
                let answered = attempts.run(&mut in_flight, &mut request, way.timeout).await;
                in_flight.keep(attempts.admission);
                match answered {
                    Ok((response, member)) => {
                        let set = cookies.to_set(&way, &member, response.headers());
                        let mut response = in_flight.respond(response, is_head, scan);
                        for (cookie, whom, duration) in set.into_iter().flatten() {
                            let key = &connection.router.config.cookie_key;
                            key.set(response.headers_mut(), cookie, whom, duration, SystemTime::now());
                        }
                        response
                    }
                    Err(_) if exceeded.is_some_and(|exceeded| exceeded.is_set()) => {
                        let max = way.route.attributes.max_request_body_bytes.unwrap_or(u64::MAX);
                        in_flight.refuse(Refusal::body_too_large(max), scan)
                    }
                    Err(refusal) => in_flight.refuse(refusal, scan),
                }
            }
        };
        if let Some(attributes) = &way.attributes {
            attributes.answer(answer.headers_mut());
        }
        answer
    }))
}

fn check_size<B: http_body::Body>(
    request: &Request<B>,
    attributes: &TargetGroupAttributes,
) -> Result<(), Refusal> {
    if let Some(max) = attributes.max_request_header_bytes {
        // A line's name, value, colon, space and end.
        let size = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
        if request.headers().iter().map(size).sum::<usize>() > max {
            return Err(Refusal::headers_too_large(max));
        }
    }
    match attributes.max_request_body_bytes {
        Some(max) if request.body().size_hint().lower() > max => Err(Refusal::body_too_large(max)),
        _ => Ok(()),
    }
}

/// What cookies say, and what they are to say.
#[derive(Clone, Copy)]
struct Cookies {
    /// Whom the client was with before.
    target: Option<Fingerprint>,
}

/// A cookie, whom it means, and how long.
type ToSet = (Cookie, Fingerprint, Duration);

impl Cookies {
    fn read(key: &CookieKey, headers: &HeaderMap, way: &Way) -> Self {
        let target = way.route.attributes.stickiness.as_ref().and_then(|stickiness| match &stickiness.kind {
            StickinessKind::LoadBalancerCookie => key.read(headers, Cookie::LoadBalancer, SystemTime::now()),
            StickinessKind::ApplicationCookie(name) => {
                sticky::find(headers, name)?;
                key.read(headers, Cookie::Application, SystemTime::now())
            }
        });
        Self { target }
    }

    /// The cookies an answer gets. The router's own are renewed with every answer, the one beside the
    /// application's whenever the application sets its own.
    fn to_set(self, way: &Way, member: &Member, response: &HeaderMap) -> [Option<ToSet>; 2] {
        let of_group =
            way.group_stickiness.map(|duration| (Cookie::TargetGroup, way.route.group.fingerprint, duration));
        let of_target = way.route.attributes.stickiness.as_ref().and_then(|Stickiness { kind, duration }| {
            let cookie = match kind {
                StickinessKind::LoadBalancerCookie => Cookie::LoadBalancer,
                StickinessKind::ApplicationCookie(name) if sticky::is_set(response, name) => {
                    Cookie::Application
                }
                StickinessKind::ApplicationCookie(_) => return None,
            };
            Some((cookie, member.fingerprint, *duration))
        });
        [of_group, of_target]
    }
}

/// What a target made of a request.
type Called = Result<Response<ResponseBody>, CallError>;

/// One request's attempts.
struct Attempts<'a> {
    connection: &'a Connection,
    /// The group as it was when a target was last chosen.
    route: Arc<GroupRoute>,
    admission: Admission,
    /// The time, as of the last wait.
    now: Instant,
    tried: Vec<Arc<Member>>,
    /// What to answer if every target is like the one that could not be reached.
    unreachable: Option<Refusal>,
    sticky: Option<Fingerprint>,
}

impl Attempts<'_> {
    /// Sends the request until a target answers or there is no more use. Whoever has the request takes it.
    async fn run(
        &mut self,
        in_flight: &mut InFlight,
        request: &mut Option<Request<RequestBody>>,
        timeout: Duration,
    ) -> Result<(Response<ResponseBody>, Arc<Member>), Refusal> {
        loop {
            let member = self.enter_next(in_flight).await?;
            let Some((call, spare)) = self.send(&member, request) else { return Err(self.no_target()) };
            let called = match self.connection.within(self.now, timeout, call).await {
                Some(called) => called,
                None => {
                    let reason = format!("it did not begin to answer within {} s", timeout.as_secs_f64());
                    Err(CallError::TimedOut { reason })
                }
            };
            self.note(&member, &called);
            let error = match called {
                Ok(response) => return Ok((response, member)),
                Err(error) => error,
            };
            let refusal = Refusal::of_call(&error);
            match (error, spare) {
                (CallError::NotStarted(unsent), _) => *request = Some(unsent),
                (CallError::Unreachable { request: unsent, .. }, _) => {
                    self.unreachable = Some(refusal);
                    *request = Some(unsent);
                }
                (CallError::Failed { .. } | CallError::Unavailable { .. }, Some(spare)) => {
                    let policy = self.route.attributes.retries.as_ref();
                    if !policy.is_some_and(|policy| self.admission.try_retry(policy)) {
                        return Err(refusal);
                    }
                    self.unreachable = Some(refusal);
                    let mut again = spare.into_request(http::Version::HTTP_11);
                    again.headers_mut().insert(ATTEMPT_HEADER, HeaderValue::from_static("2"));
                    *request = Some(again);
                }
                _ => return Err(refusal),
            }
            in_flight.leave();
            self.tried.push(member);
            self.look_again();
            self.now = Instant::now();
        }
    }

    /// Sends the request, and keeps a copy if it may be needed. Apart from what waits for the answer, which would have room
    /// for the request for as long as that takes.
    fn send(
        &self,
        member: &Member,
        request: &mut Option<Request<RequestBody>>,
    ) -> Option<(BoxFuture<'static, Called>, Option<Box<Spare>>)> {
        let request = request.take()?;
        let may = self.route.attributes.retries.is_some()
            && self.route.has_several()
            && !request.headers().contains_key(ATTEMPT_HEADER);
        let spare = may.then(|| Spare::of(&request)).flatten();
        Some((member.slot.call(request), spare.map(Box::new)))
    }

    /// Chooses a target and counts the request against it.
    async fn enter_next(&mut self, in_flight: &mut InFlight) -> Result<Arc<Member>, Refusal> {
        loop {
            if self.tried.len() >= self.connection.router.config.max_attempts {
                return Err(self.no_target());
            }
            let member = match self.choose() {
                Some(member) => member,
                None => Box::pin(self.wait()).await?,
            };
            if in_flight.enter_member(&member, self.now) {
                return Ok(member);
            }
            // It has begun to drain since the snapshot was made.
            self.tried.push(member);
            self.look_again();
        }
    }

    fn choose(&self) -> Option<Arc<Member>> {
        let sticky = self.sticky.filter(|_| self.tried.is_empty()).and_then(|whom| self.route.sticky(whom));
        sticky.or_else(|| self.route.pick(&self.tried, self.now)).map(Arc::clone)
    }

    /// Waits for a target to come, within bounds. At the end of them, any target will do.
    async fn wait(&mut self) -> Result<Arc<Member>, Refusal> {
        if self.unreachable.is_some() {
            return Err(self.no_target());
        }
        let router = &self.connection.router;
        let group = Arc::clone(&self.route.group);
        let breaker = self.route.attributes.breaker;
        let Ok(_pending) = group.wait_in_line(&breaker) else {
            return Err(Refusal::group_is_full(&self.route.name, RETRY_AFTER));
        };
        let mut wait = breaker.pending_timeout;
        if self.route.activates && self.route.is_empty() {
            wait = wait.max(router.config.activation_wait);
            if group.asks_for_target() {
                router.activate(&group.id);
            }
        }
        let deadline = Instant::now() + wait;
        let mut versions = router.versions();
        loop {
            self.look_again();
            self.now = Instant::now();
            if let Some(member) = self.choose() {
                return Ok(member);
            }
            if !matches!(timeout_at(deadline, versions.changed()).await, Ok(Ok(()))) {
                group.ask_again();
                return self.route.last_resort(&self.tried).map(Arc::clone).ok_or_else(|| self.no_target());
            }
        }
    }

    /// Takes the group's newest route.
    fn look_again(&mut self) {
        if let Some(route) = self.connection.router.routes.load().listeners.group(&self.route.group.id) {
            self.route = Arc::clone(route);
        }
    }

    fn no_target(&mut self) -> Refusal {
        self.unreachable.take().unwrap_or_else(|| {
            let why =
                if self.tried.is_empty() { self.route.why_none } else { "its targets take no more requests" };
            Refusal::group_without_target(&self.route.name, why)
        })
    }

    /// Notes how the target did, and leaves it out for a while if that was once too often.
    fn note(&self, member: &Arc<Member>, called: &Called) {
        if let (Err(CallError::Unreachable { .. }), Some(traffic)) = (called, &self.route.series.traffic) {
            traffic.could_not_connect();
        }
        let Some(policy) = &self.route.attributes.outlier_ejection else { return };
        let failed = match called {
            Ok(response) => response.status().is_server_error(),
            Err(CallError::Failed { .. } | CallError::TimedOut { .. } | CallError::Unreachable { .. }) => {
                true
            }
            // Says nothing of how well the target is.
            Err(_) => return,
        };
        if member.note(failed, policy.consecutive_failures) {
            self.connection.router.eject(&self.route.group.id, member);
        }
    }
}
