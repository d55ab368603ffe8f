//! Who may do what, with the official clients against the whole program.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::ffi::OsStr;

use coracle_fixtures as fixtures;
use serde_json::Value;
use support::{Server, wait_for};

/// The access key that is printed when there is none yet.
fn printed_key(server: &Server) -> Option<(String, String)> {
    let said = server.said();
    let line = said.lines().find(|line| line.contains("AWS_SECRET_ACCESS_KEY=") && line.contains("AKIA"))?;
    let value = |name: &str| line.split(name).nth(1)?.split_whitespace().next().map(str::to_owned);
    Some((value("AWS_ACCESS_KEY_ID=")?, value("AWS_SECRET_ACCESS_KEY=")?))
}

#[test]
fn users_do_what_their_policies_allow_and_changes_are_noted() {
    let server = Server::start(&["--auth"]);
    let (key, secret) = wait_for("the first key", || printed_key(&server));
    let error = server.aws_fails(&["ecs", "list-clusters"]);
    assert!(error.contains("UnrecognizedClientException"), "{error}");
    server.boto3("boto3_iam.py", &[OsStr::new(&key), OsStr::new(&secret)]);

    let log = std::fs::read_to_string(server.path().join("data/audit.jsonl")).unwrap();
    let records: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |name: &str, user: &str| -> Vec<&Value> {
        let is = |record: &&Value| {
            record["eventName"] == name && record["userIdentity"]["arn"].as_str().unwrap().ends_with(user)
        };
        records.iter().filter(is).collect()
    };
    let created = find("CreateService", "user/team/dev");
    assert_eq!(created[0]["requestParameters"]["serviceName"], "web");
    assert_eq!(created[0]["sourceIPAddress"], "127.0.0.1");
    assert!(created[0]["userAgent"].as_str().unwrap().contains("Boto3"));
    assert_eq!(created[0]["errorCode"], Value::Null);
    assert_eq!(created[1]["errorCode"], "AccessDeniedException", "refusals are noted, too");
    assert_eq!(find("DeleteService", "assumed-role/operator/shift").len(), 1);
    assert!(records.iter().all(|record| record["readOnly"] == false));
    assert!(find("ListClusters", "user/team/dev").is_empty());
    assert!(!log.contains(&secret), "no secret is written anywhere");

    let image = fixtures::example_hello();
    let pushed = server.coracle(&["push", image.to_str().unwrap(), "x:1"]);
    assert!(!pushed.status.success() && support::text(&pushed).contains("security token"), "{pushed:?}");

    let dir = server.kill_9().unwrap();
    let state = std::fs::read(dir.path().join("data/state.redb")).unwrap();
    let holds = |text: &str| state.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&key) && !holds(&secret), "keys are kept sealed");
    let again = Server::start_in(dir.path(), &["--auth"]);
    assert_eq!(printed_key(&again), None, "the key is printed once");
    again.boto3("boto3_iam.py", &[OsStr::new(&key), OsStr::new(&secret)]);
}
