//! Building a project with its own tools, whose words go to the terminal as they are.

use std::process::Stdio;

use anyhow::Context as _;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::project::{Build, CARGO_BUILD, Component, Project};
use crate::output::{note, say};

/// Makes Cargo say in JSON on its standard output what it has built; what people read is not changed by it.
const CARGO_REPORT: &str = "--message-format=json-render-diagnostics";

/// Builds, and gives the component; None if that failed, which the tools have explained.
pub(super) async fn build(project: &Project) -> anyhow::Result<Option<Component>> {
    match &project.build {
        Build::None { component } => Ok(component.is_file().then(|| Component(component.clone()))),
        Build::Cargo => {
            say!("$ {CARGO_BUILD}")?;
            Ok(cargo(project).await?.map(Component))
        }
        Build::Command { command, component } => {
            say!("$ {command}")?;
            let mut child = Command::new("sh");
            child.args(["-c", command]).current_dir(&project.dir).stdin(Stdio::null()).kill_on_drop(true);
            let status = child.status().await.context("cannot start sh")?;
            if !status.success() {
                note!("{command}: {status}");
                return Ok(None);
            }
            if !component.is_file() {
                note!("{command} has succeeded and left no {}", component.display());
                return Ok(None);
            }
            Ok(Some(Component(component.clone())))
        }
    }
}

async fn cargo(project: &Project) -> anyhow::Result<Option<std::path::PathBuf>> {
    let mut words = CARGO_BUILD.split(' ');
    let mut child = Command::new(words.next().unwrap_or("cargo"))
        .args(words)
        .arg(CARGO_REPORT)
        .current_dir(&project.dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start cargo; https://rustup.rs has it")?;
    let mut lines = BufReader::new(child.stdout.take().context("cargo has no output")?).lines();
    let mut component = None;
    while let Some(line) = lines.next_line().await.context("cannot read what cargo says")? {
        component = artifact(&line).or(component);
    }
    if !child.wait().await?.success() {
        return Ok(None);
    }
    if component.is_none() {
        note!(
            "cargo has built no component: the package needs a binary, or a library with crate-type = [\"cdylib\"]"
        );
    }
    Ok(component.map(Into::into))
}

/// The component that a line of Cargo's report is about.
fn artifact(line: &str) -> Option<String> {
    let report: Value = serde_json::from_str(line).ok()?;
    if report["reason"] != "compiler-artifact" {
        return None;
    }
    let kinds = report["target"]["kind"].as_array()?;
    if !kinds.iter().any(|kind| kind == "bin" || kind == "cdylib") {
        return None;
    }
    let files = report["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.filter(|file| file.ends_with(".wasm")).map(str::to_owned).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_the_component_is() {
        let report = |kind: &str, file: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"target\":{{\"kind\":[\"{kind}\"]}},\"filenames\":[\"{file}\"]}}"
            )
        };
        assert_eq!(artifact(&report("cdylib", "/t/a.wasm")).as_deref(), Some("/t/a.wasm"));
        assert_eq!(artifact(&report("bin", "/t/b.wasm")).as_deref(), Some("/t/b.wasm"));
        assert_eq!(artifact(&report("lib", "/t/liba.rlib")), None);
        assert_eq!(artifact("   Compiling something"), None);
        assert_eq!(artifact("{\"reason\":\"build-finished\",\"success\":true}"), None);
    }
}
