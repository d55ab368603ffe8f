//! What `coracle up` was told: the command line over the environment over the file over the defaults.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use coracle_router::{AccessLogConfig, AccessLogFormat};
use coracle_sandbox::{ArtifactCacheConfig, CompileLimits, Compiler, CompilerProcess, EngineConfig};
use coracle_types::{AccountId, Region};
use serde::Deserialize;

use crate::cli::{COMPILE, UpArgs, parse_duration};

/// How much all log events may take unless told otherwise, in MiB.
const LOG_STORAGE_MIB: u64 = 10 * 1024;

/// The settings of one `coracle up`, complete and checked.
#[derive(Clone, Debug)]
pub(crate) struct UpConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) api: SocketAddr,
    pub(crate) router: SocketAddr,
    /// CPU units the node offers.
    pub(crate) cpu: u32,
    /// MiB the node offers.
    pub(crate) memory: u32,
    pub(crate) ready_file: Option<PathBuf>,
    /// PEM files of authorities that outgoing TLS of tasks trusts beside the public ones.
    pub(crate) tls_roots: Vec<PathBuf>,
    /// What stands for all S3 buckets of `environmentFiles`; None is `s3` in the data directory.
    pub(crate) env_files_dir: Option<PathBuf>,
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    /// Access key ids and their secrets that may do everything.
    pub(crate) access_keys: Vec<(String, String)>,
    /// Whether requests have to be signed with a known key.
    pub(crate) auth: bool,
    pub(crate) allow_reset: bool,
    /// How much all log events may take, in MiB.
    pub(crate) log_storage: u64,
    /// Where requests to the router are logged, if they are.
    pub(crate) access_log: Option<AccessLogConfig>,
    pub(crate) artifacts: ArtifactCacheConfig,
    /// Instances of components that live at the same time.
    pub(crate) max_instances: u32,
    /// Where compiled components are kept; None is `artifacts` in the data directory.
    pub(crate) artifacts_dir: Option<PathBuf>,
}

/// The same as a file may give it: any part, spelled with underscores or, as on the command line, hyphens.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(alias = "data-dir")]
    data_dir: Option<PathBuf>,
    api: Option<SocketAddr>,
    router: Option<SocketAddr>,
    cpu: Option<u32>,
    memory: Option<u32>,
    #[serde(default, alias = "tls-root")]
    tls_root: Vec<PathBuf>,
    #[serde(alias = "env-files-dir")]
    env_files_dir: Option<PathBuf>,
    #[serde(alias = "ready-file")]
    ready_file: Option<PathBuf>,
    #[serde(alias = "account-id")]
    account_id: Option<String>,
    region: Option<String>,
    auth: Option<bool>,
    #[serde(default, alias = "access-key")]
    access_key: Vec<String>,
    #[serde(alias = "allow-reset")]
    allow_reset: Option<bool>,
    #[serde(alias = "log-storage")]
    log_storage: Option<u64>,
    #[serde(alias = "access-log")]
    access_log: Option<PathBuf>,
    #[serde(alias = "access-log-format")]
    access_log_format: Option<String>,
    #[serde(alias = "artifact-cache")]
    artifact_cache: Option<u32>,
    #[serde(alias = "compile-memory")]
    compile_memory: Option<u32>,
    #[serde(alias = "compile-timeout")]
    compile_timeout: Option<String>,
    #[serde(alias = "max-instances")]
    max_instances: Option<u32>,
}

impl UpConfig {
    /// Puts the sources together.
    pub(crate) fn resolve(args: &UpArgs) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let access_keys = if args.access_key.is_empty() { &file.access_key } else { &args.access_key };
        let account = args.account_id.as_ref().or(file.account_id.as_ref());
        let region = args.region.as_ref().or(file.region.as_ref());
        let cpu = args.cpu.or(file.cpu).unwrap_or_else(machine_cpu);
        let memory = args.memory.or(file.memory).unwrap_or_else(machine_memory);
        if cpu == 0 || memory == 0 {
            bail!("a node must offer some CPU and memory: --cpu is {cpu} units, --memory is {memory} MiB");
        }
        let compile_timeout = match (args.compile_timeout, &file.compile_timeout) {
            (Some(time), _) => Some(time),
            (None, Some(text)) => {
                let time = parse_duration(text).map_err(|why| anyhow!("compile_timeout: {why}"))?;
                Some(time)
            }
            (None, None) => None,
        };
        let artifacts = artifact_cache(
            args.artifact_cache.or(file.artifact_cache),
            args.compile_memory.or(file.compile_memory),
            compile_timeout,
        );
        let default_instances = EngineConfig::default().max_instances;
        let max_instances = args.max_instances.or(file.max_instances).unwrap_or(default_instances);
        if max_instances == 0 {
            bail!("a node must have room for some instances: --max-instances is 0");
        }
        let access_log_format = match (args.access_log_format, &file.access_log_format) {
            (Some(format), _) => format,
            (None, Some(text)) => text.parse().map_err(|why| anyhow!("access_log_format: {why}"))?,
            (None, None) => AccessLogFormat::default(),
        };
        let access_log = args.access_log.clone().or(file.access_log);
        Ok(Self {
            access_log: access_log
                .map(|path| AccessLogConfig { format: access_log_format, ..AccessLogConfig::new(path) }),
            artifacts,
            max_instances,
            artifacts_dir: None,
            data_dir: absolute(&args.data_dir.clone().or(file.data_dir).map_or_else(default_data_dir, Ok)?)?,
            api: args.api.or(file.api).unwrap_or_else(|| ([127, 0, 0, 1], 4566).into()),
            router: args.router.or(file.router).unwrap_or_else(|| ([127, 0, 0, 1], 8080).into()),
            cpu,
            memory,
            ready_file: args.ready_file.clone().or(file.ready_file),
            tls_roots: if args.tls_root.is_empty() { file.tls_root } else { args.tls_root.clone() },
            env_files_dir: args.env_files_dir.clone().or(file.env_files_dir),
            account: account.map_or_else(|| Ok(AccountId::default()), |text| text.parse())?,
            region: region.map_or("us-east-1", String::as_str).parse()?,
            access_keys: access_keys.iter().map(|text| parse_access_key(text)).collect::<Result<_, _>>()?,
            // Whoever names a key means that others are refused.
            auth: args.auth.or(file.auth).unwrap_or(!access_keys.is_empty()),
            allow_reset: args.allow_reset.or(file.allow_reset).unwrap_or(false),
            log_storage: args.log_storage.or(file.log_storage).unwrap_or(LOG_STORAGE_MIB),
        })
    }
}

/// The artifact cache of this program: components are compiled by a child process, whatever they are.
pub(crate) fn artifact_cache(
    cache_mib: Option<u32>,
    compile_mib: Option<u32>,
    cpu_time: Option<Duration>,
) -> ArtifactCacheConfig {
    let mib = |mib: u32| u64::from(mib) << 20;
    let default = CompileLimits::default();
    let cpu_time = cpu_time.unwrap_or(default.cpu_time);
    let limits = CompileLimits {
        cpu_time,
        wall_time: cpu_time * 2,
        memory: compile_mib.map_or_else(|| default.memory.min(mib(machine_memory()) / 2), mib),
        ..default
    };
    let default = ArtifactCacheConfig::default();
    ArtifactCacheConfig {
        compiler: Compiler::Child(CompilerProcess::this_program([COMPILE], limits)),
        max_bytes: cache_mib.map_or(default.max_bytes, mib),
        ..default
    }
}

fn read_file(path: &Path) -> anyhow::Result<File> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
}

fn parse_access_key(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => Ok((id.to_owned(), secret.to_owned())),
        _ => bail!("an access key is written ID:SECRET"),
    }
}

/// The directory used when none is named, by the XDG convention.
pub(crate) fn default_data_dir() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("XDG_DATA_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir).join("coracle"));
    }
    let home = std::env::var_os("HOME").context("HOME is not set; name a directory with --data-dir")?;
    Ok(PathBuf::from(home).join(".local/share/coracle"))
}

/// A path that means the same in processes that work elsewhere, such as the one that compiles.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot tell where {} is", path.display()))
}

/// 1024 units for each processor this process may use.
fn machine_cpu() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(processors).unwrap_or(u32::MAX).saturating_mul(1024)
}

/// The machine's memory in MiB.
fn machine_memory() -> u32 {
    let info = rustix::system::sysinfo();
    let bytes = info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)));
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("coracle.toml");
        std::fs::write(
            &path,
            "cpu = 512\nmemory = 100\nartifact-cache = 7\ncompile_timeout = \"90s\"\naccount_id = \"000000000001\"\ndata_dir = \"/data\"\n",
        )
        .unwrap();
        let args = UpArgs { config: Some(path.clone()), cpu: Some(2048), ..UpArgs::default() };
        let config = UpConfig::resolve(&args).unwrap();
        assert_eq!((config.cpu, config.memory), (2048, 100));
        assert_eq!(config.account.to_string(), "000000000001");
        assert_eq!(config.artifacts.max_bytes, 7 << 20);
        let Compiler::Child(child) = &config.artifacts.compiler else { panic!("compiles in process") };
        assert_eq!(child.limits.cpu_time.as_secs(), 90);
        assert_eq!(config.api.to_string(), "127.0.0.1:4566");

        std::fs::write(&path, "cpuu = 1").unwrap();
        let error = format!("{:#}", UpConfig::resolve(&args).unwrap_err());
        assert!(error.contains("unknown field `cpuu`"), "{error}");
    }

    #[test]
    fn the_data_directory_is_the_same_wherever_a_process_works() {
        let args = UpArgs { data_dir: Some(PathBuf::from("state")), ..UpArgs::default() };
        let resolved = UpConfig::resolve(&args).unwrap().data_dir;
        assert_eq!(resolved, std::env::current_dir().unwrap().join("state"));
    }

    #[test]
    fn bad_values_are_refused_in_words() {
        let refuse = |args: UpArgs| format!("{:#}", UpConfig::resolve(&args).unwrap_err());
        let data_dir = Some(PathBuf::from("/data"));
        let keys =
            UpArgs { access_key: vec!["AKIA".into()], data_dir: data_dir.clone(), ..UpArgs::default() };
        assert!(refuse(keys).contains("ID:SECRET"));
        let account =
            UpArgs { account_id: Some("12".into()), data_dir: data_dir.clone(), ..UpArgs::default() };
        assert!(refuse(account).contains("12 digits"));
        let cpu = UpArgs { cpu: Some(0), data_dir: data_dir.clone(), ..UpArgs::default() };
        assert!(refuse(cpu).contains("must offer some CPU"));
        let instances = UpArgs { max_instances: Some(0), data_dir, ..UpArgs::default() };
        assert!(refuse(instances).contains("--max-instances"));
    }
}
