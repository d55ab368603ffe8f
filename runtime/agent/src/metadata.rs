//! ECS's task metadata endpoint, version 4: what a task can learn of itself.
//!
//! A container finds it by its variable `ECS_CONTAINER_METADATA_URI_V4`, as on AWS. It is answered in this process, for
//! `wasi:http` requests; there is no socket, and no container can ask for another task's.
//!
//! | path after that | answer |
//! |---|---|
//! | | the container |
//! | `/task`, `/taskWithTags` | the task and its containers |
//! | `/stats` | what the container uses |
//! | `/task/stats` | the same for each container, by its `DockerId` |
//!
//! CPU time and memory are the task's as a whole, because its containers share them.

use std::sync::Arc;

use bytes::Bytes;
use coracle_sandbox::{Upstream, UpstreamBody};
use coracle_types::{Arn, ContainerStatus, DesiredStatus, LastStatus, LaunchType, Resource};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use serde_json::{Map, Value, json};

use crate::resolve::{ResolvedContainer, ResolvedTask};
use crate::usage::TaskRecord;

/// Where AWS has it, too.
pub(crate) const HOST: &str = "169.254.170.2";
pub(crate) const PORT: u16 = 80;

/// The value of the variable, for a container's run.
pub(crate) fn uri(runtime_id: &str) -> String {
    format!("http://{HOST}/v4/{runtime_id}")
}

/// Answers for one task.
pub(crate) struct Metadata {
    account: String,
    record: Arc<TaskRecord>,
    resolved: Arc<ResolvedTask>,
}

impl Metadata {
    pub(crate) fn new(account: String, record: Arc<TaskRecord>, resolved: Arc<ResolvedTask>) -> Self {
        Self { account, record, resolved }
    }

    /// The answer for a path, if it is one.
    fn answer(&self, path: &str) -> Option<Value> {
        let rest = path.strip_prefix("/v4/")?;
        let (id, what) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let containers = &self.resolved.containers;
        let position = containers.iter().position(|container| container.rules.runtime_id == id)?;
        match what.trim_end_matches('/') {
            "" => Some(self.container(position)),
            "/task" | "/taskWithTags" => Some(self.task()),
            "/stats" => Some(self.stats(&containers[position])),
            "/task/stats" => {
                let all = containers.iter().map(|one| (one.rules.runtime_id.clone(), self.stats(one)));
                Some(all.collect::<Map<_, _>>().into())
            }
            _ => None,
        }
    }

    fn task(&self) -> Value {
        let task = &self.record.task;
        let seen = self.record.reported.lock().clone();
        let status = seen.as_ref().map_or(task.last_status, |seen| seen.status);
        let mut answer = json!({
            "Cluster": self.arn(Resource::Cluster(task.cluster.clone())),
            "TaskARN": self.arn(Resource::Task(task.cluster.clone(), task.id)),
            "Family": task.task_definition.family.as_str(),
            "Revision": task.task_definition.revision.to_string(),
            "DesiredStatus": match task.desired_status {
                DesiredStatus::Running => "RUNNING",
                DesiredStatus::Stopped => "STOPPED",
            },
            "KnownStatus": status_name(status),
            "Limits": { "Memory": self.resolved.memory >> 20 },
            "AvailabilityZone": format!("{}a", task.cluster.region),
            "LaunchType": match task.launch_type {
                LaunchType::Fargate => "FARGATE",
                LaunchType::Ec2 => "EC2",
                LaunchType::External => "EXTERNAL",
            },
            "Containers": (0..self.resolved.containers.len()).map(|one| self.container(one)).collect::<Vec<_>>(),
        });
        if task.cpu > 0 {
            answer["Limits"]["CPU"] = (f64::from(task.cpu) / 1024.0).into();
        }
        if let Some(service) = task.service() {
            answer["ServiceName"] = service.to_string().into();
        }
        let seen = seen.as_ref();
        let times = [
            ("PullStartedAt", seen.and_then(|seen| seen.pull_started_at)),
            ("PullStoppedAt", seen.and_then(|seen| seen.pull_stopped_at)),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                answer[name] = time.iso8601().into();
            }
        }
        if !task.tags.is_empty() {
            answer["TaskTags"] = json!(task.tags);
        }
        answer
    }

    fn container(&self, position: usize) -> Value {
        let task = &self.record.task;
        let plan = &self.resolved.containers[position];
        let name = &plan.rules.name;
        let seen = self.record.reported.lock().clone();
        let this = seen.as_ref().and_then(|seen| seen.containers.iter().find(|one| one.name == *name));
        let mut labels = json!({
            "com.amazonaws.ecs.cluster": self.arn(Resource::Cluster(task.cluster.clone())),
            "com.amazonaws.ecs.container-name": name.as_str(),
            "com.amazonaws.ecs.task-arn": self.arn(Resource::Task(task.cluster.clone(), task.id)),
            "com.amazonaws.ecs.task-definition-family": task.task_definition.family.as_str(),
            "com.amazonaws.ecs.task-definition-version": task.task_definition.revision.to_string(),
        });
        let mut answer = json!({
            "DockerId": plan.rules.runtime_id,
            "Name": name.as_str(),
            "DockerName": name.as_str(),
            "Image": plan.image,
            "DesiredStatus": "RUNNING",
            "KnownStatus": match this.map(|this| this.status) {
                Some(ContainerStatus::Stopped) => "STOPPED",
                Some(ContainerStatus::Running) => "RUNNING",
                _ => "PENDING",
            },
            "Type": "NORMAL",
            "Labels": labels.take(),
            "Limits": {},
            "Networks": [{ "NetworkMode": "awsvpc", "IPv4Addresses": ["127.0.0.1"] }],
        });
        if let Some(record) = task.containers.iter().find(|record| record.name == *name) {
            answer["ContainerARN"] =
                self.arn(Resource::Container(task.cluster.clone(), task.id, record.id)).into();
            if record.cpu > 0 {
                answer["Limits"]["CPU"] = record.cpu.into();
            }
        }
        if let Some(memory) = plan.memory {
            answer["Limits"]["Memory"] = (memory >> 20).into();
        }
        if let Some(digest) = this.and_then(|this| this.image_digest.as_ref()) {
            answer["ImageID"] = digest.as_str().into();
        }
        if let Some(code) = this.and_then(|this| this.exit_code) {
            answer["ExitCode"] = code.into();
        }
        answer["CreatedAt"] = task.created_at.iso8601().into();
        if let Some(started) = seen.as_ref().and_then(|seen| seen.started_at) {
            answer["StartedAt"] = started.iso8601().into();
        }
        if let Some(log) = &plan.log {
            answer["LogDriver"] = "awslogs".into();
            answer["LogOptions"] = json!({
                "awslogs-group": log.group,
                "awslogs-region": log.region,
                "awslogs-stream": log.stream,
            });
        }
        answer
    }

    /// As Docker tells it, as far as there is anything to tell.
    fn stats(&self, container: &ResolvedContainer) -> Value {
        let usage = self.record.usage();
        json!({
            "id": container.rules.runtime_id,
            "name": container.rules.name.as_str(),
            "cpu_stats": {
                "cpu_usage": { "total_usage": u64::try_from(usage.cpu_time.as_nanos()).unwrap_or(u64::MAX) },
            },
            "memory_stats": {
                "usage": usage.memory_current,
                "max_usage": usage.memory_peak,
                "limit": container.memory.unwrap_or(self.resolved.memory),
            },
            "pids_stats": { "current": usage.instances_live },
        })
    }

    fn arn(&self, resource: Resource) -> String {
        Arn { account: self.account.clone(), resource }.to_string()
    }
}

impl Upstream for Metadata {
    fn call(
        &self,
        request: Request<UpstreamBody>,
    ) -> BoxFuture<'static, Result<Response<UpstreamBody>, String>> {
        let answer = if request.method() == Method::GET { self.answer(request.uri().path()) } else { None };
        let (status, text) = match answer {
            Some(answer) => (StatusCode::OK, answer.to_string()),
            None => (StatusCode::NOT_FOUND, json!("there is no such task metadata").to_string()),
        };
        let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let response =
            Response::builder().status(status).header(header::CONTENT_TYPE, "application/json").body(body);
        Box::pin(std::future::ready(response.map_err(|error| error.to_string())))
    }
}

fn status_name(status: LastStatus) -> &'static str {
    match status {
        LastStatus::Provisioning => "PROVISIONING",
        LastStatus::Pending => "PENDING",
        LastStatus::Activating => "ACTIVATING",
        LastStatus::Running => "RUNNING",
        LastStatus::Deactivating => "DEACTIVATING",
        LastStatus::Stopping => "STOPPING",
        LastStatus::Deprovisioning => "DEPROVISIONING",
        LastStatus::Stopped => "STOPPED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::resolve;
    use crate::testing::{config, container, definition, task};

    fn metadata() -> (Metadata, String) {
        let definition = definition(vec![container("web", "shop/web:1"), container("side", "side")]);
        let mut task = task(&definition, 7);
        task.group = coracle_types::TaskGroup::Service("shop".parse().unwrap());
        task.deployment = Some(coracle_types::DeploymentId::from_random(1));
        let config = config("/volumes".into());
        let resolved = Arc::new(resolve(&task, &definition, &config).unwrap());
        let id = resolved.containers[0].rules.runtime_id.clone();
        (Metadata::new(config.account, TaskRecord::new(Arc::new(task)), resolved), id)
    }

    #[test]
    fn a_task_learns_what_it_is() {
        let (metadata, id) = metadata();
        let task = metadata.answer(&format!("/v4/{id}/task")).unwrap();
        assert_eq!(task["Cluster"], "arn:aws:ecs:us-east-1:123456789012:cluster/default");
        assert!(
            task["TaskARN"].as_str().unwrap().starts_with("arn:aws:ecs:us-east-1:123456789012:task/default/")
        );
        assert_eq!((&task["Family"], &task["Revision"]), (&json!("app"), &json!("1")));
        assert_eq!((&task["ServiceName"], &task["LaunchType"]), (&json!("shop"), &json!("FARGATE")));
        assert_eq!(task["Limits"], json!({ "CPU": 1.0, "Memory": 512 }));
        assert_eq!(task["Containers"][1]["Name"], "side");

        let container = metadata.answer(&format!("/v4/{id}")).unwrap();
        assert_eq!((&container["Name"], &container["Image"]), (&json!("web"), &json!("shop/web:1")));
        assert_eq!(container["Labels"]["com.amazonaws.ecs.container-name"], "web");
        let stats = metadata.answer(&format!("/v4/{id}/task/stats")).unwrap();
        assert_eq!(stats[&id]["memory_stats"]["limit"], 512 << 20);
    }

    #[test]
    fn nothing_else_is_told() {
        let (metadata, id) = metadata();
        for path in ["/", "/v4/", "/v4/other", "/v3/x", &format!("/v4/{id}/nothing"), &format!("/v4/{id}x")] {
            assert_eq!(metadata.answer(path), None, "{path}");
        }
    }
}
