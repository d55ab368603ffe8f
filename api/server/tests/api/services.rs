use std::sync::Arc;
use std::time::Duration;

use coracle_scheduler::{PlanRng, plan};
use coracle_types::elb::TargetHealth;
use coracle_types::{ContainerStatus, DesiredStatus, LastStatus};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::harness::{Harness, NOW};

/// Lets the real scheduler and a node that does all it is told have their way.
async fn converge(harness: &Harness) {
    let mut rng = PlanRng::new(1);
    for seconds in 0..20 {
        let base = harness.store.snapshot();
        let now = NOW.after(Duration::from_secs(60 * seconds));
        let changes = plan(&base, now, &mut rng).changes;
        harness.store.commit(base, changes).await.unwrap();
        harness
            .tasks(|task| match task.desired_status {
                DesiredStatus::Running if !task.targets.is_empty() => {
                    task.targets.iter_mut().for_each(|target| target.health = TargetHealth::healthy(now));
                }
                DesiredStatus::Running if task.last_status == LastStatus::Pending => {
                    task.last_status = LastStatus::Running;
                    task.started_at = Some(now);
                    task.containers[0].status = ContainerStatus::Running;
                }
                DesiredStatus::Stopped if task.last_status != LastStatus::Stopped => task.end(now),
                _ => {}
            })
            .await;
    }
}

async fn describe(harness: &Harness) -> Value {
    let answer = harness.ecs("DescribeServices", json!({"services": ["web"], "include": ["TAGS"]})).await;
    assert_eq!(answer["failures"], json!([]));
    answer["services"][0].clone()
}

fn create(group: &str) -> Value {
    json!({
        "serviceName": "web", "taskDefinition": "app", "desiredCount": 2, "launchType": "FARGATE",
        "networkConfiguration": {"awsvpcConfiguration": {
            "subnets": ["subnet-a", "subnet-b"], "securityGroups": ["sg-1"], "assignPublicIp": "DISABLED"
        }},
        "loadBalancers": [{
            "targetGroupArn": group,
            "containerName": "app", "containerPort": 80
        }],
        "healthCheckGracePeriodSeconds": 60,
        "deploymentConfiguration": {
            "maximumPercent": 200, "minimumHealthyPercent": 100,
            "deploymentCircuitBreaker": {"enable": true, "rollback": true}
        },
        "enableExecuteCommand": true,
        "tags": [{"key": "team", "value": "shop"}],
        "propagateTags": "SERVICE",
    })
}

#[tokio::test]
async fn the_walk() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    harness.register("app", 128, 64).await;
    harness.register("app", 128, 64).await;
    let made = harness.ecs("CreateService", create(&group)).await["service"].clone();
    let mut expected = create(&group);
    let members = expected.as_object_mut().unwrap();
    members.insert("serviceArn".into(), "arn:aws:ecs:us-east-1:123456789012:service/default/web".into());
    members.insert("clusterArn".into(), "arn:aws:ecs:us-east-1:123456789012:cluster/default".into());
    members
        .insert("taskDefinition".into(), "arn:aws:ecs:us-east-1:123456789012:task-definition/app:2".into());
    members.insert("status".into(), "ACTIVE".into());
    members.insert("runningCount".into(), 0.into());
    members.insert("schedulingStrategy".into(), "REPLICA".into());
    members.insert("deploymentController".into(), json!({"type": "ECS"}));
    members.insert("createdBy".into(), "arn:aws:iam::123456789012:root".into());
    members.insert("platformFamily".into(), "Linux".into());
    members.insert("serviceRegistries".into(), json!([]));
    members.insert("events".into(), json!([]));
    members.insert("enableECSManagedTags".into(), false.into());
    members.insert("createdAt".into(), json!(1_795_254_385.25));
    crate::harness::assert_contains(&expected, &made, "service");
    let deployment = &made["deployments"][0];
    assert_eq!(
        (&deployment["status"], &deployment["rolloutState"]),
        (&json!("PRIMARY"), &json!("IN_PROGRESS"))
    );
    let id = deployment["id"].as_str().unwrap();
    assert_eq!(deployment["rolloutStateReason"], format!("ECS deployment {id} in progress."));

    converge(&harness).await;
    let service = describe(&harness).await;
    // What the waiter services-stable looks at.
    assert_eq!((&service["runningCount"], service["deployments"].as_array().unwrap().len()), (&json!(2), 1));
    assert_eq!(service["deployments"][0]["rolloutState"], "COMPLETED");
    assert_eq!(service["deployments"][0]["runningCount"], 2);
    let newest = service["events"][0]["message"].as_str().unwrap();
    assert_eq!(newest, "(service web) has reached a steady state.");
    let tasks = harness.ecs("ListTasks", json!({"serviceName": "web"})).await["taskArns"].clone();
    let tasks = harness.ecs("DescribeTasks", json!({"tasks": tasks, "include": ["TAGS"]})).await;
    assert_eq!(tasks["tasks"][0]["group"], "service:web");
    assert_eq!(tasks["tasks"][0]["startedBy"], id);
    assert_eq!(tasks["tasks"][0]["tags"], json!([{"key": "team", "value": "shop"}]));

    let refused = harness.refused("DeleteService", json!({"service": "web"})).await;
    assert_eq!(refused.1, "The service cannot be stopped while it is scaled above 0.");
    let deleted = harness.ecs("DeleteService", json!({"service": "web", "force": true})).await;
    assert_eq!(deleted["service"]["status"], "DRAINING");
    assert_eq!(harness.ecs("ListServices", json!({})).await["serviceArns"], json!([]));
    let refused = harness.refused("CreateService", create(&group)).await;
    assert_eq!(refused.1, "Unable to Start a service that is still Draining.");
    converge(&harness).await;
    assert_eq!(describe(&harness).await["status"], "INACTIVE");
    let refused = harness.refused("UpdateService", json!({"service": "web", "desiredCount": 1})).await;
    assert_eq!(refused, ("ServiceNotActiveException".into(), "Service was not ACTIVE.".into()));
    assert_eq!(
        harness.ecs("CreateService", create(&group)).await["service"]["status"],
        "ACTIVE",
        "its name is free"
    );
}

#[tokio::test]
async fn a_new_deployment_only_when_something_needs_it() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    harness.register("app", 128, 64).await;
    harness.ecs("CreateService", create(&group)).await;
    converge(&harness).await;
    let before = describe(&harness).await["deployments"][0]["id"].clone();
    let update = async |more: Value| {
        let mut body = json!({"service": "web"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        harness.ecs("UpdateService", body).await["service"].clone()
    };
    for quiet in [
        json!({}),
        json!({"desiredCount": 3}),
        json!({"taskDefinition": "app:1"}),
        json!({"taskDefinition": "app", "networkConfiguration": create(&group)["networkConfiguration"]}),
        json!({"deploymentConfiguration": {"maximumPercent": 150}}),
        json!({"enableExecuteCommand": false, "propagateTags": "NONE", "healthCheckGracePeriodSeconds": 5}),
        json!({"loadBalancers": create(&group)["loadBalancers"]}),
    ] {
        let service = update(quiet.clone()).await;
        assert_eq!(service["deployments"][0]["id"], before, "{quiet}");
    }
    let service = describe(&harness).await;
    assert_eq!(service["desiredCount"], 3);
    assert_eq!(service["deployments"][0]["desiredCount"], 3);
    assert_eq!(service["deploymentConfiguration"]["maximumPercent"], 150);
    assert_eq!(service["deploymentConfiguration"]["minimumHealthyPercent"], 100, "what was not given stays");
    assert_eq!(service["deploymentConfiguration"]["deploymentCircuitBreaker"]["enable"], true);
    assert_eq!(service["enableExecuteCommand"], false);

    harness.register("app", 256, 64).await;
    for loud in [
        json!({"taskDefinition": "app"}),
        json!({"forceNewDeployment": true}),
        json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-c"]}}}),
        json!({"loadBalancers": []}),
        json!({"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}),
    ] {
        let before = describe(&harness).await["deployments"][0]["id"].clone();
        let service = update(loud.clone()).await;
        assert_ne!(service["deployments"][0]["id"], before, "{loud}");
        assert_eq!(service["deployments"][0]["status"], "PRIMARY");
        assert_eq!(service["deployments"][1]["id"], before);
        assert_eq!(service["deployments"][1]["status"], "ACTIVE");
    }
    let service = describe(&harness).await;
    assert_eq!(service["taskDefinition"], "arn:aws:ecs:us-east-1:123456789012:task-definition/app:2");
    assert_eq!(service.get("launchType"), None, "a service from a strategy shows no launch type");
    assert_eq!(service["capacityProviderStrategy"][0]["capacityProvider"], "FARGATE_SPOT");
    converge(&harness).await;
    assert_eq!(describe(&harness).await["deployments"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn creating_twice() {
    let harness = Harness::new();
    let group = harness.target_group("web").await;
    harness.register("app", 128, 64).await;
    let mut with_token = create(&group);
    with_token["clientToken"] = "t-1".into();
    let first = harness.ecs("CreateService", with_token.clone()).await;
    assert_eq!(harness.ecs("CreateService", with_token.clone()).await, first);
    with_token["desiredCount"] = 5.into();
    for again in [with_token, create(&group)] {
        let refused = harness.refused("CreateService", again).await;
        assert_eq!(refused.0, "InvalidParameterException");
        assert_eq!(refused.1, "Creation of service was not idempotent.");
    }
}

#[tokio::test]
async fn services_are_listed_ten_at_a_time() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    for number in 0..12 {
        let body =
            json!({"serviceName": format!("web-{number:02}"), "taskDefinition": "app", "desiredCount": 0});
        harness.ecs("CreateService", body).await;
    }
    let first = harness.ecs("ListServices", json!({})).await;
    assert_eq!(first["serviceArns"].as_array().unwrap().len(), 10);
    let second = harness.ecs("ListServices", json!({"nextToken": first["nextToken"]})).await;
    assert_eq!(second["serviceArns"].as_array().unwrap().len(), 2);
    assert_eq!(second.get("nextToken"), None);
    let none = harness.ecs("ListServices", json!({"launchType": "FARGATE"})).await;
    assert_eq!(none["serviceArns"], json!([]));
    let daemon = json!({"serviceName": "agent", "taskDefinition": "app", "schedulingStrategy": "DAEMON"});
    assert_eq!(harness.ecs("CreateService", daemon).await["service"]["desiredCount"], 1, "one per node");
    let listed = harness.ecs("ListServices", json!({"schedulingStrategy": "DAEMON"})).await;
    assert_eq!(listed["serviceArns"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn refusals() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    let balanced = |name: &str, port: u16| {
        json!({
            "serviceName": "web", "taskDefinition": "app", "desiredCount": 1,
            "loadBalancers": [{"targetGroupArn": "x", "containerName": name, "containerPort": port}]
        })
    };
    for (operation, body, name, text) in [
        ("CreateService", json!({"taskDefinition": "app"}), "InvalidParameterException", "serviceName"),
        (
            "CreateService",
            json!({"serviceName": "a b", "taskDefinition": "app"}),
            "InvalidParameterException",
            "service name",
        ),
        (
            "CreateService",
            json!({"serviceName": "web"}),
            "ClientException",
            "TaskDefinition can not be blank.",
        ),
        (
            "CreateService",
            json!({"serviceName": "web", "taskDefinition": "nope"}),
            "ClientException",
            "TaskDefinition not found.",
        ),
        (
            "CreateService",
            balanced("nope", 80),
            "InvalidParameterException",
            "The container nope does not exist",
        ),
        (
            "CreateService",
            balanced("app", 81),
            "InvalidParameterException",
            "did not have a container port 81",
        ),
        (
            "CreateService",
            json!({"serviceName": "w", "taskDefinition": "app", "schedulingStrategy": "DAEMON", "desiredCount": 1}),
            "InvalidParameterException",
            "daemon",
        ),
        (
            "CreateService",
            json!({"serviceName": "w", "taskDefinition": "app", "deploymentController": {"type": "CODE_DEPLOY"}}),
            "UnsupportedFeatureException",
            "CODE_DEPLOY",
        ),
        (
            "CreateService",
            json!({"serviceName": "w", "taskDefinition": "app", "deploymentConfiguration": {"minimumHealthyPercent": 101}}),
            "InvalidParameterException",
            "deploymentConfiguration.minimumHealthyPercent",
        ),
        (
            "CreateService",
            json!({"serviceName": "w", "taskDefinition": "app", "deploymentConfiguration": {"maximumPercent": 100}}),
            "InvalidParameterException",
            "cannot be 100 as this will block deployments",
        ),
        (
            "CreateService",
            json!({
                "serviceName": "w", "taskDefinition": "app",
                "deploymentConfiguration": {"maximumPercent": 99, "minimumHealthyPercent": 0}
            }),
            "InvalidParameterException",
            "maximumPercent must be at least 100",
        ),
        (
            "CreateService",
            json!({"serviceName": "w", "taskDefinition": "app", "healthCheckGracePeriodSeconds": -1}),
            "InvalidParameterException",
            "healthCheckGracePeriodSeconds",
        ),
        ("UpdateService", json!({"service": "nope"}), "ServiceNotFoundException", "Service not found."),
        ("DeleteService", json!({"service": "nope"}), "ServiceNotFoundException", "Service not found."),
        (
            "DescribeServices",
            json!({"services": []}),
            "InvalidParameterException",
            "Services cannot be empty.",
        ),
        ("DescribeServices", json!({"services": vec!["a"; 11]}), "InvalidParameterException", "at most 10"),
        (
            "DescribeServices",
            json!({"services": ["a"], "cluster": "nope"}),
            "ClusterNotFoundException",
            "Cluster not found.",
        ),
    ] {
        let refused = harness.refused(operation, body).await;
        assert_eq!(refused.0, name, "{operation}: {}", refused.1);
        assert!(refused.1.contains(text), "{:?} does not contain {text:?}", refused.1);
    }
    let body = json!({"serviceName": "web", "taskDefinition": "app", "desiredCount": 1});
    harness.ecs("CreateService", body).await;
    let refused = harness
        .refused(
            "UpdateService",
            json!({"service": "web", "deploymentConfiguration": {"maximumPercent": 100}}),
        )
        .await;
    assert!(refused.1.contains("block deployments"), "{}", refused.1);
    let described = harness.ecs("DescribeServices", json!({"services": ["nope"]})).await;
    assert_eq!(described["services"], json!([]));
    assert_eq!(described["failures"][0]["reason"], "MISSING");
}

#[tokio::test]
async fn tasks_are_evened_out_over_zones_where_that_is_possible() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    let zone = "attribute:ecs.availability-zone";
    let not_here = format!("{zone} != us-east-1b");
    for (place, (wanted, more)) in [
        ("ENABLED", json!({})),
        ("DISABLED", json!({"availabilityZoneRebalancing": "DISABLED"})),
        ("ENABLED", json!({"placementStrategy": [{"type": "spread", "field": zone}, {"type": "random"}]})),
        ("DISABLED", json!({"schedulingStrategy": "DAEMON"})),
        ("DISABLED", json!({"launchType": "EXTERNAL"})),
        (
            "DISABLED",
            json!({"deploymentConfiguration": {"maximumPercent": 100, "minimumHealthyPercent": 50}}),
        ),
        ("DISABLED", json!({"placementStrategy": [{"type": "binpack", "field": "cpu"}]})),
        ("DISABLED", json!({"placementConstraints": [{"type": "memberOf", "expression": not_here}]})),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("web-{place}");
        let mut body = json!({"serviceName": name, "taskDefinition": "app"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = harness.ecs("CreateService", body.clone()).await;
        assert_eq!(made["service"]["availabilityZoneRebalancing"], wanted, "{body}");
        let same = harness.ecs("UpdateService", json!({"service": name, "forceNewDeployment": true})).await;
        assert_eq!(same["service"]["availabilityZoneRebalancing"], wanted, "{body}");
        if wanted == "DISABLED" && more.get("availabilityZoneRebalancing").is_none() {
            let ask = json!({"service": name, "availabilityZoneRebalancing": "ENABLED"});
            let (code, text) = harness.refused("UpdateService", ask).await;
            assert_eq!(code, "InvalidParameterException");
            assert!(text.contains("does not support availabilityZoneRebalancing ENABLED"), "{text}");
            body["serviceName"] = json!("another");
            body["availabilityZoneRebalancing"] = json!("ENABLED");
            assert_eq!(harness.refused("CreateService", body).await.1, text);
        }
    }
    let off = json!({"service": "web-0", "availabilityZoneRebalancing": "DISABLED"});
    let off = harness.ecs("UpdateService", off).await;
    assert_eq!(off["service"]["availabilityZoneRebalancing"], "DISABLED");
}

#[tokio::test(start_paused = true)]
async fn an_answer_waits_for_the_router_but_not_for_long() {
    let (tell, told) = watch::channel(0);
    let settle = Duration::from_millis(50);
    let harness = Harness::with(|api| api.with_settle(settle).with_router(told), |_| {});
    harness.register("web", 256, 64).await;
    let create = |name: &str| json!({"serviceName": name, "taskDefinition": "web", "desiredCount": 0});

    let began = Instant::now();
    harness.ecs("CreateService", create("unheard")).await;
    assert_eq!(began.elapsed(), settle, "a router that hears nothing keeps nobody");

    // A router that is told of each revision ten milliseconds after it.
    let mut revisions = harness.store.watch();
    let store = Arc::clone(&harness.store);
    tokio::spawn(async move {
        while revisions.changed().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            tell.send_replace(store.snapshot().revision);
        }
    });
    let began = Instant::now();
    harness.ecs("CreateService", create("heard")).await;
    assert_eq!(began.elapsed(), Duration::from_millis(10));

    let began = Instant::now();
    harness.register("web", 256, 64).await;
    assert_eq!(began.elapsed(), Duration::ZERO, "a definition is of no concern to the router");
}
