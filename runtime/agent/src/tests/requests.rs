//! Requests while tasks come and go.

use std::sync::Arc;

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};

use super::node::{Node, call, end, eventually, get, http};
use crate::testing::{container, definition};
use crate::{CallError, ObservedRequest, RequestObserver};
use coracle_types::LastStatus;
use parking_lot::Mutex;

/// Keeps what it is told.
#[derive(Default)]
struct Seen(Mutex<Vec<ObservedRequest>>);

impl RequestObserver for Seen {
    fn ended(&self, request: &ObservedRequest) {
        self.0.lock().push(request.clone());
    }
}

#[tokio::test]
async fn who_watches_is_told_what_each_request_used() {
    for image in ["http", "http3"] {
        let seen = Arc::new(Seen::default());
        let mut node = Node::observed(Some(Arc::clone(&seen) as Arc<dyn RequestObserver>));
        let task = node.assign(&definition(vec![container("web", image)]));
        node.running(task).await;
        let endpoint = node.endpoint().await;
        let mut fuel = Vec::new();
        for (count, path) in ["/hello?a=b", "/hello?a=b", "/trap"].into_iter().enumerate() {
            if let Ok(response) = call(&endpoint, path).await {
                response.into_body().collect().await.unwrap();
            }
            eventually("the request's end is told", || seen.0.lock().len() > count).await;
            let told = seen.0.lock()[count].clone();
            assert_eq!((told.path.as_str(), told.task, &*told.container), (path, task, "web"));
            let usage = told.usage.unwrap_or_else(|| panic!("{image}: nothing is known of {path}"));
            assert!(usage.memory >= 64 * 1024, "{image}: {usage:?}");
            fuel.push(usage.fuel.unwrap());
            match path {
                "/trap" => assert!(told.answer.unwrap().unwrap_err().contains("unreachable")),
                _ => assert_eq!(told.answer, Some(Ok(StatusCode::OK))),
            }
        }
        assert!(fuel.iter().all(|&fuel| (100..10_000_000).contains(&fuel)), "{image}: {fuel:?}");
    }
}

#[tokio::test]
async fn a_stop_lets_requests_in_flight_end_and_gives_new_ones_back() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![container("web", "http")]));
    node.running(task).await;
    let endpoint = node.endpoint().await;

    let slow = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { get(&endpoint, "/slow?ms=300").await }
    });
    eventually("the slow request is in flight", || endpoint.target.in_flight() == 1).await;
    node.stop(task);
    let draining = node.until(task, "DEACTIVATING", |seen| seen.status == LastStatus::Deactivating).await;
    assert_eq!(draining.stop.unwrap().reason, "enough");
    node.endpoints(<[_]>::is_empty).await;

    // The router may not have taken the list in yet. Its request comes back as it was.
    let refused = loop {
        let request = Request::get("/hello").header("x-mine", "1").body(Empty::new()).unwrap();
        match http(&endpoint).call(request).await {
            Err(CallError::Draining(request)) => break request,
            Ok(_) => tokio::task::yield_now().await,
            Err(CallError::Handle(error)) => panic!("a request was lost: {error}"),
        }
    };
    assert_eq!((refused.uri().path(), refused.headers()["x-mine"].as_bytes()), ("/hello", &b"1"[..]));

    assert_eq!(slow.await.unwrap().0, StatusCode::OK);
    let stopped = node.stopped(task).await;
    assert_eq!(end(&stopped, 0), (Some(0), None));
}

#[tokio::test]
async fn a_body_that_is_still_being_read_is_in_flight() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![container("web", "http")]));
    node.running(task).await;
    let endpoint = node.endpoint().await;
    let response = call(&endpoint, "/drip?chunks=5&ms=20").await.unwrap();
    assert_eq!(endpoint.target.in_flight(), 1);
    node.stop(task);
    node.endpoints(<[_]>::is_empty).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.iter().filter(|&&byte| byte == b'\n').count(), 5);
    assert_eq!(end(&node.stopped(task).await, 0), (Some(0), None));
    assert_eq!(endpoint.target.in_flight(), 0);
}

#[tokio::test]
async fn a_request_that_outlasts_the_stop_timeout_is_cut_off() {
    let mut node = Node::new();
    let mut web = container("web", "http");
    web.stop_timeout_s = Some(0);
    let task = node.assign(&definition(vec![web]));
    node.running(task).await;
    let endpoint = node.endpoint().await;
    let slow = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { call(&endpoint, "/slow?ms=600000").await.map(|response| response.status()) }
    });
    eventually("the slow request is in flight", || endpoint.target.in_flight() == 1).await;
    node.stop(task);
    let stopped = node.stopped(task).await;
    let (code, reason) = end(&stopped, 0);
    assert_eq!(code, Some(137));
    assert!(reason.unwrap().contains("stopTimeout"), "{reason:?}");
    assert!(slow.await.unwrap().is_err());
}

#[tokio::test]
async fn a_rolling_change_loses_no_request() {
    let mut node = Node::new();
    let web = definition(vec![container("web", "http")]);
    let old = node.assign(&web);
    node.running(old).await;
    // A router: takes the newest list, tries another when a task is draining.
    let endpoints = node.agent.endpoints();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (endpoints, stopped) = (endpoints.clone(), stopped.clone());
            tokio::spawn(async move {
                let mut answered = 0_u32;
                while !*stopped.borrow() {
                    let endpoint = endpoints.borrow().first().cloned();
                    let Some(endpoint) = endpoint else { panic!("no task is ready") };
                    match call(&endpoint, "/hello").await {
                        Ok(response) => {
                            assert_eq!(response.status(), StatusCode::OK);
                            response.into_body().collect().await.unwrap();
                            answered += 1;
                        }
                        Err(CallError::Draining(_)) => tokio::task::yield_now().await,
                        Err(CallError::Handle(error)) => panic!("a request was lost: {error}"),
                    }
                }
                answered
            })
        })
        .collect();
    let mut current = old;
    for _ in 0..3 {
        let next = node.assign(&web);
        node.running(next).await;
        node.stop(current);
        assert_eq!(end(&node.stopped(current).await, 0).0, Some(0));
        current = next;
    }
    stop.send_replace(true);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn ports_name_the_endpoint() {
    let mut node = Node::new();
    let mut web = container("web", "http");
    web.port_mappings = vec![
        coracle_types::PortMapping { container_port: Some(80), rest: Default::default() },
        coracle_types::PortMapping { container_port: None, rest: Default::default() },
    ];
    let task = node.assign(&definition(vec![web]));
    node.running(task).await;
    assert_eq!(node.endpoint().await.ports, [80]);
}
