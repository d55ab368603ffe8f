//! Task roles: what the policies of `taskRoleArn` let a task's containers reach, beside what their labels say.

use coracle_sandbox::EgressPolicy;
use coracle_types::{Task, TaskDefinition};
use futures_util::future::BoxFuture;
use serde_json::Value;

/// Knows what roles allow. The identities of this process, or a client of them.
pub trait RoleSource: Send + Sync + 'static {
    /// What tasks with this role may connect to: rules as in the label `coracle.egress`. A role that nobody has made
    /// allows nothing, and is no error: most task definitions name one that is AWS's.
    ///
    /// # Errors
    /// The text that belongs behind `ResourceInitializationError: `.
    fn egress(&self, role: &str) -> BoxFuture<'static, Result<Vec<String>, String>>;
}

/// The role of a task: its override's, else its definition's.
pub(crate) fn role_of(task: &Task, definition: &TaskDefinition) -> Option<String> {
    let members = [&task.overrides.rest, &definition.rest];
    let roles = members.into_iter().filter_map(|members| members.get("taskRoleArn").and_then(Value::as_str));
    roles.map(str::to_owned).find(|role| !role.is_empty())
}

/// Reads the rules of a role.
pub(crate) async fn egress_of(source: &dyn RoleSource, role: &str) -> Result<EgressPolicy, String> {
    let rules = source.egress(role).await?;
    EgressPolicy::from_rules(rules.iter().map(String::as_str))
        .map_err(|error| format!("the policies of role {role}: {error}"))
}
