//! Listeners and their rules.

use serde::{Deserialize, Serialize};

use super::action::Action;
use super::certificate::CertificateId;
use super::condition::{Condition, Transform};
use super::ids::{ElbNumber, ListenerId, RuleId, TrustStoreId};
use super::load_balancer::Attributes;
use crate::tags::Tags;
use crate::task_definition::JsonMap;
use crate::time::Timestamp;

/// What a listener's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ListenerProtocol {
    /// HTTP.
    Http,
    /// HTTP in TLS.
    Https,
}

/// What is done about the certificates of clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MutualMode {
    /// None is asked for.
    #[default]
    Off,
    /// One is asked for and passed on as it is.
    Passthrough,
    /// One is required and checked against the trust store.
    Verify,
}

/// `MutualAuthentication`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutualAuthentication {
    /// What is done.
    pub mode: MutualMode,
    /// Whose certificates are good, when they are checked.
    #[serde(default)]
    pub trust_store: Option<TrustStoreId>,
    /// Whether one that has expired is good.
    #[serde(default)]
    pub ignore_expiry: bool,
    /// Whether clients are told the trust store's names; None when it was not said.
    #[serde(default)]
    pub advertise_names: Option<bool>,
}

/// A listener: a port, and what is done with the requests that come in there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listener {
    /// Its load balancer and number.
    pub id: ListenerId,
    /// When it was made: of several load balancers on one port the oldest gets what is for none by name.
    pub created_at: Timestamp,
    /// The port, unique in its load balancer.
    pub port: u16,
    /// What its clients speak.
    pub protocol: ListenerProtocol,
    /// The security policy of an HTTPS listener.
    #[serde(default)]
    pub ssl_policy: Option<String>,
    /// Its certificates, the default one first. HTTPS listeners have at least one.
    #[serde(default)]
    pub certificates: Vec<CertificateId>,
    /// The number of its default rule.
    pub default_rule: ElbNumber,
    /// What is done when no rule matches.
    pub default_action: Action,
    /// What is done about the certificates of clients; None when it was not said.
    #[serde(default)]
    pub mutual_authentication: Option<MutualAuthentication>,
    /// Attributes that were set.
    #[serde(default)]
    pub attributes: Attributes,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
    /// Members that are kept and returned as they were sent.
    #[serde(default)]
    pub rest: JsonMap,
}

impl Listener {
    /// The id of its default rule.
    #[must_use]
    pub fn default_rule_id(&self) -> RuleId {
        RuleId { listener: self.id.clone(), number: self.default_rule }
    }
}

/// A rule of a listener. The default rule is no record of its own: it is in the [`Listener`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Its listener and number.
    pub id: RuleId,
    /// 1 to 50,000, unique in its listener. The lowest that matches decides.
    pub priority: u32,
    /// All of them must hold.
    pub conditions: Vec<Condition>,
    /// What is done then.
    pub action: Action,
    /// What is changed of a request that is forwarded.
    #[serde(default)]
    pub transforms: Vec<Transform>,
    /// Its tags.
    #[serde(default)]
    pub tags: Tags,
}
