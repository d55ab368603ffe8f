use serde_json::{Value, json};

use crate::harness::{Harness, NOW};

async fn call(harness: &Harness, target: &str, body: Value) -> (u16, Value) {
    let answer = harness.target(target, None, &body).await;
    (answer.status, answer.json())
}

#[track_caller]
fn ok(harness: &Harness, target: &'static str, body: Value) -> impl Future<Output = Value> {
    let caller = std::panic::Location::caller();
    async move {
        let (status, answer) = call(harness, target, body).await;
        assert_eq!(status, 200, "{target} at {caller}: {answer}");
        answer
    }
}

async fn refused(harness: &Harness, target: &str, body: Value) -> String {
    let (status, answer) = call(harness, target, body).await;
    assert_eq!(status, 400, "{target}: {answer}");
    answer["__type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_secrets_life() {
    let harness = Harness::new();
    let token = "0".repeat(32);
    let create =
        json!({"Name": "prod/db", "SecretString": "one", "ClientRequestToken": token, "Description": "d"});
    let made = ok(&harness, "secretsmanager.CreateSecret", create.clone()).await;
    let arn = made["ARN"].as_str().unwrap().to_owned();
    assert!(arn.starts_with("arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db-"), "{arn}");
    assert_eq!(made["VersionId"], token);
    assert_eq!(
        ok(&harness, "secretsmanager.CreateSecret", create).await["ARN"],
        arn,
        "the same request again"
    );
    let other = json!({"Name": "prod/db", "SecretString": "x"});
    assert_eq!(refused(&harness, "secretsmanager.CreateSecret", other).await, "ResourceExistsException");

    let partial = arn.rsplit_once('-').unwrap().0;
    for id in ["prod/db", &arn, partial] {
        let value = ok(&harness, "secretsmanager.GetSecretValue", json!({"SecretId": id})).await;
        assert_eq!(
            (&value["SecretString"], &value["VersionStages"][0]),
            (&json!("one"), &json!("AWSCURRENT"))
        );
    }
    let put =
        ok(&harness, "secretsmanager.PutSecretValue", json!({"SecretId": "prod/db", "SecretString": "two"}));
    assert_eq!(put.await["VersionStages"], json!(["AWSCURRENT"]));
    let previous = json!({"SecretId": "prod/db", "VersionStage": "AWSPREVIOUS"});
    assert_eq!(ok(&harness, "secretsmanager.GetSecretValue", previous).await["SecretString"], "one");
    let binary = json!({"SecretId": arn, "SecretBinary": "AQID"});
    ok(&harness, "secretsmanager.UpdateSecret", binary).await;
    let value = ok(&harness, "secretsmanager.GetSecretValue", json!({"SecretId": arn})).await;
    assert_eq!((&value["SecretBinary"], value.get("SecretString")), (&json!("AQID"), None));
    let versions = ok(&harness, "secretsmanager.ListSecretVersionIds", json!({"SecretId": arn})).await;
    assert_eq!(versions["Versions"].as_array().unwrap().len(), 2);

    let tags = json!({"SecretId": arn, "Tags": [{"Key": "team", "Value": "shop"}]});
    assert_eq!(ok(&harness, "secretsmanager.TagResource", tags).await, json!({}));
    let described = ok(&harness, "secretsmanager.DescribeSecret", json!({"SecretId": arn})).await;
    assert_eq!(described["Tags"], json!([{"Key": "team", "Value": "shop"}]));
    assert_eq!(described["VersionIdsToStages"].as_object().unwrap().len(), 2);

    let deleted =
        ok(&harness, "secretsmanager.DeleteSecret", json!({"SecretId": arn, "RecoveryWindowInDays": 7}));
    let week = NOW.0 as f64 / 1000.0 + 7.0 * 86_400.0;
    assert_eq!(deleted.await["DeletionDate"].as_f64(), Some(week));
    assert_eq!(
        refused(&harness, "secretsmanager.GetSecretValue", json!({"SecretId": arn})).await,
        "InvalidRequestException"
    );
    let listed = ok(&harness, "secretsmanager.ListSecrets", json!({})).await;
    assert_eq!(listed["SecretList"], json!([]));
    ok(&harness, "secretsmanager.RestoreSecret", json!({"SecretId": arn})).await;
    let filters = json!({"Filters": [{"Key": "name", "Values": ["prod/"]}]});
    assert_eq!(ok(&harness, "secretsmanager.ListSecrets", filters).await["SecretList"][0]["Name"], "prod/db");
    let force = json!({"SecretId": "prod/db", "ForceDeleteWithoutRecovery": true});
    ok(&harness, "secretsmanager.DeleteSecret", force).await;
    assert_eq!(
        refused(&harness, "secretsmanager.GetSecretValue", json!({"SecretId": arn})).await,
        "ResourceNotFoundException"
    );
}

#[tokio::test]
async fn secrets_are_listed_page_by_page() {
    let harness = Harness::new();
    for number in 0..5 {
        ok(&harness, "secretsmanager.CreateSecret", json!({"Name": format!("s{number}")})).await;
    }
    let (mut seen, mut token) = (Vec::new(), Value::Null);
    loop {
        let page = json!({"MaxResults": 2, "SortOrder": "asc", "NextToken": token});
        let page = ok(&harness, "secretsmanager.ListSecrets", page).await;
        seen.extend(page["SecretList"].as_array().unwrap().iter().map(|secret| secret["Name"].clone()));
        match page.get("NextToken") {
            Some(next) => token = next.clone(),
            None => break,
        }
    }
    assert_eq!(seen, ["s0", "s1", "s2", "s3", "s4"]);
    let none = json!({"SecretId": "s0"});
    assert_eq!(refused(&harness, "secretsmanager.GetSecretValue", none).await, "ResourceNotFoundException");
    for (body, name) in [
        (json!({"Name": "a b"}), "InvalidParameterException"),
        (json!({"Name": "a", "SecretString": "x".repeat(65_537)}), "InvalidParameterException"),
        (json!({"Name": "a", "SecretString": "x", "SecretBinary": "AQ=="}), "InvalidParameterException"),
        (json!({"Name": "a", "ClientRequestToken": "short"}), "InvalidParameterException"),
    ] {
        assert_eq!(refused(&harness, "secretsmanager.CreateSecret", body).await, name);
    }
}

#[tokio::test]
async fn nothing_in_the_store_is_in_the_clear() {
    let harness = Harness::new();
    let secret = json!({"Name": "s", "SecretString": "hush-hush"});
    ok(&harness, "secretsmanager.CreateSecret", secret).await;
    let parameter = json!({"Name": "/p", "Value": "hush-hush", "Type": "String"});
    ok(&harness, "AmazonSSM.PutParameter", parameter).await;
    let kept: Vec<_> = harness.store.snapshot().records().map(|(record, _)| record).collect();
    assert!(!serde_json::to_string(&kept).unwrap().contains("hush"));
}

#[tokio::test]
async fn a_parameters_life() {
    let harness = Harness::new();
    let put = |value: &str, overwrite: bool| json!({"Name": "/prod/db/password", "Value": value, "Type": "SecureString", "Overwrite": overwrite});
    let first = ok(&harness, "AmazonSSM.PutParameter", put("one", false)).await;
    assert_eq!(first, json!({"Version": 1, "Tier": "Standard"}));
    assert_eq!(
        refused(&harness, "AmazonSSM.PutParameter", put("two", false)).await,
        "ParameterAlreadyExists"
    );
    assert_eq!(ok(&harness, "AmazonSSM.PutParameter", put("two", true)).await["Version"], 2);

    let get = |name: &str, decrypt: bool| json!({"Name": name, "WithDecryption": decrypt});
    let clear = ok(&harness, "AmazonSSM.GetParameter", get("/prod/db/password", true)).await;
    assert_eq!(
        (&clear["Parameter"]["Value"], &clear["Parameter"]["Type"]),
        (&json!("two"), &json!("SecureString"))
    );
    assert_eq!(clear["Parameter"]["ARN"], "arn:aws:ssm:us-east-1:123456789012:parameter/prod/db/password");
    let sealed = ok(&harness, "AmazonSSM.GetParameter", get("/prod/db/password", false)).await;
    assert_ne!(sealed["Parameter"]["Value"], "two");
    let earlier = ok(&harness, "AmazonSSM.GetParameter", get("/prod/db/password:1", true)).await;
    assert_eq!(
        (&earlier["Parameter"]["Value"], &earlier["Parameter"]["Selector"]),
        (&json!("one"), &json!(":1"))
    );
    assert_eq!(
        refused(&harness, "AmazonSSM.GetParameter", get("/prod/db/password:9", true)).await,
        "ParameterVersionNotFound"
    );
    assert_eq!(refused(&harness, "AmazonSSM.GetParameter", get("/nope", true)).await, "ParameterNotFound");

    for name in ["/prod/db/user", "/prod/web", "/other"] {
        ok(&harness, "AmazonSSM.PutParameter", json!({"Name": name, "Value": "v", "Type": "String"})).await;
    }
    let names = |answer: &Value| {
        let all = answer["Parameters"].as_array().unwrap().iter();
        all.map(|one| one["Name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let below = ok(&harness, "AmazonSSM.GetParametersByPath", json!({"Path": "/prod"})).await;
    assert_eq!(names(&below), ["/prod/web"]);
    let page = json!({"Path": "/prod", "Recursive": true, "MaxResults": 2, "WithDecryption": true});
    let page = ok(&harness, "AmazonSSM.GetParametersByPath", page).await;
    assert_eq!(names(&page), ["/prod/db/password", "/prod/db/user"]);
    let next = json!({"Path": "/prod", "Recursive": true, "NextToken": page["NextToken"]});
    assert_eq!(names(&ok(&harness, "AmazonSSM.GetParametersByPath", next).await), ["/prod/web"]);

    let several = json!({"Names": ["/other", "/nope"]});
    let several = ok(&harness, "AmazonSSM.GetParameters", several).await;
    assert_eq!(
        (names(&several), &several["InvalidParameters"]),
        (vec!["/other".to_owned()], &json!(["/nope"]))
    );
    let secure = json!({"ParameterFilters": [{"Key": "Type", "Values": ["SecureString"]}]});
    let described = ok(&harness, "AmazonSSM.DescribeParameters", secure).await;
    assert_eq!(names(&described), ["/prod/db/password"]);
    assert!(described["Parameters"][0].get("Value").is_none());
    let history = json!({"Name": "/prod/db/password", "WithDecryption": true});
    let history = ok(&harness, "AmazonSSM.GetParameterHistory", history).await;
    assert_eq!(history["Parameters"][0]["Value"], "one");

    ok(&harness, "AmazonSSM.DeleteParameter", json!({"Name": "/other"})).await;
    assert_eq!(
        refused(&harness, "AmazonSSM.DeleteParameter", json!({"Name": "/other"})).await,
        "ParameterNotFound"
    );
    let deleted = json!({"Names": ["/prod/web", "/other"]});
    let deleted = ok(&harness, "AmazonSSM.DeleteParameters", deleted).await;
    assert_eq!(deleted, json!({"DeletedParameters": ["/prod/web"], "InvalidParameters": ["/other"]}));
}

#[tokio::test]
async fn parameters_that_are_refused() {
    let harness = Harness::new();
    for (body, name) in [
        (json!({"Name": "p", "Value": "v"}), "ValidationException"),
        (json!({"Name": "p", "Value": "v", "Type": "Text"}), "ValidationException"),
        (json!({"Name": "a/b", "Value": "v", "Type": "String"}), "ValidationException"),
        (json!({"Name": "aws-x", "Value": "v", "Type": "String"}), "ValidationException"),
        (json!({"Name": "p", "Value": "v".repeat(4097), "Type": "String"}), "ValidationException"),
        (
            json!({"Name": "/a".repeat(16), "Value": "v", "Type": "String"}),
            "HierarchyLevelLimitExceededException",
        ),
        (
            json!({"Name": "p", "Value": "v", "Type": "String", "AllowedPattern": "\\d+"}),
            "ParameterPatternMismatchException",
        ),
        (
            json!({"Name": "p", "Value": "v", "Type": "String", "AllowedPattern": "("}),
            "InvalidAllowedPatternException",
        ),
    ] {
        assert_eq!(refused(&harness, "AmazonSSM.PutParameter", body.clone()).await, name, "{body}");
    }
    let filter = json!({"ParameterFilters": [{"Key": "Colour", "Values": ["red"]}]});
    assert_eq!(refused(&harness, "AmazonSSM.DescribeParameters", filter).await, "InvalidFilterKey");
}
