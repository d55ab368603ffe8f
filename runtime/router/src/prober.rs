//! Looks after target groups: sends health checks, and does what is due, such as forgetting targets that
//! have drained. One task does it for all groups, so that nothing of it is on the path of requests.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};

use crate::group::{Check, Fault, Outcome};
use crate::router::Shared;
use crate::target::{CallError, RequestBody, ResponseBody};

/// Checks that are under way at once.
const MAX_CHECKS: usize = 64;

/// Shortest pause between two looks at all groups; what is due within it is done together.
const MIN_PAUSE: Duration = Duration::from_millis(20);

/// Bytes of an answer that are read, so that its connection can be used again.
const MAX_ANSWER: u64 = 64 * 1024;

/// Looks after groups until `shutdown` is done.
pub(crate) async fn run(shared: Arc<Shared>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut versions = shared.versions();
    let places = Arc::new(Semaphore::new(MAX_CHECKS));
    let mut under_way: JoinSet<(Check, Outcome)> = JoinSet::new();
    let mut results = Vec::new();
    loop {
        while let Some(done) = under_way.try_join_next() {
            results.extend(done.inspect_err(|error| tracing::error!(%error, "a health check failed")).ok());
        }
        versions.mark_unchanged();
        let now = Instant::now();
        let (due, next_at) = shared.tend_groups(std::mem::take(&mut results), now);
        for check in due {
            let places = Arc::clone(&places);
            under_way.spawn(async move {
                let _place = places.acquire().await;
                let outcome = probe(&check).await;
                (check, outcome)
            });
        }
        let next = async {
            match next_at {
                Some(at) => time::sleep_until(at.max(now + MIN_PAUSE)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = &mut shutdown => return,
            changed = versions.changed() => if changed.is_err() { return },
            () = next => {}
            Some(done) = under_way.join_next() => {
                results.extend(done.inspect_err(|error| tracing::error!(%error, "a health check failed")).ok());
            }
        }
    }
}

/// Does one check.
async fn probe(check: &Check) -> Outcome {
    let request = match request(check) {
        Ok(request) => request,
        Err(error) => return Outcome::Failed(Fault::NoAnswer(error.to_string())),
    };
    let matcher = &check.how.matcher;
    let answered = async {
        let (head, body) = check.slot.call(request).await?.into_parts();
        let trailers = read(body).await;
        if !matcher.is_grpc() {
            return Ok(Some(head.status.as_u16()));
        }
        // An answer without a message has its status in the head.
        let status = trailers.as_ref().and_then(grpc_status).or_else(|| grpc_status(&head.headers));
        Ok(status)
    };
    match time::timeout(check.how.timeout, answered).await {
        Ok(Ok(Some(code))) if matcher.matches(code) => Outcome::Passed,
        Ok(Ok(Some(code))) => Outcome::Failed(Fault::Status(code)),
        Ok(Ok(None)) => Outcome::Failed(Fault::NoAnswer("the answer has no grpc-status".to_owned())),
        Ok(Err(error)) => Outcome::Failed(fault(error)),
        Err(_) => Outcome::Failed(Fault::TimedOut),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

fn request(check: &Check) -> Result<Request<RequestBody>, http::Error> {
    /// A message of gRPC that is empty: not compressed, no bytes.
    const NO_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);
    let path = if check.how.path.is_empty() { "/" } else { &check.how.path };
    let request = Request::builder()
        .uri(Uri::try_from(path)?)
        .header(header::HOST, check.target.to_string())
        .header(header::USER_AGENT, HeaderValue::from_static("ELB-HealthChecker/2.0"));
    if check.how.matcher.is_grpc() {
        return request
            .method(Method::POST)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
            .header(header::TE, HeaderValue::from_static("trailers"))
            .body(RequestBody::new(Full::new(NO_MESSAGE).map_err(|never| match never {})));
    }
    request
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .body(RequestBody::new(Empty::new().map_err(|never| match never {})))
}

fn fault(error: CallError) -> Fault {
    match error {
        CallError::TimedOut { .. } | CallError::Unreachable { timed_out: true, .. } => Fault::TimedOut,
        // What a client would be answered.
        CallError::Unavailable { .. } => Fault::Status(503),
        CallError::NotStarted(_) => Fault::NoAnswer("the target takes no more requests".to_owned()),
        CallError::NoUpgrade => Fault::NoAnswer("the target refuses an upgrade nobody asked for".to_owned()),
        CallError::Failed { reason }
        | CallError::BadRequest { reason }
        | CallError::Unreachable { reason, .. } => Fault::NoAnswer(reason),
    }
}

/// Reads a bounded part of an answer, and its trailers.
async fn read(mut body: ResponseBody) -> Option<HeaderMap> {
    let mut read = 0;
    while !body.is_end_stream() && read < MAX_ANSWER {
        match body.frame().await?.ok()?.into_data() {
            Ok(data) => read += data.len() as u64,
            Err(frame) => return frame.into_trailers().ok(),
        }
    }
    None
}
