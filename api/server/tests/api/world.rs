//! The application with a node that starts and stops tasks at once, and nothing that plans; and what is volatile
//! in its answers, replaced by names. Used to record transcripts of clients' requests, and to replay them.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_server::{ExecCommand, ExecError, ExecHost, ExecStream};
use coracle_store::BoxFuture;
use coracle_types::{ContainerStatus, DesiredStatus, LastStatus};
use regex::Regex;
use serde_json::Value;

use crate::harness::{Answer, Harness, NOW};

/// Where ids come from: the same order in every recording.
const SEED: u64 = 7;

/// Somebody who would run commands, for ExecuteCommand to open sessions; nobody connects to them here.
struct NobodyAsks;

impl ExecHost for NobodyAsks {
    fn exec(&self, _: ExecCommand) -> BoxFuture<'static, Result<ExecStream, ExecError>> {
        Box::pin(async { Err(ExecError("nobody connects in these tests".to_owned())) })
    }
}

pub(crate) struct World {
    harness: Harness,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { harness: Harness::with(|api| api.with_seed(SEED).with_exec(Arc::new(NobodyAsks)), |_| {}) }
    }

    /// Answers one request, and then lets the node do what there is to do.
    pub(crate) async fn answer(&self, operation: &str, body: &Value) -> Answer {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let answer = self.harness.target(&target, None, body).await;
        self.harness
            .tasks(|task| match task.desired_status {
                DesiredStatus::Running if task.last_status == LastStatus::Pending => {
                    task.last_status = LastStatus::Running;
                    task.started_at = Some(NOW);
                    task.containers.iter_mut().for_each(|one| one.status = ContainerStatus::Running);
                }
                DesiredStatus::Stopped if task.last_status != LastStatus::Stopped => task.end(NOW),
                _ => {}
            })
            .await;
        answer
    }
}

/// Gives every id a name by the order of its first appearance, the same in each run.
pub(crate) struct Names {
    pattern: Regex,
    name_of: HashMap<String, String>,
    id_of: HashMap<String, String>,
}

impl Names {
    pub(crate) fn new() -> Self {
        let kinds = [
            r"ecs-execute-command-[0-9a-f]{17}",
            r"ecs-svc/\d{19}",
            r"\b[0-9a-f]{64}\b",
            r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
            r"\b[0-9a-f]{32}\b",
            r"\b[0-9A-Za-z]{21}\b",
            r"\b\d{19}\b",
            r"\beni-0[0-9a-f]{16}\b",
            r"\bi-0[0-9a-f]{16}\b",
            r"\b0a(:[0-9a-f]{2}){5}\b",
            r"\b10(\.\d{1,3}){3}\b",
            r"\bip-10(-\d{1,3}){3}\b",
        ];
        let pattern = Regex::new(&kinds.join("|")).unwrap();
        Self { pattern, name_of: HashMap::new(), id_of: HashMap::new() }
    }

    fn name(&mut self, id: &str) -> String {
        // The node of the harness is the same in every run.
        if id.starts_with("000000000000000000000000") {
            return id.to_owned();
        }
        let next = format!("<id-{}>", self.name_of.len() + 1);
        let name = self.name_of.entry(id.to_owned()).or_insert(next).clone();
        self.id_of.insert(name.clone(), id.to_owned());
        name
    }

    /// A value with names for its ids, and for what a page's token says.
    pub(crate) fn hide(&mut self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let pattern = self.pattern.clone();
                pattern.replace_all(text, |found: &regex::Captures<'_>| self.name(&found[0])).into()
            }
            Value::Array(items) => items.iter().map(|item| self.hide(item)).collect(),
            Value::Object(members) => {
                let hidden = members.iter().map(|(member, value)| {
                    let value = match value {
                        Value::String(token) if member == "nextToken" => self.name(token).into(),
                        value => self.hide(value),
                    };
                    (member.clone(), value)
                });
                Value::Object(hidden.collect())
            }
            scalar => scalar.clone(),
        }
    }

    /// A request with names for the ids that were answered before; others are the client's own.
    #[allow(dead_code, reason = "what records requests uses it, and the tests do not")]
    pub(crate) fn hide_known(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => match self.name_of.get(text) {
                Some(name) => name.as_str().into(),
                None => {
                    let name = |found: &regex::Captures<'_>| {
                        self.name_of.get(&found[0]).map_or(&found[0], String::as_str).to_owned()
                    };
                    self.pattern.replace_all(text, name).into()
                }
            },
            Value::Array(items) => items.iter().map(|item| self.hide_known(item)).collect(),
            Value::Object(members) => {
                let hidden = members.iter().map(|(name, value)| (name.clone(), self.hide_known(value)));
                Value::Object(hidden.collect())
            }
            scalar => scalar.clone(),
        }
    }

    /// A value with the ids its names stand for in this run.
    pub(crate) fn reveal(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                let names = Regex::new(r"<id-\d+>").unwrap();
                let id = |found: &regex::Captures<'_>| {
                    self.id_of
                        .get(&found[0])
                        .unwrap_or_else(|| panic!("{} is not known yet", &found[0]))
                        .clone()
                };
                names.replace_all(text, id).into()
            }
            Value::Array(items) => items.iter().map(|item| self.reveal(item)).collect(),
            Value::Object(members) => {
                let revealed = members.iter().map(|(name, value)| (name.clone(), self.reveal(value)));
                Value::Object(revealed.collect())
            }
            scalar => scalar.clone(),
        }
    }
}
