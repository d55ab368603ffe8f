//! WASI 0.2 instances that serve several requests, one after the other.

use crate::{eventually, get, http_guest, prepare, text};
use coracle_sandbox::{BodyError, Container, ContainerSpec, Exit, HandleError};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use std::time::Duration;

fn reusing(total: u32) -> ContainerSpec {
    ContainerSpec { instance_reuse: Some(total), ..ContainerSpec::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_keeps_its_state_up_to_the_limit() {
    let container = http_guest(reusing(3));
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(text(get(&container, "/counter").await.unwrap()).await.trim().to_owned());
        // The body's end is seen before the guest has returned.
        eventually("the guest has returned", || container.in_flight() == 0).await;
    }
    let first = &seen[..3];
    assert!(first[0] != first[1] && first[1] != first[2], "{seen:?}");
    assert_eq!(first, &seen[3..], "the fourth met a fresh instance");
    assert_eq!(container.stats().instances_started, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_the_same_time_have_instances_of_their_own() {
    let container = http_guest(reusing(100));
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let container = container.clone();
            tokio::spawn(async move { text(get(&container, "/slow?ms=50").await.unwrap()).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    let started = container.stats().instances_started;
    assert!((2..=8).contains(&started), "{started}");
    eventually("idle instances go", || container.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traps_and_time_outs_discard_the_instance() {
    let container = http_guest(ContainerSpec { request_timeout: Duration::from_millis(300), ..reusing(100) });
    let first = text(get(&container, "/counter").await.unwrap()).await;
    eventually("the guest has returned", || container.in_flight() == 0).await;
    for path in ["/trap/unreachable", "/spin"] {
        match get(&container, path).await {
            Err(HandleError::Guest(Exit::Trap(_)) | HandleError::TimedOut { .. }) => {}
            other => panic!("{path}: {other:?}"),
        }
        eventually("the instance is gone", || container.stats().instances_live == 0).await;
        assert_eq!(text(get(&container, "/counter").await.unwrap()).await, first, "after {path}");
        eventually("the guest has returned", || container.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_guest_that_waits_for_nothing_has_answered_when_it_is_asked() {
    let hello = prepare(coracle_fixtures::example_hello());
    for instance_reuse in [None, Some(2)] {
        let spec = ContainerSpec { instance_reuse, ..ContainerSpec::default() };
        let container = Container::new(&hello, spec).unwrap();
        for _ in 0..2 {
            // No other task gets a turn meanwhile.
            let response = get(&container, "/").now_or_never().expect("the head is there").unwrap();
            let body = response.into_body().collect().now_or_never().expect("the body is there");
            assert_eq!(body.unwrap().to_bytes(), "Hello from Coracle!\n");
            assert_eq!(container.in_flight(), 0);
        }
        assert_eq!(container.stats().instances_started, if instance_reuse.is_some() { 1 } else { 2 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_that_rest_go_with_their_container() {
    let container = http_guest(reusing(100));
    text(get(&container, "/counter").await.unwrap()).await;
    eventually("the guest has returned", || container.in_flight() == 0).await;
    assert_eq!(container.stats().instances_live, 1);
    container.kill();
    assert_eq!(container.stats().instances_live, 0);
}

#[test]
fn instances_that_rest_go_with_their_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let container = http_guest(reusing(100));
    runtime.block_on(async {
        text(get(&container, "/counter").await.unwrap()).await;
        eventually("the guest has returned", || container.in_flight() == 0).await;
    });
    assert_eq!(container.stats().instances_live, 1);
    drop(runtime);
    assert_eq!(container.stats().instances_live, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_left_open_fails_with_its_instance() {
    let container = http_guest(reusing(100));
    let mut open = get(&container, "/left-open").await.unwrap();
    assert_eq!(open.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half a bo");
    eventually("the guest has returned", || container.in_flight() == 0).await;
    assert!(get(&container, "/trap").await.is_err());
    assert_eq!(container.stats().instances_started, 1, "they have met the same instance");
    let error = open.into_body().collect().await.unwrap_err();
    assert!(matches!(error, BodyError::Guest(_)), "{error:?}");
}
