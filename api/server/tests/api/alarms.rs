//! CloudWatch's alarms and metrics, as clients send them: in JSON, in CBOR, and in Query.

use axum::body::Body;
use coracle_protocol::cbor;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

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

/// As SDKs that speak Smithy's RPC v2 send it; the answer's status, headers and body.
async fn cbor_call(harness: &Harness, operation: &str, body: &Value) -> (u16, http::HeaderMap, Value) {
    let request = Request::post(format!("/service/GraniteServiceVersion20100801/operation/{operation}"))
        .header("smithy-protocol", "rpc-v2-cbor")
        .header("content-type", "application/cbor")
        .header("accept", "application/cbor")
        .header("x-amzn-query-mode", "true");
    let request = request.body(Body::from(cbor::encode(body))).unwrap();
    let response = harness.app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let value = cbor::decode(&body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
    (parts.status.as_u16(), parts.headers, value)
}

#[tokio::test]
async fn cbor_is_spoken_too() {
    let harness = Harness::new();
    let (status, headers, _) = cbor_call(&harness, "PutMetricAlarm", &alarm("a")).await;
    assert_eq!(status, 200);
    assert_eq!(headers["smithy-protocol"], "rpc-v2-cbor");
    let (_, headers, shown) = cbor_call(&harness, "DescribeAlarms", &json!({})).await;
    assert_eq!(headers["content-type"], "application/cbor");
    assert_eq!(shown["MetricAlarms"][0]["StateUpdatedTimestamp"], 1_795_254_385.25);
    let (status, headers, error) =
        cbor_call(&harness, "DeleteAlarms", &json!({"AlarmNames": ["none"]})).await;
    assert_eq!((status, error["__type"].as_str()), (400, Some("ResourceNotFound")));
    assert_eq!(headers["smithy-protocol"], "rpc-v2-cbor");
    assert_eq!(headers["x-amzn-query-error"], "ResourceNotFound;Sender");
    // Named otherwise in the model than in Query.
    let bad = json!({"AlarmName": "a", "StateValue": "OK", "StateReason": "x", "StateReasonData": "{"});
    let (_, headers, error) = cbor_call(&harness, "SetAlarmState", &bad).await;
    assert_eq!(error["__type"], "InvalidFormatFault");
    assert_eq!(headers["x-amzn-query-error"], "InvalidFormat;Sender");
    let (status, _, error) = cbor_call(&harness, "PutDashboard", &json!({})).await;
    assert_eq!((status, error["__type"].as_str()), (400, Some("UnknownOperationException")));
    let request = Request::post("/service/GraniteServiceVersion20100801/operation/DescribeAlarms")
        .header("smithy-protocol", "rpc-v2-cbor");
    let response = harness.app.clone().oneshot(request.body(Body::from("{}")).unwrap()).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(cbor::decode(&body).unwrap()["__type"], "SerializationException");
}

#[tokio::test]
async fn composite_alarms_watch_what_is_there() {
    let harness = Harness::new();
    for name in ["errors", "slow"] {
        assert_eq!(json_call(&harness, "PutMetricAlarm", &alarm(name)).await.status, 200);
    }
    let put = async |name: &str, rule: &str| {
        json_call(&harness, "PutCompositeAlarm", &json!({"AlarmName": name, "AlarmRule": rule})).await
    };
    let rule = "ALARM(\"errors\") OR ALARM(arn:aws:cloudwatch:us-east-1:123456789012:alarm:slow)";
    assert_eq!(put("both", rule).await.status, 200);
    for (name, rule, says) in [
        ("x", "ALARM(nobody)", "does not exist: \"nobody\""),
        ("x", "ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:slow)", "of this region"),
        ("x", "ALARM(", "Invalid value for AlarmRule: at character 7"),
        ("errors", "TRUE", "of the other kind"),
    ] {
        let refused = put(name, rule).await.json();
        assert_eq!(refused["__type"], "ValidationError");
        assert!(refused["message"].as_str().unwrap().contains(says), "{rule}: {refused}");
    }
    let names = async |request: Value| -> Vec<String> {
        let answer = json_call(&harness, "DescribeAlarms", &request).await.json();
        let lists = ["MetricAlarms", "CompositeAlarms"].map(|kind| answer[kind].as_array().unwrap().clone());
        lists.concat().iter().map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(json!({})).await, ["errors", "slow"], "composite ones have to be asked for");
    assert_eq!(
        names(json!({"AlarmTypes": ["CompositeAlarm", "MetricAlarm"]})).await,
        ["errors", "slow", "both"]
    );
    assert_eq!(names(json!({"ChildrenOfAlarmName": "both"})).await, ["errors", "slow"]);
    assert_eq!(names(json!({"ParentsOfAlarmName": "slow"})).await, ["both"]);
    let only = json!({"AlarmTypes": ["CompositeAlarm"], "AlarmNames": ["both"]});
    let shown = json_call(&harness, "DescribeAlarms", &only).await.json();
    assert_eq!(shown["CompositeAlarms"][0]["AlarmRule"], rule);
    assert_eq!(shown["CompositeAlarms"][0]["StateValue"], "INSUFFICIENT_DATA");
    let depended_on = json_call(&harness, "DeleteAlarms", &json!({"AlarmNames": ["slow"]})).await.json();
    assert_eq!(
        depended_on["message"], "Cannot delete slow as there are composite alarm(s) depending on it.",
        "{depended_on}"
    );
    let together = json!({"AlarmNames": ["slow", "both"]});
    assert_eq!(json_call(&harness, "DeleteAlarms", &together).await.status, 200);
}

#[tokio::test]
async fn values_are_sent_listed_and_read() {
    let harness = Harness::new();
    let page = json!([{"Name": "Page", "Value": "cart"}]);
    let values = json!({"Namespace": "Shop", "MetricData": [
        {"MetricName": "Errors", "Dimensions": page, "Value": 2, "Unit": "Count"},
        {"MetricName": "Errors", "Dimensions": page, "Values": [1, 5], "Counts": [3, 1]},
        {"MetricName": "Orders", "Value": 7.5},
    ]});
    assert_eq!(json_call(&harness, "PutMetricData", &values).await.status, 200);
    let form = "Action=PutMetricData&Namespace=Shop&MetricData.member.1.MetricName=Orders&MetricData.member.1.Value=0.5\
                &MetricData.member.1.Timestamp=2026-11-21T09%3A46%3A01Z";
    let sent = query_call(&harness, form).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let refused = json!({"Namespace": "AWS/ECS", "MetricData": [{"MetricName": "a", "Value": 1}]});
    let refused = json_call(&harness, "PutMetricData", &refused).await;
    assert_eq!(refused.json()["__type"], "InvalidParameterValueException");
    assert_eq!(refused.header("x-amzn-query-error"), "InvalidParameterValue;Sender");

    let listed = json_call(&harness, "ListMetrics", &json!({"Namespace": "Shop"})).await.json();
    let names: Vec<_> = listed["Metrics"].as_array().unwrap().iter().map(|one| &one["MetricName"]).collect();
    assert_eq!(names, ["Errors", "Orders"]);
    assert_eq!(listed["Metrics"][0]["Dimensions"], page);
    // The clock stands at 09:46:25.
    let asked = json!({
        "Namespace": "Shop", "MetricName": "Errors", "Dimensions": page, "Statistics": ["Sum", "Maximum", "SampleCount"],
        "Period": 60, "StartTime": 1_795_254_300, "EndTime": 1_795_254_420,
    });
    let read = json_call(&harness, "GetMetricStatistics", &asked).await.json();
    assert_eq!(
        read,
        json!({"Label": "Errors", "Datapoints": [
            {"Timestamp": 1_795_254_360.0, "Sum": 10.0, "Maximum": 5.0, "SampleCount": 5.0, "Unit": "Count"},
        ]})
    );
    let stat = json!({"Metric": {"Namespace": "Shop", "MetricName": "Orders"}, "Period": 60, "Stat": "Sum"});
    let asked = json!({
        "MetricDataQueries": [{"Id": "a", "MetricStat": stat}], "StartTime": 1_795_254_300, "EndTime": 1_795_254_420,
    });
    let (_, _, read) = cbor_call(&harness, "GetMetricData", &asked).await;
    let result = &read["MetricDataResults"][0];
    assert_eq!((&result["Timestamps"], &result["Values"]), (&json!([1_795_254_360.0]), &json!([8.0])));
}

#[tokio::test]
async fn metrics_are_computed_from_others() {
    let harness = Harness::new();
    let values = json!({"Namespace": "Shop", "MetricData": [
        {"MetricName": "Errors", "Value": 2}, {"MetricName": "Orders", "Value": 8},
    ]});
    assert_eq!(json_call(&harness, "PutMetricData", &values).await.status, 200);
    let metric = |id: &str, name: &str| {
        let stat = json!({"Metric": {"Namespace": "Shop", "MetricName": name}, "Period": 60, "Stat": "Sum"});
        json!({"Id": id, "MetricStat": stat, "ReturnData": false})
    };
    let ask = async |formulas: &[(&str, &str)]| {
        let mut queries = vec![metric("errors", "Errors"), metric("orders", "Orders")];
        queries.extend(formulas.iter().map(|(id, formula)| json!({"Id": id, "Expression": formula})));
        let asked = json!({
            "MetricDataQueries": queries, "StartTime": 1_795_254_300, "EndTime": 1_795_254_420,
            "ScanBy": "TimestampAscending",
        });
        json_call(&harness, "GetMetricData", &asked).await
    };
    let read = ask(&[("share", "100 * errors / orders"), ("half", "FILL(share, 0) / 2")]).await.json();
    let results = read["MetricDataResults"].as_array().unwrap();
    let shown: Vec<_> = results.iter().map(|one| (&one["Id"], &one["Label"], &one["Values"])).collect();
    let (share, half) = (json!("share"), json!("half"));
    assert_eq!(
        shown,
        [(&share, &share, &json!([25.0])), (&half, &half, &json!([0.0, 12.5]))],
        "what is only used by others is not returned"
    );
    assert_eq!(results[1]["Timestamps"], json!([1_795_254_300.0, 1_795_254_360.0]));
    for (formulas, why) in [
        (&[("a", "SUM(errors)")][..], "comes to a number"),
        (&[("a", "b + 1"), ("b", "a + 1")], "is about itself"),
        (&[("a", "ANOMALY_DETECTION_BAND(errors)")], "there is no function ANOMALY_DETECTION_BAND"),
        (&[("a", "errors +")], "it ends where a value was expected"),
    ] {
        let refused = ask(formulas).await;
        let message = refused.json()["message"].as_str().unwrap_or_default().to_owned();
        assert!(refused.status == 400 && message.contains("Error in expression 'a'"), "{}", refused.text);
        assert!(message.contains(why), "{message}");
    }
}
