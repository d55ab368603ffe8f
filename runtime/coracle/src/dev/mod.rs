//! `coracle dev`: a project is built, served under its task definition, and swapped whenever it changes.
//!
//! [`project`] says what there is to build and run, [`watch`] when, [`mod@build`] builds, [`deploy`] brings what was
//! built to a Coracle in this process as anybody would, through the API, and [`screen`] shows what requests use
//! and what containers write. A swap is a rolling deployment: the old task goes when the new one answers, so no
//! request is lost, and a component that can't start never replaces one that could.

mod build;
mod deploy;
mod project;
mod screen;
mod watch;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use crate::cli::{ApiArgs, DevArgs, UpArgs};
use crate::client::ApiClient;
use crate::config::UpConfig;
use crate::demo::free_or;
use crate::output::{note, say};
use crate::run::cache_dir;
use crate::temporary::Temporary;
use crate::up::{Coracle, Observer, Signals, port};
use build::build;
use deploy::{Deployed, Deployer};
use project::{Component, Project};
use screen::Screen;
use watch::{Changes, Watch};

pub(crate) async fn dev(args: &DevArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    let project = Project::open(&args.dir)?;
    let temporary = args.data_dir.is_none().then(|| Temporary::new("coracle-dev"));
    let up = UpArgs {
        data_dir: args.data_dir.clone().or_else(|| Some(temporary.as_ref()?.path().to_owned())),
        api: Some(args.api.unwrap_or_else(|| free_or([127, 0, 0, 1], 4566))),
        router: Some(args.router.unwrap_or_else(|| free_or([127, 0, 0, 1], 8080))),
        ..UpArgs::default()
    };
    let mut config = UpConfig::resolve(&up)?;
    // What an interpreter takes a quarter of a minute to compile is not compiled again in the next session.
    config.artifacts_dir = cache_dir();
    let screen = Arc::new(Screen::new());
    let observer =
        Observer { requests: Some(Arc::clone(&screen) as _), lines: Some(Arc::clone(&screen) as _) };
    let coracle = Coracle::start_observed(config, observer).await?;
    let ended = tokio::select! {
        ended = session(project, args, &coracle) => ended,
        what = coracle.failed() => Err(anyhow::anyhow!("{what} failed, see above")),
        _ = stop.wait() => Ok(()),
    };
    note!("Stopping; Ctrl-C again to stop at once.");
    coracle.stop_unless(&mut stop).await?;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Builds and deploys until the end of the process.
async fn session(mut project: Project, args: &DevArgs, coracle: &Coracle) -> anyhow::Result<()> {
    let client = ApiClient::new(&ApiArgs { api: coracle.api.clone(), region: None, json: false })?;
    let mut deployer = Deployer::new(client);
    // From before the first build, so that no change is missed.
    let mut watch = Watch::start(&project)?;
    let mut component = None;
    let mut changes = Changes { source: true, ..Changes::default() };
    loop {
        if changes.project {
            match Project::open(&args.dir) {
                Ok(changed) => {
                    project = changed;
                    watch = Watch::start(&project)?;
                    changes.source = true;
                }
                Err(error) => note!("{error:#}"),
            }
        }
        let began = Instant::now();
        if changes.source {
            watch.build_begins();
            match build(&project).await? {
                Some(built) => component = Some(built),
                None => note!("The build failed; {}.", deployer.what_goes_on()),
            }
            watch.build_ended(component.as_ref());
        }
        let mut running = None;
        if let Some(component) = &component {
            running = bring(&project, component, &mut deployer, coracle, began).await?;
        }
        changes = match running {
            Some((revision, task)) => until_it_ends(&mut deployer, &revision, &task, &mut watch).await?,
            None => watch.next().await?,
        };
        if changes.source {
            say!("\n{} changed.", changes.example.as_deref().unwrap_or("Something"))?;
        }
    }
}

/// A revision and a task of it.
type Running = (String, Value);

/// Deploys what was built, and says how that went. Gives the task that runs, if it is one that ends.
async fn bring(
    project: &Project,
    component: &Component,
    deployer: &mut Deployer,
    coracle: &Coracle,
    began: Instant,
) -> anyhow::Result<Option<Running>> {
    let built = began.elapsed();
    let deployed = match project.definition(component) {
        Ok(definition) => deployer.deploy(definition).await,
        Err(error) => Err(error),
    };
    let took = (began.elapsed() - built).as_millis();
    match deployed {
        Ok(Deployed::Same) => {}
        Ok(Deployed::Serves { revision, service, is_first: true }) => {
            let port = port(&coracle.router);
            say!("{revision} answers at http://{service}.default.localhost:{port}/ after {took} ms.")?;
            say!("API {}. A change of the project swaps it; Ctrl-C stops.", coracle.api)?;
        }
        Ok(Deployed::Serves { revision, .. }) => say!("{revision} answers, {took} ms after it was built.")?,
        Ok(Deployed::Runs { revision, task }) => return Ok(Some((revision, task))),
        Err(error) => note!("{error:#}; {}.", deployer.what_goes_on()),
    }
    Ok(None)
}

/// Waits for the end of a task and then for a change, or for a change that ends the task.
async fn until_it_ends(
    deployer: &mut Deployer,
    revision: &str,
    task: &Value,
    watch: &mut Watch,
) -> anyhow::Result<Changes> {
    let changes = tokio::select! {
        ended = deployer.task_end(task) => {
            say!("{revision} has run: {}. A change runs it again.", ended?)?;
            return watch.next().await;
        }
        changes = watch.next() => changes?,
    };
    deployer.stop_task(task).await?;
    deployer.task_end(task).await?;
    Ok(changes)
}
