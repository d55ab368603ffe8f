//! What requests and the planning loop do at the same time.

use std::sync::Arc;
use std::time::Duration;

use coracle_store::{BoxFuture, CommitError, MemoryStore, Store};
use coracle_types::{Changes, State};
use serde_json::json;
use tokio::sync::watch;

use crate::harness::{Harness, NOW};

/// A store whose commits take long: whatever is decided within that time was decided on the same snapshot.
struct Slow(Arc<MemoryStore>);

impl Store for Slow {
    fn snapshot(&self) -> Arc<State> {
        self.0.snapshot()
    }

    fn commit(
        &self,
        base: Arc<State>,
        changes: Changes,
    ) -> BoxFuture<'static, Result<Arc<State>, CommitError>> {
        let store = Arc::clone(&self.0);
        // As in the store on disk, what is on its way arrives whether anybody waits for it or not.
        let arrived = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            store.commit(base, changes).await
        });
        Box::pin(async move { arrived.await.unwrap() })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.0.watch()
    }
}

fn slow() -> Arc<Harness> {
    Arc::new(Harness::on(|store| Arc::new(Slow(Arc::new(store))), |api| api, |_| {}))
}

#[tokio::test(start_paused = true)]
async fn run_task_and_the_loop_do_not_give_away_the_same_room() {
    let harness = slow();
    harness.register("large", 600, 64).await;
    let create = json!({"serviceName": "web", "taskDefinition": "large", "desiredCount": 0});
    harness.ecs("CreateService", create).await;
    let (stop, stopped) = watch::channel(false);
    let planning = tokio::spawn(coracle_control::run(Arc::clone(&harness.store), || NOW, 1, stopped));
    for delay_ms in 0..30 {
        harness.ecs("UpdateService", json!({"service": "web", "desiredCount": 1})).await;
        // The loop has begun to place the service's task, or will in a moment.
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        harness.ecs("RunTask", json!({"taskDefinition": "large"})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let state = harness.store.snapshot();
        let live = state.tasks.values().filter(|found| found.value.holds_resources());
        let reserved: u32 = live.map(|found| found.value.cpu).sum();
        assert_eq!(reserved, 600, "one of the two fits, {delay_ms} ms apart");
        harness.ecs("UpdateService", json!({"service": "web", "desiredCount": 0})).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        harness.tasks(|task| task.end(NOW)).await;
    }
    stop.send_replace(true);
    planning.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_hangs_up_leaves_nothing_half_done() {
    let harness = slow();
    harness.register("large", 600, 64).await;
    let create = json!({"serviceName": "web", "taskDefinition": "large", "desiredCount": 1});
    harness.ecs("CreateService", create).await;
    let run = harness.ecs("RunTask", json!({"taskDefinition": "large"}));
    assert!(tokio::time::timeout(Duration::from_millis(5), run).await.is_err(), "its commit is on its way");
    let (stop, stopped) = watch::channel(false);
    let planning = tokio::spawn(coracle_control::run(Arc::clone(&harness.store), || NOW, 1, stopped));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let state = harness.store.snapshot();
    let reserved: Vec<u32> = state.tasks.values().map(|found| found.value.cpu).collect();
    assert_eq!(reserved, [600], "the loop waited for it");
    stop.send_replace(true);
    planning.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_into_a_cluster_that_is_being_deleted() {
    let bodies = [
        ("RunTask", json!({"cluster": "busy", "taskDefinition": "app"})),
        ("CreateService", json!({"cluster": "busy", "serviceName": "web", "taskDefinition": "app"})),
    ];
    for (operation, body) in bodies {
        for delete_first in [false, true] {
            let harness = slow();
            harness.register("app", 64, 64).await;
            harness.ecs("CreateCluster", json!({"clusterName": "busy"})).await;
            let target = |operation: &str| format!("AmazonEC2ContainerServiceV20141113.{operation}");
            let (put, delete) = (target(operation), target("DeleteCluster"));
            let put = harness.target(&put, None, &body);
            let cluster = json!({"cluster": "busy"});
            let delete = harness.target(&delete, None, &cluster);
            let (put, delete) = if delete_first {
                let (delete, put) = tokio::join!(delete, put);
                (put, delete)
            } else {
                tokio::join!(put, delete)
            };
            let statuses = (put.status, delete.status);
            assert!(matches!(statuses, (200, 400) | (400, 200)), "{operation}: {statuses:?}");
        }
    }
}

#[tokio::test]
async fn an_expression_nobody_understands_is_refused_where_it_comes_in() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    harness.ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "app"})).await;
    let of = |expression: &str| json!([{"type": "distinctInstance"}, {"type": "memberOf", "expression": expression}]);
    let instances = harness.ecs("ListContainerInstances", json!({})).await["containerInstanceArns"].clone();
    let place = "placementConstraints[1].expression: Invalid expression at character 16: ";
    let bad = of("attribute:disk like ssd");
    for (operation, mut body) in [
        ("RunTask", json!({"taskDefinition": "app"})),
        ("CreateService", json!({"serviceName": "other", "taskDefinition": "app"})),
        ("UpdateService", json!({"service": "web"})),
    ] {
        body["placementConstraints"] = bad.clone();
        let (code, text) = harness.refused(operation, body.clone()).await;
        assert_eq!(code, "InvalidParameterException", "{operation}");
        assert!(text.contains(place), "{operation}: {text}");
        body["placementConstraints"] = of("attribute:disk == ssd");
        harness.ecs(operation, body).await;
    }
    let definition = |expression: &str| {
        json!({
            "family": "picky", "memory": "64", "containerDefinitions": [{"name": "app", "image": "acme/app:1"}],
            "placementConstraints": [{"type": "memberOf", "expression": expression}],
        })
    };
    let (code, text) = harness.refused("RegisterTaskDefinition", definition("attribute:disk in [ssd")).await;
    assert_eq!(code, "ClientException");
    assert!(text.contains("placementConstraints[0].expression: Invalid expression at character"), "{text}");
    harness.ecs("RegisterTaskDefinition", definition("attribute:disk in [ssd]")).await;
    // StartTask goes where it is told, whatever else its task definition says.
    let body = json!({"taskDefinition": "app", "containerInstances": instances});
    assert_eq!(harness.ecs("StartTask", body).await["failures"], json!([]));
}
