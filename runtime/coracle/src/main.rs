//! `coracle`: Amazon ECS for WebAssembly components, in one binary.
//!
//! The only crate that sees both halves: the control plane (`api/`) and the data plane (`runtime/`).
//! It parses, wires, and waits for shutdown; what it wires knows nothing of the other side.
//! Start reading at [`up`].

mod alarm_metrics;
mod apply;
mod balancing;
mod bench;
mod cli;
mod client;
mod config;
mod demo;
mod dev;
mod exec;
mod images;
mod keyvalue;
mod log_sink;
mod logs;
mod metrics;
mod new;
mod output;
mod ps;
mod routes;
mod run;
mod secrets;
mod services;
mod table;
mod temporary;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

use crate::output::note;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before there are threads: it limits the whole process.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == cli::COMPILE) {
        coracle_sandbox::compile_child();
    }
    let cli = cli::Cli::parse();
    // Before there are threads and handlers, too: it becomes another program.
    if let cli::Command::Bench(args) = &cli.command {
        let Err(error) = bench::bench(&args.arguments);
        note!("coracle: {error:#}");
        return ExitCode::FAILURE;
    }
    init_tracing(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            note!("coracle: cannot start the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(dispatch(cli.command));
    // A blocking read of standard input or a guest that ignores its end must not hold the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) if output::is_reader_gone(&error) => ExitCode::SUCCESS,
        Err(error) => {
            note!("coracle: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(command: cli::Command) -> anyhow::Result<ExitCode> {
    match command {
        cli::Command::Up(args) => up::up(config::UpConfig::resolve(&args)?).await,
        cli::Command::Demo(args) => demo::demo(&args).await,
        cli::Command::Dev(args) => dev::dev(&args).await,
        cli::Command::Run(args) => run::run(args).await,
        cli::Command::New(args) => new::new(&args),
        cli::Command::Ps(args) => ps::ps(&args).await,
        cli::Command::Logs(args) => logs::logs(&args).await,
        cli::Command::Exec(args) => exec::exec(&args).await,
        cli::Command::Push(args) => images::push(&args).await,
        cli::Command::Images(args) => images::list(&args).await,
        cli::Command::Apply(args) => apply::apply(&args).await,
        cli::Command::Delete(args) => apply::delete(&args).await,
        cli::Command::Bench(_) => unreachable!("it has become another program"),
        cli::Command::Keyvalue(args) => keyvalue::keyvalue(&args),
    }
}

/// Logs go to standard error; `CORACLE_LOG` chooses what, in `tracing`'s filter syntax.
fn init_tracing(cli: &cli::Cli) {
    use std::io::IsTerminal as _;
    use tracing_subscriber::EnvFilter;

    let default = if cli.verbose { "info,coracle=debug" } else { "warn" };
    let filter = EnvFilter::try_from_env("CORACLE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would say on standard error that standard error is closed, and panic.
        .log_internal_errors(false)
        .init();
}
