//! Listeners with rules: ports, actions, target groups.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::harness::*;
use crate::{
    Action, Backend, Condition, FixedResponse, Forward, HealthCheck, ListenerAttributes, ListenerConfig,
    ListenerProtocol, ListenerState, LoadBalancer, LoadBalancerAttributes, Redirect, RedirectStatus,
    RegisteredTarget, Rewrite, Router, RouterConfig, RoutingTable, Rule, Slot, TargetGroup,
    TargetGroupAttributes, TargetId, TargetProtocol, TextMatch, Transform, WeightedGroup,
};

pub(super) fn group(id: &str, targets: &[&Arc<Slot>]) -> TargetGroup {
    let targets = targets
        .iter()
        .map(|slot| RegisteredTarget {
            id: TargetId { id: slot.id().to_owned(), port: 80 },
            backend: Backend::InProcess(Arc::clone(slot)),
        })
        .collect();
    TargetGroup {
        id: id.to_owned(),
        name: id.to_owned(),
        protocol: TargetProtocol::Http1,
        tls: false,
        health_check: HealthCheck { is_enabled: false, ..HealthCheck::default() },
        attributes: TargetGroupAttributes::default(),
        activates: false,
        targets,
    }
}

pub(super) fn forward(groups: &[(&str, u32)]) -> Action {
    let groups =
        groups.iter().map(|(group, weight)| WeightedGroup { group: (*group).to_owned(), weight: *weight });
    Action::Forward(Forward { groups: groups.collect(), stickiness: None })
}

pub(super) fn on_path(id: &str, priority: u32, path: &str, action: Action) -> Rule {
    let matches = TextMatch { values: vec![path.to_owned()], regex_values: vec![] };
    let conditions = vec![Condition::PathPattern(matches)];
    Rule { id: id.to_owned(), priority, conditions, transforms: vec![], action, rate_limit: None }
}

pub(super) fn listener(rules: Vec<Rule>, default_action: Action) -> ListenerConfig {
    ListenerConfig {
        id: "listener".to_owned(),
        load_balancer: LoadBalancer {
            id: "lb".to_owned(),
            name: "lb".to_owned(),
            attributes: LoadBalancerAttributes::default(),
        },
        address: ([127, 0, 0, 1], 0).into(),
        attributes: ListenerAttributes::default(),
        protocol: ListenerProtocol::Http,
        rules,
        default_action,
    }
}

pub(super) fn table(listener: ListenerConfig, groups: Vec<TargetGroup>) -> RoutingTable {
    let mut table = RoutingTable::new("us-east-1");
    table.insert_listener(listener);
    groups.into_iter().for_each(|group| table.insert_target_group(group));
    table
}

pub(super) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: Shop.example.com:8443\r\n\r\n")
}

#[tokio::test(start_paused = true)]
async fn actions_are_done() {
    let front = Front::start(RouterConfig::default());
    let fixed = Action::FixedResponse(FixedResponse {
        status: 404,
        content_type: Some("application/json".to_owned()),
        body: "{}".to_owned(),
    });
    let to_https = Action::Redirect(Redirect {
        protocol: "HTTPS".to_owned(),
        port: "443".to_owned(),
        ..Redirect::unchanged(RedirectStatus::Permanent)
    });
    let rewrite =
        |regex: &str, replace: &str| vec![Rewrite { regex: regex.to_owned(), replace: replace.to_owned() }];
    let api = Rule {
        transforms: vec![
            Transform::Url(rewrite("^/api/", "/v2/")),
            Transform::HostHeader(rewrite("^Shop", "internal")),
        ],
        ..on_path("api", 2, "/api/*", forward(&[("g", 1)]))
    };
    let rules = vec![
        on_path("old", 1, "/old*", to_https),
        api,
        on_path("none", 3, "/none", forward(&[("empty", 1)])),
        on_path("off", 4, "/off", forward(&[("g", 0)])),
    ];
    front.router.publish(table(listener(rules, fixed), vec![group("g", &[&echo("t")]), group("empty", &[])]));
    let mut client = front.listen("listener")();

    client.send(get("/old/a?x=1")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("location")), (301, "https://Shop.example.com:443/old/a?x=1"));
    client.send(get("/api/users?x=1")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("x-coracle-task")), (200, "t"));
    assert!(reply.body.starts_with("GET /v2/users?x=1\n"), "{}", reply.body);
    assert!(reply.body.contains("host: internal.example.com:8443"), "{}", reply.body);
    assert!(reply.body.contains("x-forwarded-port: 8443"), "{}", reply.body);
    client.send(get("/none")).await;
    client.reply().await.expect(503, "no_ready_target");
    client.send(get("/off")).await;
    client.reply().await.expect(503, "no_target_group");
    client.send(get("/")).await;
    let reply = client.reply().await;
    assert_eq!(
        (reply.status, reply.header("content-type"), reply.body.as_str()),
        (404, "application/json", "{}")
    );
    let counted = r#"coracle_target_group_requests_total{code="200",load_balancer="lb",target_group="g"} 1"#;
    assert!(front.metric(counted), "{}", exposition(&front.registry));
}

#[tokio::test(start_paused = true)]
async fn weights_split_traffic_and_change_at_once() {
    let front = Front::start(RouterConfig::default());
    let (blue, green) = (slot("blue"), slot("green"));
    let publish = |weights: [u32; 2]| {
        let action = forward(&[("blue", weights[0]), ("green", weights[1])]);
        let groups = vec![group("blue", &[&blue]), group("green", &[&green])];
        front.router.publish(table(listener(vec![], action), groups));
    };
    publish([90, 10]);
    let mut client = front.listen("listener")();
    for (weights, share) in [([90, 10], 0.1), ([25, 75], 0.75), ([0, 1], 1.0)] {
        publish(weights);
        let mut to_green = 0;
        for _ in 0..2000 {
            client.send(get("/")).await;
            to_green += u32::from(client.reply().await.body == "green");
        }
        assert!((f64::from(to_green) / 2000.0 - share).abs() < 0.01, "{weights:?}: {to_green}");
    }
}

#[tokio::test]
async fn ports_open_and_close_with_their_listeners() {
    let default_port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = Router::new(RouterConfig::default(), &prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(router.clone().serve(default_port, async {
        let _ = stopped.await;
    }));
    let group = || vec![group("g", &[&slot("t")])];
    router.publish(table(listener(vec![], forward(&[("g", 1)])), group()));
    let mut states = router.listener_states();
    let state = states.wait_for(|states| states.contains_key("listener")).await.unwrap()["listener"].clone();
    let ListenerState::Listening(address) = state else { panic!("{state:?}") };
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send(get("/")).await;
    assert_eq!(client.reply().await.body, "t");

    let on_taken =
        ListenerConfig { address: taken.local_addr().unwrap(), ..listener(vec![], forward(&[("g", 1)])) };
    router.publish(table(on_taken, group()));
    states
        .wait_for(
            |states| matches!(&states["listener"], ListenerState::Failed(why) if why.contains("listen on")),
        )
        .await
        .unwrap();
    assert_eq!(client.rest().await, "", "connections of a closed port are closed when they are idle");
    drop(taken);
    states.wait_for(|states| matches!(states["listener"], ListenerState::Listening(_))).await.unwrap();

    router.publish(RoutingTable::new("us-east-1"));
    states.wait_for(|states| states.is_empty()).await.unwrap();
    drop(stop);
    assert_eq!(served.await.unwrap().unwrap().aborted, 0);
}

#[tokio::test(start_paused = true)]
async fn every_answer_has_the_headers_of_its_listener() {
    let front = Front::start(RouterConfig::default());
    let fixed =
        Action::FixedResponse(FixedResponse { status: 404, content_type: None, body: "nothing".to_owned() });
    let rules = vec![
        on_path("target", 1, "/target", forward(&[("g", 1)])),
        on_path("none", 2, "/none", forward(&[("empty", 1)])),
    ];
    let attributes =
        ListenerAttributes::parse([("routing.http.response.x_frame_options.header_value", "DENY")]);
    let with = ListenerConfig { attributes, ..listener(rules, fixed) };
    let groups = || vec![group("g", &[&echo("t")]), group("empty", &[])];
    front.router.publish(table(with.clone(), groups()));
    let mut client = front.listen("listener")();
    for (path, status) in [("/target", 200), ("/none", 503), ("/", 404)] {
        client.send(get(path)).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.header("x-frame-options")), (status, "DENY"), "{path}");
    }
    front
        .router
        .publish(table(ListenerConfig { attributes: ListenerAttributes::default(), ..with }, groups()));
    client.send(get("/target")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.header("x-frame-options")), (200, ""));
}

#[tokio::test]
async fn targets_are_called_by_the_worker_of_the_connection() {
    let default_port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = RouterConfig { worker_threads: 1, ..RouterConfig::default() };
    let router = Router::new(config, &prometheus::Registry::new()).unwrap();
    let served = tokio::spawn(router.clone().serve(default_port, std::future::pending()));
    let near = slot_with("near", |_| async {
        Ok(http::Response::new(full(&format!("worker {}", crate::workers::place()))))
    });
    router.publish(table(listener(vec![], forward(&[("g", 1)])), vec![group("g", &[&near])]));
    let mut states = router.listener_states();
    let state = states.wait_for(|states| states.contains_key("listener")).await.unwrap()["listener"].clone();
    let ListenerState::Listening(address) = state else { panic!("{state:?}") };
    let mut client = Client::new(TcpStream::connect(address).await.unwrap());
    client.send(get("/")).await;
    assert_eq!(client.reply().await.body, "worker 1");
    served.abort();
}
