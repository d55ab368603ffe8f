//! Cold start: how long it takes from nothing to the first answered byte, or to the exit code, of the same program as
//! a component and as a process in containers of every kind; one at a time, and many at once.
//!
//! Every time counts from the moment the start was *due*. Where a hundred are due at once, they are all due at the
//! same moment, and those that have to wait for a processor are not forgiven the wait.

mod api;
mod component;
mod program;
mod subject;

use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

pub(crate) use program::await_answer;
pub use subject::Subject;
pub(crate) use subject::natively_hello;

use crate::bench::Context;
use crate::containers;
use crate::proc::is_root;
use crate::report::{Extra, Findings, Row, Table, Unit};
use crate::stats::Times;
use crate::turns::{Pair, Side, Turn, conclude};

/// What a batch of starts came to: how long each took, and what it answered.
pub(crate) type Starts = Vec<(Duration, Vec<u8>)>;

/// One way to start the subject.
pub(crate) trait Way: Send + Sync {
    /// How it is shown.
    fn row(&self) -> Row;

    /// Starts so many at once, waits for all their answers, and makes all of them go away again.
    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>>;

    /// CPU time that all its starts took so far, if that is known.
    fn cpu_time(&self) -> Option<Duration>;

    /// Bytes of memory that one takes while it waits for a second request, if it does.
    fn memory(&self) -> BoxFuture<'_, anyhow::Result<Option<f64>>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Whether what it starts is read from files, so that it matters whether they are in the page cache.
    fn reads_files(&self) -> bool;
}

/// How many are started at once.
const LEVELS: &[usize] = &[1, 10, 100];

/// The whole bench, with the examples.
pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    measure(context, Subject::examples()).await
}

/// Starts each subject in every way there is.
pub async fn measure(context: &Context, subjects: Vec<Subject>) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let (engines, left_out) = tokio::task::block_in_place(containers::engines);
    findings.left_out = left_out;
    let engines: Vec<_> = engines.into_iter().map(std::sync::Arc::from).collect();
    for subject in subjects {
        let ways =
            warmed_up(context, subject.ways(context, &engines, &mut findings).await?, &mut findings).await;
        for &level in context.pick(&[1, 3][..], LEVELS) {
            findings.tables.push(warm(context, &subject, &ways, level).await);
        }
        if !is_root() {
            findings.leave_out(
                format!("{} with dropped page caches", subject.name),
                "only root may drop the kernel's caches",
            );
        } else if !context.quick {
            findings.tables.push(cold(context, &subject, &ways).await);
        }
    }
    findings.notes.extend(
        [
            "The goals are meant for `crun, seccomp + limits`: that is what engines start, and a component has its limits \
             in every row. They are judged against `crun, bare` as well, which confines and limits nothing.",
            "The component runs in a process that is already there, as containers run on a kernel that is already \
             there; `coracle up` itself starts in the bench `startup`.",
            "Whether a server answers is asked again and again, so a figure may be too long by one such interval: \
             0.1 ms at one start at a time, 1 ms at ten, 5 ms at a hundred. Components are called, and not \
             asked, but for those through the whole API: every 0.2 ms.",
            "CPU time per start is that of all processes a start needs, its removal included; for a bare process and \
             for OCI runtimes that of the children of the bench. Engines work in other processes, and have none.",
        ]
        .map(str::to_owned),
    );
    Ok(findings)
}

/// Those that start at all. Each has then done so once: what is made when it is first needed is there.
async fn warmed_up(context: &Context, ways: Vec<Box<dyn Way>>, findings: &mut Findings) -> Vec<Box<dyn Way>> {
    let mut warm = Vec::new();
    for way in ways {
        let label = way.row().label;
        context.progress(&format!("once: {label}"));
        match way.batch(1).await {
            Ok(_) => warm.push(way),
            Err(error) => findings.leave_out(label, format!("it does not start: {error:#}")),
        }
    }
    warm
}

/// With everything in the page cache that was read before.
async fn warm(context: &Context, subject: &Subject, ways: &[Box<dyn Way>], level: usize) -> Table {
    let turns = context.pick(1, if level == 1 { 5 } else { 3 });
    let plan = Plan {
        level,
        budget: context.pick(Duration::ZERO, Duration::from_millis(700)),
        // Enough for a 99th percentile, and no more.
        most: context.pick(1, if level == 1 { 100 } else { 5 }),
    };
    let mut sides = Vec::new();
    for way in ways {
        let mut row = way.row();
        if level == 1 {
            match way.memory().await {
                Ok(Some(bytes)) => row = row.with_extra("memory", Unit::Bytes, bytes),
                Ok(None) => {}
                Err(error) => row.settings += &format!(" (memory: {error:#})"),
            }
        }
        sides.push(Side::new(row, move || turn(way.as_ref(), plan)));
    }
    context.interleave(&mut sides, turns).await;
    complete(&mut sides);
    let at_once = if level == 1 { "one at a time".to_owned() } else { format!("{level} at once") };
    let table = Table::new(
        &format!("{}-{level}", subject.name),
        format!("{}, {at_once}", subject.title),
        format!("{} Page cache warm.", subject.measured),
        Unit::Seconds,
    );
    conclude(table, sides, &pairs(level == 1 && !context.quick && !cfg!(debug_assertions)))
}

/// With the page cache dropped before every start.
async fn cold(context: &Context, subject: &Subject, ways: &[Box<dyn Way>]) -> Table {
    let plan = Plan { level: 1, budget: Duration::ZERO, most: 1 };
    let mut sides = Vec::new();
    for way in ways.iter().filter(|way| way.reads_files()) {
        sides.push(Side::new(way.row(), move || async move {
            drop_caches().await?;
            turn(way.as_ref(), plan).await
        }));
    }
    context.interleave(&mut sides, context.pick(1, 10)).await;
    complete(&mut sides);
    let table = Table::new(
        &format!("{}-dropped", subject.name),
        format!("{}, page cache dropped before each", subject.title),
        format!("{} After sync and `echo 3 > /proc/sys/vm/drop_caches`.", subject.measured),
        Unit::Seconds,
    );
    conclude(
        table,
        sides,
        &[Pair::new("disk", "crun"), Pair::new("disk", "crun-bare"), Pair::new("disk", "process")],
    )
}

async fn drop_caches() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| {
        rustix::fs::sync();
        std::fs::write("/proc/sys/vm/drop_caches", "3").map_err(anyhow::Error::from)
    })
    .await?
}

/// What is held against what, with what is aimed at: where one is started at a time, and the figures are to be relied on.
fn pairs(has_goals: bool) -> Vec<Pair> {
    let goal = |of: &str, to: &str, goal: f64| {
        let pair = Pair::new(of, to);
        if has_goals { pair.at_least(goal) } else { pair }
    };
    vec![
        goal("memory", "crun", 200.0),
        goal("memory", "crun-bare", 200.0),
        goal("memory", "process", 5.0),
        goal("disk", "crun", 10.0),
        goal("disk", "crun-bare", 10.0),
        goal("api", "crun", 1.0),
        goal("api", "crun-bare", 1.0),
        Pair::new("memory", "runc"),
        Pair::new("api", "podman"),
        Pair::new("api", "docker"),
        Pair::new("cold", "crun"),
    ]
}

/// How much is started in a turn.
#[derive(Clone, Copy)]
struct Plan {
    /// At once.
    level: usize,
    /// Batches are begun for so long,
    budget: Duration,
    /// but no more than so many; and always one.
    most: usize,
}

async fn turn(way: &dyn Way, plan: Plan) -> anyhow::Result<Turn> {
    let (begun, cpu) = (Instant::now(), way.cpu_time());
    let mut times = Times::default();
    let mut answer: Option<Vec<u8>> = None;
    let (mut errors, mut error) = (0, None);
    for batch in 0..plan.most {
        if batch > 0 && begun.elapsed() >= plan.budget {
            break;
        }
        for (took, answered) in way.batch(plan.level).await? {
            let first = answer.get_or_insert_with(|| answered.clone());
            if *first != answered {
                errors += 1;
                error.get_or_insert_with(|| {
                    format!("another answer: {:?}", String::from_utf8_lossy(&answered))
                });
            }
            times.record(took);
        }
    }
    let cpu = way.cpu_time().zip(cpu).map(|(after, before)| after.saturating_sub(before));
    let mut turn = Turn::of_times(times, answer.unwrap_or_default()).with_errors(errors, error);
    turn.cpu = cpu;
    Ok(turn)
}

/// Adds the CPU time per start to each row: of all turns together, because the kernel counts it in hundredths of a second.
fn complete(sides: &mut [Side<'_>]) {
    for side in sides {
        let cpu = side.done().iter().map(|turn| turn.cpu).sum::<Option<Duration>>();
        let starts: u64 = side.done().iter().filter_map(|turn| Some(turn.times.as_ref()?.count())).sum();
        if let Some(cpu) = cpu
            && starts > 0
        {
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let value = cpu.as_secs_f64() / starts as f64;
            side.row_mut()
                .extras
                .insert(0, Extra { name: "CPU/start".to_owned(), unit: Unit::Seconds, value });
        }
    }
}
