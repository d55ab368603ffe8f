//! Guests that spin, hog, trap, flood and lie: only they are hurt.

mod support;

use std::io::Read as _;
use std::time::{Duration, Instant};

use coracle_fixtures as fixtures;
use serde_json::json;
use support::{Server, http, wait_for};

fn start() -> Server {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    server.push(fixtures::command(), "command:1");
    server
}

fn service(server: &Server, name: &str, container: serde_json::Value) {
    let definition = server.register(name, container);
    server.create_service(name, &definition, 1);
}

#[test]
fn a_spinner_neither_holds_its_task_nor_another_ones() {
    let server = start();
    let labels = json!({ "coracle.request-timeout": "2s" });
    service(&server, "victim", json!({ "image": "http:1" }));
    service(&server, "spinner", json!({ "image": "http:1", "dockerLabels": labels }));
    let spinners: Vec<_> = (0..4)
        .map(|_| {
            let router = server.router.clone();
            std::thread::spawn(move || {
                http("GET", &router, "/spin", &[("host", "spinner.default.localhost")], b"")
            })
        })
        .collect();
    let begun = Instant::now();
    let mut answered = 0;
    while begun.elapsed() < Duration::from_secs(1) {
        assert_eq!(server.get("victim", "/hello").status, 200);
        answered += 1;
    }
    assert!(answered > 20, "the victim answered only {answered} requests in a second");
    for spinner in spinners {
        let answer = spinner.join().unwrap();
        assert_eq!(answer.status, 504, "{}", answer.text());
    }
    assert_eq!(server.get("spinner", "/hello").status, 200);
}

#[test]
fn a_hog_is_stopped_with_137_and_replaced() {
    let server = start();
    service(&server, "hog", json!({ "image": "http:1", "memory": 64 }));
    assert_eq!(server.get("hog", "/hog?mib=8").status, 200);
    let task = server.ecs("ListTasks", &json!({ "serviceName": "hog" }))["taskArns"][0].take();
    let answer = server.get("hog", "/hog");
    assert_eq!(answer.status, 502, "{}", answer.text());
    let stopped = server.wait_task(task.as_str().unwrap(), "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 137, "{stopped:#}");
    assert!(
        stopped["containers"][0]["reason"].as_str().unwrap().starts_with("OutOfMemoryError: "),
        "{stopped:#}"
    );
    server.wait_stable("hog");
    assert_eq!(server.get("hog", "/hello").status, 200);

    let definition =
        server.register("hog-job", json!({ "image": "command:1", "command": ["hog"], "memory": 64 }));
    let stopped = server.wait_task(&server.run_task(&definition, &json!({})), "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 137, "{stopped:#}");
}

#[test]
fn a_trap_names_its_kind_and_function() {
    let server = start();
    service(&server, "web", json!({ "image": "http:1" }));
    for (path, kind, function) in [
        ("/trap", "unreachable", "hostile::panic"),
        ("/trap/unreachable", "unreachable", "trap_unreachable"),
        ("/trap/stack", "stack", "trap_stack"),
        ("/trap/divide", "divide", "hostile::divide"),
    ] {
        let answer = server.get("web", path);
        assert_eq!(answer.status, 502, "{}", answer.text());
        let said = answer.text();
        assert!(said.contains(kind) && said.contains(function), "{path}: {said}");
        assert_eq!(server.get("web", "/hello").status, 200);
    }
    let definition =
        server.register("trapper", json!({ "image": "command:1", "command": ["trap", "unreachable"] }));
    let stopped = server.wait_task(&server.run_task(&definition, &json!({})), "STOPPED");
    let reason = stopped["containers"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("unreachable") && reason.contains("trap_"), "{reason}");
    assert_ne!(stopped["containers"][0]["exitCode"], 0);
}

#[test]
fn a_flooded_log_is_whole_in_order_and_slows_nobody_else() {
    let server = start();
    let definition = server.register("flood", json!({ "image": "command:1", "command": ["flood", "20000"] }));
    service(&server, "victim", json!({ "image": "http:1" }));
    let task = server.run_task(&definition, &json!({}));
    assert_eq!(server.get("victim", "/hello").status, 200);
    let stopped = server.wait_task(&task, "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 0, "{stopped:#}");
    let lines = server.log_messages("/ecs/flood");
    assert_eq!(lines.len(), 20_000);
    let number = |line: &String| line.split_whitespace().find_map(|word| word.parse::<usize>().ok()).unwrap();
    let first = number(&lines[0]);
    assert!(lines.iter().enumerate().all(|(n, line)| number(line) == first + n));
}

#[test]
fn a_body_that_is_never_read_and_broken_answers_hurt_only_their_request() {
    let server = start();
    service(&server, "web", json!({ "image": "http:1" }));
    let host = [("host", "web.default.localhost")];
    let large = vec![b'x'; 4 << 20];
    if let Ok(answer) = support::try_http("POST", &server.router, "/ignore-body", &host, &large) {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for path in ["/no-response", "/broken-headers"] {
        let answer = server.get("web", path);
        assert!(
            answer.status == 502 || (path == "/broken-headers" && answer.status == 200),
            "{path}: {}",
            answer.status
        );
    }
    // The head has gone out already: the client must be able to tell that the body is not whole.
    match support::try_http("GET", &server.router, "/broken-length", &host, b"") {
        Ok(answer) if answer.status == 200 => {
            let promised: usize = answer.header("content-length").unwrap().parse().unwrap();
            assert_ne!(promised, answer.body.len(), "a broken body must not look whole");
        }
        Ok(answer) => assert_eq!(answer.status, 502),
        Err(_) => {}
    }
    assert_eq!(server.get("web", "/hello").status, 200);
    let echoed = http("POST", &server.router, "/echo", &host, &large);
    assert!(echoed.status == 200 && echoed.body == large, "{} bytes came back", echoed.body.len());
}

#[test]
fn bodies_stream_both_ways() {
    use std::io::Write as _;

    let server = start();
    service(&server, "web", json!({ "image": "http:1" }));
    let address = server.router.trim_start_matches("http://").to_owned();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(support::DEADLINE)).unwrap();
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nhost: web.default.localhost\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        .unwrap();
    // The first part comes back before the second has been sent.
    let mut received = String::new();
    while !received.contains("first") {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "closed after {received:?}");
        received.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
    while !received.contains("second") {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "closed after {received:?}");
        received.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
}

#[test]
fn a_task_that_keeps_failing_is_retried_with_pauses_and_events_say_so() {
    let server = start();
    let definition = server.register("crash", json!({ "image": "no-such:1" }));
    server.ecs(
        "CreateService",
        &json!({ "serviceName": "crash", "taskDefinition": definition, "desiredCount": 1 }),
    );
    wait_for("the event", || {
        let service = server.ecs("DescribeServices", &json!({ "services": ["crash"] }));
        service["services"][0]["events"]
            .to_string()
            .contains("is unable to consistently start tasks successfully.")
            .then_some(())
    });
    let answer = server.get("crash", "/");
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("CannotPullContainerError"), "{}", answer.text());
    assert!(answer.header("retry-after").is_some());
    // A component that ends at once in a service must not be started thousands of times.
    let definition = server.register("quick", json!({ "image": "command:1", "command": ["exit", "0"] }));
    server.ecs(
        "CreateService",
        &json!({ "serviceName": "quick", "taskDefinition": definition, "desiredCount": 1 }),
    );
    let begun = Instant::now();
    wait_for("a few restarts", || {
        let found = server.ecs("ListTasks", &json!({ "serviceName": "quick", "desiredStatus": "STOPPED" }));
        (found["taskArns"].as_array().unwrap().len() >= 3).then_some(())
    });
    let found = server.ecs("ListTasks", &json!({ "serviceName": "quick", "desiredStatus": "STOPPED" }));
    let stopped = found["taskArns"].as_array().unwrap().len();
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!(stopped < 10 + 2 * seconds, "{stopped} restarts in {seconds} s");
}
