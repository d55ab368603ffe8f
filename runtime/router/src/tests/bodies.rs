//! Bodies are streamed both ways, and a request is in flight until its response's has ended.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::harness::*;
use crate::{CallError, ResponseBody, Slot};

const POST_CHUNKED: &str =
    "POST / HTTP/1.1\r\nHost: web.default.localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A slot whose target answers once, with the given body.
fn once(body: ResponseBody) -> Arc<Slot> {
    let body = Mutex::new(Some(body));
    slot_with("w", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok(Response::new(body)) }
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_body_arrives_while_it_is_being_sent() {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let target = slot_with("w", move |request| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| CallError::BadRequest { reason: error.to_string() })?;
                seen.send(frame.into_data().unwrap()).unwrap();
            }
            Ok(Response::new(full("done")))
        }
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(POST_CHUNKED).await;
    for part in ["one", "two"] {
        client.send(format!("3\r\n{part}\r\n")).await;
        assert_eq!(arrived.recv().await.unwrap(), part);
    }
    assert_eq!(target.in_flight(), 1);
    client.send("0\r\n\r\n").await;
    assert_eq!(client.reply().await.body, "done");
}

#[tokio::test(start_paused = true)]
async fn a_response_body_arrives_while_it_is_being_made() {
    let (frames, body) = channel_body();
    let target = once(body);
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    let (status, headers) = client.head().await;
    assert_eq!((status, headers["transfer-encoding"].as_str()), (200, "chunked"));
    for part in ["one", "two"] {
        frames.send(Ok(Bytes::from(part))).unwrap();
        client.until(&format!("3\r\n{part}\r\n")).await;
        assert_eq!(target.in_flight(), 1);
    }
    assert!(front.metric(r#"coracle_router_in_flight{cluster="default",service="web"} 1"#));
    drop(frames);
    client.until("0\r\n\r\n").await;
    eventually(|| target.in_flight() == 0).await;
    assert!(front.metric(r#"coracle_router_in_flight{cluster="default",service="web"} 0"#));
}

#[tokio::test(start_paused = true)]
async fn both_bodies_can_stream_at_once() {
    let target = slot_with("w", |request| async { Ok(Response::new(request.into_body())) });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(POST_CHUNKED).await;
    client.head().await;
    for part in ["one", "two", "six"] {
        client.send(format!("3\r\n{part}\r\n")).await;
        client.until(&format!("3\r\n{part}\r\n")).await;
    }
    client.send("0\r\n\r\n").await;
    client.until("0\r\n\r\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_large_body_passes_through_small_buffers() {
    let target = slot_with("w", |request| async { Ok(Response::new(request.into_body())) });
    let front = Front::web(&[&target]);
    let body: Vec<u8> = (0..3_000_000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    let (mut reader, mut writer) = {
        let client = front.connect_buffered(4096);
        client.split()
    };
    let expected = String::from_utf8(body.clone()).unwrap();
    let sending = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.send(head).await;
        writer.send(body).await;
        writer
    });
    assert!(reader.reply().await.body == expected, "the body came back changed");
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_response_that_breaks_off_is_seen_to_break_off() {
    let (frames, body) = channel_body();
    let target = once(body);
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    frames.send(Ok(Bytes::from("some"))).unwrap();
    client.until("4\r\nsome\r\n").await;
    frames.send(Err("the guest trapped".into())).unwrap();
    assert_eq!(client.rest().await, "", "there must be no last chunk");
    assert_eq!(target.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_fails_at_once_still_has_its_head() {
    let (frames, body) = channel_body();
    frames.send(Ok(Bytes::from("some"))).unwrap();
    frames.send(Err("the guest trapped".into())).unwrap();
    let front = Front::web(&[&once(body)]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    let (status, headers) = client.head().await;
    assert_eq!((status, headers["x-coracle-task"].as_str()), (200, "w"));
    assert_eq!(client.rest().await, "4\r\nsome\r\n");
}

#[tokio::test(start_paused = true)]
async fn a_response_of_another_length_than_claimed_is_seen_to_break_off() {
    for (parts, sent) in [(&["some"][..], "some"), (&["some", "and more"][..], "some"), (&[][..], "")] {
        let (frames, body) = channel_body();
        let body = Mutex::new(Some(body));
        let target = slot_with("w", move |_| {
            let response = Response::builder().header("content-length", "10");
            let response = response.body(body.lock().unwrap().take().unwrap()).unwrap();
            async { Ok(response) }
        });
        for part in parts {
            frames.send(Ok(Bytes::from(*part))).unwrap();
        }
        drop(frames);
        let front = Front::web(&[&target]);
        let mut client = front.connect();
        client.send(GET_WEB).await;
        let (_, headers) = client.head().await;
        assert_eq!(headers["content-length"], "10");
        assert_eq!(client.rest().await, sent, "{parts:?}");
        eventually(|| target.in_flight() == 0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_target_works_is_counted_out() {
    let (target, _gate) = gated("w");
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    drop(client);
    eventually(|| target.in_flight() == 0).await;
    assert!(front.metric(r#"coracle_router_requests_total{cluster="default",code="460",service="web"} 1"#));
    eventually(|| front.metric("coracle_router_connections 0")).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_during_the_response_ends_its_body() {
    let (frames, body) = channel_body();
    let target = once(body);
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    client.head().await;
    drop(client);
    eventually(|| target.in_flight() == 0).await;
    assert!(frames.is_closed(), "the target's body was dropped");
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_breaks_off_is_an_error_to_the_target() {
    let (seen, mut ended) = mpsc::unbounded_channel();
    let target = slot_with("w", move |request| {
        let seen = seen.clone();
        async move {
            // Collected in a task of its own, as a target may well do: it must see an error even though
            // the call was dropped with the connection.
            let collected = tokio::spawn(request.into_body().collect());
            seen.send(collected.await.unwrap().map(|_| ()).map_err(|error| error.to_string())).unwrap();
            Ok(Response::new(full("done")))
        }
    });
    let front = Front::web(&[&target, &target]);
    for start in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5\r\nha"] {
        let mut client = front.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: web.default.localhost\r\n{start}")).await;
        eventually(|| target.in_flight() == 1).await;
        drop(client);
        let outcome = ended.recv().await.unwrap();
        assert!(outcome.is_err(), "{outcome:?}");
        eventually(|| target.in_flight() == 0).await;
    }
    let mut client = front.connect();
    client.send(format!("{POST_CHUNKED}zz\r\n")).await;
    assert!(ended.recv().await.unwrap().is_err());
    assert_eq!(front.ask(GET_WEB).await.body, "done");
}

#[tokio::test(start_paused = true)]
async fn a_target_may_answer_without_reading_the_body() {
    let front = Front::web(&[&slot("w")]);
    let mut client = front.connect();
    // Small enough to be there already: it is skipped, and the connection goes on.
    client.send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!(client.reply().await.body, "w");
    assert_eq!(client.get().await.body, "w");
    // Still to come: the answer is sent, and the connection closed.
    client
        .send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 500000\r\n\r\nhello")
        .await;
    assert_eq!(client.reply().await.body, "w");
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_be_told_to_continue_is_told_when_the_body_is_read() {
    let front = Front::web(&[&echo("w")]);
    let mut client = front.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        .await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi").await;
    assert!(client.reply().await.body.ends_with("\nhi"));
}
