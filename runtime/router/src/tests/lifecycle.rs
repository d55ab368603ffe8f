//! Connections: how long they live, how many there are, and how the router stops.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body_util::BodyExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::harness::*;
use crate::serve::Drained;
use crate::{Router, RouterConfig, RoutingTable};

#[tokio::test(start_paused = true)]
async fn shutdown_finishes_what_is_in_flight() {
    let (target, gate) = gated("w");
    let mut front = Front::web(&[&target]);
    let mut busy = front.connect();
    busy.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    let mut fresh = front.connect();
    let mut kept_alive = front.connect();
    gate.add_permits(1);
    busy.reply().await;
    kept_alive.send(GET_WEB).await;
    gate.add_permits(1);
    kept_alive.reply().await;
    busy.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;

    front.begin_shutdown();
    assert_eq!(fresh.rest().await, "", "a connection that never asked is closed");
    assert_eq!(kept_alive.rest().await, "", "an idle connection is closed");
    assert_eq!(target.in_flight(), 1);
    tokio::time::sleep(Duration::from_secs(5)).await;
    gate.add_permits(1);
    let reply = busy.reply().await;
    assert_eq!((reply.body.as_str(), reply.header("connection")), ("w", "close"));
    assert_eq!(busy.rest().await, "");
    assert_eq!(front.drained().await, Drained { aborted: 0 });
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever() {
    let (target, _gate) = gated("w");
    let mut front =
        Front::start(RouterConfig { drain_timeout: Duration::from_secs(7), ..Default::default() });
    front.publish_web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    let started = Instant::now();
    front.begin_shutdown();
    assert_eq!(client.rest().await, "");
    assert_eq!(front.drained().await, Drained { aborted: 1 });
    assert_eq!(started.elapsed().as_secs(), 7);
    assert_eq!(target.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn clients_that_make_no_progress_are_closed() {
    let (frames, body) = channel_body();
    let body = std::sync::Mutex::new(Some(body));
    let big = slot_with("big", move |_| {
        let body = body.lock().unwrap().take().unwrap();
        async { Ok(Response::new(body)) }
    });
    let front = Front::start(RouterConfig {
        header_read_timeout: Duration::from_secs(3),
        keep_alive_timeout: Duration::from_secs(20),
        client_stall_timeout: Duration::from_secs(10),
        ..RouterConfig::default()
    });
    front.publish(&[("us-east-1/default/web", &[&echo("w")]), ("us-east-1/default/big", &[&big])]);
    let about = |started: Instant, seconds: u64| {
        let took = started.elapsed();
        let expected = Duration::from_secs(seconds)..Duration::from_secs(seconds + 2);
        assert!(expected.contains(&took), "{took:?}, not {expected:?}");
    };

    // A head that trickles in: the bytes it does send don't gain it time.
    let started = Instant::now();
    let mut client = front.connect();
    client.send("GET / HT").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    client.send("TP/1.1\r\nHo").await;
    assert_eq!(client.rest().await, "");
    about(started, 3);

    // A connection between requests.
    let mut client = front.connect();
    assert_eq!(client.get().await.status, 200);
    let started = Instant::now();
    assert_eq!(client.rest().await, "");
    about(started, 20);

    // A body the target waits for.
    let started = Instant::now();
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert_eq!(client.rest().await, "");
    about(started, 10);

    // A response nobody reads.
    let started = Instant::now();
    let mut client = front.connect_buffered(1024);
    client.send("GET / HTTP/1.1\r\nHost: big.default.localhost\r\n\r\n").await;
    frames.send(Ok(vec![b'a'; 1024 * 1024].into())).unwrap();
    eventually(|| big.in_flight() == 1).await;
    eventually(|| big.in_flight() == 0).await;
    about(started, 10);
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_slow_target_is_not_a_slow_client() {
    let (target, gate) = gated("w");
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send(GET_WEB).await;
    tokio::time::sleep(Duration::from_secs(500)).await;
    gate.add_permits(1);
    assert_eq!(client.reply().await.body, "w");
}

#[tokio::test(start_paused = true)]
async fn an_upload_may_go_on_after_its_response() {
    let (done, mut collected) = tokio::sync::mpsc::unbounded_channel();
    let target = slot_with("w", move |request| {
        let done = done.clone();
        tokio::spawn(async move {
            let body = request.into_body().collect().await.map_err(|error| error.to_string());
            done.send(body.map(|body| body.to_bytes())).unwrap();
        });
        async { Ok(Response::new(full("accepted"))) }
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 8\r\n\r\n").await;
    assert_eq!(client.reply().await.body, "accepted");
    // Slower than a head or an idle connection may be, but never stalled.
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_secs(30)).await;
        client.send("x").await;
    }
    assert_eq!(collected.recv().await.unwrap().unwrap(), "xxxxxxxx");
    client.send(GET_WEB).await;
    assert_eq!(client.reply().await.body, "accepted");
}

#[tokio::test(start_paused = true)]
async fn a_full_router_lets_new_connections_wait_and_closes_idle_ones() {
    let (target, gate) = gated("w");
    let front = Front::start(RouterConfig { max_connections: 2, ..RouterConfig::default() });
    front.publish_web(&[&target]);
    let mut busy = front.connect();
    busy.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    let mut idle = front.connect();
    gate.add_permits(2);
    assert_eq!(idle.get().await.body, "w");
    busy.reply().await;
    busy.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;

    let started = Instant::now();
    let mut third = front.connect();
    third.send(GET_WEB).await;
    gate.add_permits(1);
    // Whichever request the permit went to, the busy connection is kept and the idle one made room.
    assert_eq!(idle.rest().await, "");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    gate.add_permits(2);
    assert_eq!(busy.reply().await.body, "w");
    assert_eq!(third.reply().await.body, "w");
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let front = Front::web(&[&slot("a"), &slot("b")]);
    let mut client = front.connect();
    client.send(GET_WEB.repeat(4)).await;
    for expected in ["a", "b", "a", "b"] {
        assert_eq!(client.reply().await.body, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn series_follow_the_table() {
    let front = Front::start(RouterConfig::default());
    let web = slot("w");
    // The same name in two regions: one series, until neither is left.
    front.publish(&[("us-east-1/default/web", &[&web]), ("eu-west-1/default/web", &[&web])]);
    front.ask(GET_WEB).await;
    let counted = r#"coracle_router_requests_total{cluster="default",code="200",service="web"}"#;
    assert!(front.metric(&format!("{counted} 1")));
    front.publish(&[("eu-west-1/default/web", &[&web])]);
    front.ask(GET_WEB).await;
    assert!(front.metric(&format!("{counted} 2")));
    front.publish(&[]);
    assert!(!exposition(&front.registry).contains(r#"service="web""#));
    front.publish_web(&[&web]);
    front.ask(GET_WEB).await;
    assert!(front.metric(&format!("{counted} 1")), "{}", exposition(&front.registry));
}

#[tokio::test(start_paused = true)]
async fn a_slot_tells_when_it_is_idle() {
    let (target, gate) = gated("w");
    let front = Front::web(&[&target]);
    target.idle().await;
    let mut client = front.connect();
    client.send(GET_WEB).await;
    eventually(|| target.in_flight() == 1).await;
    let idle = tokio::spawn({
        let target = Arc::clone(&target);
        async move { target.idle().await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!idle.is_finished());
    gate.add_permits(1);
    assert_eq!(client.reply().await.body, "w");
    idle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panicking_target_costs_its_connection_only() {
    let target = slot_with("w", |request| async move {
        assert_ne!(request.uri().path(), "/panic", "on purpose");
        Ok(Response::new(full("fine")))
    });
    let front = Front::web(&[&target]);
    let mut client = front.connect();
    client.send("GET /panic HTTP/1.1\r\nHost: web.default.localhost\r\n\r\n").await;
    assert_eq!(client.rest().await, "");
    assert_eq!(target.in_flight(), 0);
    assert_eq!(front.ask(GET_WEB).await.body, "fine");
    eventually(|| front.metric("coracle_router_connections 0")).await;
}

/// The real thing once: sockets, threads, the clock that ticks by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_sockets() {
    let router = Router::new(RouterConfig::default(), &prometheus::Registry::new()).unwrap();
    let targets: Vec<_> = (0..3).map(|index| echo(&format!("t{index}"))).collect();
    let mut table = RoutingTable::new("us-east-1");
    table.insert(name("us-east-1/default/web"), targets.clone(), String::new());
    router.publish(table);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(router.serve(listener, async {
        let _ = stopped.await;
    }));

    let clients = (0..16).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::new(TcpStream::connect(address).await.unwrap());
            for _ in 0..50 {
                client
                    .send("POST /x HTTP/1.1\r\nHost: web.default.localhost\r\nContent-Length: 5\r\n\r\nhello")
                    .await;
                let reply = client.reply().await;
                assert_eq!(reply.status, 200);
                assert!(reply.body.contains("x-forwarded-for: 127.0.0.1\n"), "{}", reply.body);
                assert!(reply.body.contains(&format!("x-forwarded-port: {}\n", address.port())));
                assert!(reply.body.ends_with("\nhello"));
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    shutdown.send(()).unwrap();
    let drained = tokio::time::timeout(Duration::from_secs(20), served).await.unwrap().unwrap().unwrap();
    assert_eq!(drained, Drained { aborted: 0 });
    assert!(targets.iter().all(|slot| slot.in_flight() == 0));
}
