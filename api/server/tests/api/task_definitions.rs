use serde_json::{Value, json};

use crate::harness::{Harness, assert_contains};

/// What people have in their repositories.
fn as_people_write_them() -> Vec<Value> {
    let one = |container: Value| json!({"family": "one", "containerDefinitions": [container]});
    let with = |more: Value| {
        let mut definition = one(json!({"name": "app", "image": "acme/app", "memory": 128}));
        definition.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        definition
    };
    vec![
        json!({
            "family": "web-app",
            "taskRoleArn": "arn:aws:iam::123456789012:role/webTaskRole",
            "executionRoleArn": "arn:aws:iam::123456789012:role/ecsTaskExecutionRole",
            "networkMode": "awsvpc",
            "requiresCompatibilities": ["FARGATE"],
            "cpu": "512", "memory": "1024",
            "runtimePlatform": {"cpuArchitecture": "X86_64", "operatingSystemFamily": "LINUX"},
            "containerDefinitions": [
                {
                    "name": "web", "image": "acme/web:1.4", "cpu": 256, "memory": 512, "memoryReservation": 256,
                    "essential": true,
                    "portMappings": [{"containerPort": 80, "protocol": "tcp", "name": "http", "appProtocol": "http"}],
                    "environment": [{"name": "ENVIRONMENT", "value": "production"}],
                    "secrets": [{
                        "name": "DB_PASSWORD",
                        "valueFrom": "arn:aws:secretsmanager:us-east-1:123456789012:secret:db-pass-AbCdEf"
                    }],
                    "logConfiguration": {"logDriver": "awslogs", "options": {
                        "awslogs-group": "/ecs/web-app", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "web",
                        "awslogs-create-group": "true"
                    }},
                    "healthCheck": {
                        "command": ["CMD-SHELL", "curl -f http://localhost/health || exit 1"],
                        "interval": 30, "timeout": 5, "retries": 3, "startPeriod": 60
                    },
                    "ulimits": [{"name": "nofile", "softLimit": 65536, "hardLimit": 65536}], "stopTimeout": 120,
                    "dependsOn": [{"containerName": "proxy", "condition": "START"}]
                },
                {"name": "proxy", "image": "acme/proxy:2", "cpu": 128, "memory": 256, "essential": false}
            ],
        }),
        json!({
            "family": "ec2-style", "networkMode": "bridge", "requiresCompatibilities": ["EC2"],
            "containerDefinitions": [{
                "name": "web", "image": "acme/web", "memory": 128, "portMappings": [{"containerPort": 80, "hostPort": 0}]
            }],
        }),
        one(json!({"name": "app", "image": "acme/app"})),
        with(json!({"volumes": [{
            "name": "data",
            "efsVolumeConfiguration": {
                "fileSystemId": "fs-1", "transitEncryption": "ENABLED",
                "authorizationConfig": {"accessPointId": "fsap-1", "iam": "ENABLED"}
            }
        }]})),
        json!({
            "family": "one",
            "volumes": [{"name": "data", "host": {"sourcePath": "/srv/data"}}, {"name": "scratch"}],
            "containerDefinitions": [{
                "name": "app", "image": "acme/app",
                "mountPoints": [
                    {"sourceVolume": "data", "containerPath": "/mnt/data", "readOnly": false},
                    {"sourceVolume": "scratch", "containerPath": "/tmp", "readOnly": true}
                ]
            }],
        }),
        with(json!({
            "ephemeralStorage": {"sizeInGiB": 30},
            "placementConstraints": [{"type": "memberOf", "expression": "attribute:ecs.os-type == linux"}],
            "proxyConfiguration": {"type": "APPMESH", "containerName": "app", "properties": [{"name": "a", "value": "b"}]},
            "pidMode": "task", "ipcMode": "none",
        })),
        one(json!({
            "name": "app", "image": "acme/app",
            "resourceRequirements": [{"type": "GPU", "value": "1"}],
            "linuxParameters": {"initProcessEnabled": true, "capabilities": {"drop": ["ALL"]}},
            "dockerLabels": {"coracle.fuel": "1000", "team": "shop"},
            "entryPoint": ["app"], "command": ["serve", "--port", "80"], "workingDirectory": "/srv",
            "startTimeout": 30, "user": "1000:1000", "readonlyRootFilesystem": true, "privileged": false,
            "firelensConfiguration": {"type": "fluentbit"},
            "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::bucket/file.env"}],
            "restartPolicy": {"enabled": true, "ignoredExitCodes": [0], "restartAttemptPeriod": 60},
            "logConfiguration": {
                "logDriver": "awsfirelens", "options": {"Name": "x"},
                "secretOptions": [{"name": "key", "valueFrom": "arn:aws:ssm:us-east-1:1:parameter/x"}]
            },
        })),
    ]
}

#[tokio::test]
async fn everything_people_write_registers_and_comes_back_whole() {
    let harness = Harness::new();
    for definition in as_people_write_them() {
        let registered = harness.ecs("RegisterTaskDefinition", definition.clone()).await;
        assert_contains(&definition, &registered["taskDefinition"], "registered");
        let arn = &registered["taskDefinition"]["taskDefinitionArn"];
        let described = harness.ecs("DescribeTaskDefinition", json!({"taskDefinition": arn})).await;
        assert_eq!(described["taskDefinition"], registered["taskDefinition"]);
        // What was answered can be registered again, as people do to change one thing.
        let again = harness.ecs("RegisterTaskDefinition", described["taskDefinition"].clone()).await;
        let strip = |mut definition: Value| {
            for member in ["taskDefinitionArn", "revision"] {
                definition.as_object_mut().unwrap().remove(member);
            }
            definition
        };
        assert_eq!(strip(again["taskDefinition"].clone()), strip(registered["taskDefinition"].clone()));
    }
}

#[tokio::test]
async fn the_defaults_are_answered() {
    let harness = Harness::new();
    let body = json!({
        "family": "web",
        "tags": [{"key": "team", "value": "shop"}],
        "containerDefinitions": [{
            "name": "app", "image": "acme/app", "portMappings": [{"containerPort": 80}],
            "healthCheck": {"command": ["CMD", "check"]},
        }],
    });
    let answer = harness.ecs("RegisterTaskDefinition", body).await;
    assert_eq!(
        answer,
        json!({
            "taskDefinition": {
                "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/web:1",
                "family": "web",
                "revision": 1,
                "status": "ACTIVE",
                "containerDefinitions": [{
                    "name": "app", "image": "acme/app", "cpu": 0, "essential": true,
                    "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
                    "environment": [], "mountPoints": [], "volumesFrom": [], "systemControls": [],
                    "healthCheck": {"command": ["CMD", "check"], "interval": 30, "timeout": 5, "retries": 3},
                }],
                "volumes": [],
                "placementConstraints": [],
                "compatibilities": ["EC2"],
                "registeredAt": 1_795_254_385.25,
                "registeredBy": "arn:aws:iam::123456789012:root",
            },
            "tags": [{"key": "team", "value": "shop"}],
        })
    );
}

#[tokio::test]
async fn revisions_go_up_and_are_never_used_twice() {
    let harness = Harness::new();
    for revision in 1..=3 {
        assert!(harness.register("app", 128, 64).await.ends_with(&format!("app:{revision}")));
    }
    let latest =
        |family: &'static str| harness.ecs("DescribeTaskDefinition", json!({"taskDefinition": family}));
    assert_eq!(latest("app").await["taskDefinition"]["revision"], 3);
    let gone = harness.ecs("DeregisterTaskDefinition", json!({"taskDefinition": "app:3"})).await;
    assert_eq!(gone["taskDefinition"]["status"], "INACTIVE");
    assert_eq!(gone["taskDefinition"]["deregisteredAt"], 1_795_254_385.25);
    assert_eq!(latest("app").await["taskDefinition"]["revision"], 2, "the latest ACTIVE one");
    assert_eq!(latest("app:3").await["taskDefinition"]["status"], "INACTIVE");

    let deleted =
        harness.ecs("DeleteTaskDefinitions", json!({"taskDefinitions": ["app:3", "app:2", "app:9"]})).await;
    assert_eq!(deleted["taskDefinitions"][0]["status"], "DELETE_IN_PROGRESS");
    assert_eq!(deleted["failures"].as_array().unwrap().len(), 2);
    assert!(harness.register("app", 128, 64).await.ends_with("app:4"));
    let refused = harness.refused("DescribeTaskDefinition", json!({"taskDefinition": "app:3"})).await;
    assert_eq!(refused, ("ClientException".into(), "Unable to describe task definition.".into()));
    let refused = harness.refused("RunTask", json!({"taskDefinition": "app:3"})).await;
    assert_eq!(refused, ("ClientException".into(), "TaskDefinition not found.".into()));
    harness.ecs("DeregisterTaskDefinition", json!({"taskDefinition": "app:1"})).await;
    let refused = harness.refused("RunTask", json!({"taskDefinition": "app:1"})).await;
    assert_eq!(refused, ("ClientException".into(), "TaskDefinition is inactive".into()));
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_paged() {
    let harness = Harness::new();
    for family in ["b", "a", "a", "ab"] {
        harness.register(family, 128, 64).await;
    }
    harness.ecs("DeregisterTaskDefinition", json!({"taskDefinition": "b:1"})).await;
    let names = |answer: &Value| -> Vec<String> {
        let arns = answer["taskDefinitionArns"].as_array().unwrap().iter();
        arns.map(|arn| arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned()).collect()
    };
    let list = |body| harness.ecs("ListTaskDefinitions", body);
    assert_eq!(names(&list(json!({})).await), ["a:1", "a:2", "ab:1"]);
    assert_eq!(names(&list(json!({"sort": "DESC"})).await), ["ab:1", "a:2", "a:1"]);
    assert_eq!(names(&list(json!({"familyPrefix": "a"})).await), ["a:1", "a:2"]);
    assert_eq!(names(&list(json!({"status": "INACTIVE"})).await), ["b:1"]);
    let first = list(json!({"sort": "DESC", "maxResults": 1})).await;
    let second = list(json!({"sort": "DESC", "maxResults": 2, "nextToken": first["nextToken"]})).await;
    assert_eq!((names(&first), names(&second)), (vec!["ab:1".into()], vec!["a:2".into(), "a:1".into()]));
    assert_eq!(second["nextToken"], Value::Null);

    let families = |body| harness.ecs("ListTaskDefinitionFamilies", body);
    assert_eq!(families(json!({})).await["families"], json!(["a", "ab", "b"]));
    assert_eq!(
        families(json!({"status": "ACTIVE", "familyPrefix": "a"})).await["families"],
        json!(["a", "ab"])
    );
    assert_eq!(families(json!({"status": "INACTIVE"})).await["families"], json!(["b"]));
}

#[tokio::test]
async fn refusals_say_what_and_where() {
    let harness = Harness::new();
    let app = json!({"name": "app", "image": "a"});
    for (body, name, text) in [
        (json!({"containerDefinitions": [app]}), "ClientException", "Family should not be null"),
        (
            json!({"family": "a b", "containerDefinitions": [app]}),
            "ClientException",
            "Family contains invalid",
        ),
        (json!({"family": "a"}), "ClientException", "Container list cannot be empty."),
        (
            json!({"family": "a", "containerDefinitions": []}),
            "ClientException",
            "Container list cannot be empty.",
        ),
        (
            json!({"family": "a", "containerDefinitions": [{"name": "x"}]}),
            "ClientException",
            "Container.image",
        ),
        (
            json!({"family": "a", "containerDefinitions": [{"image": "x"}]}),
            "ClientException",
            "Container.name",
        ),
        (
            json!({"family": "a", "containerDefinitions": [app], "cpu": "much"}),
            "ClientException",
            "'cpu' setting",
        ),
        (
            json!({"family": "a", "containerDefinitions": [{"name": "x", "image": "a", "memory": "64"}]}),
            "SerializationException",
            "containerDefinitions[0].memory must be an integer, not a string",
        ),
        (
            json!({"family": "a", "containerDefinitions": [{"name": "x", "image": "a", "cpu": -1}]}),
            "ClientException",
            "containerDefinitions[0].cpu: -1 is not between 0 and",
        ),
        (
            json!({"family": "a", "containerDefinitions": [app], "networkMode": "vpn"}),
            "ClientException",
            "\"vpn\" is not one of awsvpc, bridge, host, none",
        ),
        (
            json!({"family": "a", "containerDefinitions": [{"name": "x", "image": "y".repeat(70_000)}]}),
            "ClientException",
            "Max allowed length is '65536' bytes",
        ),
    ] {
        let refused = harness.refused("RegisterTaskDefinition", body).await;
        assert_eq!(refused.0, name, "{}", refused.1);
        assert!(refused.1.contains(text), "{:?} does not contain {text:?}", refused.1);
    }
}
