//! What a task's `secrets` and `environmentFiles` give it: variables whose values are not in its definition.

use std::io::Read as _;
use std::path::{Component, Path, PathBuf};

use coracle_types::{JsonMap, Region};
use futures_util::future::BoxFuture;
use serde_json::Value;

/// Knows the values of secrets. The secrets manager and parameter store of this process, or a client of them.
pub trait SecretSource: Send + Sync + 'static {
    /// The value that `valueFrom` names, for a task in `region`.
    ///
    /// # Errors
    /// The text that belongs behind `ResourceInitializationError: `.
    fn read(&self, region: &Region, value_from: &str) -> BoxFuture<'static, Result<String, String>>;
}

/// The most files of one container (ECS's limit).
const FILES_MAX: usize = 10;

/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where a container's variables come from that its definition does not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct VariablePlan {
    /// Name and `valueFrom`.
    pub(crate) secrets: Vec<(String, String)>,
    /// In order; a variable is taken from the first that has it.
    pub(crate) files: Vec<PathBuf>,
}

/// The variables of one container, from its files and its secrets.
#[derive(Clone, Default)]
pub(crate) struct Variables {
    pub(crate) files: Vec<(String, String)>,
    pub(crate) secrets: Vec<(String, String)>,
}

impl VariablePlan {
    /// Reads the members of a container definition and of its override. `files_dir` stands for all S3 buckets.
    pub(crate) fn new(
        definition: &JsonMap,
        overridden: Option<&JsonMap>,
        files_dir: &Path,
    ) -> Result<Self, String> {
        let pairs = |member: &str, first: &str, second: &str| -> Result<Vec<(String, String)>, String> {
            let items = definition.get(member).and_then(Value::as_array).into_iter().flatten();
            items
                .map(|item| {
                    let text = |name: &str| item.get(name).and_then(Value::as_str).map(str::to_owned);
                    text(first)
                        .zip(text(second))
                        .ok_or_else(|| format!("{member} needs {first} and {second}"))
                })
                .collect()
        };
        let list = |map: &JsonMap| -> Vec<String> {
            let items = map.get("environmentFiles").and_then(Value::as_array).into_iter().flatten();
            items.filter_map(|file| file.get("value")?.as_str().map(str::to_owned)).collect()
        };
        let mut files = overridden.map(list).unwrap_or_default();
        files.extend(list(definition));
        if files.len() > FILES_MAX {
            return Err(format!(
                "{} environmentFiles are more than the {FILES_MAX} there may be",
                files.len()
            ));
        }
        Ok(Self {
            secrets: pairs("secrets", "name", "valueFrom")?,
            files: files.iter().map(|file| file_of(file, files_dir)).collect::<Result<_, _>>()?,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.files.is_empty()
    }
}

/// The file an `environmentFiles` entry means: `file:///path`, or `arn:aws:s3:::bucket/key` below the directory that
/// stands for all buckets.
fn file_of(value: &str, files_dir: &Path) -> Result<PathBuf, String> {
    if let Some(path) = value.strip_prefix("file://") {
        return if path.starts_with('/') {
            Ok(path.into())
        } else {
            Err(format!("environment file {value:?}: the path is not absolute"))
        };
    }
    let key = value.strip_prefix("arn:").and_then(|rest| {
        let mut parts = rest.splitn(5, ':');
        (parts.nth(1) == Some("s3")).then(|| parts.nth(2)).flatten()
    });
    let Some(key) = key else {
        return Err(format!("environment file {value:?} is neither an ARN of S3 nor a file:// URL"));
    };
    let inside =
        !key.is_empty() && Path::new(key).components().all(|part| matches!(part, Component::Normal(_)));
    if inside { Ok(files_dir.join(key)) } else { Err(format!("environment file {value:?} has no plain key")) }
}

/// Reads the files. Blocks.
///
/// # Errors
/// Which of them can't be had, and why: the text behind `ResourceInitializationError: `.
pub(crate) fn read_files(files: &[PathBuf]) -> Result<Vec<(String, String)>, String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for file in files {
        let failed =
            |why: &dyn std::fmt::Display| format!("failed to download env files: {}: {why}", file.display());
        let opened = std::fs::File::open(file).map_err(|error| failed(&error))?;
        let mut text = String::new();
        opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(failed(&format_args!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        for (name, value) in parse(&text) {
            // Of several files, the first that has a variable counts.
            if !variables.iter().any(|(known, _)| known == name) {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(variables)
}

/// The variables of one file: `NAME=VALUE` on a line each, as Docker reads them. Quotes belong to the value; lines
/// that begin with `#` are comments; what has no `=` is passed over.
fn parse(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.filter_map(|line| line.trim_start().split_once('=')).filter(|(name, _)| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> JsonMap {
        match value {
            Value::Object(map) => map,
            _ => panic!("a map is expected"),
        }
    }

    #[test]
    fn files_are_named_by_arn_or_url() {
        let dir = Path::new("/files");
        assert_eq!(file_of("arn:aws:s3:::bucket/a/b.env", dir).unwrap(), Path::new("/files/bucket/a/b.env"));
        assert_eq!(file_of("file:///srv/x.env", dir).unwrap(), Path::new("/srv/x.env"));
        for bad in
            ["arn:aws:s3:::bucket/../x", "arn:aws:s3:::", "file://x", "s3://bucket/x", "arn:aws:ssm:a:b:c"]
        {
            assert!(file_of(bad, dir).is_err(), "{bad}");
        }
    }

    #[test]
    fn lines_are_read_as_docker_reads_them() {
        let text = "# comment\nA=1\n\nB = two words \nC=\"quoted\"\nnonsense\n=x\nD=a=b";
        let found: Vec<_> = parse(text).collect();
        assert_eq!(found, [("A", "1"), ("B ", " two words "), ("C", "\"quoted\""), ("D", "a=b")]);
    }

    #[test]
    fn the_first_file_counts_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("a"), "A=1").unwrap();
        std::fs::write(path("b"), "A=2\nB=2").unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read_files(&[path("a"), path("b")]).unwrap(), [pair("A", "1"), pair("B", "2")]);
        let error = read_files(&[path("c")]).unwrap_err();
        assert!(error.starts_with("failed to download env files: ") && error.contains("/c: "), "{error}");
    }

    #[test]
    fn members_of_the_definition() {
        let definition = map(json!({
            "secrets": [{"name": "P", "valueFrom": "/p"}],
            "environmentFiles": [{"value": "arn:aws:s3:::b/x.env", "type": "s3"}],
        }));
        let overridden = map(json!({"environmentFiles": [{"value": "file:///o.env", "type": "s3"}]}));
        let plan = VariablePlan::new(&definition, Some(&overridden), Path::new("/f")).unwrap();
        assert_eq!(plan.secrets, [("P".to_owned(), "/p".to_owned())]);
        assert_eq!(plan.files, [Path::new("/o.env"), Path::new("/f/b/x.env")]);
        let bad = map(json!({"secrets": [{"name": "P"}]}));
        assert!(VariablePlan::new(&bad, None, Path::new("/f")).is_err());
        assert!(VariablePlan::new(&JsonMap::new(), None, Path::new("/f")).unwrap().is_empty());
    }
}
