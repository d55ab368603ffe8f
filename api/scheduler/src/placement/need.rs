//! What a task needs of a node.

use coracle_types::{
    Changes, ClusterId, Key, LaunchType, NetworkMode, NodeId, PlacementConstraint, PlacementStrategy,
    Service, SpreadField, Task, TaskDefinition, TaskGroup, attribute, placement_constraints,
    placement_strategies,
};
use serde_json::Value;

use super::query::Expression;

/// A port of the node itself, which only one task can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// Its number, above 0.
    pub port: u16,
    /// Whether it is UDP's, not TCP's.
    pub udp: bool,
}

/// The ports of its node that a task of `definition` takes: the fixed ones of bridge and host networks. In a
/// network of its own (awsvpc, which is also what FARGATE means) a task takes none.
#[must_use]
pub fn host_ports(definition: &TaskDefinition, launch_type: LaunchType) -> Vec<HostPort> {
    let of_node = match definition.network_mode {
        Some(NetworkMode::Bridge | NetworkMode::Host) => launch_type != LaunchType::Fargate,
        Some(NetworkMode::Awsvpc | NetworkMode::None) | None => false,
    };
    let host = definition.network_mode == Some(NetworkMode::Host);
    let mappings = definition.containers.iter().flat_map(|container| &container.port_mappings);
    mappings
        .filter(|_| of_node)
        .filter_map(|mapping| {
            let given = mapping.rest.get("hostPort").and_then(Value::as_u64);
            let port = match u16::try_from(given.unwrap_or(0)).unwrap_or(0) {
                0 if host => mapping.container_port?,
                port => port,
            };
            let udp = mapping.rest.get("protocol").and_then(Value::as_str) == Some("udp");
            (port > 0).then_some(HostPort { port, udp })
        })
        .collect()
}

/// A constraint that was understood.
#[derive(Clone, Debug)]
pub(super) enum Constraint {
    /// No other task of the group on the node.
    DistinctInstance,
    /// The expression holds for the node; as it was sent, too.
    MemberOf(Expression, String),
    /// One that makes no sense: no node satisfies it.
    Unreadable(String),
}

/// What a task needs of a node, and which one it would rather have.
#[derive(Clone, Debug)]
pub struct Need {
    /// The cluster it belongs to.
    pub cluster: ClusterId,
    /// What spreading and `distinctInstance` go by.
    pub group: TaskGroup,
    /// CPU units.
    pub cpu: u32,
    /// Memory, MiB.
    pub memory: u32,
    /// Ports of the node.
    pub ports: Vec<HostPort>,
    /// The capacity provider whose nodes it has to be on; None for the built-in ones.
    pub provider: Option<String>,
    /// Whether it is for Windows. The processor does not matter: a component runs on any.
    pub windows: bool,
    /// The only zone it may be in.
    pub zone: Option<String>,
    pub(super) constraints: Vec<Constraint>,
    pub(super) strategies: Vec<PlacementStrategy>,
    /// Whether its group is spread over zones when no strategy is given, as services are.
    pub(super) spread_by_default: bool,
}

impl Need {
    /// What `task` needs, with the constraints of its definition. The constraints and strategy of whoever wants
    /// it are added by [`Need::asked_by`].
    #[must_use]
    pub fn of(task: &Task, definition: &TaskDefinition) -> Self {
        let provider = task.rest.get("capacityProviderName").and_then(Value::as_str);
        let mut need = Self {
            cluster: task.cluster.clone(),
            group: task.group.clone(),
            cpu: task.cpu,
            memory: task.memory,
            ports: host_ports(definition, task.launch_type),
            provider: provider.filter(|name| !matches!(*name, "FARGATE" | "FARGATE_SPOT")).map(str::to_owned),
            windows: is_windows(definition),
            zone: None,
            constraints: Vec::new(),
            strategies: Vec::new(),
            spread_by_default: task.service().is_some(),
        };
        if task.launch_type != LaunchType::Fargate {
            need.add_constraints(&definition.rest);
        }
        need
    }

    /// What the tasks of a service need, apart from their size.
    #[must_use]
    pub fn of_service(service: &Service, definition: &TaskDefinition, launch_type: LaunchType) -> Self {
        let mut need = Self {
            cluster: service.id.cluster.clone(),
            group: TaskGroup::Service(service.id.name.clone()),
            cpu: 0,
            memory: 0,
            ports: Vec::new(),
            provider: None,
            windows: is_windows(definition),
            zone: None,
            constraints: Vec::new(),
            strategies: Vec::new(),
            spread_by_default: true,
        };
        if launch_type != LaunchType::Fargate {
            need.add_constraints(&definition.rest);
        }
        need.asked_by(&service.rest)
    }

    /// The same with `placementConstraints` and `placementStrategy` of a service or of RunTask, among members
    /// that were kept as sent.
    #[must_use]
    pub fn asked_by(mut self, rest: &coracle_types::JsonMap) -> Self {
        self.add_constraints(rest);
        self.strategies = placement_strategies(rest);
        self
    }

    fn add_constraints(&mut self, rest: &coracle_types::JsonMap) {
        self.constraints.extend(placement_constraints(rest).into_iter().map(|constraint| match constraint {
            PlacementConstraint::DistinctInstance => Constraint::DistinctInstance,
            PlacementConstraint::MemberOf(text) => match Expression::parse(&text) {
                Ok(expression) => Constraint::MemberOf(expression, text),
                Err(_) => Constraint::Unreadable(text),
            },
        }));
    }

    /// The attributes nodes are grouped by before anything else decides: the leading spreads.
    pub(super) fn leading_spreads(&self) -> Vec<&str> {
        if self.strategies.is_empty() && self.spread_by_default {
            return vec![attribute::ZONE];
        }
        let leading = self.strategies.iter().map_while(|strategy| match strategy {
            PlacementStrategy::Spread(SpreadField::Attribute(name)) => Some(name.as_str()),
            _ => None,
        });
        leading.collect()
    }

    /// The strategies after the leading spreads.
    pub(super) fn later_strategies(&self) -> &[PlacementStrategy] {
        let leading = self
            .strategies
            .iter()
            .take_while(|strategy| matches!(strategy, PlacementStrategy::Spread(SpreadField::Attribute(_))));
        &self.strategies[leading.count()..]
    }

    /// Makes a commit that puts such a task on a node depend on what was relied on: that the node has not
    /// registered anew, and, where ports or other tasks matter, that nobody else was put there.
    pub fn guard(&self, changes: &mut Changes, node: NodeId) {
        changes.guard(Key::Node(node));
        if self.minds_others() {
            changes.guard_tasks_on(node);
        }
    }

    /// Whether it matters which other tasks a node has, and not only how much room they leave.
    pub(crate) fn minds_others(&self) -> bool {
        let minds = |one: &Constraint| match one {
            Constraint::DistinctInstance => true,
            Constraint::MemberOf(expression, _) => expression.depends_on_tasks(),
            Constraint::Unreadable(_) => false,
        };
        !self.ports.is_empty() || self.constraints.iter().any(minds)
    }

    /// Whether there may be only one task of its group on a node.
    pub(super) fn is_distinct(&self) -> bool {
        self.constraints.iter().any(|one| matches!(one, Constraint::DistinctInstance))
    }

    /// Whether it may be on any node that takes tasks of its cluster.
    pub(crate) fn is_anywhere(&self) -> bool {
        let everywhere = |one: &Constraint| matches!(one, Constraint::DistinctInstance);
        self.constraints.iter().all(everywhere) && !self.windows && self.provider.is_none()
    }

    /// Whether any node with room will do, and the order of free memory decides.
    pub(super) fn is_plain(&self) -> bool {
        self.constraints.is_empty() && self.strategies.is_empty() && self.zone.is_none()
    }
}

fn is_windows(definition: &TaskDefinition) -> bool {
    let platform = definition.rest.get("runtimePlatform");
    let family = platform.and_then(|platform| platform.get("operatingSystemFamily")).and_then(Value::as_str);
    family.is_some_and(|family| family.starts_with("WINDOWS"))
}
