//! Images and guests that are not what they should be, and what is said about them.

use coracle_types::{ContainerDefinition, MountPoint, StopCode, TaskObservation, Volume};

use super::life::command;
use super::node::{Node, call, end, get, stop};
use crate::testing::{container, definition};

/// That the task never ran, and that its reason and that of its container are the same and contain all of `parts`.
#[track_caller]
fn assert_failed_to_start(stopped: &TaskObservation, parts: &[&str]) {
    let (code, reason) = stop(stopped);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert_eq!(end(stopped, 0), (None, Some(reason)));
    for part in parts {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test]
async fn an_image_that_is_missing() {
    let stopped = Node::new().run(&definition(vec![container("web", "acme/web:1")])).await;
    assert_failed_to_start(&stopped, &["CannotPullContainerError: image acme/web:1 is not in the registry"]);
    assert!(stopped.pull_stopped_at.is_some() && stopped.started_at.is_none());
}

#[tokio::test]
async fn an_image_that_is_not_webassembly() {
    let stopped = Node::new().run(&definition(vec![container("web", "text")])).await;
    assert_failed_to_start(&stopped, &["CannotPullContainerError: image text: not a WebAssembly component"]);
}

#[tokio::test]
async fn an_import_nobody_provides() {
    let stopped = Node::new().run(&definition(vec![container("web", "exotic")])).await;
    assert_failed_to_start(
        &stopped,
        &[
            "CannotStartContainerError: container web: the component imports acme:missing/thing@1.2.3, which nobody \
             here provides",
            "coracle.link",
        ],
    );
}

#[tokio::test]
async fn a_label_that_makes_no_sense() {
    let mut web = container("web", "http");
    web.docker_labels.insert("coracle.concurrency".into(), "many".into());
    let stopped = Node::new().run(&definition(vec![web])).await;
    assert_failed_to_start(
        &stopped,
        &["CannotStartContainerError: container web", "coracle.concurrency", "many"],
    );
}

#[tokio::test]
async fn a_source_path_that_is_not_there() {
    let mut web = container("web", "http");
    web.mount_points =
        vec![MountPoint { source_volume: "data".into(), container_path: "/data".into(), read_only: false }];
    let mut definition = definition(vec![web]);
    definition.volumes =
        vec![Volume { name: "data".into(), host_path: Some("/not/here".into()), rest: Default::default() }];
    let stopped = Node::new().run(&definition).await;
    let (code, reason) = stop(&stopped);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(reason.starts_with("CannotStartContainerError: ") && reason.contains("/not/here"), "{reason}");
}

#[tokio::test]
async fn a_read_only_directory_of_the_node() {
    let mut node = Node::new();
    let directory = node.directory.path().join("site");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("page"), "a page").unwrap();
    let mut web = container("web", "http");
    web.mount_points =
        vec![MountPoint { source_volume: "site".into(), container_path: "/site".into(), read_only: true }];
    let mut definition = definition(vec![web]);
    let host_path = Some(directory.to_str().unwrap().to_owned());
    definition.volumes = vec![Volume { name: "site".into(), host_path, rest: Default::default() }];
    let task = node.assign(&definition);
    node.running(task).await;
    let endpoint = node.endpoint().await;
    assert_eq!(get(&endpoint, "/read?path=/site/page").await.1, "a page");
    assert_eq!(get(&endpoint, "/write?path=/site/page&text=x").await.0, 500);
    assert_eq!(std::fs::read_to_string(directory.join("page")).unwrap(), "a page");
    // A directory of the node's stays the node's.
    node.stop(task);
    node.stopped(task).await;
    assert!(directory.join("page").exists());
}

const OOM: &str = "OutOfMemoryError: Container killed due to memory usage";

#[tokio::test]
async fn a_request_that_takes_all_the_memory_ends_the_container() {
    let mut node = Node::new();
    let task = node.assign_with(&definition(vec![container("web", "http")]), |task| {
        task.containers[0].memory = Some(64);
    });
    node.running(task).await;
    let endpoint = node.endpoint().await;
    assert!(call(&endpoint, "/hog").await.is_err());
    let stopped = node.stopped(task).await;
    assert_eq!(end(&stopped, 0), (Some(137), Some(OOM)));
    assert_eq!(stop(&stopped), (StopCode::EssentialContainerExited, "Essential container in task exited"));
    assert!(node.agent.endpoints().borrow().is_empty());
}

#[tokio::test]
async fn a_command_that_takes_all_the_memory() {
    let mut definition = definition(vec![command("job", &["hog"])]);
    definition.memory = Some(64);
    let stopped = Node::new().run(&definition).await;
    assert_eq!(end(&stopped, 0), (Some(137), Some(OOM)));
}

#[tokio::test]
async fn a_trap_names_its_kind_and_function() {
    let stopped = Node::new().run(&definition(vec![command("job", &["trap", "unreachable"])])).await;
    let (code, reason) = end(&stopped, 0);
    let reason = reason.unwrap();
    assert_eq!(code, Some(134));
    assert!(reason.contains("unreachable") && reason.contains("trap_unreachable"), "{reason}");
}

#[tokio::test]
async fn fuel_that_is_used_up() {
    let mut job: ContainerDefinition = command("job", &["spin"]);
    job.docker_labels.insert("coracle.fuel".into(), "50000000".into());
    let stopped = Node::new().run(&definition(vec![job])).await;
    let (code, reason) = end(&stopped, 0);
    assert_eq!(code, Some(152));
    assert!(reason.unwrap().contains("out of fuel"), "{reason:?}");
}

#[tokio::test]
async fn a_panic_in_one_tasks_driver_is_that_tasks_end_alone() {
    let mut node = Node::new();
    let good = node.assign(&definition(vec![container("web", "http")]));
    node.running(good).await;
    let mut bad = container("web", "http");
    bad.log_configuration = Some(coracle_types::LogConfiguration {
        driver: "awslogs".into(),
        options: [("awslogs-group".to_owned(), "panic".to_owned())].into(),
        rest: Default::default(),
    });
    let stopped = node.run(&definition(vec![bad])).await;
    let (code, reason) = stop(&stopped);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(reason.contains("the log sink was asked to panic"), "{reason}");
    assert!(stopped.stopped_at.is_some());
    assert_eq!(get(&node.endpoint().await, "/hello").await.1, "hello\n");
}
