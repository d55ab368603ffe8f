//! What a task role lets its tasks connect to, and how a node gets at it.
//!
//! A statement for tasks allows the action `coracle:Connect` by name on `arn:coracle:egress:::RULE`, where the rule is one
//! of the label `coracle.egress`: `arn:coracle:egress:::api.example.com:443`, `arn:coracle:egress:::*.internal`. That
//! a role may do everything (`"Action": "*"`) lets nothing out: roles of AWS are not about hosts, and whoever wrote one
//! did not think of any. What a node can't check at each connection is refused when the task starts, rather than passed
//! over: statements that deny, and conditions.

use std::sync::Arc;

use coracle_store::Store;
use coracle_types::{AccountId, State};

use super::policy::Policy;

/// The action.
pub(super) const CONNECT: &str = "coracle:connect";
/// What the resources of such statements begin with.
pub(super) const RESOURCE: &str = "arn:coracle:egress:::";

/// Reads what the policies of roles let tasks connect to.
#[derive(Clone)]
pub struct RoleReader {
    store: Arc<dyn Store>,
    account: AccountId,
}

impl RoleReader {
    /// Reads the roles in this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, account: AccountId) -> Self {
        Self { store, account }
    }

    /// The rules of a role, named by its ARN or its name; none for one that is not here.
    ///
    /// # Errors
    /// What a policy of the role says that can't be kept.
    pub fn egress(&self, role: &str) -> Result<Vec<String>, String> {
        egress(&self.store.snapshot(), self.account, role)
    }
}

fn egress(state: &State, account: AccountId, role: &str) -> Result<Vec<String>, String> {
    let name = role.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let Some(found) = state.roles.get(&name).map(|found| &found.value) else { return Ok(Vec::new()) };
    if role.starts_with("arn:") && found.arn(account) != role {
        return Ok(Vec::new());
    }
    let attached = found.identity.attached.iter().filter_map(|arn| {
        let name = arn.rsplit('/').next()?.to_ascii_lowercase();
        let policy = &state.policies.get(&name)?.value;
        (policy.arn(account) == *arn).then_some(&policy.document)
    });
    let (mut rules, mut denies) = (Vec::new(), false);
    for document in found.identity.policies.values().chain(attached) {
        let policy = Policy::parse(document).map_err(|error| format!("a policy of role {role}: {error}"))?;
        rules.extend(policy.egress_rules().map_err(|why| format!("a policy of role {role} {why}"))?);
        denies |= policy.denies_egress();
    }
    if denies && !rules.is_empty() {
        return Err(format!(
            "a policy of role {role} denies part of what another allows with coracle:Connect"
        ));
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules(statements: &Value) -> Result<Vec<String>, String> {
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        Policy::parse(&document).unwrap().egress_rules().map_err(str::to_owned)
    }

    #[test]
    fn only_what_is_named_is_let_out() {
        let allowed = json!([
            {"Effect": "Allow", "Action": ["coracle:Connect", "s3:GetObject"],
             "Resource": ["arn:coracle:egress:::api.example.com:443", "arn:coracle:egress:::10.0.0.0/8:5432", "arn:aws:s3:::x/*"]},
            {"Effect": "Allow", "Action": "coracle:Connect", "Resource": "arn:coracle:egress:::*.internal"},
            {"Effect": "Allow", "Action": "*", "Resource": "*"},
            {"Effect": "Deny", "Action": "ecs:*", "Resource": "*"},
        ]);
        assert_eq!(rules(&allowed).unwrap(), ["api.example.com:443", "10.0.0.0/8:5432", "*.internal"]);
        let any = json!({"Effect": "Allow", "Action": "coracle:Connect", "Resource": "*"});
        assert_eq!(rules(&any).unwrap(), ["*"]);
    }

    #[test]
    fn what_a_node_cannot_check_is_refused() {
        let resource = "arn:coracle:egress:::x";
        for statement in [
            json!({"Effect": "Deny", "Action": "coracle:*", "Resource": resource}),
            json!({"Effect": "Deny", "Action": "coracle:Connect", "Resource": resource}),
            json!({"Effect": "Allow", "Action": "coracle:Connect", "NotResource": resource}),
            json!({"Effect": "Allow", "Action": "coracle:Connect", "Resource": resource,
                   "Condition": {"StringEquals": {"aws:username": "x"}}}),
        ] {
            assert!(rules(&statement).is_err(), "{statement}");
        }
    }

    #[test]
    fn what_denies_everything_denies_this_too() {
        let denies = |actions: Value, resource: &str| {
            let mut statement = json!({"Effect": "Deny", "Resource": resource});
            statement.as_object_mut().unwrap().extend(actions.as_object().unwrap().clone());
            let document = json!({"Version": "2012-10-17", "Statement": statement}).to_string();
            Policy::parse(&document).unwrap().denies_egress()
        };
        assert!(denies(json!({"Action": "*"}), "*"));
        assert!(denies(json!({"Action": "coracle:Connect"}), "arn:coracle:egress:::10.0.0.0/8"));
        assert!(denies(json!({"NotAction": "s3:*"}), "arn:*"));
        assert!(!denies(json!({"NotAction": "coracle:*"}), "*"));
        assert!(!denies(json!({"Action": "ecs:*"}), "*"));
        assert!(!denies(json!({"Action": "*"}), "arn:aws:s3:::bucket/*"));
    }
}
