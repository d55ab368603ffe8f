//! `wasi:http/incoming-handler`.

use crate::{Lines, eventually, get, http_guest, text};
use bytes::Bytes;
use coracle_sandbox::{
    BodyError, Container, ContainerSpec, EgressPolicy, Exit, HandleError, InProcess, Network, NetworkSpec,
    StdStream, TrapKind, Upstream, UpstreamBody,
};
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use std::convert::Infallible;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_meets_a_fresh_instance() {
    let container = http_guest(ContainerSpec::default());
    for _ in 0..3 {
        let response = get(&container, "/counter").await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(text(response).await.contains('1'));
    }
    eventually("all are gone", || container.in_flight() == 0).await;
    let stats = container.stats();
    assert_eq!((stats.instances_started, stats.instances_live, stats.traps), (3, 0, 0));
    assert!(stats.fuel_used > 0 && stats.cpu_time > Duration::ZERO && stats.memory_peak > 0);
    assert_eq!(stats.memory_current, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_authority_is_served() {
    let container = http_guest(ContainerSpec::default());
    let response =
        container.handle(Request::get("/hello").body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_streamed_both_ways() {
    let container = http_guest(ContainerSpec::default());
    let (send, receive) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, Infallible>>(1);
    let body = StreamBody::new(futures_util::stream::unfold(receive, |mut receive| async {
        receive.recv().await.map(|frame| (frame, receive))
    }));
    let request = Request::post("/echo").header("host", "x").body(body).unwrap();
    let call = tokio::spawn({
        let container = container.clone();
        async move { container.handle(request).await }
    });
    send.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    let mut response = call.await.unwrap().unwrap();
    // The first chunk comes back before the second is sent: nothing waits for the whole.
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first");
    send.send(Ok(Frame::data(Bytes::from_static(b"second")))).await.unwrap();
    drop(send);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "second");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass() {
    let container = http_guest(ContainerSpec::default());
    let sent = Bytes::from(vec![7_u8; 8 << 20]);
    let request = Request::post("/echo").header("host", "x").body(Full::new(sent.clone())).unwrap();
    let response = container.handle(request).await.unwrap();
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    let response = get(&container, "/big?mib=16").await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 16 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_need_not_read_its_request() {
    let container = http_guest(ContainerSpec::default());
    let body = Full::new(Bytes::from(vec![0; 1 << 20]));
    let request = Request::post("/ignore-body").header("host", "x").body(body).unwrap();
    assert_eq!(container.handle(request).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_hurt_one_request_and_name_their_function() {
    let container = http_guest(ContainerSpec::default());
    let Err(HandleError::Guest(Exit::Trap(trap))) = get(&container, "/trap/unreachable").await else {
        panic!("no trap");
    };
    assert_eq!(trap.kind, TrapKind::Unreachable);
    assert!(trap.function.as_ref().is_some_and(|name| name.contains("trap_unreachable")), "{trap:?}");
    for (path, kind) in [
        ("/trap", TrapKind::Unreachable),
        ("/trap/stack", TrapKind::StackOverflow),
        ("/trap/divide", TrapKind::IntegerDivisionByZero),
        ("/trap/memory", TrapKind::MemoryOutOfBounds),
    ] {
        match get(&container, path).await {
            Err(HandleError::Guest(Exit::Trap(trap))) => assert_eq!(trap.kind, kind, "{path}: {trap}"),
            other => panic!("{path}: {:?}", other.map(|response| response.status())),
        }
    }
    assert_eq!(container.stats().traps, 5);
    assert!(get(&container, "/hello").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_responses_are_told_apart() {
    let container = http_guest(ContainerSpec::default());
    assert!(matches!(get(&container, "/no-response").await, Err(HandleError::NoResponse)));
    assert!(matches!(get(&container, "/error").await, Err(HandleError::InvalidResponse(_))));
    assert!(matches!(get(&container, "/exit?code=3").await, Err(HandleError::Guest(Exit::Code(3)))));
    let response = get(&container, "/broken-headers").await.unwrap();
    for name in ["connection", "transfer-encoding", "upgrade", "keep-alive"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_response_is_an_error_not_an_end() {
    let container = http_guest(ContainerSpec::default());
    let response = get(&container, "/late").await.unwrap();
    assert!(matches!(response.into_body().collect().await, Err(BodyError::Guest(_))));
    let response = get(&container, "/broken-length?declared=100&sent=10").await;
    if let Ok(response) = response {
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_end_in_a_dropped_store() {
    let after = Duration::from_millis(50);
    let container = http_guest(ContainerSpec { request_timeout: after, ..ContainerSpec::default() });
    for path in ["/spin", "/slow?ms=3600000", "/no-response/spin"] {
        match get(&container, path).await {
            Err(error) => assert_eq!(error, HandleError::TimedOut { after }, "{path}"),
            Ok(_) => panic!("{path} answered"),
        }
    }
    eventually("all are gone", || container.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upload_may_take_longer_than_an_answer() {
    let after = Duration::from_secs(1);
    let container = http_guest(ContainerSpec { request_timeout: after, ..ContainerSpec::default() });
    // Fifteen parts, a tenth of a second apart: longer than the limit in all, never idle for as long.
    let parts = futures_util::stream::unfold(0, |sent| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (sent < 15).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"part"))), sent + 1))
    });
    let request = Request::post("/count").header("host", "x").body(StreamBody::new(parts)).unwrap();
    let response = container.handle(request).await.map_err(|error| error.to_string()).unwrap();
    assert_eq!(text(response).await.trim(), "60");

    // One that stops getting on is given up.
    let stalled = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
    let request = Request::post("/count").header("host", "x").body(StreamBody::new(stalled)).unwrap();
    match container.handle(request).await {
        Err(error) => assert_eq!(error, HandleError::TimedOut { after }),
        Ok(response) => panic!("{}", response.status()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_body_times_out() {
    let after = Duration::from_millis(100);
    let container = http_guest(ContainerSpec { request_timeout: after, ..ContainerSpec::default() });
    let response = get(&container, "/drip?chunks=2&ms=3600000").await;
    let error = match response {
        // Depending on when the guest sends its head.
        Err(error) => return assert_eq!(error, HandleError::TimedOut { after }),
        Ok(response) => response.into_body().collect().await.unwrap_err(),
    };
    assert_eq!(error, BodyError::TimedOut { after });
    eventually("it is gone", || container.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_the_guest_along() {
    let container = http_guest(ContainerSpec::default());
    // Before the head …
    let call = tokio::spawn({
        let container = container.clone();
        async move { get(&container, "/spin").await.is_ok() }
    });
    eventually("it runs", || container.stats().instances_live == 1).await;
    call.abort();
    eventually("it is gone", || container.stats().instances_live == 0).await;
    // … and in the middle of the body.
    let mut response = get(&container, "/big?mib=1000").await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    drop(response);
    eventually("it is gone", || container.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_ends_requests_and_refuses_later_ones() {
    let container = http_guest(ContainerSpec::default());
    let call = tokio::spawn({
        let container = container.clone();
        async move { get(&container, "/spin").await.map(|_| ()) }
    });
    eventually("it runs", || container.stats().instances_live == 1).await;
    container.kill();
    assert_eq!(call.await.unwrap(), Err(HandleError::Guest(Exit::Killed)));
    assert!(matches!(get(&container, "/hello").await, Err(HandleError::Stopping)));
}

#[tokio::test(flavor = "multi_thread")]
async fn output_of_requests_arrives_line_by_line() {
    let lines = Lines::default();
    let container = http_guest(ContainerSpec { output: Arc::new(lines.clone()), ..ContainerSpec::default() });
    text(get(&container, "/log?n=100").await.unwrap()).await;
    eventually("the instance is gone", || container.in_flight() == 0).await;
    assert_eq!(lines.of(StdStream::Stdout).len(), 100);
    assert_eq!(lines.of(StdStream::Stderr).len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn outgoing_requests_need_a_grant() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        while let Ok((mut stream, _)) = server.accept().await {
            let mut head = [0; 1024];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhowdy").await;
        }
    });
    let path = format!("/fetch?url=http://127.0.0.1:{port}/");
    let closed = http_guest(ContainerSpec::default());
    let response = get(&closed, &path).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    let reason = text(response).await;
    assert!(reason.to_lowercase().contains("denied"), "{reason}");

    let network = Network::to([format!("127.0.0.1:{port}").as_str()]).unwrap();
    let open = http_guest(ContainerSpec { network, ..ContainerSpec::default() });
    let response = get(&open, &path).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.contains("howdy"));
}

/// Has every request to `self.internal` answered by a container that may send some.
#[derive(Clone, Default)]
struct ItSelf(Arc<OnceLock<Container>>);

impl InProcess for ItSelf {
    fn find(&self, host: &str, _port: u16) -> Option<Arc<dyn Upstream>> {
        (host == "self.internal").then(|| Arc::new(self.clone()) as _)
    }
}

impl Upstream for ItSelf {
    fn call(
        &self,
        request: Request<UpstreamBody>,
    ) -> BoxFuture<'static, Result<Response<UpstreamBody>, String>> {
        let container = self.0.get().unwrap().clone();
        Box::pin(async move {
            let response = container.handle(request).await.map_err(|error| error.to_string())?;
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}

/// The path by which a guest has itself fetch `path`, `times` times over.
fn fetch_itself(times: usize, path: &str) -> String {
    (0..times).fold(path.to_owned(), |path, _| format!("/fetch?url=http://self.internal{path}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_calls_itself_comes_to_an_end() {
    // In instances of their own, and in those that serve one request after the other.
    for instance_reuse in [None, Some(8)] {
        let itself = ItSelf::default();
        let network = Network::new(NetworkSpec {
            egress: EgressPolicy::parse("*.internal").unwrap(),
            in_process: Some(Arc::new(itself.clone())),
            ..NetworkSpec::default()
        });
        let spec = ContainerSpec { network, instance_reuse, ..ContainerSpec::default() };
        let container = itself.0.get_or_init(|| http_guest(spec));
        for (times, end) in [(1, "hello"), (16, "hello"), (17, "508\n"), (20, "508\n")] {
            let response = get(container, &fetch_itself(times, "/hello")).await.unwrap();
            let said = text(response).await;
            assert!(said.contains(end), "{times}: {said}");
            assert_eq!(said.contains("come through 16 services"), end == "508\n", "{times}: {said}");
        }
        // The count goes with the request, not with the instance.
        let said = text(get(container, &fetch_itself(16, "/hello")).await.unwrap()).await;
        assert!(said.contains("hello"), "{said}");
    }
}

/// Output whose host side is broken.
struct Panics;

impl coracle_sandbox::Output for Panics {
    fn open(&self, _stream: StdStream) -> Box<dyn coracle_sandbox::OutputSink> {
        panic!("no room for a log")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_panic_hurts_one_request() {
    let container = http_guest(ContainerSpec { output: Arc::new(Panics), ..ContainerSpec::default() });
    match get(&container, "/log?n=1").await {
        Err(HandleError::Guest(Exit::Trap(trap))) => {
            assert!(trap.message.contains("no room for a log"), "{trap}");
        }
        Err(error) => panic!("{error}"),
        // The guest may answer before it logs; then its body breaks off or is complete.
        Ok(response) => drop(response.into_body().collect().await),
    }
    assert!(get(&container, "/hello").await.is_ok());
    eventually("all are gone", || container.in_flight() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn head_requests_and_exits_after_the_response_are_no_failures() {
    let container = http_guest(ContainerSpec::default());
    let request = Request::head("/hello").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(container.handle(request).await.unwrap().status(), StatusCode::OK);
    eventually("it is gone", || container.in_flight() == 0).await;
    assert_eq!(container.stats().traps, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_given_up_is_an_error() {
    let container = http_guest(ContainerSpec::default());
    let response = get(&container, "/unfinished").await.unwrap();
    assert!(matches!(
        response.into_body().collect().await,
        Err(BodyError::Guest(_) | BodyError::WrongLength)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn header_floods_are_bounded() {
    let container = http_guest(ContainerSpec::default());
    let response = get(&container, "/many-headers?n=100&bytes=100").await.unwrap();
    assert!(response.headers().len() >= 100);
    // A hundred megabytes of headers.
    assert!(matches!(get(&container, "/many-headers?n=100000&bytes=1000").await, Err(HandleError::Guest(_))));
    assert!(get(&container, "/hello").await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_makes_the_host_keep_is_short() {
    let container = http_guest(ContainerSpec::default());
    let accepted = text(get(&container, "/long-names").await.unwrap()).await;
    assert_eq!(accepted, "method 1000\nauthority 1000\npath 1000\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn log_floods_end_with_their_time() {
    let after = Duration::from_millis(100);
    let container = http_guest(ContainerSpec { request_timeout: after, ..ContainerSpec::default() });
    match get(&container, "/flood").await {
        Err(error) => assert_eq!(error, HandleError::TimedOut { after }),
        Ok(_) => panic!("a flood that answers"),
    }
    eventually("it is gone", || container.stats().instances_live == 0).await;
}
