//! Where requests go: by name, by load, and when targets come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use http::Response;
use tokio::time::Instant;

use super::harness::*;
use crate::{CallError, RouterConfig, RoutingTable, Slot};

#[tokio::test(start_paused = true)]
async fn a_host_finds_its_service_and_the_answer_names_the_task() {
    let front = Front::start(RouterConfig::default());
    front.publish(&[("us-east-1/default/web", &[&slot("w")]), ("eu-west-1/prod/api", &[&slot("a")])]);
    for (host, task) in [
        ("web.default.localhost", "w"),
        ("WEB.Default.LOCALHOST:8080", "w"),
        ("web.default.us-east-1.localhost", "w"),
        ("api.prod.localhost", "a"),
        ("api.prod.eu-west-1.localhost:80", "a"),
    ] {
        let reply = front.ask(&format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, task), "{host}");
        assert_eq!(reply.header("x-coracle-task"), task);
        assert!(!reply.header("date").is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn the_routing_header_goes_above_the_host_and_stays_here() {
    let front = Front::start(RouterConfig::default());
    front.publish(&[("us-east-1/default/web", &[&echo("w")]), ("eu-west-1/prod/api", &[&echo("a")])]);
    for (header, task) in [
        ("web", "w"),
        ("default/web", "w"),
        ("prod/api", "a"),
        ("eu-west-1/prod/api", "a"),
        ("Prod/API", "a"),
    ] {
        let host = if task == "w" { "api.prod.localhost" } else { "web.default.localhost" };
        let reply = front
            .ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Coracle-Service: {header}\r\n\r\n"))
            .await;
        assert_eq!(reply.header("x-coracle-task"), task, "{header}: {reply:?}");
        assert!(!reply.body.contains("coracle"), "{}", reply.body);
    }
    // A client of HTTP/1.0 may have no host at all.
    let reply = front.ask("GET / HTTP/1.0\r\nX-Coracle-Service: web\r\n\r\n").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test(start_paused = true)]
async fn targets_see_the_path_the_host_and_what_a_load_balancer_adds() {
    let front = Front::web(&[&echo("w")]);
    let reply = front
        .ask(
            "POST http://WEB.default.localhost:8080/a/b?c=d HTTP/1.1\r\nHost: ignored.example\r\n\
             Content-Length: 5\r\nConnection: x-secret\r\nX-Secret: 1\r\nX-Forwarded-For: 10.0.0.1\r\n\
             X-Amzn-Trace-Id: Root=1-0-1\r\n\r\nhello",
        )
        .await;
    let (ids, rest): (Vec<&str>, Vec<&str>) =
        reply.body.lines().partition(|line| line.starts_with("trace") || line.starts_with("x-amzn"));
    assert!(ids[0].starts_with("traceparent: 00-") && ids[1].ends_with(";Root=1-0-1"), "{ids:?}");
    assert_eq!(
        rest,
        [
            "POST /a/b?c=d",
            "content-length: 5",
            "host: WEB.default.localhost:8080",
            "x-forwarded-for: 10.0.0.1, 192.0.2.7",
            "x-forwarded-port: 8080",
            "x-forwarded-proto: http",
            "hello",
        ],
    );
}

#[tokio::test(start_paused = true)]
async fn the_default_service_takes_what_names_no_service() {
    let front = Front::start(RouterConfig::default());
    let mut table = RoutingTable::new("us-east-1");
    table.insert(name("us-east-1/default/web"), vec![slot("w")], String::new());
    table.set_default_service(name("us-east-1/default/web"));
    front.router.publish(table);
    for head in ["GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        assert_eq!(front.ask(head).await.body, "w");
    }
    front.ask("GET / HTTP/1.1\r\nHost: nope.default.localhost\r\n\r\n").await.expect(404, "unknown_service");
}

#[tokio::test(start_paused = true)]
async fn the_target_with_the_fewest_requests_in_flight_is_picked() {
    let (a, gate_a) = gated("a");
    let (b, gate_b) = gated("b");
    let front = Front::web(&[&a, &b]);
    let mut clients: Vec<_> = (0..4).map(|_| front.connect()).collect();
    for (index, client) in clients.iter_mut().enumerate() {
        client.send(GET_WEB).await;
        eventually(|| (a.in_flight() + b.in_flight()) as usize == index + 1).await;
    }
    assert_eq!((a.in_flight(), b.in_flight()), (2, 2));

    // One target gets through its requests, the other doesn't: all new ones go to the first.
    gate_a.add_permits(2);
    eventually(|| a.in_flight() == 0).await;
    gate_a.add_permits(100);
    let mut client = front.connect();
    for _ in 0..5 {
        assert_eq!(client.get().await.body, "a");
    }
    assert_eq!(b.in_flight(), 2);
    gate_b.add_permits(2);
    eventually(|| b.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn idle_targets_take_turns() {
    let front = Front::web(&[&slot("a"), &slot("b"), &slot("c")]);
    let mut client = front.connect();
    let mut order = String::new();
    for _ in 0..6 {
        order.push_str(&client.get().await.body);
    }
    assert_eq!(order, "abcabc");
}

#[tokio::test(start_paused = true)]
async fn a_draining_target_hands_the_request_on_whole() {
    let (old, new) = (draining("old"), echo("new"));
    let front = Front::web(&[&old, &new]);
    for _ in 0..4 {
        let reply = front
            .ask("POST /p HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        assert_eq!((reply.status, reply.header("x-coracle-task")), (200, "new"));
        assert!(reply.body.starts_with("POST /p\n") && reply.body.ends_with("\nabc"), "{}", reply.body);
    }
    eventually(|| old.in_flight() == 0 && new.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn when_all_targets_drain_the_request_waits_for_the_next_table() {
    let front = Front::web(&[&draining("old1"), &draining("old2")]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    front.publish_web(&[&draining("old3")]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    front.publish_web(&[&slot("new")]);
    assert_eq!(client.reply().await.body, "new");
}

#[tokio::test(start_paused = true)]
async fn draining_targets_are_tried_once_each_and_the_wait_is_bounded() {
    let tries = Arc::new(AtomicU32::new(0));
    let counted = |id: &str| {
        let tries = Arc::clone(&tries);
        slot_with(id, move |request| {
            tries.fetch_add(1, Ordering::Relaxed);
            async { Err(CallError::NotStarted(request)) }
        })
    };
    let targets: Vec<_> = (0..3).map(|index| counted(&format!("t{index}"))).collect();
    let front = Front::web(&targets.iter().collect::<Vec<_>>());
    let started = Instant::now();
    let reply = front.ask(GET_WEB).await;
    reply.expect(503, "no_ready_target");
    assert!(reply.body.contains("its 3 targets are draining"), "{}", reply.body);
    assert_eq!(tries.load(Ordering::Relaxed), 3);
    let waited = started.elapsed();
    assert!((1000..1100).contains(&waited.as_millis()), "{waited:?}");

    // With more targets than attempts there is nothing to wait for.
    let targets: Vec<_> = (0..30).map(|index| counted(&format!("t{index}"))).collect();
    front.publish_web(&targets.iter().collect::<Vec<_>>());
    tries.store(0, Ordering::Relaxed);
    front.ask(GET_WEB).await.expect(503, "no_ready_target");
    assert_eq!(tries.load(Ordering::Relaxed), 8);
}

#[tokio::test(start_paused = true)]
async fn a_service_without_targets_holds_requests_for_a_moment() {
    let front = Front::web(&[]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    front.publish_web(&[&slot("new")]);
    assert_eq!(client.reply().await.body, "new");

    front.publish_web(&[]);
    let started = Instant::now();
    client.send(GET_WEB).await;
    let reply = client.reply().await;
    reply.expect(503, "no_ready_target");
    assert_eq!(reply.header("retry-after"), "1");
    assert!(
        reply.body.contains("default/web") && reply.body.contains("0 of 1 tasks are running"),
        "{reply:?}"
    );
    assert!((1000..1100).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());

    client.send(GET_WEB).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    front.publish(&[]);
    let reply = client.reply().await;
    assert!(reply.expect(503, "no_ready_target").body.contains("deleted"), "{reply:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_may_have_its_first_target_started_by_a_request() {
    let front = Front::start(RouterConfig::default());
    let publish = |targets: Vec<Arc<Slot>>| {
        let mut table = RoutingTable::new("us-east-1");
        table.insert(name("us-east-1/default/web"), targets, String::new());
        table.activate(&name("us-east-1/default/web"));
        front.router.publish(table);
    };
    publish(vec![]);
    let mut activations = front.router.activations().unwrap();
    let (mut first, mut second) = (front.connect(), front.connect());
    first.send(GET_WEB).await;
    second.send(GET_WEB).await;
    assert_eq!(activations.recv().await.unwrap(), "us-east-1/default/web");
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(activations.try_recv().is_err(), "it is asked for once");
    tokio::time::sleep(Duration::from_secs(15)).await;
    first.reply().await.expect(503, "no_ready_target");
    second.reply().await.expect(503, "no_ready_target");
    first.send(GET_WEB).await;
    assert_eq!(activations.recv().await.unwrap(), "us-east-1/default/web", "nobody came: asked again");
    second.send(GET_WEB).await;
    publish(vec![slot("w")]);
    assert_eq!((first.reply().await.body, second.reply().await.body), ("w".to_owned(), "w".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_requests_wait() {
    let front = Front::start(RouterConfig { max_waiting: 2, ..RouterConfig::default() });
    front.publish_web(&[]);
    let mut waiting = [front.connect(), front.connect()];
    for client in &mut waiting {
        client.send(GET_WEB).await;
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let started = Instant::now();
    front.ask(GET_WEB).await.expect(503, "no_ready_target");
    assert!(started.elapsed() < Duration::from_millis(100), "{:?}", started.elapsed());
    front.publish_web(&[&slot("new")]);
    for client in &mut waiting {
        assert_eq!(client.reply().await.body, "new");
    }
}

#[tokio::test(start_paused = true)]
async fn rolling_updates_lose_no_request() {
    /// A target that drains from the moment it is told to.
    fn drainable(id: &str) -> (Arc<Slot>, Arc<AtomicBool>) {
        let drains = Arc::new(AtomicBool::new(false));
        let target = slot_with(id, {
            let drains = Arc::clone(&drains);
            move |request| {
                let drains = drains.load(Ordering::Relaxed);
                async move {
                    if drains {
                        return Err(CallError::NotStarted(request));
                    }
                    Ok(Response::new(request.into_body()))
                }
            }
        });
        (target, drains)
    }

    let (first, mut old_drains) = drainable("t0");
    let front = Front::web(&[&first]);
    let mut clients: Vec<_> = (0..8).map(|_| front.connect()).collect();
    for round in 1..50 {
        // The old target begins to drain before the table says so, as it may in a real update.
        old_drains.store(true, Ordering::Relaxed);
        for client in &mut clients {
            client
                .send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 2\r\n\r\nhi")
                .await;
        }
        tokio::time::sleep(Duration::from_millis(round % 7)).await;
        let (new, new_drains) = drainable(&format!("t{round}"));
        old_drains = new_drains;
        front.publish_web(&[&new]);
        for client in &mut clients {
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.body.as_str()), (200, "hi"));
            assert_eq!(reply.header("x-coracle-task"), format!("t{round}"));
        }
    }
}
