//! What files declare: items of nine kinds, each with the members that ECS, ELBv2, Secrets Manager or the
//! Parameter Store take when one is made.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use anyhow::bail;
use coracle_protocol::shape::Shape;
use coracle_protocol::{ecs, elb};
use serde_json::{Map, Value};

use super::source::{self, Document, Place};

/// The most complaints about one set of files that are printed.
const COMPLAINTS_MAX: usize = 20;

/// What an item is, in the order in which items are made: each refers to none that comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Cluster,
    Secret,
    Parameter,
    TaskDefinition,
    TargetGroup,
    LoadBalancer,
    Listener,
    Rule,
    Service,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Cluster,
        Self::Secret,
        Self::Parameter,
        Self::TaskDefinition,
        Self::TargetGroup,
        Self::LoadBalancer,
        Self::Listener,
        Self::Rule,
        Self::Service,
    ];

    /// The member of a document that lists them.
    fn list(self) -> &'static str {
        match self {
            Self::Cluster => "clusters",
            Self::Secret => "secrets",
            Self::Parameter => "parameters",
            Self::TaskDefinition => "taskDefinitions",
            Self::TargetGroup => "targetGroups",
            Self::LoadBalancer => "loadBalancers",
            Self::Listener => "listeners",
            Self::Rule => "rules",
            Self::Service => "services",
        }
    }

    /// The member by which a document is known to be one of them and nothing else, as files for
    /// `--cli-input-json` are.
    fn mark(self) -> Option<&'static str> {
        match self {
            Self::Cluster => Some("clusterName"),
            Self::TaskDefinition => Some("containerDefinitions"),
            Self::Service => Some("serviceName"),
            _ => None,
        }
    }

    /// The members an item of this kind must have: together they say which one it is.
    pub(super) fn key(self) -> &'static [&'static str] {
        match self {
            Self::Cluster => &["clusterName"],
            Self::TaskDefinition => &["family"],
            Self::Secret | Self::Parameter | Self::TargetGroup | Self::LoadBalancer => &["Name"],
            Self::Listener => &["LoadBalancerArn", "Port"],
            Self::Rule => &["ListenerArn", "Priority"],
            Self::Service => &["serviceName"],
        }
    }

    /// What it may look like.
    pub(super) fn shape(self) -> Shape {
        let of_ecs = |operation| ecs::inputs::of(operation).copied();
        let of_elb = |operation| elb::inputs::of(operation).copied();
        let shape = match self {
            Self::Cluster => of_ecs("CreateCluster"),
            Self::TaskDefinition => of_ecs("RegisterTaskDefinition"),
            Self::Service => of_ecs("CreateService"),
            Self::TargetGroup => of_elb("CreateTargetGroup"),
            Self::LoadBalancer => of_elb("CreateLoadBalancer"),
            Self::Listener => of_elb("CreateListener"),
            Self::Rule => of_elb("CreateRule"),
            Self::Secret => Some(SECRET),
            Self::Parameter => Some(PARAMETER),
        };
        shape.expect("the operation that makes one has a shape")
    }

    /// The members beside those of the operation that makes one: attributes, which have operations of their own.
    pub(super) fn has_attributes(self) -> bool {
        matches!(self, Self::TargetGroup | Self::LoadBalancer | Self::Listener)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Secret => "secret",
            Self::Parameter => "parameter",
            Self::TaskDefinition => "task definition",
            Self::TargetGroup => "target group",
            Self::LoadBalancer => "load balancer",
            Self::Listener => "listener",
            Self::Rule => "rule",
            Self::Service => "service",
        })
    }
}

/// What a file may say of a secret. Tags are left out: they would have to be kept in step.
const SECRET: Shape =
    Shape::Object(&[("Name", Shape::Text), ("Description", Shape::Text), ("SecretString", Shape::Text)]);
const PARAMETER: Shape = Shape::Object(&[
    ("Name", Shape::Text),
    ("Description", Shape::Text),
    ("Type", Shape::OneOf(&["String", "StringList", "SecureString"])),
    ("Value", Shape::Text),
]);
const ATTRIBUTES: Shape = Shape::List(&Shape::Object(&[("Key", Shape::Text), ("Value", Shape::Text)]));
/// The member with an item's attributes, named as the operations that change them name it.
pub(super) const ATTRIBUTES_MEMBER: &str = "Attributes";

/// One thing a file declares.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) kind: Kind,
    /// Which one: a name, `CLUSTER/SERVICE`, `LOADBALANCER:PORT` or `LOADBALANCER:PORT:PRIORITY`.
    pub(super) name: String,
    /// Its members, none of them null.
    pub(super) body: Map<String, Value>,
    pub(super) place: Place,
    /// The directory relative paths in it begin at.
    pub(super) base: PathBuf,
}

/// Reads what files declare, in the order in which it is made.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Item>> {
    items(source::read(files)?)
}

fn items(documents: Vec<Document>) -> anyhow::Result<Vec<Item>> {
    let mut complaints = Vec::new();
    let mut items = Vec::new();
    for document in documents {
        take_document(document, &mut items, &mut complaints);
    }
    let mut seen: BTreeMap<(Kind, String), Place> = BTreeMap::new();
    for item in &items {
        let twice = seen.insert((item.kind, item.name.clone()), item.place.clone());
        if let Some(first) = twice {
            complaints.push(format!(
                "{}: the {} {} is declared twice, first at {first}",
                item.place, item.kind, item.name
            ));
        }
    }
    if !complaints.is_empty() {
        let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
        complaints.truncate(COMPLAINTS_MAX);
        if more > 0 {
            complaints.push(format!("and {more} more"));
        }
        bail!("{}", complaints.join("\n  "));
    }
    if items.is_empty() {
        bail!("nothing is declared; a document has some of the lists {}", lists());
    }
    items.sort_by_key(|item| item.kind);
    Ok(items)
}

fn lists() -> String {
    Kind::ALL.map(Kind::list).join(", ")
}

fn take_document(document: Document, items: &mut Vec<Item>, complaints: &mut Vec<String>) {
    let Document { place, base, value } = document;
    let Value::Object(members) = value else {
        complaints.push(format!("{place}: a document is an object with some of the lists {}", lists()));
        return;
    };
    let marked = |kind: &Kind| kind.mark().is_some_and(|mark| members.contains_key(mark));
    if let Some(kind) = Kind::ALL.into_iter().find(marked) {
        take_item(kind, Value::Object(members), place, base, items, complaints);
        return;
    }
    for (name, list) in members {
        let place = place.within(&name);
        let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.list() == name) else {
            complaints.push(format!("{place} is not known; a document has some of the lists {}", lists()));
            continue;
        };
        match list {
            Value::Null => {}
            Value::Array(list) => {
                for (index, value) in list.into_iter().enumerate() {
                    let place = place.within(&format!("[{index}]"));
                    take_item(kind, value, place, base.clone(), items, complaints);
                }
            }
            _ => complaints.push(format!("{place} must be a list of {kind}s")),
        }
    }
}

fn take_item(
    kind: Kind,
    value: Value,
    place: Place,
    base: PathBuf,
    items: &mut Vec<Item>,
    complaints: &mut Vec<String>,
) {
    let Value::Object(mut body) = value else {
        complaints.push(format!("{place} must be an object with the members of a {kind}"));
        return;
    };
    let before = complaints.len();
    let attributes = kind.has_attributes().then(|| body.remove(ATTRIBUTES_MEMBER)).flatten();
    let mut complain = |path: &str, why: &str| complaints.push(format!("{} {why}", place.within(path)));
    let whole = Value::Object(body);
    for misfit in kind.shape().misfits(&whole) {
        complain(&misfit.path, &misfit.why);
    }
    for misfit in attributes.iter().flat_map(|attributes| ATTRIBUTES.misfits(attributes)) {
        complain(&format!("{ATTRIBUTES_MEMBER}{}", misfit.path), &misfit.why);
    }
    let Value::Object(mut body) = without_nulls(whole) else { return };
    for key in kind.key() {
        let missing = match body.get(*key) {
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
            None => true,
        };
        if missing {
            complain(key, &format!("is missing: it says which {kind} is meant"));
        }
    }
    if body.contains_key("clientToken") {
        complain("clientToken", "has no meaning here: applying the same file again changes nothing anyway");
    }
    if complaints.len() > before {
        return;
    }
    body.extend(attributes.map(|attributes| (ATTRIBUTES_MEMBER.to_owned(), attributes)));
    let name = name(kind, &body);
    items.push(Item { kind, name, body, place, base });
}

/// What of a request to register a task definition is not as it should be, with the places.
pub(crate) fn task_definition_misfits(request: &Value) -> Vec<String> {
    let misfits = Kind::TaskDefinition.shape().misfits(request);
    misfits.into_iter().map(|misfit| format!("{} {}", misfit.path, misfit.why)).collect()
}

/// What null stands for is not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let there = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(there.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().filter(|item| !item.is_null()).map(without_nulls).collect())
        }
        other => other,
    }
}

fn name(kind: Kind, body: &Map<String, Value>) -> String {
    let text = |key: &str| match body.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    match kind {
        Kind::Service => format!("{}/{}", cluster(body), text("serviceName")),
        Kind::Listener => format!("{}:{}", text("LoadBalancerArn"), text("Port")),
        Kind::Rule => format!("{}:{}", text("ListenerArn"), text("Priority")),
        _ => text(kind.key()[0]),
    }
}

/// The name of the cluster a service is in.
pub(super) fn cluster(body: &Map<String, Value>) -> &str {
    let given = body.get("cluster").and_then(Value::as_str).unwrap_or("default");
    given.rsplit('/').next().unwrap_or(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<Item>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.yaml");
        std::fs::write(&path, text).unwrap();
        read(&[path])
    }

    #[test]
    fn items_come_in_the_order_in_which_they_are_made() {
        let items = read_text(
            "services:\n- {serviceName: web, cluster: prod, taskDefinition: web}\n\
             rules:\n- {ListenerArn: 'shop:9000', Priority: 10, Conditions: [], Actions: []}\n\
             listeners:\n- {LoadBalancerArn: shop, Port: 9000, Attributes: []}\n---\n\
             family: web\ncontainerDefinitions: [{name: web, image: 'web:1'}]\n---\nclusters: [{clusterName: prod}]\n",
        )
        .unwrap();
        let names: Vec<String> = items.iter().map(|item| format!("{} {}", item.kind, item.name)).collect();
        let expected = [
            "cluster prod",
            "task definition web",
            "listener shop:9000",
            "rule shop:9000:10",
            "service prod/web",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let error = read_text(
            "services:\n- {serviceName: web, taskDefinition: web, desiredCount: two, launchtype: FARGATE}\n\
             - {taskDefinition: x}\n---\nfamily: web\ncpu: 256\ncontainerDefinitions: [{name: web, imag: w}]\n---\n\
             pods: []\nclusters: {}\n---\n7\n---\ntargetGroups: [{Name: a}, {Name: a, Attributes: [{Key: 1}]}]\n",
        )
        .unwrap_err()
        .to_string();
        for expected in [
            "document 1: services[0].desiredCount must be an integer, not a string",
            "document 1: services[0].launchtype is not known; did you mean launchType?",
            "document 1: services[1].serviceName is missing: it says which service is meant",
            "document 2: cpu must be a string, not a number; put it in quotes: \"256\"",
            "document 2: containerDefinitions[0].imag is not known; did you mean image?",
            "document 3: pods is not known; a document has some of the lists clusters, ",
            "document 3: clusters must be a list of clusters",
            "document 4: a document is an object",
            "document 5: targetGroups[1].Attributes[0].Key must be a string",
        ] {
            assert!(error.contains(expected), "{expected}\nis not in\n{error}");
        }
    }

    #[test]
    fn one_thing_is_declared_once() {
        let error = read_text("clusters: [{clusterName: a}, {clusterName: a}]").unwrap_err().to_string();
        assert!(error.contains("clusters[1]: the cluster a is declared twice, first at"), "{error}");
        assert!(read_text("clusters: []").unwrap_err().to_string().contains("nothing is declared"));
    }
}
