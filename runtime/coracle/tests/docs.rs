//! Documents tell the truth: every command in these is run, and prints what they say it prints.

#![allow(clippy::unwrap_used, reason = "a panic is how a test reports")]

mod support;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_fixtures as fixtures;
use coracle_fixtures::zig;
use coracle_protocol::ecs;
use coracle_protocol::shape::Shape;
use support::built::{self, skip};
use support::{coracle, python, run, text};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What documents refer to, in a directory of its own: nothing that is run in it changes the repository.
fn working_copy(dir: &Path) {
    copy(&root().join("examples"), &dir.join("examples"));
    std::fs::copy(root().join("README.md"), dir.join("README.md")).unwrap();
    std::fs::create_dir(dir.join("tmp")).unwrap();
    let built = dir.join("examples/target/wasm32-wasip2/release");
    std::fs::create_dir_all(&built).unwrap();
    // In the folder of one of them are all of them.
    for entry in std::fs::read_dir(fixtures::example_hello().parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            std::fs::copy(&path, built.join(path.file_name().unwrap())).unwrap();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() && name != "target" && name != "node_modules" {
            copy(&path, &to.join(name));
        } else if path.is_file() {
            std::fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

#[track_caller]
fn tells_the_truth(document: &str) {
    tells_the_truth_with(document, |_, _| ());
}

/// The same, when there is more to prepare: in its directory, and in the environment of its commands.
#[track_caller]
fn tells_the_truth_with(document: &str, prepare: impl FnOnce(&Path, &mut Command)) {
    let work = tempfile::tempdir().unwrap();
    working_copy(work.path());
    let mut runner = Command::new("python3");
    prepare(work.path(), &mut runner);
    document_tells_the_truth(&mut runner, &root(), document, work.path());
}

/// Runs a document below `root` in the directory `work`.
#[track_caller]
fn document_tells_the_truth(runner: &mut Command, root: &Path, document: &str, work: &Path) {
    let output = run(runner
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docs.py"))
        .arg(root)
        .arg(document)
        .arg(work)
        .arg(env!("CARGO_BIN_EXE_coracle"))
        .arg(python().parent().unwrap()));
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

#[test]
fn the_front_page() {
    tells_the_truth("README.md");
}

#[test]
fn listeners_rules_and_target_groups() {
    tells_the_truth("runtime/router/docs/listeners.md");
}

#[test]
fn the_example_batch() {
    tells_the_truth("examples/batch/README.md");
}

#[test]
fn the_example_hello() {
    tells_the_truth("examples/hello/README.md");
}

#[test]
fn the_example_sidecar() {
    tells_the_truth("examples/sidecar/README.md");
}

#[test]
fn the_example_hello_sdk() {
    tells_the_truth("examples/hello-sdk/README.md");
}

#[test]
fn the_example_url_shortener() {
    tells_the_truth("examples/url-shortener/README.md");
}

#[test]
fn the_example_chat() {
    tells_the_truth("examples/chat/README.md");
}

#[test]
fn the_example_shop() {
    tells_the_truth("examples/shop/README.md");
}

#[test]
fn the_example_proxy() {
    tells_the_truth("examples/proxy/README.md");
}

#[test]
fn the_example_report() {
    tells_the_truth("examples/report/README.md");
}

#[test]
fn the_example_functions() {
    // Its program is another package's.
    if !Path::new(env!("CARGO_BIN_EXE_coracle")).with_file_name("functions").exists() {
        return skip(
            "examples/functions/README.md",
            "its program is built by `cargo test --workspace` alone",
        );
    }
    tells_the_truth("examples/functions/README.md");
}

/// Where a Python has its packages.
fn packages(python: &Path) -> String {
    let ask = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    String::from_utf8(run(Command::new(python).args(ask)).stdout).unwrap().trim().to_owned()
}

/// The README that comes with a project, in the project: what it builds, for as long as templates stay as they are, is
/// kept where the tests of templates keep it.
#[track_caller]
fn a_template_tells_the_truth(kind: &str) {
    let dir = tempfile::tempdir().unwrap();
    // Each has a name of its own, because they are built in one place.
    let name = format!("new-{kind}");
    let made = run(coracle().current_dir(dir.path()).args(["new", &name, "--lang", "rust", "--kind", kind]));
    assert!(made.status.success(), "{}", text(&made));
    let project = dir.path().join(name);
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("templates/rust");
    std::fs::create_dir_all(&kept).unwrap();
    symlink(kept, project.join("target")).unwrap();
    std::fs::create_dir(project.join("tmp")).unwrap();
    document_tells_the_truth(&mut Command::new("python3"), &project, "README.md", &project);
}

#[test]
fn the_readme_of_a_new_service() {
    a_template_tells_the_truth("http");
}

#[test]
fn the_readme_of_a_new_task() {
    a_template_tells_the_truth("task");
}

#[test]
fn the_readme_of_a_new_plugin() {
    a_template_tells_the_truth("plugin");
}

#[test]
fn the_example_thumbnails() {
    let component = built::thumbnails();
    tells_the_truth_with("examples/thumbnails/README.md", |work, _| {
        let release = work.join("examples/thumbnails/target/wasm32-wasip2/release");
        std::fs::create_dir_all(&release).unwrap();
        std::fs::copy(component, release.join("thumbnails.wasm")).unwrap();
    });
}

#[test]
fn the_example_sidecar_auth() {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let python = match zig::python_with(zig::ZIG, tmp) {
        Ok(python) => python,
        Err(reason) => return skip("examples/sidecar-auth/README.md, which needs zig", &reason),
    };
    // What its README installs is found to be there already.
    tells_the_truth_with("examples/sidecar-auth/README.md", |_, runner| {
        runner.env("PYTHONPATH", packages(&python)).env("ZIG_GLOBAL_CACHE_DIR", tmp.join("zig-cache"));
    });
}

#[test]
fn the_example_pipeline() {
    let built::Pipeline { root, python } = match built::pipeline() {
        Ok(programs) => programs,
        Err(reason) => return skip("examples/pipeline/README.md, with programs from crates.io", &reason),
    };
    // What it installs is there already.
    tells_the_truth_with("examples/pipeline/README.md", |work, runner| {
        symlink(root, work.join("tmp/wasm")).unwrap();
        runner.env("PYTHONPATH", packages(&python));
    });
}

#[test]
fn the_quick_start() {
    tells_the_truth("runtime/coracle/docs/quick-start.md");
}

#[test]
fn files_for_apply() {
    tells_the_truth("runtime/coracle/docs/apply.md");
}

#[test]
fn from_ecs_in_five_steps() {
    tells_the_truth("runtime/coracle/docs/from-ecs.md");
}

#[test]
fn limits_explained() {
    tells_the_truth("runtime/coracle/docs/limits.md");
}

/// The members of a shape that may be an object, a list of objects, or neither.
fn members(shape: &Shape) -> Vec<(&'static str, Shape)> {
    match shape {
        Shape::Object(members) => members.to_vec(),
        Shape::List(item) => members(item),
        _ => Vec::new(),
    }
}

#[test]
fn every_field_of_a_task_definition_is_explained() {
    let text = std::fs::read_to_string(root().join("runtime/agent/docs/task-definitions.md")).unwrap();
    let request = ecs::inputs::of("RegisterTaskDefinition").unwrap();
    let mut missing = Vec::new();
    for (field, shape) in members(request) {
        let inner = match field {
            "containerDefinitions" | "volumes" => members(&shape),
            _ => Vec::new(),
        };
        let names = std::iter::once(field).chain(inner.iter().map(|(name, _)| *name));
        missing.extend(names.filter(|name| {
            !["`", "."]
                .iter()
                .any(|before| ["`", "."].iter().any(|after| text.contains(&format!("{before}{name}{after}"))))
        }));
    }
    assert!(missing.is_empty(), "not a word about {missing:?}");
}

/// The text of every source file but tests, with strings that go over several lines made one.
fn sources() -> String {
    fn read(dir: &Path, all: &mut String) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", "tests", "guests"].contains(&name) {
                read(&path, all);
            } else if name.ends_with(".rs") {
                all.push_str(&std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut all = String::new();
    for room in ["api", "runtime"] {
        read(&root().join(room), &mut all);
    }
    let mut joined = String::with_capacity(all.len());
    let mut lines = all.lines();
    while let Some(mut line) = lines.next() {
        let mut first = true;
        while let Some(begun) = line.strip_suffix('\\') {
            joined.push_str(if first { begun } else { begun.trim_start() });
            line = lines.next().unwrap_or_default();
            first = false;
        }
        joined.push_str(if first { line } else { line.trim_start() });
        joined.push('\n');
    }
    joined
}

#[test]
fn every_message_in_troubleshooting_is_one_of_the_program() {
    let text = std::fs::read_to_string(root().join("runtime/coracle/docs/troubleshooting.md")).unwrap();
    let sources = sources();
    let mut strange = Vec::new();
    let mut looked_at = 0;
    for row in text.lines().filter(|line| line.starts_with('|') && !line.contains("---")) {
        let first = row.split(" | ").next().unwrap();
        // Between backticks are messages; what varies in them is an ellipsis.
        for message in first.split('`').skip(1).step_by(2) {
            for part in message.split('…').map(|part| part.trim_matches([' ', ':', '.'])) {
                if part.is_empty() {
                    continue;
                }
                looked_at += 1;
                // An error's name may stand before its text.
                let texts = part.split(": ").filter(|text| text.len() > 3);
                strange.extend(texts.filter(|text| !sources.contains(*text)).map(str::to_owned));
            }
        }
    }
    assert!(looked_at > 50, "only {looked_at} messages were found");
    assert!(strange.is_empty(), "the program says nothing like {strange:#?}");
}
