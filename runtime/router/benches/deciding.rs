//! What it takes to decide where a request goes, apart from everything else:
//!
//! ```sh
//! cargo bench -p coracle-router --bench deciding
//! ```
//!
//! Each figure is the median of rounds, in nanoseconds per decision. The promises: a rule among 1,000 is
//! found in less than 5 µs, a target among 10,000 in less than 1 µs.

use std::hint::black_box;
use std::time::{Duration, Instant};

use coracle_router::internals::{Head, Rules, Targets};
use coracle_router::{Action, Condition, FixedResponse, Rule, TargetGroupAttributes, TextMatch};
use http::{HeaderMap, HeaderValue, Method};

const ROUNDS: usize = 15;

/// Time of one round.
const ROUND: Duration = Duration::from_millis(60);

fn main() {
    // `cargo test --benches` asks for nothing but that it runs.
    let rounds = if std::env::args().any(|arg| arg == "--bench") { ROUNDS } else { 1 };
    rules(rounds);
    targets(rounds);
}

fn rules(rounds: usize) {
    let head = |host: &str, path: &str| Head {
        method: Method::GET,
        host: host.to_owned(),
        path: path.to_owned(),
        query: Some("page=2&sort=name".to_owned()),
        headers: HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static("*/*"))]),
        client: [192, 0, 2, 7].into(),
    };
    let by = |condition: fn(usize) -> Condition| -> Vec<Rule> {
        (0..1000).map(|n| rule(n, condition(n))).collect()
    };
    let by_host = by(|n| Condition::HostHeader(text(format!("tenant{n}.example.com"))));
    let by_path = by(|n| Condition::PathPattern(text(format!("/api/v1/resource{n}/*"))));
    let by_wildcard = by(|n| Condition::HostHeader(text(format!("*.tenant{n}.example.com"))));
    let by_header =
        by(|n| Condition::HttpHeader { name: "x-tenant".to_owned(), matches: text(format!("t{n}")) });
    for (what, rules, head) in [
        ("1,000 rules by host, the last matches", &by_host, head("tenant999.example.com", "/")),
        ("1,000 rules by host, none matches", &by_host, head("example.com", "/")),
        ("1,000 rules by path, the last matches", &by_path, head("example.com", "/api/v1/resource999/7")),
        ("1,000 rules by path, none matches", &by_path, head("example.com", "/assets/site.css")),
        (
            "1,000 rules by wildcard host, the last matches",
            &by_wildcard,
            head("a.tenant999.example.com", "/"),
        ),
        ("1,000 rules by wildcard host, none matches", &by_wildcard, head("example.com", "/")),
        ("1,000 rules by header, none matches", &by_header, head("example.com", "/")),
        ("1,000 rules by header, the last matches", &by_header, with_tenant(head("example.com", "/"))),
    ] {
        let rules = Rules::new(rules);
        measure(what, rounds, || {
            black_box(rules.find(black_box(&head)));
        });
    }
}

fn with_tenant(mut head: Head) -> Head {
    head.headers.insert("x-tenant", HeaderValue::from_static("t999"));
    head
}

fn targets(rounds: usize) {
    for algorithm in ["round_robin", "least_outstanding_requests", "weighted_random"] {
        for count in [3, 10_000] {
            let attributes = TargetGroupAttributes::parse([("load_balancing.algorithm.type", algorithm)]);
            let targets = Targets::new(count, attributes.expect("these are algorithms"));
            let now = tokio::time::Instant::now();
            measure(&format!("a target among {count} by {algorithm}"), rounds, || {
                assert!(black_box(targets.pick(now)));
            });
        }
    }
}

/// Prints the median time of one call.
fn measure(what: &str, rounds: usize, mut call: impl FnMut()) {
    let mut each: Vec<f64> = (0..rounds)
        .map(|_| {
            let (started, mut calls) = (Instant::now(), 0_u32);
            while started.elapsed() < ROUND {
                (0..256).for_each(|_| call());
                calls += 256;
            }
            started.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
        })
        .collect();
    each.sort_by(f64::total_cmp);
    println!("{what:<60} {:>8.0} ns", each[rounds / 2]);
}

fn text(pattern: String) -> TextMatch {
    TextMatch { values: vec![pattern], regex_values: Vec::new() }
}

fn rule(n: usize, condition: Condition) -> Rule {
    Rule {
        id: n.to_string(),
        priority: u32::try_from(n).expect("there are 1,000"),
        conditions: vec![condition],
        transforms: Vec::new(),
        action: Action::FixedResponse(FixedResponse { status: 200, content_type: None, body: String::new() }),
        rate_limit: None,
    }
}
