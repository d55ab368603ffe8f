//! What a task and its definition mean on this node, worked out before anything is done. Pure.
//!
//! A container's arguments are `argv[0]`, then `entryPoint`, then `command` (or the override's). Images of
//! components have no entry point of their own and no programs to choose from, so `entryPoint` can only be
//! arguments. Of a plugin, which has nothing but functions, its first word is the one that is called, with all
//! that follows as its arguments. `argv[0]` is the component's name: `web` for `acme/web:1.4` and for `file:///srv/web.wasm`.
//!
//! Its environment is the definition's, the override's on top, and before both what every task is told:
//!
//! | variable | value |
//! |---|---|
//! | `AWS_EXECUTION_ENV` | `AWS_ECS_FARGATE`, `AWS_ECS_EC2` or `AWS_ECS_EXTERNAL` |
//! | `AWS_REGION`, `AWS_DEFAULT_REGION` | the task's region |
//! | `CORACLE_TASK_ID`, `CORACLE_TASK_ARN` | which task this is |
//! | `ECS_CONTAINER_METADATA_URI_V4` | where it can learn more: see `metadata` |
//!
//! CPU units belong to the task as a whole: FARGATE caps it, EC2 and EXTERNAL weigh it. A container's own `cpu` is its
//! weight among the task's containers, and adds to what a task without units of its own gets.
//!
//! A container has no disk but its mounts: volumes, `linuxParameters.tmpfs`, and the directory of its label
//! `coracle.scratch`. What is the task's own of these counts in `ephemeralStorage`.

use std::sync::Arc;
use std::time::Duration;

use coracle_sandbox::{Files, NetworkQuotas};

use coracle_types::task_definition::{DEFAULT_MEMORY_MIB, DEFAULT_STOP_TIMEOUT_S};
use coracle_types::{
    Arn, ContainerDefinition, ContainerName, DependencyCondition, JsonMap, LaunchType, NetworkMode, Resource,
    Task, TaskDefinition,
};

use serde_json::Value;

use crate::agent::AgentConfig;
use crate::health::{Check, HealthPlan, HealthRules};
use crate::labels::Labels;
use crate::logs::{LogNames, LogTarget, log_target};
use crate::metadata;
use crate::roles::role_of;
use crate::secrets::{VariablePlan, Variables};
use crate::volumes::{Ephemeral, VolumePlan};

/// A task, ready to be started.
#[derive(Debug)]
pub(crate) struct ResolvedTask {
    /// In the definition's order; other modules name a container by its position here.
    pub(crate) containers: Vec<ResolvedContainer>,
    pub(crate) cpu: CpuPlan,
    /// Bytes, over all containers.
    pub(crate) memory: u64,
    pub(crate) volumes: Vec<VolumePlan>,
    pub(crate) ephemeral: Ephemeral,
    /// Files and directories that may be open at the same time, over all containers.
    pub(crate) open_files: u32,
    /// `taskRoleArn`.
    pub(crate) role: Option<String>,
    pub(crate) network_mode: Option<NetworkMode>,
    pub(crate) network_quotas: NetworkQuotas,
}

/// What a task's CPU units are to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CpuPlan {
    /// It never gets more.
    Capped(u32),
    /// Its weight when CPU is scarce.
    Shares(u32),
}

/// One container, ready to be started.
#[derive(Debug)]
pub(crate) struct ResolvedContainer {
    pub(crate) rules: ContainerRules,
    pub(crate) image: String,
    pub(crate) args: Vec<String>,
    /// The export that is called if its component is a plugin.
    pub(crate) call: Option<CallPlan>,
    /// Positions of other containers, and the interface each of them answers; None: every one that fits.
    pub(crate) links: Vec<(usize, Option<String>)>,
    /// Whether others are linked to it.
    pub(crate) is_linked_to: bool,
    /// What every container is told; anything else of the same name hides it.
    pub(crate) surroundings: Vec<(String, String)>,
    pub(crate) env: Vec<(String, String)>,
    /// Where more variables come from.
    pub(crate) variables: VariablePlan,
    pub(crate) working_dir: Option<String>,
    pub(crate) mounts: Vec<MountPlan>,
    /// Its weight among the task's containers, in CPU units.
    pub(crate) cpu: u32,
    /// Bytes; `None`: only the task's cap holds.
    pub(crate) memory: Option<u64>,
    /// `ulimits` for `nofile`.
    open_files: Option<u32>,
    pub(crate) labels: Labels,
    pub(crate) stop_timeout: Duration,
    pub(crate) health: Option<HealthPlan>,
    pub(crate) log: Option<LogTarget>,
    pub(crate) ports: Vec<u16>,
}

/// A call of a plugin, from its `entryPoint` and `command`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CallPlan {
    pub(crate) function: String,
    /// JSON each, or plain text where the parameter is text.
    pub(crate) arguments: Vec<String>,
}

/// Where a container sees a volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MountPlan {
    /// The volume's position in the task.
    pub(crate) volume: usize,
    pub(crate) guest: String,
    pub(crate) read_only: bool,
}

/// What decides when a container starts, and what its end means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerRules {
    pub(crate) name: ContainerName,
    pub(crate) essential: bool,
    pub(crate) runtime_id: String,
    /// Positions of other containers, and what is waited for in them.
    pub(crate) depends_on: Vec<(usize, DependencyCondition)>,
    /// How long after its start it may take to what others wait for in it: ECS's `startTimeout`. `None`: as
    /// long as it takes.
    pub(crate) start_timeout: Option<Duration>,
    /// `None` if it can't be checked.
    pub(crate) health: Option<HealthRules>,
    /// What its `reason` says while it runs: why it can't be checked.
    pub(crate) note: Option<String>,
    /// Whether and when it is started again after its end.
    pub(crate) restart: Option<RestartPolicy>,
}

/// ECS's `restartPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RestartPolicy {
    /// A container that has run for less is not started again.
    pub(crate) attempt_period: Duration,
    /// Exit codes after which it is not, either.
    pub(crate) ignored_exit_codes: Vec<i32>,
}

impl RestartPolicy {
    /// ECS's default of `restartAttemptPeriod`.
    const DEFAULT_PERIOD_S: u64 = 300;

    /// Reads the member of a container definition; None if there is none, or it is not enabled.
    fn new(definition: &JsonMap) -> Option<Self> {
        let policy = definition.get("restartPolicy")?;
        if policy.get("enabled").and_then(Value::as_bool) != Some(true) {
            return None;
        }
        let seconds = policy.get("restartAttemptPeriod").and_then(Value::as_u64);
        let codes = policy.get("ignoredExitCodes").and_then(Value::as_array).into_iter().flatten();
        Some(Self {
            attempt_period: Duration::from_secs(seconds.unwrap_or(Self::DEFAULT_PERIOD_S)),
            ignored_exit_codes: codes.filter_map(|code| i32::try_from(code.as_i64()?).ok()).collect(),
        })
    }
}

/// Why a task can't be started as it stands. The text stands on its own in `stoppedReason`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct ResolveError {
    /// The container it is about.
    pub(crate) container: Option<usize>,
    pub(crate) reason: String,
}

impl ContainerRules {
    /// The rules of a container in a task that could not be resolved: it only has to be named in reports.
    pub(crate) fn unresolved(task: &Task) -> Vec<Self> {
        let rules = task.containers.iter().map(|container| Self {
            name: container.name.clone(),
            essential: container.essential,
            runtime_id: String::new(),
            depends_on: Vec::new(),
            start_timeout: None,
            health: None,
            note: None,
            restart: None,
        });
        rules.collect()
    }
}

/// Works out everything a task needs.
///
/// # Errors
/// The first thing in it that can't be done.
pub(crate) fn resolve(
    task: &Task,
    definition: &TaskDefinition,
    config: &AgentConfig,
) -> Result<ResolvedTask, ResolveError> {
    let mut volumes = Vec::new();
    for volume in &definition.volumes {
        volumes.push(
            VolumePlan::new(volume, task.id).map_err(|error| ResolveError {
                container: None,
                reason: cannot_start(&error.to_string()),
            })?,
        );
    }
    let mut containers = Vec::new();
    for (position, container) in definition.containers.iter().enumerate() {
        let resolved =
            resolve_container(task, definition, container, &mut volumes, config).map_err(|reason| {
                ResolveError {
                    container: Some(position),
                    reason: cannot_start(&format!("container {}: {reason}", container.name)),
                }
            })?;
        containers.push(resolved);
    }
    let linked_to: Vec<usize> =
        containers.iter().flat_map(|one| one.links.iter().map(|&(position, _)| position)).collect();
    for position in linked_to {
        containers[position].is_linked_to = true;
    }
    if let Some(position) = find_cycle(&containers) {
        return Err(ResolveError {
            container: Some(position),
            reason: cannot_start(&format!(
                "container {}: its dependsOn or coracle.link leads back to itself",
                containers[position].rules.name
            )),
        });
    }
    Ok(ResolvedTask {
        memory: u64::from(task_memory_mib(task, definition, config.memory_mib)) * MIB,
        cpu: match task.launch_type {
            LaunchType::Fargate if task.cpu > 0 => CpuPlan::Capped(task.cpu),
            // Docker's least weight.
            LaunchType::Fargate | LaunchType::Ec2 | LaunchType::External => CpuPlan::Shares(task.cpu.max(2)),
        },
        network_mode: definition.network_mode,
        network_quotas: network_quotas(&containers),
        open_files: containers
            .iter()
            .filter_map(|container| container.open_files)
            .max()
            .unwrap_or(Files::DEFAULT_LIMIT),
        ephemeral: ephemeral(task, definition),
        role: role_of(task, definition),
        containers,
        volumes,
    })
}

/// What a task's own volumes may hold: its `ephemeralStorage`, else what a task of Fargate has.
fn ephemeral(task: &Task, definition: &TaskDefinition) -> Ephemeral {
    const DEFAULT_GIB: u64 = 20;
    let storage = task.overrides.rest.get("ephemeralStorage");
    let storage = storage.or_else(|| definition.rest.get("ephemeralStorage"));
    let gib = storage.and_then(|storage| storage.get("sizeInGiB")).and_then(Value::as_u64);
    Ephemeral { limit: gib.filter(|&gib| gib > 0).unwrap_or(DEFAULT_GIB).saturating_mul(1024 * MIB) }
}

/// The soft limit of `ulimits` for `nofile`, if a container has one.
fn open_files(definition: &JsonMap) -> Option<u32> {
    let limits = definition.get("ulimits")?.as_array()?;
    let nofile = limits.iter().find(|limit| limit.get("name").is_some_and(|name| name == "nofile"))?;
    let soft = nofile.get("softLimit")?.as_i64()?;
    Some(u32::try_from(soft).unwrap_or(u32::MAX).clamp(1, MOST_OPEN_FILES))
}

/// The most files one task may have open, whatever it asks for: what Docker gives a container. This process has to hold
/// those of all tasks.
const MOST_OPEN_FILES: u32 = 65_536;

/// A container's directories in memory, which are on disk here: where it sees them, how large they are in bytes, and
/// whether it may only read them.
fn tmpfs(definition: &JsonMap) -> Result<Vec<(String, u64, bool)>, String> {
    let all = definition.get("linuxParameters").and_then(|parameters| parameters.get("tmpfs"));
    let all = all.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let one = |tmpfs: &Value| {
        let path = tmpfs.get("containerPath").and_then(Value::as_str).unwrap_or_default();
        let mib = tmpfs.get("size").and_then(Value::as_u64).filter(|&mib| mib > 0);
        let mib = mib.ok_or_else(|| format!("tmpfs {path:?}: its size has to be at least 1 MiB"))?;
        let options = tmpfs.get("mountOptions").and_then(Value::as_array).into_iter().flatten();
        let read_only = options.into_iter().any(|option| option == "ro");
        Ok((path.to_owned(), mib.saturating_mul(MIB), read_only))
    };
    all.iter().map(one).collect()
}

/// What a task may use of the network: the most that one of its containers asks for.
fn network_quotas(containers: &[ResolvedContainer]) -> NetworkQuotas {
    let default = NetworkQuotas::default();
    let most = |of: fn(&Labels) -> Option<u32>| containers.iter().filter_map(|one| of(&one.labels)).max();
    let body = containers.iter().filter_map(|one| one.labels.outgoing_body).max();
    NetworkQuotas {
        connections: most(|labels| labels.outgoing_connections).unwrap_or(default.connections),
        requests: most(|labels| labels.outgoing_requests).unwrap_or(default.requests),
        request_body: body.unwrap_or(default.request_body),
        response_body: body.unwrap_or(default.response_body),
        ..default
    }
}

const MIB: u64 = 1024 * 1024;

/// Puts ECS's prefix before a reason.
pub(crate) fn cannot_start(reason: &str) -> String {
    format!("CannotStartContainerError: {reason}")
}

fn resolve_container(
    task: &Task,
    definition: &TaskDefinition,
    container: &ContainerDefinition,
    volumes: &mut Vec<VolumePlan>,
    config: &AgentConfig,
) -> Result<ResolvedContainer, String> {
    let overridden =
        task.overrides.containers.iter().find(|overridden| overridden.name.as_ref() == Some(&container.name));
    let record = task
        .containers
        .iter()
        .find(|record| record.name == container.name)
        .ok_or_else(|| "the task has no such container".to_owned())?;
    let labels = Labels::parse(&container.docker_labels).map_err(|error| error.to_string())?;

    let mut mounts = Vec::new();
    for mount in &container.mount_points {
        // Of those the definition names: a scratch directory is its container's own.
        let volume = definition.volumes.iter().position(|volume| volume.name == mount.source_volume);
        let volume = volume.ok_or_else(|| {
            format!("mount point names the volume {:?}, which is not defined", mount.source_volume)
        })?;
        let guest = mount.container_path.clone();
        mounts.push(MountPlan { volume, guest, read_only: mount.read_only });
    }
    let mut scratch = tmpfs(&container.rest)?
        .into_iter()
        .map(|(guest, limit, read_only)| (guest, Some(limit), read_only))
        .collect::<Vec<_>>();
    scratch.extend(labels.scratch.clone().map(|scratch| (scratch.guest, scratch.limit, false)));
    for (guest, limit, read_only) in scratch {
        mounts.push(MountPlan { volume: volumes.len(), guest, read_only });
        volumes.push(VolumePlan::scratch(volumes.len(), limit, task.id));
    }
    if let Some(mount) = mounts.iter().find(|mount| !mount.guest.starts_with('/')) {
        return Err(format!("container path {:?} is not absolute", mount.guest));
    }

    let position_of =
        |name: &ContainerName| definition.containers.iter().position(|other| other.name == *name);
    let mut links = Vec::new();
    for rule in &labels.links {
        let position = position_of(&rule.container).ok_or_else(|| {
            format!("label coracle.link names container {}, which is not defined", rule.container)
        })?;
        links.push((position, rule.interface.clone()));
    }

    let mut depends_on = Vec::new();
    for dependency in &container.depends_on {
        let position = position_of(&dependency.container).ok_or_else(|| {
            format!("dependsOn names container {}, which is not defined", dependency.container)
        })?;
        depends_on.push((position, dependency.condition));
    }
    // Whom it is linked to has to be there first.
    depends_on.extend(links.iter().map(|&(position, _)| (position, DependencyCondition::Start)));

    let command = overridden.and_then(|overridden| overridden.command.as_ref()).unwrap_or(&container.command);
    let mut args = vec![component_name(&container.image).unwrap_or(container.name.as_str()).to_owned()];
    args.extend(container.entry_point.iter().chain(command).cloned());
    let call = container.entry_point.split_first().map(|(function, first)| CallPlan {
        function: function.clone(),
        arguments: first.iter().chain(command).cloned().collect(),
    });

    let mut env: Vec<(String, String)> = Vec::new();
    let more = overridden.map(|overridden| overridden.environment.as_slice()).unwrap_or_default();
    for (name, value) in container.environment.iter().chain(more) {
        set(&mut env, name, value);
    }

    let variables = VariablePlan::new(
        &container.rest,
        overridden.map(|overridden| &overridden.rest),
        &config.environment_files_dir,
    )?;
    let working_dir = container.rest.get("workingDirectory").and_then(Value::as_str).map(str::to_owned);
    let runtime_id = format!("{}-{:010}", task.id, record.id.0 % 10_000_000_000);
    let log = log_target(
        container.log_configuration.as_ref(),
        &LogNames {
            region: task.cluster.region.as_str(),
            family: definition.id.family.as_str(),
            container: container.name.as_str(),
            task: &task.id.to_string(),
            runtime_id: &runtime_id,
        },
    );
    let surroundings = surroundings(task, &config.account, &runtime_id);
    let health = container.health_check.as_ref().and_then(HealthPlan::new);
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    Ok(ResolvedContainer {
        rules: ContainerRules {
            name: container.name.clone(),
            essential: container.essential,
            runtime_id,
            depends_on,
            start_timeout: container.start_timeout_s.map(seconds),
            health: health
                .as_ref()
                .filter(|health| !matches!(health.check, Check::Impossible(_)))
                .map(|health| health.rules),
            note: health.as_ref().and_then(|health| match &health.check {
                Check::Impossible(reason) => Some(reason.clone()),
                Check::Command(_) | Check::Http(_) => None,
            }),
            restart: RestartPolicy::new(&container.rest),
        },
        image: container.image.clone(),
        args,
        call,
        links,
        is_linked_to: false,
        surroundings,
        env,
        variables,
        working_dir,
        mounts,
        cpu: container.cpu,
        open_files: open_files(&container.rest),
        memory: record.memory.filter(|&mib| mib > 0).map(|mib| u64::from(mib) * MIB),
        labels,
        stop_timeout: seconds(container.stop_timeout_s.unwrap_or(DEFAULT_STOP_TIMEOUT_S)),
        health,
        log,
        ports: container.port_mappings.iter().filter_map(|mapping| mapping.container_port).collect(),
    })
}

/// Sets a variable, over an earlier one of the same name.
fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, known)) => value.clone_into(known),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

impl ResolvedContainer {
    /// The values of `wasi:config`: its environment, and over it those of its labels.
    pub(crate) fn config(&self, env: &[(String, String)]) -> Arc<[(String, String)]> {
        let mut all = env.to_vec();
        for (name, value) in &self.labels.config {
            set(&mut all, name, value);
        }
        all.into()
    }

    /// Its environment: what every container is told, then its files, then its definition and override, then its
    /// secrets, each over what came before.
    pub(crate) fn environment(&self, more: &Variables) -> Vec<(String, String)> {
        let mut all = self.surroundings.clone();
        for (name, value) in more.files.iter().chain(&self.env).chain(&more.secrets) {
            set(&mut all, name, value);
        }
        all
    }
}

/// What every container is told about where it is.
fn surroundings(task: &Task, account: &str, runtime_id: &str) -> Vec<(String, String)> {
    let execution = match task.launch_type {
        LaunchType::Fargate => "AWS_ECS_FARGATE",
        LaunchType::Ec2 => "AWS_ECS_EC2",
        LaunchType::External => "AWS_ECS_EXTERNAL",
    };
    let arn = Arn { account: account.to_owned(), resource: Resource::Task(task.cluster.clone(), task.id) };
    let region = task.cluster.region.as_str();
    let variables = [
        ("AWS_EXECUTION_ENV", execution.to_owned()),
        ("AWS_REGION", region.to_owned()),
        ("AWS_DEFAULT_REGION", region.to_owned()),
        ("CORACLE_TASK_ID", task.id.to_string()),
        ("CORACLE_TASK_ARN", arn.to_string()),
        ("ECS_CONTAINER_METADATA_URI_V4", metadata::uri(runtime_id)),
    ];
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The component's name in an image reference: the repository's last part, or the file's without `.wasm`.
fn component_name(image: &str) -> Option<&str> {
    let name = match image.strip_prefix("file://") {
        Some(path) => path.rsplit('/').next()?,
        None => {
            let without_digest = image.split('@').next()?;
            without_digest.rsplit('/').next()?.split(':').next()?
        }
    };
    let name = name.strip_suffix(".wasm").unwrap_or(name);
    (!name.is_empty()).then_some(name)
}

/// The hard memory cap of a whole task, in MiB.
///
/// The task's own memory if it has one. Otherwise as much as its containers may have: their caps;
/// [`DEFAULT_MEMORY_MIB`] for one that names no memory at all; and for one that names only a reservation,
/// which is no cap in ECS either, all that the node offers.
fn task_memory_mib(task: &Task, definition: &TaskDefinition, node_mib: u32) -> u32 {
    let own = task.overrides.memory.or(definition.memory).filter(|&mib| mib > 0);
    own.unwrap_or_else(|| {
        task.containers.iter().fold(0u32, |sum, container| {
            let cap = match (container.memory.filter(|&mib| mib > 0), container.memory_reservation) {
                (Some(cap), _) => cap,
                (None, Some(reserved)) => node_mib.max(reserved),
                (None, None) => DEFAULT_MEMORY_MIB,
            };
            sum.saturating_add(cap)
        })
    })
}

/// A container that, directly or not, waits for itself.
fn find_cycle(containers: &[ResolvedContainer]) -> Option<usize> {
    // Takes away what waits for nothing that is left, until nothing changes.
    let mut left: Vec<bool> = vec![true; containers.len()];
    loop {
        let free = (0..containers.len()).find(|&position| {
            left[position] && !containers[position].rules.depends_on.iter().any(|&(on, _)| left[on])
        });
        match free {
            Some(position) => left[position] = false,
            None => return left.iter().position(|&left| left),
        }
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::{ContainerOverride, Dependency, MountPoint, Volume};

    use super::*;
    use crate::testing::{config, container, definition, task};

    fn resolved(
        definition: &TaskDefinition,
        change: impl FnOnce(&mut Task),
    ) -> Result<ResolvedTask, ResolveError> {
        let mut task = task(definition, 1);
        change(&mut task);
        resolve(&task, definition, &config("/v".into()))
    }

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    #[test]
    fn the_components_name() {
        for (image, expected) in [
            ("acme/web:1.4", Some("web")),
            ("web", Some("web")),
            ("localhost:5000/acme/web", Some("web")),
            ("acme/web@sha256:00ff", Some("web")),
            ("file:///srv/app.wasm", Some("app")),
            ("file:///srv/v1:2.wasm", Some("v1:2")),
            ("file:///", None),
            ("", None),
        ] {
            assert_eq!(component_name(image), expected, "{image}");
        }
    }

    #[test]
    fn arguments_and_environment_with_overrides() {
        let mut web = container("web", "acme/web:1");
        web.entry_point = vec!["serve".into()];
        web.command = vec!["--port".into(), "80".into()];
        web.environment = vec![("A".into(), "1".into()), ("AWS_REGION".into(), "mine".into())];
        let definition = definition(vec![web]);
        let plain = resolved(&definition, |_| {}).unwrap();
        assert_eq!(plain.containers[0].args, ["web", "serve", "--port", "80"]);
        let value = |resolved: &ResolvedTask, name: &str| {
            let env = resolved.containers[0].environment(&Variables::default());
            env.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        assert_eq!(value(&plain, "AWS_REGION").as_deref(), Some("mine"));
        assert_eq!(value(&plain, "AWS_EXECUTION_ENV").as_deref(), Some("AWS_ECS_FARGATE"));
        assert_eq!(value(&plain, "CORACLE_TASK_ID"), Some(format!("{:032x}", 1)));
        assert!(
            value(&plain, "CORACLE_TASK_ARN")
                .unwrap()
                .starts_with("arn:aws:ecs:us-east-1:123456789012:task/")
        );

        let overridden = resolved(&definition, |task| {
            task.overrides.containers = vec![ContainerOverride {
                name: Some(name("web")),
                command: Some(vec!["up".into()]),
                environment: vec![("A".into(), "2".into()), ("B".into(), "3".into())],
                ..ContainerOverride::default()
            }];
        })
        .unwrap();
        assert_eq!(overridden.containers[0].args, ["web", "serve", "up"]);
        assert_eq!(value(&overridden, "A").as_deref(), Some("2"));
        assert_eq!(value(&overridden, "B").as_deref(), Some("3"));
    }

    #[test]
    fn variables_hide_those_that_came_before() {
        let mut web = container("web", "web");
        web.environment = vec![("FILE".into(), "definition".into()), ("OWN".into(), "definition".into())];
        let resolved = resolved(&definition(vec![web]), |_| {}).unwrap();
        let pairs = |names: &[&str], value: &str| {
            names.iter().map(|&name| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
        };
        let env = resolved.containers[0].environment(&Variables {
            files: pairs(&["FILE", "AWS_REGION", "MORE"], "file"),
            secrets: pairs(&["OWN"], "secret"),
        });
        let value = |name: &str| env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        assert_eq!(value("FILE"), Some("definition"));
        assert_eq!(value("AWS_REGION"), Some("file"));
        assert_eq!(value("MORE"), Some("file"));
        assert_eq!(value("OWN"), Some("secret"));
    }

    #[test]
    fn cpu_is_a_cap_on_fargate_and_a_weight_elsewhere() {
        let definition = definition(vec![container("web", "web")]);
        let cpu = |launch_type, cpu| {
            resolved(&definition, |task| {
                task.launch_type = launch_type;
                task.cpu = cpu;
            })
            .unwrap()
            .cpu
        };
        assert_eq!(cpu(LaunchType::Fargate, 256), CpuPlan::Capped(256));
        assert_eq!(cpu(LaunchType::Fargate, 0), CpuPlan::Shares(2));
        assert_eq!(cpu(LaunchType::Ec2, 256), CpuPlan::Shares(256));
        assert_eq!(cpu(LaunchType::External, 0), CpuPlan::Shares(2));
    }

    #[test]
    fn memory_caps() {
        let mut definition = definition(vec![container("a", "a"), container("b", "b")]);
        let memory = |definition: &TaskDefinition, caps: [(Option<u32>, Option<u32>); 2]| {
            let resolved = resolved(definition, |task| {
                for (container, (memory, reservation)) in task.containers.iter_mut().zip(caps) {
                    container.memory = memory;
                    container.memory_reservation = reservation;
                }
            })
            .unwrap();
            (resolved.memory / MIB, resolved.containers[0].memory.map(|bytes| bytes / MIB))
        };
        definition.memory = Some(1024);
        assert_eq!(memory(&definition, [(Some(512), Some(256)), (None, None)]), (1024, Some(512)));
        definition.memory = None;
        assert_eq!(memory(&definition, [(Some(512), Some(256)), (Some(64), None)]), (576, Some(512)));
        assert_eq!(memory(&definition, [(None, None), (None, None)]), (1024, None));
        assert_eq!(memory(&definition, [(None, Some(100)), (Some(1), None)]), (4097, None));
    }

    #[test]
    fn what_can_not_be_done_says_which_container_and_why() {
        let refused = |change: &dyn Fn(&mut ContainerDefinition)| {
            let mut web = container("web", "web");
            change(&mut web);
            resolved(&definition(vec![web, container("other", "other")]), |_| {}).unwrap_err()
        };
        let error = refused(&|web| {
            web.docker_labels.insert("coracle.fuel".into(), "much".into());
        });
        assert_eq!(error.container, Some(0));
        assert!(
            error.reason.starts_with("CannotStartContainerError: container web: label coracle.fuel"),
            "{error}"
        );

        let mount = |volume: &str, path: &str| MountPoint {
            source_volume: volume.into(),
            container_path: path.into(),
            read_only: false,
        };
        let error = refused(&|web| web.mount_points = vec![mount("data", "/data")]);
        assert!(error.reason.contains("\"data\""), "{error}");

        let wait = |container: &str| Dependency {
            container: name(container),
            condition: DependencyCondition::Start,
        };
        let error = refused(&|web| web.depends_on = vec![wait("ghost")]);
        assert!(error.reason.contains("ghost"), "{error}");
        let error = refused(&|web| web.depends_on = vec![wait("other"), wait("web")]);
        assert!(error.reason.contains("leads back"), "{error}");
    }

    #[test]
    fn mounts_are_where_their_volumes_are() {
        let mut web = container("web", "web");
        web.mount_points = vec![MountPoint {
            source_volume: "data".into(),
            container_path: "/data".into(),
            read_only: true,
        }];
        let mut definition = definition(vec![web]);
        definition.volumes =
            vec![Volume { name: "data".into(), host_path: Some("/srv".into()), rest: Default::default() }];
        let resolved = resolved(&definition, |_| {}).unwrap();
        assert_eq!(
            resolved.containers[0].mounts,
            [MountPlan { volume: 0, guest: "/data".into(), read_only: true }]
        );
        assert_eq!(resolved.volumes[0].path("/v".as_ref()), std::path::Path::new("/srv"));
    }

    #[test]
    fn scratch_is_each_containers_own_and_counts_in_the_tasks_storage() {
        let mut web = container("web", "web");
        web.docker_labels.insert("coracle.scratch".into(), "/tmp 64MiB".into());
        web.rest.insert(
            "linuxParameters".into(),
            serde_json::json!({"tmpfs": [{"containerPath": "/run", "size": 16, "mountOptions": ["ro"]}]}),
        );
        web.rest.insert(
            "ulimits".into(),
            serde_json::json!([{"name": "nofile", "softLimit": 50, "hardLimit": 90}]),
        );
        let mut log = container("log", "log");
        log.docker_labels.insert("coracle.scratch".into(), "/tmp".into());
        let mut definition = definition(vec![web, log]);
        let default = resolved(&definition, |_| {}).unwrap();
        assert_eq!((default.ephemeral.limit, default.open_files), (20 << 30, 50));
        definition.rest.insert("ephemeralStorage".into(), serde_json::json!({"sizeInGiB": 30}));
        let resolved = resolved(&definition, |_| {}).unwrap();
        assert_eq!(resolved.ephemeral.limit, 30 << 30);
        let limits: Vec<_> = resolved.volumes.iter().map(|volume| (volume.is_own, volume.limit)).collect();
        assert_eq!(limits, [(true, Some(16 << 20)), (true, Some(64 << 20)), (true, None)]);
        let mount = |volume, guest: &str, read_only| MountPlan { volume, guest: guest.into(), read_only };
        assert_eq!(resolved.containers[0].mounts, [mount(0, "/run", true), mount(1, "/tmp", false)]);
        assert_eq!(resolved.containers[1].mounts, [mount(2, "/tmp", false)]);
    }

    #[test]
    fn scratch_that_can_not_be_is_refused_in_words() {
        let mut web = container("web", "web");
        web.rest.insert("linuxParameters".into(), serde_json::json!({"tmpfs": [{"containerPath": "/run"}]}));
        let error = resolved(&definition(vec![web]), |_| {}).unwrap_err();
        assert!(error.reason.contains("at least 1 MiB"), "{error}");
        for value in ["tmp", "/tmp many", "/tmp 0", ""] {
            let mut web = container("web", "web");
            web.docker_labels.insert("coracle.scratch".into(), value.into());
            let error = resolved(&definition(vec![web]), |_| {}).unwrap_err();
            assert!(error.reason.contains("absolute path is expected"), "{value:?}: {error}");
        }
    }
}
