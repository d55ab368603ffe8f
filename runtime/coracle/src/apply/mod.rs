//! `coracle apply` and `coracle delete`: clusters, task definitions, routes and services as a file declares
//! them, in the field names of ECS and ELBv2.
//!
//! In this order: [`source`] reads documents, [`manifest`] checks them against the shapes of the API and makes
//! items of them, [`images`] finds the components that are files, [`plan`] compares each item with what is
//! there ([`remote`], [`compare`]), [`show`] says what would change, and only then is anything changed;
//! [`steady`] waits until the services run as they should.
//!
//! Nothing is kept anywhere of what was applied before. So a member that a file does not name is left as it is
//! (task definitions apart, which are compared as a whole, because a revision is one), and what a file no
//! longer names is not removed: that is what `delete` is for.

mod compare;
mod delete;
mod images;
mod manifest;
mod plan;
mod references;
mod remote;
mod show;
mod source;
mod steady;
mod task_definition;

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::ApplyArgs;
use crate::client::ApiClient;
use crate::output::say;
use crate::up::Signals;

pub(crate) use delete::delete;
pub(crate) use images::{is_local, registry_name};
pub(crate) use manifest::task_definition_misfits;
pub(crate) use source::parse as parse_documents;
pub(crate) use task_definition::canonical;

/// `coracle apply -f FILE`
pub(crate) async fn apply(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    interruptible(apply_all(args)).await
}

/// Lets Ctrl-C end something that can be begun again.
async fn interruptible(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    tokio::select! {
        done = work => done,
        signal = stop.wait() => Ok(signal.exit_code()),
    }
}

async fn apply_all(args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.api)?;
    let out = show::Printer { json: args.api.json };
    let mut manifest = manifest::read(&args.files)?;
    let images = images::find(&mut manifest).await?;
    let images = images::compare(&client, images).await?;
    let plan = plan::plan(&client, &manifest).await?;
    out.plan(&images, &plan)?;
    let changes = plan.changes() + images.iter().filter(|image| !image.is_there).count();
    if args.dry_run {
        out.line("Nothing was changed: this was a dry run.")?;
        return finish(args, &plan, &[]);
    }
    if changes > 0 && !args.confirm.yes && !confirmed("Apply these changes?").await? {
        out.line("Nothing was changed.")?;
        return Ok(ExitCode::FAILURE);
    }
    let watched = steady::watch(&client, &plan).await?;
    images::push(&client, &images, &out).await?;
    let wanted = plan::carry_out(&client, &plan, &out).await?;
    let mut services = Vec::new();
    if !args.no_wait {
        services = steady::wait(&client, watched, &wanted, args.timeout, &out).await?;
    }
    finish(args, &plan, &services)
}

fn finish(args: &ApplyArgs, plan: &plan::Plan, services: &[steady::Outcome]) -> anyhow::Result<ExitCode> {
    let failed = services.iter().any(|service| service.failure.is_some());
    if args.api.json {
        let services: Vec<Value> = services.iter().map(steady::Outcome::json).collect();
        say!("{:#}", json!({ "resources": plan.json(), "services": services }))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Asks, if there is somebody to ask: a script goes on, as it does with kubectl.
async fn confirmed(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(true);
    }
    say!("{question} [y/N]")?;
    // On a thread of its own, so that Ctrl-C is heard meanwhile.
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let answer = reading.await?.context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
