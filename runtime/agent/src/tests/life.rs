//! How tasks come, go and depend on each other.

use coracle_types::{
    Assigned, ContainerDefinition, ContainerOverride, ContainerStatus, Dependency, DependencyCondition,
    HealthCheck, HealthStatus, LastStatus, MountPoint, StopCode, Volume,
};
use futures_util::FutureExt as _;

use super::node::{Node, end, eventually, get, stop, words};
use crate::testing::{container, definition};

pub(super) fn command(name: &str, arguments: &[&str]) -> ContainerDefinition {
    ContainerDefinition { command: words(arguments), ..container(name, "command") }
}

fn helper(container: ContainerDefinition) -> ContainerDefinition {
    ContainerDefinition { essential: false, ..container }
}

fn after(container: ContainerDefinition, on: &str, condition: DependencyCondition) -> ContainerDefinition {
    let depends_on = vec![Dependency { container: on.parse().unwrap(), condition }];
    ContainerDefinition { depends_on, ..container }
}

fn checked(container: ContainerDefinition, check: &[&str]) -> ContainerDefinition {
    let health_check = Some(HealthCheck {
        command: words(check),
        interval_s: 1,
        timeout_s: 5,
        retries: 1,
        start_period_s: 0,
    });
    ContainerDefinition { health_check, ..container }
}

const WHOLE_WALK: [LastStatus; 7] = [
    LastStatus::Pending,
    LastStatus::Activating,
    LastStatus::Running,
    LastStatus::Deactivating,
    LastStatus::Stopping,
    LastStatus::Deprovisioning,
    LastStatus::Stopped,
];

#[tokio::test]
async fn an_http_task_walks_through_its_life() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![container("web", "http")]));
    let running = node.running(task).await;
    assert_eq!(running.containers[0].status, ContainerStatus::Running);
    assert!(running.containers[0].image_digest.as_deref().unwrap().starts_with("sha256:"));
    assert!(running.containers[0].runtime_id.as_deref().unwrap().starts_with(&task.to_string()));
    let endpoint = node.endpoint().await;
    assert_eq!((endpoint.task.id, endpoint.container.as_str()), (task, "web"));
    assert_eq!(get(&endpoint, "/hello").await, (http::StatusCode::OK, "hello\n".to_owned()));

    node.stop(task);
    let stopped = node.stopped(task).await;
    assert_eq!(node.walk(task), WHOLE_WALK);
    assert_eq!(stop(&stopped), (StopCode::UserInitiated, "enough"));
    assert_eq!(end(&stopped, 0), (Some(0), None));
    assert!(node.agent.endpoints().borrow().is_empty());
    let times = [
        stopped.pull_started_at,
        stopped.pull_stopped_at,
        stopped.started_at,
        stopped.stopping_at,
        stopped.execution_stopped_at,
        stopped.stopped_at,
    ]
    .map(|time| time.expect("every moment is known"));
    assert!(times.is_sorted(), "{times:?}");
}

#[tokio::test]
async fn a_command_runs_to_its_exit_code_and_is_not_run_again() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![command("job", &["exit", "3"])]));
    let stopped = node.stopped(task).await;
    assert_eq!(node.walk(task), WHOLE_WALK);
    assert_eq!(stop(&stopped), (StopCode::EssentialContainerExited, "Essential container in task exited"));
    assert_eq!(end(&stopped, 0), (Some(3), None));
    // It is still assigned: the control plane has not yet taken the report in.
    let reports = node.reports(task);
    node.send();
    let other = node.assign(&definition(vec![command("job", &["exit", "0"])]));
    assert_eq!(end(&node.stopped(other).await, 0), (Some(0), None));
    assert_eq!(node.reports(task), reports);
}

#[tokio::test]
async fn a_command_that_is_told_to_stop_ends_with_143() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![command("worker", &["sleep-forever"])]));
    node.running(task).await;
    node.stop(task);
    assert_eq!(end(&node.stopped(task).await, 0), (Some(143), None));
}

#[tokio::test]
async fn a_task_that_should_stop_when_it_comes_walks_to_the_end_without_running() {
    let mut node = Node::new();
    let task = node.assign_with(&definition(vec![container("web", "http")]), |task| {
        task.desired_status = coracle_types::DesiredStatus::Stopped;
    });
    let stopped = node.stopped(task).await;
    assert_eq!(end(&stopped, 0), (None, None));
    assert_eq!(stopped.started_at, None);
    assert_eq!(stop(&stopped), (StopCode::UserInitiated, "Task stopped by user"));
}

/// The definition has one volume, `data`, that every container sees at `/data`.
fn sharing(containers: Vec<ContainerDefinition>) -> coracle_types::TaskDefinition {
    let mount = MountPoint { source_volume: "data".into(), container_path: "/data".into(), read_only: false };
    let mut definition = definition(
        containers
            .into_iter()
            .map(|container| ContainerDefinition { mount_points: vec![mount.clone()], ..container })
            .collect(),
    );
    definition.volumes = vec![Volume { name: "data".into(), host_path: None, rest: Default::default() }];
    definition
}

#[tokio::test]
async fn an_init_container_leaves_a_file_for_the_one_that_waits_for_its_success() {
    let mut node = Node::new();
    let task = node.assign(&sharing(vec![
        after(container("web", "http"), "init", DependencyCondition::Success),
        helper(command("init", &["write", "/data/greeting", "good day"])),
    ]));
    let running = node.running(task).await;
    assert_eq!(end(&running, 1), (Some(0), None));
    let (_, greeting) = get(&node.endpoint().await, "/read?path=/data/greeting").await;
    assert_eq!(greeting, "good day");

    let private = node.directory.path().join("volumes").join(task.to_string());
    assert!(private.join("data/greeting").exists());
    node.stop(task);
    node.stopped(task).await;
    assert!(!private.exists());
}

#[tokio::test]
async fn scratch_is_a_containers_own_and_has_an_end() {
    let mut node = Node::new();
    let write = |name: &str| helper(command(name, &["write", "/tmp/note", "text"]));
    let scratch = |name: &str, label: &str| {
        let mut container = write(name);
        container.docker_labels.insert("coracle.scratch".to_owned(), label.to_owned());
        container
    };
    // A file of one block costs two; where there is room for none it is not even made.
    let writers = [
        scratch("free", "/tmp"),
        scratch("roomy", "/tmp 8KiB"),
        scratch("small", "/tmp 4KiB"),
        write("none"),
    ];
    let depends_on = writers.iter().map(|writer| Dependency {
        container: writer.name.clone(),
        condition: DependencyCondition::Complete,
    });
    let last = ContainerDefinition { depends_on: depends_on.collect(), ..command("last", &["exit", "0"]) };
    let stopped = node.run(&definition(writers.into_iter().chain([last]).collect())).await;
    let codes: Vec<_> = (0..5).map(|position| end(&stopped, position).0).collect();
    assert_eq!(codes, [Some(0), Some(0), Some(1), Some(1), Some(0)]);
}

#[tokio::test]
async fn success_that_does_not_come_fails_the_task() {
    let mut node = Node::new();
    let stopped = node
        .run(&definition(vec![
            after(container("web", "http"), "init", DependencyCondition::Success),
            helper(command("init", &["exit", "7"])),
        ]))
        .await;
    let reason = "CannotStartContainerError: container web waits for SUCCESS of container init, which exited with code 7";
    assert_eq!(stop(&stopped), (StopCode::TaskFailedToStart, reason));
    assert_eq!(end(&stopped, 0), (None, Some(reason)));
    assert_eq!(end(&stopped, 1), (Some(7), None));
}

#[tokio::test]
async fn healthy_comes_from_an_http_probe() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![
        after(command("worker", &["sleep-forever"]), "web", DependencyCondition::Healthy),
        checked(container("web", "http"), &["CMD-SHELL", "curl -f http://localhost/hello || exit 1"]),
    ]));
    let running = node.running(task).await;
    assert_eq!(running.containers[1].health, HealthStatus::Healthy);
}

#[tokio::test]
async fn a_check_may_be_a_command_of_the_component() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![
        checked(command("good", &["sleep-forever"]), &["CMD", "exit", "0"]),
        checked(command("bad", &["sleep-forever"]), &["CMD", "exit", "1"]),
    ]));
    let seen =
        node.until(task, "UNHEALTHY", |seen| seen.containers[1].health == HealthStatus::Unhealthy).await;
    assert_eq!(seen.containers[0].health, HealthStatus::Healthy);
    // What to do about it is not the node's to decide.
    assert_eq!(seen.status, LastStatus::Running);
}

#[tokio::test]
async fn a_check_that_can_not_run_leaves_the_health_unknown_and_says_why() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![
        checked(container("web", "http"), &["CMD-SHELL", "pg_isready || exit 1"]),
        checked(container("other", "http"), &["CMD", "check"]),
    ]));
    let running = node.running(task).await;
    for (container, why) in running.containers.iter().zip(["pg_isready", "wasi:cli/run"]) {
        assert_eq!(container.health, HealthStatus::Unknown);
        let reason = container.reason.as_deref().unwrap();
        assert!(reason.contains("UNKNOWN") && reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn the_end_of_a_container_that_is_not_essential_changes_nothing() {
    let mut node = Node::new();
    let task =
        node.assign(&definition(vec![container("web", "http"), helper(command("extra", &["exit", "5"]))]));
    let seen = node
        .until(task, "the end of extra in RUNNING", |seen| {
            seen.status == LastStatus::Running && seen.containers[1].status == ContainerStatus::Stopped
        })
        .await;
    assert_eq!(end(&seen, 1), (Some(5), None));
    assert_eq!(get(&node.endpoint().await, "/hello").await.1, "hello\n");
}

#[tokio::test]
async fn the_end_of_an_essential_container_stops_the_others() {
    let mut node = Node::new();
    let stopped = node
        .run(&definition(vec![
            container("web", "http"),
            command("worker", &["sleep-forever"]),
            command("main", &["sleep", "20"]),
        ]))
        .await;
    assert_eq!(stop(&stopped).0, StopCode::EssentialContainerExited);
    assert_eq!([0, 1, 2].map(|one| end(&stopped, one).0), [Some(0), Some(143), Some(0)]);
}

#[tokio::test]
async fn overrides_reach_the_guest() {
    let mut node = Node::new();
    let job = ContainerDefinition { entry_point: words(&["args"]), ..command("job", &["default"]) };
    let definition = definition(vec![job]);
    let task = node.assign_with(&definition, |task| {
        task.overrides.containers = vec![ContainerOverride {
            name: Some("job".parse().unwrap()),
            command: Some(words(&["up", "now"])),
            ..ContainerOverride::default()
        }];
    });
    node.stopped(task).await;
    assert_eq!(node.logs.read("/ecs/app", &format!("ecs/job/{task}")), ["command", "args", "up", "now"]);
}

#[tokio::test]
async fn a_task_that_is_no_longer_assigned_is_gone_without_a_word() {
    let mut node = Node::new();
    let task = node.assign(&sharing(vec![container("web", "http")]));
    node.running(task).await;
    let volumes = node.directory.path().join("volumes").join(task.to_string());
    assert!(volumes.exists());
    let reports = node.reports(task);
    node.remove(task);
    node.endpoints(<[_]>::is_empty).await;
    eventually("its volumes are removed", || !volumes.exists()).await;
    eventually("it is forgotten", || node.agent.usage().is_empty()).await;
    assert_eq!(node.reports(task), reports);
}

#[tokio::test]
async fn an_older_set_is_refused() {
    let mut node = Node::new();
    let task = node.assign(&definition(vec![container("web", "http")]));
    node.running(task).await;
    let reports = node.reports(task);
    node.send_raw(Assigned { generation: 0, tasks: Vec::new() });
    // One thread runs everything here, so whatever the agent does about it is done between these.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&node.endpoint().await, "/hello").await.1, "hello\n");
    assert_eq!(node.reports(task), reports);
    // The same set is acted on when it is newer.
    node.send_raw(Assigned { generation: 100, tasks: Vec::new() });
    node.endpoints(<[_]>::is_empty).await;
}

#[tokio::test]
async fn idle_waits_for_the_tasks_there_are_and_not_for_later_ones() {
    let mut node = Node::new();
    // Nothing runs.
    node.agent.idle().await;
    let earlier = node.assign(&definition(vec![command("earlier", &["sleep-forever"])]));
    // Assigned, and perhaps not yet taken up: it counts.
    {
        let mut idle = std::pin::pin!(node.agent.idle());
        for _ in 0..100 {
            assert!((&mut idle).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    node.running(earlier).await;
    let mut idle = std::pin::pin!(node.agent.idle());
    assert!((&mut idle).now_or_never().is_none());
    let later = node.assign(&definition(vec![command("later", &["sleep-forever"])]));
    node.running(later).await;
    node.remove(earlier);
    idle.await;
    assert_eq!(node.agent.usage().len(), 1);
    node.remove(later);
    node.agent.idle().await;
}

#[tokio::test]
async fn shutdown_stops_and_reports_everything() {
    let mut node = Node::new();
    let web = node.assign(&definition(vec![container("web", "http")]));
    let worker = node.assign(&definition(vec![command("worker", &["sleep-forever"])]));
    node.running(web).await;
    node.running(worker).await;
    node.agent.shutdown().await;
    for task in [web, worker] {
        let stopped = node.stopped(task).await;
        let reason = "Host node (00000000000000000000000000000eee) stopped/terminated.";
        assert_eq!(stop(&stopped), (StopCode::TerminationNotice, reason));
    }
    // A second call finds nothing to do.
    node.agent.shutdown().await;
}

#[tokio::test]
async fn usage_is_counted_and_kept_until_the_task_is_unassigned() {
    let mut node = Node::new();
    let web = node.assign(&definition(vec![container("web", "http")]));
    node.running(web).await;
    let endpoint = node.endpoint().await;
    for _ in 0..3 {
        get(&endpoint, "/hello").await;
    }
    node.stop(web);
    node.stopped(web).await;
    let usage = node.agent.usage();
    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].task.id, usage[0].instances_started, usage[0].instances_live), (web, 3, 0));
    assert!(usage[0].fuel_used > 0 && usage[0].memory_peak > 0, "{:?}", usage[0]);
    node.remove(web);
    eventually("it is forgotten", || node.agent.usage().is_empty()).await;
    // What it used is not, until nobody asks for its group any more.
    node.agent.retain_usage(|_| true);
    let totals = node.agent.usage_totals();
    assert_eq!(totals.values().map(|total| total.instances_started).collect::<Vec<_>>(), [3]);
    node.agent.retain_usage(|_| false);
    assert!(node.agent.usage_totals().is_empty());
}

/// With these members of the container definition.
fn with(container: ContainerDefinition, rest: serde_json::Value) -> ContainerDefinition {
    let serde_json::Value::Object(rest) = rest else { panic!("an object is expected") };
    ContainerDefinition { rest, ..container }
}

#[tokio::test]
async fn secrets_and_environment_files_become_variables() {
    let mut node = Node::new();
    let files = node.directory.path().join("s3/bucket");
    std::fs::create_dir_all(&files).unwrap();
    std::fs::write(files.join("app.env"), "FROM_FILE=yes\nPASSWORD=file\n").unwrap();
    let mut job = with(
        command("job", &["env"]),
        serde_json::json!({
            "secrets": [{"name": "PASSWORD", "valueFrom": "hush"}],
            "environmentFiles": [{"value": "arn:aws:s3:::bucket/app.env", "type": "s3"}],
        }),
    );
    job.log_configuration = Some(coracle_types::LogConfiguration {
        driver: "awslogs".into(),
        options: [("awslogs-group".into(), "g".into()), ("awslogs-stream-prefix".into(), "p".into())].into(),
        rest: Default::default(),
    });
    let stopped = node.run(&definition(vec![job])).await;
    assert_eq!(end(&stopped, 0), (Some(0), None));
    let lines = node.logs.read("g", &format!("p/job/{}", stopped.task));
    assert!(
        lines.contains(&"FROM_FILE=yes".to_owned()) && lines.contains(&"PASSWORD=hush".to_owned()),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_secret_that_is_missing_stops_the_task_in_ecs_words() {
    let mut node = Node::new();
    let secrets = serde_json::json!({"secrets": [{"name": "A", "valueFrom": "missing"}]});
    let stopped = node.run(&definition(vec![with(command("job", &["exit", "0"]), secrets)])).await;
    let (code, reason) = stop(&stopped);
    assert_eq!(code, StopCode::TaskFailedToStart);
    assert!(
        reason.starts_with("ResourceInitializationError: unable to pull secrets or registry auth: "),
        "{reason}"
    );
    assert_eq!(end(&stopped, 0), (None, None), "it never ran");
    let files = serde_json::json!({"environmentFiles": [{"value": "arn:aws:s3:::b/none.env", "type": "s3"}]});
    let stopped = node.run(&definition(vec![with(command("job", &["exit", "0"]), files)])).await;
    assert!(stop(&stopped).1.starts_with("ResourceInitializationError: failed to download env files: "));
}

#[tokio::test]
async fn a_container_that_listens_is_an_endpoint_at_an_address_of_its_own() {
    let mut node = Node::new();
    let server = |name: &str| {
        let mut server = command(name, &["serve", "0.0.0.0:7008", name]);
        server.port_mappings =
            vec![coracle_types::PortMapping { container_port: Some(7008), rest: Default::default() }];
        server
    };
    let first = node.assign(&definition(vec![server("one")]));
    node.running(first).await;
    let crate::EndpointTarget::Socket(one) = node.endpoint().await.target else { panic!("it listens") };
    // A sibling reaches it at localhost, and so does the router at its address; the same port is free elsewhere.
    let second = node.assign(&definition(vec![
        server("two"),
        helper(command("asks", &["ask-until", "localhost", "7008"])),
    ]));
    let seen =
        node.until(second, "the answer", |seen| seen.containers[1].status == ContainerStatus::Stopped).await;
    assert_eq!(end(&seen, 1), (Some(0), None));
    let mut stream = tokio::net::TcpStream::connect(one.address()).await.unwrap();
    let mut answer = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
    assert!(answer.starts_with("one at 127.0.0.1:7008"), "{answer}");
    let entry = one.enter().unwrap();
    node.stop(first);
    eventually("only the other one is in the list", || {
        let endpoints = node.agent.endpoints().borrow().clone();
        endpoints.len() == 1 && endpoints[0].task.id == second
    })
    .await;
    eventually("no request may come any more", || one.enter().is_none()).await;
    drop(entry);
    assert_eq!(end(&node.stopped(first).await, 0), (Some(143), None));
}

#[tokio::test]
async fn containers_of_a_task_call_each_other_at_localhost() {
    let mut node = Node::new();
    let mut web = container("web", "http");
    web.port_mappings =
        vec![coracle_types::PortMapping { container_port: Some(8080), rest: Default::default() }];
    let task = node.assign(&definition(vec![web, container("front", "http")]));
    node.running(task).await;
    let endpoints = node.agent.endpoints().borrow().clone();
    let front = endpoints.iter().find(|endpoint| endpoint.container.as_str() == "front").unwrap();
    let (status, text) = get(front, "/fetch?url=http://localhost:8080/hello").await;
    assert_eq!((status.as_u16(), text.as_str()), (200, "200\nhello\n"));
    let (status, text) = get(front, "/fetch?url=http://localhost:8081/hello").await;
    assert_eq!(status.as_u16(), 502, "{text}");
}
