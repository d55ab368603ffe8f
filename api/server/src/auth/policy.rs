//! Policy documents in IAM's syntax: parsed once, then asked.
//!
//! Supported: `Effect`, `Action`/`NotAction`, `Resource`/`NotResource` with `*` and `?`, `Principal`
//! (for trust policies), and the `Condition` operators in [`super::condition`]. A document that says
//! something else is refused when it is put, because a condition that was skipped would allow what it was
//! meant to prevent. Rules: the IAM user guide, "Policy evaluation logic" and "IAM JSON policy elements".

use serde_json::Value;

use super::condition::{Condition, Context};
use super::egress;
use super::glob::matches;

/// The longest document, in characters without white space: IAM's quota for a managed policy.
const DOCUMENT_CHARS_MAX: usize = 6_144;

/// Why a document is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PolicyError(String);

fn refuse<T>(why: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(why.into()))
}

/// A policy document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

#[derive(Clone, Debug, PartialEq)]
struct Statement {
    effect: Effect,
    actions: Matcher,
    resources: Matcher,
    principals: Vec<String>,
    conditions: Vec<Condition>,
}

/// Patterns, or the complement of patterns (`NotAction`, `NotResource`).
#[derive(Clone, Debug, PartialEq)]
struct Matcher {
    patterns: Vec<String>,
    negated: bool,
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Access<'a> {
    /// `service:Operation`
    pub(crate) action: &'a str,
    /// The ARN of what it is done to, or `*` where an action is about nothing in particular.
    pub(crate) resource: &'a str,
    /// What conditions can ask about.
    pub(crate) context: &'a Context,
}

/// What policies say of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// A statement allows it and none denies it.
    Allowed,
    /// A statement denies it, whatever others allow.
    ExplicitDeny,
    /// No statement says anything of it.
    ImplicitDeny,
}

/// What the policies of one identity say together.
pub(crate) fn decide<'p>(policies: impl IntoIterator<Item = &'p Policy>, access: Access<'_>) -> Decision {
    let mut decision = Decision::ImplicitDeny;
    let statements = policies.into_iter().flat_map(|policy| &policy.statements);
    for statement in statements.filter(|statement| statement.applies(access)) {
        match statement.effect {
            Effect::Deny => return Decision::ExplicitDeny,
            Effect::Allow => decision = Decision::Allowed,
        }
    }
    decision
}

impl Policy {
    /// Denies everything.
    pub(crate) fn deny_all() -> Self {
        let everything = || Matcher { patterns: vec!["*".to_owned()], negated: false };
        let (actions, resources) = (everything(), everything());
        let statement = Statement {
            effect: Effect::Deny,
            actions,
            resources,
            principals: Vec::new(),
            conditions: Vec::new(),
        };
        Self { statements: vec![statement] }
    }

    /// Reads the policy of an identity: statements say what may be done to what.
    ///
    /// # Errors
    /// What in the document is not understood.
    pub(crate) fn parse(document: &str) -> Result<Self, PolicyError> {
        Self::read(document, |statement| match statement.get("Principal").or(statement.get("NotPrincipal")) {
            Some(_) => refuse("Policy document should not specify a principal."),
            None => Ok(Vec::new()),
        })
    }

    /// Reads the trust policy of a role: statements say who may assume it.
    ///
    /// # Errors
    /// What in the document is not understood.
    pub(crate) fn parse_trust(document: &str) -> Result<Self, PolicyError> {
        Self::read(document, |statement| {
            if statement.get("Resource").or(statement.get("NotResource")).is_some() {
                return refuse("Has prohibited field Resource.");
            }
            principals(statement.get("Principal"))
        })
    }

    fn read(
        document: &str,
        principals: impl Fn(&Value) -> Result<Vec<String>, PolicyError>,
    ) -> Result<Self, PolicyError> {
        if document.chars().filter(|character| !character.is_whitespace()).count() > DOCUMENT_CHARS_MAX {
            return refuse(format!("A policy document has at most {DOCUMENT_CHARS_MAX} characters."));
        }
        let document: Value = serde_json::from_str(document)
            .or_else(|error| refuse(format!("This policy contains invalid Json: {error}")))?;
        let Some(members) = document.as_object() else {
            return refuse("A policy document is a JSON object.");
        };
        if let Some(unknown) =
            members.keys().find(|name| !matches!(name.as_str(), "Version" | "Id" | "Statement"))
        {
            return refuse(format!("Syntax errors in policy: unknown element {unknown:?}."));
        }
        match members.get("Version").map(Value::as_str) {
            None | Some(Some("2012-10-17" | "2008-10-17")) => {}
            Some(_) => return refuse("The policy must contain a valid version string: 2012-10-17."),
        }
        let statements = match members.get("Statement") {
            Some(Value::Array(statements)) => statements.as_slice(),
            Some(statement @ Value::Object(_)) => std::slice::from_ref(statement),
            _ => return refuse("Syntax errors in policy: Statement must be an object or a list of objects."),
        };
        let read = |statement: &Value| Statement::read(statement, principals(statement)?);
        Ok(Self { statements: statements.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// Whether a trust policy lets one of these principals assume the role.
    pub(crate) fn trusts(&self, principals: &[&str], context: &Context) -> bool {
        let trusted = |statement: &Statement| {
            statement
                .principals
                .iter()
                .any(|trusted| trusted == "*" || principals.contains(&trusted.as_str()))
        };
        let statements = self.statements.iter().filter(|statement| trusted(statement)).cloned().collect();
        let access = Access { action: "sts:AssumeRole", resource: "*", context };
        decide([&Self { statements }], access) == Decision::Allowed
    }
}

impl Policy {
    /// The rules of its statements on [`egress::CONNECT`]: what follows [`egress::RESOURCE`] in their resources.
    ///
    /// # Errors
    /// What such a statement says that rules can't.
    pub(super) fn egress_rules(&self) -> Result<Vec<String>, &'static str> {
        let mut rules = Vec::new();
        for statement in &self.statements {
            let named = |pattern: &String| {
                let pattern = pattern.to_ascii_lowercase();
                pattern.starts_with("coracle:") && matches(&pattern, egress::CONNECT)
            };
            if statement.actions.negated || !statement.actions.patterns.iter().any(named) {
                continue;
            }
            if statement.effect == Effect::Deny {
                return Err(
                    "denies coracle:Connect, which can only be allowed: what nothing allows is denied",
                );
            }
            if statement.resources.negated || !statement.conditions.is_empty() {
                return Err("allows coracle:Connect with NotResource or a Condition, which is not supported");
            }
            let resources = statement.resources.patterns.iter();
            rules.extend(resources.filter_map(|resource| match resource.as_str() {
                "*" => Some("*".to_owned()),
                resource => resource.strip_prefix(egress::RESOURCE).map(str::to_owned),
            }));
        }
        Ok(rules)
    }
}

impl Policy {
    /// Whether a statement that denies is about [`egress::CONNECT`] too, by whichever pattern, and on whatever condition.
    pub(super) fn denies_egress(&self) -> bool {
        self.statements.iter().any(|statement| {
            let mut actions = statement.actions.patterns.iter();
            let about = actions.any(|pattern| matches(&pattern.to_ascii_lowercase(), egress::CONNECT));
            let mut resources = statement.resources.patterns.iter();
            // Before the first wildcard, one of the two begins with the other.
            let reached = resources.any(|pattern| {
                let fixed = pattern.split(['*', '?']).next().unwrap_or_default();
                fixed.starts_with(egress::RESOURCE) || egress::RESOURCE.starts_with(fixed)
            });
            statement.effect == Effect::Deny
                && about != statement.actions.negated
                && (reached || statement.resources.negated)
        })
    }
}

impl Statement {
    fn read(statement: &Value, principals: Vec<String>) -> Result<Self, PolicyError> {
        const KNOWN: [&str; 9] = [
            "Sid",
            "Effect",
            "Action",
            "NotAction",
            "Resource",
            "NotResource",
            "Principal",
            "NotPrincipal",
            "Condition",
        ];
        let Some(members) = statement.as_object() else {
            return refuse("Syntax errors in policy: a statement is an object.");
        };
        if let Some(unknown) = members.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return refuse(format!("Syntax errors in policy: unknown element {unknown:?} in a statement."));
        }
        let effect = match members.get("Effect").and_then(Value::as_str) {
            Some("Allow") => Effect::Allow,
            Some("Deny") => Effect::Deny,
            _ => return refuse("Syntax errors in policy: Effect must be Allow or Deny."),
        };
        let actions = Matcher::read(members.get("Action"), members.get("NotAction"), "Action")?;
        let of_service = |action: &String| {
            action == "*" || action.split_once(':').is_some_and(|(_, name)| !name.is_empty())
        };
        if !actions.patterns.iter().all(of_service) {
            return refuse("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.");
        }
        let resources = if principals.is_empty() {
            Matcher::read(members.get("Resource"), members.get("NotResource"), "Resource")?
        } else {
            Matcher { patterns: vec!["*".to_owned()], negated: false }
        };
        if let Some(bad) = resources.patterns.iter().find(|arn| *arn != "*" && !arn.starts_with("arn:")) {
            return refuse(format!("Resource {bad} must be in ARN format or \"*\"."));
        }
        let conditions =
            members.get("Condition").map(Condition::read_all).transpose().map_err(PolicyError)?;
        Ok(Self { effect, actions, resources, principals, conditions: conditions.unwrap_or_default() })
    }

    fn applies(&self, access: Access<'_>) -> bool {
        // Names of actions are matched without regard to case, ARNs with.
        let action = access.action.to_ascii_lowercase();
        let acts =
            self.actions.patterns.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action));
        let touches = self.resources.patterns.iter().any(|pattern| matches(pattern, access.resource));
        acts != self.actions.negated
            && touches != self.resources.negated
            && self.conditions.iter().all(|condition| condition.holds(access.context))
    }
}

impl Matcher {
    fn read(plain: Option<&Value>, negated: Option<&Value>, name: &str) -> Result<Self, PolicyError> {
        let (value, is_negated) = match (plain, negated) {
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            _ => {
                return refuse(format!(
                    "Syntax errors in policy: a statement needs one of {name} and Not{name}."
                ));
            }
        };
        match texts(value) {
            Some(patterns) if !patterns.is_empty() => Ok(Self { patterns, negated: is_negated }),
            _ => refuse(format!("Syntax errors in policy: {name} must be text or a list of texts.")),
        }
    }
}

/// A text, or a list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Who a trust policy trusts: `"*"`, or ARNs, account ids and services by their kind.
fn principals(value: Option<&Value>) -> Result<Vec<String>, PolicyError> {
    const REFUSAL: &str =
        "Syntax errors in policy: Principal must be \"*\" or an object of AWS, Service or Federated.";
    let list = match value {
        Some(Value::String(everybody)) if everybody == "*" => vec!["*".to_owned()],
        Some(Value::Object(kinds)) => {
            let mut all = Vec::new();
            for (kind, value) in kinds {
                match texts(value) {
                    // An account's id means the account's root.
                    Some(list) if kind == "AWS" => all.extend(list.into_iter().map(|principal| {
                        let is_account =
                            principal.len() == 12 && principal.bytes().all(|byte| byte.is_ascii_digit());
                        if is_account { format!("arn:aws:iam::{principal}:root") } else { principal }
                    })),
                    Some(list) if matches!(kind.as_str(), "Service" | "Federated") => all.extend(list),
                    _ => return refuse(REFUSAL),
                }
            }
            all
        }
        _ => return refuse(REFUSAL),
    };
    if list.is_empty() { refuse(REFUSAL) } else { Ok(list) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PROD: &str = "arn:aws:ecs:us-east-1:123456789012:service/prod/web";

    fn policy(statements: &Value) -> Policy {
        Policy::parse(&json!({"Version": "2012-10-17", "Statement": statements}).to_string()).unwrap()
    }

    fn verdict(policies: &[Policy], action: &str, resource: &str) -> Decision {
        decide(policies, Access { action, resource, context: &Context::default() })
    }

    #[test]
    fn nothing_is_allowed_that_no_statement_allows() {
        assert_eq!(verdict(&[], "ecs:ListClusters", "*"), Decision::ImplicitDeny);
        let one = policy(
            &json!({"Effect": "Allow", "Action": ["ecs:Describe*", "ecs:listclusters"], "Resource": "*"}),
        );
        for (action, expected) in [
            ("ecs:DescribeServices", Decision::Allowed),
            ("ecs:ListClusters", Decision::Allowed),
            ("ecs:ListTasks", Decision::ImplicitDeny),
            ("logs:DescribeLogGroups", Decision::ImplicitDeny),
        ] {
            assert_eq!(verdict(std::slice::from_ref(&one), action, PROD), expected, "{action}");
        }
    }

    #[test]
    fn denying_wins_in_any_order() {
        let allow = policy(&json!([{"Effect": "Allow", "Action": "*", "Resource": "*"}]));
        let deny = policy(
            &json!([{"Effect": "Deny", "Action": "ecs:Delete*", "Resource": "arn:aws:ecs:*:*:service/prod/*"}]),
        );
        for policies in [[allow.clone(), deny.clone()], [deny, allow]] {
            assert_eq!(verdict(&policies, "ecs:DeleteService", PROD), Decision::ExplicitDeny);
            assert_eq!(verdict(&policies, "ecs:UpdateService", PROD), Decision::Allowed);
            let other = "arn:aws:ecs:us-east-1:123456789012:service/test/web";
            assert_eq!(verdict(&policies, "ecs:DeleteService", other), Decision::Allowed);
        }
    }

    #[test]
    fn complements() {
        let only_ecs =
            [policy(&json!({"Effect": "Allow", "NotAction": ["iam:*", "sts:*"], "NotResource": PROD}))];
        assert_eq!(verdict(&only_ecs, "ecs:ListClusters", "*"), Decision::Allowed);
        assert_eq!(verdict(&only_ecs, "iam:CreateUser", "*"), Decision::ImplicitDeny);
        assert_eq!(verdict(&only_ecs, "ecs:UpdateService", PROD), Decision::ImplicitDeny);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let allow = |extra: Value| {
            let mut statement = json!({"Effect": "Allow", "Action": "ecs:*", "Resource": "*"});
            statement.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            json!({"Version": "2012-10-17", "Statement": statement}).to_string()
        };
        for (document, word) in [
            ("{".to_owned(), "invalid Json"),
            ("[]".to_owned(), "JSON object"),
            (json!({"Version": "2012-10-17"}).to_string(), "Statement"),
            (json!({"Version": "2020-01-01", "Statement": []}).to_string(), "version"),
            (allow(json!({"Effect": "Permit"})), "Effect"),
            (allow(json!({"Action": "DescribeServices"})), "vendor"),
            (allow(json!({"Action": []})), "Action"),
            (allow(json!({"NotAction": "ecs:*"})), "NotAction"),
            (allow(json!({"Resource": "service/prod"})), "ARN format"),
            (allow(json!({"Principal": "*"})), "principal"),
            (allow(json!({"Condition": {"Telepathy": {"a": "b"}}})), "Telepathy"),
            (allow(json!({"Extra": 1})), "Extra"),
            (allow(json!({"Sid": "x".repeat(7000)})), "at most"),
        ] {
            let error = Policy::parse(&document).unwrap_err().to_string();
            assert!(error.contains(word), "{document}: {error}");
        }
    }

    #[test]
    fn trust() {
        let document = |principal: Value| {
            json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}})
                .to_string()
        };
        let dev = "arn:aws:iam::123456789012:user/dev";
        let root = "arn:aws:iam::123456789012:root";
        for (principal, trusted) in [
            (json!("*"), true),
            (json!({"AWS": dev}), true),
            (json!({"AWS": ["123456789012"]}), true),
            (json!({"AWS": "arn:aws:iam::123456789012:user/other"}), false),
            (json!({"Service": "ecs-tasks.amazonaws.com"}), false),
        ] {
            let policy = Policy::parse_trust(&document(principal.clone())).unwrap();
            assert_eq!(policy.trusts(&[dev, root], &Context::default()), trusted, "{principal}");
        }
        assert!(Policy::parse_trust(&document(json!({}))).is_err());
    }
}
