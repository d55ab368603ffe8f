//! The whole state of the control plane at one revision, and changes to it.
//!
//! A [`State`] is an immutable snapshot: cloning it shares everything, so a reader holds one for as
//! long as it likes while writers go on. Each record carries the revision that last wrote it, which
//! is what compare-and-swap compares.

use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::account_setting::{AccountSetting, AccountSettingId};
use crate::alarm::{Alarm, AlarmId};
use crate::capacity_provider::CapacityProvider;
use crate::cluster::Cluster;
use crate::elb::{
    Certificate, CertificateId, Listener, ListenerId, LoadBalancer, LoadBalancerId, Rule, RuleId, Target,
    TargetGroup, TargetGroupId, TargetId, TrustStore, TrustStoreId,
};
use crate::iam::{AccessKey, Group, ManagedPolicy, Role, User};
use crate::ids::{
    CapacityProviderId, ClusterId, Family, FamilyId, NodeId, ServiceDeploymentId, ServiceId, ServiceName,
    ServiceRevisionId, TaskDefinitionId, TaskId, TaskKey,
};
use crate::index::{Journal, NodeLoad, TaskIndex};
use crate::node::Node;
use crate::parameter::{Parameter, ParameterId};
use crate::secret::{Secret, SecretId};
use crate::service::Service;
use crate::service_deployment::{ServiceDeployment, ServiceRevision};
use crate::task::Task;
use crate::task_definition::{FamilyRecord, TaskDefinition};
use crate::token::{TokenId, TokenRecord};

/// A record and the revision that last wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Versioned<T> {
    /// The record.
    pub value: Arc<T>,
    /// The revision that wrote it.
    pub revision: u64,
}

/// An ordered, persistent map from ids to records.
pub type Table<K, V> = RedBlackTreeMapSync<K, Versioned<V>>;

/// Declares the tables once: the state, the key and record enums, and everything that goes over all
/// of them.
macro_rules! tables {
    ($($(#[$meta:meta])* $field:ident: $variant:ident($key:ty => $value:ty) by $key_of:expr;)*) => {
        /// Everything the control plane knows, at one revision.
        #[derive(Clone, Debug, Default)]
        pub struct State {
            /// The number of the last committed transaction; 0 is empty.
            pub revision: u64,
            index: TaskIndex,
            journal: Journal,
            $($(#[$meta])* pub $field: Table<$key, $value>,)*
        }

        /// The id of a record of any kind.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Key { $($(#[$meta])* $variant($key),)* }

        /// A record of any kind.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Record { $($(#[$meta])* $variant(Arc<$value>),)* }

        impl Record {
            /// The id it is stored under.
            #[must_use]
            pub fn key(&self) -> Key {
                match self { $(Self::$variant(value) => {
                    let key_of: fn(&$value) -> $key = $key_of;
                    Key::$variant(key_of(value))
                })* }
            }
        }

        $(impl From<$value> for Record {
            fn from(value: $value) -> Self { Self::$variant(Arc::new(value)) }
        })*

        impl State {
            /// The revision that last wrote the record under `key`; None if there is none.
            #[must_use]
            pub fn revision_of(&self, key: &Key) -> Option<u64> {
                match key { $(Key::$variant(key) => self.$field.get(key).map(|found| found.revision),)* }
            }

            /// Applies one change as of `revision`. Does not touch the state's own revision.
            pub fn apply(&mut self, change: &Change, revision: u64) {
                self.journal.note(change.key(), revision);
                match change {
                    Change::Put(Record::Task(task)) => {
                        let after = Versioned { value: Arc::clone(task), revision };
                        self.index.replace(self.tasks.get(&task.key()), Some(&after));
                    }
                    Change::Delete(Key::Task(key)) => self.index.replace(self.tasks.get(key), None),
                    _ => {}
                }
                match change {
                    $(Change::Put(Record::$variant(value)) => {
                        let key_of: fn(&$value) -> $key = $key_of;
                        self.$field.insert_mut(key_of(value), Versioned { value: Arc::clone(value), revision });
                    })*
                    $(Change::Delete(Key::$variant(key)) => { self.$field.remove_mut(key); })*
                }
            }

            /// Every record with its revision, table by table.
            pub fn records(&self) -> impl Iterator<Item = (Record, u64)> + '_ {
                let all = std::iter::empty();
                $(let all = all.chain(
                    self.$field.values().map(|found| (Record::$variant(Arc::clone(&found.value)), found.revision)),
                );)*
                all
            }
        }
    };
}

tables! {
    /// Clusters.
    clusters: Cluster(ClusterId => Cluster) by |cluster| cluster.id.clone();
    /// Families of task definitions.
    families: Family(FamilyId => FamilyRecord) by |family| family.id.clone();
    /// Task definitions.
    task_definitions: TaskDefinition(TaskDefinitionId => TaskDefinition) by |definition| definition.id.clone();
    /// Services.
    services: Service(ServiceId => Service) by |service| service.id.clone();
    /// Tasks.
    tasks: Task(TaskKey => Task) by |task| task.key();
    /// Nodes.
    nodes: Node(NodeId => Node) by |node| node.id;
    /// Account settings that somebody changed.
    account_settings: AccountSetting(AccountSettingId => AccountSetting) by |setting| setting.id.clone();
    /// Service deployments.
    service_deployments: ServiceDeployment(ServiceDeploymentId => ServiceDeployment) by |one| one.id.clone();
    /// Service revisions.
    service_revisions: ServiceRevision(ServiceRevisionId => ServiceRevision) by |revision| revision.id.clone();
    /// Capacity providers.
    capacity_providers: CapacityProvider(CapacityProviderId => CapacityProvider) by |provider| provider.id.clone();
    /// IAM users.
    users: User(String => User) by |user| user.identity.name.key();
    /// IAM groups.
    groups: Group(String => Group) by |group| group.identity.name.key();
    /// The access keys of IAM users, by their ids.
    access_keys: AccessKey(String => AccessKey) by |key| key.id.clone();
    /// IAM roles.
    roles: Role(String => Role) by |role| role.identity.name.key();
    /// IAM's customer managed policies.
    policies: ManagedPolicy(String => ManagedPolicy) by |policy| policy.name.key();
    /// Secrets.
    secrets: Secret(SecretId => Secret) by |secret| secret.id.clone();
    /// Parameters.
    parameters: Parameter(ParameterId => Parameter) by |parameter| parameter.id.clone();
    /// Client tokens.
    tokens: Token(TokenId => TokenRecord) by |token| token.id.clone();
    /// Load balancers.
    load_balancers: LoadBalancer(LoadBalancerId => LoadBalancer) by |balancer| balancer.id.clone();
    /// Listeners of load balancers.
    listeners: Listener(ListenerId => Listener) by |listener| listener.id.clone();
    /// Rules of listeners, without the default ones.
    rules: Rule(RuleId => Rule) by |rule| rule.id.clone();
    /// Target groups.
    target_groups: TargetGroup(TargetGroupId => TargetGroup) by |group| group.id.clone();
    /// Targets that were registered by hand; those of services are in their tasks.
    targets: Target(TargetId => Target) by |target| target.id.clone();
    /// Trust stores.
    trust_stores: TrustStore(TrustStoreId => TrustStore) by |store| store.id.clone();
    /// Alarms.
    alarms: Alarm(AlarmId => Alarm) by |alarm| alarm.id.clone();
    /// Imported certificates.
    certificates: Certificate(CertificateId => Certificate) by |certificate| certificate.id.clone();
}

/// One change to the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// Writes a record, new or not.
    Put(Record),
    /// Takes a record away, if it is there.
    Delete(Key),
}

impl Change {
    /// The id of the record it changes.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

impl State {
    /// An empty state at `revision`, to be filled with the records there were then.
    #[must_use]
    pub fn restored(revision: u64) -> Self {
        Self { revision, journal: Journal::from(revision), ..Self::default() }
    }

    /// Its tasks by what they belong to and by what has become of them.
    #[must_use]
    pub fn index(&self) -> &TaskIndex {
        &self.index
    }

    /// The keys of the records that were changed after `revision`; None when that is too long ago to know.
    pub fn changed_since(&self, revision: u64) -> Option<impl Iterator<Item = &Key>> {
        self.journal.since(revision)
    }

    /// The tasks of a service, in the order of their ids, STOPPED ones included.
    pub fn tasks_of(&self, service: &ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.index.of_service(service).map(|found| &found.value)
    }

    /// The tasks that hold something on a node as it is now, in the order of their ids.
    pub fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.load_of(node).into_iter().flat_map(NodeLoad::tasks).map(|found| &found.value)
    }

    /// What the tasks of a node as it is now hold; None when there are none.
    #[must_use]
    pub fn load_of(&self, node: NodeId) -> Option<&NodeLoad> {
        let incarnation = self.nodes.get(&node)?.value.incarnation;
        self.index.on_node(node, incarnation)
    }

    /// The tasks of one cluster, in the order of their ids.
    pub fn tasks_in<'a>(&'a self, cluster: &ClusterId) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        let first = TaskKey { cluster: cluster.clone(), id: TaskId(0) };
        let last = TaskKey { cluster: cluster.clone(), id: TaskId(u128::MAX) };
        self.tasks.range(first..=last).map(|(_, found)| &found.value)
    }

    /// The tasks of one cluster that run a family's definitions, in the order of their ids.
    pub fn tasks_of_family<'a>(
        &'a self,
        cluster: &'a ClusterId,
        family: &Family,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.tasks_by_id(cluster, self.index.of_family(cluster, family))
    }

    /// The tasks of one cluster that were started by this, in the order of their ids.
    pub fn tasks_started_by<'a>(
        &'a self,
        cluster: &'a ClusterId,
        starter: &str,
    ) -> impl Iterator<Item = &'a Arc<Task>> + use<'a> {
        self.tasks_by_id(cluster, self.index.of_starter(cluster, starter))
    }

    fn tasks_by_id<'a>(
        &'a self,
        cluster: &'a ClusterId,
        ids: impl Iterator<Item = TaskId>,
    ) -> impl Iterator<Item = &'a Arc<Task>> {
        let find = move |id| self.tasks.get(&TaskKey { cluster: cluster.clone(), id });
        ids.filter_map(find).map(|found| &found.value)
    }

    /// The services of one cluster, in the order of their names.
    pub fn services_in<'a>(
        &'a self,
        cluster: &ClusterId,
    ) -> impl Iterator<Item = &'a Arc<Service>> + use<'a> {
        let cluster = cluster.clone();
        let first = ServiceId { cluster: cluster.clone(), name: ServiceName::first() };
        let from_there = self.services.range(first..).map(|(_, found)| &found.value);
        from_there.take_while(move |service| service.id.cluster == cluster)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(name: &str) -> FamilyRecord {
        let family: Family = name.parse().unwrap();
        FamilyRecord { id: FamilyId { region: "us-east-1".parse().unwrap(), family }, latest: 1 }
    }

    fn commit(state: &mut State, names: &[&str]) {
        state.revision += 1;
        for name in names {
            state.apply(&Change::Put(family(name).into()), state.revision);
        }
    }

    #[test]
    fn the_journal_knows_what_changed_and_how_far_back() {
        let mut state = State::restored(7);
        state.apply(&Change::Put(family("old").into()), 3);
        assert!(state.changed_since(6).is_none());
        assert_eq!(state.changed_since(7).unwrap().count(), 0);
        commit(&mut state, &["a", "b"]);
        commit(&mut state, &["b"]);
        let keys: Vec<&Key> = state.changed_since(7).unwrap().collect();
        let [a, b] = ["a", "b"].map(|name| Key::Family(family(name).id));
        assert_eq!(keys, [&a, &b, &b]);
        assert_eq!(state.changed_since(8).unwrap().collect::<Vec<_>>(), [&b]);
        for _ in 0..60_000 {
            commit(&mut state, &["c"]);
        }
        assert!(state.changed_since(8).is_none());
        assert_eq!(state.changed_since(state.revision - 10).unwrap().count(), 10);
    }
}
