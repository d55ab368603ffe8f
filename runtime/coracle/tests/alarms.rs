//! Alarms, and a deployment that one of them rolls back.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::ffi::OsStr;

use coracle_fixtures as fixtures;
use support::Server;

#[test]
fn a_deployment_is_rolled_back_by_its_alarm() {
    let server = Server::start(&[]);
    server.push(fixtures::http(), "http:1");
    server.boto3("boto3_alarms.py", &[OsStr::new("http:1")]);

    // The CLI, too.
    let put = "cloudwatch put-metric-alarm --alarm-name slow --namespace AWS/ApplicationELB --metric-name \
               TargetResponseTime --dimensions Name=TargetGroup,Value=targetgroup/web/1 --extended-statistic p99 \
               --period 60 --evaluation-periods 2 --threshold 0.5 --comparison-operator GreaterThanThreshold";
    server.aws(&put.split_whitespace().collect::<Vec<_>>());
    let shown = server.aws(&["cloudwatch", "describe-alarms", "--alarm-name-prefix", "sl"]);
    assert_eq!(shown["MetricAlarms"][0]["ExtendedStatistic"], "p99");
    assert_eq!(shown["MetricAlarms"][0]["StateValue"], "INSUFFICIENT_DATA");
}
