use serde_json::{Value, json};

use crate::harness::Harness;

fn merged(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn definition(container: &Value) -> Value {
    let container = merged(json!({"name": "app", "image": "a"}), container);
    json!({"family": "app", "containerDefinitions": [container]})
}

/// What is kept and given back has to be readable for a client of the model.
#[tokio::test]
async fn members_of_the_wrong_type_are_refused_wherever_they_are() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    let before = harness.store.snapshot().revision;
    let mut requests = Vec::new();
    for member in [
        json!({"ulimits": "x"}),
        json!({"ulimits": [{"name": "nofile", "softLimit": "1", "hardLimit": 1}]}),
        json!({"secrets": [1]}),
        json!({"linuxParameters": "x"}),
        json!({"user": 1}),
        json!({"privileged": "x"}),
        json!({"restartPolicy": {"ignoredExitCodes": [1.5]}}),
        json!({"cpu": 4_294_967_296u64}),
    ] {
        requests.push(("RegisterTaskDefinition", definition(&member)));
    }
    for member in [json!({"taskRoleArn": 5}), json!({"ephemeralStorage": {"sizeInGiB": "x"}})] {
        requests.push(("RegisterTaskDefinition", merged(definition(&json!({})), &member)));
    }
    for member in [
        json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": "x"}}}),
        json!({"enableExecuteCommand": "yes"}),
        json!({"overrides": {"taskRoleArn": 1}}),
        json!({"overrides": {"containerOverrides": [{"name": "app", "resourceRequirements": "x"}]}}),
    ] {
        requests.push(("RunTask", merged(json!({"taskDefinition": "app"}), &member)));
    }
    for member in [
        json!({"loadBalancers": "x"}),
        json!({"enableECSManagedTags": "x"}),
        json!({"deploymentConfiguration": {"alarms": "x"}}),
        json!({"serviceConnectConfiguration": {"services": {}}}),
    ] {
        requests
            .push(("CreateService", merged(json!({"serviceName": "a", "taskDefinition": "app"}), &member)));
    }
    requests.push(("CreateCluster", json!({"configuration": []})));
    for (operation, body) in requests {
        assert_eq!(harness.refused(operation, body.clone()).await.0, "SerializationException", "{body}");
    }
    assert_eq!(harness.store.snapshot().revision, before, "nothing of it was kept");
}

#[tokio::test]
async fn strings_that_are_none_of_the_possible_ones_are_refused() {
    let harness = Harness::new();
    harness.register("app", 64, 64).await;
    for (operation, body, name, place) in [
        (
            "RegisterTaskDefinition",
            definition(&json!({"portMappings": [{"containerPort": 80, "protocol": "ip"}]})),
            "ClientException",
            "containerDefinitions[0].portMappings[0].protocol",
        ),
        (
            "RegisterTaskDefinition",
            definition(&json!({"logConfiguration": {"logDriver": "paper"}})),
            "ClientException",
            "containerDefinitions[0].logConfiguration.logDriver",
        ),
        (
            "CreateService",
            json!({"serviceName": "a", "taskDefinition": "app", "placementStrategy": [{"type": "stack"}]}),
            "InvalidParameterException",
            "placementStrategy[0].type",
        ),
        ("DescribeClusters", json!({"include": ["EVERYTHING"]}), "InvalidParameterException", "include[0]"),
    ] {
        let refused = harness.refused(operation, body).await;
        assert_eq!(refused.0, name);
        assert!(refused.1.contains(place), "{}", refused.1);
    }
}

#[tokio::test]
async fn members_the_model_does_not_have_are_left_out() {
    let harness = Harness::new();
    let container = json!({
        "bogus": {"x": 1}, "portMappings": [{"containerPort": 80, "bogus": 1}],
        "linuxParameters": {"capabilities": null, "swappiness": 5, "bogus": true}, "dockerLabels": {"bogus2": "kept"},
    });
    let body = merged(definition(&container), &json!({"bogus": 1, "revision": 77}));
    let answer = harness.ecs("RegisterTaskDefinition", body).await;
    let text = answer.to_string();
    assert!(!text.contains("bogus\"") && !text.contains("null"), "{text}");
    let registered = &answer["taskDefinition"];
    assert_eq!(registered["revision"], 1, "an answer that is pasted into a request says nothing");
    assert_eq!(registered["containerDefinitions"][0]["linuxParameters"], json!({"swappiness": 5}));
    assert_eq!(registered["containerDefinitions"][0]["dockerLabels"], json!({"bogus2": "kept"}));
}
