//! Durable writes and reads: each write is on the disk before it is answered. Coracle's API beside etcd, if it is
//! there, each asked over the loopback in its own protocol; and the store itself, called within this process.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use coracle_store::{RedbStore, Store, transact};
use coracle_types::{Changes, Family, FamilyId, FamilyRecord, State};
use serde_json::json;

use crate::bench::Context;
use crate::cleanup::Directory;
use crate::grpc::{Grpc, field};
use crate::peers::{Coracle, Running, coracle_binary, exchange, find, poll};
use crate::report::{Findings, Row, Side as Whose, Table, Unit};
use crate::stats::Times;
use crate::suite::api::Connection;
use crate::turns::{Pair, Side, Turn, conclude, latencies};

/// How many ask at the same time, each on a connection of its own.
const CLIENTS: &[usize] = &[1, 16, 64];
/// The key of each client's tag.
const TAG: &str = "written";
/// Bytes of a value, as in etcd's own benchmark; the longest a tag may have.
const VALUE: usize = 256;

/// A value that no other write has.
fn value(number: u32) -> String {
    format!("{number:0VALUE$}")
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
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
    let coracle = Coracle::start(&coracle_binary()?, dir.path())?;
    let levels = context.pick(&CLIENTS[..2], CLIENTS);
    let most = levels.iter().copied().max().unwrap_or(1);
    let arns = ApiClient::clusters(&coracle, most)?;
    let peers = Peers {
        store: Arc::new(RedbStore::open(dir.path().join("state.redb"))?),
        api: coracle.api,
        arns: arns.into(),
        etcd: etcd.as_ref().map(|(_, address)| *address),
    };
    let pairs: Vec<Pair> = levels
        .iter()
        .map(|clients| Pair::new(&format!("api-{clients}"), &format!("etcd-{clients}")))
        .collect();
    for work in [Work::Write, Work::Read] {
        let mut sides = peers.sides(context, work, levels);
        context.interleave(&mut sides, context.pick(1, 5)).await;
        let (id, what, measured) = match work {
            Work::Write => (
                "write",
                "Durable writes",
                "Each client sends its next write when the last one is on the disk, and at the end reads what it wrote.",
            ),
            Work::Read => ("read", "Reads", "Each client asks for the value it has written."),
        };
        let mut took = Table::new(
            &format!("{id}-latency"),
            format!("How long one takes: {}", what.to_lowercase()),
            "In the same closed loop, from the call to its answer.",
            Unit::Seconds,
        );
        took.rows = latencies(&sides);
        let rate = Table::new(&format!("{id}s"), format!("{what} per second"), measured, Unit::PerSecond)
            .higher_is_better();
        findings.tables.extend([conclude(rate, sides, &pairs), took]);
    }
    findings.notes.push(
        "Both are one process on the same file system and answer over the loopback: etcd in gRPC, as its own clients ask, \
         Coracle's API in JSON over HTTP/1.1, as AWS's SDKs do, checked, authorized and audited. etcd can replicate to \
         other machines, which Coracle's store can't. The store by itself is called within this process and has no peer."
            .to_owned(),
    );
    Ok(findings)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    Write,
    Read,
}

/// Those who are asked.
struct Peers {
    store: Arc<RedbStore>,
    api: SocketAddr,
    /// A cluster for each client, whose tag has its value.
    arns: Arc<[String]>,
    etcd: Option<SocketAddr>,
}

impl Peers {
    fn sides(&self, context: &Context, work: Work, levels: &[usize]) -> Vec<Side<'_>> {
        let stretch = context.pick(Duration::from_millis(100), Duration::from_secs(1));
        let mut sides = Vec::new();
        for &clients in levels {
            let row = |id: &str, who: &str, whose, command: &str| {
                Row::new(format!("{id}-{clients}"), format!("{who}, {clients} at once"), whose, command)
            };
            let (of_store, of_api, of_etcd) = match work {
                Work::Write => ("transact", "TagResource", "etcdserverpb.KV/Put"),
                Work::Read => ("Store::snapshot, get", "ListTagsForResource", "etcdserverpb.KV/Range"),
            };
            // Readers of a snapshot don't know of each other.
            if work == Work::Write || clients == 1 {
                let row = row("redb", "Coracle's store itself", Whose::Ours, of_store)
                    .with_settings("in this process, small records; one fsync for all that wait together");
                sides.push(Side::new(row, move || {
                    let store = Arc::clone(&self.store);
                    many(clients, stretch, move |client, until| {
                        let store = Arc::clone(&store);
                        async move { StoreClient::new(store, client)?.work(work, until).await }
                    })
                }));
            }
            let row_of_api = row("api", "Coracle's API", Whose::Ours, of_api).with_settings(
                "coracle up, keep-alive; a tag of 256 bytes; every write synced before its answer",
            );
            sides.push(Side::new(row_of_api, move || {
                let (api, arns) = (self.api, Arc::clone(&self.arns));
                many(clients, stretch, move |client, until| {
                    let (connection, arn) = (Connection::new(api), arns[client].clone());
                    ApiClient { connection, arn }.work(work, until)
                })
            }));
            if let Some(address) = self.etcd {
                let row = row("etcd", "etcd", Whose::Peer, of_etcd).with_settings(
                    "one member, its defaults; 8-byte keys, 256-byte values; gRPC, a connection for each client; reads \
                     are linearizable",
                );
                sides.push(Side::new(row, move || {
                    many(clients, stretch, move |client, until| async move {
                        EtcdClient::connect(address, client).await?.work(work, until).await
                    })
                }));
            }
        }
        sides
    }
}

/// So many clients for so long, and how often a second they got it done.
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
    Ok(Turn { times: Some(all), ..Turn::of_figure(rate, "done, and checked") })
}

/// One that writes and reads a value of its own.
trait Client: Send + Sized {
    fn write(&mut self, number: u32) -> impl Future<Output = anyhow::Result<()>> + Send;

    fn read(&mut self) -> impl Future<Output = anyhow::Result<u32>> + Send;

    /// One after the other; what was written last must be what is read.
    fn work(mut self, work: Work, until: Instant) -> impl Future<Output = anyhow::Result<Times>> + Send {
        async move {
            let mut times = Times::default();
            let mut number = 0;
            while Instant::now() < until {
                let begun = Instant::now();
                match work {
                    Work::Write => self.write(number).await?,
                    Work::Read => drop(self.read().await?),
                }
                times.record(begun.elapsed());
                number += 1;
            }
            if let (Work::Write, Some(last)) = (work, number.checked_sub(1)) {
                let found = self.read().await?;
                ensure!(found == last, "it wrote {last}, and reads {found}");
            }
            Ok(times)
        }
    }
}

/// A record in the store, whose number is the value.
struct StoreClient {
    store: Arc<RedbStore>,
    id: FamilyId,
}

impl StoreClient {
    fn new(store: Arc<RedbStore>, client: usize) -> anyhow::Result<Self> {
        let family: Family = format!("client{client}").parse()?;
        Ok(Self { store, id: FamilyId { region: "us-east-1".parse()?, family } })
    }
}

impl Client for StoreClient {
    async fn write(&mut self, number: u32) -> anyhow::Result<()> {
        let write = |_: &State| {
            let mut changes = Changes::new();
            changes.put(FamilyRecord { id: self.id.clone(), latest: number });
            Ok::<_, std::convert::Infallible>((changes, ()))
        };
        transact(&*self.store, write).await?;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<u32> {
        let found = self.store.snapshot().families.get(&self.id).map(|found| found.value.latest);
        found.context("the record is not there")
    }
}

/// A tag of a cluster.
struct ApiClient {
    connection: Connection,
    arn: String,
}

impl ApiClient {
    /// Makes the cluster of each client, and the value; their ARNs.
    fn clusters(coracle: &Coracle, clients: usize) -> anyhow::Result<Vec<String>> {
        let create = |client: usize| {
            let tags = json!([{ "key": TAG, "value": value(0) }]);
            let cluster = json!({ "clusterName": format!("client{client}"), "tags": tags });
            let created = coracle.ecs("CreateCluster", &cluster)?;
            let arn = created["cluster"]["clusterArn"].as_str();
            arn.map(str::to_owned).with_context(|| format!("CreateCluster: {created}"))
        };
        (0..clients).map(create).collect()
    }
}

impl Client for ApiClient {
    async fn write(&mut self, number: u32) -> anyhow::Result<()> {
        let tags = json!([{ "key": TAG, "value": value(number) }]);
        self.connection.ecs("TagResource", &json!({ "resourceArn": self.arn, "tags": tags })).await.map(drop)
    }

    async fn read(&mut self) -> anyhow::Result<u32> {
        let tags = self.connection.ecs("ListTagsForResource", &json!({ "resourceArn": self.arn })).await?;
        let value = tags["tags"][0]["value"].as_str();
        value.and_then(|value| value.parse().ok()).with_context(|| format!("no value in {tags}"))
    }
}

/// A key of etcd's.
struct EtcdClient {
    grpc: Grpc,
    key: Vec<u8>,
}

impl EtcdClient {
    async fn connect(address: SocketAddr, client: usize) -> anyhow::Result<Self> {
        Ok(Self { grpc: Grpc::connect(address).await?, key: field(1, format!("{client:08}").as_bytes()) })
    }
}

impl Client for EtcdClient {
    async fn write(&mut self, number: u32) -> anyhow::Result<()> {
        let message = [&self.key[..], &field(2, value(number).as_bytes())].concat();
        self.grpc.call("/etcdserverpb.KV/Put", &message).await.map(drop)
    }

    async fn read(&mut self) -> anyhow::Result<u32> {
        let found = self.grpc.call("/etcdserverpb.KV/Range", &self.key).await?;
        // The field `value` of the one that is found: a number in as many digits as no other field has.
        let begin = found.windows(VALUE).position(|part| part.iter().all(u8::is_ascii_digit));
        let digits = begin.and_then(|begin| std::str::from_utf8(&found[begin..begin + VALUE]).ok());
        digits.and_then(|digits| digits.parse().ok()).context("no value for the key")
    }
}

/// etcd with a directory of its own, on free ports.
fn etcd(binary: &Path, dir: &Path) -> anyhow::Result<(Running, SocketAddr)> {
    let free = || TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let (clients, peers) = (free()?, free()?);
    let mut command = Command::new(binary);
    command
        .arg("--data-dir")
        .arg(dir)
        .arg(format!("--listen-client-urls=http://{clients}"))
        .arg(format!("--advertise-client-urls=http://{clients}"))
        .arg(format!("--listen-peer-urls=http://{peers}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peers}"))
        .arg(format!("--initial-cluster=default=http://{peers}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = Running::spawn(&mut command)?;
    poll("etcd", || {
        let answer =
            exchange(clients, "GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        answer.contains("\"true\"").then_some(())
    })?;
    Ok((child, clients))
}
