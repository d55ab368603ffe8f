//! Targets that are real sockets, answered by hand or by hyper's servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::target::BoxError;
use crate::tunnel::Upgrade;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn target(address: SocketAddr) -> HttpTarget {
    HttpTarget::new(HttpTargetConfig::new(address))
}

fn request(method: &str, path: &str, body: &str) -> Request<RequestBody> {
    let body = match body {
        "" => RequestBody::new(Empty::new().map_err(|never| match never {})),
        body => RequestBody::new(Full::new(body.to_owned().into()).map_err(|never| match never {})),
    };
    Request::builder().method(method).uri(path).header("host", "a.example").body(body).unwrap()
}

async fn text(response: Response<ResponseBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Reads one request's head.
async fn head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Accepts connections, and answers the requests of each in turn by the given bytes; then closes it.
fn serve_by_hand(listener: TcpListener, connections: Vec<Vec<&'static str>>) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut heads = Vec::new();
        for answers in connections {
            let (mut socket, _) = listener.accept().await.unwrap();
            for answer in answers {
                heads.push(head(&mut socket).await);
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        }
        heads
    })
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_request_after_request() {
    let (listener, address) = listen().await;
    let served = serve_by_hand(listener, vec![vec![OK, CHUNKED, "HTTP/1.1 204 No Content\r\n\r\n", OK]]);
    let target = target(address);
    for body in ["ok", "ok", "", "ok"] {
        let mut request = request("GET", "/a?b=c", "");
        request.headers_mut().insert("expect", "100-continue".parse().unwrap());
        assert_eq!(text(target.call(request).await.unwrap()).await, body);
    }
    let heads = served.await.unwrap();
    assert_eq!(heads[0], "GET /a?b=c HTTP/1.1\r\nhost: a.example\r\n\r\n");
    assert_eq!(heads.len(), 4);
}

#[tokio::test]
async fn a_connection_the_target_gave_up_costs_no_request() {
    // Each connection is closed after one response without a word.
    let (listener, address) = listen().await;
    let served = serve_by_hand(listener, vec![vec![OK], vec![OK], vec![OK]]);
    let target = target(address);
    for _ in 0..3 {
        assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    }
    assert_eq!(served.await.unwrap().len(), 3);
}

#[tokio::test]
async fn only_what_changes_nothing_is_sent_twice() {
    // The second request on a connection is read, and met by a closed connection.
    for (method, body, is_repeated) in
        [("GET", "", true), ("DELETE", "", true), ("PUT", "x", false), ("POST", "", false)]
    {
        let (listener, address) = listen().await;
        let served = serve_by_hand(listener, vec![vec![OK, ""], vec![OK]]);
        let target = target(address);
        assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
        match target.call(request(method, "/", body)).await {
            Ok(response) => {
                assert!(is_repeated, "{method}");
                assert_eq!(text(response).await, "ok");
                assert_eq!(served.await.unwrap().len(), 3);
            }
            Err(CallError::Failed { reason }) => assert!(!is_repeated, "{method} {reason}"),
            Err(error) => panic!("{method} {error:?}"),
        }
    }
}

#[tokio::test]
async fn errors_say_whether_anything_was_sent() {
    let (listener, address) = listen().await;
    drop(listener);
    match target(address).call(request("POST", "/", "body")).await {
        Err(CallError::Unreachable { request, reason, timed_out: false }) => {
            assert!(reason.contains("refused"), "{reason}");
            assert_eq!(request.into_body().collect().await.unwrap().to_bytes(), "body");
        }
        other => panic!("{:?}", other.map(|response| response.status())),
    }
    for (answer, reason) in [
        ("", "closed the connection"),
        ("HTTP/1.1 200 OK\r\nContent", "closed the connection"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "can't be read"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "can't be read"),
    ] {
        let (listener, address) = listen().await;
        let served = serve_by_hand(listener, vec![vec![answer]]);
        match target(address).call(request("GET", "/", "")).await {
            Err(CallError::Failed { reason: told }) => assert!(told.contains(reason), "{answer:?}: {told}"),
            other => panic!("{answer:?}: {:?}", other.map(|response| response.status())),
        }
        served.await.unwrap();
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_an_error_and_ends_the_connection() {
    let (listener, address) = listen().await;
    let served =
        serve_by_hand(listener, vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"], vec![OK]]);
    let target = target(address);
    let response = target.call(request("GET", "/", "")).await.unwrap();
    response.into_body().collect().await.unwrap_err();
    assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    served.await.unwrap();
}

#[tokio::test]
async fn a_response_left_in_the_middle_is_not_the_next_ones_start() {
    let (listener, address) = listen().await;
    let served = serve_by_hand(
        listener,
        vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHTTP/1.1 200 OK\r\n"], vec![OK]],
    );
    let target = target(address);
    drop(target.call(request("GET", "/", "")).await.unwrap());
    assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    served.await.unwrap();
}

#[tokio::test]
async fn connections_are_bounded() {
    let (listener, address) = listen().await;
    let target = HttpTarget::new(HttpTargetConfig { max_connections: 1, ..HttpTargetConfig::new(address) });
    let served = serve_by_hand(listener, vec![vec!["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"]]);
    let held = target.call(request("GET", "/", "")).await.unwrap();
    let refused = target.call(request("GET", "/", "")).await;
    assert!(matches!(refused, Err(CallError::Unavailable { .. })));
    drop(held);
    served.await.unwrap();
    let unanswered = target.call(request("GET", "/", "")).await;
    assert!(matches!(unanswered, Err(CallError::Unreachable { .. })), "the place is free again");
}

#[tokio::test]
async fn an_upgrade_hands_over_the_stream_with_what_came_early() {
    let (listener, address) = listen().await;
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = head(&mut socket).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: shout\r\n\r\nearly";
        socket.write_all(answer.as_bytes()).await.unwrap();
        let mut said = [0; 5];
        socket.read_exact(&mut said).await.unwrap();
        socket.write_all(said.to_ascii_uppercase().as_slice()).await.unwrap();
        head
    });
    let mut request = request("GET", "/", "");
    request.headers_mut().insert("connection", "upgrade".parse().unwrap());
    request.headers_mut().insert("upgrade", "shout".parse().unwrap());
    let response = target(address).call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut io = response.extensions().get::<Upgrade>().unwrap().take().unwrap();
    io.write_all(b"hello").await.unwrap();
    let mut heard = String::new();
    io.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, "earlyHELLO");
    assert!(served.await.unwrap().contains("upgrade: shout\r\n"));
}

#[tokio::test]
async fn what_announces_an_answer_is_passed_over_within_bounds() {
    const ANNOUNCED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (listener, address) = listen().await;
    let served = serve_by_hand(listener, vec![vec![ANNOUNCED, OK]]);
    let target = target(address);
    for _ in 0..2 {
        assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    }
    assert_eq!(served.await.unwrap().len(), 2);

    let (listener, address) = listen().await;
    let announcing = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        head(&mut socket).await;
        while socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {}
    });
    let target = HttpTarget::new(HttpTargetConfig { max_head_bytes: 1000, ..HttpTargetConfig::new(address) });
    match target.call(request("GET", "/", "")).await {
        Err(CallError::Failed { reason }) => assert!(reason.contains("too large"), "{reason}"),
        other => panic!("{:?}", other.map(|response| response.status())),
    }
    announcing.await.unwrap();
}

#[tokio::test]
async fn heads_are_bounded() {
    let (listener, address) = listen().await;
    let long = "x: 1\r\n".repeat(50);
    let heads =
        [format!("HTTP/1.1 200 OK\r\n{long}\r\n"), format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(300))];
    tokio::spawn(async move {
        for answer in heads {
            let (mut socket, _) = listener.accept().await.unwrap();
            head(&mut socket).await;
            socket.write_all(answer.as_bytes()).await.unwrap();
            let _ = socket.read_u8().await;
        }
    });
    let target = HttpTarget::new(HttpTargetConfig { max_head_bytes: 200, ..HttpTargetConfig::new(address) });
    for _ in 0..2 {
        match target.call(request("GET", "/", "")).await {
            Err(CallError::Failed { reason }) => assert!(reason.contains("too large"), "{reason}"),
            other => panic!("{:?}", other.map(|response| response.status())),
        }
    }
}

#[tokio::test]
async fn a_body_may_end_with_its_connection() {
    let (listener, address) = listen().await;
    let served = serve_by_hand(listener, vec![vec!["HTTP/1.1 200 OK\r\n\r\nall there is"], vec![OK]]);
    let target = target(address);
    assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "all there is");
    assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    served.await.unwrap();
}

#[tokio::test]
async fn long_bodies_come_whole_and_leave_the_connection_for_the_next_request() {
    const LEN: usize = 3_000_000;
    let (listener, address) = listen().await;
    let content: String = (0..LEN).map(|at| char::from(b'a' + u8::try_from(at % 23).unwrap())).collect();
    let sent = content.clone();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            head(&mut socket).await;
            let mut received = vec![0; LEN];
            socket.read_exact(&mut received).await.unwrap();
            assert!(received == sent.as_bytes());
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            socket.write_all(&received).await.unwrap();
        }
    });
    let target = target(address);
    let pieces: Vec<Result<_, BoxError>> = content
        .as_bytes()
        .chunks(100_000)
        .map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece))))
        .collect();
    let mut in_pieces = request("PUT", "/", "")
        .map(|_| RequestBody::new(StreamBody::new(futures_util::stream::iter(pieces))));
    in_pieces.headers_mut().insert("content-length", LEN.into());
    for request in [in_pieces, request("PUT", "/", &content)] {
        let answered = text(target.call(request).await.unwrap()).await;
        assert!(answered == content, "{} bytes", answered.len());
    }
}

#[tokio::test]
async fn an_answer_may_come_before_all_of_the_request_was_sent() {
    let (listener, address) = listen().await;
    let served = serve_by_hand(listener, vec![vec![OK], vec![OK]]);
    let target = target(address);
    let endless = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>());
    let unsent = request("POST", "/", "").map(|_| RequestBody::new(endless));
    assert_eq!(text(target.call(unsent).await.unwrap()).await, "ok");
    // The rest of it would be read as the next request.
    assert_eq!(text(target.call(request("GET", "/", "")).await.unwrap()).await, "ok");
    assert_eq!(served.await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_body_of_unknown_length_goes_in_chunks_with_its_trailers() {
    let (listener, address) = listen().await;
    let served = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut seen = head(&mut socket).await;
        seen.push_str(&head(&mut socket).await);
        socket.write_all(OK.as_bytes()).await.unwrap();
        seen
    });
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    let frames =
        [Ok(Frame::data("hello".into())), Ok(Frame::data(Bytes::new())), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter::<[Result<_, BoxError>; 3]>(frames));
    let request = request("POST", "/", "").map(|_| RequestBody::new(body));
    assert_eq!(text(target(address).call(request).await.unwrap()).await, "ok");
    let seen = served.await.unwrap();
    assert!(
        seen.ends_with("transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_request_whose_body_breaks_off_is_never_ended() {
    for broken in [Err("gone".into()), Ok(Frame::data("too long".into()))] {
        let (listener, address) = listen().await;
        let served = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut seen = String::new();
            socket.read_to_string(&mut seen).await.unwrap();
            seen
        });
        let frames = [Ok(Frame::data("hello".into())), broken];
        let body = StreamBody::new(futures_util::stream::iter::<[Result<_, BoxError>; 2]>(frames));
        let mut request = request("POST", "/", "").map(|_| RequestBody::new(body));
        request.headers_mut().insert("content-length", "7".parse().unwrap());
        let answered = target(address).call(request).await;
        assert!(matches!(answered, Err(CallError::BadRequest { .. })));
        let seen = served.await.unwrap();
        assert!(seen.is_empty() || seen.ends_with("content-length: 7\r\n\r\nhello"), "{seen}");
    }
}

/// Serves HTTP/2: answers the path, then the request's body, then its trailers and one of its own.
async fn serve_http2(
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    tls: Option<tokio_rustls::TlsAcceptor>,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        accepted.fetch_add(1, Ordering::Relaxed);
        let tls = tls.clone();
        let service = service_fn(|request: Request<hyper::body::Incoming>| async {
            let (head, body) = request.into_parts();
            let body = body.collect().await?;
            let mut trailers = body.trailers().cloned().unwrap_or_default();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let said = format!("{} {}", head.uri, String::from_utf8_lossy(&body.to_bytes()));
            let frames = [Ok(Frame::data(said.into())), Ok(Frame::trailers(trailers))];
            let stream = futures_util::stream::iter::<[Result<Frame<Bytes>, BoxError>; 2]>(frames);
            Ok::<_, hyper::Error>(Response::new(StreamBody::new(stream)))
        });
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(async move {
            match tls {
                Some(tls) => {
                    let socket = tls.accept(socket).await.unwrap();
                    assert_eq!(socket.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                    server.serve_connection(TokioIo::new(socket), service).await
                }
                None => server.serve_connection(TokioIo::new(socket), service).await,
            }
        });
    }
}

#[tokio::test]
async fn http2_carries_requests_and_trailers_over_one_connection() {
    let (listener, address) = listen().await;
    let accepted = Arc::new(AtomicUsize::new(0));
    tokio::spawn(serve_http2(listener, Arc::clone(&accepted), None));
    let config = HttpTargetConfig { protocol: TargetProtocol::Http2, ..HttpTargetConfig::new(address) };
    let target = Arc::new(HttpTarget::new(config));
    let calls = (0..50).map(|_| {
        let target = Arc::clone(&target);
        tokio::spawn(async move {
            let mut sent = HeaderMap::new();
            sent.insert("x-sum", "1".parse().unwrap());
            let frames = [Ok(Frame::data("hello".into())), Ok(Frame::trailers(sent))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let request = request("POST", "/x", "").map(|_| RequestBody::new(body));
            let answer = target.call(request).await.unwrap().into_body().collect().await.unwrap();
            let trailers = answer.trailers().cloned().unwrap();
            assert_eq!(
                (&trailers["grpc-status"], &trailers["x-sum"]),
                (&"0".parse().unwrap(), &"1".parse().unwrap())
            );
            assert_eq!(answer.to_bytes(), "http://a.example/x hello");
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_target_with_tls_may_have_any_certificate() {
    let made = rcgen::generate_simple_self_signed(vec!["somewhere.else".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, address) = listen().await;
    tokio::spawn(serve_http2(listener, Arc::default(), Some(Arc::new(server).into())));
    let config =
        HttpTargetConfig { protocol: TargetProtocol::Http2, tls: true, ..HttpTargetConfig::new(address) };
    let answer = HttpTarget::new(config).call(request("GET", "/x", "")).await.unwrap();
    assert_eq!(text(answer).await, "https://a.example/x ");
}
