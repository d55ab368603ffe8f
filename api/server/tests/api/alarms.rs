//! CloudWatch's alarms, as clients send them: in JSON, and in Query.

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::harness::{Answer, Harness};

async fn json_call(harness: &Harness, operation: &str, body: &Value) -> Answer {
    let request = Request::post("/")
        .header("x-amz-target", format!("GraniteServiceVersion20100801.{operation}"))
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amzn-query-mode", "true");
    harness.send(request.body(Body::from(body.to_string())).unwrap()).await
}

async fn query_call(harness: &Harness, form: &str) -> Answer {
    let request = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    let form = format!("{form}&Version=2010-08-01");
    harness.send(request.body(Body::from(form)).unwrap()).await
}

fn alarm(name: &str) -> Value {
    json!({
        "AlarmName": name, "Namespace": "AWS/ECS", "MetricName": "CPUUtilization", "Statistic": "Average",
        "Period": 60, "EvaluationPeriods": 1, "Threshold": 50, "ComparisonOperator": "GreaterThanThreshold",
    })
}

#[tokio::test]
async fn alarms_are_listed_page_by_page_and_filtered() {
    let harness = Harness::new();
    for name in ["b", "a", "c"] {
        assert_eq!(json_call(&harness, "PutMetricAlarm", &alarm(name)).await.status, 200);
    }
    let first = json_call(&harness, "DescribeAlarms", &json!({"MaxRecords": 2})).await.json();
    let names = |page: &Value| -> Vec<String> {
        let alarms = page["MetricAlarms"].as_array().unwrap();
        alarms.iter().map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&first), ["a", "b"]);
    let second =
        json_call(&harness, "DescribeAlarms", &json!({"NextToken": first["NextToken"]})).await.json();
    assert_eq!((names(&second), second.get("NextToken")), (vec!["c".to_owned()], None));
    let none = json_call(&harness, "DescribeAlarms", &json!({"AlarmTypes": ["CompositeAlarm"]})).await.json();
    assert!(names(&none).is_empty());
    let state = json!({"AlarmName": "b", "StateValue": "ALARM", "StateReason": "test"});
    assert_eq!(json_call(&harness, "SetAlarmState", &state).await.status, 200);
    let gone_off = json_call(&harness, "DescribeAlarms", &json!({"StateValue": "ALARM"})).await.json();
    assert_eq!(names(&gone_off), ["b"]);
    json_call(&harness, "DisableAlarmActions", &json!({"AlarmNames": ["b", "none"]})).await;
    let shown = json_call(&harness, "DescribeAlarms", &json!({"AlarmNames": ["b"]})).await.json();
    assert_eq!(shown["MetricAlarms"][0]["ActionsEnabled"], false);
    let watching = json!({"Namespace": "AWS/ECS", "MetricName": "CPUUtilization"});
    let watching = json_call(&harness, "DescribeAlarmsForMetric", &watching).await.json();
    assert_eq!(names(&watching), ["a", "b", "c"]);
}

#[tokio::test]
async fn errors_have_the_codes_of_both_protocols() {
    let harness = Harness::new();
    let missing = json_call(&harness, "DeleteAlarms", &json!({"AlarmNames": ["none"]})).await;
    assert_eq!((missing.status, missing.json()["__type"].as_str()), (400, Some("ResourceNotFound")));
    assert_eq!(missing.header("x-amzn-query-error"), "ResourceNotFound;Sender");
    let missing = query_call(&harness, "Action=DeleteAlarms&AlarmNames.member.1=none").await;
    assert_eq!(missing.element("Code"), "ResourceNotFound");
    let form = "Action=SetAlarmState&AlarmName=a&StateValue=OK&StateReason=x&StateReasonData=%7B";
    assert_eq!(query_call(&harness, form).await.element("Code"), "InvalidFormat");
    assert_eq!(
        json_call(&harness, "PutDashboard", &json!({})).await.json()["__type"],
        "UnknownOperationException"
    );
}

#[tokio::test]
async fn query_is_spoken_too() {
    let harness = Harness::new();
    let form = "Action=PutMetricAlarm&AlarmName=a&Namespace=AWS%2FECS&MetricName=CPUUtilization&Statistic=Average\
                &Period=60&EvaluationPeriods=2&Threshold=50.5&ComparisonOperator=LessThanThreshold\
                &Dimensions.member.1.Name=ClusterName&Dimensions.member.1.Value=default&ActionsEnabled=false";
    let put = query_call(&harness, form).await;
    assert_eq!(put.status, 200, "{}", put.text);
    let shown = query_call(&harness, "Action=DescribeAlarms").await;
    for (element, value) in [
        ("AlarmName", "a"),
        ("Threshold", "50.5"),
        ("ActionsEnabled", "false"),
        ("Value", "default"),
        ("StateUpdatedTimestamp", "2026-11-21T09:46:25.250Z"),
    ] {
        assert_eq!(shown.element(element), value, "{}", shown.text);
    }
}
