//! What is to be done: each item beside what is there of it, in order; and doing it.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::compare::{Change, Scope, changes};
use super::manifest::{ATTRIBUTES_MEMBER, Item, Kind};
use super::references::Names;
use super::remote::{self, Current};
use super::show::Printer;
use super::task_definition::canonical;
use crate::client::ApiClient;
use crate::ps::last_segment;

/// What is to be done about one item.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) item: Item,
    pub(super) action: Action,
    current: Option<Current>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Create,
    Update(Vec<Change>),
    /// Only for task definitions: they don't change, they get another revision.
    Register(Vec<Change>),
    Keep,
}

/// All that is to be done, in order.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
}

impl Plan {
    /// How many items are not as they are declared.
    pub(super) fn changes(&self) -> usize {
        self.steps.iter().filter(|step| step.action != Action::Keep).count()
    }

    /// For `--json`.
    pub(super) fn json(&self) -> Value {
        let one = |step: &Step| {
            let (action, changes) = match &step.action {
                Action::Create => ("create", &[][..]),
                Action::Update(changes) => ("update", changes.as_slice()),
                Action::Register(changes) => ("register", changes.as_slice()),
                Action::Keep => ("unchanged", &[][..]),
            };
            let change = |one: &Change| json!({ "path": one.path, "from": one.from, "to": one.to });
            json!({
                "kind": step.item.kind.to_string(),
                "name": step.item.name,
                "action": action,
                "changes": changes.iter().map(change).collect::<Vec<_>>(),
            })
        };
        self.steps.iter().map(one).collect()
    }
}

/// Compares every item with what is there.
pub(super) async fn plan(client: &ApiClient, items: &[Item]) -> anyhow::Result<Plan> {
    let mut names = Names::default();
    let mut steps = Vec::new();
    for item in items {
        let resolved = names.resolve(client, item).await?;
        let place = || format!("{}: the {} {}", item.place, item.kind, item.name);
        let current = remote::read(client, item, &resolved).await.with_context(place)?;
        let action = match &current {
            None => Action::Create,
            Some(current) => compare(item, &resolved, current).with_context(place)?,
        };
        if current.is_none() && item.kind == Kind::TaskDefinition {
            canonical(&Value::Object(item.body.clone())).with_context(place)?;
        }
        let is_new = matches!(action, Action::Create | Action::Register(_));
        let arn = current.as_ref().map(|current| current.arn.clone()).filter(|_| !is_new);
        names.declare(item, arn);
        steps.push(Step { item: item.clone(), action, current });
    }
    Ok(Plan { steps })
}

fn compare(item: &Item, body: &Map<String, Value>, current: &Current) -> anyhow::Result<Action> {
    let mut body = body.clone();
    let tags = body.remove("tags").or_else(|| body.remove("Tags"));
    let (declared, scope) = match item.kind {
        Kind::TaskDefinition => (canonical(&Value::Object(body))?, Scope::Whole),
        _ => (Value::Object(body), Scope::Declared),
    };
    let mut found = current.hidden_changes.clone();
    found.extend(changes(&declared, &current.value, scope));
    check_changeable(item.kind, &found)?;
    if item.kind == Kind::TaskDefinition && !found.is_empty() {
        return Ok(Action::Register(found));
    }
    if let Some(tags) = tags {
        let member = if item.body.contains_key("tags") { "tags" } else { "Tags" };
        let (declared, there) = (json!({ member: remote::tags(&tags) }), json!({ member: current.tags }));
        found.extend(changes(&declared, &there, Scope::Whole));
    }
    Ok(if found.is_empty() { Action::Keep } else { Action::Update(found) })
}

/// Refuses what can only be changed by making the item anew, which is for people to decide.
fn check_changeable(kind: Kind, found: &[Change]) -> anyhow::Result<()> {
    let Some(possible) = remote::changeable(kind) else { return Ok(()) };
    let fixed = found
        .iter()
        .filter(|change| change.member() != ATTRIBUTES_MEMBER && !possible.contains(&change.member()));
    let fixed: Vec<String> = fixed
        .map(|change| {
            let text =
                |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), Value::to_string);
            format!("{} from {} to {}", change.path, text(&change.from), text(&change.to))
        })
        .collect();
    if !fixed.is_empty() {
        bail!(
            "cannot change {}; a {kind} keeps that for its life: delete it first (`coracle delete -f`), or declare \
             one of another name",
            fixed.join(", ")
        );
    }
    Ok(())
}

/// The task definition each service is to run, by the service's item name.
pub(super) type Wanted = BTreeMap<String, String>;

/// Does it.
pub(super) async fn carry_out(client: &ApiClient, plan: &Plan, out: &Printer) -> anyhow::Result<Wanted> {
    let mut names = Names::default();
    let mut wanted = Wanted::new();
    for step in &plan.steps {
        let Step { item, action, current } = step;
        let resolved = names.resolve(client, item).await?;
        let failed = |doing: &str| format!("{}: cannot {doing} the {} {}", item.place, item.kind, item.name);
        let arn = match (action, current) {
            (Action::Keep, Some(current)) => current.arn.clone(),
            (Action::Update(changes), Some(current)) => {
                remote::update(client, item.kind, current, &resolved, changes)
                    .await
                    .with_context(|| failed("update"))?;
                out.line(&format!("updated {} {}", item.kind, item.name))?;
                current.arn.clone()
            }
            (Action::Register(_), _) => register(client, item, &resolved, out).await?,
            _ if item.kind == Kind::TaskDefinition => register(client, item, &resolved, out).await?,
            _ => {
                let arn =
                    remote::create(client, item.kind, &resolved).await.with_context(|| failed("create"))?;
                out.line(&format!("created {} {}", item.kind, item.name))?;
                arn
            }
        };
        if let Some(definition) = resolved.get("taskDefinition").and_then(Value::as_str) {
            wanted.insert(item.name.clone(), definition.to_owned());
        }
        names.declare(item, Some(arn));
    }
    Ok(wanted)
}

async fn register(
    client: &ApiClient,
    item: &Item,
    body: &Map<String, Value>,
    out: &Printer,
) -> anyhow::Result<String> {
    let arn = remote::create(client, item.kind, body)
        .await
        .with_context(|| format!("{}: cannot register the task definition {}", item.place, item.name))?;
    out.line(&format!("registered task definition {}", last_segment(&arn)))?;
    Ok(arn)
}
