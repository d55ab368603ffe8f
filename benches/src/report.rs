//! Results for programs to read: one JSON file per bench, in `target/bench/`.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::Value;

/// Writes `target/bench/NAME.json`, and says where.
pub(crate) fn write(name: &str, results: &Value) -> anyhow::Result<()> {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let path = dir.join(name).with_extension("json");
    std::fs::write(&path, format!("{results:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("  → target/bench/{name}.json");
    Ok(())
}
