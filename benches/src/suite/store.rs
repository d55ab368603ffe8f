//! Durable writes: each is on the disk before it is answered. Beside etcd, if it is there.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use coracle_store::{RedbStore, Store, transact};
use coracle_types::{Changes, Family, FamilyId, FamilyRecord};

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::load::ask;
use crate::peers::{Running, exchange, find, poll};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::turns::{Side, Turn, conclude};

/// How many write at the same time.
const CLIENTS: &[usize] = &[1, 16, 64];

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let stretch = context.pick(Duration::from_millis(100), Duration::from_secs(2));
    let dir = Directory::new()?;
    let etcd = match find("etcd") {
        Some(binary) => Some(etcd(&binary, &dir.path().join("etcd"))?),
        None => {
            findings.leave_out(
                "etcd",
                "not installed; Debian's package etcd-server, which benches/setup.sh installs",
            );
            None
        }
    };
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(dir.path().join("state.redb"))?);
    let mut sides = Vec::new();
    for &clients in context.pick(&CLIENTS[..2], CLIENTS) {
        let row = Row::new(
            format!("redb-{clients}"),
            format!("Coracle's store, {clients} at once"),
            Whose::Ours,
            "transact",
        )
        .with_settings("compare-and-swap on a snapshot; one fsync for all that wait together");
        let store = Arc::clone(&store);
        sides.push(Side::new(row, move || {
            let store = Arc::clone(&store);
            many(clients, stretch, move |client, until| write_records(Arc::clone(&store), client, until))
        }));
        if let Some((_, address)) = &etcd {
            let address = *address;
            let row = Row::new(
                format!("etcd-{clients}"),
                format!("etcd, {clients} at once"),
                Whose::Peer,
                "POST /v3/kv/put",
            )
            .with_settings(
                "one member, its defaults; 6-byte keys and 256-byte values; asked through its JSON gateway",
            );
            sides.push(Side::new(row, move || {
                many(clients, stretch, move |client, until| put(address, client, until))
            }));
        }
    }
    context.interleave(&mut sides, context.pick(1, 5)).await;
    let table = Table::new(
        "writes",
        "Durable writes per second",
        "Closed loop: each client sends its next write when the last one is on the disk.",
        Unit::PerSecond,
    )
    .higher_is_better();
    findings.tables.push(conclude(table, sides, &[]));
    findings.notes.push(
        "No ratio is printed: Coracle's store is called in its own process, etcd over loopback through a gateway that \
         costs it a part of what its gRPC clients see; and etcd replicates, where there are several."
            .to_owned(),
    );
    Ok(findings)
}

/// So many clients for so long, and how many writes a second they got done.
async fn many<F>(
    clients: usize,
    stretch: Duration,
    client: impl Fn(usize, Instant) -> F,
) -> anyhow::Result<Turn>
where
    F: Future<Output = anyhow::Result<Times>> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients).map(|number| tokio::spawn(client(number, begun + stretch))).collect();
    let mut all = Times::default();
    for task in tasks {
        all.add(&task.await??);
    }
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let rate = all.count() as f64 / begun.elapsed().as_secs_f64();
    Ok(Turn::of_figure(rate, "written"))
}

async fn write_records(store: Arc<dyn Store>, client: usize, until: Instant) -> anyhow::Result<Times> {
    let mut times = Times::default();
    let mut latest = 0;
    while Instant::now() < until {
        let family: Family = format!("client{client}-{}", latest % 100).parse()?;
        let id = FamilyId { region: "us-east-1".parse()?, family };
        let begun = Instant::now();
        transact(&*store, |_| {
            let mut changes = Changes::new();
            changes.put(FamilyRecord { id: id.clone(), latest });
            Ok::<_, std::convert::Infallible>((changes, ()))
        })
        .await?;
        times.record(begun.elapsed());
        latest += 1;
    }
    Ok(times)
}

/// etcd with a directory of its own, on free ports.
fn etcd(binary: &Path, dir: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (clients, peers) = (free()?, free()?);
    let child = Command::new(binary)
        .arg("--data-dir")
        .arg(dir)
        .arg(format!("--listen-client-urls=http://{clients}"))
        .arg(format!("--advertise-client-urls=http://{clients}"))
        .arg(format!("--listen-peer-urls=http://{peers}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
        .arg(format!("--initial-cluster=default=http://{peers}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let child = Running::new(child);
    poll("etcd", || {
        let answer =
            exchange(clients, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        answer.contains("\"true\"").then_some(())
    })?;
    Ok((child, clients))
}

async fn put(address: SocketAddr, client: usize, until: Instant) -> anyhow::Result<Times> {
    // Base64, as the gateway wants it: 256 bytes of zeros.
    let value = format!("{}==", "A".repeat(342));
    let mut times = Times::default();
    let mut connection = None;
    let mut number = 0_u32;
    let mut buffer = Vec::with_capacity(1024);
    while Instant::now() < until {
        // Eight letters of base64 are six bytes; their meaning is none of etcd's business.
        let body = format!("{{\"key\":\"{client:04}{:04}\",\"value\":\"{value}\"}}", number % 100);
        let request = format!(
            "POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let begun = Instant::now();
        ask(&mut connection, address, &request, &mut buffer).await.context("etcd")?;
        times.record(begun.elapsed());
        number += 1;
    }
    Ok(times)
}
