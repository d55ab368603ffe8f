use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    let answer = harness.send(Request::post("/_coracle/reset").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.json()), (200, json!({})));
    assert!(waited.load(Ordering::SeqCst));
    let state = harness.store.snapshot();
    assert_eq!(state.records().count(), 1, "only the node is left");
    let listed = harness.ecs("ListClusters", json!({})).await;
    assert_eq!(listed["clusterArns"].as_array().unwrap().len(), 1, "default is there again");
    assert!(harness.register("app", 128, 64).await.ends_with("app:1"));
}
