//! Components made with the SDK, run in process by `coracle_sdk::testing`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use coracle_sandbox::{Exit, MemoryBudget, Network};
use coracle_sdk::http::{Body, Request, Response, StatusCode, header};
use coracle_sdk::testing::Component;

/// Compiled once for all tests, which share its engine.
static HTTP: LazyLock<Component> = LazyLock::new(|| {
    Component::load(coracle_fixtures::sdk_http())
        .unwrap()
        .variable("MODE", "fast")
        .variable("PASSWORD", "123")
});
static TASK: LazyLock<Component> = LazyLock::new(|| Component::load(coracle_fixtures::sdk_task()).unwrap());

fn get(path: &str) -> Response {
    HTTP.request(Request::get(path).body(Body::default()).unwrap()).unwrap()
}

fn post(path: &str, kind: &str, body: impl Into<Body>) -> Response {
    HTTP.request(Request::post(path).header(header::CONTENT_TYPE, kind).body(body.into()).unwrap()).unwrap()
}

fn text(mut response: Response) -> String {
    coracle_sdk::block_on(response.body_mut().text()).unwrap()
}

#[test]
fn requests_find_their_handlers() {
    let response = get("/");
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "6");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    assert_eq!(text(response), "hello\n");
    assert_eq!(text(get("/greet/y%20ou")), "Hello, y ou!\n");
    assert_eq!(get("/nowhere").status(), StatusCode::NOT_FOUND);
    assert_eq!(post("/", "text/plain", "").status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[test]
fn bodies_are_json_text_or_pieces() {
    let response = post("/orders", "application/json", r#"{"book": "a", "count": 1}"#);
    assert_eq!(text(response), r#"{"book":"a","count":2}"#);
    let response = post("/orders", "application/json", "{}");
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text(response).contains("missing field"));
    assert_eq!(post("/orders", "text/plain", "{}").status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);

    assert_eq!(text(get("/stream")), "0\n1\n2\n");
    let large = vec![b'x'; 5 << 20];
    let mut response = post("/echo", "text/plain", large.clone());
    assert_eq!(coracle_sdk::block_on(response.body_mut().bytes_up_to(large.len())).unwrap(), large);
    assert_eq!(text(post("/length", "text/plain", large)), (5 << 20).to_string());
}

#[test]
fn what_goes_wrong_is_a_response_or_no_whole_one() {
    let response = get("/fail");
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text(response), "internal server error\n");
    let cut_off = HTTP.request(Request::get("/broken").body(Body::default()).unwrap());
    assert!(cut_off.is_err_and(|error| error.to_string().contains("ended early")));
    // A body that breaks off is seen by its reader before the guest has said why.
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut log = Vec::new();
    for reason in ["the secret of it", "the other half is lost"] {
        while !log.iter().any(|line: &String| line.contains(reason)) {
            assert!(Instant::now() < deadline, "{log:?}");
            std::thread::yield_now();
            log.extend(HTTP.lines().1);
        }
    }
}

#[test]
fn futures_wait_together() {
    assert_eq!(text(get("/together")), "rested");
}

#[test]
fn grants_are_used_and_missing_ones_named() {
    let http = Component::load(coracle_fixtures::sdk_http()).unwrap().variable("MODE", "fast");
    let ask = |path: &str| {
        let response = http.request(Request::get(path).body(Body::default()).unwrap()).unwrap();
        (response.status().as_u16(), text(response))
    };
    assert_eq!(ask("/count"), (200, "1".to_owned()));
    assert_eq!(ask("/count"), (200, "2".to_owned()));
    assert_eq!((http.metric("counted_total"), http.metric("count_size")), (Some(2.0), Some(3.0)));
    assert_eq!(ask("/config/MODE"), (200, "fast".to_owned()));
    assert_eq!(ask("/secret/MODE"), (200, "fast".to_owned()));
    let (status, refused) = ask("/fetch?url=http://example.com:81/");
    assert!(status == 500 && refused.contains("example.com:81 to the label coracle.egress"), "{refused}");
    for (path, named) in [
        ("/config/NOTHING", "coracle.config.NOTHING"),
        ("/secret/NOTHING", "`secrets`"),
        ("/task", "ECS_CONTAINER_METADATA_URI_V4"),
    ] {
        assert_eq!(ask(path).0, 500);
        let (_, log) = http.lines();
        assert!(log.iter().any(|line| line.contains(named)), "{path}: {log:?}");
    }

    let bare = Component::load(coracle_fixtures::sdk_http()).unwrap().with(|spec| spec.metrics = None);
    let response = bare.request(Request::get("/count").body(Body::default()).unwrap()).unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let (_, log) = bare.lines();
    assert!(log.iter().any(|line| line.contains("not granted") && line.contains("`metrics`")), "{log:?}");
}

#[test]
fn outgoing_requests_go_where_they_may() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut answered, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = answered.read(&mut request).unwrap();
        answered
            .write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 4\r\nx-from: there\r\n\r\nbook")
            .unwrap();
        // The second one is never answered.
        let silent = listener.accept().unwrap();
        (String::from_utf8_lossy(&request[..length]).into_owned(), silent)
    });
    let http = Component::load(coracle_fixtures::sdk_http())
        .unwrap()
        .with(|spec| spec.network = Network::to([address.to_string().as_str()]).unwrap());
    let ask = |path: String| http.request(Request::get(path).body(Body::default()).unwrap()).unwrap();
    let response = ask(format!("/fetch?url=http://{address}/books%3Fid=1"));
    assert_eq!((response.status().as_u16(), response.headers()["x-from"].as_bytes()), (201, &b"there"[..]));
    assert_eq!(text(response), "book");
    let response = ask(format!("/fetch?ms=50&url=http://{address}/"));
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let (request, _) = server.join().unwrap();
    assert!(request.starts_with("GET /books?id=1 HTTP/1.1\r\n"), "{request}");
}

#[test]
fn limits_and_the_log_are_the_hosts() {
    assert_eq!(text(get("/limits")), "None true false");
    let limited = Component::load(coracle_fixtures::sdk_http()).unwrap().with(|spec| {
        spec.memory = MemoryBudget::new(64 << 20);
        spec.fuel_per_request = Some(100_000_000);
    });
    let response = limited.request(Request::get("/limits").body(Body::default()).unwrap()).unwrap();
    assert_eq!(text(response), "Some(67108864) true true");
    limited.request(Request::get("/log").body(Body::default()).unwrap()).unwrap();
    assert_eq!(limited.lines().1, ["WARN sdk_http: looked at answer=42"]);
}

#[test]
fn tasks_end_as_they_say() {
    let ended = TASK.run(&["exit", "42"]).unwrap();
    assert_eq!((ended.exit, ended.stdout), (Exit::Code(42), vec!["without an end of line".to_owned()]));
    let task = Component::load(coracle_fixtures::sdk_task()).unwrap();
    let ended = task.run(&["print", "a", "b"]).unwrap();
    assert_eq!((ended.exit, ended.stdout), (Exit::Code(0), vec!["a b".to_owned()]));
    let ended = task.run(&["fail"]).unwrap();
    assert_eq!(ended.exit, Exit::Code(1));
    assert!(ended.stderr[0].starts_with("error: "), "{:?}", ended.stderr);
}
