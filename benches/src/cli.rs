//! The command line of `coracle bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};

use crate::bench::{self, BENCHES, Bench, Context};
use crate::cold_start::{self, Subject};
use crate::machine::Machine;
use crate::report::{self, BenchResult, FORMAT, Mode, Report, compare, page, print_bench};
use crate::{cleanup, containers, suite};

/// Measure this machine: how fast components start beside containers, how many requests they serve, and the rest.
#[derive(Parser)]
#[command(
    name = "coracle-bench",
    bin_name = "coracle bench",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = notes()
)]
struct Cli {
    /// What to measure; without a name, everything.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// How fast a component starts beside containers: an example of ours, or a program of yours.
    ColdStart(ColdStartArgs),
    /// What moved between two reports, beyond noise.
    Compare {
        /// The JSON file of the earlier run.
        old: PathBuf,
        /// That of the later one.
        new: PathBuf,
    },
}

#[derive(Args)]
struct ColdStartArgs {
    /// A component of yours: one that serves HTTP is asked GET / for its first answer, a command runs to its exit.
    #[arg(long, value_name = "FILE.wasm")]
    image: Option<PathBuf>,
    /// The same program built for this machine, and its arguments, which the component gets as well. Everything after
    /// this is part of it. It serves HTTP at 127.0.0.1 and the port in the environment variable PORT, if the component
    /// does.
    #[arg(
        long,
        value_name = "PROGRAM [ARGUMENT]…",
        num_args = 1..,
        allow_hyphen_values = true,
        requires = "image",
        required = false
    )]
    command: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args)]
struct OutputArgs {
    /// See that every bench still runs: everything short, no figure to be relied on.
    #[arg(long)]
    quick: bool,
    /// Where the figures go [default: target/bench/report.json, away from the sources coracle-bench.json].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the page with charts goes [default: beside the figures, with .html].
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn notes() -> String {
    let mut notes = String::from("Names:\n");
    for bench in BENCHES {
        notes += &format!("  {:<12} {}\n", bench.name, bench.about);
    }
    notes += "\nA peer that is not installed is left out; benches/setup.sh installs them. As root, more containers and \
              dropped page caches can be measured.";
    notes
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let run = || -> anyhow::Result<ExitCode> {
        // A part of a bench in a process of its own; nothing for people to type.
        if let [part, arguments @ ..] = &arguments[..]
            && part == suite::proxy::PART
        {
            match arguments {
                [name, arguments @ ..] if name == suite::scheduler::NAME => {
                    suite::scheduler::run_part(arguments)?;
                }
                _ => tokio::runtime::Runtime::new()?.block_on(suite::proxy::run_part(arguments))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let cli = Cli::parse();
        containers::see_pure_cgroups();
        cleanup::on_interrupt().context("cannot listen for interrupts")?;
        let result = tokio::runtime::Runtime::new()?.block_on(dispatch(cli));
        cleanup::undo_all();
        result
    };
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("coracle bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        None => {
            let benches = chosen(&cli.names)?;
            has_examples(coracle_fixtures::example_hello())?;
            let context = Context { quick: cli.output.quick };
            let mut results = Vec::new();
            let mut report = begin(&context);
            for bench in benches {
                let result = bench::run(bench, &context).await;
                print!("{}", print_bench(&result));
                results.push(result);
            }
            report.benches = results;
            finish(&report, &cli.output)
        }
        Some(Command::ColdStart(args)) => {
            let context = Context { quick: args.output.quick };
            let subjects = match args.image {
                None => {
                    has_examples(coracle_fixtures::example_hello())?;
                    Subject::examples()
                }
                Some(image) => vec![Subject::yours(&image, &args.command)?],
            };
            let mut report = begin(&context);
            let begun = std::time::Instant::now();
            let findings = cold_start::measure(&context, subjects).await?;
            context.progress("");
            let bench =
                BENCHES.iter().find(|bench| bench.name == "cold-start").context("it is in the list")?;
            let result = BenchResult {
                name: bench.name.to_owned(),
                about: bench.about.to_owned(),
                seconds: begun.elapsed().as_secs_f64(),
                findings,
                failed: None,
            };
            print!("{}", print_bench(&result));
            report.benches = vec![result];
            finish(&report, &args.output)
        }
        Some(Command::Compare { old, new }) => {
            print!("{}", compare(&read(&old)?, &read(&new)?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The benches with these names, in the suite's order.
fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Bench>> {
    if let Some(unknown) = names.iter().find(|name| BENCHES.iter().all(|bench| bench.name != **name)) {
        let known: Vec<&str> = BENCHES.iter().map(|bench| bench.name).collect();
        bail!("no bench is called {unknown:?}; there are {}", known.join(", "));
    }
    let is_wanted = |bench: &&Bench| names.is_empty() || names.iter().any(|name| name == bench.name);
    Ok(BENCHES.iter().filter(is_wanted).collect())
}

/// The components that are measured lie where this program was built, and may have gone since.
fn has_examples(hello: &Path) -> anyhow::Result<()> {
    if !hello.is_file() {
        bail!(
            "the examples that this program was built with are gone: there is no {}. Build it anew in a checkout of \
             Coracle, with `cargo run --release -- bench`; `cold-start --image` measures a component of yours without \
             them",
            hello.display()
        );
    }
    Ok(())
}

fn begin(context: &Context) -> Report {
    if cfg!(debug_assertions) {
        eprintln!("warning: this is a debug build; its figures mean nothing. Use --release.");
    }
    let mode = match (cfg!(debug_assertions), context.quick) {
        (true, _) => Mode::Debug,
        (false, true) => Mode::Quick,
        (false, false) => Mode::Full,
    };
    let machine = Machine::here();
    for (name, value) in machine.lines() {
        println!("{name:<20} {value}");
    }
    Report {
        format: FORMAT,
        began_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        command: command_line(),
        mode,
        machine,
        benches: Vec::new(),
    }
}

/// How this was asked for, as one would type it.
fn command_line() -> String {
    let quoted = |argument: String| {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./=:,".contains(letter);
        if argument.chars().all(is_plain) && !argument.is_empty() {
            argument
        } else {
            format!("'{argument}'")
        }
    };
    ["coracle".to_owned(), "bench".to_owned()]
        .into_iter()
        .chain(std::env::args().skip(1).map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Writes the report, and says whether all went well.
fn finish(report: &Report, output: &OutputArgs) -> anyhow::Result<ExitCode> {
    let json = output.json.clone().unwrap_or_else(default_json);
    let html = output.html.clone().unwrap_or_else(|| json.with_extension("html"));
    write(&json, &format!("{}\n", serde_json::to_string_pretty(report)?))?;
    write(&html, &page(report))?;
    println!("\n{} and {}", json.display(), html.display());
    let failed: Vec<&str> =
        report.benches.iter().filter(|bench| bench.failed.is_some()).map(|bench| &bench.name[..]).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("coracle bench: failed: {}", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// In the sources' target directory, if there are sources.
fn default_json() -> PathBuf {
    match crate::peers::sources() {
        Some(sources) => sources.join("target/bench/report.json"),
        None => PathBuf::from("coracle-bench.json"),
    }
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let what = || format!("cannot read {}", path.display());
    let file = std::fs::read(path).with_context(what)?;
    let report: report::Report = serde_json::from_slice(&file).with_context(what)?;
    if report.format > FORMAT {
        bail!("{} was written by a newer version of this program", path.display());
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_takes_all_that_follows() {
        let cli =
            Cli::try_parse_from("x cold-start --quick --image a.wasm --command ./a --quick -n 3".split(' '))
                .unwrap();
        let Some(Command::ColdStart(args)) = cli.command else { panic!("another command") };
        assert_eq!(args.command, ["./a", "--quick", "-n", "3"]);
        assert!(Cli::try_parse_from(["x", "cold-start", "--command", "./a"]).is_err(), "of what component?");
    }

    #[test]
    fn examples_that_are_gone_are_said_to_be() {
        assert!(has_examples(coracle_fixtures::example_hello()).is_ok());
        let error = has_examples(Path::new("/nowhere/hello.wasm")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/hello.wasm") && error.contains("--image"), "{error}");
    }

    #[test]
    fn benches_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), BENCHES.len());
        assert_eq!(chosen(&["cap".to_owned()]).unwrap()[0].name, "cap");
        let error = chosen(&["nonsense".to_owned()]).err().unwrap().to_string();
        assert!(error.contains("nonsense") && error.contains("throughput"), "{error}");
    }
}
