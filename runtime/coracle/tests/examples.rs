//! The examples that need more than one component or one task, as their READMEs run them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_fixtures as fixtures;
use coracle_fixtures::zig;
use serde_json::{Value, json};
use support::built::{self, skip};
use support::{Answer, DEADLINE, Server, free_port, http, python, run, text, wait_for};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(path)
}

fn definition(example_name: &str) -> Value {
    let file = example(example_name).join("task-definition.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Registers a task definition and gives its family.
fn register(server: &Server, definition: &Value) -> String {
    server.ecs("RegisterTaskDefinition", definition)["taskDefinition"]["family"].as_str().unwrap().to_owned()
}

#[test]
fn a_policy_in_c_judges_the_requests_of_an_app_in_rust() {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, wit) = (example("sidecar-auth/policy/policy.c"), example("sidecar-auth/wit/auth.wit"));
    let policy = match zig::component(&source, &wit, tmp) {
        Ok(policy) => policy,
        Err(reason) => return skip("examples/sidecar-auth, whose policy is in C", &reason),
    };
    let server = Server::start(&[]);
    server.push(fixtures::example_auth_app(), "auth-app:latest");
    server.push(&policy, "auth-policy:latest");
    let mut definition = definition("sidecar-auth");
    server.create_service("sidecar-auth", &register(&server, &definition), 1);

    let get = |path: &str, authorization: &str| -> Answer {
        let headers = [("host", "sidecar-auth.default.localhost"), ("authorization", authorization)];
        http("GET", &server.router, path, &headers, b"")
    };
    let answers = |path: &str, authorization: &str| {
        let answer = get(path, authorization);
        (answer.status, answer.text())
    };
    assert_eq!(answers("/", ""), (200, "Anybody may read this.\n".to_owned()));
    let stranger = get("/notes", "");
    assert_eq!((stranger.status, stranger.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(answers("/notes", "Bearer open"), (401, "Who are you?\n".to_owned()));
    assert_eq!(answers("/notes", "Bearer hunter2"), (200, "Hello bob, this is /notes.\n".to_owned()));
    assert_eq!(answers("/admin/keys", "Bearer hunter2"), (403, "Not you.\n".to_owned()));
    assert_eq!(
        answers("/admin/keys", "Bearer sesame"),
        (200, "Hello alice, this is /admin/keys.\n".to_owned())
    );
    wait_for("the sidecar's log", || {
        let log = server.log_messages("/ecs/sidecar-auth");
        let said = |line: &str| log.iter().any(|logged| logged == line);
        (said("alice may: /admin/keys") && said("denied: /admin/keys")).then_some(())
    });

    // With next to no fuel the policy fails, and only who asks it feels that.
    definition["containerDefinitions"][1]["dockerLabels"]["coracle.fuel-per-request"] = json!("100");
    register(&server, &definition);
    server.ecs("UpdateService", &json!({"service": "sidecar-auth", "taskDefinition": "sidecar-auth"}));
    server.wait_stable("sidecar-auth");
    wait_for("the new revision", || (get("/notes", "Bearer hunter2").status == 502).then_some(()));
    assert_eq!(get("/", "").status, 200);
    let running = server.ecs("DescribeServices", &json!({"services": ["sidecar-auth"]}));
    assert_eq!(running["services"][0]["runningCount"], 1);
}

#[test]
fn a_policy_is_a_task_of_its_own_when_its_entry_point_says_what_to_call() {
    let server = Server::start(&[]);
    server.push(fixtures::link_policy(), "policy:1");
    let check = |command: Value, code: i64, message: &str| {
        let group = format!("/ecs/check{code}");
        let job = json!({
            "name": "job", "image": "policy:1", "entryPoint": ["check"], "command": command,
            "logConfiguration": {"logDriver": "awslogs", "options": {
                "awslogs-group": group, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x",
                "awslogs-create-group": "true",
            }},
        });
        let task = server.run_task(&server.register("check", job), &json!({}));
        let stopped = server.wait_task(&task, "STOPPED");
        assert_eq!(stopped["containers"][0]["exitCode"], code, "{stopped:#}");
        assert_eq!(server.log_messages(&group), [message]);
    };
    check(json!(["good"]), 0, r#"{"ok":{"allowed":true,"reason":null}}"#);
    check(json!([""]), 1, r#"{"err":"no token"}"#);
}

#[test]
fn links_are_checked_when_a_task_definition_is_registered() {
    let server = Server::start(&[]);
    let mut definition = definition("sidecar-auth");
    definition["containerDefinitions"][1]["dockerLabels"]["coracle.link"] = json!("app");
    let file = server.path().join("circle.json");
    std::fs::write(&file, definition.to_string()).unwrap();
    let file = format!("file://{}", file.display());
    let error = server.aws_fails(&["ecs", "register-task-definition", "--cli-input-json", &file]);
    assert!(error.contains("ClientException") && error.contains("in a circle: app, policy"), "{error}");
}

#[test]
fn what_can_not_be_linked_does_not_start_and_says_why() {
    let server = Server::start(&[]);
    for (name, guest, what) in [
        (
            "resource",
            fixtures::link_resource(),
            "the resource session; a handle means nothing in another sandbox",
        ),
        ("later", fixtures::link_later(), "an asynchronous function (ask); declare it without async"),
    ] {
        let image = format!("{name}:1");
        server.push(guest, &image);
        let definition = server.register(name, json!({"name": "app", "image": image}));
        let stopped = server.wait_task(&server.run_task(&definition, &json!({})), "STOPPED");
        assert_eq!(stopped["stopCode"], "TaskFailedToStart", "{stopped:#}");
        let reason = stopped["stoppedReason"].as_str().unwrap();
        let why = "which nobody here provides, and which can't be linked to another container: it has ";
        let begin = format!("CannotStartContainerError: image {name}:1: the component imports demo:");
        assert!(reason.starts_with(&begin) && reason.contains(&format!("{why}{what}")), "{reason}");
    }
}

#[test]
fn a_proxy_streams_and_counts() {
    let server = Server::start(&[]);
    server.push(fixtures::example_hello(), "hello:latest");
    server.push(fixtures::example_proxy(), "proxy:latest");
    server.create_service("hello", &register(&server, &definition("hello")), 1);
    let mut definition = definition("proxy");
    definition["memory"] = json!("32");
    // A window that does not end meanwhile.
    definition["containerDefinitions"][0]["environment"][2]["value"] = json!("100000000");
    server.create_service("proxy", &register(&server, &definition), 1);

    let send = |method: &str, path: &str, key: &str, body: &[u8]| {
        let headers = [("host", "proxy.default.localhost"), ("x-api-key", key)];
        http(method, &server.router, path, &headers, body)
    };
    let first = send("GET", "/", "one", b"");
    assert_eq!((first.status, first.text().as_str()), (200, "Hello from Coracle!\n"), "{}", first.head);
    assert_eq!(
        (first.header("ratelimit-limit"), first.header("ratelimit-remaining")),
        (Some("5"), Some("4"))
    );
    // More than the proxy's memory limit would hold if it were kept.
    let large: Vec<u8> = (0..48 << 20).map(|place: u32| place.to_le_bytes()[1]).collect();
    let echoed = send("POST", "/echo", "one", &large);
    assert!(echoed.status == 200 && echoed.body == large, "{} {} bytes", echoed.status, echoed.body.len());
    assert_eq!(send("GET", "/nothing", "one", b"").status, 404);
    assert_eq!(send("GET", "/", "one", b"").status, 200);
    assert_eq!(send("GET", "/", "one", b"").status, 200);
    let last = send("GET", "/", "one", b"");
    assert_eq!((last.status, last.header("ratelimit-remaining")), (429, Some("0")));
    assert!(last.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(send("GET", "/", "two", b"").status, 200, "another client is another count");
}

#[test]
fn a_report_is_made_as_often_as_its_task_runs() {
    let server = Server::start(&[]);
    server.push(fixtures::example_report(), "report:latest");
    let shop = server.path().join("shop");
    std::fs::create_dir(&shop).unwrap();
    let mut definition = definition("report");
    definition["volumes"][0]["host"]["sourcePath"] = json!(shop);
    let family = register(&server, &definition);
    let run = || {
        let stopped = server.wait_task(&server.run_task(&family, &json!({})), "STOPPED");
        stopped["containers"][0]["exitCode"].as_i64().unwrap()
    };
    assert_eq!(run(), 1, "there are no orders");
    let message = server.log_messages("/ecs/report").join("\n");
    assert!(message.contains("/shop/orders.csv: "), "{message}");

    let report = || {
        let file = std::fs::read_dir(shop.join("reports")).unwrap().next().unwrap().unwrap();
        std::fs::read_to_string(file.path()).unwrap()
    };
    std::fs::write(shop.join("orders.csv"), "product,quantity,price\ntea,2,3.50\ncup,1,12.00\ntea,1,3.50\n")
        .unwrap();
    assert_eq!(run(), 0);
    let lines: Vec<String> = report().lines().skip(1).map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "cup                   1        12.00",
            "tea                   3        10.50",
            "total                          22.50"
        ]
    );
    std::fs::write(shop.join("orders.csv"), "tea,1,3.50\nnonsense\ncake,1,2\n").unwrap();
    assert_eq!(run(), 0);
    assert!(
        report().ends_with("total                           5.50\n1 lines could not be read\n"),
        "{}",
        report()
    );
    let left = std::fs::read_dir(shop.join("reports")).unwrap().count();
    assert!(left <= 2, "a report for each day, and nothing else: {left}");
}

#[test]
fn workers_share_a_queue_of_pictures() {
    let server = Server::start(&[]);
    server.push(&built::thumbnails(), "thumbnails:latest");
    let photos = server.path().join("photos");
    std::fs::create_dir_all(photos.join("queue")).unwrap();
    let script = r#"
import struct, sys, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

for number in range(40):
    width, height = 300 + number, 200
    rows = b"".join(b"\0" + bytes([number, 100, 200]) * width for _ in range(height))
    with open(f"{sys.argv[1]}/{number}.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
with open(f"{sys.argv[1]}/broken.png", "wb") as file:
    file.write(b"no picture")
"#;
    let drawn = run(Command::new(python()).args(["-c", script]).arg(photos.join("queue")));
    assert!(drawn.status.success(), "{}", text(&drawn));

    let mut definition = definition("thumbnails");
    definition["volumes"][0]["host"]["sourcePath"] = json!(photos);
    register(&server, &definition);
    let network = "awsvpcConfiguration={subnets=[subnet-local]}";
    let started = server.aws(&[
        "ecs",
        "run-task",
        "--task-definition",
        "thumbnails",
        "--launch-type",
        "FARGATE",
        "--count",
        "4",
        "--network-configuration",
        network,
    ]);
    let tasks = started["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 4);
    let codes = tasks.iter().map(|task| {
        let stopped = server.wait_task(task["taskArn"].as_str().unwrap(), "STOPPED");
        stopped["containers"][0]["exitCode"].as_i64().unwrap()
    });
    assert_eq!(codes.sum::<i64>(), 1, "one of them met what is no picture");

    let count = |folder: &str| std::fs::read_dir(photos.join(folder)).unwrap().count();
    assert_eq!(
        [count("queue"), count("working"), count("thumbs"), count("done"), count("failed")],
        [0, 0, 40, 40, 1]
    );
    let thumb = std::fs::read(photos.join("thumbs/0.png")).unwrap();
    let number = |at: usize| u32::from_be_bytes(thumb[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), (128, 85), "of 300 × 200 pixels");
    let log = server.log_messages("/ecs/thumbnails");
    assert!(log.iter().any(|line| line.starts_with("broken.png: ")), "{log:?}");
    let made = log.iter().filter_map(|line| line.split(' ').next()?.parse::<u32>().ok()).sum::<u32>();
    assert_eq!(made, 40, "each by one worker: {log:?}");
}

#[test]
fn handlers_are_tested_as_functions() {
    built::test_examples(&[
        "hello-sdk",
        "url-shortener",
        "chat",
        "shop-frontend",
        "shop-backend",
        "shop-job",
    ]);
}

#[test]
fn short_addresses_are_given_once_counted_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_in(dir.path(), &[]);
    server.push(fixtures::example_url_shortener(), "url-shortener:latest");
    server.create_service("url-shortener", &register(&server, &definition("url-shortener")), 2);
    let send = |router: &str, method: &str, path: &str, body: &[u8]| {
        http(method, router, path, &[("host", "url-shortener.default.localhost")], body)
    };

    // Many at once, in many instances of two tasks: no code twice.
    let given: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let router = &server.router;
                scope.spawn(move || {
                    (0..5)
                        .map(|number| {
                            let address = format!("https://example.com/{client}/{number}");
                            let answer = send(router, "POST", "/", address.as_bytes());
                            assert_eq!(answer.status, 201, "{}", answer.text());
                            answer.text().trim().rsplit('/').next().unwrap().to_owned()
                        })
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 20, "{given:?}");
    let path = format!("/{}", given[7]);
    for _ in 0..3 {
        let answer = send(&server.router, "GET", &path, b"");
        assert_eq!((answer.status, answer.header("location")), (302, Some("https://example.com/1/2")));
    }
    assert_eq!(send(&server.router, "POST", "/", b"javascript:alert(1)").status, 400);
    assert_eq!(send(&server.router, "GET", "/nothing", b"").status, 404);
    server.terminate();

    let server = Server::start_in(dir.path(), &[]);
    server.wait_stable("url-shortener");
    assert_eq!(send(&server.router, "GET", &path, b"").status, 302);
    let stats: Value =
        serde_json::from_slice(&send(&server.router, "GET", &format!("{path}/stats"), b"").body).unwrap();
    assert_eq!(stats, json!({"address": "https://example.com/1/2", "visits": 4}));
    let next = send(&server.router, "POST", "/", b"https://example.com/later").text();
    assert!(!given.iter().any(|code| next.ends_with(&format!("/{code}\n"))), "{next} was given before");
}

/// A stream of server-sent events, as it comes.
struct Events {
    stream: TcpStream,
    seen: String,
}

impl Events {
    /// Listens to the chat; `last` is the number of the last message that was seen before.
    fn listen(server: &Server, last: Option<u32>) -> Self {
        let mut stream = TcpStream::connect(server.router.trim_start_matches("http://")).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let last = last.map_or_else(String::new, |last| format!("last-event-id: {last}\r\n"));
        let head = format!("GET /events HTTP/1.1\r\nhost: chat.default.localhost\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        Self { stream, seen: String::new() }
    }

    /// Reads until something is there.
    #[track_caller]
    fn wait(&mut self, text: &str) {
        let mut piece = [0; 4096];
        while !self.seen.contains(text) {
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "it ended without {text:?}: {}", self.seen);
            self.seen += &String::from_utf8_lossy(&piece[..count]);
        }
    }
}

#[test]
fn what_one_says_in_the_chat_all_hear() {
    let server = Server::start(&[]);
    server.push(fixtures::example_chat(), "chat:latest");
    server.create_service("chat", &register(&server, &definition("chat")), 2);
    let page = server.get("chat", "/");
    assert!(page.status == 200 && page.text().contains("new EventSource"), "{}", page.text());
    let say = |text: &str| {
        let headers = [("host", "chat.default.localhost"), ("content-type", "application/json")];
        let body = json!({"from": "ann", "text": text}).to_string();
        http("POST", &server.router, "/messages", &headers, body.as_bytes()).status
    };

    assert_eq!(say("before"), 201);
    // More listeners than tasks: some of each.
    let mut listeners: Vec<_> = (0..6).map(|_| Events::listen(&server, None)).collect();
    for listener in &mut listeners {
        listener.wait("id: 1\ndata: {\"from\":\"ann\",\"text\":\"before\"}\n\n");
    }
    assert_eq!(say("hello"), 201);
    for listener in &mut listeners {
        listener.wait("id: 2\ndata: {\"from\":\"ann\",\"text\":\"hello\"}\n\n");
    }
    assert_eq!(say(""), 400);
    let mut again = Events::listen(&server, Some(1));
    again.wait("hello");
    assert!(!again.seen.contains("before"), "{}", again.seen);

    // A deployment: each stream comes to its end, where a browser connects again, and is not cut off.
    server.ecs("UpdateService", &json!({"service": "chat", "forceNewDeployment": true}));
    for listener in &mut listeners {
        listener.wait("\r\n0\r\n\r\n");
    }
    server.wait_stable("chat");
    let mut again = Events::listen(&server, Some(2));
    assert_eq!(say("still here"), 201);
    again.wait("id: 3\n");
}

#[test]
fn a_shop_of_three_tiers_is_declared_in_one_file() {
    let server = Server::start(&[]);
    let port = free_port();
    let components = fixtures::example_shop_job().parent().unwrap();
    let file = server.path().join("shop.yaml");
    let declared = std::fs::read_to_string(example("shop/shop.yaml")).unwrap();
    let declared = declared
        .replace("9000", &port.to_string())
        .replace("../target/wasm32-wasip2/release", components.to_str().unwrap());
    std::fs::write(&file, declared).unwrap();
    let applied = server.coracle(&["apply", "-f", file.to_str().unwrap()]);
    assert!(applied.status.success(), "{}\n{}", text(&applied), server.log());

    let shop = format!("http://127.0.0.1:{port}");
    let get = |path: &str| http("GET", &shop, path, &[], b"");
    let page = get("/");
    assert!(page.status == 200 && page.text().contains("<li>tea: 3.50\n"), "{}", page.text());
    assert_eq!(get("/api/report").status, 404, "the job has not run");
    for (product, quantity) in [("tea", 2), ("cup", 1), ("tea", 1)] {
        let body = json!({"product": product, "quantity": quantity}).to_string();
        let order =
            http("POST", &shop, "/api/orders", &[("content-type", "application/json")], body.as_bytes());
        assert_eq!(order.status, 201, "{}", order.text());
    }

    let started = server.ecs(
        "RunTask",
        &json!({
            "cluster": "shop", "taskDefinition": "shop-job", "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a"]}},
        }),
    );
    let task = &started["tasks"][0]["taskArn"];
    let stopped = wait_for("the job", || {
        let described = server.ecs("DescribeTasks", &json!({"cluster": "shop", "tasks": [task]}));
        (described["tasks"][0]["lastStatus"] == "STOPPED").then(|| described["tasks"][0].clone())
    });
    assert_eq!(stopped["containers"][0]["exitCode"], 0, "{stopped:#}");
    let report = "1 × cup: 12.00\n3 × tea: 10.50\n";
    assert_eq!(server.log_messages("/shop/job").join("\n") + "\n", report);
    assert_eq!(get("/api/report").text(), report);
    let page = get("/").text();
    assert!(page.contains(&format!("<pre>\n{report}</pre>")), "{page}");
    // Services have names inside, and only the listener's rules outside.
    assert_eq!(get("/orders").status, 404);

    let deleted = server.coracle(&["delete", "-f", file.to_str().unwrap()]);
    assert!(deleted.status.success(), "{}\n{}", text(&deleted), server.log());
}
