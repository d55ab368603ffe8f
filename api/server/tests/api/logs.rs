use serde_json::{Value, json};

use crate::harness::Harness;

async fn logs(harness: &Harness, operation: &str, body: Value) -> (u16, Value) {
    let answer = harness.target(&format!("Logs_20140328.{operation}"), None, &body).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn written_listed_read_and_filtered() {
    let harness = Harness::new();
    let group = "/ecs/web-app";
    let ok = async |operation: &str, body: Value| {
        let (status, answer) = logs(&harness, operation, body).await;
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    };
    ok("CreateLogGroup", json!({"logGroupName": group})).await;
    ok("CreateLogStream", json!({"logGroupName": group, "logStreamName": "web/web/1"})).await;
    let events = json!([
        {"timestamp": 1_795_254_385_000i64, "message": "GET / 200"},
        {"timestamp": 1_795_254_386_000i64, "message": "GET / 500"},
    ]);
    ok("PutLogEvents", json!({"logGroupName": group, "logStreamName": "web/web/1", "logEvents": events}))
        .await;

    let groups = ok("DescribeLogGroups", json!({"logGroupNamePrefix": "/ecs/"})).await;
    assert_eq!(groups["logGroups"][0]["logGroupName"], group);
    assert_eq!(
        groups["logGroups"][0]["arn"],
        format!("arn:aws:logs:us-east-1:123456789012:log-group:{group}:*")
    );
    let streams = ok("DescribeLogStreams", json!({"logGroupName": group, "orderBy": "LastEventTime"})).await;
    assert_eq!(streams["logStreams"][0]["lastEventTimestamp"], 1_795_254_386_000i64);

    let get = json!({"logGroupIdentifier": groups["logGroups"][0]["arn"], "logStreamName": "web/web/1"});
    let page = ok("GetLogEvents", get).await;
    assert_eq!(page["events"][0]["message"], "GET / 200");
    assert!(page["nextForwardToken"].as_str().unwrap().starts_with("f/"));
    let found = ok("FilterLogEvents", json!({"logGroupName": group, "filterPattern": "500"})).await;
    assert_eq!(found["events"].as_array().unwrap().len(), 1);
    for member in ["eventId", "logStreamName", "timestamp", "ingestionTime", "message"] {
        assert!(found["events"][0].get(member).is_some(), "{member}");
    }
}

#[tokio::test]
async fn errors_have_their_names() {
    let harness = Harness::new();
    let create = json!({"logGroupName": "a"});
    logs(&harness, "CreateLogGroup", create.clone()).await;
    for (operation, body, name) in [
        ("CreateLogGroup", create, "ResourceAlreadyExistsException"),
        ("GetLogEvents", json!({"logGroupName": "nope", "logStreamName": "s"}), "ResourceNotFoundException"),
        ("GetLogEvents", json!({"logGroupName": "a", "logStreamName": "s"}), "ResourceNotFoundException"),
        ("FilterLogEvents", json!({}), "InvalidParameterException"),
        ("FilterLogEvents", json!({"logGroupName": "nope"}), "ResourceNotFoundException"),
        ("DescribeLogGroups", json!({"limit": 51}), "InvalidParameterException"),
        (
            "PutLogEvents",
            json!({"logGroupName": "a", "logStreamName": "s", "logEvents": []}),
            "InvalidParameterException",
        ),
    ] {
        let (status, error) = logs(&harness, operation, body).await;
        assert_eq!((status, error["__type"].as_str().unwrap()), (400, name), "{operation}");
    }
}

#[tokio::test]
async fn kept_for_some_days_and_deleted() {
    let harness = Harness::new();
    let group = json!({"logGroupName": "/ecs/web"});
    let with = |extra: Value| {
        let mut body = group.clone();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    assert_eq!(logs(&harness, "CreateLogGroup", group.clone()).await.0, 200);
    assert_eq!(logs(&harness, "PutRetentionPolicy", with(json!({"retentionInDays": 7}))).await.0, 200);
    let (_, groups) = logs(&harness, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0]["retentionInDays"], 7);
    let (status, error) = logs(&harness, "PutRetentionPolicy", with(json!({"retentionInDays": 8}))).await;
    assert_eq!((status, &error["__type"]), (400, &json!("InvalidParameterException")));
    assert_eq!(logs(&harness, "DeleteRetentionPolicy", group.clone()).await.0, 200);
    let (_, groups) = logs(&harness, "DescribeLogGroups", json!({})).await;
    assert_eq!(groups["logGroups"][0].get("retentionInDays"), None);

    let stream = with(json!({"logStreamName": "s"}));
    assert_eq!(logs(&harness, "CreateLogStream", stream.clone()).await.0, 200);
    assert_eq!(logs(&harness, "DeleteLogStream", stream.clone()).await.0, 200);
    let (_, error) = logs(&harness, "DeleteLogStream", stream).await;
    assert_eq!(error["__type"], "ResourceNotFoundException");
    assert_eq!(logs(&harness, "DeleteLogGroup", group.clone()).await.0, 200);
    let (_, error) = logs(&harness, "DeleteLogGroup", group).await;
    assert_eq!(error["__type"], "ResourceNotFoundException");
}
