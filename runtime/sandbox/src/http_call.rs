//! A request's way through a guest.

use crate::body::{GuestBody, ResponseBody};
use crate::container::{InFlight, Shared};
use crate::control::Control;
use crate::entry::HttpEntry;
use crate::exit::{Exit, HandleError};
use crate::hold::{AbandonOnDrop, Hold};
use crate::host::HostState;
use crate::instance::{Begun, End, Instance, NoInstance, RequestEnd, begin, drive, refuel};
use crate::net::Hops;
use crate::resting::{Place, Resting};
use crate::usage::Metered;
use crate::worker::{Most, Occupied, Reuse, Workers};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, timeout_at};
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::bindings::{Proxy, ProxyPre};
use wasmtime_wasi_http::{Error as HttpError, WasiBody, WasiHttpView};

/// A guest's answer; the error is what it gave instead of a response.
pub(crate) type Head = Result<Response<WasiBody>, String>;

pub(crate) async fn handle<B>(
    shared: &Arc<Shared>,
    request: Request<B>,
) -> Result<Response<ResponseBody>, HandleError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    if shared.prepared.0.http.is_none() {
        let reason = "the component exports neither wasi:http/incoming-handler nor wasi:http/handler";
        return Err(HandleError::InvalidResponse(reason.to_owned()));
    }
    let in_flight = InFlight::new(shared);
    let (asked, request) = Asked::new(request)?;
    match shared.reuse {
        Reuse::Never => in_fresh_instance(shared, asked, request, in_flight).await,
        Reuse::InTurn { total } => in_turn(shared, total, asked, request, in_flight).await,
        Reuse::Together(most) => at_worker(shared, most, asked, request, in_flight).await,
    }
}

async fn in_fresh_instance(
    shared: &Arc<Shared>,
    asked: Asked,
    request: Request<WasiBody>,
    in_flight: InFlight,
) -> Result<Response<ResponseBody>, HandleError> {
    let permit = shared.admission.admit().await?;
    let control = Control::new();
    let registered = shared.registry.insert(control.clone());
    if shared.is_stopped() {
        return Err(HandleError::Stopping);
    }
    let (send_head, head) = oneshot::channel();
    let guest = {
        let (shared, control) = (shared.clone(), control.clone());
        Box::pin(async move {
            let end = {
                let guest = pin!(call(&shared, &control, request, send_head));
                drive(&shared, &control, guest).await
            };
            ended(&shared, end, (permit, registered, in_flight))
        })
    };
    let guest = begin(&control, &shared.spec.cpu, guest).await;
    asked.answered_by(shared, control, guest, head).await
}

/// In an instance that serves one request after the other.
async fn in_turn(
    shared: &Arc<Shared>,
    total: u32,
    asked: Asked,
    request: Request<WasiBody>,
    in_flight: InFlight,
) -> Result<Response<ResponseBody>, HandleError> {
    let running = shared.admission.admit_to_container().await?;
    let mut place = Resting::place(shared).await?;
    let control = place.begin();
    let registered = shared.registry.insert(control.clone());
    if shared.is_stopped() {
        return Err(HandleError::Stopping);
    }
    let (send_head, head) = oneshot::channel();
    let guest = {
        let (shared, control) = (shared.clone(), control.clone());
        Box::pin(async move {
            let end = {
                let guest = pin!(call_in_turn(&shared, &control, place, total, request, send_head));
                drive(&shared, &control, guest).await
            };
            ended(&shared, end, (running, registered, in_flight))
        })
    };
    let guest = begin(&control, &shared.spec.cpu, guest).await;
    asked.answered_by(shared, control, guest, head).await
}

/// A guest is gone, and what its request `occupied` with it.
fn ended(shared: &Shared, End(end): End, occupied: impl Send) -> RequestEnd {
    if let Ok(exit) = &end {
        shared.guest_ended(exit);
    }
    drop(occupied);
    end
}

async fn at_worker(
    shared: &Arc<Shared>,
    most: Most,
    asked: Asked,
    request: Request<WasiBody>,
    in_flight: InFlight,
) -> Result<Response<ResponseBody>, HandleError> {
    let running = shared.admission.admit_to_container().await?;
    let occupied = Occupied { _running: running, _in_flight: in_flight };
    let ticket = Workers::assign(shared, most, occupied).await?;
    let (send_head, head) = oneshot::channel();
    ticket.send(request, send_head)?;
    asked.answer(shared, head, Hold::Ticket(ticket.clone()), ticket.ended()).await
}

/// What is known of a request while its answer is waited for.
struct Asked {
    method: Method,
    uploaded: Option<Upload>,
}

impl Asked {
    fn new<B>(request: Request<B>) -> Result<(Self, Request<WasiBody>), HandleError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let uploaded = (!request.body().is_end_stream()).then(Upload::begin);
        let request = incoming(request, uploaded.clone())?;
        Ok((Asked { method: request.method().clone(), uploaded }, request))
    }

    /// Waits for the head of a guest that serves nobody else meanwhile.
    async fn answered_by(
        self,
        shared: &Shared,
        control: Arc<Control>,
        mut guest: Begun<RequestEnd>,
        head: oneshot::Receiver<Head>,
    ) -> Result<Response<ResponseBody>, HandleError> {
        // A panic while the store is dropped leaves no other trace.
        let ended = async { guest.ended().await.unwrap_or(Err(HandleError::NoResponse)) };
        self.answer(shared, head, Hold::Instance(control), ended).await
    }

    /// Waits for the head; hands `hold` over to the body.
    async fn answer(
        self,
        shared: &Shared,
        mut head: oneshot::Receiver<Head>,
        hold: Hold,
        ended: impl Future<Output = RequestEnd>,
    ) -> Result<Response<ResponseBody>, HandleError> {
        let cancel = AbandonOnDrop::new(hold.clone());
        // Most guests have answered by now: no timer is made, and no clock read.
        let response = match head.try_recv() {
            Ok(head) => head,
            Err(TryRecvError::Empty) => self.wait(shared, head, ended).await?,
            Err(TryRecvError::Closed) => {
                return Err(given_up(shared, Instant::now() + shared.spec.request_timeout, ended).await);
            }
        };
        let response = response.map_err(|code| {
            HandleError::InvalidResponse(format!("the guest answered with the error {code}"))
        })?;
        let answer = outgoing(shared, &self.method, response, hold)?;
        // From here on the body holds the guest.
        cancel.disarm();
        Ok(answer)
    }

    async fn wait(
        &self,
        shared: &Shared,
        mut head: oneshot::Receiver<Head>,
        ended: impl Future<Output = RequestEnd>,
    ) -> Result<Head, HandleError> {
        let limit = shared.spec.request_timeout;
        let mut deadline = Instant::now() + limit;
        loop {
            match timeout_at(deadline, &mut head).await {
                Ok(Ok(head)) => return Ok(head),
                Ok(Err(_)) => return Err(given_up(shared, deadline, ended).await),
                // A large upload may take longer than an answer may, as long as it gets on.
                Err(_) => match self.uploaded.as_ref().map(|upload| upload.last() + limit) {
                    Some(later) if later > deadline => deadline = later,
                    _ => return Err(HandleError::TimedOut { after: limit }),
                },
            }
        }
    }
}

/// Why there will be no head: the guest gave the answer up, but may go on for as long as it likes.
async fn given_up(
    shared: &Shared,
    deadline: Instant,
    ended: impl Future<Output = RequestEnd>,
) -> HandleError {
    match timeout_at(deadline, ended).await {
        Ok(ended) => no_head(shared, ended),
        Err(_) => HandleError::TimedOut { after: shared.spec.request_timeout },
    }
}

/// Gives a request to an instance that exists only for it.
async fn call(
    shared: &Arc<Shared>,
    control: &Control,
    request: Request<WasiBody>,
    send_head: oneshot::Sender<Head>,
) -> End {
    let Some(HttpEntry::P2(entry)) = &shared.prepared.0.http else {
        return End(Err(HandleError::NoResponse));
    };
    let mut instance = match create(shared, entry).await {
        Ok(instance) => instance,
        Err(end) => return end,
    };
    let result = serve(&mut instance, request, send_head).await;
    instance.exit(result, control)
}

/// Gives a request to an instance that has served some already, or will serve some more.
async fn call_in_turn(
    shared: &Arc<Shared>,
    control: &Control,
    mut place: Place,
    total: u32,
    request: Request<WasiBody>,
    send_head: oneshot::Sender<Head>,
) -> End {
    let Some(HttpEntry::P2(entry)) = &shared.prepared.0.http else {
        return End(Err(HandleError::NoResponse));
    };
    let instance = match &mut place.instance {
        Some(instance) => {
            let fuel = shared.spec.fuel_per_request.unwrap_or(u64::MAX);
            refuel(&mut instance.store, &mut instance.fuel, shared, fuel);
            instance
        }
        none => match create(shared, entry).await {
            Ok(instance) => none.insert(instance),
            Err(end) => return end,
        },
    };
    let result = serve(instance, request, send_head).await;
    let may_go_on = result.is_ok();
    let end = instance.exit(result, control);
    if may_go_on {
        instance.end_request();
        Resting::put(shared, place, total);
    }
    end
}

async fn create(shared: &Arc<Shared>, entry: &ProxyPre<HostState>) -> Result<Instance<Proxy>, End> {
    let deadline = shared.admission.deadline();
    let instance = Instance::create(shared, entry, shared.spec.fuel_per_request, deadline).await;
    instance.map_err(|none| match none {
        NoInstance::Died(exit) => End(Ok(exit)),
        NoInstance::NoRoom { .. } | NoInstance::PoolFull => End(Err(shared.admission.overloaded())),
    })
}

/// Calls the guest's handler.
async fn serve(
    instance: &mut Instance<Proxy>,
    request: Request<WasiBody>,
    send_head: oneshot::Sender<Head>,
) -> wasmtime::Result<()> {
    instance.metered = Metered::begin(request.extensions(), instance.fuel);
    let Instance { store, exports, .. } = instance;
    let hops = Hops::of(&request);
    store.data_mut().answering().begin(hops);
    let mut http = store.data_mut().http();
    let request = http.new_incoming_request(Scheme::Http, request)?;
    let out = http.new_response_outparam_from_callback(move |head: Result<_, ErrorCode>| {
        let _ = send_head.send(head.map_err(|code| format!("{code:?}")));
    })?;
    exports.wasi_http_incoming_handler().call_handle(&mut *store, request, out).await?;
    store.data_mut().answering().end(hops);
    Ok(())
}

impl Instance<Proxy> {
    /// How its request ended.
    fn exit(&self, result: wasmtime::Result<()>, control: &Control) -> End {
        let exit = match result {
            Ok(()) => Exit::Code(0),
            Err(error) => self.exit_from(&error),
        };
        // Before the store is dropped and the body ends with it. To call `exit(0)` is no failure.
        if exit != Exit::Code(0) {
            control.set_failed();
        }
        End(Ok(exit))
    }
}

/// Why there was no head, by how the guest ended.
fn no_head(shared: &Shared, end: RequestEnd) -> HandleError {
    match end {
        Ok(Exit::Code(0)) => HandleError::NoResponse,
        Ok(Exit::Killed) if shared.is_stopped() => HandleError::Guest(Exit::Killed),
        Ok(exit) => HandleError::Guest(exit),
        Err(refused) => refused,
    }
}

/// When a request's body last got on.
#[derive(Clone)]
struct Upload(Arc<(Instant, AtomicU64)>);

impl Upload {
    fn begin() -> Self {
        Upload(Arc::new((Instant::now(), AtomicU64::new(0))))
    }

    fn gets_on(&self) {
        let (begun, millis) = &*self.0;
        millis.store(u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn last(&self) -> Instant {
        self.0.0 + Duration::from_millis(self.0.1.load(Ordering::Relaxed))
    }
}

/// Makes of any request one that a guest can be given.
fn incoming<B>(mut request: Request<B>, upload: Option<Upload>) -> Result<Request<WasiBody>, HandleError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    if request.uri().authority().is_none() {
        match request.headers().get(header::HOST) {
            Some(host) if host.to_str().is_err() => {
                return Err(HandleError::RequestBody("the host header is not text".to_owned()));
            }
            Some(_) => {}
            // HTTP/1.0 knows no host; guests are told one all the same.
            None => {
                request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
            }
        }
    }
    Ok(request.map(|body| {
        if body.is_end_stream() {
            // Boxes of nothing are not allocated.
            return Empty::new().map_err(|never| match never {}).boxed_unsync();
        }
        let body = body.map_err(|error| HttpError::InternalError(Some(error.into().to_string())));
        match upload {
            None => body.boxed_unsync(),
            Some(upload) => body
                .map_frame(move |frame| {
                    upload.gets_on();
                    frame
                })
                .boxed_unsync(),
        }
    }))
}

/// Checks a guest's response, and makes of it one that can be sent on.
fn outgoing(
    shared: &Shared,
    method: &Method,
    mut response: Response<WasiBody>,
    hold: Hold,
) -> Result<Response<ResponseBody>, HandleError> {
    let status = response.status();
    if status.is_informational() {
        return Err(HandleError::InvalidResponse(format!("{status} is not a final status")));
    }
    strip_hop_by_hop(response.headers_mut());
    let length = content_length(response.headers())?;
    let bodyless =
        method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if let (Some(length @ 1..), false, true) = (length, bodyless, response.body().is_end_stream()) {
        return Err(HandleError::InvalidResponse(format!(
            "its content-length is {length}, but it has no body"
        )));
    }
    let length = if bodyless { None } else { length };
    let idle_limit = shared.spec.request_timeout;
    Ok(response.map(|body| GuestBody::new(body, hold, length, idle_limit).boxed_unsync()))
}

/// Headers that concern one connection only; the guest's is with us, and is none.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let forbidden = |name: &header::HeaderName| wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS.contains(name);
    // Guests can't set them through wasi:http; this is for the day they can.
    if headers.keys().any(|name| forbidden(name) || name == header::TRAILER || name == header::TE) {
        for name in &wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS {
            headers.remove(name);
        }
        headers.remove(header::TRAILER);
        headers.remove(header::TE);
    }
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, HandleError> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(value), rest) = (values.next(), values.next()) else { return Ok(None) };
    let digits = value.to_str().unwrap_or_default();
    if rest.is_none()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(length) = digits.parse()
    {
        return Ok(Some(length));
    }
    Err(HandleError::InvalidResponse("its content-length is not one number".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lengths: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for length in lengths {
            headers.append(header::CONTENT_LENGTH, HeaderValue::from_str(length).unwrap());
        }
        headers
    }

    #[test]
    fn a_content_length_is_one_number() {
        assert_eq!(content_length(&headers(&[])).unwrap(), None);
        assert_eq!(content_length(&headers(&["12"])).unwrap(), Some(12));
        for bad in [&["+1"][..], &["1", "1"], &[""], &["99999999999999999999"], &["1,1"]] {
            assert!(content_length(&headers(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn headers_of_the_connection_are_stripped() {
        let mut map = HeaderMap::new();
        map.insert(header::CONNECTION, HeaderValue::from_static("close"));
        map.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        map.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        strip_hop_by_hop(&mut map);
        assert_eq!(map.keys().collect::<Vec<_>>(), [header::CONTENT_TYPE]);
    }

    #[test]
    fn a_request_without_host_gets_one() {
        let request = incoming(Request::new(http_body_util::Empty::<Bytes>::new()), None).unwrap();
        assert_eq!(request.headers()[header::HOST], "localhost");
    }
}
