//! From records to the router's model.
//!
//! AWS gives each load balancer addresses of its own; here they share the router's, and so its ports. Of
//! several load balancers on one port the oldest gets what comes in, except what is for another by its DNS
//! name. That is said with the means of rules: every rule of a younger one also asks for its host.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use coracle_router::{
    Action, Backend, ClientCertificates, Condition, FixedResponse, Forward, HealthCheck, HttpsConfig,
    ListenerAttributes, ListenerConfig, ListenerProtocol, LoadBalancer, LoadBalancerAttributes, Matcher,
    QueryPair, Redirect, RedirectStatus, RegisteredTarget, Rewrite, Rule, Slot, TargetGroup,
    TargetGroupAttributes, TargetId, TargetProtocol, TextMatch, TlsCertificate, Transform, WeightedGroup,
};
use coracle_server::{Sealer, certificate_context};
use coracle_types::elb::{self, ElbArn, ElbResource, HealthCheckPort, TargetRef};
use coracle_types::{AccountId, ContainerName, State, Task, TaskId};

/// Requests of a rule are bounded by its tag of this name.
const RATE_LIMIT: &str = "coracle.rate_limit";

/// What records do not say.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// The account ARNs are in.
    pub(crate) account: AccountId,
    /// The address all listeners are on.
    pub(crate) address: IpAddr,
    /// Opens private keys.
    pub(crate) sealer: Arc<Sealer>,
}

impl Place {
    /// What the router knows a resource by.
    pub(crate) fn id(&self, resource: impl Into<ElbResource>) -> String {
        ElbArn::new(self.account, resource).to_string()
    }
}

/// What the router knows a registration by.
pub(crate) fn target_id(target: &TargetRef) -> TargetId {
    match target {
        TargetRef::Static(id) => TargetId { id: id.address.clone(), port: id.port },
        // Not by the task's address, which is made up and not always its alone.
        TargetRef::Task { task, port, .. } => TargetId { id: task.id.to_string(), port: *port },
    }
}

/// The targets of a group: those registered by hand, and `tasks`, whose containers on this node `slot` finds.
pub(crate) fn targets<'a>(
    state: &State,
    group: &elb::TargetGroupId,
    tasks: impl Iterator<Item = &'a Task>,
    slot: impl Fn(TaskId, &ContainerName) -> Option<Arc<Slot>>,
) -> Vec<RegisteredTarget> {
    let by_hand = state.targets_of(group).filter(|target| target.draining_since.is_none()).map(|target| {
        let backend = match target.id.address.parse::<IpAddr>() {
            Ok(address) => Backend::Address(SocketAddr::new(address, target.id.port)),
            Err(_) => Backend::Stopped,
        };
        RegisteredTarget { id: target_id(&TargetRef::Static(target.id.clone())), backend }
    });
    let of_tasks = tasks.flat_map(|task| {
        let here =
            task.targets.iter().filter(|target| target.group == *group && target.draining_since.is_none());
        let slot = &slot;
        here.map(move |target| {
            let at = TargetRef::Task { group: group.clone(), task: task.key(), port: target.port };
            let backend = slot(task.id, &target.container).map_or(Backend::Stopped, Backend::InProcess);
            RegisteredTarget { id: target_id(&at), backend }
        })
    });
    by_hand.chain(of_tasks).collect()
}

/// A group as the router knows it. It `activates` a service when a request for it finds no target.
pub(crate) fn target_group(
    group: &elb::TargetGroup,
    targets: Vec<RegisteredTarget>,
    activates: bool,
    place: &Place,
) -> TargetGroup {
    let check = &group.check;
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    let health_check = HealthCheck {
        is_enabled: check.enabled,
        port: match check.port {
            HealthCheckPort::TrafficPort => None,
            HealthCheckPort::Port(port) => Some(port),
        },
        path: check.path.clone(),
        interval: seconds(check.interval_s),
        timeout: seconds(check.timeout_s),
        healthy_threshold: check.healthy_threshold,
        unhealthy_threshold: check.unhealthy_threshold,
        matcher: matcher(&check.matcher),
    };
    let attributes = TargetGroupAttributes::parse(pairs(&group.attributes)).unwrap_or_else(|error| {
        tracing::warn!(group = %group.id.name, "its attributes are not used: {error}");
        TargetGroupAttributes::default()
    });
    TargetGroup {
        id: place.id(group.id.clone()),
        name: group.id.name.to_string(),
        protocol: match group.protocol_version {
            elb::ProtocolVersion::Http1 => TargetProtocol::Http1,
            elb::ProtocolVersion::Http2 | elb::ProtocolVersion::Grpc => TargetProtocol::Http2,
        },
        tls: group.protocol == elb::TargetProtocol::Https,
        health_check,
        attributes,
        targets,
        activates,
    }
}

/// Codes that the API has checked; should they mean nothing all the same, the default does.
fn matcher(matcher: &elb::Matcher) -> Matcher {
    match matcher {
        elb::Matcher::Http(codes) => codes.parse().unwrap_or_default(),
        elb::Matcher::Grpc(codes) => Matcher::grpc(codes).unwrap_or_default(),
    }
}

/// One listener for each port, the oldest of those that ask for it, with the rules of all.
pub(crate) fn listeners(state: &State, place: &Place) -> Vec<ListenerConfig> {
    let mut by_port: BTreeMap<u16, Vec<&elb::Listener>> = BTreeMap::new();
    for listener in state.listeners.values().map(|found| &*found.value) {
        by_port.entry(listener.port).or_default().push(listener);
    }
    let configs = by_port.into_values().filter_map(|mut here| {
        here.sort_by_key(|listener| (listener.created_at, &listener.id));
        let (oldest, younger) = here.split_first()?;
        // The API does not let different protocols meet at a port.
        let younger: Vec<_> = younger.iter().filter(|one| one.protocol == oldest.protocol).collect();
        let mut rules: Vec<Rule> = Vec::new();
        for listener in &younger {
            let Some(balancer) = state.load_balancers.get(&listener.id.load_balancer) else { continue };
            let host = || Condition::HostHeader(exactly(&balancer.value.dns_name));
            for mut rule in own_rules(state, listener, place) {
                rule.conditions.push(host());
                rules.push(rule);
            }
            rules.push(Rule {
                id: place.id(listener.default_rule_id()),
                priority: 0,
                conditions: vec![host()],
                transforms: Vec::new(),
                action: action(&listener.default_action, place),
                rate_limit: None,
            });
        }
        rules.extend(own_rules(state, oldest, place));
        for (rule, priority) in rules.iter_mut().zip(1..) {
            rule.priority = priority;
        }
        let balancer = &state.load_balancers.get(&oldest.id.load_balancer)?.value;
        Some(ListenerConfig {
            id: place.id(oldest.id.clone()),
            load_balancer: LoadBalancer {
                id: place.id(balancer.id.clone()),
                name: balancer.id.name.to_string(),
                attributes: LoadBalancerAttributes::parse(pairs(&balancer.attributes)),
            },
            address: SocketAddr::new(place.address, oldest.port),
            attributes: ListenerAttributes::parse(pairs(&oldest.attributes)),
            protocol: match oldest.protocol {
                elb::ListenerProtocol::Http => ListenerProtocol::Http,
                elb::ListenerProtocol::Https => {
                    let all = std::iter::once(oldest).chain(younger);
                    let certificates = certificates(state, all.flat_map(|one| &one.certificates), place);
                    ListenerProtocol::Https(https(state, oldest, certificates))
                }
            },
            rules,
            default_action: action(&oldest.default_action, place),
        })
    });
    configs.collect()
}

fn pairs(attributes: &elb::Attributes) -> impl Iterator<Item = (&str, &str)> {
    attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()))
}

/// The certificates of all listeners of a port, the oldest's default one first.
fn certificates<'a>(
    state: &State,
    ids: impl Iterator<Item = &'a elb::CertificateId>,
    place: &Place,
) -> Vec<TlsCertificate> {
    let mut certificates: Vec<TlsCertificate> = Vec::new();
    for id in ids {
        let arn = id.arn(place.account);
        let Some(found) = state.certificates.get(id) else { continue };
        if certificates.iter().any(|known| known.id == arn) {
            continue;
        }
        let key = place.sealer.open_sealed(&certificate_context(id), &found.value.private_key.0);
        let key = key.ok().and_then(|key| String::from_utf8(key).ok());
        let Some(key) = key else {
            tracing::error!(certificate = arn, "its private key cannot be opened; it is left out");
            continue;
        };
        let mut chain = found.value.certificate.clone();
        if let Some(more) = &found.value.chain {
            chain.push('\n');
            chain.push_str(more);
        }
        certificates.push(TlsCertificate { id: arn, chain, key });
    }
    certificates
}

fn https(state: &State, listener: &elb::Listener, certificates: Vec<TlsCertificate>) -> HttpsConfig {
    let mutual = listener.mutual_authentication.clone().unwrap_or_default();
    let bundle = mutual.trust_store.as_ref().and_then(|id| state.trust_stores.get(id));
    let client_certificates = match mutual.mode {
        elb::MutualMode::Off => ClientCertificates::Off,
        elb::MutualMode::Passthrough => ClientCertificates::Passthrough,
        elb::MutualMode::Verify => ClientCertificates::Verify {
            // Without a bundle nobody is let in.
            ca_bundle: bundle.map(|found| found.value.ca_bundle.clone()).unwrap_or_default(),
            ignore_expiry: mutual.ignore_expiry,
            advertise_names: mutual.advertise_names.unwrap_or(false),
        },
    };
    HttpsConfig { certificates, policy: listener.ssl_policy.clone().unwrap_or_default(), client_certificates }
}

fn exactly(host: &str) -> TextMatch {
    TextMatch { values: vec![host.to_owned()], regex_values: Vec::new() }
}

/// A listener's rules in the order of their priorities, without the default one.
fn own_rules(state: &State, listener: &elb::Listener, place: &Place) -> Vec<Rule> {
    let mut rules: Vec<&elb::Rule> = state.rules_of(&listener.id).map(|rule| &**rule).collect();
    rules.sort_by_key(|rule| rule.priority);
    rules.into_iter().map(|one| rule(one, place)).collect()
}

fn rule(rule: &elb::Rule, place: &Place) -> Rule {
    let limit = rule.tags.iter().find(|(key, _)| *key == RATE_LIMIT).map(|(_, value)| value);
    let rate_limit = limit.and_then(|limit| match limit.parse() {
        Ok(limit) => Some(limit),
        Err(error) => {
            tracing::warn!(rule = place.id(rule.id.clone()), "its tag {RATE_LIMIT} is not used: {error}");
            None
        }
    });
    Rule {
        id: place.id(rule.id.clone()),
        priority: rule.priority,
        conditions: rule.conditions.iter().map(condition).collect(),
        transforms: rule.transforms.iter().map(transform).collect(),
        action: action(&rule.action, place),
        rate_limit,
    }
}

fn condition(condition: &elb::Condition) -> Condition {
    let texts = |patterns: &elb::Patterns| TextMatch {
        values: patterns.values.clone(),
        regex_values: patterns.regexes.clone(),
    };
    match condition {
        elb::Condition::Host(patterns) => Condition::HostHeader(texts(patterns)),
        elb::Condition::Path(patterns) => Condition::PathPattern(texts(patterns)),
        elb::Condition::Header { name, patterns } => {
            Condition::HttpHeader { name: name.clone(), matches: texts(patterns) }
        }
        elb::Condition::Method(methods) => Condition::HttpRequestMethod(methods.clone()),
        elb::Condition::Query(pairs) => Condition::QueryString(
            pairs.iter().map(|pair| QueryPair { key: pair.key.clone(), value: pair.value.clone() }).collect(),
        ),
        elb::Condition::SourceIp(blocks) => Condition::SourceIp(blocks.clone()),
    }
}

fn transform(transform: &elb::Transform) -> Transform {
    let rewrites = |rewrites: &[elb::Rewrite]| {
        let rewrite = |one: &elb::Rewrite| Rewrite { regex: one.regex.clone(), replace: one.replace.clone() };
        rewrites.iter().map(rewrite).collect()
    };
    match transform {
        elb::Transform::Host(all) => Transform::HostHeader(rewrites(all)),
        elb::Transform::Url(all) => Transform::Url(rewrites(all)),
    }
}

fn action(action: &elb::Action, place: &Place) -> Action {
    match action {
        elb::Action::Forward(forward) => {
            let groups = forward.groups.iter().map(|weighted| WeightedGroup {
                group: place.id(weighted.group.clone()),
                weight: weighted.weight,
            });
            let sticky = forward.stickiness.filter(|stickiness| stickiness.enabled);
            let seconds = sticky.and_then(|stickiness| stickiness.duration_s);
            Action::Forward(Forward {
                groups: groups.collect(),
                stickiness: seconds.map(|seconds| Duration::from_secs(u64::from(seconds))),
            })
        }
        elb::Action::Redirect(redirect) => Action::Redirect(Redirect {
            protocol: redirect.protocol.clone(),
            host: redirect.host.clone(),
            port: redirect.port.clone(),
            path: redirect.path.clone(),
            query: redirect.query.clone(),
            status: if redirect.permanent { RedirectStatus::Permanent } else { RedirectStatus::Temporary },
        }),
        elb::Action::FixedResponse(fixed) => Action::FixedResponse(FixedResponse {
            status: fixed.status,
            content_type: fixed.content_type.clone(),
            body: fixed.body.clone().unwrap_or_default(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use coracle_types::elb::{ElbNumber, ListenerId, LoadBalancerId, Scheme};
    use coracle_types::{Change, JsonMap, Record, Tags, Timestamp};

    use super::*;

    fn fixed(status: u16) -> elb::Action {
        elb::Action::FixedResponse(elb::FixedResponse { status, content_type: None, body: None })
    }

    fn put(state: &mut State, record: impl Into<Record>) {
        state.apply(&Change::Put(record.into()), 1);
    }

    /// A load balancer with a listener on port 80 that answers with `status`.
    fn with_balancer(state: &mut State, name: &str, at: i64, status: u16) -> elb::Listener {
        let id = LoadBalancerId {
            region: "us-east-1".parse().unwrap(),
            name: name.parse().unwrap(),
            number: ElbNumber(u64::from(status)),
        };
        put(
            state,
            elb::LoadBalancer {
                id: id.clone(),
                scheme: Scheme::Internal,
                created_at: Timestamp(at),
                dns_name: format!("{name}.elb.localhost"),
                zones: Vec::new(),
                security_groups: Vec::new(),
                ip_address_type: "ipv4".to_owned(),
                attributes: elb::Attributes::new(),
                tags: Tags::default(),
                rest: JsonMap::new(),
            },
        );
        let listener = elb::Listener {
            id: ListenerId { load_balancer: id, number: ElbNumber(1) },
            created_at: Timestamp(at),
            port: 80,
            protocol: elb::ListenerProtocol::Http,
            ssl_policy: None,
            certificates: Vec::new(),
            default_rule: ElbNumber(2),
            default_action: fixed(status),
            mutual_authentication: None,
            attributes: elb::Attributes::new(),
            tags: Tags::default(),
            rest: JsonMap::new(),
        };
        put(state, listener.clone());
        listener
    }

    /// What the API takes for an attribute the router must be able to read, and of our own attributes nothing else:
    /// the ranges are written down in both rooms, which do not know each other.
    #[test]
    fn the_api_and_the_router_take_the_same_attributes() {
        use coracle_protocol::elb::attributes::Kind;
        let around = |number: u64| [number.saturating_sub(1), number, number.saturating_add(1)];
        let bounds =
            [0, 1, 30, 100, 300, 900, 1000, 3600, 60_000, 604_800, 1_000_000, 4_000_000, 1 << 30, u64::MAX];
        let numbers = bounds.into_iter().flat_map(around).map(|number| number.to_string());
        let words = ["true", "false", "on", "off", "", "-1", "1.5", "0x10", "yes", "round_robin", "random"];
        let values: Vec<String> = numbers.chain(words.map(str::to_owned)).collect();
        for key in Kind::TargetGroup.keys() {
            for value in &values {
                let takes = Kind::TargetGroup.takes(key, value);
                let reads = TargetGroupAttributes::parse([(key, value.as_str())]).is_ok();
                assert!(reads || !takes, "the router can not read {key} = {value:?}");
                assert!(
                    takes || !reads || !key.starts_with("coracle."),
                    "the API does not take {key} = {value:?}"
                );
            }
        }
        let trusting = [("coracle.trust_forwarded.enabled", "true")];
        assert!(Kind::LoadBalancer.takes(trusting[0].0, trusting[0].1));
        assert!(LoadBalancerAttributes::parse(trusting).trust_forwarded);
        // Of listeners, what the API takes changes something.
        for key in Kind::Listener.keys().filter(|key| *key != "routing.http.response.server.enabled") {
            assert!(Kind::Listener.takes(key, "x-other"), "{key}");
            let read = ListenerAttributes::parse([(key, "x-other")]);
            assert_ne!(read, ListenerAttributes::default(), "{key}");
        }
    }

    #[test]
    fn load_balancers_share_a_port_by_host_and_the_oldest_has_the_rest() {
        let mut state = State::default();
        let young = with_balancer(&mut state, "a-young", 2, 201);
        with_balancer(&mut state, "b-old", 1, 202);
        let rule = elb::Rule {
            id: elb::RuleId { listener: young.id, number: ElbNumber(9) },
            priority: 7,
            conditions: vec![elb::Condition::Path(elb::Patterns {
                values: vec!["/x".to_owned()],
                regexes: Vec::new(),
            })],
            action: fixed(203),
            transforms: Vec::new(),
            tags: Tags::default(),
        };
        put(&mut state, rule);
        let sealer = Arc::new(Sealer::with_key([7; 32]));
        let place = Place { account: AccountId::default(), address: [127, 0, 0, 1].into(), sealer };
        let [listener] = listeners(&state, &place).try_into().unwrap();
        assert_eq!(listener.load_balancer.name, "b-old");
        let status = |action: &Action| match action {
            Action::FixedResponse(fixed) => fixed.status,
            other => panic!("{other:?}"),
        };
        assert_eq!(status(&listener.default_action), 202);
        let host = Condition::HostHeader(exactly("a-young.elb.localhost"));
        let rules: Vec<(u32, u16)> =
            listener.rules.iter().map(|rule| (rule.priority, status(&rule.action))).collect();
        assert_eq!(rules, [(1, 203), (2, 201)]);
        assert!(listener.rules.iter().all(|rule| rule.conditions.contains(&host)));
    }
}
