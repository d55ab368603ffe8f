//! How many durable writes a second: `cargo bench -p coracle-store`. Each is fsync'd before it is answered.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a benchmark prints, and its panic is its report"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_store::{RedbStore, Store, transact};
use coracle_types::{Changes, Family, FamilyId, FamilyRecord};

const TIME: Duration = Duration::from_secs(3);

async fn client(store: Arc<dyn Store>, client: usize, until: Instant) -> u32 {
    let mut writes = 0;
    while Instant::now() < until {
        let family: Family = format!("client{client}-{}", writes % 100).parse().unwrap();
        let id = FamilyId { region: "us-east-1".parse().unwrap(), family };
        transact(&*store, |_| {
            let mut changes = Changes::new();
            changes.put(FamilyRecord { id: id.clone(), latest: writes });
            Ok::<_, std::convert::Infallible>((changes, ()))
        })
        .await
        .unwrap();
        writes += 1;
    }
    writes
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    println!("durable writes (redb, one fsync for all that wait together)");
    for clients in [1, 16, 64] {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(RedbStore::open(folder.path().join("state.redb")).unwrap());
        let begun = Instant::now();
        let tasks: Vec<_> =
            (0..clients).map(|one| runtime.spawn(client(Arc::clone(&store), one, begun + TIME))).collect();
        let writes: u32 = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).sum();
        println!(
            "  {clients:>3} clients: {:>8.0} writes/s",
            f64::from(writes) / begun.elapsed().as_secs_f64()
        );
    }
}
