//! Connections that leave HTTP for WebSocket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::harness::*;
use crate::{HttpTarget, HttpTargetConfig, RequestBody, Slot, Target, Upgrade};

/// A target that agrees to leave HTTP, and gives the test its end of the stream.
struct Switches(mpsc::UnboundedSender<(Vec<String>, DuplexStream)>);

impl Target for Switches {
    fn call(&self, request: Request<RequestBody>) -> BoxFuture<'static, Answered> {
        let (ours, theirs) = tokio::io::duplex(1024);
        let seen = |name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        let _ = self.0.send((vec![seen("connection"), seen("upgrade"), seen("sec-websocket-key")], ours));
        Box::pin(async {
            let mut response = Response::new(empty());
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert("sec-websocket-accept", "yes".parse().unwrap());
            response.extensions_mut().insert(Upgrade::new(theirs));
            Ok(response)
        })
    }

    fn accepts_upgrades(&self) -> bool {
        true
    }
}

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: web.default.localhost\r\nConnection: keep-alive, Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn bytes_pass_both_ways_until_a_side_ends() {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)));
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    // The first frame may come right behind the request.
    client.send(format!("{UPGRADE}early")).await;
    let (status, headers) = client.head().await;
    assert_eq!(
        (status, headers["upgrade"].as_str(), headers["sec-websocket-accept"].as_str()),
        (101, "websocket", "yes")
    );
    let (seen, mut io) = switched.recv().await.unwrap();
    assert_eq!(seen, ["upgrade", "websocket", "k"]);
    let mut heard = [0; 5];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"early");
    io.write_all(b"hello\n").await.unwrap();
    assert_eq!(client.until("\n").await, "hello\n");
    client.send("bye").await;
    let mut heard = [0; 3];
    io.read_exact(&mut heard).await.unwrap();
    assert_eq!((&heard, target.in_flight()), (b"bye", 1));
    drop(io);
    assert_eq!(client.rest().await, "");
    drop(client);
    eventually(|| target.in_flight() == 0).await;
    assert!(front.metric(r#"coracle_router_requests_total{cluster="default",code="101",service="web"} 1"#));
    eventually(|| front.metric("coracle_router_connections 0")).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_tunnel_is_closed_and_a_busy_one_is_not() {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)));
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(UPGRADE).await;
    client.head().await;
    let (_, mut io) = switched.recv().await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        io.write_all(b"tick\n").await.unwrap();
        client.until("\n").await;
    }
    let started = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!((59..63).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    assert_eq!(target.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_stops_waits_for_tunnels_only_so_long() {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)));
    let mut front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(UPGRADE).await;
    client.head().await;
    let _io = switched.recv().await.unwrap();
    front.begin_shutdown();
    assert_eq!(client.rest().await, "");
    assert_eq!(front.drained().await.aborted, 1);
    assert_eq!(target.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn targets_that_speak_http_only_are_not_asked() {
    let front = Front::web(&[&echo("w")]);
    front.ask(UPGRADE).await.expect(501, "upgrade_not_supported");
    front.ask(&UPGRADE.replace("websocket", "smtp")).await.expect(501, "upgrade_not_supported");
    front.ask(&UPGRADE.replace("GET", "POST")).await.expect(501, "upgrade_not_supported");
    // Without `Connection` naming it, it was for somebody else.
    let reply = front.ask(&UPGRADE.replace("keep-alive, Upgrade", "keep-alive")).await;
    assert!(reply.status == 200 && !reply.body.contains("upgrade"), "{reply:?}");
}

/// A target that answers 101 without having been asked has its response refused.
#[tokio::test(start_paused = true)]
async fn nobody_switches_unasked() {
    let (sender, _switched) = mpsc::unbounded_channel();
    let front = Front::web(&[&Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)))]);
    front.ask(GET_WEB).await.expect(502, "bad_response");
}

#[tokio::test]
async fn a_target_at_an_address_is_switched_to() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = HttpTargetConfig::new(listener.local_addr().unwrap());
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(HttpTarget::new(config)));
    let front = Front::web(&[&target]);
    let answered = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut server = Client::new(socket);
        let head = server.until("\r\n\r\n").await;
        server
            .send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi\n")
            .await;
        let said = server.until("\n").await;
        (head, said)
    });
    let mut client = front.connect();
    client.send(UPGRADE).await;
    assert_eq!(client.head().await.0, 101);
    assert_eq!(client.until("\n").await, "hi\n");
    client.send("there\n").await;
    let (head, said) = answered.await.unwrap();
    assert!(head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"), "{head}");
    assert_eq!(said, "there\n");
}

const URI: &str = "http://web.default.localhost/chat";

/// A client of HTTP/2 that knows what the server can do: it has had an answer.
async fn http2(
    front: &Front,
    switched: &mut mpsc::UnboundedReceiver<(Vec<String>, DuplexStream)>,
) -> SendRequest<Empty<Bytes>> {
    let io = TokioIo::new(front.connect_raw(64 * 1024));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(client.send_request(unasked()).await.unwrap().status(), 502);
    switched.recv().await.unwrap();
    client
}

/// A request in whose answer the target switches unasked.
fn unasked() -> Request<Empty<Bytes>> {
    Request::get(URI).body(Empty::new()).unwrap()
}

fn extended_connect() -> Request<Empty<Bytes>> {
    let mut connect = Request::connect(URI).body(Empty::new()).unwrap();
    connect.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    connect
}

/// RFC 8441: an extended CONNECT over HTTP/2 is for targets what an upgrade of HTTP/1.1 is.
#[tokio::test(start_paused = true)]
async fn over_http2_it_is_one_stream_of_a_connection_that_goes_on() {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)));
    let front = Front::web(&[&target]);
    let mut client = http2(&front, &mut switched).await;
    let response = client.send_request(extended_connect()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    for name in ["sec-websocket-accept", "upgrade", "connection"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    let mut client_io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (seen, mut io) = switched.recv().await.unwrap();
    assert_eq!((&seen[..2], seen[2].len()), (&["upgrade".to_owned(), "websocket".to_owned()][..], 24));
    client_io.write_all(b"hello").await.unwrap();
    let mut heard = [0; 5];
    io.read_exact(&mut heard).await.unwrap();
    io.write_all(b"there").await.unwrap();
    client_io.read_exact(&mut heard).await.unwrap();
    assert_eq!((&heard, target.in_flight()), (b"there", 1));
    assert_eq!(client.send_request(unasked()).await.unwrap().status(), 502, "the connection goes on");
    drop(io);
    assert_eq!(client_io.read(&mut heard).await.unwrap(), 0);
    drop(client_io);
    eventually(|| target.in_flight() == 0).await;
    assert!(front.metric(r#"coracle_router_requests_total{cluster="default",code="101",service="web"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_of_http2_is_closed() {
    let (sender, mut switched) = mpsc::unbounded_channel();
    let target = Slot::new("w".to_owned(), std::sync::Arc::new(Switches(sender)));
    let front = Front::web(&[&target]);
    let mut client = http2(&front, &mut switched).await;
    let response = client.send_request(extended_connect()).await.unwrap();
    let mut client_io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let (_, mut io) = switched.recv().await.unwrap();
    tokio::time::sleep(Duration::from_secs(50)).await;
    io.write_all(b"tick").await.unwrap();
    let mut heard = [0; 4];
    client_io.read_exact(&mut heard).await.unwrap();
    let started = Instant::now();
    // However it is told: the stream is over.
    assert!(matches!(client_io.read(&mut heard).await, Ok(0) | Err(_)));
    assert!((59..63).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    eventually(|| target.in_flight() == 0).await;
}
