use serde_json::json;

use crate::harness::Harness;

#[tokio::test]
async fn every_resource_has_tags() {
    let harness = Harness::new();
    let definition = harness.register("app", 128, 64).await;
    let body = json!({"serviceName": "web", "taskDefinition": "app", "desiredCount": 0});
    let service = harness.ecs("CreateService", body).await["service"]["serviceArn"].clone();
    let task = harness.ecs("RunTask", json!({"taskDefinition": "app"})).await["tasks"][0]["taskArn"].clone();
    let cluster = json!("arn:aws:ecs:us-east-1:123456789012:cluster/default");
    for arn in [cluster, service, json!(definition), task] {
        let tags = json!([{"key": "a", "value": "1"}, {"key": "b", "value": "2"}]);
        assert_eq!(harness.ecs("TagResource", json!({"resourceArn": arn, "tags": tags})).await, json!({}));
        let list = || harness.ecs("ListTagsForResource", json!({"resourceArn": arn}));
        assert_eq!(list().await["tags"], tags, "{arn}");
        let many: Vec<_> = (0..50).map(|n| json!({"key": n.to_string(), "value": ""})).collect();
        let refused = harness.refused("TagResource", json!({"resourceArn": arn, "tags": many})).await;
        assert!(refused.1.contains("at most 50"), "{}", refused.1);
        harness.ecs("UntagResource", json!({"resourceArn": arn, "tagKeys": ["a", "zzz"]})).await;
        assert_eq!(list().await["tags"], json!([{"key": "b", "value": "2"}]), "{arn}");
    }
    let described = harness.ecs("DescribeTaskDefinition", json!({"taskDefinition": "app"})).await;
    assert_eq!(described.get("tags"), None, "only when asked for");
    let body = json!({"taskDefinition": "app", "include": ["TAGS"]});
    assert_eq!(
        harness.ecs("DescribeTaskDefinition", body).await["tags"],
        json!([{"key": "b", "value": "2"}])
    );
}

#[tokio::test]
async fn what_is_not_there_has_none() {
    let harness = Harness::new();
    for (arn, name) in [
        ("arn:aws:ecs:us-east-1:1:cluster/nope", "ClusterNotFoundException"),
        ("arn:aws:ecs:us-east-1:1:service/default/nope", "InvalidParameterException"),
        ("arn:aws:ecs:us-east-1:1:task-definition/nope:1", "InvalidParameterException"),
        ("arn:aws:ecs:eu-west-1:1:cluster/default", "ClusterNotFoundException"),
        ("nonsense", "InvalidParameterException"),
    ] {
        let refused = harness.refused("ListTagsForResource", json!({"resourceArn": arn})).await;
        assert_eq!(refused.0, name, "{arn}");
    }
    let tags = json!([{"key": "aws:x", "value": ""}]);
    let arn = "arn:aws:ecs:us-east-1:1:cluster/default";
    let refused = harness.refused("TagResource", json!({"resourceArn": arn, "tags": tags})).await;
    assert_eq!(refused.0, "InvalidParameterException");
}
