//! Requests per second through the router to a target in this process that answers at once, over loopback:
//!
//! ```sh
//! cargo bench -p coracle-router --bench serving
//! ```
//!
//! The default port and a listener with 100 rules are measured in turns, so that what rules, target groups
//! and their bounds cost can be told from everything else. The load comes from the same process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_router::{
    Action, Backend, CallError, Condition, Forward, HealthCheck, ListenerAttributes, ListenerConfig,
    ListenerProtocol, ListenerState, LoadBalancer, LoadBalancerAttributes, RegisteredTarget, RequestBody,
    ResponseBody, Router, RouterConfig, RoutingTable, Rule, ServiceName, Slot, Target, TargetGroup,
    TargetGroupAttributes, TargetId, TargetProtocol, TextMatch, WeightedGroup,
};
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

struct Hello;

impl Target for Hello {
    fn call(
        &self,
        _request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<ResponseBody>, CallError>> {
        let body = Full::new(Bytes::from_static(b"Hello, world!\n")).map_err(|never| match never {});
        let response = Response::builder().header("content-type", "text/plain").body(body.boxed_unsync());
        Box::pin(async { Ok(response.expect("this is a response")) })
    }
}

#[tokio::main]
async fn main() {
    let (rounds, round) = match std::env::args().any(|arg| arg == "--bench") {
        true => (ROUNDS, ROUND),
        false => (1, Duration::from_millis(50)),
    };
    let router = Router::new(RouterConfig::default(), &prometheus::Registry::new()).expect("a new registry");
    router.publish(table());
    let socket = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let default = socket.local_addr().expect("it is bound");
    tokio::spawn(router.clone().serve(socket, std::future::pending()));
    let mut states = router.listener_states();
    let states = states.wait_for(|states| !states.is_empty()).await.expect("the router serves").clone();
    let Some(ListenerState::Listening(listener)) = states.get("listener") else { panic!("{states:?}") };

    let (mut by_default, mut by_listener) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        by_default.push(load(default, round).await);
        by_listener.push(load(*listener, round).await);
    }
    println!("default port                 {:>9.0} requests/s", median(&mut by_default));
    println!("a listener with 100 rules    {:>9.0} requests/s", median(&mut by_listener));
}

fn table() -> RoutingTable {
    let slots: Vec<Arc<Slot>> = (0..3).map(|n| Slot::new(n.to_string(), Arc::new(Hello))).collect();
    let service = ServiceName {
        region: "us-east-1".to_owned(),
        cluster: "default".to_owned(),
        service: "hello".to_owned(),
    };
    let targets = slots.iter().map(|slot| RegisteredTarget {
        id: TargetId { id: slot.id().to_owned(), port: 80 },
        backend: Backend::InProcess(Arc::clone(slot)),
    });
    let group = TargetGroup {
        id: "group".to_owned(),
        name: "group".to_owned(),
        protocol: TargetProtocol::Http1,
        tls: false,
        health_check: HealthCheck::default(),
        attributes: TargetGroupAttributes::default(),
        activates: false,
        targets: targets.collect(),
    };
    let forward = || {
        let groups = vec![WeightedGroup { group: "group".to_owned(), weight: 1 }];
        Action::Forward(Forward { groups, stickiness: None })
    };
    let rule = |n: u32| Rule {
        id: n.to_string(),
        priority: n,
        conditions: vec![Condition::PathPattern(TextMatch {
            values: vec![format!("/service{n}/*")],
            regex_values: Vec::new(),
        })],
        transforms: Vec::new(),
        action: forward(),
        rate_limit: None,
    };
    let listener = ListenerConfig {
        attributes: ListenerAttributes::default(),
        id: "listener".to_owned(),
        load_balancer: LoadBalancer {
            id: "lb".to_owned(),
            name: "lb".to_owned(),
            attributes: LoadBalancerAttributes::DEFAULT,
        },
        address: ([127, 0, 0, 1], 0).into(),
        protocol: ListenerProtocol::Http,
        rules: (1..=100).map(rule).collect(),
        default_action: forward(),
    };
    let mut table = RoutingTable::new("us-east-1");
    table.insert(service, slots, String::new());
    table.insert_target_group(group);
    table.insert_listener(listener);
    table
}

/// Requests per second over connections that each ask again as soon as they are answered.
async fn load(address: std::net::SocketAddr, round: Duration) -> f64 {
    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nHost: hello.default.localhost\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
    let started = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.expect("the router listens");
                stream.set_nodelay(true).expect("the connection is open");
                let (mut buffer, mut answers) = (vec![0; 4096], 0_u32);
                while started.elapsed() < round {
                    stream.write_all(REQUEST).await.expect("the connection is kept");
                    let mut filled = 0;
                    while !buffer[..filled].ends_with(b"world!\n") {
                        let read = stream.read(&mut buffer[filled..]).await.expect("an answer");
                        assert!(read > 0, "the connection was closed");
                        filled += read;
                    }
                    assert!(
                        buffer.starts_with(b"HTTP/1.1 200"),
                        "{}",
                        String::from_utf8_lossy(&buffer[..filled])
                    );
                    answers += 1;
                }
                answers
            })
        })
        .collect();
    let mut answers = 0;
    for client in clients {
        answers += client.await.expect("no client panics");
    }
    f64::from(answers) / started.elapsed().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
