//! What the router refuses, and what it says when a target fails.

use std::time::Duration;

use http::{Response, StatusCode};

use super::harness::*;
use crate::{CallError, RouterConfig};

#[tokio::test(start_paused = true)]
async fn unknown_services_are_explained() {
    let front = Front::start(RouterConfig::default());
    let reply = front.ask(GET_WEB).await;
    assert!(reply.expect(404, "unknown_service").body.contains("there are no services yet"), "{reply:?}");

    let names: Vec<String> = (10..35).map(|index| format!("us-east-1/default/s{index}")).collect();
    front.publish(&names.iter().map(|name| (name.as_str(), &[][..])).collect::<Vec<_>>());
    for host in ["web.default.localhost", "localhost:8080", "127.0.0.1", "example.com"] {
        let reply = front.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        reply.expect(404, "unknown_service");
        assert_eq!(reply.header("content-type"), "text/plain; charset=utf-8");
        assert_eq!(reply.body.lines().count(), 1, "{}", reply.body);
        for part in
            ["<service>.<cluster>.localhost", "X-Coracle-Service", "default/s10", "default/s29, and 5 more"]
        {
            assert!(reply.body.contains(part), "{part} is not in {}", reply.body);
        }
        assert!(!reply.body.contains("s30"), "{}", reply.body);
    }
}

#[tokio::test(start_paused = true)]
async fn errors_are_json_for_those_who_ask() {
    let front = Front::web(&[]);
    let reply = front
        .ask("GET / HTTP/1.1\r\nHost: no\"pe.default.localhost\r\nAccept: application/json\r\n\r\n")
        .await;
    assert_eq!((reply.status, reply.header("content-type")), (400, "application/json"));
    let reply =
        front.ask("GET / HTTP/1.1\r\nHost: nope.default.localhost\r\nAccept: application/json\r\n\r\n").await;
    let body: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert_eq!((&body["error"], &body["services"][0]), (&"unknown_service".into(), &"default/web".into()));
}

#[tokio::test(start_paused = true)]
async fn hosts_and_headers_that_mean_nothing_are_400() {
    let front = Front::start(RouterConfig::default());
    front.publish(&[("a/default/web", &[&slot("a")]), ("b/default/web", &[&slot("b")])]);
    for (headers, error) in [
        ("", "bad_host"),
        ("Host:\r\n", "bad_host"),
        ("Host: we b.default.localhost\r\n", "bad_host"),
        ("Host: web.default.localhost:http\r\n", "bad_host"),
        ("Host: web.default.localhost\r\nHost: web.default.localhost\r\n", "bad_host"),
        ("Host: x\r\nX-Coracle-Service: a/b/c/d\r\n", "bad_service_header"),
        ("Host: x\r\nX-Coracle-Service: \r\n", "bad_service_header"),
        ("Host: x\r\nX-Coracle-Service: w\u{e9}b\r\n", "bad_service_header"),
        ("Host: x\r\nX-Coracle-Service: a/default/web\r\nX-Coracle-Service: web\r\n", "bad_service_header"),
    ] {
        let reply = front.ask(&format!("GET / HTTP/1.1\r\n{headers}\r\n")).await;
        reply.expect(400, error);
    }
    let reply = front.ask(GET_WEB).await;
    reply.expect(400, "ambiguous_service");
    assert!(reply.body.contains("a/default/web, b/default/web"), "{}", reply.body);
    assert!(
        front.metric(r#"coracle_router_requests_total{cluster="_unknown",code="400",service="_unknown"} 10"#)
    );
}

#[tokio::test(start_paused = true)]
async fn connect_and_upgrades_are_not_implemented() {
    let front = Front::web(&[&slot("w")]);
    front
        .ask("CONNECT web.default.localhost:80 HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n")
        .await
        .expect(501, "connect_not_supported");
    let upgrade = |to| {
        format!(
            "GET / HTTP/1.1\r\nHost: web.default.localhost\r\nConnection: Upgrade\r\nUpgrade: {to}\r\n\r\n"
        )
    };
    front.ask(&upgrade("websocket")).await.expect(501, "upgrade_not_supported");

    // Clients that merely offer HTTP/2 are served, and the connection goes on.
    let mut client = front.connect();
    client.send(upgrade("h2c")).await;
    assert_eq!(client.reply().await.body, "w");
    assert_eq!(client.get().await.body, "w");
}

#[tokio::test(start_paused = true)]
async fn heads_are_bounded() {
    let front = Front::web(&[&slot("w")]);
    let with_uri =
        |len: usize| format!("GET /{} HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n", "a".repeat(len - 1));
    assert_eq!(front.ask(&with_uri(16 * 1024)).await.status, 200);
    front.ask(&with_uri(16 * 1024 + 1)).await.expect(414, "uri_too_long");
    let many: String = (0..101).map(|index| format!("X-{index}: 1\r\n")).collect();
    let big = format!("X-Big: {}\r\n", "a".repeat(65 * 1024));
    for headers in [many, big] {
        let mut client = front.connect_buffered(1024 * 1024);
        client.send(format!("GET / HTTP/1.1\r\nHost: web.default.localhost\r\n{headers}\r\n")).await;
        assert_eq!(client.reply().await.status, 431);
    }
}

#[tokio::test(start_paused = true)]
async fn ambiguous_framing_never_reaches_a_target_as_two_requests() {
    let front = Front::web(&[&echo("w")]);
    for headers in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Content-Length : 5\r\n",
        " Folded: 1\r\n",
    ] {
        let mut client = front.connect();
        client.send(format!("POST / HTTP/1.1\r\nHost: web.default.localhost\r\n{headers}\r\nhello")).await;
        assert_eq!(client.reply().await.status, 400, "{headers}");
        assert_eq!(client.rest().await, "", "the connection is closed after {headers}");
    }

    // Both at once: chunked counts, the length is gone, and nothing after it is read as a request.
    let mut client = front.connect();
    client
        .send(
            "POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 4\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        )
        .await;
    let reply = client.reply().await;
    assert!(reply.body.ends_with("\nhi") && !reply.body.contains("content-length"), "{reply:?}");
    assert_eq!(client.rest().await, "");
}

#[tokio::test(start_paused = true)]
async fn what_a_target_reports_decides_the_status() {
    let target = slot_with("w", |request| async move {
        let reason = "because".to_owned();
        Err(match request.uri().path() {
            "/unavailable" => CallError::Unavailable { reason, retry_after: Duration::from_millis(2500) },
            "/failed" => CallError::Failed { reason },
            "/timed-out" => CallError::TimedOut { reason },
            _ => CallError::BadRequest { reason },
        })
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    for (path, status, error, retry_after) in [
        ("/unavailable", 503, "target_unavailable", "3"),
        ("/failed", 502, "target_failed", ""),
        ("/timed-out", 504, "target_timed_out", ""),
        ("/bad", 400, "bad_request", ""),
    ] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n")).await;
        let reply = client.reply().await;
        reply.expect(status, error);
        assert_eq!(reply.header("retry-after"), retry_after);
        assert_eq!(reply.header("x-coracle-task"), "w");
        assert!(reply.body.ends_with("because\n"), "{}", reply.body);
        let counted =
            format!(r#"coracle_router_requests_total{{cluster="default",code="{status}",service="web"}} 1"#);
        assert!(front.metric(&counted), "{counted}");
    }
    eventually(|| target.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn responses_that_cannot_be_framed_are_502() {
    let target = slot_with("w", |request| async move {
        let response = Response::builder();
        Ok(match request.uri().path() {
            "/continue" => response.status(100).body(full("x")),
            "/switch" => response.status(101).body(empty()),
            "/short" => response.header("content-length", "5").body(full("hi")),
            "/long" => response.header("content-length", "1").body(full("hi")),
            "/two" => response.header("content-length", "1").header("content-length", "2").body(full("hi")),
            _ => response.header("content-length", "two").body(full("hi")),
        }
        .unwrap())
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    for path in ["/continue", "/switch", "/short", "/long", "/two", "/word"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n")).await;
        client.reply().await.expect(502, "bad_response");
    }
}

#[tokio::test(start_paused = true)]
async fn responses_without_a_body_have_none() {
    let target = slot_with("w", |request| async move {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        let mut response = Response::new(full("hello"));
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().insert("content-length", 5.into());
        response.headers_mut().insert("connection", "close".parse().unwrap());
        Ok(response)
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    for (method, status, length) in [("HEAD", 200, "5"), ("GET", 204, ""), ("GET", 304, "")] {
        client.send(format!("{method} /{status} HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n")).await;
        let (shown, headers) = client.head().await;
        assert_eq!(shown, status);
        assert_eq!(headers.get("content-length").map_or("", String::as_str), length, "{method} {status}");
        assert!(!headers.contains_key("connection"));
    }
    // The connection is in step: the next response is read where it should begin.
    client.send("GET /200 HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n").await;
    assert_eq!(client.reply().await.body, "hello");
}
