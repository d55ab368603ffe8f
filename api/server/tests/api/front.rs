use std::io::Write as _;

use axum::body::Body;
use http::Request;
use serde_json::{Value, json};

use crate::harness::Harness;

const LIST: &str = "AmazonEC2ContainerServiceV20141113.ListClusters";

#[tokio::test]
async fn every_answer_has_an_id() {
    let harness = Harness::new();
    let good = harness.target(LIST, None, &json!({})).await;
    let bad = harness.target("AmazonEC2ContainerServiceV20141113.Nope", None, &json!({})).await;
    for answer in [&good, &bad] {
        assert_eq!(answer.header("x-amzn-requestid").len(), 36);
    }
    assert_ne!(good.header("x-amzn-requestid"), bad.header("x-amzn-requestid"));
}

#[tokio::test]
async fn unknown_things_get_errors_of_their_own_protocol() {
    let harness = Harness::new();
    for target in ["AmazonEC2ContainerServiceV20141113.Nope", "Logs_20140328.Nope", "AWSEvents.ListRules"] {
        let answer = harness.target(target, None, &json!({})).await;
        assert_eq!(
            (answer.status, answer.json()["__type"].clone()),
            (400, json!("UnknownOperationException"))
        );
    }
    for form in ["Action=Nope&Version=2011-06-15", "Action=Nope&Version=2015-12-01"] {
        let request =
            Request::post("/").header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let answer = harness.send(request.body(Body::from(form)).unwrap()).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.header("content-type"), "text/xml");
        assert!(answer.text.contains("<Code>InvalidAction</Code>"), "{}", answer.text);
    }
    let answer = harness.send(Request::post("/").body(Body::empty()).unwrap()).await;
    assert_eq!((answer.status, answer.json()["__type"].clone()), (400, json!("UnknownOperationException")));
}

#[tokio::test]
async fn rest_services_get_errors_of_their_own_protocol() {
    let harness = Harness::new();
    let send = async |method: &str, path: &str, service: &str| {
        let credential = format!("Credential=AKID/20261121/us-east-1/{service}/aws4_request");
        let signature = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=00");
        let request = Request::builder().method(method).uri(path).header("authorization", signature);
        harness.send(request.body(Body::empty()).unwrap()).await
    };
    for (method, path, service) in [
        ("GET", "/schedules", "scheduler"),
        ("PUT", "/2015-02-01/x", "elasticfilesystem"),
        ("POST", "/schedules/x", "scheduler"),
    ] {
        let answer = send(method, path, service).await;
        assert_eq!((answer.status, answer.header("x-amzn-errortype")), (400, "UnknownOperationException"));
        let error = answer.json();
        assert_eq!(error["__type"], "UnknownOperationException");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains(&format!("{method} {path} is signed for {service:?}")), "{text}");
    }
    for (method, path, service) in [("GET", "/2013-04-01/hostedzone", "route53"), ("GET", "/", "s3")] {
        let answer = send(method, path, service).await;
        assert_eq!((answer.status, answer.header("content-type")), (400, "text/xml"));
        assert!(answer.text.contains("<Code>InvalidAction</Code>"), "{}", answer.text);
    }
}

#[tokio::test]
async fn bodies_may_come_as_gzip_and_in_any_spelling_of_their_type() {
    let harness = Harness::new();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(br#"{"maxResults": 1}"#).unwrap();
    let gzip = encoder.finish().unwrap();
    for (encoding, body, status) in [
        ("gzip", gzip.clone(), 200),
        ("identity", b"{}".to_vec(), 200),
        ("gzip", b"{}".to_vec(), 400),
        ("br", gzip, 400),
    ] {
        let request = Request::post("/")
            .header("x-amz-target", LIST)
            .header("content-encoding", encoding)
            .header("content-type", "application/x-amz-json-1.1; charset=utf-8")
            .header("x-amzn-query-mode", "true");
        let answer = harness.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, status, "{encoding}: {}", answer.text);
    }
}

#[tokio::test]
async fn who_am_i() {
    let harness = Harness::new();
    let action = "Action=GetCallerIdentity&Version=2011-06-15";
    let form = Request::post("/some/prefix").header("content-type", "application/x-www-form-urlencoded");
    let presigned = Request::get(format!("/?{action}"));
    for request in [form.body(Body::from(action)).unwrap(), presigned.body(Body::empty()).unwrap()] {
        let answer = harness.send(request).await;
        assert_eq!(answer.status, 200);
        assert!(answer.text.contains("<Account>123456789012</Account>"), "{}", answer.text);
    }
}

#[tokio::test]
async fn bodies_have_bounds_and_a_form() {
    let harness = Harness::new();
    let send = async |body: String| {
        let request = Request::post("/").header("x-amz-target", LIST).body(Body::from(body)).unwrap();
        let answer = harness.send(request).await;
        (answer.status, answer.json()["__type"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(send(String::new()).await.0, 200, "an empty body has no members");
    for malformed in
        ["{", "nonsense", "[1]", "\"x\"", "{\"a\": 1} x", &"[".repeat(100_000), "{\"nextToken\": 5}"]
    {
        let shown: String = malformed.chars().take(20).collect();
        assert_eq!(send(malformed.to_owned()).await, (400, "SerializationException".to_owned()), "{shown}");
    }
    let nested = |levels: usize| format!("{{\"x\": {}1{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(send(nested(31)).await.0, 200);
    assert_eq!(send(nested(32)).await, (400, "SerializationException".to_owned()));
    let wide = format!("{{\"x\": \"{}\"}}", "y".repeat(300 * 1024));
    assert_eq!(send(wide).await, (400, "InvalidParameterException".to_owned()));
    let large = format!("{{\"x\": \"{}\"}}", "y".repeat(4 * 1024 * 1024));
    assert_eq!(send(large).await, (413, "RequestEntityTooLargeException".to_owned()));
}

#[tokio::test]
async fn paths_that_mean_nothing_say_where_to_go() {
    let harness = Harness::new();
    for request in [
        Request::get("/nope"),
        Request::get("/_coracle/nope"),
        Request::post("/_coracle/reset"),
        Request::put("/"),
        Request::delete("/x"),
    ] {
        let answer = harness.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 404);
        assert!(answer.json()["message"].as_str().unwrap().contains("AWS_ENDPOINT_URL"));
    }
    let request = Request::get("/").header("host", "localhost:9").body(Body::empty()).unwrap();
    let answer = harness.send(request).await;
    assert!(answer.text.contains("AWS_ENDPOINT_URL=http://localhost:9"), "{}", answer.text);
}

#[tokio::test]
async fn with_access_keys_every_request_needs_one() {
    let keys = [("AKID".to_owned(), "secret".to_owned())];
    let harness = Harness::with(
        |api| api,
        |config| {
            config.access_keys = keys.to_vec();
            config.require_signatures = true;
        },
    );
    let error = |answer: &crate::harness::Answer| answer.json()["__type"].clone();
    let none = harness.target(LIST, None, &json!({})).await;
    assert_eq!((none.status, error(&none)), (400, json!("MissingAuthenticationTokenException")));
    let wrong = harness.target(LIST, Some("us-east-1"), &json!({})).await;
    assert_eq!(error(&wrong), "InvalidSignatureException");
    let stranger = |path: &str| {
        let header = "AWS4-HMAC-SHA256 Credential=X/20261121/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=0";
        Request::post(path).header("authorization", header)
    };
    let request = stranger("/").header("x-amz-target", LIST).body(Body::from("{}")).unwrap();
    assert_eq!(error(&harness.send(request).await), "UnrecognizedClientException");
    let form = stranger("/").header("content-type", "application/x-www-form-urlencoded");
    let request = form.body(Body::from("Action=GetCallerIdentity&Version=2011-06-15")).unwrap();
    let answer = harness.send(request).await;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("<Code>InvalidClientTokenId</Code>"), "{}", answer.text);
    for (request, status) in [
        (stranger("/_coracle/images?reference=a:1"), 403),
        (Request::get("/_coracle/images"), 403),
        (Request::get("/_coracle/health"), 200),
        (Request::get("/metrics"), 200),
    ] {
        assert_eq!(harness.send(request.body(Body::empty()).unwrap()).await.status, status);
    }
    assert_eq!(harness.store.snapshot().revision, 0, "nobody got in");
}

#[tokio::test]
async fn account_settings_can_be_looked_at() {
    let harness = Harness::new();
    let body = json!({"name": "taskLongArnFormat", "effectiveSettings": true});
    let settings = harness.ecs("ListAccountSettings", body).await["settings"].clone();
    assert_eq!(settings[0]["value"], "enabled");
    assert_eq!(settings.as_array().map(Vec::len), Some(1));
    assert_ne!(settings, Value::Null);
}
