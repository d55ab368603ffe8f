//! Whole rule sets.

use std::sync::Arc;

use http::{HeaderMap, Method};

use super::*;
use crate::model::{Condition, Forward, RateLimit, RateLimitKey, TextMatch, WeightedGroup};

fn forward(group: &str) -> Action {
    let groups = vec![WeightedGroup { group: group.to_owned(), weight: 1 }];
    Action::Forward(Forward { groups, stickiness: None })
}

fn patterns(values: &[&str]) -> TextMatch {
    TextMatch { values: values.iter().map(|value| (*value).to_owned()).collect(), regex_values: vec![] }
}

fn rule(id: &str, priority: u32, conditions: Vec<Condition>) -> Rule {
    let action = forward(id);
    Rule { id: id.to_owned(), priority, conditions, transforms: vec![], action, rate_limit: None }
}

fn found<'a>(rules: &'a RuleSet, host: &str, path: &str) -> &'a str {
    let request = RequestView {
        method: &Method::GET,
        host,
        path,
        query: None,
        headers: &HeaderMap::new(),
        client: "192.0.2.7".parse().unwrap(),
    };
    &rules.find(&request).source.id
}

#[test]
fn the_lowest_priority_that_matches_wins_and_the_default_is_last() {
    let rules = [
        rule("c", 30, vec![Condition::PathPattern(patterns(&["/a*"]))]),
        rule(
            "a",
            10,
            vec![
                Condition::HostHeader(patterns(&["one.com", "TWO.com"])),
                Condition::PathPattern(patterns(&["/a/b", "/a/c*"])),
            ],
        ),
        rule("b", 20, vec![Condition::HostHeader(patterns(&["*.com"]))]),
    ];
    let rules = RuleSet::new("default", &rules, &forward("default"), None);
    for (host, path, expected) in [
        ("one.com", "/a/b", "a"),
        ("two.COM", "/a/cd", "a"),
        ("one.com", "/a/d", "b"),
        ("x.org", "/a/b", "c"),
        ("x.org", "/b", "default"),
    ] {
        assert_eq!(found(&rules, host, path), expected, "{host} {path}");
    }
    assert_eq!(rules.groups().collect::<Vec<_>>(), ["a", "b", "c", "default"]);
}

#[test]
fn a_rule_that_can_not_be_understood_matches_nothing() {
    let broken = TextMatch { values: vec![], regex_values: vec!["(".to_owned()] };
    let broken = rule("broken", 1, vec![Condition::PathPattern(broken)]);
    assert!(matches!(broken.check(), Err(RuleError::Regex { .. })));
    let rules = RuleSet::new("default", &[broken, rule("all", 2, vec![])], &forward("default"), None);
    assert_eq!(found(&rules, "", "/"), "all");
}

#[test]
fn what_has_not_changed_is_kept() {
    let limit =
        RateLimit { requests: 1, per: std::time::Duration::from_secs(1), burst: 1, key: RateLimitKey::Rule };
    let limited = Rule { rate_limit: Some(limit), ..rule("a", 1, vec![]) };
    let first = RuleSet::new("l", &[limited.clone(), rule("b", 2, vec![])], &forward("d"), None);
    let moved = Rule { priority: 5, ..limited };
    let second = RuleSet::new("l", &[moved, rule("b", 2, vec![])], &forward("d"), Some(&first));
    assert!(Arc::ptr_eq(&first.default, &second.default));
    assert!(Arc::ptr_eq(&first.rules[1], &second.rules[0]), "b is the same rule");
    assert!(!Arc::ptr_eq(&first.rules[0], &second.rules[1]), "a was moved");
    let limiter = |rule: &CompiledRule| rule.limiter.clone().unwrap();
    assert!(Arc::ptr_eq(&limiter(&first.rules[0]), &limiter(&second.rules[1])), "but is limited as before");
}
