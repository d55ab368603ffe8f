//! How fast the scheduler decides, and how soon a cluster that was disturbed is as it should be again. In virtual time,
//! on one thread of a process of its own: two million tasks would leave their marks in the memory of this one.
//!
//! What is measured is shared with `cargo bench -p coracle-scheduler`.

#[path = "../../../api/scheduler/benches/cluster/mod.rs"]
mod cluster;

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::bench::Context;
use crate::peers::Running;
use crate::report::{Findings, Measure, Row, Side, Table, Unit};
use crate::stats::Times;
use crate::suite::proxy::PART;

/// Which part of a bench it is.
pub(crate) const NAME: &str = "scheduler";

/// Placements per second on one core that are aimed at.
const RATE: f64 = 20_000.0;
/// The size of the challenge.
const TASKS: u32 = 2_000_000;
/// Bytes of memory that are free for every task of it, or there are fewer tasks.
const ROOM_PER_TASK: u64 = 6 << 10;

/// What the process measured. Times are in seconds.
#[derive(Serialize, Deserialize)]
struct Measured {
    size: (u32, u32, u32),
    one_service: Vec<f64>,
    many_services: Vec<f64>,
    quiet: Vec<f64>,
    one_changed: Vec<f64>,
    convergence: Vec<f64>,
    replaced: Vec<usize>,
    challenge: Challenge,
}

#[derive(Serialize, Deserialize)]
struct Challenge {
    tasks: u32,
    time: f64,
    worst_decision: f64,
    bytes: u64,
}

/// Measures, as a part of the bench, with so many tasks in the challenge.
pub(crate) fn run_part(arguments: &[String]) -> anyhow::Result<()> {
    let (size, tasks) = match arguments {
        [size, tasks] if size == "full" => (cluster::Size::FULL, tasks.parse()?),
        [size, tasks] if size == "quick" => {
            (cluster::Size { nodes: 100, services: 5, placed: 20, rounds: 2 }, tasks.parse()?)
        }
        _ => bail!("a size and a number of tasks, not {arguments:?}"),
    };
    let seconds = |times: Vec<Duration>| times.iter().map(Duration::as_secs_f64).collect();
    // First of all: what an allocator keeps of earlier work would be missing in its memory.
    let challenge = cluster::challenge(tasks);
    let found = cluster::decisions(size);
    let measured = Measured {
        size: (size.nodes, size.tasks(), size.placed),
        one_service: seconds(found.one_service),
        many_services: seconds(found.many_services),
        quiet: seconds(found.quiet),
        one_changed: seconds(found.one_changed),
        convergence: seconds(found.convergence),
        replaced: found.replaced,
        challenge: Challenge {
            tasks: challenge.tasks,
            time: challenge.time.as_secs_f64(),
            worst_decision: challenge.worst_decision.as_secs_f64(),
            bytes: challenge.bytes,
        },
    };
    serde_json::to_writer(std::io::stdout(), &measured)?;
    Ok(())
}

fn measure(size: &str, tasks: u32) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([PART, NAME, size, &tasks.to_string()]).stdout(Stdio::piped());
    let mut child = Running::spawn(&mut command)?;
    let mut output = child.take_output().context("it was asked for")?;
    let mut text = String::new();
    output.read_to_string(&mut text)?;
    serde_json::from_str(&text).context("the process that measures ended before it had figures")
}

pub(crate) async fn run(context: &Context) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let room = u32::try_from(available_memory() / ROOM_PER_TASK).unwrap_or(u32::MAX);
    let wanted = context.pick(2000, TASKS);
    // In whole services.
    let tasks = wanted.min(room / 1000 * 1000).max(1000);
    if tasks < wanted {
        findings.leave_out(
            format!("{wanted} tasks"),
            format!(
                "they want {} GiB of free memory; it was {tasks}",
                (u64::from(wanted) * ROOM_PER_TASK) >> 30
            ),
        );
    }
    context.progress("placing");
    let size = context.pick("quick", "full");
    let measured = tokio::task::block_in_place(|| measure(size, tasks))?;
    findings.tables = tables(context, &measured)?;
    findings.notes = vec![
        "Published by others, and not measured here: Nomad's C2M, 2,000,000 containers on 6,100 nodes in 22 minutes at \
         up to 3,750 placements per second; kube-scheduler's own performance tests, 680 to 1,100 pods per second. Both \
         are of whole clusters, over networks and with disks; compare them with the C2M row, and with caution."
            .to_owned(),
    ];
    Ok(findings)
}

#[expect(clippy::cast_precision_loss, reason = "thousands of tasks, gigabytes")]
fn tables(context: &Context, measured: &Measured) -> anyhow::Result<Vec<Table>> {
    let (nodes, around, placed) = measured.size;
    let per_second = |times: &[f64]| times.iter().map(|time| f64::from(placed) / time).collect::<Vec<_>>();
    let mut placements = Table::new(
        "placements",
        format!("Placements per second: {placed} tasks, on {nodes} nodes with {around} others"),
        "One decision on one thread, from the snapshot to the complete plan. The commit is not in it.",
        Unit::PerSecond,
    )
    .higher_is_better()
    .linear();
    for (id, label, times) in [
        ("one", "of one service", &measured.one_service),
        ("many", "of as many services", &measured.many_services),
    ] {
        let row = Row::new(id, label, Side::Ours, "Planner::plan").with_settings("spread over three zones");
        placements.rows.push(context.with_goal(row.with_turns(per_second(times)), RATE));
    }

    let mut quiet = Table::new(
        "quiet",
        "A decision where nothing, or little, has changed",
        "What the scheduler costs when a state of that size is at rest.",
        Unit::Seconds,
    );
    let one = format!("one task of {placed} has changed");
    for (id, label, times) in
        [("nothing", "nothing has changed", &measured.quiet), ("one", &one[..], &measured.one_changed)]
    {
        let all: Times = times.iter().map(|time| Duration::from_secs_f64(*time)).collect();
        let mut row = Row::new(id, label, Side::Ours, "Planner::plan");
        row.measure = Measure::of_turns(vec![all.median()], Some(all.summary()));
        quiet.rows.push(row);
    }

    let mut convergence = Table::new(
        "convergence",
        format!("A tenth of {nodes} nodes start anew: until every task runs again"),
        "Plan, check, commit, run, again and again until there is nothing to do, in virtual time: what the decisions \
         and the state cost, without networks, disks and the tasks' own starts.",
        Unit::Seconds,
    )
    .linear();
    let replaced = measured.replaced.iter().max().copied().context("no round")?;
    convergence.rows.push(
        Row::new("restart", "until all run", Side::Ours, "Planner::plan, contain, State::apply")
            .with_turns(measured.convergence.clone())
            .with_extra("tasks moved", Unit::Count, replaced as f64),
    );

    let challenge = &measured.challenge;
    let mut million = Table::new(
        "c2m",
        format!("{} tasks on {} nodes, until all are RUNNING", challenge.tasks, cluster::CHALLENGE_NODES),
        "The size of Nomad's C2M. Placed by plans that are checked, compared with the state and committed to it, in \
         services of a thousand tasks.",
        Unit::PerSecond,
    )
    .higher_is_better()
    .linear();
    million.rows.push(
        Row::new("c2m", "placed and RUNNING", Side::Ours, "Planner::plan, contain, State::apply")
            .with_turns(vec![f64::from(challenge.tasks) / challenge.time])
            .with_extra("worst decision", Unit::Seconds, challenge.worst_decision)
            .with_extra("memory", Unit::Bytes, challenge.bytes as f64)
            .with_extra("in all", Unit::Seconds, challenge.time),
    );
    Ok(vec![placements, quiet, convergence, million])
}

/// Bytes of memory that the kernel says could be used without swapping.
fn available_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}
