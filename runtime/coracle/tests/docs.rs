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
use support::built::{self, share_builds, skip};
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
    let output = run(share_builds(runner)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/docs.py"))
        .arg(root)
        .arg(document)
        .arg(work)
        .arg(env!("CARGO_BIN_EXE_coracle"))
        .arg(python().parent().unwrap()));
    assert!(output.status.success(), "{}", text(&output));
    println!("{}", text(&output));
}

/// Documents that need nothing prepared, each with the name of its test.
macro_rules! documents {
    ($($test:ident: $document:literal,)*) => {
        $(
            #[test]
            fn $test() {
                tells_the_truth($document);
            }
        )*
    };
}

documents! {
    the_front_page: "README.md",
    alarms: "api/server/docs/alarms.md",
    commands_inside_tasks: "api/server/docs/execute-command.md",
    identities: "api/server/docs/identities.md",
    the_example_batch: "examples/batch/README.md",
    the_example_chat: "examples/chat/README.md",
    the_example_hello: "examples/hello/README.md",
    the_example_hello_sdk: "examples/hello-sdk/README.md",
    the_example_proxy: "examples/proxy/README.md",
    the_example_report: "examples/report/README.md",
    the_example_shop: "examples/shop/README.md",
    the_example_sidecar: "examples/sidecar/README.md",
    the_example_url_shortener: "examples/url-shortener/README.md",
    files_for_apply: "runtime/coracle/docs/apply.md",
    while_you_write: "runtime/coracle/docs/dev.md",
    from_ecs_in_five_steps: "runtime/coracle/docs/from-ecs.md",
    limits_explained: "runtime/coracle/docs/limits.md",
    the_quick_start: "runtime/coracle/docs/quick-start.md",
    listeners_rules_and_target_groups: "runtime/router/docs/listeners.md",
    guests_in_other_languages: "sdk/docs/languages.md",
}

/// Whether a program of another package is there, which is built only with the whole workspace; says so when it is not.
fn has_program(program: &str, document: &str) -> bool {
    let found = Path::new(env!("CARGO_BIN_EXE_coracle")).with_file_name(program).exists();
    if !found {
        skip(document, "its program is built by `cargo test --workspace` alone");
    }
    found
}

#[test]
fn the_example_functions() {
    let document = "examples/functions/README.md";
    if has_program("functions", document) {
        tells_the_truth(document);
    }
}

#[test]
fn the_benchmarks() {
    let document = "benches/README.md";
    if has_program("coracle-bench", document) {
        tells_the_truth(document);
    }
}

#[test]
fn the_example_plugin_host() {
    let document = "examples/plugin-host/README.md";
    if !has_program("plugin-host", document) {
        return;
    }
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let python = match zig::python_with(zig::ZIG, tmp)
        .and_then(|_| zig::python_with(zig::COMPONENTIZE_PY, tmp))
    {
        Ok(python) => python,
        Err(reason) => return skip("examples/plugin-host/README.md, which needs wheels of PyPI", &reason),
    };
    tells_the_truth_with(document, |work, runner| {
        runner.env("PYTHONPATH", packages(&python)).env("ZIG_GLOBAL_CACHE_DIR", tmp.join("zig-cache"));
        // What pip finds to be there already has left its command elsewhere.
        let bin = work.join("tmp/venv/bin");
        std::fs::create_dir_all(&bin).unwrap();
        symlink(python.with_file_name("componentize-py"), bin.join("componentize-py")).unwrap();
    });
}

/// Where a Python has its packages.
fn packages(python: &Path) -> String {
    let ask = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'))"];
    String::from_utf8(run(Command::new(python).args(ask)).stdout).unwrap().trim().to_owned()
}

#[test]
fn characters_may_come_in_pieces_with_others_between() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("tmp")).unwrap();
    let text = "```console\n$ printf '\\342'; printf 'progress' >&2; printf '\\200\\246\\n'\n…\n```\n";
    std::fs::write(dir.path().join("pieces.md"), text).unwrap();
    document_tells_the_truth(&mut Command::new("python3"), dir.path(), "pieces.md", dir.path());
}

/// The README that comes with a project, in the project.
#[track_caller]
fn a_template_tells_the_truth(template: &str) {
    let kind = Path::new(template).parent().and_then(Path::file_name).unwrap().to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Each has a name of its own, because what they are made of is in one place.
    let name = format!("new-{kind}");
    let made = run(coracle().current_dir(dir.path()).args(["new", &name, "--lang", "rust", "--kind", kind]));
    assert!(made.status.success(), "{}", text(&made));
    let project = dir.path().join(name);
    std::fs::create_dir(project.join("tmp")).unwrap();
    document_tells_the_truth(&mut Command::new("python3"), &project, "README.md", &project);
}

#[test]
fn the_readme_of_a_new_service() {
    a_template_tells_the_truth("sdk/templates/common/http/README.md");
}

#[test]
fn the_readme_of_a_new_task() {
    a_template_tells_the_truth("sdk/templates/common/task/README.md");
}

#[test]
fn the_readme_of_a_new_plugin() {
    a_template_tells_the_truth("sdk/templates/common/plugin/README.md");
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

/// The Markdown files below a folder, but for those that tools have put there.
fn markdown(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !name.starts_with('.') && !["target", "node_modules"].contains(&name) {
            markdown(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The first lines of blocks with commands, and their languages: those of a shell, and others that look like a terminal.
/// What a server goes on to print has no commands.
fn command_blocks(text: &str) -> Vec<(usize, &str)> {
    let mut found: Vec<(usize, &str)> = Vec::new();
    let (mut open, mut remark) = (None, "");
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        match (open, line.strip_prefix("```")) {
            (Some(_), Some(_)) => (open, remark) = (None, ""),
            (None, Some(language)) => {
                open = Some((number, language));
                if ["sh", "console", "bash", "shell"].contains(&language) {
                    found.push((number, language));
                }
            }
            (Some(block), None) => {
                let looks_like_it = line.starts_with("$ ") && remark != "<!-- run: goes on -->";
                if looks_like_it && found.last() != Some(&block) {
                    found.push(block);
                }
            }
            (None, None) => remark = if line.is_empty() { remark } else { line },
        }
    }
    found
}

#[test]
fn every_document_with_commands_has_a_test() {
    let mut documents = Vec::new();
    markdown(&root(), &mut documents);
    let (tests, mut blocks) = (include_str!("docs.rs"), 0);
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let name = document.strip_prefix(root()).unwrap().to_str().unwrap();
        for (line, language) in command_blocks(&text) {
            assert!(tests.contains(&format!("\"{name}\"")), "no test here runs the commands of {name}");
            // Others are not looked at by what runs them.
            assert!(
                ["sh", "console", "bash"].contains(&language),
                "{name}:{line}: commands in a block of {language:?}"
            );
            blocks += 1;
        }
    }
    assert!(blocks > 50, "only {blocks} blocks were found");
}

/// A heading's name in links, as GitHub has it.
fn anchor(heading: &str) -> String {
    let kept = |letter: &char| letter.is_alphanumeric() || " -_".contains(*letter);
    heading
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|letter| if letter == ' ' { '-' } else { letter })
        .collect()
}

/// The lines of a document that are not in blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents = Vec::new();
    markdown(&root(), &mut documents);
    let mut followed = 0;
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap();
        let joined = prose(&text).collect::<Vec<_>>().join("\n");
        for link in joined.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains(':') {
                continue;
            }
            let (path, section) = link.split_once('#').unwrap_or((link, ""));
            let target = match path {
                "" => document.clone(),
                path => document.parent().unwrap().join(path),
            };
            assert!(target.exists(), "{}: nothing is at {link}", document.display());
            let is_there = || {
                let target = std::fs::read_to_string(&target).unwrap();
                prose(&target).any(|line| {
                    line.starts_with('#') && anchor(line.trim_start_matches(['#', ' '])) == section
                })
            };
            assert!(section.is_empty() || is_there(), "{}: {link} has no such section", document.display());
            followed += 1;
        }
    }
    assert!(followed > 50, "only {followed} links were found");
}

/// All text of the templates, of projects by this name.
fn templates(folder: &Path, name: &str, all: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            templates(&path, name, all);
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            all.push_str(&text.replace("{{name}}", name));
        }
    }
}

#[test]
fn code_in_the_guide_of_languages_is_that_of_the_templates() {
    let guide = std::fs::read_to_string(root().join("sdk/docs/languages.md")).unwrap();
    let mut compared = 0;
    for part in guide.split("\n## ").skip(1) {
        let name = part.split("coracle new ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
        let mut all = String::new();
        templates(&root().join("sdk/templates"), name, &mut all);
        for block in part.split("\n```").skip(1).step_by(2) {
            let (language, code) = block.split_once('\n').unwrap();
            if language != "console" {
                assert!(all.contains(code), "no template has this {language}:\n{code}");
                compared += 1;
            }
        }
    }
    assert!(compared > 5, "only {compared} pieces were found");
}
