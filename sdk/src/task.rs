//! Which task this is: its cluster, service, ARNs and limits, as ECS's task metadata endpoint (version 4) tells them.
//!
//! The variable `ECS_CONTAINER_METADATA_URI_V4` names the endpoint, in every Coracle task as on AWS; the host answers it
//! itself, without a socket.

use serde::Deserialize;

use crate::{Error, NotGranted, fetch, host};

/// A task, in the words of the endpoint.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    /// The ARN of its cluster.
    pub cluster: String,
    /// Its own ARN.
    #[serde(rename = "TaskARN")]
    pub task_arn: String,
    /// The family of its task definition.
    pub family: String,
    /// The revision of its task definition.
    pub revision: String,
    /// The service it is for, if it is for one.
    #[serde(default)]
    pub service_name: Option<String>,
    /// `FARGATE`, `EC2` or `EXTERNAL`.
    #[serde(default)]
    pub launch_type: Option<String>,
    /// Its limits, if it has any.
    #[serde(default)]
    pub limits: Limits,
    /// Its containers.
    #[serde(default)]
    pub containers: Vec<Container>,
}

/// One container of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    /// Its name in the task definition.
    pub name: String,
    /// Its ARN.
    #[serde(rename = "ContainerARN", default)]
    pub container_arn: Option<String>,
    /// What it runs.
    pub image: String,
    /// Its own limits.
    #[serde(default)]
    pub limits: Limits,
}

/// Limits of a task or container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
pub struct Limits {
    /// Of a task: vCPUs. Of a container: CPU units, of which 1024 are a vCPU.
    #[serde(rename = "CPU", default)]
    pub cpu: Option<f64>,
    /// MiB.
    #[serde(rename = "Memory", default)]
    pub memory: Option<u64>,
}

/// The task's ARN, without asking the endpoint.
///
/// # Errors
/// Outside of a task.
pub fn arn() -> Result<String, NotGranted> {
    host::variable("CORACLE_TASK_ARN").ok_or_else(|| outside("CORACLE_TASK_ARN"))
}

/// The task.
///
/// # Errors
/// Outside of a task, and when the endpoint's answer can't be read.
pub async fn task() -> Result<Task, Error> {
    ask("/task").await
}

/// The container that this component is.
///
/// # Errors
/// Outside of a task, and when the endpoint's answer can't be read.
pub async fn container() -> Result<Container, Error> {
    ask("").await
}

async fn ask<T: serde::de::DeserializeOwned>(path: &str) -> Result<T, Error> {
    const VARIABLE: &str = "ECS_CONTAINER_METADATA_URI_V4";
    let base = host::variable(VARIABLE).ok_or_else(|| outside(VARIABLE))?;
    let mut answer = fetch::get(format!("{base}{path}")).send().await?;
    if !answer.status().is_success() {
        return Err(Error::internal(format!("the task metadata endpoint answers {}", answer.status())));
    }
    answer.body_mut().json().await
}

fn outside(variable: &str) -> NotGranted {
    NotGranted {
        wanted: "task metadata".to_owned(),
        grant: format!("{variable} is not set, as it is in every task that Coracle runs; this is not one"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Body, Response};
    use crate::testing;

    #[crate::test]
    async fn the_endpoint_is_asked() {
        assert!(task().await.unwrap_err().to_string().contains("ECS_CONTAINER_METADATA_URI_V4"));
        testing::set_variable("ECS_CONTAINER_METADATA_URI_V4", "http://169.254.170.2/v4/x");
        testing::on_fetch(|request| {
            assert_eq!(request.uri(), "http://169.254.170.2/v4/x/task");
            let text = r#"{"Cluster": "c", "TaskARN": "t", "Family": "f", "Revision": "3", "ServiceName": "web",
                "LaunchType": "FARGATE", "Limits": {"CPU": 0.25, "Memory": 512}, "New": 1}"#;
            Ok(Response::new(Body::from(text)))
        });
        let task = task().await.unwrap();
        assert_eq!((task.service_name.as_deref(), task.limits.cpu), (Some("web"), Some(0.25)));
    }
}
