//! The command line: what may be said, in one place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use coracle_router::AccessLogFormat;

/// Amazon ECS for WebAssembly components, in one binary.
#[derive(Parser)]
#[command(name = "coracle", version, about, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Say more on standard error. CORACLE_LOG takes a filter, such as `info,coracle_agent=debug`.
    #[arg(short, long, global = true, display_order = 100)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What a list of flags can't say about `up`.
const UP_NOTES: &str = "\
Every flag but --config is also a key of the TOML file that --config names, with underscores or hyphens:
  data_dir = \"/srv/coracle\"
  access_key = [\"ID:SECRET\"]
The command line wins over the environment, and that over the file.";

/// What a list of flags can't say about `run`.
const RUN_NOTES: &str = "\
A component that exports wasi:http/incoming-handler is served at --listen until Ctrl-C; another one runs to
its exit code. Without --env, --dir and --allow-net it sees no variables, no files and no network.

Exit codes of coracle itself: 124 the time is over, 134 a trap, 137 out of memory, 152 out of fuel.";

/// What the client commands are told by the environment.
const CLIENT_NOTES: &str = "\
Requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, if both are set.";

/// What a list of flags can't say about `exec`.
const EXEC_NOTES: &str = "\
The task must have been started with enableExecuteCommand. The command runs in an instance of its own, with the
container's files, network, environment and limits. Its first word is the name of a function that the component
exports, whose arguments are the others as JSON; or else all of the words are the arguments of wasi:cli/run, the
first as its own name: `-- batch primes 100`. coracle exec ends with the command's exit code.

Requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, if both are set.";

/// What a list of flags can't say about `dev`.
const DEV_NOTES: &str = "\
The folder has a coracle.toml, each key of which has a default where there is a Cargo.toml:
  build = \"cargo build --release --target wasm32-wasip2\"   # run by sh, in the folder
  component = \"target/wasm32-wasip2/release/NAME.wasm\"     # what that leaves
  task-definition = \"task-definition.json\"                 # JSON or YAML, as for RegisterTaskDefinition
  watch = [\"src\", \"Cargo.toml\"]                           # all of the folder but what builds write
A container with a portMapping is served; a task definition without one is run as a task after each build.";

/// What a list of flags can't say about `apply`.
const APPLY_NOTES: &str = "\
A document is one task definition, service or cluster as for --cli-input-json, or has lists of them:
  clusters, secrets, parameters, taskDefinitions, targetGroups, loadBalancers, listeners, rules, services
with the members that ECS and ELBv2 take. Where they take an ARN, a name will do. An image that is a path, such as
./web.wasm, is pushed first. What a file does not mention is left as it is.
Requests are signed with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, if both are set.";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start the API, the scheduler, a node and the router in this process.
    #[command(after_help = UP_NOTES)]
    Up(UpArgs),
    /// Start Coracle with an example service of three tasks, and show it at work.
    Demo(DemoArgs),
    /// Build the project in a folder, serve it, and swap it whenever it changes.
    #[command(after_help = DEV_NOTES)]
    Dev(DevArgs),
    /// Run one component under limits, without a server.
    #[command(after_help = RUN_NOTES)]
    Run(RunArgs),
    /// Write a small project that builds to a component.
    New(NewArgs),
    /// List tasks.
    #[command(after_help = CLIENT_NOTES)]
    Ps(PsArgs),
    /// Print what a service's tasks, or one task, wrote.
    #[command(after_help = CLIENT_NOTES)]
    Logs(LogsArgs),
    /// Run a command inside a running task.
    #[command(after_help = EXEC_NOTES)]
    Exec(ExecArgs),
    /// Put a component into the built-in registry.
    #[command(after_help = CLIENT_NOTES)]
    Push(PushArgs),
    /// List the images in the built-in registry.
    #[command(after_help = CLIENT_NOTES)]
    Images(ImagesArgs),
    /// Make clusters, task definitions, routes and services what a file declares, and wait until they are.
    #[command(after_help = APPLY_NOTES)]
    Apply(ApplyArgs),
    /// Remove what a file declares.
    #[command(after_help = CLIENT_NOTES)]
    Delete(DeleteArgs),
    /// Measure this machine: how fast components start beside containers, and the rest; `bench --help` tells more.
    #[command(disable_help_flag = true)]
    Bench(BenchArgs),
    /// Look at the key-value namespaces of a Coracle that is not running, or clear one.
    Keyvalue(KeyvalueArgs),
}

/// What to do with key-value namespaces.
#[derive(Args)]
pub(crate) struct KeyvalueArgs {
    /// Where its state is kept [default: coracle in XDG_DATA_HOME, else in ~/.local/share]
    #[arg(long, env = "CORACLE_DATA_DIR", value_name = "DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: KeyvalueCommand,
}

#[derive(Subcommand)]
pub(crate) enum KeyvalueCommand {
    /// List namespaces, and the bytes each holds.
    List,
    /// Delete all that a namespace holds, such as us-east-1/service/default/web.
    Clear {
        /// As `list` prints it.
        namespace: String,
    },
}

/// The only argument when this program has started itself to compile a component: nothing for people to type.
pub(crate) const COMPILE: &str = "__compile";

/// Arguments that another program reads.
#[derive(Args)]
pub(crate) struct BenchArgs {
    /// What `coracle-bench` is told.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
    pub(crate) arguments: Vec<std::ffi::OsString>,
}

/// The settings of a Coracle, each optional: what is not given is looked for in the file, see [`UP_NOTES`].
#[derive(Args, Default)]
pub(crate) struct UpArgs {
    /// A TOML file with any of these settings.
    #[arg(long, env = "CORACLE_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where state, images, artifacts, logs and volumes are kept [default: coracle in XDG_DATA_HOME, else in ~/.local/share]
    #[arg(long, env = "CORACLE_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the AWS API listens; port 0 picks a free one [default: 127.0.0.1:4566]
    #[arg(long, env = "CORACLE_API", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) api: Option<SocketAddr>,
    /// Where the router listens; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "CORACLE_ROUTER", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) router: Option<SocketAddr>,
    /// CPU units this node offers, 1024 for each vCPU; may be more than it has [default: the machine's]
    #[arg(long, env = "CORACLE_CPU", value_name = "UNITS")]
    pub(crate) cpu: Option<u32>,
    /// Memory this node offers, in MiB; may be more than it has [default: the machine's]
    #[arg(long, env = "CORACLE_MEMORY", value_name = "MIB")]
    pub(crate) memory: Option<u32>,
    /// A PEM file of authorities that outgoing TLS of tasks trusts beside the public ones. Repeatable.
    #[arg(long, env = "CORACLE_TLS_ROOT", value_name = "FILE", value_delimiter = ',')]
    pub(crate) tls_root: Vec<PathBuf>,
    /// The directory that stands for S3 in `environmentFiles`: arn:aws:s3:::BUCKET/KEY is BUCKET/KEY in it [default: s3
    /// in the data directory]
    #[arg(long, env = "CORACLE_ENV_FILES_DIR", value_name = "DIR")]
    pub(crate) env_files_dir: Option<PathBuf>,
    /// Write {"api", "router", "pid"} as JSON to this file once everything serves.
    #[arg(long, env = "CORACLE_READY_FILE", value_name = "PATH")]
    pub(crate) ready_file: Option<PathBuf>,
    /// The account that resources belong to [default: 123456789012]
    #[arg(long, env = "CORACLE_ACCOUNT_ID", value_name = "12 DIGITS")]
    pub(crate) account_id: Option<String>,
    /// The region of requests that do not name one [default: us-east-1]
    #[arg(long, env = "CORACLE_REGION", value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Take only requests signed with a known access key: one of --access-key or of an IAM user. At the first
    /// start without any, the IAM user admin is made and its key printed [default: false, or true with
    /// --access-key]
    #[arg(
        long,
        env = "CORACLE_AUTH",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub(crate) auth: Option<bool>,
    /// An access key that may do everything. Repeatable; the variable takes several with commas between them
    #[arg(
        long,
        env = "CORACLE_ACCESS_KEY",
        value_name = "ID:SECRET",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub(crate) access_key: Vec<String>,
    /// Disk space for compiled components, in MiB; those not used for longest make room [default: 2048]
    #[arg(long, env = "CORACLE_ARTIFACT_CACHE", value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) artifact_cache: Option<u32>,
    /// Memory that compiling one component may take, in MiB [default: 4096, or half of the machine's]
    #[arg(long, env = "CORACLE_COMPILE_MEMORY", value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    pub(crate) compile_memory: Option<u32>,
    /// CPU time that compiling one component may take: 30s, 5m; on the clock it may take twice that [default: 5m]
    #[arg(long, env = "CORACLE_COMPILE_TIMEOUT", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) compile_timeout: Option<Duration>,
    /// Instances of components that live at the same time, over all tasks; further requests wait. The kernel's
    /// vm.max_map_count may allow fewer [default: 4000]
    #[arg(long, env = "CORACLE_MAX_INSTANCES", value_name = "COUNT")]
    pub(crate) max_instances: Option<u32>,
    /// Serve POST /_coracle/reset, which empties everything; for test suites [default: false]
    #[arg(
        long,
        env = "CORACLE_ALLOW_RESET",
        value_name = "BOOL",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = clap::builder::BoolishValueParser::new()
    )]
    pub(crate) allow_reset: Option<bool>,
    /// How much log events may take in all, in MiB; beyond it the oldest of the largest groups are removed
    /// [default: 10240]
    #[arg(long, env = "CORACLE_LOG_STORAGE", value_name = "MIB")]
    pub(crate) log_storage: Option<u64>,
    /// Log every request the router gets to this file; full ones of 64 MiB are renamed, and 8 of them kept
    /// [default: off]
    #[arg(long, env = "CORACLE_ACCESS_LOG", value_name = "PATH")]
    pub(crate) access_log: Option<PathBuf>,
    /// What a line of the access log looks like: json, or alb for the format of Application Load Balancers
    /// [default: json]
    #[arg(long, env = "CORACLE_ACCESS_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) access_log_format: Option<AccessLogFormat>,
}

#[derive(Args)]
pub(crate) struct DemoArgs {
    /// Where to keep state [default: a temporary directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Where the AWS API listens [default: 127.0.0.1:4566, or a free port if that is taken]
    #[arg(long, env = "CORACLE_API", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) api: Option<SocketAddr>,
    /// Where the router listens [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, env = "CORACLE_ROUTER", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) router: Option<SocketAddr>,
    /// Stop after the demonstration instead of leaving it running.
    #[arg(long)]
    pub(crate) exit: bool,
}

#[derive(Args)]
pub(crate) struct DevArgs {
    /// The project's folder.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Where the AWS API listens [default: 127.0.0.1:4566, or a free port if that is taken]
    #[arg(long, env = "CORACLE_API", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) api: Option<SocketAddr>,
    /// Where the router listens [default: 127.0.0.1:8080, or a free port if that is taken]
    #[arg(long, env = "CORACLE_ROUTER", value_name = "IP:PORT", value_parser = parse_address)]
    pub(crate) router: Option<SocketAddr>,
    /// Where state, such as key-value stores, is kept between two sessions [default: a temporary directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct RunArgs {
    /// The component: a .wasm file.
    pub(crate) component: PathBuf,
    /// Its arguments, after `--`.
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
    /// CPU units it may use at most; 1024 are one vCPU [default: no cap]
    #[arg(long, value_name = "UNITS", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) cpu: Option<u32>,
    /// Memory it may hold at most, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) memory: u32,
    /// Fuel it may burn at most: per run, or per request of an HTTP component [default: no limit]
    #[arg(long, value_name = "UNITS")]
    pub(crate) fuel: Option<u64>,
    /// How long a run, or one request, may take: 500ms, 30s, 5m, 1h [default: no limit; 60s for a request]
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Option<Duration>,
    /// An environment variable: NAME=VALUE, or NAME to pass on this process's own. Repeatable.
    #[arg(long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// A directory it may use: HOST::GUEST, or HOST::GUEST:ro to only read. Repeatable.
    #[arg(long, value_name = "HOST::GUEST[:ro]")]
    pub(crate) dir: Vec<String>,
    /// What it may connect to, over TCP, UDP or HTTP: api.example.com:443, *.internal, 10.0.0.0/8:5432, or *:443 for
    /// any public host. Private and loopback addresses have to be named as addresses. Repeatable.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) allow_net: Vec<String>,
    /// Its key-value store: a file, made if it is not there [default: it has none]
    #[arg(long, value_name = "FILE")]
    pub(crate) keyvalue: Option<PathBuf>,
    /// Where an HTTP component is served; port 0 picks a free one.
    #[arg(long, value_name = "IP:PORT", value_parser = parse_address, default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,
}

#[derive(Args)]
pub(crate) struct NewArgs {
    /// The folder to make; its last part is the project's name.
    #[arg(value_name = "NAME")]
    pub(crate) path: PathBuf,
    /// What it is written in.
    #[arg(long)]
    pub(crate) lang: Language,
    /// What it is.
    #[arg(long, default_value = "http")]
    pub(crate) kind: Kind,
}

/// What a project is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    Rust,
    Js,
    Python,
    Go,
    C,
}

/// What a project is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An HTTP service
    Http,
    /// A batch task, which runs to an exit code
    Task,
    /// A plugin, whose functions a program calls by name
    Plugin,
}

/// How a client command finds the API.
#[derive(Args)]
pub(crate) struct ApiArgs {
    /// The API's address [default: AWS_ENDPOINT_URL, else http://127.0.0.1:4566]
    #[arg(
        long,
        env = "AWS_ENDPOINT_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:4566",
        hide_default_value = true,
        hide_env = true
    )]
    pub(crate) api: String,
    /// The region to ask [default: AWS_REGION, AWS_DEFAULT_REGION, else us-east-1]
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Print JSON instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct PsArgs {
    /// Only this cluster [default: all of the region's]
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// Also the tasks that have stopped.
    #[arg(short, long)]
    pub(crate) all: bool,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Args)]
pub(crate) struct LogsArgs {
    /// A service's name, or a task's id or the beginning of one.
    #[arg(value_name = "SERVICE|TASK")]
    pub(crate) subject: String,
    /// Go on printing what comes, until Ctrl-C; waits for a service or task that is not there yet.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// The cluster it is in.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Args)]
pub(crate) struct ExecArgs {
    /// The cluster it is in.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(crate) cluster: String,
    /// The task's id, the beginning of it, or its ARN.
    #[arg(long, value_name = "TASK")]
    pub(crate) task: String,
    /// The container [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Pass standard input on; otherwise the command finds none.
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// The command, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Args)]
pub(crate) struct PushArgs {
    /// The component: a .wasm file.
    pub(crate) file: PathBuf,
    /// What task definitions call it, such as `shop/web:1.4`; without a tag, `latest`.
    #[arg(value_name = "NAME:TAG")]
    pub(crate) reference: String,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Args)]
pub(crate) struct ApplyArgs {
    /// What to apply: a JSON or YAML file, or - for standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Only show what would change.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    /// Do not wait until the services are steady.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// How long the services may take to become steady: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5m")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

#[derive(Args)]
pub(crate) struct DeleteArgs {
    /// What to remove: the file that was applied, or - for standard input. Repeatable.
    #[arg(short = 'f', long = "filename", value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Only show what would be removed.
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) confirm: ConfirmArgs,
    /// How long the tasks of the services may take to stop: 30s, 5m, 1h
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "5m")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

/// Whether to ask before something is changed.
#[derive(Args)]
pub(crate) struct ConfirmArgs {
    /// Do not ask. Only a terminal is asked anyway.
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct ImagesArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
}

/// Reads an address to listen on. Names are not looked up: one can mean several addresses, or another
/// machine's.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an IP address and a port, such as 127.0.0.1:4566".to_owned())
}

/// Reads `500ms`, `30s`, `5m`, or a bare number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len()));
    let scale = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; write 500ms, 30s, 5m or 1h")),
    };
    let number: f64 = number.parse().map_err(|_| "write a number and a unit, such as 30s".to_owned())?;
    Duration::try_from_secs_f64(number * scale)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "must be more than zero and less than the age of the universe".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn allow_reset_is_a_switch_that_takes_what_people_write() {
        for (args, expected) in [
            (&["coracle", "up"][..], None),
            (&["coracle", "up", "--allow-reset"], Some(true)),
            (&["coracle", "up", "--allow-reset=1"], Some(true)),
            (&["coracle", "up", "--allow-reset", "no"], Some(false)),
        ] {
            let Command::Up(up) = Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}")).command
            else {
                panic!("{args:?} is not up");
            };
            assert_eq!(up.allow_reset, expected, "{args:?}");
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(parse_address("127.0.0.1:0"), Ok(SocketAddr::from(([127, 0, 0, 1], 0))));
        assert!(parse_address("[::1]:80").is_ok());
        for bad in ["4566", ":4566", "127.0.0.1", "localhost:4566", "http://127.0.0.1:4566"] {
            assert!(parse_address(bad).is_err_and(|why| why.contains("127.0.0.1:4566")), "{bad:?}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        for bad in ["", "0", "s", "5 s", "-1s", "5d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }
}
