//! Requests made to be read in two ways, sent as raw bytes: no target gets to see a second request in one,
//! and a target in process and one at an address are treated alike.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::harness::*;
use crate::{HttpTarget, HttpTargetConfig, Slot};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Refused by this status, and the connection closed: nobody knows where the next request begins.
    Refused(u16),
    /// One request with this body; the connection is closed behind it.
    Last(&'static str),
    /// One request with this body; the connection goes on.
    Passed(&'static str),
}
use Fate::{Last, Passed, Refused};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n";

/// What is sent behind the request line and `Host`, and what becomes of it. `{s}` stands for a request that
/// is to be smuggled.
const CASES: &[(&str, Fate)] = &[
    // Two lengths of one body: chunks count, and nothing behind them.
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}", Last("")),
    ("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n2\r\nhi\r\n0\r\n\r\n{s}", Last("hi")),
    ("Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello{s}", Refused(400)),
    ("Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello{s}", Refused(400)),
    ("Content-Length: 5, 5\r\n\r\nhello", Refused(400)),
    ("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Passed("hello")),
    ("Content-Length: +5\r\n\r\nhello", Refused(400)),
    ("Content-Length: -5\r\n\r\nhello", Refused(400)),
    ("Content-Length: 0x5\r\n\r\nhello", Refused(400)),
    ("Content-Length: 5a\r\n\r\nhello", Refused(400)),
    ("Content-Length: \r\n\r\nhello", Refused(400)),
    ("Content-Length: 99999999999999999999\r\n\r\nhello", Refused(400)),
    ("Content-Length : 5\r\n\r\nhello", Refused(400)),
    // Codings that are not just chunks.
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}", Refused(501)),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}", Refused(501)),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{s}", Refused(501)),
    ("Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n{s}", Refused(501)),
    ("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("Transfer-Encoding\r\n: chunked\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{s}", Refused(400)),
    ("X: y\r\n\tfolded\r\n\r\n", Refused(400)),
    ("Transfer-Encoding:\tCHUNKED \r\n\r\n2\r\nhi\r\n0\r\n\r\n", Passed("hi")),
    // Chunks that are none.
    ("Transfer-Encoding: chunked\r\n\r\n2;a\n\r\nhi\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\n2\nhi\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\n-2\r\nhi\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nhi\r\n0\r\n\r\n", Refused(400)),
    ("Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nhi\r\n0\r\n\r\n", Passed("hi")),
    // Characters no field may have.
    ("X: a\rb\r\n\r\n", Refused(400)),
    ("X: a\0b\r\n\r\n", Refused(400)),
    ("X\0: a\r\n\r\n", Refused(400)),
    ("X Y: a\r\n\r\n", Refused(400)),
    (": a\r\n\r\n", Refused(400)),
    ("no colon\r\n\r\n", Refused(400)),
    // Fields that are about one connection can't be used to take others off.
    ("Connection: content-length, host\r\nContent-Length: 5\r\n\r\nhello", Passed("hello")),
    ("Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", Passed("hi")),
    // A body that looks like a request is a body.
    ("Content-Length: 55\r\n\r\n{s}", Passed(SMUGGLED)),
    // Trailers are not headers.
    ("Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n", Passed("hi")),
];

/// Whole requests, for what is in the line.
const LINES: &[(&str, Fate)] = &[
    ("POST  / HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    (" POST / HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST / HTTP/1.1 \r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST / HTTP/1.1 x\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST / HTTP/9.9\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST /a b HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST /\0 HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("PO(T / HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", Refused(400)),
    ("POST /\r\n\r\n", Refused(400)),
    (
        "POST / HTTP/1.0\r\nHost: web.default.localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused(400),
    ),
    ("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nHost: b\r\n\r\n", Refused(400)),
    ("POST / HTTP/1.1\r\nHost: web.default.localhost, b\r\n\r\n", Refused(400)),
    ("POST / HTTP/1.1\r\n\r\n", Refused(400)),
    ("POST http://web.default.localhost/ HTTP/1.1\r\nHost: b\r\n\r\n", Passed("")),
    // A line may end without CR: the target gets it with one.
    ("POST / HTTP/1.1\nHost: web.default.localhost\nContent-Length: 2\n\nhi", Passed("hi")),
];

/// A request as the target at an address got it.
#[derive(Debug)]
struct Seen {
    head: String,
    body: String,
}

/// Serves requests by hand, reading no more into them than is there, and notes them.
async fn serve(listener: TcpListener, seen: Arc<Mutex<Vec<Seen>>>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let (reader, mut writer) = socket.into_split();
            let mut client = Client::new(reader);
            while let Some(request) = receive(&mut client).await {
                let length = request.body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", request.body);
                seen.lock().push(request);
                writer.write_all(answer.as_bytes()).await.unwrap();
            }
        });
    }
}

async fn receive<T: AsyncRead + Unpin>(client: &mut Client<T>) -> Option<Seen> {
    let head = client.try_until("\r\n\r\n").await?;
    let field = |name: &str| {
        let mut found = head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let value = found.next();
        assert!(found.next().is_none(), "{name} is there twice in {head:?}");
        value
    };
    let body = match (field("content-length"), field("transfer-encoding")) {
        (None, None) => String::new(),
        (Some(length), None) => client.try_exactly(length.parse().unwrap()).await?,
        (None, Some("chunked")) => {
            let mut body = String::new();
            loop {
                let size = client.try_until("\r\n").await?;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                let chunk = client.try_exactly(size + 2).await?;
                body.push_str(&chunk[..size]);
                if size == 0 {
                    break body;
                }
            }
        }
        framing => panic!("framed by {framing:?}: {head:?}"),
    };
    Some(Seen { head, body })
}

/// Sends `request` on a connection of its own, then a good one, and gives out what was answered.
async fn ask(front: &Front, request: &str) -> (Vec<(u16, String)>, bool) {
    let mut client = front.connect();
    // What was sent may be refused before it was sent whole.
    client.try_send(request).await;
    let Some(first) = client.try_reply().await else { return (vec![(0, String::new())], true) };
    let mut answers = vec![(first.status, first.body)];
    client
        .try_send("POST /next HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 4\r\n\r\nnext")
        .await;
    let rest = timeout(Duration::from_secs(20), client.try_reply()).await.expect("answered or closed");
    let is_closed = rest.is_none();
    answers.extend(rest.map(|reply| (reply.status, reply.body)));
    (answers, is_closed)
}

fn check(
    case: &str,
    fate: Fate,
    answers: &[(u16, String)],
    is_closed: bool,
    body_of: impl Fn(&str) -> String,
) {
    let (status, body) = &answers[0];
    match fate {
        Refused(expected) => assert!(*status == expected && is_closed, "{case:?}: {answers:?}"),
        Last(expected) => {
            assert!(*status == 200 && body_of(body) == expected && is_closed, "{case:?}: {answers:?}");
        }
        Passed(expected) => {
            assert!(*status == 200 && body_of(body) == expected, "{case:?}: {answers:?}");
            assert!(
                answers.get(1).is_some_and(|(status, body)| *status == 200 && body_of(body) == "next"),
                "{case:?}: {answers:?}"
            );
        }
    }
}

fn cases() -> impl Iterator<Item = (String, Fate)> {
    let headers = CASES.iter().map(|(rest, fate)| {
        let rest = rest.replace("{s}", SMUGGLED);
        (format!("POST / HTTP/1.1\r\nHost: web.default.localhost\r\n{rest}"), *fate)
    });
    headers.chain(LINES.iter().map(|(request, fate)| ((*request).to_owned(), *fate)))
}

/// What the fuzz target of requests checks of any bytes.
#[test]
fn what_passes_has_one_shape() {
    for (case, _) in cases() {
        for bytes in [case.clone(), format!("{case}{case}"), case.replace("POST", "GET"), case.to_uppercase()]
        {
            crate::internals::requests_have_one_shape(bytes.as_bytes()).unwrap();
        }
    }
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    crate::internals::requests_have_one_shape(http2).unwrap();
}

#[tokio::test]
async fn a_target_in_process_sees_one_request() {
    let front = Front::web(&[&echo("w")]);
    for (case, fate) in cases() {
        let (answers, is_closed) = ask(&front, &case).await;
        assert!(answers.iter().all(|(_, body)| !body.starts_with("GET")), "{case:?}: {answers:?}");
        check(&case, fate, &answers, is_closed, |body| {
            // The echo's body is behind its headers, the last of which is the trace id.
            let trace =
                body.find("x-forwarded-proto: http\n").map(|at| at + "x-forwarded-proto: http\n".len());
            trace.map_or_else(String::new, |at| body[at..].to_owned())
        });
    }
}

#[tokio::test]
async fn a_target_at_an_address_sees_one_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = HttpTarget::new(HttpTargetConfig::new(listener.local_addr().unwrap()));
    let seen = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(serve(listener, Arc::clone(&seen)));
    let front = Front::web(&[&Slot::new("w".to_owned(), Arc::new(target))]);
    for (case, fate) in cases() {
        let (answers, is_closed) = ask(&front, &case).await;
        check(&case, fate, &answers, is_closed, str::to_owned);
        for Seen { head, .. } in seen.lock().drain(..) {
            assert!(
                head.starts_with("POST / HTTP/1.1\r\n") || head.starts_with("POST /next HTTP/1.1\r\n"),
                "{case:?}: {head:?}"
            );
            for line in head.trim_end().split("\r\n") {
                let is_clean = !line.contains(['\r', '\n', '\0']) && !line.starts_with([' ', '\t']);
                assert!(is_clean, "{case:?}: {head:?}");
            }
        }
    }
}
