//! What is noted of requests: in the access log, and under CloudWatch's names.

use std::path::Path;

use super::harness::*;
use super::listeners;
use crate::{AccessLogConfig, AccessLogFormat, RouterConfig};

/// Waits for so many lines.
async fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    // A thread writes them, for which the paused clock does not wait.
    while read().lines().count() < count {
        tokio::task::yield_now().await;
        std::thread::yield_now();
    }
    read().lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn requests_are_logged_when_they_have_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let front = Front::start(RouterConfig {
        access_log: Some(AccessLogConfig::new(path.clone())),
        ..RouterConfig::default()
    });
    front.publish_web(&[&slot("w")]);
    front.ask("GET /a?b=c HTTP/1.1\r\nHost: web.default.localhost\r\nUser-Agent: test\r\n\r\n").await;
    front.ask("GET /x HTTP/1.1\r\nHost: nope.default.localhost\r\n\r\n").await;
    let lines = lines(&path, 2).await;
    let [served, refused] = &lines[..] else { panic!("{lines:?}") };
    let served: serde_json::Value = serde_json::from_str(served).unwrap();
    let expected = serde_json::json!({
        "client": "192.0.2.7:50000", "method": "GET", "path": "/a", "query": "b=c", "status": 200,
        "targetStatus": 200, "sentBytes": 1, "userAgent": "test", "backend": "us-east-1/default/web",
        "target": "w",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&served[field], value, "{field} of {served}");
    }
    assert!(served["traceId"].as_str().unwrap().starts_with("Root=1-"), "{served}");
    let refused: serde_json::Value = serde_json::from_str(refused).unwrap();
    assert_eq!((&refused["status"], &refused["error"]), (&404.into(), &"unknown_service".into()));
    assert!(refused.get("targetStatus").is_none(), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn listeners_log_as_load_balancers_do_and_count_under_cloudwatchs_names() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let format = AccessLogFormat::LoadBalancer;
    let front = Front::start(RouterConfig {
        access_log: Some(AccessLogConfig { format, ..AccessLogConfig::new(path.clone()) }),
        ..RouterConfig::default()
    });
    let mut listener = listeners::listener(vec![], listeners::forward(&[("g", 1)]));
    listener.load_balancer.id =
        "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/my/50dc".to_owned();
    front.router.publish(listeners::table(listener, vec![listeners::group("g", &[&slot("t")])]));
    let mut client = front.listen("listener")();
    assert_eq!(client.get().await.body, "t");
    client.send("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 405);
    let lines = lines(&path, 2).await;
    assert!(
        lines[0].starts_with("http ") && lines[0].contains(" app/my/50dc 192.0.2.7:50000 t "),
        "{lines:?}"
    );
    assert!(lines[0].contains(" 200 200 0 1 \"GET http://web.default.localhost/ HTTP/1.1\""), "{lines:?}");
    assert!(lines[1].contains(" 405 - 0 ") && lines[1].contains("\"method_not_allowed\""), "{lines:?}");
    for counted in [
        "RequestCount{LoadBalancer=\"app/my/50dc\",TargetGroup=\"g\"} 1",
        "HTTPCode_Target_2XX_Count{LoadBalancer=\"app/my/50dc\",TargetGroup=\"g\"} 1",
        "TargetResponseTime_count{LoadBalancer=\"app/my/50dc\",TargetGroup=\"g\"} 1",
        "HTTPCode_ELB_4XX_Count{LoadBalancer=\"app/my/50dc\",TargetGroup=\"\"} 1",
        "NewConnectionCount{LoadBalancer=\"app/my/50dc\"} 1",
        "ActiveConnectionCount{LoadBalancer=\"app/my/50dc\"} 1",
    ] {
        assert!(front.metric(counted), "{counted} is not in {}", exposition(&front.registry));
    }
    front.router.publish(crate::RoutingTable::new("us-east-1"));
    assert!(!exposition(&front.registry).contains("50dc"), "{}", exposition(&front.registry));
}
