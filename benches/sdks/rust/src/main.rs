//! `coracle-bench-aws-sdk ENDPOINT FAMILY TASKS`: runs so many tasks, one after the other, through the AWS SDK for Rust.
//!
//! Prints a line for each: how long DescribeClusters took through the same client, when RunTask was called, and how long
//! its answer took, all in microseconds (the second since 1970), and the task's ARN.

use std::error::Error;
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_sdk_ecs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_ecs::types::LaunchType;
use aws_sdk_ecs::{Client, Config};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, endpoint, family, tasks] = &arguments[..] else {
        return Err("usage: coracle-bench-aws-sdk ENDPOINT FAMILY TASKS".into());
    };
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("bench", "bench", None, None, "bench"))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
    for _ in 0..tasks.parse::<u32>()? {
        // The task before has ended by then.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let begun = Instant::now();
        client.describe_clusters().send().await?;
        let described = begun.elapsed().as_micros();
        let (called, begun) = (UNIX_EPOCH.elapsed()?.as_micros(), Instant::now());
        let answer =
            client.run_task().task_definition(family).launch_type(LaunchType::Fargate).send().await?;
        let answered = begun.elapsed().as_micros();
        let [task] = answer.tasks() else { return Err(format!("{:?}", answer.failures()).into()) };
        println!("{described} {called} {answered} {}", task.task_arn().ok_or("a task without an ARN")?);
    }
    Ok(())
}
