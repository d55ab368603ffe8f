//! Egress rules from any text: read or refused in words, and whatever they allow, a wildcard never reaches the inside.
#![no_main]

use coracle_sandbox::EgressPolicy;
use libfuzzer_sys::fuzz_target;
use std::net::{IpAddr, Ipv4Addr};

fuzz_target!(|text: &str| {
    let (rule, host) = text.split_once('\n').unwrap_or((text, "example.com"));
    match EgressPolicy::parse(rule) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(policy) => {
            let _ = (policy.allows_host(host, 443), policy.allows_lookup(host));
            let inside = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
            let is_one = !rule.contains(|char: char| char == ',' || char.is_whitespace());
            if rule.starts_with("*:") && is_one {
                assert!(!policy.allows_address(inside, 80), "{rule} reaches {inside}");
                assert!(!policy.allows_resolved(host, 80, inside), "{rule} reaches {inside} as {host}");
            }
        }
    }
});
