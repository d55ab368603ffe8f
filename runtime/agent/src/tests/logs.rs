//! Every line arrives, whole and in order.

use coracle_types::LogConfiguration;

use super::life::command;
use super::node::{Node, eventually, get};
use crate::testing::{container, definition};

#[tokio::test]
async fn stdout_and_stderr_in_order_and_complete_when_the_task_is_stopped() {
    let mut node = Node::new();
    let mut job = command("job", &["lines", "500"]);
    job.log_configuration = Some(LogConfiguration {
        driver: "awslogs".into(),
        options: [("awslogs-group", "/my/jobs"), ("awslogs-stream-prefix", "p")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        rest: Default::default(),
    });
    let task = node.run(&definition(vec![job])).await.task;
    let lines = node.logs.read("/my/jobs", &format!("p/job/{task}"));
    let expected: Vec<_> =
        (0..500).flat_map(|line| [format!("stdout line {line}"), format!("stderr line {line}")]).collect();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_last_line_without_end_is_not_lost() {
    let mut node = Node::new();
    let task = node.run(&definition(vec![command("job", &["partial", "almost"])])).await.task;
    assert_eq!(node.logs.read("/ecs/app", &format!("ecs/job/{task}")), ["almost"]);
}

#[tokio::test]
async fn a_flood_arrives_whole_and_waits_for_room() {
    let mut node = Node::new();
    let task = node.run(&definition(vec![command("job", &["flood", "20000"])])).await.task;
    let stream = format!("ecs/job/{task}");
    let lines = node.logs.read("/ecs/app", &stream);
    assert_eq!(lines.len(), 20_000);
    assert!(lines.iter().enumerate().all(|(number, line)| *line == format!("flood line {number}")));
    // A guest that is told to wait does: never more than the room there is, and what it was allowed at once.
    let most = node.logs.most_waiting("/ecs/app", &stream);
    assert!(most < 10_000, "{most} lines were held at once");
}

#[tokio::test]
async fn a_flood_that_is_stopped_stops() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![command("job", &["flood"])]));
    node.running(task).await;
    let stream = format!("ecs/job/{task}");
    eventually("it floods", || node.logs.lines("/ecs/app", &stream) > 1000).await;
    node.stop(task);
    assert_eq!(node.stopped(task).await.containers[0].exit_code, Some(143));
    let lines = node.logs.lines("/ecs/app", &stream);
    node.run(&definition(vec![command("other", &["lines", "500"])])).await;
    assert_eq!(node.logs.lines("/ecs/app", &stream), lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_the_same_time_do_not_mix_their_lines() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![container("web", "http")]));
    node.running(task).await;
    let endpoint = node.endpoint().await;
    let requests = (0..8).map(|_| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move { get(&endpoint, "/log?n=50").await })
    });
    for request in requests.collect::<Vec<_>>() {
        assert_eq!(request.await.unwrap().1, "logged\n");
    }
    node.stop(task);
    node.stopped(task).await;
    let mut lines = node.logs.read("/ecs/app", &format!("ecs/web/{task}"));
    let mut expected: Vec<_> = (0..8)
        .flat_map(|_| (0..50).flat_map(|line| [format!("stdout line {line}"), format!("stderr line {line}")]))
        .collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn output_nobody_wants() {
    let mut node = Node::new();
    let mut job = command("job", &["lines", "5"]);
    job.log_configuration = Some(LogConfiguration {
        driver: "none".into(),
        options: Default::default(),
        rest: Default::default(),
    });
    let stopped = node.run(&definition(vec![job])).await;
    assert_eq!(stopped.containers[0].exit_code, Some(0));
}
