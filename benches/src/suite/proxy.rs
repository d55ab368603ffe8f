//! The router as a plain reverse proxy beside nginx and HAProxy, with a relay of bytes for a floor, and as the front of
//! components beside nginx in front of three `wasmtime serve`. In turns in one run (A B C A B C …); each server is a process
//! of its own, and all of them meet the same target over the same number of connections.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use coracle_fixtures::example_hello;
use coracle_router::{
    Action, Backend, Forward, HealthCheck, ListenerAttributes, ListenerConfig, ListenerProtocol,
    ListenerState, LoadBalancer, LoadBalancerAttributes, RegisteredTarget, Router, RouterConfig,
    RoutingTable, TargetGroup, TargetGroupAttributes, TargetId, TargetProtocol, WeightedGroup,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::peers::{Coracle, Running, coracle_binary, exchange, find, poll, wasmtime_serve};
use crate::proc::resident;
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::suite::relay;
use crate::suite::throughput::{self, Server, Ways, rate_and_latency};

const CONNECTIONS: usize = 32;

const NGINX: &str = "worker_processes auto, reuseport, keep-alive to the targets (256), access log off";
const HAPROXY: &str = "its default threads, http-reuse always, no log";

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    plain(context, &mut findings).await?;
    in_front_of_components(context, &mut findings).await?;
    Ok(findings)
}

fn server(id: &str, label: &str, side: Whose, address: SocketAddr, command: &str, settings: &str) -> Server {
    Server { row: Row::new(id, label, side, command).with_settings(settings), address, host: "localhost" }
}

/// One static target, and each proxy before it.
async fn plain(context: &Context, findings: &mut Findings) -> anyhow::Result<()> {
    let dir = Directory::new()?;
    let (_target, target_address) = part("static-target", &[])?;
    let (router, router_address) = part("proxy", &[&target_address.to_string()])?;
    let settings = "one listener, one target group, one target; no health check; access log off";
    let mut servers = vec![server(
        "coracle",
        "Coracle's router",
        Whose::Ours,
        router_address,
        "coracle_router::Router::serve",
        settings,
    )];
    let nginx = nginx(&dir.path().join("nginx"), &[target_address], findings)?;
    if let Some((_, address)) = &nginx {
        servers.push(server("nginx", "nginx", Whose::Peer, *address, "nginx -c nginx.conf", NGINX));
    }
    let haproxy = haproxy(dir.path(), target_address, findings)?;
    if let Some((_, address)) = &haproxy {
        servers.push(server("haproxy", "HAProxy", Whose::Peer, *address, "haproxy -f haproxy.cfg", HAPROXY));
    }
    let (_relay, relay_address) = part(relay::NAME, &[&target_address.to_string()])?;
    let settings = format!(
        "{} threads; looks at no byte, and keeps a connection to the target for each",
        relay::THREADS
    );
    let command = "tokio::io::copy_bidirectional";
    servers.push(server("relay", "floor: a relay of bytes", Whose::Bound, relay_address, command, &settings));
    let settings = "answers every head by the same bytes";
    servers.push(server(
        "target",
        "no proxy: the target itself",
        Whose::Bound,
        target_address,
        "GET /",
        settings,
    ));
    let before_target = Ways::Before("target");
    findings.tables.extend(rate_and_latency(context, servers, CONNECTIONS, "proxy", before_target).await?);

    let count: usize = context.pick(50, 2000);
    let before = resident(router.id())?;
    let mut idle = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(router_address).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        let mut answer = [0; 4096];
        let read = stream.read(&mut answer).await?;
        anyhow::ensure!(answer[..read].starts_with(b"HTTP/1.1 200"), "the router did not answer");
        idle.push(stream);
    }
    #[expect(clippy::cast_precision_loss, reason = "kilobytes")]
    let each = resident(router.id())?.saturating_sub(before) as f64 / count as f64;
    let mut table = Table::new(
        "idle-connection",
        "Memory of an idle keep-alive connection",
        format!("Resident memory of the router's process after {count} connections had one request each, by connection."),
        Unit::Bytes,
    )
    .linear();
    let row = Row::new("coracle", "Coracle's router", Whose::Ours, "GET /, then nothing");
    table.rows.push(row.with_turns(vec![each]));
    findings.tables.push(table);
    Ok(())
}

/// Coracle, and what one would put together otherwise.
async fn in_front_of_components(context: &Context, findings: &mut Findings) -> anyhow::Result<()> {
    let Some(wasmtime) = find("wasmtime") else {
        findings.leave_out(
            "balancing three components, beside nginx and 3 × wasmtime serve",
            "wasmtime is not installed; benches/setup.sh installs it",
        );
        return Ok(());
    };
    let dir = Directory::new()?;
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    coracle.deploy("hello", example_hello(), 3)?;
    let settings = "a service of three tasks; every limit on; a fresh instance for each request";
    let mut ours = server("coracle", "coracle up", Whose::Ours, coracle.router, "coracle up", settings);
    ours.host = "hello.default.localhost";
    let mut servers = vec![ours];
    let (mut processes, mut addresses) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (process, address) = wasmtime_serve(&wasmtime, example_hello())?;
        processes.push(process);
        addresses.push(address);
    }
    let nginx = nginx(&dir.path().join("nginx"), &addresses, findings)?;
    if let Some((_, address)) = &nginx {
        let command = "nginx -c nginx.conf; 3 × wasmtime serve -S cli hello.wasm";
        servers.push(server("nginx", "nginx + 3 × wasmtime serve", Whose::Peer, *address, command, NGINX));
    }
    findings.tables.extend(rate_and_latency(context, servers, CONNECTIONS, "balancing", Ways::Apart).await?);
    Ok(())
}

/// Starts this program again as a part of the bench, which prints its address when it serves.
pub(super) fn part(name: &str, args: &[&str]) -> anyhow::Result<(Running, SocketAddr)> {
    use std::io::BufRead as _;

    let mut command = Command::new(std::env::current_exe()?);
    let mut child = Running::spawn(command.arg(PART).arg(name).args(args).stdout(Stdio::piped()))?;
    let output = child.take_output().context("it was asked for")?;
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
        [name, target] if name == relay::NAME => relay::run(target.parse()?).await,
        [name, body] if name == throughput::HYPER => throughput::bare_hyper(body.clone()).await,
        _ => anyhow::bail!("no part of a bench is called {args:?}"),
    }
}

pub(super) fn announce(address: SocketAddr) -> anyhow::Result<()> {
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
fn nginx(
    dir: &Path,
    targets: &[SocketAddr],
    findings: &mut Findings,
) -> anyhow::Result<Option<(Running, SocketAddr)>> {
    let Some(binary) = find("nginx") else {
        findings.leave_out("nginx", "it is not installed; benches/setup.sh installs it");
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
fn haproxy(
    dir: &Path,
    target: SocketAddr,
    findings: &mut Findings,
) -> anyhow::Result<Option<(Running, SocketAddr)>> {
    let Some(binary) = find("haproxy") else {
        findings.leave_out("HAProxy", "it is not installed; benches/setup.sh installs it");
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
    let child = Running::spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    poll(name, || exchange(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok())?;
    Ok((child, address))
}
