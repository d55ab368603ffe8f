//! Serves the API on memory alone, with the real scheduler and a node that only pretends: every task it
//! is given runs at once and stops when it is told to. For trying clients against the API by hand.
//!
//! Run with: `cargo run -p coracle-server --example pretend -- 127.0.0.1:4566 [KEY_ID SECRET]`

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_logs::LogStore;
use coracle_registry::Registry;
use coracle_scheduler::{PlanRng, plan};
use coracle_server::{Api, ApiConfig, app, serve};
use coracle_store::{MemoryStore, Store, transact};
use coracle_types::{
    AccountId, Changes, ContainerStatus, DesiredStatus, LastStatus, Node, NodeId, Task, Timestamp,
};
use tokio::net::TcpListener;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4566".to_owned());
    let dir = tempfile::tempdir()?;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let node = Node::new(NodeId(7), 4096, 8192, now(), 1);
    let mut changes = Changes::new();
    changes.put(node);
    store.commit(store.snapshot(), changes).await?;
    let config = ApiConfig {
        account: AccountId::default(),
        default_region: "us-east-1".parse()?,
        access_keys: std::env::args().nth(2).zip(std::env::args().nth(3)).into_iter().collect(),
        require_signatures: std::env::args().len() > 3,
        allow_reset: true,
    };
    let logs = LogStore::open(&dir.path().join("logs"))?;
    let registry = Arc::new(Registry::open(&dir.path().join("registry"))?);
    let api = Api::new(config, Arc::clone(&store), logs, registry);
    let listener = TcpListener::bind(address).await?;
    println!("http://{}", listener.local_addr()?);
    tokio::select! {
        served = serve(listener, app(api), std::future::pending()) => served?,
        () = pretend(&*store) => {}
    }
    Ok(())
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Plans, and moves tasks to where they should be, with every change of the state.
async fn pretend(store: &dyn Store) {
    let mut changed = store.watch();
    let mut rng = PlanRng::new(1);
    loop {
        changed.borrow_and_update();
        let base = store.snapshot();
        let planned = plan(&base, now(), &mut rng);
        let wake = planned.next_wake.map(|at| at.since(now()));
        if !planned.changes.is_empty() && store.commit(base, planned.changes).await.is_err() {
            // Somebody was faster: plan again.
            continue;
        }
        let moved = transact(store, |state| {
            let mut changes = Changes::new();
            for found in state.tasks.values() {
                if let Some(task) = moved(&found.value) {
                    changes.put(task);
                }
            }
            Ok::<_, std::convert::Infallible>((changes, ()))
        });
        let _ = moved.await;
        let wait = wake.unwrap_or(std::time::Duration::from_secs(3600));
        let _ = tokio::time::timeout(wait, changed.changed()).await;
    }
}

/// The task where it should be, if it is not there yet.
fn moved(task: &Task) -> Option<Task> {
    let mut task = task.clone();
    match task.desired_status {
        DesiredStatus::Running if task.last_status == LastStatus::Pending => {
            task.last_status = LastStatus::Running;
            task.pull_started_at = Some(now());
            task.pull_stopped_at = Some(now());
            task.started_at = Some(now());
            task.containers.iter_mut().for_each(|container| container.status = ContainerStatus::Running);
            task.version += 1;
        }
        DesiredStatus::Stopped if task.last_status != LastStatus::Stopped => {
            task.containers.iter_mut().for_each(|container| container.exit_code = Some(143));
            task.end(now());
        }
        _ => return None,
    }
    Some(task)
}
