//! `coracle delete -f FILE`: what a file declares is removed, what refers to something before that.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::manifest::{self, Item, Kind, cluster};
use super::references::Names;
use super::remote::{self, Current, describe_services};
use super::show::Printer;
use super::{confirmed, interruptible};
use crate::cli::DeleteArgs;
use crate::client::ApiClient;

/// How often services are looked at while their tasks stop.
const POLL: Duration = Duration::from_millis(50);

pub(crate) async fn delete(args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    interruptible(delete_all(args)).await
}

async fn delete_all(args: &DeleteArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.api)?;
    let out = Printer { json: args.api.json };
    let mut found = find(&client, manifest::read(&args.files)?).await?;
    found.reverse();
    let shown: Vec<(Item, bool)> =
        found.iter().map(|(item, current)| (item.clone(), current.is_some())).collect();
    out.removals(&shown)?;
    if args.dry_run {
        out.line("Nothing was deleted: this was a dry run.")?;
        return Ok(ExitCode::SUCCESS);
    }
    let there = |(item, current): (Item, Option<Current>)| Some((item, current?));
    let found: Vec<(Item, Current)> = found.into_iter().filter_map(there).collect();
    if !found.is_empty() && !args.confirm.yes && !confirmed("Delete these?").await? {
        out.line("Nothing was deleted.")?;
        return Ok(ExitCode::FAILURE);
    }
    let began = Instant::now();
    let (services, others): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|(item, _)| item.kind == Kind::Service);
    for (item, current) in &services {
        remove(&client, item, current).await?;
    }
    // What they use is in use until they are gone.
    for (item, _) in &services {
        wait_until_gone(&client, item, began, args.timeout).await?;
        out.line(&format!("deleted service {}", item.name))?;
    }
    for (item, current) in &others {
        remove(&client, item, current).await?;
        out.line(&format!("deleted {} {}", item.kind, item.name))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn remove(client: &ApiClient, item: &Item, current: &Current) -> anyhow::Result<()> {
    remote::delete(client, item.kind, current)
        .await
        .with_context(|| format!("{}: cannot delete the {} {}", item.place, item.kind, item.name))
}

/// Every item with what is there of it.
async fn find(client: &ApiClient, items: Vec<Item>) -> anyhow::Result<Vec<(Item, Option<Current>)>> {
    let mut names = Names::default();
    let mut found = Vec::new();
    for mut item in items {
        // Only what says which one it is: what else it refers to may be gone.
        item.body.retain(|member, _| item.kind.key().contains(&member.as_str()) || member == "cluster");
        let resolved = names.resolve(client, &item).await?;
        let current = remote::read(client, &item, &resolved)
            .await
            .with_context(|| format!("{}: the {} {}", item.place, item.kind, item.name))?;
        names.declare(&item, current.as_ref().map(|current| current.arn.clone()));
        found.push((item, current));
    }
    Ok(found)
}

async fn wait_until_gone(
    client: &ApiClient,
    item: &Item,
    began: Instant,
    timeout: Duration,
) -> anyhow::Result<()> {
    let name = item.body["serviceName"].as_str().unwrap_or_default();
    loop {
        let found = describe_services(client, cluster(&item.body), &[name]).await?;
        let running = |service: &Value| service["runningCount"].as_u64().unwrap_or_default();
        let is_there = |service: &&Value| service["status"] != "INACTIVE" || running(service) > 0;
        let Some(service) = found.iter().find(is_there) else { return Ok(()) };
        if began.elapsed() >= timeout {
            bail!(
                "service {} still has {} running tasks after {} s",
                item.name,
                running(service),
                timeout.as_secs()
            );
        }
        tokio::time::sleep(POLL).await;
    }
}
