//! WASI 0.3: commands, and many requests in one instance.

use crate::{Lines, eventually, get, prepare, text};
use bytes::Bytes;
use coracle_sandbox::{
    BodyError, Container, ContainerSpec, Exit, Exports, HandleError, Localhost, Loopback, MemoryBudget,
    Network, NetworkQuotas, NetworkSpec, Prepared, StdStream,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

static HTTP: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::p3_http()));
static COMMAND: LazyLock<Prepared> = LazyLock::new(|| prepare(coracle_fixtures::p3_command()));

fn service(spec: ContainerSpec) -> Container {
    Container::new(&HTTP, spec).unwrap()
}

async fn run(args: &[&str], spec: ContainerSpec) -> Exit {
    let args = std::iter::once("guest").chain(args.iter().copied()).map(str::to_owned).collect();
    Container::new(&COMMAND, ContainerSpec { args, ..spec }).unwrap().run().await
}

#[test]
fn exports_are_recognised() {
    assert_eq!(HTTP.exports(), Exports { http: true, command: false });
    assert_eq!(COMMAND.exports(), Exports { http: false, command: true });
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_run_to_their_exit_code() {
    let lines = Lines::default();
    let spec = || ContainerSpec {
        output: Arc::new(lines.clone()),
        env: vec![("NAME".into(), "value".into())],
        ..ContainerSpec::default()
    };
    assert_eq!(run(&["print", "hello"], spec()).await, Exit::Code(0));
    assert_eq!(lines.of(StdStream::Stdout), ["hello"]);
    assert_eq!(run(&["env", "NAME"], spec()).await, Exit::Code(0));
    assert_eq!(lines.of(StdStream::Stderr), ["value"]);
    assert_eq!(run(&["read"], spec()).await, Exit::Code(0), "standard input is empty");
    assert_eq!(run(&["fail"], spec()).await, Exit::Code(1));
    assert_eq!(run(&["exit", "42"], spec()).await, Exit::Code(42));
    assert!(matches!(run(&["trap"], spec()).await, Exit::Trap(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_hold_for_commands() {
    let spec = ContainerSpec { fuel_per_run: Some(10_000_000), ..ContainerSpec::default() };
    assert_eq!(run(&["spin"], spec).await, Exit::OutOfFuel { limit: 10_000_000 });
    for what in ["spin", "sleep"] {
        let limit = Duration::from_millis(50);
        let spec = ContainerSpec { run_timeout: Some(limit), ..ContainerSpec::default() };
        assert_eq!(run(&[what], spec).await, Exit::TimedOut { after: limit }, "{what}");
    }
    let spec = ContainerSpec { memory: MemoryBudget::new(64 << 10), ..ContainerSpec::default() };
    assert!(matches!(run(&["print", "x"], spec).await, Exit::OutOfMemory { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_stay_in_the_task_and_go_where_they_may() {
    let lines = Lines::default();
    let said = async |args: &[&str], network: Network| {
        let spec = ContainerSpec { network, output: Arc::new(lines.clone()), ..ContainerSpec::default() };
        assert_eq!(run(args, spec).await, Exit::Code(0));
        lines.of(StdStream::Stdout).pop().unwrap()
    };
    let own = || {
        let localhost = Localhost::Own(Loopback::take().unwrap());
        Network::new(NetworkSpec { localhost, ..NetworkSpec::default() })
    };
    assert_eq!(said(&["sockets"], own()).await, "hello from 127.0.0.1, hi from 127.0.0.1");
    let nothing = said(&["sockets"], Network::default()).await;
    assert!(nothing.contains("Err(ErrorCode::AccessDenied"), "{nothing}");

    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port().to_string();
    let connect = ["connect", "127.0.0.1", &port];
    assert_eq!(said(&connect, Network::to([&*format!("127.0.0.1:{port}")]).unwrap()).await, "connected");
    let denied = said(&connect, Network::to([&*format!("*:{port}")]).unwrap()).await;
    assert!(denied.starts_with("connect: ErrorCode::AccessDenied"), "{denied}");
    let other_task = said(&["connect", "localhost", &port], own()).await;
    assert!(other_task.starts_with("connect: ErrorCode::ConnectionRefused"), "it is its own: {other_task}");
    let unknown = said(&["connect", "other.example", &port], Network::to(["api.example"]).unwrap()).await;
    assert!(unknown.starts_with("look-up: ErrorCode::AccessDenied"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_count_until_nobody_reads_them() {
    let memory = MemoryBudget::new(64 << 20);
    let lines = Lines::default();
    let said = async |args: &[&str], connections: u32| {
        let localhost = Localhost::Own(Loopback::take().unwrap());
        let quotas = NetworkQuotas { connections, ..NetworkQuotas::default() };
        let network = Network::new(NetworkSpec { localhost, quotas, ..NetworkSpec::default() });
        let output = Arc::new(lines.clone());
        let spec = ContainerSpec {
            network: network.clone(),
            output,
            memory: memory.clone(),
            ..ContainerSpec::default()
        };
        assert_eq!(run(args, spec).await, Exit::Code(0));
        assert_eq!((network.open_connections(), memory.current()), (0, 0));
        lines.of(StdStream::Stdout).pop().unwrap()
    };
    // One listens, and the others are streams whose sockets the guest has dropped.
    let hoarded = said(&["hoard"], 9).await;
    assert!(hoarded.starts_with("8, ") && hoarded.ends_with(", true"), "{hoarded}");
    assert!(hoarded.contains("as many sockets open as it may"), "{hoarded}");
    let accepted = said(&["hoard", "accepting"], 9).await;
    assert!(accepted.starts_with("4, ") && accepted.ends_with(", true"), "{accepted}");

    assert_eq!(said(&["buffer", "1000000"], 9).await, "Ok(())");
    assert!(memory.peak() > 1_000_000, "the guest pays for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_serves_many_requests() {
    let container = service(ContainerSpec { instance_reuse: Some(5), ..ContainerSpec::default() });
    let mut seen = Vec::new();
    for _ in 0..10 {
        seen.push(text(get(&container, "/counter").await.unwrap()).await);
    }
    assert_eq!(seen, ["1", "2", "3", "4", "5", "1", "2", "3", "4", "5"]);
    assert_eq!(container.stats().instances_started, 2);
    eventually("nothing is in flight", || container.in_flight() == 0).await;
    // What has no more to do goes after a moment.
    eventually("no instance is left", || container.stats().instances_live == 0).await;
    eventually("its memory is given back", || container.stats().memory_current == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_meet_in_one_instance() {
    let container = service(ContainerSpec::default());
    let mut asked = tokio::task::JoinSet::new();
    let mut requests = 0;
    // A guest that happens to compute gets no second request; sooner or later some meet.
    let met = loop {
        let container = container.clone();
        asked.spawn(async move { text(get(&container, "/together/3").await.unwrap()).await });
        requests += 1;
        tokio::select! {
            Some(met) = asked.join_next() => break met.unwrap(),
            () = tokio::time::sleep(Duration::from_millis(20)) => assert!(requests < 1000, "they never meet"),
        }
    };
    assert!(met.parse::<u32>().unwrap() >= 3, "{met}");
    assert!(container.stats().instances_started < requests);
    container.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_limited() {
    let spec = ContainerSpec { instance_concurrency: Some(1), ..ContainerSpec::default() };
    let container = service(ContainerSpec { request_timeout: Duration::from_millis(300), ..spec });
    let two = || get(&container, "/together/2");
    let (one, other) = tokio::join!(two(), two());
    // Each sits in an instance of its own and waits for the other in vain.
    assert!(
        matches!(one, Err(HandleError::TimedOut { .. }))
            && matches!(other, Err(HandleError::TimedOut { .. }))
    );
    assert_eq!(container.stats().instances_started, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_streamed_both_ways() {
    let container = service(ContainerSpec::default());
    let sent = Bytes::from(vec![7_u8; 4 << 20]);
    let request = Request::post("/echo").header("host", "x").body(Full::new(sent.clone())).unwrap();
    let response = container.handle(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(response.into_body().collect().await.unwrap().to_bytes() == sent);
    assert_eq!(text(get(&container, "/host").await.unwrap()).await, "Some(Scheme::Http) guest.example");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_leaves_costs_no_instance() {
    let container = service(ContainerSpec::default());
    let mut response = get(&container, "/endless").await.unwrap();
    assert!(response.body_mut().frame().await.unwrap().is_ok());
    drop(response);
    eventually("it is over", || container.in_flight() == 0).await;
    assert_eq!(text(get(&container, "/counter").await.unwrap()).await, "2", "the same instance goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trap_discards_the_instance_and_all_it_served() {
    let container = service(ContainerSpec::default());
    let waiting = tokio::spawn({
        let container = container.clone();
        async move { get(&container, "/together/9").await }
    });
    // A trap hits the instance it happens in; sooner or later it is that one.
    while !waiting.is_finished() {
        let trapped = get(&container, "/trap").await;
        assert!(matches!(trapped, Err(HandleError::Guest(Exit::Trap(_)))), "{trapped:?}");
    }
    assert!(matches!(waiting.await.unwrap(), Err(HandleError::Guest(Exit::Trap(_)))));
    assert_eq!(text(get(&container, "/counter").await.unwrap()).await, "1", "a new instance");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_response_is_an_error_not_an_end() {
    let container = service(ContainerSpec::default());
    let body = get(&container, "/trap-later").await.unwrap().into_body();
    assert!(matches!(body.collect().await, Err(BodyError::Guest(_))));
    assert!(matches!(get(&container, "/error").await, Err(HandleError::InvalidResponse(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_outs_come_from_outside_and_spare_the_neighbours() {
    let spec = ContainerSpec { request_timeout: Duration::from_millis(400), ..ContainerSpec::default() };
    for path in ["/hang", "/spin"] {
        let container = service(spec.clone());
        assert!(matches!(get(&container, path).await, Err(HandleError::TimedOut { .. })), "{path}");
        eventually("the instance is gone", || container.stats().instances_live == 0).await;
        assert_eq!(text(get(&container, "/counter").await.unwrap()).await, "1", "{path}");
    }
    let container = service(spec);
    let hanging = get(&container, "/hang");
    let busy = async {
        let mut response = get(&container, "/endless").await.unwrap();
        let mut read = 0;
        // Reads on while the other is given up.
        for _ in 0..20 {
            read += response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap().len();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        read
    };
    let (given_up, read) = tokio::join!(hanging, busy);
    assert!(matches!(given_up, Err(HandleError::TimedOut { .. })));
    assert!(read > 0);
    eventually("then the instance goes", || container.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn work_after_the_response_is_finished_but_not_for_ever() {
    let lines = Lines::default();
    let container = service(ContainerSpec {
        output: Arc::new(lines.clone()),
        request_timeout: Duration::from_millis(300),
        instance_reuse: Some(1),
        ..ContainerSpec::default()
    });
    assert_eq!(text(get(&container, "/afterwards").await.unwrap()).await, "done");
    eventually("it has printed", || lines.of(StdStream::Stdout) == ["afterwards"]).await;
    assert_eq!(text(get(&container, "/busy-afterwards").await.unwrap()).await, "done");
    eventually("it is stopped", || container.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fuel_per_request_is_deterministic() {
    let spec = ContainerSpec { fuel_per_request: Some(50_000_000), ..ContainerSpec::default() };
    let container = service(spec.clone());
    assert_eq!(text(get(&container, "/hello").await.unwrap()).await, "hello from 0.3\n");
    let out = HandleError::Guest(Exit::OutOfFuel { limit: 50_000_000 });
    assert_eq!(get(&container, "/spin").await.unwrap_err(), out);
    let reused = service(ContainerSpec { instance_reuse: Some(10), ..spec });
    for _ in 0..3 {
        assert_eq!(text(get(&reused, "/hello").await.unwrap()).await, "hello from 0.3\n");
    }
    assert_eq!(reused.stats().instances_started, 1);
    assert_eq!(get(&reused, "/spin").await.unwrap_err(), out);
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_ends_everything() {
    let container = service(ContainerSpec::default());
    let hanging = tokio::spawn({
        let container = container.clone();
        async move { get(&container, "/hang").await }
    });
    eventually("it hangs", || container.in_flight() == 1 && container.stats().instances_live == 1).await;
    container.kill();
    assert_eq!(hanging.await.unwrap().unwrap_err(), HandleError::Guest(Exit::Killed));
    assert_eq!(get(&container, "/hello").await.unwrap_err(), HandleError::Stopping);
    eventually("nothing is left", || container.stats().instances_live == 0).await;
}
