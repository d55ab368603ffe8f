//! Requests as somebody sees them who watches a node at work, such as `coracle dev`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_sandbox::{HandleError, RequestMeter, RequestUsage};
use coracle_types::TaskId;
use http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;

/// Is told of every request that an HTTP container has served.
pub trait RequestObserver: Send + Sync + 'static {
    /// A request has ended, and so has the guest's work on it. Must not block.
    fn ended(&self, request: &ObservedRequest);
}

/// One request, after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedRequest {
    /// The task that was called.
    pub task: TaskId,
    /// The container of it.
    pub container: Arc<str>,
    /// The request's method.
    pub method: Method,
    /// The request's path, with its query.
    pub path: String,
    /// The status, or why there was none; None if whoever asked left before there was either.
    pub answer: Option<Result<StatusCode, String>>,
    /// From the call to the end of all that was done for it, sending the body included.
    pub time: Duration,
    /// What the instance used; None where that is not known of a single request.
    pub usage: Option<RequestUsage>,
}

/// Whom to tell of the requests of one container.
#[derive(Clone)]
pub(crate) struct Watch {
    pub(crate) observer: Arc<dyn RequestObserver>,
    pub(crate) task: TaskId,
    pub(crate) container: Arc<str>,
}

impl Watch {
    /// Watches a request: what is answered is told when the last has let go of it, sandbox included.
    pub(crate) fn begin<B>(&self, request: &mut Request<B>) -> Arc<Watched> {
        let uri = request.uri();
        let watched = Arc::new(Watched {
            observer: Arc::clone(&self.observer),
            began: Instant::now(),
            seen: Mutex::new(ObservedRequest {
                task: self.task,
                container: Arc::clone(&self.container),
                method: request.method().clone(),
                path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
                answer: None,
                time: Duration::ZERO,
                usage: None,
            }),
        });
        let meter = Arc::clone(&watched);
        request
            .extensions_mut()
            .insert(RequestMeter::new(move |usage| meter.seen.lock().usage = Some(usage)));
        watched
    }
}

/// A request that is being watched.
pub(crate) struct Watched {
    observer: Arc<dyn RequestObserver>,
    began: Instant,
    seen: Mutex<ObservedRequest>,
}

impl Watched {
    pub(crate) fn answered<B>(&self, answer: &Result<Response<B>, HandleError>) {
        let answer = answer.as_ref().map(Response::status).map_err(ToString::to_string);
        self.seen.lock().answer = Some(answer);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let mut seen = self.seen.lock();
        seen.time = self.began.elapsed();
        self.observer.ended(&seen);
    }
}
