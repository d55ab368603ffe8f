//! Tables that follow changes, against tables that are worked out anew.

use coracle_server::Sealer;
use coracle_types::elb::{
    ElbNumber, HealthCheckPort, Matcher, ProtocolVersion, Target, TargetGroup, TargetGroupCheck,
    TargetHealth, TargetId, TargetProtocol, TargetType, TaskTarget,
};
use coracle_types::{
    AccountId, Change, ClusterId, ClusterName, Deployment, DesiredStatus, LaunchType, Record,
    TaskDefinitionId, TaskGroup, TaskOverride, Timestamp,
};

use super::*;

fn region() -> Region {
    "us-east-1".parse().unwrap()
}

fn tables() -> Tables {
    let sealer = Arc::new(Sealer::with_key([7; 32]));
    let place = Place { account: AccountId::default(), address: [127, 0, 0, 1].into(), sealer };
    Tables::new(&region(), place, Arc::default())
}

fn group_id(name: &str) -> TargetGroupId {
    TargetGroupId { region: region(), name: name.parse().unwrap(), number: ElbNumber(1) }
}

fn group(name: &str, path: &str) -> TargetGroup {
    TargetGroup {
        id: group_id(name),
        created_at: Timestamp(0),
        protocol: TargetProtocol::Http,
        protocol_version: ProtocolVersion::Http1,
        port: 80,
        target_type: TargetType::Ip,
        vpc_id: None,
        ip_address_type: "ipv4".to_owned(),
        check: TargetGroupCheck {
            enabled: true,
            protocol: TargetProtocol::Http,
            port: HealthCheckPort::TrafficPort,
            path: path.to_owned(),
            interval_s: 30,
            timeout_s: 5,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher::Http("200".to_owned()),
        },
        attributes: Default::default(),
        tags: Default::default(),
    }
}

fn by_hand(group: &str, draining: bool) -> Target {
    Target {
        id: TargetId { group: group_id(group), address: "192.0.2.1".to_owned(), port: 80 },
        registered_at: Timestamp(0),
        draining_since: draining.then_some(Timestamp(1)),
        zone: None,
        health: TargetHealth::registering(Timestamp(0)),
    }
}

/// A task that is registered in these groups.
fn task(id: u128, groups: &[&str], status: LastStatus) -> Task {
    let target = |name: &&str| TaskTarget::new(group_id(name), "main".parse().unwrap(), 80, Timestamp(0));
    Task {
        id: TaskId(id),
        cluster: ClusterId { region: region(), name: ClusterName::default_cluster() },
        task_definition: TaskDefinitionId { region: region(), family: "web".parse().unwrap(), revision: 1 },
        group: TaskGroup::Service("web".parse().unwrap()),
        deployment: Some("ecs-svc/1234567890123456789".parse().unwrap()),
        started_by: None,
        launch_type: LaunchType::Fargate,
        cpu: 256,
        memory: 512,
        overrides: TaskOverride::default(),
        node: None,
        desired_status: DesiredStatus::Running,
        last_status: status,
        stop: None,
        containers: Vec::new(),
        created_at: Timestamp(0),
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        protected_until: None,
        version: 1,
        targets: groups.iter().map(target).collect(),
        tags: Default::default(),
        rest: Default::default(),
    }
}

fn service(status: ServiceStatus, desired_count: u32) -> Service {
    let value = serde_json::json!({
        "id": ServiceId {
            cluster: ClusterId { region: region(), name: ClusterName::default_cluster() },
            name: "web".parse().unwrap(),
        },
        "status": status,
        "desired_count": desired_count,
        "scheduling_strategy": coracle_types::SchedulingStrategy::Replica,
        "task_definition": TaskDefinitionId { region: region(), family: "web".parse().unwrap(), revision: 1 },
        "launch_type": LaunchType::Fargate,
        "deployment_configuration": { "minimum_healthy_percent": 100, "maximum_percent": 200 },
        "deployments": Vec::<Deployment>::new(),
        "last_completed": null,
        "propagate_tags": coracle_types::PropagateTags::None,
        "created_at": 0,
        "deleted_at": null,
    });
    serde_json::from_value(value).unwrap()
}

/// A change of records, and whether the table is another one after it.
type Step = (Vec<Change>, bool);

fn put(record: impl Into<Record>) -> Change {
    Change::Put(record.into())
}

#[test]
fn a_table_that_follows_changes_is_the_one_worked_out_anew() {
    let cluster = || ClusterId { region: region(), name: ClusterName::default_cluster() };
    let key = |id| Key::Task(TaskKey { cluster: cluster(), id: TaskId(id) });
    let steps: Vec<Step> = vec![
        (vec![put(group("a", "/")), put(service(ServiceStatus::Active, 2))], true),
        // The reason why a service has no target tells of its tasks.
        (vec![put(task(1, &["a"], LastStatus::Pending)), put(task(2, &["a"], LastStatus::Pending))], true),
        (vec![put(task(1, &["a"], LastStatus::Running))], true),
        (vec![put(group("a", "/health"))], true),
        (vec![put(by_hand("a", false)), put(group("b", "/"))], true),
        (vec![put(task(2, &["a", "b"], LastStatus::Pending))], true),
        (vec![put(by_hand("a", true))], true),
        (vec![Change::Delete(key(1))], true),
        (
            vec![put(task(2, &["b"], LastStatus::Running)), Change::Delete(Key::TargetGroup(group_id("a")))],
            true,
        ),
        (
            vec![put(coracle_types::FamilyRecord {
                id: coracle_types::FamilyId { region: region(), family: "web".parse().unwrap() },
                latest: 1,
            })],
            false,
        ),
        (vec![put(service(ServiceStatus::Inactive, 0))], true),
        (vec![Change::Delete(key(2))], true),
        (vec![Change::Delete(Key::Service(service(ServiceStatus::Inactive, 0).id))], true),
    ];
    let mut following = tables();
    let mut state = State::default();
    for (number, (changes, is_news)) in steps.into_iter().enumerate() {
        state.revision += 1;
        changes.iter().for_each(|change| state.apply(change, state.revision));
        let advanced = following.advance(Arc::new(state.clone()), &Arc::default());
        assert_eq!(advanced.table, is_news, "step {number}");
        let mut anew = tables();
        anew.advance(Arc::new(state.clone()), &Arc::default());
        let told = |tables: &Tables| format!("{:?}", tables.table);
        assert_eq!(told(&following), told(&anew), "step {number}");
    }
    assert!(following.registered.is_empty() && following.empty.is_empty());
}

/// Another process may have written far more than is remembered.
#[test]
fn after_too_many_changes_the_table_is_worked_out_anew() {
    let mut following = tables();
    let mut state = State::restored(3);
    state.apply(&put(group("a", "/")), 3);
    assert!(following.advance(Arc::new(state), &Arc::default()).table);
    let mut later = State::restored(100);
    later.apply(&put(group("b", "/")), 50);
    let advanced = following.advance(Arc::new(later), &Arc::default());
    assert_eq!(advanced, Advanced { table: true, records: true });
    let told = format!("{:?}", following.table);
    assert!(told.contains("targetgroup/b/") && !told.contains("targetgroup/a/"), "{told}");
}
