//! Looks after target groups: sends health checks, and does what is due, such as forgetting targets that
//! have drained. One task does it for all groups, so that nothing of it is on the path of requests.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
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
    let answered = async {
        let response = check.slot.call(request).await?;
        let status = response.status().as_u16();
        read(response.into_body()).await;
        Ok(status)
    };
    match time::timeout(check.how.timeout, answered).await {
        Ok(Ok(status)) if check.how.matcher.matches(status) => Outcome::Passed,
        Ok(Ok(status)) => Outcome::Failed(Fault::Status(status)),
        Ok(Err(error)) => Outcome::Failed(fault(error)),
        Err(_) => Outcome::Failed(Fault::TimedOut),
    }
}

fn request(check: &Check) -> Result<Request<RequestBody>, http::Error> {
    let path = if check.how.path.is_empty() { "/" } else { &check.how.path };
    let mut request = Request::get(Uri::try_from(path)?)
        .header(header::HOST, check.target.to_string())
        .header(header::USER_AGENT, HeaderValue::from_static("ELB-HealthChecker/2.0"))
        .body(RequestBody::new(Empty::new().map_err(|never| match never {})))?;
    request.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
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

/// Reads a bounded part of an answer.
async fn read(mut body: ResponseBody) {
    let mut read = 0;
    while !body.is_end_stream() && read < MAX_ANSWER {
        let Some(Ok(frame)) = body.frame().await else { return };
        read += frame.data_ref().map_or(0, |data: &Bytes| data.len() as u64);
    }
}
