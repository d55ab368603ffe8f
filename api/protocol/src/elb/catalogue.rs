//! What ELBv2 lists and nobody makes: security policies and limits.

use serde_json::Value;

use crate::object::{Object, list};

/// The security policy of an HTTPS listener that was given none.
pub const DEFAULT_POLICY: &str = "ELBSecurityPolicy-2016-08";

const TLS13: [&str; 3] = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// What is offered with TLS 1.2, whatever the policy: the router's TLS has no older ciphers.
const TLS12: [&str; 6] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
];

/// A security policy: which versions of TLS a listener speaks. Policies of AWS that allow older versions are
/// accepted and mean TLS 1.2 and, where they have it, 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SslPolicy {
    /// Its name.
    pub name: &'static str,
    /// Whether TLS 1.2 is spoken.
    pub tls12: bool,
    /// Whether TLS 1.3 is spoken.
    pub tls13: bool,
}

const fn policy(name: &'static str, tls12: bool, tls13: bool) -> SslPolicy {
    SslPolicy { name, tls12, tls13 }
}

/// Every policy.
pub const SSL_POLICIES: &[SslPolicy] = &[
    policy("ELBSecurityPolicy-2016-08", true, false),
    policy("ELBSecurityPolicy-FS-1-2-2019-08", true, false),
    policy("ELBSecurityPolicy-FS-1-2-Res-2019-08", true, false),
    policy("ELBSecurityPolicy-FS-1-2-Res-2020-10", true, false),
    policy("ELBSecurityPolicy-FS-2018-06", true, false),
    policy("ELBSecurityPolicy-TLS-1-2-2017-01", true, false),
    policy("ELBSecurityPolicy-TLS-1-2-Ext-2018-06", true, false),
    policy("ELBSecurityPolicy-TLS13-1-2-2021-06", true, true),
    policy("ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06", true, true),
    policy("ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", true, true),
    policy("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", true, true),
    policy("ELBSecurityPolicy-TLS13-1-3-2021-06", false, true),
];

/// The policy of this name.
#[must_use]
pub fn ssl_policy(name: &str) -> Option<SslPolicy> {
    SSL_POLICIES.iter().copied().find(|policy| policy.name == name)
}

/// A policy as it is answered.
#[must_use]
pub fn encode_policy(policy: &SslPolicy) -> Value {
    let protocols = [(policy.tls12, "TLSv1.2"), (policy.tls13, "TLSv1.3")];
    let protocols = protocols.into_iter().filter(|(spoken, _)| *spoken).map(|(_, name)| name);
    let ciphers = [(policy.tls13, &TLS13[..]), (policy.tls12, &TLS12[..])];
    let ciphers = ciphers.into_iter().filter(|(spoken, _)| *spoken).flat_map(|(_, names)| names);
    let ciphers =
        ciphers.zip(1..).map(|(name, priority)| Object::new().with("Name", *name).with("Priority", priority));
    Object::new()
        .with("SslProtocols", list(protocols))
        .with("Ciphers", list(ciphers))
        .with("Name", policy.name)
        .with("SupportedLoadBalancerTypes", list(["application"]))
        .into()
}

/// How much there may be of everything, by the names AWS gives its limits.
pub mod limits {
    /// Load balancers in a region.
    pub const LOAD_BALANCERS: usize = 1_000;
    /// Target groups in a region.
    pub const TARGET_GROUPS: usize = 3_000;
    /// Listeners of a load balancer.
    pub const LISTENERS: usize = 50;
    /// Rules of a load balancer, default ones not counted.
    pub const RULES: usize = 2_000;
    /// Targets of a target group.
    pub const TARGETS: usize = 10_000;
    /// Certificates of a listener.
    pub const CERTIFICATES: usize = 25;
    /// Trust stores in a region.
    pub const TRUST_STORES: usize = 20;
}

/// The limits as they are answered.
#[must_use]
pub fn encode_limits() -> Vec<(String, Value)> {
    let rows = [
        ("application-load-balancers", limits::LOAD_BALANCERS),
        ("target-groups", limits::TARGET_GROUPS),
        ("listeners-per-application-load-balancer", limits::LISTENERS),
        ("rules-per-application-load-balancer", limits::RULES),
        ("targets-per-target-group", limits::TARGETS),
        ("targets-per-application-load-balancer", limits::TARGETS),
        ("certificates-per-application-load-balancer", limits::CERTIFICATES),
        ("condition-values-per-alb-rule", 5),
        ("condition-wildcards-per-alb-rule", 6),
        ("target-groups-per-action-on-application-load-balancer", 5),
        ("trust-stores", limits::TRUST_STORES),
    ];
    let mut limits: Vec<(String, Value)> = rows
        .into_iter()
        .map(|(name, max)| {
            (name.to_owned(), Object::new().with("Name", name).with("Max", max.to_string()).into())
        })
        .collect();
    limits.sort_by(|a, b| a.0.cmp(&b.0));
    limits
}
