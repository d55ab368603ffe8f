//! The managed policies of AWS that people attach by habit, with what they mean here.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::policy::Policy;

const PREFIX: &str = "arn:aws:iam::aws:policy/";

/// By name; each with the actions it allows on everything.
const POLICIES: [(&str, &[&str]); 14] = [
    ("AdministratorAccess", &["*"]),
    (
        "PowerUserAccess",
        &["ecs:*", "elasticloadbalancing:*", "logs:*", "secretsmanager:*", "ssm:*", "acm:*", "ecr:*"],
    ),
    ("ReadOnlyAccess", &["*:Describe*", "*:List*", "*:Get*", "logs:Filter*"]),
    (
        "AmazonECS_FullAccess",
        &["ecs:*", "elasticloadbalancing:*", "logs:*", "iam:PassRole", "iam:List*", "iam:Get*"],
    ),
    ("ElasticLoadBalancingFullAccess", &["elasticloadbalancing:*"]),
    ("ElasticLoadBalancingReadOnly", &["elasticloadbalancing:Describe*"]),
    ("CloudWatchLogsFullAccess", &["logs:*"]),
    ("CloudWatchLogsReadOnlyAccess", &["logs:Describe*", "logs:Get*", "logs:List*", "logs:Filter*"]),
    ("SecretsManagerReadWrite", &["secretsmanager:*"]),
    ("AmazonSSMFullAccess", &["ssm:*"]),
    ("AmazonSSMReadOnlyAccess", &["ssm:Describe*", "ssm:Get*", "ssm:List*"]),
    ("IAMFullAccess", &["iam:*"]),
    ("IAMReadOnlyAccess", &["iam:Get*", "iam:List*", "iam:Simulate*"]),
    // What the agent itself does for a task, which needs no permission here.
    ("service-role/AmazonECSTaskExecutionRolePolicy", &["logs:CreateLogStream", "logs:PutLogEvents"]),
];

/// The names of all of them.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    POLICIES.iter().map(|(name, _)| *name)
}

/// The document of an AWS managed policy, by its ARN.
pub(crate) fn document(arn: &str) -> Option<String> {
    let name = arn.strip_prefix(PREFIX)?;
    let (_, actions) = POLICIES.iter().find(|(known, _)| *known == name)?;
    let statement = serde_json::json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    Some(serde_json::json!({"Version": "2012-10-17", "Statement": [statement]}).to_string())
}

/// The ARN of an AWS managed policy.
pub(crate) fn arn(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// The policy itself.
pub(super) fn policy(arn: &str) -> Option<Arc<Policy>> {
    static READ: LazyLock<HashMap<&str, Arc<Policy>>> = LazyLock::new(|| {
        let read = |name| Some((name, Arc::new(Policy::parse(&document(&self::arn(name))?).ok()?)));
        names().filter_map(read).collect()
    });
    READ.get(arn.strip_prefix(PREFIX)?).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_one_of_them_is_a_policy() {
        for name in names() {
            assert!(policy(&arn(name)).is_some(), "{name}");
        }
        assert!(policy("arn:aws:iam::aws:policy/Nope").is_none());
    }
}
