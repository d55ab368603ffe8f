use std::sync::Arc;
use std::time::Duration;

use coracle_store::Store;
use coracle_types::{Changes, ContainerStatus, DesiredStatus, LastStatus, StopCode, Task, TaskStop};
use serde_json::{Value, json};

use crate::harness::{Harness, NOW};

fn id(task: &Value) -> &str {
    task["taskArn"].as_str().unwrap().rsplit('/').next().unwrap()
}

#[tokio::test]
async fn run_describe_list_stop() {
    let harness = Harness::new();
    let body = json!({
        "family": "migrate", "cpu": "256", "memory": "512", "networkMode": "awsvpc",
        "requiresCompatibilities": ["FARGATE"], "tags": [{"key": "team", "value": "shop"}, {"key": "a", "value": "1"}],
        "containerDefinitions": [{"name": "migrate", "image": "acme/migrate:3"}],
    });
    harness.ecs("RegisterTaskDefinition", body).await;
    let run = harness
        .ecs("RunTask", json!({
            "taskDefinition": "migrate:1", "launchType": "FARGATE", "count": 1, "startedBy": "ci-42",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-a"]}},
            "overrides": {
                "cpu": "128",
                "containerOverrides": [
                    {"name": "migrate", "command": ["up"], "environment": [{"name": "BATCH", "value": "7"}]}
                ],
            },
            "propagateTags": "TASK_DEFINITION", "tags": [{"key": "a", "value": "2"}],
        }))
        .await;
    assert_eq!(run["failures"], json!([]));
    let task = &run["tasks"][0];
    for (member, value) in [
        ("clusterArn", json!("arn:aws:ecs:us-east-1:123456789012:cluster/default")),
        ("taskDefinitionArn", json!("arn:aws:ecs:us-east-1:123456789012:task-definition/migrate:1")),
        ("lastStatus", json!("PENDING")),
        ("desiredStatus", json!("RUNNING")),
        ("launchType", json!("FARGATE")),
        ("platformVersion", json!("1.4.0")),
        ("platformFamily", json!("Linux")),
        ("cpu", json!("128")),
        ("memory", json!("512")),
        ("group", json!("family:migrate")),
        ("startedBy", json!("ci-42")),
        ("createdAt", json!(1_795_254_385.25)),
        ("healthStatus", json!("UNKNOWN")),
        ("tags", json!([{"key": "a", "value": "2"}, {"key": "team", "value": "shop"}])),
        (
            "overrides",
            json!({
                "cpu": "128", "inferenceAcceleratorOverrides": [],
                "containerOverrides": [
                    {"name": "migrate", "command": ["up"], "environment": [{"name": "BATCH", "value": "7"}]}
                ],
            }),
        ),
    ] {
        assert_eq!(task[member], value, "{member}");
    }
    let interface = &task["attachments"][0];
    assert_eq!(interface["type"], "ElasticNetworkInterface");
    assert_eq!(interface["details"][0], json!({"name": "subnetId", "value": "subnet-a"}));
    assert_eq!(task["containers"][0]["networkInterfaces"][0]["attachmentId"], interface["id"]);
    for absent in ["containerInstanceArn", "startedAt", "stopCode", "stoppedReason"] {
        assert_eq!(task.get(absent), None, "{absent}");
    }
    assert_eq!(task["containers"][0].get("exitCode"), None, "it never ran");

    let list = |body| harness.ecs("ListTasks", body);
    let arns = json!({"taskArns": [task["taskArn"]]});
    for filter in [
        json!({}),
        json!({"family": "migrate"}),
        json!({"startedBy": "ci-42"}),
        json!({"launchType": "FARGATE"}),
        json!({"containerInstance": "00000000000000000000000000000007"}),
    ] {
        assert_eq!(list(filter.clone()).await, arns, "{filter}");
    }
    for filter in [
        json!({"family": "other"}),
        json!({"startedBy": "ci"}),
        json!({"desiredStatus": "STOPPED"}),
        json!({"desiredStatus": "PENDING"}),
        json!({"launchType": "EC2"}),
    ] {
        assert_eq!(list(filter.clone()).await, json!({"taskArns": []}), "{filter}");
    }

    let stopped = harness.ecs("StopTask", json!({"task": id(task), "reason": "enough"})).await;
    assert_eq!(stopped["task"]["desiredStatus"], "STOPPED");
    assert_eq!(stopped["task"]["stopCode"], "UserInitiated");
    assert_eq!(stopped["task"]["stoppedReason"], "enough");
    harness
        .tasks(|task| {
            task.containers[0].exit_code = Some(143);
            task.end(NOW);
        })
        .await;
    let missing = "0123456789abcdef0123456789abcdef";
    let body = json!({"tasks": [task["taskArn"], missing], "include": ["TAGS"]});
    let described = harness.ecs("DescribeTasks", body).await;
    let task = &described["tasks"][0];
    assert_eq!(task["lastStatus"], "STOPPED");
    assert_eq!(task["containers"][0]["exitCode"], 143);
    assert_eq!(task["containers"][0]["lastStatus"], "STOPPED");
    assert_eq!(task["stoppedAt"], 1_795_254_385.25);
    assert_eq!(
        described["failures"],
        json!([{"arn": format!("arn:aws:ecs:us-east-1:123456789012:task/default/{missing}"), "reason": "MISSING"}])
    );
    assert_eq!(list(json!({"desiredStatus": "STOPPED"})).await, arns);
}

#[tokio::test]
async fn what_does_not_fit_is_a_failure_and_not_an_error() {
    let harness = Harness::new();
    harness.register("wide", 600, 64).await;
    harness.register("deep", 64, 1200).await;
    let run = harness.ecs("RunTask", json!({"taskDefinition": "wide", "count": 2})).await;
    assert_eq!(run["tasks"].as_array().unwrap().len(), 1);
    let instance =
        "arn:aws:ecs:us-east-1:123456789012:container-instance/default/00000000000000000000000000000007";
    assert_eq!(run["failures"][0]["reason"], "RESOURCE:CPU");
    assert_eq!(run["failures"][0]["arn"], instance);
    assert_eq!(run["tasks"][0]["containerInstanceArn"], instance, "EC2 is the default");
    let run = harness.ecs("RunTask", json!({"taskDefinition": "deep", "count": 2})).await;
    assert_eq!(run["failures"][0]["reason"], "RESOURCE:MEMORY");
    let run = harness.ecs("RunTask", json!({"taskDefinition": "deep"})).await;
    assert_eq!((&run["tasks"], run["failures"].as_array().unwrap().len()), (&json!([]), 1));
}

#[tokio::test]
async fn requests_at_the_same_time_do_not_take_the_same_room() {
    let harness = Arc::new(Harness::new());
    harness.register("half", 512, 64).await;
    let run = |_| {
        let harness = Arc::clone(&harness);
        async move { harness.ecs("RunTask", json!({"taskDefinition": "half"})).await }
    };
    let runs = futures_util::future::join_all((0..8).map(run)).await;
    let started: usize = runs.iter().map(|run| run["tasks"].as_array().unwrap().len()).sum();
    assert_eq!(started, 2);
}

#[tokio::test]
async fn a_cluster_without_nodes_says_so() {
    let harness = Harness::new();
    let base = harness.store.snapshot();
    let mut changes = Changes::new();
    changes.delete(coracle_types::Key::Node(crate::harness::NODE));
    harness.store.commit(base, changes).await.unwrap();
    harness.register("app", 128, 64).await;
    let refused = harness.refused("RunTask", json!({"taskDefinition": "app"})).await;
    assert_eq!(
        refused,
        ("InvalidParameterException".into(), "No Container Instances were found in your cluster.".into())
    );
    let run = harness.ecs("RunTask", json!({"taskDefinition": "app", "launchType": "FARGATE"})).await;
    assert_eq!(run["failures"][0]["reason"], "AGENT");
}

#[tokio::test]
async fn a_repeated_token_is_the_same_request() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    let body = json!({"taskDefinition": "app", "count": 2, "clientToken": "t-1"});
    let first = harness.ecs("RunTask", body.clone()).await;
    let second = harness.ecs("RunTask", body).await;
    let mut ids = [&first, &second].map(|run| {
        let mut ids: Vec<&str> = run["tasks"].as_array().unwrap().iter().map(id).collect();
        ids.sort_unstable();
        ids
    });
    assert_eq!(ids[0].len(), 2);
    assert_eq!(ids[0], ids[1]);
    let other = harness.refused("RunTask", json!({"taskDefinition": "app", "clientToken": "t-1"})).await;
    assert_eq!(other.0, "ConflictException");
    ids[0].clear();
    let third = harness.ecs("RunTask", json!({"taskDefinition": "app", "clientToken": "t-2"})).await;
    assert!(!ids[1].contains(&id(&third["tasks"][0])));
}

#[tokio::test]
async fn refusals() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    let containers = json!([{"name": "app", "image": "a"}]);
    harness
        .ecs("RegisterTaskDefinition", json!({"family": "open", "containerDefinitions": containers}))
        .await;
    let provider = json!([{"capacityProvider": "FARGATE"}]);
    for (operation, body, name, text) in [
        ("RunTask", json!({}), "ClientException", "TaskDefinition can not be blank."),
        ("RunTask", json!({"taskDefinition": "nope"}), "ClientException", "TaskDefinition not found."),
        (
            "RunTask",
            json!({"taskDefinition": "app", "cluster": "nope"}),
            "ClusterNotFoundException",
            "Cluster not found.",
        ),
        ("RunTask", json!({"taskDefinition": "app", "count": 11}), "InvalidParameterException", "count"),
        ("RunTask", json!({"taskDefinition": "app", "count": 0}), "InvalidParameterException", "count"),
        (
            "RunTask",
            json!({"taskDefinition": "app", "launchType": "LAMBDA"}),
            "InvalidParameterException",
            "launchType",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "open", "launchType": "FARGATE"}),
            "InvalidParameterException",
            "does not support launch_type FARGATE",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "app", "launchType": "FARGATE", "capacityProviderStrategy": provider}),
            "InvalidParameterException",
            "Specifying both",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "app", "overrides": {"containerOverrides": [{"name": "other"}]}}),
            "InvalidParameterException",
            "Override for container named other",
        ),
        (
            "RunTask",
            json!({"taskDefinition": "app", "group": "service:web"}),
            "InvalidParameterException",
            "group",
        ),
        (
            "StopTask",
            json!({"task": "abc"}),
            "InvalidParameterException",
            "taskId length should be one of [32,36]",
        ),
        (
            "StopTask",
            json!({"task": "0".repeat(32)}),
            "InvalidParameterException",
            "The referenced task was not found.",
        ),
        ("DescribeTasks", json!({}), "InvalidParameterException", "Tasks cannot be empty."),
        (
            "DescribeTasks",
            json!({"tasks": vec!["0".repeat(32); 101]}),
            "InvalidParameterException",
            "at most 100",
        ),
        ("ListTasks", json!({"serviceName": "nope"}), "ServiceNotFoundException", "Service not found."),
        ("ListTasks", json!({"desiredStatus": "GONE"}), "InvalidParameterException", "desiredStatus"),
    ] {
        let refused = harness.refused(operation, body).await;
        assert_eq!(refused.0, name, "{operation}: {}", refused.1);
        assert!(refused.1.contains(text), "{:?} does not contain {text:?}", refused.1);
    }
}

#[tokio::test]
async fn capacity_providers_stand_for_launch_types() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    let strategy = |provider: &str| json!([{"capacityProvider": provider, "weight": 1}]);
    let run = |body| harness.ecs("RunTask", body);
    let spot =
        run(json!({"taskDefinition": "app", "capacityProviderStrategy": strategy("FARGATE_SPOT")})).await;
    assert_eq!(spot["tasks"][0]["launchType"], "FARGATE");
    assert_eq!(spot["tasks"][0]["capacityProviderName"], "FARGATE_SPOT");
    let group = json!({"autoScalingGroupArn": "arn:aws:autoscaling:us-east-1:1:autoScalingGroup:x:autoScalingGroupName/a"});
    harness.ecs("CreateCapacityProvider", json!({"name": "mine", "autoScalingGroupProvider": group})).await;
    let body = json!({
        "cluster": "default", "capacityProviders": ["FARGATE", "mine"],
        "defaultCapacityProviderStrategy": strategy("FARGATE"),
    });
    harness.ecs("PutClusterCapacityProviders", body).await;
    let mine = run(json!({"taskDefinition": "app", "capacityProviderStrategy": strategy("mine")})).await;
    assert_eq!(mine["tasks"][0]["launchType"], "EC2");
    let second = json!([{"capacityProvider": "FARGATE"}, {"capacityProvider": "FARGATE_SPOT", "weight": 1}]);
    let second = run(json!({"taskDefinition": "app", "capacityProviderStrategy": second})).await;
    assert_eq!(second["tasks"][0]["capacityProviderName"], "FARGATE_SPOT", "a weight of 0 places nothing");
    let default = run(json!({"taskDefinition": "app"})).await;
    assert_eq!(default["tasks"][0]["launchType"], "FARGATE");
}

#[tokio::test]
async fn strategies_have_to_make_sense() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    let both = |member: &str, value: u32| json!([{"capacityProvider": "FARGATE", member: value}, {"capacityProvider": "FARGATE_SPOT", member: value}]);
    for (strategy, text) in [
        (json!([{"capacityProvider": "other", "weight": 1}]), "not associated with the cluster"),
        (both("weight", 0), "weight value greater than zero"),
        (both("base", 1), "Only one capacity provider"),
        (json!([{"weight": 1}]), "capacityProviderStrategy[0].capacityProvider"),
        (json!(vec![json!({"capacityProvider": "FARGATE", "weight": 1}); 21]), "at most 20"),
    ] {
        for (operation, more) in [("RunTask", json!({})), ("CreateService", json!({"serviceName": "a"}))] {
            let mut body = json!({"taskDefinition": "app", "capacityProviderStrategy": strategy});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let refused = harness.refused(operation, body).await;
            assert_eq!(refused.0, "InvalidParameterException");
            assert!(refused.1.contains(text), "{} does not say {text}", refused.1);
        }
    }
}

/// A node that does to each task what `change` says as soon as it is there.
fn node(store: Arc<dyn Store>, change: fn(&mut Task) -> bool) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut changed = store.watch();
        loop {
            changed.borrow_and_update();
            let base = store.snapshot();
            let mut changes = Changes::new();
            for found in base.tasks.values() {
                let mut task = Task::clone(&found.value);
                if change(&mut task) {
                    changes.put(task);
                }
            }
            if store.commit(base, changes).await.is_ok() && changed.changed().await.is_err() {
                return;
            }
        }
    })
}

#[tokio::test]
async fn the_answer_waits_a_moment_for_what_it_began() {
    let harness = Harness::with(|api| api.with_settle(Duration::from_secs(20)), |_| {});
    harness.register("app", 128, 64).await;
    let starts = node(Arc::clone(&harness.store), |task| {
        let starts = task.last_status == LastStatus::Pending;
        if starts {
            task.last_status = LastStatus::Running;
            task.started_at = Some(NOW);
            task.containers[0].status = ContainerStatus::Running;
        }
        starts
    });
    let run = harness.ecs("RunTask", json!({"taskDefinition": "app"})).await;
    assert_eq!(run["tasks"][0]["lastStatus"], "RUNNING");
    starts.abort();
    let stops = node(Arc::clone(&harness.store), |task| {
        let stops = task.desired_status == DesiredStatus::Stopped && task.last_status != LastStatus::Stopped;
        if stops {
            task.end(NOW);
        }
        stops
    });
    let stopped = harness.ecs("StopTask", json!({"task": id(&run["tasks"][0])})).await;
    assert_eq!(stopped["task"]["lastStatus"], "STOPPED");
    assert_eq!(stopped["task"]["stoppedReason"], "Task stopped by user");
    stops.abort();
}

#[tokio::test]
async fn the_first_reason_to_stop_stays() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    let run = harness.ecs("RunTask", json!({"taskDefinition": "app"})).await;
    let reason = "Essential container in task exited";
    harness
        .tasks(|task| {
            let code = StopCode::EssentialContainerExited;
            task.stop(TaskStop { code, reason: reason.to_owned() }, NOW);
        })
        .await;
    let stopped = harness.ecs("StopTask", json!({"task": id(&run["tasks"][0]), "reason": "late"})).await;
    assert_eq!(stopped["task"]["stopCode"], "EssentialContainerExited");
    assert_eq!(stopped["task"]["stoppedReason"], reason);
}
