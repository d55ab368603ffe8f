//! WASI 0.2 instances that serve several requests, one after the other.

use crate::{eventually, get, http_guest, text};
use coracle_sandbox::{ContainerSpec, Exit, HandleError};
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
            tokio::spawn(async move { text(get(&container, "/sleep?ms=50").await.unwrap()).await })
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
