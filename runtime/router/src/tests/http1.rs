//! HTTP/1.1 as clients get it: what is read in any pieces, both versions, trailers, and what becomes of a connection.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use tokio::sync::mpsc;

use super::harness::*;
use crate::{BoxError, ResponseBody, RouterConfig};

const WEB: &str = "Host: web.default.localhost\r\n";

/// What a whole connection is answered: each reply's status and body, until it is closed or there are no more
/// requests.
async fn conversation(front: &Front, sent: &[u8], step: usize, replies: usize) -> Vec<(u16, String)> {
    let client = front.connect();
    let (mut reader, mut writer) = client.split();
    let pieces: Vec<Vec<u8>> = sent.chunks(step).map(<[u8]>::to_vec).collect();
    let sending = tokio::spawn(async move {
        for piece in pieces {
            writer.try_send(piece).await;
            // The router reads each piece by itself.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
        }
        writer
    });
    let mut seen = Vec::new();
    for _ in 0..replies {
        let Some(reply) = reader.try_reply().await else { break };
        seen.push((reply.status, reply.body));
    }
    drop(sending.await.unwrap());
    seen
}

#[tokio::test(start_paused = true)]
async fn requests_are_the_same_in_whatever_pieces_they_come() {
    let target = slot_with("w", |request| async move {
        let said = format!("{} {} ", request.method(), request.uri());
        let body = request.into_body().collect().await;
        let body = body.map_or_else(|error| format!("{error}").into(), |body| body.to_bytes());
        Ok(Response::new(full(&format!("{said}{}", String::from_utf8_lossy(&body)))))
    });
    let front = Front::web(&[&target]);
    let sent = format!(
        "\r\nPOST /a HTTP/1.1\r\n{WEB}Content-Length: 5\r\n\r\nhello\r\n\
         GET /b HTTP/1.1\n{WEB}\n\
         PUT /c HTTP/1.1\r\n{WEB}Transfer-Encoding: chunked\r\n\r\n3;x=y\r\none\r\n3\r\ntwo\r\n0\r\nX-Sum: 1\r\n\r\n\
         GET /d HTTP/1.1\r\n{WEB}Connection: close\r\n\r\nGET /never HTTP/1.1\r\n{WEB}\r\n"
    );
    let expected = ["POST /a hello", "GET /b ", "PUT /c onetwo", "GET /d "];
    let expected: Vec<_> = expected.iter().map(|body| (200, (*body).to_owned())).collect();
    for step in [1, 2, 3, 7, 16, 50, 129, 1000] {
        let seen = conversation(&front, sent.as_bytes(), step, 5).await;
        assert_eq!(seen, expected, "in pieces of {step} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_refused_in_whatever_pieces_it_comes() {
    let front = Front::web(&[&echo("w")]);
    for (sent, status) in [
        (format!("GET / HTTP/1.1\r\n{WEB}X: a\r\n folded\r\n\r\n"), 400),
        (format!("POST / HTTP/1.1\r\n{WEB}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400),
        (format!("POST / HTTP/1.1\r\n{WEB}Transfer-Encoding: chunked\r\n\r\nx\r\n"), 400),
        ("\u{16}\u{3}\u{1}".repeat(20), 400),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)), 431),
        ("\r\n".repeat(33 * 1024), 431),
    ] {
        for step in [usize::MAX, 4096, 1] {
            if step == 1 && sent.len() > 1000 {
                continue;
            }
            let seen = conversation(&front, sent.as_bytes(), step, 2).await;
            assert_eq!(seen.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [status], "{sent:.60?}");
        }
    }
    let mut client = front.connect();
    client.send("no request\r\n\r\n").await;
    let (status, headers) = client.head().await;
    assert_eq!(
        (status, headers["connection"].as_str(), headers["content-length"].as_str()),
        (400, "close", "0")
    );
    assert!(headers["date"].ends_with(" GMT"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn http_1_0_is_answered_in_its_own_words() {
    let target = slot_with("w", |request| async move {
        let (frames, body) = channel_body();
        frames.send(Ok(Bytes::from("stream"))).unwrap();
        Ok(Response::new(if request.uri().path() == "/stream" { body } else { full("all") }))
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(format!("GET / HTTP/1.0\r\n{WEB}Connection: keep-alive\r\n\r\n")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && head.contains("connection: keep-alive\r\n"), "{head}");
    client.until("all").await;
    // Without a length the end of the connection is the body's, whatever the client has asked for.
    client.send(format!("GET /stream HTTP/1.0\r\n{WEB}Connection: keep-alive\r\n\r\n")).await;
    let head = client.until("\r\n\r\n").await;
    assert!(!head.contains("transfer-encoding") && !head.contains("connection: "), "{head}");
    assert_eq!(client.rest().await, "stream");
    let mut client = front.connect();
    client.send(format!("GET / HTTP/1.0\r\n{WEB}\r\n")).await;
    client.until("all").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn trailers_are_for_clients_that_take_them() {
    let target = slot_with("w", |request| async move {
        let body = request.into_body().collect().await.map_err(|_| crate::CallError::NoUpgrade)?;
        let mut trailers = body.trailers().cloned().unwrap_or_default();
        trailers.insert("x-unannounced", "1".parse().unwrap());
        let frames: Vec<Result<_, BoxError>> =
            vec![Ok(Frame::data(body.to_bytes())), Ok(Frame::trailers(trailers))];
        let body = ResponseBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        Ok(Response::builder().header("trailer", "x-sum").body(body).unwrap())
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    for (te, end) in [("TE: trailers\r\n", "\r\nx-sum: 7\r\n\r\n"), ("", "\r\n\r\n")] {
        client
            .send(format!(
                "POST / HTTP/1.1\r\n{WEB}{te}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n"
            ))
            .await;
        client.head().await;
        client.until("2\r\nhi\r\n0").await;
        assert_eq!(client.until("\r\n\r\n").await, end, "{te}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_continue_and_is_answered_is_not_told_to() {
    let front = Front::web(&[&slot("w")]);
    let mut client = front.connect();
    client.send(format!("POST / HTTP/1.1\r\n{WEB}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("connection")), (200, "close"));
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_reads_is_passed_over_if_it_is_there() {
    let front = Front::web(&[&slot("w")]);
    let mut client = front.connect();
    let chunked = format!("POST / HTTP/1.1\r\n{WEB}Transfer-Encoding: chunked\r\n\r\n");
    let body = "a".repeat(30_000);
    client.send(format!("{chunked}7530\r\n{body}\r\n0\r\n\r\n{GET_WEB}")).await;
    assert_eq!(client.reply().await.body, "w");
    assert_eq!(client.reply().await.body, "w");
    client.send(format!("{chunked}7530\r\n{}", "a".repeat(20_000))).await;
    let reply = client.reply().await;
    assert_eq!((reply.body.as_str(), reply.header("connection")), ("w", "close"));
    assert_eq!(client.rest().await, "");
}

/// What is sent at once while a body is waited for leaves together, and in order.
#[tokio::test(start_paused = true)]
async fn small_and_large_parts_of_a_body_keep_their_order() {
    let parts: Vec<Bytes> =
        (0..200_u32).map(|n| vec![b'a' + (n % 26) as u8; (n * n) as usize].into()).collect();
    let expected: String = parts.iter().map(|part| std::str::from_utf8(part).unwrap()).collect();
    let target = slot_with("w", move |_| {
        let frames = parts.clone().into_iter().map(|part| Ok::<_, BoxError>(Frame::data(part)));
        let body = ResponseBody::new(StreamBody::new(futures_util::stream::iter(frames)));
        async { Ok(Response::new(body)) }
    });
    let front = Front::web(&[&target]);
    for buffered in [100, 64 * 1024] {
        let mut client = front.connect_buffered(buffered);
        client.send(GET_WEB).await;
        assert!(client.reply().await.body == expected, "the body came changed through {buffered} bytes");
        assert_eq!(client.get().await.status, 200);
    }
}

/// Guests make head, body and end in a turn each, as a rule. What takes longer is not waited for.
#[tokio::test(start_paused = true)]
async fn what_an_answer_is_made_of_goes_out_at_once_if_it_is_made_at_once() {
    // That of tokio, `yield_now`, comes behind those that are awake only when it is known that there are none.
    async fn next_turn() {
        let mut has_waited = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut has_waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
    let target = slot_with("w", |request| {
        let is_slow = request.uri() == "/slow";
        let (parts, mut body) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(1);
        tokio::spawn(async move {
            for part in ["one", "two"] {
                if is_slow {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let _ = parts.send(Ok(Frame::data(part.into()))).await;
                next_turn().await;
            }
        });
        let body = futures_util::stream::poll_fn(move |cx| body.poll_recv(cx));
        async move { Ok(Response::new(ResponseBody::new(StreamBody::new(body)))) }
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    let answer = client.whatever().await;
    assert!(answer.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");

    client.send(GET_WEB.replace(" / ", " /slow ")).await;
    let head = client.whatever().await;
    assert!(
        head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n") && !head.contains("one"),
        "{head}"
    );
    assert_eq!(client.whatever().await, "3\r\none\r\n");
    assert_eq!(client.whatever().await, "3\r\ntwo\r\n0\r\n\r\n");
}

/// Another task may read a body: it is handed over as it comes, and no faster than it is read.
#[tokio::test(start_paused = true)]
async fn an_upload_is_not_read_faster_than_its_reader() {
    let (parts, mut reading) = mpsc::channel::<Bytes>(1);
    let target = slot_with("w", move |request| {
        let parts = parts.clone();
        async move {
            let read = tokio::spawn(async move {
                let (mut body, mut length) = (request.into_body(), 0);
                while let Some(frame) = body.frame().await {
                    let data = frame.unwrap().into_data().unwrap();
                    length += data.len();
                    parts.send(data).await.unwrap();
                }
                length
            });
            Ok(Response::new(full(&read.await.unwrap().to_string())))
        }
    });
    let front = Front::web(&[&target]);
    let (mut reader, mut writer) = front.connect_buffered(1024).split();
    let length = 3_000_000;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let sending = tokio::spawn({
        let sent = std::sync::Arc::clone(&sent);
        async move {
            writer.send(format!("POST / HTTP/1.1\r\n{WEB}Content-Length: {length}\r\n\r\n")).await;
            for _ in 0..length / 1000 {
                writer.send([b'a'; 1000]).await;
                sent.fetch_add(1000, std::sync::atomic::Ordering::Relaxed);
            }
            writer
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let ahead = sent.load(std::sync::atomic::Ordering::Relaxed);
    assert!(ahead < 512 * 1024, "{ahead} bytes were read that nobody wants yet");
    let drained = tokio::spawn(async move { while reading.recv().await.is_some() {} });
    assert_eq!(reader.reply().await.body, length.to_string());
    drop((sending.await.unwrap(), front, drained));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_sending_has_left() {
    let (target, gate) = gated("w");
    let front = Front::web(&[&target]);
    let mut client = front.connect_raw(1024);
    tokio::io::AsyncWriteExt::write_all(&mut client, GET_WEB.as_bytes()).await.unwrap();
    eventually(|| target.in_flight() == 1).await;
    tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap();
    eventually(|| target.in_flight() == 0).await;
    assert!(front.metric(r#"coracle_router_requests_total{cluster="default",code="460",service="web"} 1"#));
    // One that has sent its next request is there: it is read when its turn has come.
    let mut client = front.connect();
    client.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    client.send(GET_WEB).await;
    gate.add_permits(2);
    assert_eq!((client.reply().await.body.as_str(), client.reply().await.body.as_str()), ("w", "w"));
}

/// A bound below what is read at once holds, too.
#[tokio::test(start_paused = true)]
async fn a_small_bound_of_heads_holds() {
    let front = Front::start(RouterConfig { max_head_bytes: 200, ..RouterConfig::default() });
    front.publish_web(&[&slot("w")]);
    let with = |length: usize| format!("GET / HTTP/1.1\r\n{WEB}X: {}\r\n\r\n", "a".repeat(length));
    let fits = 200 - with(0).len();
    for (length, status) in [(fits, 200), (fits + 1, 431)] {
        for step in [usize::MAX, 1] {
            let seen = conversation(&front, with(length).as_bytes(), step, 1).await;
            assert_eq!(seen[0].0, status, "{length} {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_targets_own_reason_is_passed_on() {
    let target = slot_with("w", |_| async {
        let mut response = Response::new(full("x"));
        let reason = hyper::ext::ReasonPhrase::try_from(&b"Quite Fine"[..]).unwrap();
        response.extensions_mut().insert(reason);
        *response.headers_mut() = HeaderMap::from_iter([("date".parse().unwrap(), "today".parse().unwrap())]);
        Ok(response)
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    let head = client.until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 Quite Fine\r\n") && head.contains("date: today\r\n"), "{head}");
    assert_eq!(head.matches("date:").count(), 1);
}

fn fragment() -> impl Strategy<Value = String> {
    let chunked = "Transfer-Encoding: chunked\r\n";
    prop_oneof![
        Just(format!("GET /a HTTP/1.1\r\n{WEB}\r\n")),
        Just(format!("GET /b HTTP/1.1\n{WEB}\n")),
        Just(format!("POST /c HTTP/1.1\r\n{WEB}Content-Length: 3\r\n\r\n")),
        Just(format!("POST /d HTTP/1.1\r\n{WEB}{chunked}\r\n")),
        Just(format!("POST /e HTTP/1.1\r\n{WEB}{chunked}Content-Length: 3\r\n\r\n")),
        Just(format!("GET /f HTTP/1.0\r\n{WEB}Connection: keep-alive\r\n\r\n")),
        Just("3\r\none\r\n".to_owned()),
        Just("0\r\n\r\n".to_owned()),
        Just("0\r\nX-Sum: 1\r\n\r\n".to_owned()),
        "[a-c]{3}",
        "[\r\n]{1,3}",
        "[ -~]{1,8}(\r\n)?",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Where the pieces of a connection's bytes are cut says nothing.
    #[test]
    fn pieces_mean_nothing(
        fragments in prop::collection::vec(fragment(), 1..6),
        steps in (1_usize..9, 9_usize..200),
    ) {
        // A head that has no end yet is judged by its beginning alone, as far as that came at once: all end.
        let sent = fragments.concat() + "\r\n\r\n";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let [all, small, large] = runtime.unwrap().block_on(async {
            // The trace ids are each request's own.
            let target = slot_with("w", |request| async move {
                let said = format!("{} {} ", request.method(), request.uri());
                let body = request.into_body().collect().await;
                let body = body.map_or_else(|_| "broken".into(), |body| body.to_bytes());
                Ok(Response::new(full(&format!("{said}{}", String::from_utf8_lossy(&body)))))
            });
            let front = Front::web(&[&target]);
            let mut seen = [vec![], vec![], vec![]];
            for (seen, step) in seen.iter_mut().zip([usize::MAX, steps.0, steps.1]) {
                *seen = conversation(&front, sent.as_bytes(), step, 8).await;
            }
            seen
        });
        prop_assert_eq!(&all, &small);
        prop_assert_eq!(&all, &large);
    }
}
