//! What `coracle new` writes builds from nothing, by each language's own tools and as its README says, and runs under
//! limits.
//!
//! Tools come from the package registries. What they build is kept for as long as the templates stay as they are, and the
//! tools, which are large, until everything that wants them is built. Where they can't be installed the test says so on
//! standard error, by name, and passes; with `CORACLE_REQUIRE_TOOLCHAINS` set it fails.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use coracle_fixtures::zig;
use coracle_sandbox::{ContainerSpec, Engine, EngineConfig, MemoryBudget, Plugin};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};
use support::built::{share_builds, skip};
use support::{Server, coracle, http, run, text};
use tempfile::TempDir;

/// A project that was just written.
struct Project {
    language: &'static str,
    kind: &'static str,
    dir: TempDir,
}

/// Why a project was not built: its tools are not there.
struct Skipped(String);

fn tmp() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Where what was built is kept, and the tools that nobody else wants.
fn kept() -> PathBuf {
    let kept = tmp().join("templates");
    fs::create_dir_all(&kept).unwrap();
    kept
}

/// Every project there is a template for.
fn every_project() -> impl Iterator<Item = Project> {
    let kinds = |language| ["http", "task", "plugin"].into_iter().map(move |kind| (language, kind));
    let all = ["rust", "js", "python", "go", "c"].into_iter().flat_map(kinds);
    all.filter(|one| *one != ("go", "plugin")).map(|(language, kind)| Project::new(language, kind))
}

/// The name of every project: with a hyphen, which not every tool likes.
const NAME: &str = "my-app";

impl Project {
    fn new(language: &'static str, kind: &'static str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = coracle();
        command.current_dir(dir.path()).args(["new", NAME, "--lang", language, "--kind", kind]);
        let output = run(&mut command);
        assert!(output.status.success(), "{}", text(&output));
        Self { language, kind, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(NAME)
    }

    /// Its component, as far as its tools are there; its own tests have passed.
    fn build(&self) -> Result<PathBuf, Skipped> {
        let lock = fs::File::create(kept().join(format!("{}.lock", self.language))).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let component = self.component();
        if component.exists() {
            return Ok(component);
        }
        let (test, build, left) = self.readme();
        match self.language {
            "rust" => {
                self.must(&test);
                self.must(&build);
            }
            "js" => {
                self.node_modules()?;
                // The packages are there now, as by the command's first half.
                self.must(build.strip_prefix("npm install && ").unwrap());
                // The test of the task runs the component, by the program that is tested here.
                self.must(&test);
            }
            "python" => {
                let _lock = zig::lock_tools(tmp()).unwrap();
                self.try_tools("bin/componentize-py", &build)?;
                self.must(&test);
            }
            language => {
                if self.package().is_some() {
                    self.node_modules()?;
                }
                let (tool, _lock) = match language {
                    "go" => ("bin/go", None),
                    _ => ("bin/python-zig", Some(zig::lock_tools(tmp()).unwrap())),
                };
                self.try_tools(tool, &test)?;
                self.must(&build);
            }
        }
        // Under another name first: what is half written is not found next time.
        let draft = component.with_extension("draft");
        fs::copy(self.path().join(left), &draft).unwrap();
        fs::rename(draft, &component).unwrap();
        clean_up();
        Ok(component)
    }

    /// Where its component is kept.
    fn component(&self) -> PathBuf {
        kept().join(format!("{}-{}-{:016x}.wasm", self.language, self.kind, self.digest()))
    }

    /// What its README says to test it with and to build it with, and what that leaves.
    fn readme(&self) -> (String, String, String) {
        let readme = fs::read_to_string(self.path().join("README.md")).unwrap();
        let block = readme.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
        let mut lines = block.lines().map(|line| line.split_once("    # ").unwrap_or((line, "")));
        let ((test, about_tests), (build, component)) = (lines.next().unwrap(), lines.next().unwrap());
        assert_eq!(about_tests, "the tests", "{block}");
        (test.to_owned(), build.to_owned(), component.to_owned())
    }

    /// Its `package.json`, if it wants packages of npm's.
    fn package(&self) -> Option<String> {
        fs::read_to_string(self.path().join("package.json")).ok()
    }

    /// Where packages like those it wants are installed, if it wants any.
    fn packages(&self) -> Option<PathBuf> {
        let wanted: Value = serde_json::from_str(&self.package()?).unwrap();
        let mut hasher = DefaultHasher::new();
        (wanted["devDependencies"].to_string(), wanted["overrides"].to_string()).hash(&mut hasher);
        Some(kept().join(format!("npm-{:016x}", hasher.finish())))
    }

    /// Where its language's own tools are.
    fn tools(&self) -> PathBuf {
        match self.language {
            "go" => kept().join("go"),
            _ => zig::tools(tmp()),
        }
    }

    /// Installs the packages of its `package.json` where they stay, and lends them to it.
    fn node_modules(&self) -> Result<(), Skipped> {
        let (manifest, dir) = (self.package().unwrap(), self.packages().unwrap());
        // C and Go have the same ones.
        let lock = fs::File::create(dir.with_extension("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let complete = dir.join("complete");
        if !complete.exists() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("package.json"), manifest).unwrap();
            let mut npm = Command::new("npm");
            npm.current_dir(&dir).args(["install", "--no-audit", "--no-fund", "--silent"]);
            attempt(&mut npm).map_err(Skipped)?;
            fs::write(complete, "").unwrap();
        }
        std::os::unix::fs::symlink(dir.join("node_modules"), self.path().join("node_modules")).unwrap();
        Ok(())
    }

    /// Runs what installs its tools first, if they are not there. When they are, it must succeed.
    fn try_tools(&self, tool: &str, command: &str) -> Result<(), Skipped> {
        let failed = match attempt(&mut self.command(command)) {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        let tools = self.tools();
        let there = match tool {
            "bin/python-zig" => {
                attempt(Command::new(tools.join("bin/python")).args(["-c", "import ziglang"])).is_ok()
            }
            tool => tools.join(tool).exists(),
        };
        assert!(!there, "{failed}");
        Err(Skipped(failed))
    }

    #[track_caller]
    fn must(&self, command: &str) {
        if let Err(failed) = attempt(&mut self.command(command)) {
            panic!("{failed}");
        }
    }

    /// A line that people type in its folder.
    fn command(&self, line: &str) -> Command {
        let mut program = Command::new("sh");
        program.args(["-c", line]).current_dir(self.path());
        // What the cargo that runs this test has set is not meant for the project.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_") && !name.starts_with("CARGO_HOME")
                || name.starts_with("RUST") && name != "RUSTUP_HOME"
            {
                program.env_remove(name);
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let ours = Path::new(env!("CARGO_BIN_EXE_coracle")).parent().unwrap().to_owned();
        let path = std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&path))).unwrap();
        share_builds(&mut program)
            .env("PATH", path)
            .env("TOOLS", self.tools())
            .env("GOCACHE", kept().join("go-cache"))
            .env("ZIG_GLOBAL_CACHE_DIR", tmp().join("zig-cache"))
            .env("XDG_CACHE_HOME", self.dir.path().join("cache"));
        program
    }

    /// Of all its files.
    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<_> =
                fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            paths.sort();
            for path in paths {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    path.strip_prefix(self.path()).unwrap().hash(&mut hasher);
                    fs::read(&path).unwrap().hash(&mut hasher);
                }
            }
        }
        hasher.finish()
    }
}

/// Removes the tools with which everything has been built that wants them: they are large, and so are their caches.
fn clean_up() {
    let projects: Vec<_> = every_project().collect();
    let mut tools: Vec<_> = projects.iter().filter_map(Project::packages).collect();
    tools.extend([kept().join("go"), kept().join("go-cache")]);
    for dir in tools.into_iter().filter(|dir| dir.exists()) {
        let wants = |project: &&Project| match dir.file_name().and_then(|name| name.to_str()) {
            Some("go" | "go-cache") => project.language == "go",
            _ => project.packages().as_ref() == Some(&dir),
        };
        if projects.iter().filter(wants).all(|project| project.component().exists()) {
            // Another test may be at it, too.
            let _ = fs::remove_dir_all(dir);
        }
    }
}

/// Runs a command; when it fails, says how it ended.
fn attempt(command: &mut Command) -> Result<(), String> {
    let output = match command.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => return Err(format!("{command:?} does not start: {error}")),
    };
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} ends with {}: {}", output.status, text(&output)))
}

/// The component of this kind, unless tools are missing.
fn component(language: &'static str, kind: &'static str) -> Option<PathBuf> {
    match Project::new(language, kind).build() {
        Ok(component) => Some(component),
        Err(Skipped(reason)) => {
            skip(&format!("a guest in {language}: {kind}"), &reason);
            None
        }
    }
}

/// The service and the task, unless tools are missing.
fn components(language: &'static str) -> Option<(PathBuf, PathBuf)> {
    Some((component(language, "http")?, component(language, "task")?))
}

/// `coracle run` with limits and a cache of compiled components.
fn coracle_run(component: &Path, memory_mib: u32, cache: &TempDir) -> Command {
    let mut command = coracle();
    command.env("XDG_CACHE_HOME", cache.path()).arg("run").arg(component);
    command.args(["--memory", &memory_mib.to_string(), "--cpu", "1024", "--timeout", "120s"]);
    command
}

/// A component that is served, until it is dropped.
struct Served(Child, String);

impl Served {
    fn new(component: &Path, memory_mib: u32, cache: &TempDir) -> Self {
        let mut command = coracle_run(component, memory_mib, cache);
        let mut child = command.args(["--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("it is not served: {line}")).trim_end_matches('/').to_owned();
        // What it goes on to say must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self(child, url)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs both under limits, the service and the task, which ends with the code `misused` when it is given nothing.
#[track_caller]
fn check((service, task): (PathBuf, PathBuf), memory_mib: u32, misused: i32) {
    let cache = tempfile::tempdir().unwrap();
    let served = Served::new(&service, memory_mib, &cache);
    let answer = http("GET", &served.1, "/greet/you?x=1", &[], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello, you!\n"));
    assert_eq!(http("GET", &served.1, "/", &[], b"").text(), format!("Hello from {NAME}!\n"));
    assert_eq!(http("GET", &served.1, "/nowhere", &[], b"").status, 404);
    drop(served);

    let output = run(coracle_run(&task, memory_mib, &cache).args(["--", "you", "me"]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello, you!\nHello, me!\n", "{}", text(&output));
    assert_eq!(output.status.code(), Some(0));
    let output = run(&mut coracle_run(&task, memory_mib, &cache));
    assert_eq!((output.status.code(), output.stdout.len()), (Some(misused), 0), "{}", text(&output));
    assert!(text(&output).contains("usage: "), "{}", text(&output));
}

/// Runs both as their own task definitions say.
#[track_caller]
fn check_as_tasks((service, task): (PathBuf, PathBuf), language: &'static str) {
    let server = Server::start(&[]);
    let register = |project: &Project, family: &str, component: &Path| {
        server.push(component, &format!("{family}:latest"));
        let mut definition: Value =
            serde_json::from_slice(&fs::read(project.path().join("task-definition.json")).unwrap()).unwrap();
        definition["family"] = family.into();
        definition["containerDefinitions"][0]["image"] = format!("{family}:latest").into();
        let answer = server.ecs("RegisterTaskDefinition", &definition);
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned()
    };
    let definition = register(&Project::new(language, "http"), "service", &service);
    server.create_service("service", &definition, 2);
    assert_eq!(server.get("service", "/greet/you").text(), "Hello, you!\n");

    let definition = register(&Project::new(language, "task"), "task", &task);
    let ran = server.run_task(&definition, &json!({}));
    let stopped = server.wait_task(&ran, "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 0, "{stopped:#}");
    assert_eq!(server.log_messages(&format!("/ecs/{NAME}")), ["Hello, you!"]);
}

#[test]
fn rust() {
    let Some(components) = components("rust") else { return };
    let size = fs::metadata(&components.0).unwrap().len();
    assert!(size < 200_000, "the service with its router has grown to {size} bytes");
    check(components.clone(), 16, 2);
    check_as_tasks(components, "rust");
}

#[test]
fn c() {
    let Some(components) = components("c") else { return };
    check(components.clone(), 16, 2);
    check_as_tasks(components, "c");
}

#[test]
fn go() {
    let Some(components) = components("go") else { return };
    check(components, 64, 2);
}

#[test]
fn javascript() {
    let Some(components) = components("js") else { return };
    check(components, 128, 2);
}

#[test]
fn python() {
    let Some(components) = components("python") else { return };
    // The `exit` that componentize-py's libc calls knows success and failure alone.
    check(components, 256, 1);
}

/// Calls a plugin by its function's name, as its README does.
#[track_caller]
fn check_plugin(plugin: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Engine::new(&EngineConfig::default()).unwrap();
        let prepared = engine.prepare_bytes(&fs::read(plugin).unwrap()).unwrap();
        let limits = ContainerSpec { memory: MemoryBudget::new(64 << 20), ..ContainerSpec::default() };
        let plugin = Plugin::new(&prepared, limits).unwrap();
        for (text, words, longest) in
            [("every word counts", 3, "counts"), ("Übermut tut selten gut", 4, "Übermut"), (" ", 0, "")]
        {
            let summary = plugin.call("summarize", &json!([text])).await.unwrap();
            assert_eq!(summary, json!({"words": words, "longest": longest}), "{text:?}");
        }
    });
}

/// The same as a task, whose entry point says what to call.
#[track_caller]
fn check_plugin_as_task(plugin: &Path) {
    let server = Server::start(&[]);
    server.push(plugin, "plugin:latest");
    let container = json!({
        "image": "plugin:latest", "entryPoint": ["summarize"], "command": ["every word counts"], "memory": 16,
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": "plugin", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "x",
            "awslogs-create-group": "true",
        }},
    });
    let task = server.run_task(&server.register("plugin", container), &json!({}));
    let stopped = server.wait_task(&task, "STOPPED");
    assert_eq!(stopped["containers"][0]["exitCode"], 0, "{stopped:#}");
    assert_eq!(server.log_messages("plugin"), [r#"{"longest":"counts","words":3}"#]);
}

#[test]
fn plugin_in_rust() {
    let Some(plugin) = component("rust", "plugin") else { return };
    check_plugin(&plugin);
    check_plugin_as_task(&plugin);
}

#[test]
fn plugin_in_c() {
    let Some(plugin) = component("c", "plugin") else { return };
    check_plugin(&plugin);
    check_plugin_as_task(&plugin);
}

#[test]
fn plugin_in_javascript() {
    let Some(plugin) = component("js", "plugin") else { return };
    check_plugin(&plugin);
}

#[test]
fn plugin_in_python() {
    let Some(plugin) = component("python", "plugin") else { return };
    check_plugin(&plugin);
}

#[test]
fn what_is_there_is_refused() {
    let project = Project::new("c", "task");
    let mut command = coracle();
    command.current_dir(project.dir.path()).args(["new", NAME, "--lang", "rust"]);
    let output = run(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("my-app exists already"), "{}", text(&output));

    let output = run(coracle().args(["new", "Not a name", "--lang", "rust"]));
    assert!(text(&output).contains("can't be a project's name"), "{}", text(&output));
    let output = run(coracle().args(["new", "x", "--lang", "go", "--kind", "plugin"]));
    assert!(text(&output).contains("there is no template for a plugin in Go"), "{}", text(&output));
    let output = run(coracle().args(["new", "x", "--lang", "cobol"]));
    assert!(text(&output).contains("possible values: rust, js, python, go, c"), "{}", text(&output));
}
