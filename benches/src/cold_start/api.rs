//! The subject through the whole API of a running `coracle up`: signed off by the scheduler, committed to disk, started
//! by the agent, published to the router.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use super::component::Ended;
use super::program::all_at_once;
use super::{Starts, Subject, Way};
use crate::cleanup::Directory;
use crate::peers::{Coracle, exchange};
use crate::proc::cpu_time;
use crate::report::{Row, Side};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long is waited before the API or the router is asked again.
const PAUSE: Duration = Duration::from_micros(200);

/// A `coracle up` with the subject registered.
struct Up {
    coracle: Coracle,
    _directory: Directory,
}

impl Up {
    fn start(binary: &Path, subject: &Subject) -> anyhow::Result<Self> {
        let directory = Directory::new()?;
        let coracle = Coracle::start(binary, directory.path())?;
        let arguments: Vec<&str> = subject.arguments.iter().map(String::as_str).collect();
        // A command's output is compared, and found in its log.
        let register = if subject.serves { Coracle::register } else { Coracle::register_logging };
        register(&coracle, "subject", &subject.image, &arguments, "1024", "64")?;
        Ok(Self { coracle, _directory: directory })
    }

    fn run_task(&self) -> anyhow::Result<(String, Value)> {
        let request = json!({ "taskDefinition": "subject", "count": 1, "launchType": "FARGATE" });
        let mut answer = self.coracle.ecs("RunTask", &request)?;
        let arn =
            answer["tasks"][0]["taskArn"].as_str().with_context(|| format!("RunTask: {answer}"))?.to_owned();
        Ok((arn, answer["tasks"][0].take()))
    }

    /// What a task wrote.
    fn log(&self, arn: &str) -> anyhow::Result<String> {
        let id = arn.rsplit('/').next().unwrap_or_default();
        let request = json!({
            "logGroupName": Coracle::LOG_GROUP, "logStreamName": format!("bench/main/{id}"), "startFromHead": true,
        });
        let answer = match self.coracle.call("Logs_20140328.GetLogEvents", &request) {
            // A task that writes nothing has no stream.
            Err(error) if error.to_string().contains("ResourceNotFoundException") => return Ok(String::new()),
            answer => answer?,
        };
        let events = answer["events"].as_array().cloned().unwrap_or_default();
        Ok(events
            .iter()
            .filter_map(|event| event["message"].as_str())
            .map(|line| format!("{line}\n"))
            .collect())
    }

    /// Waits until the task has this status.
    fn await_status(&self, arn: &str, mut task: Value, status: &str) -> anyhow::Result<Value> {
        let begun = Instant::now();
        while task["lastStatus"] != status {
            if begun.elapsed() > PATIENCE {
                bail!("the task is {} instead of {status}", task["lastStatus"]);
            }
            std::thread::sleep(PAUSE);
            task = self.coracle.ecs("DescribeTasks", &json!({ "tasks": [arn] }))?["tasks"][0].take();
        }
        Ok(task)
    }
}

/// Does this so many times at once, each on a thread of its own, due at the same moment.
fn at_once<T: Send>(
    count: usize,
    start: impl Fn(usize) -> anyhow::Result<T> + Sync,
) -> anyhow::Result<Vec<(Duration, T)>> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let one = |number: &mut usize, due: Instant| {
        let answer = start(*number)?;
        anyhow::Ok((due.elapsed(), answer))
    };
    all_at_once(&mut numbers, one).into_iter().collect()
}

/// A service for each start, which is scaled from none to one.
pub(super) struct ScaledService(Arc<Up>);

impl ScaledService {
    pub(super) fn start(binary: &Path, subject: &Subject, most: usize) -> anyhow::Result<Self> {
        let up = Up::start(binary, subject)?;
        for number in 0..most {
            let service = json!({
                "serviceName": format!("s{number}"), "taskDefinition": "subject", "desiredCount": 0, "launchType": "FARGATE",
            });
            up.coracle.ecs("CreateService", &service)?;
        }
        Ok(Self(Arc::new(up)))
    }

    fn scale(&self, number: usize, count: u32) -> anyhow::Result<()> {
        let request = json!({ "service": format!("s{number}"), "desiredCount": count });
        self.0.coracle.ecs("UpdateService", &request).map(drop)
    }

    /// Scales a service up, and asks until it answers.
    fn first_answer(&self, number: usize) -> anyhow::Result<Vec<u8>> {
        self.scale(number, 1)?;
        let request =
            format!("GET / HTTP/1.1\r\nhost: s{number}.default.localhost\r\nconnection: close\r\n\r\n");
        let begun = Instant::now();
        loop {
            let answer = exchange(self.0.coracle.router, &request)?;
            let (head, body) = answer.split_once("\r\n\r\n").context("a malformed answer")?;
            let status = head.split(' ').nth(1).unwrap_or_default();
            if status != "503" {
                return Ok(format!("{status}\n{body}").into_bytes());
            }
            if begun.elapsed() > PATIENCE {
                bail!("the service does not answer: {answer}");
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn await_none(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let clusters = self.0.coracle.ecs("DescribeClusters", &json!({}))?;
            let cluster = &clusters["clusters"][0];
            if cluster["runningTasksCount"] == 0 && cluster["pendingTasksCount"] == 0 {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                bail!("tasks go on: {cluster}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Way for ScaledService {
    fn row(&self) -> Row {
        Row::new(
            "api",
            "component, through the whole API",
            Side::Ours,
            "coracle up; UpdateService desiredCount 0 → 1, then GET / at the router until 200",
        )
        .with_settings(
            "durable commit of every step (fsync), scheduler, agent, router; FARGATE, 1024 CPU units, 64 MiB",
        )
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(async move {
            tokio::task::block_in_place(|| {
                let all = at_once(count, |number| self.first_answer(number));
                for number in 0..count {
                    self.scale(number, 0)?;
                }
                self.await_none()?;
                all
            })
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(cpu_time(self.0.coracle.process.id()))
    }

    fn reads_files(&self) -> bool {
        false
    }
}

/// RunTask until the task is RUNNING, without a request.
pub(super) struct TaskToRunning(Arc<Up>);

impl TaskToRunning {
    pub(super) fn start(service: &ScaledService) -> Self {
        Self(Arc::clone(&service.0))
    }
}

impl Way for TaskToRunning {
    fn row(&self) -> Row {
        Row::new(
            "run-task",
            "component, RunTask to RUNNING",
            Side::Ours,
            "coracle up; RunTask, then DescribeTasks until RUNNING",
        )
        .with_settings("no request is sent, so nothing is compared with it")
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(async move {
            tokio::task::block_in_place(|| {
                let all = at_once(count, |_| {
                    let (arn, task) = self.0.run_task()?;
                    self.0.await_status(&arn, task, "RUNNING")?;
                    Ok(arn)
                })?;
                for (_, arn) in &all {
                    let task = self.0.coracle.ecs("StopTask", &json!({ "task": arn }))?["task"].take();
                    self.0.await_status(arn, task, "STOPPED")?;
                }
                Ok(all.into_iter().map(|(took, _)| (took, b"RUNNING".to_vec())).collect())
            })
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(cpu_time(self.0.coracle.process.id()))
    }

    fn reads_files(&self) -> bool {
        false
    }
}

/// RunTask until the task is STOPPED, and its exit code.
pub(super) struct TaskRun {
    up: Up,
    /// How it ends without an API.
    expected: Ended,
}

impl TaskRun {
    pub(super) fn start(binary: &Path, subject: &Subject, expected: Ended) -> anyhow::Result<Self> {
        Ok(Self { up: Up::start(binary, subject)?, expected })
    }

    /// What a task answered, in the form in which all others say it. A log holds lines of both streams, and does not
    /// tell whether the last one was complete; if it has the very lines that are expected, so was the answer.
    fn answer(&self, code: &Value, log: &str) -> Vec<u8> {
        let expected = &self.expected;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&expected.stdout), String::from_utf8_lossy(&expected.stderr));
        let mut lines: Vec<&str> = stdout.lines().chain(stderr.lines()).collect();
        let mut logged: Vec<&str> = log.lines().collect();
        // The streams may meet in any order.
        lines.sort_unstable();
        logged.sort_unstable();
        if *code == expected.code && lines == logged {
            return expected.answer();
        }
        format!("exit {code}\n{log}").into_bytes()
    }
}

impl Way for TaskRun {
    fn row(&self) -> Row {
        Row::new(
            "api",
            "component, through the whole API",
            Side::Ours,
            "coracle up; RunTask, then DescribeTasks until STOPPED",
        )
        .with_settings(
            "durable commit of every step (fsync), scheduler, agent, log store; FARGATE, 1024 CPU units, 64 MiB; the \
             output is read from the log afterwards, and compared",
        )
    }

    fn batch(&self, count: usize) -> BoxFuture<'_, anyhow::Result<Starts>> {
        Box::pin(async move {
            tokio::task::block_in_place(|| {
                let all = at_once(count, |_| {
                    let (arn, task) = self.up.run_task()?;
                    let task = self.up.await_status(&arn, task, "STOPPED")?;
                    Ok((arn, task["containers"][0]["exitCode"].clone()))
                })?;
                let with_log = |(took, (arn, code)): (Duration, (String, Value))| {
                    Ok((took, self.answer(&code, &self.up.log(&arn)?)))
                };
                all.into_iter().map(with_log).collect()
            })
        })
    }

    fn cpu_time(&self) -> Option<Duration> {
        Some(cpu_time(self.up.coracle.process.id()))
    }

    fn reads_files(&self) -> bool {
        false
    }
}
