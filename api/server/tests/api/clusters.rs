use coracle_types::LastStatus;
use serde_json::{Value, json};

use crate::harness::{Harness, NOW};

#[tokio::test]
async fn the_walk() {
    let harness = Harness::new();
    let body = json!({
        "clusterName": "prod",
        "settings": [{"name": "containerInsights", "value": "enabled"}],
        "tags": [{"key": "team", "value": "shop"}],
    });
    let made = harness.ecs("CreateCluster", body.clone()).await;
    assert_eq!(
        made["cluster"],
        json!({
            "clusterArn": "arn:aws:ecs:us-east-1:123456789012:cluster/prod",
            "clusterName": "prod",
            "status": "ACTIVE",
            "registeredContainerInstancesCount": 1,
            "runningTasksCount": 0,
            "pendingTasksCount": 0,
            "activeServicesCount": 0,
            "statistics": made["cluster"]["statistics"],
            "tags": [{"key": "team", "value": "shop"}],
            "settings": [{"name": "containerInsights", "value": "enabled"}],
            "capacityProviders": [],
            "defaultCapacityProviderStrategy": [],
        })
    );
    assert_eq!(made["cluster"]["statistics"].as_array().unwrap().len(), 8);
    assert_eq!(harness.ecs("CreateCluster", json!({"clusterName": "prod"})).await, made, "it is idempotent");

    let described = harness.ecs("DescribeClusters", json!({"clusters": ["prod", "nope"]})).await;
    assert_eq!(described["clusters"][0]["tags"], json!([]), "only with include");
    assert_eq!(
        described["failures"],
        json!([{"arn": "arn:aws:ecs:us-east-1:123456789012:cluster/nope", "reason": "MISSING"}])
    );
    let updated = harness
        .ecs(
            "PutClusterCapacityProviders",
            json!({
                "cluster": "prod", "capacityProviders": ["FARGATE"],
                "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}],
            }),
        )
        .await;
    assert_eq!(updated["cluster"]["capacityProviders"], json!(["FARGATE"]));

    let deleted = harness.ecs("DeleteCluster", json!({"cluster": made["cluster"]["clusterArn"]})).await;
    assert_eq!(deleted["cluster"]["status"], "INACTIVE");
    let again = harness.refused("DeleteCluster", json!({"cluster": "prod"})).await;
    assert_eq!(again, ("ClusterNotFoundException".into(), "Cluster not found.".into()));
    let listed = harness.ecs("ListClusters", json!({})).await;
    assert_eq!(listed["clusterArns"], json!(["arn:aws:ecs:us-east-1:123456789012:cluster/default"]));
}

#[tokio::test]
async fn every_region_has_a_default_cluster_of_its_own() {
    let harness = Harness::new();
    harness.ecs("CreateCluster", json!({"clusterName": "prod"})).await;
    let target = "AmazonEC2ContainerServiceV20141113.ListClusters";
    let answer = harness.target(target, Some("eu-west-1"), &json!({})).await;
    assert_eq!(answer.json()["clusterArns"], json!(["arn:aws:ecs:eu-west-1:123456789012:cluster/default"]));
    assert_eq!(harness.ecs("ListServices", json!({})).await, json!({"serviceArns": []}));
}

#[tokio::test]
async fn regions_are_bounded() {
    let harness = Harness::new();
    let target = "AmazonEC2ContainerServiceV20141113.ListClusters";
    for n in 0..256 {
        let answer = harness.target(target, Some(&format!("region-{n}")), &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let answer = harness.target(target, Some("one-more"), &json!({})).await;
    assert_eq!((answer.status, &answer.json()["__type"]), (400, &json!("ClientException")));
    assert_eq!(harness.store.snapshot().clusters.size(), 256);
    assert_eq!(harness.target(target, Some("region-7"), &json!({})).await.status, 200);
}

#[tokio::test]
async fn pages_join_up() {
    let harness = Harness::new();
    for name in ["a", "b", "c", "d"] {
        harness.ecs("CreateCluster", json!({"clusterName": name})).await;
    }
    let (mut all, mut token, mut pages) = (Vec::new(), Value::Null, 0);
    loop {
        let page = harness.ecs("ListClusters", json!({"maxResults": 2, "nextToken": token})).await;
        all.extend(
            page["clusterArns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned()),
        );
        token = page["nextToken"].clone();
        pages += 1;
        if token.is_null() {
            break;
        }
        // A token is good for its own list only.
        let refused = harness.refused("ListServices", json!({"nextToken": token})).await;
        assert_eq!(refused.0, "InvalidParameterException");
    }
    assert_eq!((all, pages), (["a", "b", "c", "d", "default"].map(str::to_owned).to_vec(), 3));
    for limit in [0, 101] {
        let refused = harness.refused("ListClusters", json!({"maxResults": limit})).await;
        assert_eq!(refused.0, "InvalidParameterException");
    }
}

#[tokio::test]
async fn a_cluster_in_use_stays() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    harness
        .ecs("CreateService", json!({"serviceName": "web", "taskDefinition": "app", "desiredCount": 1}))
        .await;
    let refused = harness.refused("DeleteCluster", json!({"cluster": "default"})).await;
    assert_eq!(refused.0, "ClusterContainsServicesException");
    harness.ecs("CreateCluster", json!({"clusterName": "batch"})).await;
    harness.ecs("RunTask", json!({"cluster": "batch", "taskDefinition": "app"})).await;
    let refused = harness.refused("DeleteCluster", json!({"cluster": "batch"})).await;
    assert_eq!(refused.0, "ClusterContainsTasksException");
}

#[tokio::test]
async fn the_node_is_a_container_instance_of_every_cluster() {
    let harness = Harness::new();
    harness.register("app", 128, 64).await;
    harness.ecs("RunTask", json!({"taskDefinition": "app"})).await;
    let listed = harness.ecs("ListContainerInstances", json!({})).await;
    let arn =
        "arn:aws:ecs:us-east-1:123456789012:container-instance/default/00000000000000000000000000000007";
    assert_eq!(listed["containerInstanceArns"], json!([arn]));
    let body = json!({"containerInstances": [arn, "00000000000000000000000000000008"]});
    let described = harness.ecs("DescribeContainerInstances", body).await;
    let instance = &described["containerInstances"][0];
    assert_eq!(instance["pendingTasksCount"], 1);
    assert_eq!(instance["remainingResources"][0]["integerValue"], 1024 - 128);
    assert_eq!(instance["remainingResources"][1]["integerValue"], 2048 - 64);
    assert_eq!(described["failures"][0]["reason"], "MISSING");
}

#[tokio::test]
async fn container_instances_are_filtered_by_the_query_language() {
    let harness = Harness::new();
    let register = json!({
        "totalResources": [{"name": "CPU", "type": "INTEGER", "integerValue": 512},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 512}],
        "attributes": [{"name": "disk", "value": "ssd"}],
    });
    let made = harness.ecs("RegisterContainerInstance", register).await;
    let ssd = made["containerInstance"]["containerInstanceArn"].clone();
    let all = harness.ecs("ListContainerInstances", json!({})).await["containerInstanceArns"].clone();
    let other = all.as_array().unwrap().iter().find(|arn| **arn != ssd).unwrap().clone();
    harness.register("app", 64, 64).await;
    harness.ecs("RunTask", json!({"taskDefinition": "app", "group": "nightly"})).await;
    harness.tasks(|task| task.last_status = LastStatus::Running).await;
    for (filter, wanted) in [
        ("attribute:disk == ssd", json!([ssd])),
        ("attribute:disk !exists", json!([other])),
        ("agentConnected == true", json!([other])),
        ("runningTasksCount > 0", json!([other])),
        ("task:group == nightly", json!([other])),
        ("not (task:group == nightly)", json!([ssd])),
        ("attribute:disk == hdd", json!([])),
    ] {
        let listed = harness.ecs("ListContainerInstances", json!({"filter": filter})).await;
        assert_eq!(listed["containerInstanceArns"], wanted, "{filter}");
    }
    harness.ecs("CreateCluster", json!({"clusterName": "quiet"})).await;
    let elsewhere = json!({"cluster": "quiet", "filter": "runningTasksCount > 0"});
    let listed = harness.ecs("ListContainerInstances", elsewhere).await;
    assert_eq!(listed["containerInstanceArns"], json!([]), "its tasks are another cluster's");

    let (code, text) =
        harness.refused("ListContainerInstances", json!({"filter": "attribute:disk like ssd"})).await;
    assert_eq!(code, "InvalidParameterException");
    assert!(text.starts_with("filter: Invalid expression at character 16: "), "{text}");
}

#[tokio::test]
async fn counts_follow_the_tasks_of_each_cluster() {
    let harness = Harness::new();
    for name in ["prod", "prod-2"] {
        harness.ecs("CreateCluster", json!({"clusterName": name})).await;
        let service =
            json!({"cluster": name, "serviceName": "web", "taskDefinition": "app", "desiredCount": 0});
        harness.register("app", 64, 64).await;
        harness.ecs("CreateService", service).await;
    }
    harness.ecs("RunTask", json!({"cluster": "prod", "taskDefinition": "app", "count": 3})).await;
    let counts = async |name: &str| {
        let answer = harness.ecs("DescribeClusters", json!({"clusters": [name]})).await;
        let cluster = &answer["clusters"][0];
        ["runningTasksCount", "pendingTasksCount", "activeServicesCount"]
            .map(|count| cluster[count].as_u64().unwrap())
    };
    assert_eq!(counts("prod").await, [0, 3, 1]);
    harness.tasks(|task| task.last_status = LastStatus::Running).await;
    assert_eq!(counts("prod").await, [3, 0, 1]);
    assert_eq!(counts("prod-2").await, [0, 0, 1]);
    assert_eq!(counts("default").await, [0, 0, 0]);
    harness.tasks(|task| task.end(NOW)).await;
    assert_eq!(counts("prod").await, [0, 0, 1]);
    let listed = harness.ecs("ListServices", json!({"cluster": "prod"})).await;
    assert_eq!(listed["serviceArns"], json!(["arn:aws:ecs:us-east-1:123456789012:service/prod/web"]));
}
