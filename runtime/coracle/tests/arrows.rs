//! The walls between the rooms: who may depend on whom.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// What each room may use of ours. A room that is missing here fails the test, so that a new one
/// says where it stands.
const ALLOWED: &[(&str, &[&str])] = &[
    ("coracle-types", &[]),
    ("coracle-protocol", &["coracle-types"]),
    ("coracle-scheduler", &["coracle-types"]),
    ("coracle-store", &["coracle-types"]),
    ("coracle-metrics", &["coracle-types"]),
    ("coracle-control", &["coracle-types", "coracle-metrics", "coracle-scheduler", "coracle-store"]),
    ("coracle-registry", &[]),
    ("coracle-logs", &[]),
    (
        "coracle-server",
        &[
            "coracle-types",
            "coracle-protocol",
            "coracle-metrics",
            "coracle-scheduler",
            "coracle-store",
            "coracle-registry",
            "coracle-logs",
        ],
    ),
    ("coracle-sandbox", &[]),
    ("coracle-agent", &["coracle-types", "coracle-sandbox"]),
    ("coracle-router", &[]),
    ("coracle-guest-build", &[]),
    ("coracle-fixtures", &[]),
    ("plugin-host", &["coracle-sandbox"]),
    ("functions", &["coracle-sandbox"]),
    ("coracle-sdk-macros", &[]),
    // Natively, and only to test guests with.
    ("coracle-sdk", &["coracle-sdk-macros", "coracle-sandbox"]),
];

/// The rooms that may see everything.
const JOINERS: &[&str] = &["coracle", "coracle-bench"];

#[test]
fn arrows_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut rooms = 0;
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        if JOINERS.contains(&name) {
            continue;
        }
        let allowed = allowed.get(name).unwrap_or_else(|| panic!("{name} is not in the list of rooms"));
        rooms += 1;
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let for_the_product = dependency["kind"].is_null();
            if for_the_product && used.starts_with("coracle") {
                assert!(allowed.contains(&used), "{name} must not depend on {used}");
            }
        }
    }
    assert_eq!(rooms, ALLOWED.len(), "a room in the list is gone");
}

#[test]
fn the_scheduler_is_pure() {
    let manifest = include_str!("../../../api/scheduler/Cargo.toml");
    let dependencies = manifest.split("[dev-dependencies]").next().unwrap();
    for impure in ["tokio", "hyper", "redb", "axum", "tracing"] {
        assert!(!dependencies.contains(impure), "the scheduler must not use {impure}");
    }
}
