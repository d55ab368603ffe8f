use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use axum::body::Body;
use http::Request;
use serde_json::json;

use crate::harness::Harness;

/// The smallest component: a header and nothing else.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[tokio::test]
async fn images_are_pushed_and_listed() {
    let harness = Harness::new();
    let push = async |reference: &str, body: &'static [u8]| {
        let request = Request::post(format!("/_coracle/images?reference={reference}"));
        harness.send(request.body(Body::from(body)).unwrap()).await
    };
    let pushed = push("acme%2Fweb:1.4", COMPONENT).await;
    assert_eq!(pushed.status, 200, "{}", pushed.text);
    assert_eq!(pushed.json()["size"], 8);
    let listed = harness.send(Request::get("/_coracle/images").body(Body::empty()).unwrap()).await.json();
    let image = &listed["images"][0];
    assert_eq!((&image["name"], &image["tag"]), (&json!("acme/web"), &json!("1.4")));
    assert_eq!(image["digest"], pushed.json()["digest"]);
    assert!(image["pushedAt"].as_f64().unwrap() > 1.7e9);
    for (reference, body, why) in [
        ("", COMPONENT, "?reference=NAME:TAG"),
        ("a%20b", COMPONENT, "not an image reference"),
        ("acme/web:1", b"#!/bin/sh".as_slice(), "not a WebAssembly component"),
    ] {
        let refused = push(reference, body).await;
        assert_eq!(refused.status, 400);
        assert!(refused.json()["message"].as_str().unwrap().contains(why), "{}", refused.text);
    }
}

#[tokio::test]
async fn pages_of_other_sites_push_and_reset_nothing() {
    let harness = Harness::with(|api| api, |config| config.allow_reset = true);
    let send = async |path: &str, origin: &str| {
        let request = Request::post(path).header("host", "127.0.0.1:4566").header("origin", origin);
        harness.send(request.body(Body::from(COMPONENT)).unwrap()).await.status
    };
    for path in ["/_coracle/images?reference=acme/web", "/_coracle/reset"] {
        for origin in ["https://example.com", "null", "http://127.0.0.1:8080"] {
            assert_eq!(send(path, origin).await, 403, "{path} {origin}");
        }
        assert_eq!(send(path, "http://127.0.0.1:4566").await, 200, "{path}");
    }
}

/// Whether a future has not ended yet, after it got on as far as it could.
async fn is_pending(future: &mut (impl Future + Unpin)) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *future).poll(context).is_pending())).await
}

#[tokio::test]
async fn few_images_are_on_their_way_in_at_once() {
    let harness = Harness::new();
    let push = |body: Body| {
        let request = Request::post("/_coracle/images?reference=acme/web").body(body).unwrap();
        Box::pin(harness.send(request))
    };
    let mut slow = [(); 2]
        .map(|()| push(Body::from_stream(futures_util::stream::pending::<std::io::Result<Vec<u8>>>())));
    for one in &mut slow {
        assert!(is_pending(one).await);
    }
    let mut third = push(Body::from(COMPONENT));
    for _ in 0..100 {
        assert!(is_pending(&mut third).await);
        tokio::task::yield_now().await;
    }
    // A client that hangs up makes room.
    drop(slow);
    assert_eq!(third.await.status, 200);
}

#[tokio::test]
async fn a_reset_goes_on_when_its_client_hangs_up() {
    let (begun, mut has_begun) = tokio::sync::watch::channel(false);
    let (go_on, may_go_on) = tokio::sync::watch::channel(false);
    let wait = Arc::new(move || -> coracle_store::BoxFuture<'static, ()> {
        let mut may_go_on = may_go_on.clone();
        begun.send_replace(true);
        Box::pin(async move {
            let _ = may_go_on.wait_for(|go| *go).await;
        })
    });
    let harness = Harness::with(|api| api.with_reset(wait), |config| config.allow_reset = true);
    let push = Request::post("/_coracle/images?reference=acme/web").body(Body::from(COMPONENT)).unwrap();
    assert_eq!(harness.send(push).await.status, 200);
    {
        let mut reset = Box::pin(harness.send(Request::post("/_coracle/reset").body(Body::empty()).unwrap()));
        tokio::select! {
            _ = &mut reset => panic!("it waits"),
            begun = has_begun.wait_for(|begun| *begun) => assert!(begun.is_ok()),
        }
    }
    go_on.send(true).unwrap();
    let gone = async {
        loop {
            let request = Request::get("/_coracle/images").body(Body::empty()).unwrap();
            if harness.send(request).await.json()["images"] == json!([]) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.expect("the images are gone");
}

#[tokio::test]
async fn metrics_are_the_bins() {
    let harness = Harness::with(|api| api.with_metrics(Arc::new(|| "coracle_up 1\n".to_owned())), |_| {});
    let answer = harness.send(Request::get("/metrics").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.text, "coracle_up 1\n");
    assert!(answer.header("content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn a_reset_forgets_everything_and_waits_for_quiet() {
    let waited = Arc::new(AtomicBool::new(false));
    let wait = {
        let waited = Arc::clone(&waited);
        Arc::new(move || -> coracle_store::BoxFuture<'static, ()> {
            let waited = Arc::clone(&waited);
            Box::pin(async move { waited.store(true, Ordering::SeqCst) })
        })
    };
    let harness = Harness::with(|api| api.with_reset(wait), |config| config.allow_reset = true);
    harness.register("app", 128, 64).await;
    harness.ecs("RunTask", json!({"taskDefinition": "app"})).await;
    harness.ecs("CreateCluster", json!({"clusterName": "prod"})).await;
    harness.ecs("RegisterContainerInstance", json!({"cluster": "prod"})).await;
    let answer = harness.send(Request::post("/_coracle/reset").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    assert!(waited.load(Ordering::SeqCst));
    let state = harness.store.snapshot();
    assert_eq!(state.records().count(), 1, "only the node that is connected is left");
    let listed = harness.ecs("ListClusters", json!({})).await;
    assert_eq!(listed["clusterArns"].as_array().unwrap().len(), 1, "default is there again");
    assert!(harness.register("app", 128, 64).await.ends_with("app:1"));
}
