//! The router as a plain reverse proxy beside nginx and HAProxy, and as the front of components beside
//! nginx in front of three `wasmtime serve`. In turns in one run (A B C A B C …); each server is a process
//! of its own, and all of them meet the same target over the same number of connections.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use coracle_fixtures::example_hello;
use coracle_router::{
    Action, Backend, Forward, HealthCheck, ListenerAttributes, ListenerConfig, ListenerProtocol,
    ListenerState, LoadBalancer, LoadBalancerAttributes, RegisteredTarget, Router, RouterConfig,
    RoutingTable, TargetGroup, TargetGroupAttributes, TargetId, TargetProtocol, WeightedGroup,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::load::{Outcome, closed_loop, fixed_rate};
use crate::peers::{Coracle, Running, coracle_binary, exchange, find, poll, wasmtime_serve};

const CONNECTIONS: usize = 32;
const TURN: Duration = Duration::from_secs(4);
const TURNS: usize = 5;
/// Connections held open to see what an idle one costs.
const IDLE: usize = 2000;

/// What answers requests in a turn.
struct Side {
    name: &'static str,
    address: SocketAddr,
    host: &'static str,
    outcomes: Vec<Outcome>,
    _processes: Vec<Running>,
}

impl Side {
    fn new(name: &'static str, address: SocketAddr, processes: Vec<Running>) -> Self {
        Self { name, address, host: "localhost", outcomes: Vec::new(), _processes: processes }
    }

    fn median(&self) -> f64 {
        let mut rates: Vec<f64> = self.outcomes.iter().map(|outcome| outcome.requests_per_second).collect();
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    }
}

pub(crate) async fn run() -> anyhow::Result<()> {
    plain().await?;
    in_front_of_components().await
}

/// One static target, and each proxy before it.
async fn plain() -> anyhow::Result<()> {
    println!("\nReverse proxy: GET / of a static target, {CONNECTIONS} connections");
    let dir = tempfile::tempdir()?;
    let (target, target_address) = part("static-target", &[])?;
    let (router, router_address) = part("proxy", &[&target_address.to_string()])?;
    let router_pid = router.id();
    let mut sides = vec![Side::new("coracle", router_address, vec![router])];
    if let Some((process, address)) = nginx(&dir.path().join("nginx"), &[target_address])? {
        sides.push(Side::new("nginx", address, vec![process]));
    }
    if let Some((process, address)) = haproxy(dir.path(), target_address)? {
        sides.push(Side::new("haproxy", address, vec![process]));
    }
    sides.push(Side::new("no proxy", target_address, vec![target]));
    turns(&mut sides).await?;

    let lowest = sides.iter().map(Side::median).fold(f64::INFINITY, f64::min);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of requests")]
    let half = (lowest / 2.0) as u32;
    println!("  latency at {half} requests/s, half of what the slowest of them took:");
    for side in &sides {
        let outcome = fixed_rate(side.address, side.host, half, TURN).await?;
        print_row("", side.name, &outcome);
    }

    let before = resident(router_pid)?;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        let mut stream = TcpStream::connect(router_address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await?;
        anyhow::ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "the router did not answer");
        idle.push(stream);
    }
    let each = resident(router_pid)?.saturating_sub(before) / IDLE as u64;
    println!("  memory of an idle keep-alive connection after a request: {each} bytes ({IDLE} open)");
    Ok(())
}

/// Coracle, and what one would put together otherwise.
async fn in_front_of_components() -> anyhow::Result<()> {
    println!("\nBalancing 3 × hello, {CONNECTIONS} connections, a fresh instance for each request");
    let Some(wasmtime) = find("wasmtime") else {
        println!("  `wasmtime` is not installed: left out. benches/setup.sh installs it.");
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), 3)?;
    let mut ours = Side::new("coracle", coracle.router, vec![]);
    ours.host = "hello.default.localhost";
    let mut sides = vec![ours];
    let (mut servers, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (server, address) = wasmtime_serve(&wasmtime, example_hello())?;
        servers.push(server);
        addresses.push(address);
    }
    if let Some((process, address)) = nginx(&dir.path().join("nginx"), &addresses)? {
        servers.push(process);
        sides.push(Side::new("nginx + wasmtime", address, servers));
    }
    turns(&mut sides).await
}

async fn turns(sides: &mut [Side]) -> anyhow::Result<()> {
    for side in &*sides {
        closed_loop(side.address, side.host, CONNECTIONS, Duration::from_secs(1)).await.context(side.name)?;
    }
    println!(
        "  {:<6}{:<18}{:>12}{:>10}{:>10}{:>10}",
        "turn", "", "requests/s", "p50 µs", "p99 µs", "p99.9 µs"
    );
    for turn in 1..=TURNS {
        for side in &mut *sides {
            let outcome = closed_loop(side.address, side.host, CONNECTIONS, TURN).await.context(side.name)?;
            print_row(&turn.to_string(), side.name, &outcome);
            side.outcomes.push(outcome);
        }
    }
    let ours = sides[0].median();
    for side in &sides[1..] {
        println!("  median coracle / {}: {:.2}", side.name, ours / side.median());
    }
    Ok(())
}

fn print_row(turn: &str, who: &str, outcome: &Outcome) {
    let quantile = |q: f64| outcome.latency.value_at_quantile(q);
    println!(
        "  {turn:<6}{who:<18}{:>12.0}{:>10}{:>10}{:>10}",
        outcome.requests_per_second,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999)
    );
}

/// Bytes of memory a process has resident.
fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// Starts this program again as a part of the bench, which prints its address when it serves.
fn part(name: &str, args: &[&str]) -> anyhow::Result<(Running, SocketAddr)> {
    use std::io::BufRead as _;

    let mut child = Command::new(std::env::current_exe()?)
        .arg(PART)
        .arg(name)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().context("it was asked for")?;
    let child = Running::new(child);
    let mut line = String::new();
    std::io::BufReader::new(output).read_line(&mut line)?;
    Ok((child, line.trim().parse().with_context(|| format!("{name} did not start"))?))
}

/// The argument that makes this program a part of a bench.
pub(crate) const PART: &str = "--part";

/// Runs as a part until killed.
pub(crate) async fn run_part(args: &[String]) -> anyhow::Result<()> {
    match args {
        [name] if name == "static-target" => static_target().await,
        [name, target] if name == "proxy" => proxy(target.parse()?).await,
        _ => anyhow::bail!("no part of a bench is called {args:?}"),
    }
}

fn announce(address: SocketAddr) -> anyhow::Result<()> {
    let mut output = std::io::stdout();
    writeln!(output, "{address}")?;
    Ok(output.flush()?)
}

/// Answers every head by the same bytes: as little of a server as there can be.
async fn static_target() -> anyhow::Result<()> {
    const ANSWER: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, world\n";
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(4096);
            while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
                if buffer.ends_with(b"\r\n\r\n") {
                    buffer.clear();
                    if stream.write_all(ANSWER).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// A router whose one listener forwards to one target group with one static target.
async fn proxy(target: SocketAddr) -> anyhow::Result<()> {
    let router = Router::new(RouterConfig::default(), &prometheus::Registry::new())?;
    let mut table = RoutingTable::new("us-east-1");
    table.insert_target_group(TargetGroup {
        id: "group".to_owned(),
        name: "group".to_owned(),
        protocol: TargetProtocol::Http1,
        tls: false,
        health_check: HealthCheck { is_enabled: false, ..HealthCheck::default() },
        attributes: TargetGroupAttributes::default(),
        activates: false,
        targets: vec![RegisteredTarget {
            id: TargetId { id: target.ip().to_string(), port: target.port() },
            backend: Backend::Address(target),
        }],
    });
    let groups = vec![WeightedGroup { group: "group".to_owned(), weight: 1 }];
    table.insert_listener(ListenerConfig {
        attributes: ListenerAttributes::default(),
        id: "listener".to_owned(),
        load_balancer: LoadBalancer {
            id: "lb".to_owned(),
            name: "lb".to_owned(),
            attributes: LoadBalancerAttributes::DEFAULT,
        },
        address: ([127, 0, 0, 1], 0).into(),
        protocol: ListenerProtocol::Http,
        rules: vec![],
        default_action: Action::Forward(Forward { groups, stickiness: None }),
    });
    router.publish(table);
    let mut states = router.listener_states();
    let default_port = TcpListener::bind("127.0.0.1:0").await?;
    let served = tokio::spawn(router.serve(default_port, std::future::pending()));
    let state = states.wait_for(|states| !states.is_empty()).await?.get("listener").cloned();
    match state {
        Some(ListenerState::Listening(address)) => announce(address)?,
        other => anyhow::bail!("the listener is {other:?}"),
    }
    let drained = served.await??;
    anyhow::bail!("the router stopped: {drained:?}")
}

/// nginx with as many workers as processors, in front of these targets, if it is installed.
fn nginx(dir: &Path, targets: &[SocketAddr]) -> anyhow::Result<Option<(Running, SocketAddr)>> {
    let Some(binary) = find_daemon("nginx") else {
        println!("  nginx is not installed: its row is left out. benches/setup.sh installs it.");
        return Ok(None);
    };
    std::fs::create_dir_all(dir)?;
    let address = StdListener::bind("127.0.0.1:0")?.local_addr()?;
    let servers: String = targets.iter().map(|target| format!("server {target};")).collect();
    let dir = dir.display();
    let config = format!(
        "daemon off; worker_processes auto; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
         uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         upstream targets {{ {servers} keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen {address} reuseport; location / {{ proxy_pass http://targets;\n\
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
    );
    let path = Path::new(&dir.to_string()).join("nginx.conf");
    std::fs::write(&path, config)?;
    let mut command = Command::new(binary);
    command.arg("-c").arg(&path).arg("-e").arg(path.with_file_name("error.log"));
    serving("nginx", command, address).map(Some)
}

/// HAProxy with its defaults but for the limits that are in the way, if it is installed.
fn haproxy(dir: &Path, target: SocketAddr) -> anyhow::Result<Option<(Running, SocketAddr)>> {
    let Some(binary) = find_daemon("haproxy") else {
        println!("  HAProxy is not installed: its row is left out. benches/setup.sh installs it.");
        return Ok(None);
    };
    let address = StdListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = format!(
        "global\n  maxconn 8192\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n\
         \x20 timeout server 60s\n  http-reuse always\n  option forwardfor\nfrontend in\n  bind {address}\n\
         \x20 default_backend out\nbackend out\n  server one {target} pool-max-conn 256\n"
    );
    let path = dir.join("haproxy.cfg");
    std::fs::write(&path, config)?;
    let mut command = Command::new(binary);
    command.arg("-f").arg(&path);
    serving("HAProxy", command, address).map(Some)
}

fn serving(name: &str, mut command: Command, address: SocketAddr) -> anyhow::Result<(Running, SocketAddr)> {
    let child = Running::new(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
    poll(name, || exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok())?;
    Ok((child, address))
}

/// Debian has daemons where users don't look.
fn find_daemon(name: &str) -> Option<std::path::PathBuf> {
    let there = Path::new("/usr/sbin").join(name);
    find(name).or_else(|| there.is_file().then_some(there))
}
