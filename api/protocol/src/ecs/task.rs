//! Tasks: RunTask, StopTask, DescribeTasks and ListTasks, and a task as ECS answers it.

use coracle_types::{
    AccountId, Arn, Container, ContainerOverride, JsonMap, LaunchType, NetworkMode, PropagateTags, Resource,
    Tags, Task, TaskDefinition, TaskOverride,
};
use serde_json::{Value, json};

use super::container_instance::some_instances;
use super::placement::{check_network, check_placement, check_platform};
use super::task_network::TaskNetwork;
use super::{Failure, container_definition, include, names, tag, task_definition};
use crate::error::ApiError;
use crate::members::Members;
use crate::names::Named;
use crate::object::{Object, list};
use crate::page::PageRequest;

/// Members of RunTask that are kept on the task.
const KEPT: [&str; 9] = [
    "networkConfiguration",
    "enableExecuteCommand",
    "platformVersion",
    "placementConstraints",
    "placementStrategy",
    "enableECSManagedTags",
    "referenceId",
    "volumeConfigurations",
    "capacityProviderStrategy",
];

/// How many tasks one RunTask starts at most.
pub const COUNT_MAX: u32 = 10;

/// The most capacity providers a strategy names.
const PROVIDERS_MAX: usize = 20;

/// The largest `overrides` ECS takes, in bytes of JSON.
const OVERRIDES_BYTES_MAX: usize = 8192;

/// RunTask.
#[derive(Clone, Debug, PartialEq)]
pub struct RunTask {
    /// The cluster.
    pub cluster: Option<String>,
    /// A family, `family:revision` or ARN.
    pub task_definition: String,
    /// How many: 1 to [`COUNT_MAX`].
    pub count: u32,
    /// How CPU units are meant, if given.
    pub launch_type: Option<LaunchType>,
    /// `group`, if given.
    pub group: Option<String>,
    /// `startedBy`, if given.
    pub started_by: Option<String>,
    /// What is different from the definition.
    pub overrides: TaskOverride,
    /// Where tags come from besides `tags`.
    pub propagate_tags: PropagateTags,
    /// Tags.
    pub tags: Tags,
    /// Makes a repeated request the same request.
    pub client_token: Option<String>,
    /// Members kept as sent.
    pub rest: JsonMap,
}

impl RunTask {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let started_by = members.text("startedBy")?;
        if started_by.as_ref().is_some_and(|text| text.chars().count() > 128) {
            return Err(members.refuse("startedBy can have at most 128 characters."));
        }
        let group = members.text("group")?.filter(|group| !group.is_empty());
        if group.as_ref().is_some_and(|group| group.chars().count() > 255) {
            return Err(members.refuse("group can have at most 255 characters."));
        }
        check_strategy(&members, "capacityProviderStrategy")?;
        check_placement(&members)?;
        check_network(&members)?;
        check_platform(&members)?;
        check_volumes(&members)?;
        let overrides = members.peek("overrides").map_or(0, |overrides| overrides.to_string().len());
        if overrides > OVERRIDES_BYTES_MAX {
            return Err(members
                .refuse(format_args!("Container Overrides length must be at most {OVERRIDES_BYTES_MAX}")));
        }
        Ok(Self {
            cluster: members.text("cluster")?,
            task_definition: task_definition::required(&mut members)?,
            count: members.integer_in("count", 1..=COUNT_MAX)?.unwrap_or(1),
            launch_type: launch_type(&mut members)?,
            group,
            started_by,
            overrides: match members.object("overrides")? {
                Some(overrides) => task_override(overrides)?,
                None => TaskOverride::default(),
            },
            propagate_tags: members.named("propagateTags")?.unwrap_or(PropagateTags::None),
            tags: tag::take_tags(&mut members)?,
            client_token: client_token(&mut members)?,
            rest: members.keep(&KEPT),
        })
    }
}

/// StartTask: RunTask for those who know where.
#[derive(Clone, Debug, PartialEq)]
pub struct StartTask {
    /// Where: ids or ARNs of 1 to [`COUNT_MAX`] container instances.
    pub container_instances: Vec<String>,
    /// What, without a launch type, a strategy and a token.
    pub task: RunTask,
}

impl StartTask {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is missing, of the wrong type or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let container_instances = some_instances(&mut members, COUNT_MAX as usize)?;
        Ok(Self { container_instances, task: RunTask::decode(members)? })
    }
}

/// Looks at `volumeConfigurations`, which stay where they are: of those, one for now.
///
/// # Errors
/// When there are several, or one says nothing.
pub fn check_volumes(members: &Members) -> Result<(), ApiError> {
    let volumes = members.clone().objects("volumeConfigurations")?.unwrap_or_default();
    if volumes.len() > 1 {
        return Err(members.refuse("volumeConfigurations can have at most 1 item."));
    }
    for mut volume in volumes {
        volume.required_text("name")?;
        let mut ebs = volume.object("managedEBSVolume")?.ok_or_else(|| volume.missing("managedEBSVolume"))?;
        ebs.required_text("roleArn")?;
        if ebs.peek("sizeInGiB").is_none() && ebs.peek("snapshotId").is_none() {
            return Err(ebs.refuse("Either sizeInGiB or snapshotId must be given for a managedEBSVolume."));
        }
    }
    Ok(())
}

/// Takes `clientToken`.
///
/// # Errors
/// When it is longer than 64 characters.
pub fn client_token(members: &mut Members) -> Result<Option<String>, ApiError> {
    let token = members.text("clientToken")?.filter(|token| !token.is_empty());
    if token.as_ref().is_some_and(|token| token.chars().count() > 64) {
        return Err(members.refuse("clientToken can have at most 64 characters."));
    }
    Ok(token)
}

/// Takes `launchType`. MANAGED_INSTANCES are nodes somebody else looks after; here they are nodes.
///
/// # Errors
/// When it is not a launch type.
pub fn launch_type(members: &mut Members) -> Result<Option<LaunchType>, ApiError> {
    if members.peek("launchType").and_then(Value::as_str) == Some("MANAGED_INSTANCES") {
        members.value("launchType");
        return Ok(Some(LaunchType::Ec2));
    }
    members.named("launchType")
}

/// Looks at a capacity provider strategy, which stays where it is.
///
/// # Errors
/// When an item has no provider or a number out of range, or the items make no sense together.
pub fn check_strategy(members: &Members, name: &str) -> Result<(), ApiError> {
    let mut probe = members.clone();
    let items = probe.objects(name)?.unwrap_or_default();
    let several = items.len() > 1;
    if items.len() > PROVIDERS_MAX {
        return Err(members.refuse(format_args!(
            "The capacity provider strategy can contain at most {PROVIDERS_MAX} capacity providers."
        )));
    }
    let (mut bases, mut weight) = (0, 0);
    for mut item in items {
        item.required_text("capacityProvider")?;
        weight = weight.max(item.integer_in("weight", 0..=1000)?.unwrap_or(0));
        bases += u32::from(item.integer_in("base", 0..=100_000)?.unwrap_or(0) > 0);
    }
    if bases > 1 {
        return Err(members.refuse("Only one capacity provider of a strategy can have a base."));
    }
    if several && weight == 0 {
        return Err(members.refuse(
            "There are no capacity providers with a weight value greater than zero in the specified capacity provider \
             strategy. At least one must have a weight value greater than zero.",
        ));
    }
    Ok(())
}

fn task_override(mut members: Members) -> Result<TaskOverride, ApiError> {
    let cpu = members.text("cpu")?.filter(|text| !text.is_empty());
    let cpu = cpu.map(|text| {
        task_definition::cpu_units(&text)
            .ok_or_else(|| members.invalid("cpu", format_args!("{text:?} is not a size")))
    });
    let memory = members.text("memory")?.filter(|text| !text.is_empty());
    let memory = memory.map(|text| {
        task_definition::memory_mib(&text)
            .ok_or_else(|| members.invalid("memory", format_args!("{text:?} is not a size")))
    });
    let containers = members.objects("containerOverrides")?.unwrap_or_default();
    Ok(TaskOverride {
        containers: containers.into_iter().map(container_override).collect::<Result<_, _>>()?,
        cpu: cpu.transpose()?,
        memory: memory.transpose()?,
        rest: members.rest(),
    })
}

fn container_override(mut members: Members) -> Result<ContainerOverride, ApiError> {
    Ok(ContainerOverride {
        name: members.parsed("name")?,
        command: members.texts("command")?,
        environment: members.pairs("environment", "name", "value")?.unwrap_or_default(),
        cpu: members.integer_in("cpu", 0..=10_000_000)?,
        memory: members.integer_in("memory", 4..=1 << 30)?,
        memory_reservation: members.integer_in("memoryReservation", 4..=1 << 30)?,
        rest: members.rest(),
    })
}

/// StopTask.
#[derive(Clone, Debug, PartialEq)]
pub struct StopTask {
    /// The cluster.
    pub cluster: Option<String>,
    /// Its id or ARN.
    pub task: String,
    /// Why, in the user's words.
    pub reason: Option<String>,
}

impl StopTask {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the task is missing or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let reason = members.text("reason")?.filter(|reason| !reason.is_empty());
        if reason.as_ref().is_some_and(|reason| reason.chars().count() > 1024) {
            return Err(members.refuse("reason can have at most 1024 characters."));
        }
        Ok(Self { cluster: members.text("cluster")?, task: members.required_text("task")?, reason })
    }
}

/// DescribeTasks.
#[derive(Clone, Debug, PartialEq)]
pub struct DescribeTasks {
    /// The cluster.
    pub cluster: Option<String>,
    /// Ids or ARNs, 1 to 100.
    pub tasks: Vec<String>,
    /// What else to answer.
    pub include: Vec<String>,
}

impl DescribeTasks {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are no tasks or too many, or a member is of the wrong type.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let tasks = names(&mut members, "tasks", 100)?;
        if tasks.is_empty() {
            return Err(members.refuse("Tasks cannot be empty."));
        }
        Ok(Self { cluster: members.text("cluster")?, tasks, include: include(&mut members)? })
    }
}

/// `desiredStatus` of ListTasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DesiredFilter {
    /// Tasks that should run.
    Running,
    /// Tasks that should not.
    Stopped,
    /// None: ECS never gives a task this desired status.
    Pending,
}

/// ListTasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ListTasks {
    /// The cluster.
    pub cluster: Option<String>,
    /// Only those of this family.
    pub family: Option<String>,
    /// Only those of this daemon.
    pub daemon_name: Option<String>,
    /// Only those of this service, by name or ARN.
    pub service_name: Option<String>,
    /// Only those started by this.
    pub started_by: Option<String>,
    /// Only those with this launch type.
    pub launch_type: Option<LaunchType>,
    /// Only those on this node, by id or ARN.
    pub container_instance: Option<String>,
    /// Only those with this desired status.
    pub desired_status: DesiredFilter,
    /// Which part of them.
    pub page: PageRequest,
}

impl ListTasks {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When a member is of the wrong type, not a known name, or out of range.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let desired_status = match members.text("desiredStatus")?.as_deref() {
            None | Some("RUNNING") => DesiredFilter::Running,
            Some("STOPPED") => DesiredFilter::Stopped,
            Some("PENDING") => DesiredFilter::Pending,
            Some(_) => {
                return Err(members.invalid("desiredStatus", "it is none of RUNNING, PENDING, STOPPED"));
            }
        };
        Ok(Self {
            cluster: members.text("cluster")?,
            family: members.text("family")?,
            daemon_name: members.text("daemonName")?.filter(|name| !name.is_empty()),
            service_name: members.text("serviceName")?,
            started_by: members.text("startedBy")?,
            launch_type: launch_type(&mut members)?,
            container_instance: members.text("containerInstance")?,
            desired_status,
            page: PageRequest::take(&mut members, 100)?,
        })
    }
}

/// A task as ECS answers it. `definition` is its blueprint while that still exists: it says whether the
/// task has a network of its own.
#[must_use]
pub fn task(account: AccountId, task: &Task, definition: Option<&TaskDefinition>, with_tags: bool) -> Value {
    let own_network = task.launch_type == LaunchType::Fargate
        || definition.is_some_and(|definition| definition.network_mode == Some(NetworkMode::Awsvpc));
    let network = own_network.then(|| TaskNetwork::of(task.id));
    let fargate = task.launch_type == LaunchType::Fargate;
    let task_arn = Arn::new(account, Resource::Task(task.cluster.clone(), task.id)).to_string();
    let containers =
        task.containers.iter().map(|one| container(account, task, &task_arn, one, network.as_ref()));
    let instance = task.node.filter(|_| !fargate).map(|(node, _)| {
        Arn::new(account, Resource::ContainerInstance(task.cluster.clone(), node)).to_string()
    });
    let definition_arn = Arn::new(account, Resource::TaskDefinition(task.task_definition.clone()));
    let mut answer = Object::new()
        .with("taskArn", task_arn.as_str())
        .with("clusterArn", Arn::new(account, Resource::Cluster(task.cluster.clone())).to_string())
        .with("taskDefinitionArn", definition_arn.to_string())
        .maybe("containerInstanceArn", instance)
        .with("attachments", list(network.as_ref().map(|network| network.attachment(task))))
        .with("attributes", json!([{"name": "ecs.cpu-architecture", "value": "x86_64"}]))
        .with("availabilityZone", format!("{}a", task.cluster.region))
        .with("containers", list(containers))
        .with("cpu", task.cpu.to_string())
        .with("memory", task.memory.to_string())
        .with("createdAt", crate::object::seconds(task.created_at))
        .with("desiredStatus", task.desired_status.name())
        .with("lastStatus", task.last_status.name())
        .kept_or(&task.rest, "enableExecuteCommand", false)
        .with("group", group(task))
        .with("healthStatus", task.health().name())
        .with("inferenceAccelerators", json!([]))
        .with("launchType", task.launch_type.name())
        .kept(&task.rest, &["capacityProviderName"])
        .with("overrides", overrides(task))
        .maybe("startedBy", task.started_by.clone())
        .maybe("stopCode", task.stop.as_ref().map(|stop| stop.code.name()))
        .maybe("stoppedReason", task.stop.as_ref().map(|stop| stop.reason.clone()))
        .time("pullStartedAt", task.pull_started_at)
        .time("pullStoppedAt", task.pull_stopped_at)
        .time("startedAt", task.started_at)
        .time("stoppingAt", task.stopping_at)
        .time("executionStoppedAt", task.execution_stopped_at)
        .time("stoppedAt", task.stopped_at)
        .with("tags", if with_tags { tags(task) } else { json!([]) })
        .with("version", task.version);
    if task.node.is_some() {
        // The node that runs it is this process or was one: the connection cannot be older than the task.
        answer = answer.with("connectivity", "CONNECTED").time("connectivityAt", Some(task.created_at));
    }
    if fargate {
        let storage = task.overrides.rest.get("ephemeralStorage");
        let storage = storage.or_else(|| definition?.rest.get("ephemeralStorage"));
        let storage = storage.cloned().unwrap_or_else(|| json!({"sizeInGiB": 20}));
        let version = task.rest.get("platformVersion").and_then(Value::as_str);
        answer = answer
            .with("platformVersion", platform_version(version))
            .with("platformFamily", "Linux")
            .with("ephemeralStorage", storage.clone())
            .with("fargateEphemeralStorage", storage);
    }
    answer.into()
}

/// `group`: a daemon's tasks are not those of a service.
fn group(task: &Task) -> String {
    match task.service().and_then(|name| name.daemon()) {
        Some(daemon) => format!("daemon:{daemon}"),
        None => task.group.to_string(),
    }
}

/// A task's tags, with those ECS adds when it is asked to.
fn tags(task: &Task) -> Value {
    let managed = task.rest.get("enableECSManagedTags").and_then(Value::as_bool) == Some(true);
    let cluster = managed.then(|| ("aws:ecs:clusterName", task.cluster.name.as_str()));
    let service = task.service().filter(|_| managed).map(|name| ("aws:ecs:serviceName", name.as_str()));
    let all = cluster.into_iter().chain(service).chain(task.tags.iter());
    list(all.map(|(key, value)| Object::new().with("key", key).with("value", value)))
}

/// What a platform version that was asked for turns into.
#[must_use]
pub fn platform_version(asked: Option<&str>) -> &str {
    match asked {
        None | Some("" | "LATEST") => "1.4.0",
        Some(version) => version,
    }
}

fn container(
    account: AccountId,
    task: &Task,
    task_arn: &str,
    container: &Container,
    network: Option<&TaskNetwork>,
) -> Value {
    let arn = Resource::Container(task.cluster.clone(), task.id, container.id);
    Object::new()
        .with("containerArn", Arn::new(account, arn).to_string())
        .with("taskArn", task_arn)
        .with("name", container.name.as_str())
        .with("image", container.image.as_str())
        .maybe("imageDigest", container.image_digest.clone())
        .maybe("runtimeId", container.runtime_id.clone())
        .with("lastStatus", container.status.name())
        .maybe("exitCode", container.exit_code)
        .maybe("reason", container.reason.clone())
        .with("networkBindings", json!([]))
        .with("networkInterfaces", network.map_or_else(|| json!([]), TaskNetwork::interfaces))
        .with("healthStatus", container.health.name())
        .maybe("managedAgents", managed_agents(task, container))
        .with("cpu", container.cpu.to_string())
        .maybe("memory", container.memory.map(|mib| mib.to_string()))
        .maybe("memoryReservation", container.memory_reservation.map(|mib| mib.to_string()))
        .into()
}

/// The part of a container that runs the commands of ExecuteCommand, where that is enabled.
fn managed_agents(task: &Task, container: &Container) -> Option<Value> {
    let enabled = task.rest.get("enableExecuteCommand").and_then(Value::as_bool) == Some(true);
    let agent = Object::new()
        .with("name", "ExecuteCommandAgent")
        .with("lastStatus", container.status.name())
        .time("lastStartedAt", task.started_at);
    enabled.then(|| list([agent]))
}

/// `overrides` of a task: every container by name, changed or not.
fn overrides(task: &Task) -> Value {
    let of = |name| task.overrides.containers.iter().find(|one| one.name.as_ref() == Some(name));
    let containers = task.containers.iter().map(|container| {
        let object = Object::new().with("name", container.name.as_str());
        let Some(changed) = of(&container.name) else { return object };
        object
            .maybe("command", changed.command.as_ref().map(|command| list(command.iter().cloned())))
            .maybe(
                "environment",
                (!changed.environment.is_empty())
                    .then(|| container_definition::environment(&changed.environment)),
            )
            .maybe("cpu", changed.cpu)
            .maybe("memory", changed.memory)
            .maybe("memoryReservation", changed.memory_reservation)
            .rest(&changed.rest)
    });
    Object::new()
        .with("containerOverrides", list(containers))
        .maybe("cpu", task.overrides.cpu.map(|units| units.to_string()))
        .maybe("memory", task.overrides.memory.map(|mib| mib.to_string()))
        .kept_or(&task.overrides.rest, "inferenceAcceleratorOverrides", json!([]))
        .rest(&task.overrides.rest)
        .into()
}

/// The answer to RunTask and DescribeTasks.
#[must_use]
pub fn tasks(tasks: Vec<Value>, failures: Vec<Failure>) -> Value {
    Object::new().with("tasks", tasks).with("failures", list(failures)).into()
}

/// The answer to StopTask.
#[must_use]
pub fn one(task: Value) -> Value {
    Object::new().with("task", task).into()
}

/// The answer to ListTasks.
#[must_use]
pub fn list_tasks(arns: Vec<String>, next: Option<String>) -> Value {
    Object::new().with("taskArns", arns).maybe("nextToken", next).into()
}
