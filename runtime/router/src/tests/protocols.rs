//! HTTP/2: by prior knowledge, with trailers, and its bounds held against clients that write frames by hand.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::harness::*;
use super::listeners;
use crate::{BoxError, LoadBalancerAttributes, RequestBody, ResponseBody, RouterConfig};

/// A client of HTTP/2 on a connection of its own.
async fn http2(front: &Front) -> SendRequest<Full<Bytes>> {
    let io = TokioIo::new(front.connect_raw(64 * 1024));
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    let uri = format!("http://web.default.localhost{path}");
    Request::post(uri).header("te", "trailers").body(Full::from(body.to_owned())).unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn many_requests_share_a_connection() {
    let front = Front::web(&[&echo("w")]);
    let client = http2(&front).await;
    let asked = (0..50).map(|index| {
        let mut client = client.clone();
        tokio::spawn(async move {
            let response = client.send_request(post(&format!("/{index}"), "hello")).await.unwrap();
            assert_eq!(response.headers()["x-coracle-task"], "w");
            text(response).await
        })
    });
    for (index, asked) in asked.collect::<Vec<_>>().into_iter().enumerate() {
        let seen = asked.await.unwrap();
        assert!(seen.starts_with(&format!("POST /{index}\n")) && seen.ends_with("\nhello"), "{seen}");
        assert!(seen.contains("host: web.default.localhost\n"), "{seen}");
        assert!(!seen.contains("\nte: "), "{seen}");
    }
    assert!(front.metric("coracle_router_connections 1"));
}

#[tokio::test(start_paused = true)]
async fn the_same_refusals_as_in_http1() {
    let front = Front::web(&[&slot("w")]);
    let mut client = http2(&front).await;
    let mut two_hosts = post("/", "");
    two_hosts.headers_mut().insert("host", "other.default.localhost".parse().unwrap());
    let long = post(&format!("/{}", "a".repeat(17 * 1024)), "");
    for (request, status) in [(two_hosts, 400), (long, 414)] {
        assert_eq!(client.send_request(request).await.unwrap().status().as_u16(), status);
    }
    assert_eq!(text(client.send_request(post("/", "")).await.unwrap()).await, "w");
}

#[tokio::test(start_paused = true)]
async fn trailers_go_both_ways_without_what_is_not_theirs() {
    let target = slot_with("w", |request: Request<RequestBody>| async {
        let body = request.into_body().collect().await.unwrap();
        let mut trailers = body.trailers().cloned().unwrap_or_default();
        trailers.insert("x-forwarded-for", "10.0.0.1".parse().unwrap());
        trailers.insert("grpc-status", "0".parse().unwrap());
        let frames: [Result<_, BoxError>; 2] =
            [Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
        Ok(Response::new(ResponseBody::new(StreamBody::new(futures_util::stream::iter(frames)))))
    });
    let front = Front::web(&[&target]);
    let io = TokioIo::new(front.connect_raw(64 * 1024));
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let mut sent = HeaderMap::new();
    for name in ["x-sum", "authorization", "x-amzn-trace-id"] {
        sent.insert(name, "1".parse().unwrap());
    }
    let frames: [Result<Frame<Bytes>, BoxError>; 2] =
        [Ok(Frame::data("hello".into())), Ok(Frame::trailers(sent))];
    let request = post("/", "").map(|_| StreamBody::new(futures_util::stream::iter(frames)));
    let body = client.send_request(request).await.unwrap().into_body().collect().await.unwrap();
    let mut names: Vec<&str> = body.trailers().unwrap().keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["grpc-status", "x-sum"]);
    assert_eq!(body.to_bytes(), "hello");
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_streams_finish() {
    let (target, gate) = gated("w");
    let mut front = Front::web(&[&target]);
    let mut client = http2(&front).await;
    let asked = tokio::spawn(client.send_request(post("/", "")));
    eventually(|| target.in_flight() == 1).await;
    front.begin_shutdown();
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.add_permits(1);
    assert_eq!(text(asked.await.unwrap().unwrap()).await, "w");
    assert_eq!(front.drained().await.aborted, 0);
}

#[tokio::test(start_paused = true)]
async fn connections_are_closed_when_idle_and_when_old() {
    let front = Front::start(RouterConfig::default());
    let attributes = LoadBalancerAttributes {
        idle_timeout: Duration::from_secs(20),
        client_keep_alive: Duration::from_secs(100),
        ..Default::default()
    };
    let mut listener = listeners::listener(vec![], listeners::forward(&[("g", 1)]));
    listener.load_balancer.attributes = attributes;
    front.router.publish(listeners::table(listener, vec![listeners::group("g", &[&slot("t")])]));
    let connect = front.listen("listener");

    let started = Instant::now();
    let mut client = connect();
    assert_eq!(client.get().await.body, "t");
    assert_eq!(client.rest().await, "");
    assert!((20..23).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());

    let started = Instant::now();
    let mut client = connect();
    loop {
        client.send(GET_WEB).await;
        let reply = client.reply().await;
        assert_eq!(reply.body, "t");
        if reply.header("connection") == "close" {
            break;
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        if started.elapsed() > Duration::from_secs(102) {
            break;
        }
    }
    assert_eq!(client.rest().await, "");
    assert!((100..112).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

/// A client that writes frames by hand.
struct Raw(DuplexStream);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

impl Raw {
    async fn open(front: &Front) -> Self {
        let mut raw = Self(front.connect_raw(1024 * 1024));
        raw.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        raw.send(SETTINGS, 0, 0, &[]).await;
        raw
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = len[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.0.write_all(&frame).await.is_ok()
    }

    /// The next frame that is about a stream, or that says goodbye: kind, stream, payload.
    async fn next(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; len as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            if head[3] == PING && head[4] == 0 {
                self.send(PING, ACK, 0, &payload).await;
            }
            let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
            if stream > 0 || head[3] == GOAWAY {
                return Some((head[3], stream, payload));
            }
        }
    }
}

/// Header fields as literals, without compression.
fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "web.default.localhost")];

#[tokio::test(start_paused = true)]
async fn what_would_be_another_message_in_http1_is_no_message_in_http2() {
    let target = echo("w");
    let front = Front::web(&[&target]);
    let asked = |path: &'static str| [(":method", "POST"), GET[1], (":path", path), GET[3]];
    for extra in [
        ("x-a", "1\r\nx-b: 2"),
        ("x-a", "1\nGET /smuggled HTTP/1.1"),
        ("x-a\r\ntransfer-encoding", "chunked"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("Upper", "1"),
        ("x a", "1"),
        (":path", "/other"),
        ("content-length", "3"),
    ] {
        let mut raw = Raw::open(&front).await;
        let mut block = asked("/").to_vec();
        block.push(extra);
        raw.send(HEADERS, END_HEADERS, 1, &fields(&block)).await;
        raw.send(DATA, END_STREAM, 1, b"hello").await;
        let (kind, ..) = raw.next().await.unwrap();
        assert!([RST_STREAM, GOAWAY].contains(&kind), "{extra:?} was answered by a frame of kind {kind}");
    }
    for path in ["/a b", "/\r\nx: y", "no-slash", ""] {
        let mut raw = Raw::open(&front).await;
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[GET[0], GET[1], (":path", path), GET[3]]))
            .await;
        let (kind, _, payload) = raw.next().await.unwrap();
        // An answer begins with its status: 400 is the twelfth entry of the static table.
        let is_refused = [RST_STREAM, GOAWAY].contains(&kind) || (kind == HEADERS && payload[0] == 0x8c);
        assert!(is_refused, "{path:?} was answered by a frame of kind {kind}: {payload:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_opened_to_be_reset_end_the_connection() {
    let (target, _gate) = gated("w");
    let front = Front::web(&[&target]);
    let mut raw = Raw::open(&front).await;
    let mut stream = 1;
    for _ in 0..5000 {
        let opened = raw.send(HEADERS, END_HEADERS | END_STREAM, stream, &fields(&GET)).await;
        if !opened || !raw.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes()).await {
            break;
        }
        stream += 2;
    }
    loop {
        match raw.next().await {
            Some((GOAWAY, ..)) | None => break,
            Some(_) => {}
        }
    }
    eventually(|| target.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_and_heads_are_bounded() {
    let (target, gate) = gated("w");
    let front = Front::start(RouterConfig { max_streams: 10, ..RouterConfig::default() });
    front.publish_web(&[&target]);
    let mut raw = Raw::open(&front).await;
    for stream in 0..11 {
        raw.send(HEADERS, END_HEADERS | END_STREAM, 2 * stream + 1, &fields(&GET)).await;
    }
    let (kind, stream, _) = raw.next().await.unwrap();
    assert_eq!((kind, stream), (RST_STREAM, 21), "the eleventh is refused");
    assert_eq!(target.in_flight(), 10);
    gate.add_permits(10);

    let mut raw = Raw::open(&front).await;
    let mut block = GET.to_vec();
    let big = "a".repeat(120);
    block.extend((0..1000).map(|_| ("x-big", big.as_str())));
    let block = fields(&block);
    let mut chunks = block.chunks(16 * 1024).peekable();
    let mut kind = HEADERS;
    while let Some(chunk) = chunks.next() {
        let flags = if chunks.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { flags | END_STREAM } else { flags };
        if !raw.send(kind, flags, 1, chunk).await {
            break;
        }
        kind = 9;
    }
    let answered = raw.next().await;
    let is_refused = match &answered {
        None => true,
        Some((kind, ..)) if [GOAWAY, RST_STREAM].contains(kind) => true,
        // 431, spelled out: it is not in the static table.
        Some((HEADERS, _, payload)) => {
            payload.windows(3).any(|window| window == b"431") || payload.len() < 16
        }
        Some(_) => false,
    };
    assert!(is_refused, "{answered:?}");
    eventually(|| target.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_bytes_of_any_stream_is_closed() {
    let target = slot_with("w", |_| async {
        let frame = || Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])));
        let endless = futures_util::stream::repeat_with(frame);
        Ok(Response::new(ResponseBody::new(StreamBody::new(endless))))
    });
    let front = Front::web(&[&target]);
    let mut raw = Raw::open(&front).await;
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&GET)).await;
    eventually(|| target.in_flight() == 1).await;
    let started = Instant::now();
    // Without an update of the window nothing moves after its first 64 KiB. Pings are answered, which is
    // no progress.
    while raw.next().await.is_some() {}
    assert!((59..63).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    eventually(|| target.in_flight() == 0).await;
}

const PRIORITY: u8 = 2;
const PUSH_PROMISE: u8 = 5;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 8;

/// What no client may do, and that nothing comes of it but the end of the stream or of the connection, or a refusal. The
/// numbers are those of RFC 9113, and so are the codes; of some violations hyper tells no more than that there was one.
#[tokio::test(start_paused = true)]
async fn violations_end_their_stream_or_connection() {
    const PROTOCOL_ERROR: u32 = 1;
    const FLOW_CONTROL_ERROR: u32 = 3;
    const STREAM_CLOSED: u32 = 5;
    const FRAME_SIZE_ERROR: u32 = 6;
    const COMPRESSION_ERROR: u32 = 9;
    const WHOLE: u8 = END_HEADERS | END_STREAM;
    let get = fields(&GET);
    let setting = |id: u8, value: u32| [&[0, id][..], &value.to_be_bytes()].concat();
    let largest = 0x7fff_ffff_u32.to_be_bytes().to_vec();
    type Frames = Vec<(u8, u8, u32, Vec<u8>)>;
    let cases: Vec<(&str, u32, Frames)> = vec![
        ("4.2: a frame that is too long", FRAME_SIZE_ERROR, vec![(DATA, 0, 1, vec![0; 16 * 1024 + 1])]),
        ("4.3: an index that does not exist", COMPRESSION_ERROR, vec![(HEADERS, WHOLE, 1, vec![0x80])]),
        ("4.3: a name that is cut off", COMPRESSION_ERROR, vec![(HEADERS, WHOLE, 1, vec![0, 10, b'a'])]),
        ("5.1: data of an idle stream", PROTOCOL_ERROR, vec![(DATA, END_STREAM, 1, b"x".to_vec())]),
        ("5.1: a reset of an idle stream", PROTOCOL_ERROR, vec![(RST_STREAM, 0, 1, vec![0; 4])]),
        ("5.1: a window of an idle stream", PROTOCOL_ERROR, vec![(WINDOW_UPDATE, 0, 1, vec![0, 0, 0, 1])]),
        (
            "5.1: data after the end",
            STREAM_CLOSED,
            vec![(HEADERS, WHOLE, 1, get.clone()), (DATA, END_STREAM, 1, b"x".to_vec())],
        ),
        ("5.1.1: an even number", PROTOCOL_ERROR, vec![(HEADERS, WHOLE, 2, get.clone())]),
        (
            "5.1.1: a smaller number than before",
            PROTOCOL_ERROR,
            vec![(HEADERS, WHOLE, 5, get.clone()), (HEADERS, WHOLE, 3, get.clone())],
        ),
        ("6.1: data of no stream", PROTOCOL_ERROR, vec![(DATA, 0, 0, b"x".to_vec())]),
        (
            "6.1: more padding than there is",
            PROTOCOL_ERROR,
            vec![(HEADERS, END_HEADERS, 1, get.clone()), (DATA, PADDED | END_STREAM, 1, vec![9, 0])],
        ),
        ("6.2: a request on no stream", PROTOCOL_ERROR, vec![(HEADERS, WHOLE, 0, get.clone())]),
        (
            "6.2: something between the parts of a head",
            PROTOCOL_ERROR,
            vec![(HEADERS, END_STREAM, 1, get.clone()), (PING, 0, 0, vec![0; 8])],
        ),
        ("6.3: a priority of no stream", PROTOCOL_ERROR, vec![(PRIORITY, 0, 0, vec![0; 5])]),
        ("6.4: a reset of no stream", PROTOCOL_ERROR, vec![(RST_STREAM, 0, 0, vec![0; 4])]),
        ("6.5: settings of a stream", PROTOCOL_ERROR, vec![(SETTINGS, 0, 1, vec![])]),
        ("6.5: settings of five bytes", FRAME_SIZE_ERROR, vec![(SETTINGS, 0, 0, vec![0; 5])]),
        ("6.5: settings in an answer to some", FRAME_SIZE_ERROR, vec![(SETTINGS, ACK, 0, setting(3, 1))]),
        ("6.5.2: neither to push nor not to", PROTOCOL_ERROR, vec![(SETTINGS, 0, 0, setting(2, 2))]),
        ("6.5.2: a huge window", FLOW_CONTROL_ERROR, vec![(SETTINGS, 0, 0, setting(4, 1 << 31))]),
        ("6.5.2: tiny frames", PROTOCOL_ERROR, vec![(SETTINGS, 0, 0, setting(5, 100))]),
        ("6.6: a promise", PROTOCOL_ERROR, vec![(PUSH_PROMISE, END_HEADERS, 1, vec![0, 0, 0, 2])]),
        ("6.7: a ping of a stream", PROTOCOL_ERROR, vec![(PING, 0, 1, vec![0; 8])]),
        ("6.7: a ping of seven bytes", FRAME_SIZE_ERROR, vec![(PING, 0, 0, vec![0; 7])]),
        ("6.8: a goodbye of a stream", PROTOCOL_ERROR, vec![(GOAWAY, 0, 1, vec![0; 8])]),
        ("6.9: no more window", PROTOCOL_ERROR, vec![(WINDOW_UPDATE, 0, 0, vec![0; 4])]),
        ("6.9: a window of three bytes", FRAME_SIZE_ERROR, vec![(WINDOW_UPDATE, 0, 0, vec![0; 3])]),
        ("6.9.1: too much of a window", FLOW_CONTROL_ERROR, vec![(WINDOW_UPDATE, 0, 0, largest)]),
        ("6.10: the rest of nothing", PROTOCOL_ERROR, vec![(CONTINUATION, END_HEADERS, 1, get.clone())]),
        ("8.3: a request without a path", PROTOCOL_ERROR, vec![(HEADERS, WHOLE, 1, fields(&GET[..2]))]),
        (
            "8.3: a pseudo-header after others",
            PROTOCOL_ERROR,
            vec![(HEADERS, WHOLE, 1, fields(&[GET[0], GET[1], GET[3], ("x-a", "1"), GET[2]]))],
        ),
        (
            "8.3: a pseudo-header nobody knows",
            PROTOCOL_ERROR,
            vec![(HEADERS, WHOLE, 1, fields(&[GET[0], GET[1], GET[2], GET[3], (":x", "1")]))],
        ),
        (
            "8.3: a pseudo-header of answers",
            PROTOCOL_ERROR,
            vec![(HEADERS, WHOLE, 1, fields(&[GET[0], GET[1], GET[2], GET[3], (":status", "200")]))],
        ),
    ];
    let front = Front::web(&[&slot("w")]);
    let mut wrong = Vec::new();
    for (what, expected, frames) in cases {
        let mut raw = Raw::open(&front).await;
        for (kind, flags, stream, payload) in frames {
            raw.send(kind, flags, stream, &payload).await;
        }
        let code = loop {
            match raw.next().await {
                Some((RST_STREAM, _, payload)) => break Some(payload),
                // The last stream that was dealt with comes first.
                Some((GOAWAY, _, payload)) => break Some(payload[4..].to_vec()),
                // 400, as it is in the static table.
                Some((HEADERS, _, payload)) if payload[0] == 0x8c => break Some(payload),
                // What was asked for before is answered.
                Some((HEADERS | DATA, ..)) => {}
                other => break other.map(|(kind, ..)| vec![kind]),
            }
        };
        let is_told = |code: &Vec<u8>| {
            let said = code.first_chunk().map(|code| u32::from_be_bytes(*code));
            code[0] == 0x8c || said.is_some_and(|said| [expected, PROTOCOL_ERROR].contains(&said))
        };
        if !code.as_ref().is_some_and(is_told) {
            wrong.push(format!("{what}: {code:?}"));
        }
        let mut other = http2(&front).await;
        assert_eq!(text(other.send_request(post("/", "")).await.unwrap()).await, "w", "{what}");
    }
    assert_eq!(wrong, [""; 0]);

    // What is not known is passed over, and so are bits and padding that mean nothing.
    let mut raw = Raw::open(&front).await;
    raw.send(0x16, 0xff, 0, b"unknown").await;
    raw.send(SETTINGS, 0, 0, &setting(0x77, 1)).await;
    raw.send(PRIORITY, 0, 9, &[0, 0, 0, 1, 16]).await;
    let padded = [&[3][..], &get, &[0; 3]].concat();
    raw.send(HEADERS, WHOLE | PADDED, 0x8000_0001, &padded).await;
    let (kind, stream, payload) = raw.next().await.unwrap();
    assert_eq!((kind, stream, payload[0]), (HEADERS, 1, 0x88), "200, as it is in the static table");
}

/// Not only our own client's idea of HTTP/2.
#[tokio::test]
async fn curl_speaks_http2_with_prior_knowledge() {
    let front = Front::web(&[&echo("w")]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?x=1", listener.local_addr().unwrap());
    tokio::spawn(front.router.clone().serve(listener, std::future::pending()));
    let asked = tokio::task::spawn_blocking(move || {
        std::process::Command::new("curl")
            .args(["--http2-prior-knowledge", "--silent", "--show-error", "--data", "hello"])
            .args([
                "--header",
                "Host: web.default.localhost",
                "--write-out",
                "\n%{http_version} %{http_code}",
                &url,
            ])
            .output()
    });
    let output = match asked.await.unwrap() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return eprintln!("SKIPPED curl_speaks_http2_with_prior_knowledge: curl is not installed");
        }
        Err(error) => panic!("{error}"),
    };
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{complained}");
    assert!(said.starts_with("POST /path?x=1\n") && said.ends_with("\n2 200"), "{said}");
}
