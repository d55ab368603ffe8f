//! Reading what was named with `-f`: files or standard input, JSON or YAML, one document or several.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;

/// The largest file, in bytes: far more than anybody writes, and what a mistaken path must not fill memory with.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// One document, and where it was.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) place: Place,
    /// The directory relative paths in it begin at.
    pub(super) base: PathBuf,
    pub(super) value: Value,
}

/// Where something is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The file as it was named, or `standard input`.
    file: String,
    /// The number of the document in it, from 1; None if it is the only one.
    document: Option<usize>,
    /// The path in the document; empty for the document itself.
    path: String,
}

impl Place {
    /// The place of a part of what is here.
    pub(super) fn within(&self, path: &str) -> Self {
        let separator =
            if self.path.is_empty() || path.is_empty() || path.starts_with('[') { "" } else { "." };
        Self { path: format!("{}{separator}{path}", self.path), ..self.clone() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(number) = self.document {
            write!(f, ": document {number}")?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        Ok(())
    }
}

/// Reads every document of every file; `-` is standard input.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    if files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        bail!("-f - names standard input, and can be given once");
    }
    let mut documents = Vec::new();
    for file in files {
        let (name, base, text) = if file.as_os_str() == "-" {
            let text = bounded(std::io::stdin().lock(), "standard input")?;
            ("standard input".to_owned(), PathBuf::new(), text)
        } else {
            let name = file.display().to_string();
            let opened = std::fs::File::open(file).with_context(|| format!("cannot read {name}"))?;
            let base = file.parent().map(Path::to_owned).unwrap_or_default();
            let text = bounded(opened, &name)?;
            (name, base, text)
        };
        let values = parse(&text, file.extension().is_some_and(|extension| extension == "json"))
            .with_context(|| format!("{name} cannot be read"))?;
        let several = values.len() > 1;
        documents.extend(values.into_iter().enumerate().map(|(index, value)| Document {
            place: Place { file: name.clone(), document: several.then_some(index + 1), path: String::new() },
            base: base.clone(),
            value,
        }));
    }
    Ok(documents)
}

fn bounded(reader: impl std::io::Read, name: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    reader
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {name} as text"))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{name} has more than {} MiB", FILE_BYTES_MAX >> 20);
    }
    Ok(text)
}

/// The documents in a text. What looks like JSON is read as JSON, whose complaints are about JSON.
pub(crate) fn parse(text: &str, is_json: bool) -> anyhow::Result<Vec<Value>> {
    if is_json || text.trim_start().starts_with('{') {
        return Ok(vec![serde_json::from_str(text)?]);
    }
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))?;
    // A document of nothing but comments.
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_and_yaml_of_several_documents() {
        assert_eq!(parse("{\"a\": [1, true]}", false).unwrap(), [json!({"a": [1, true]})]);
        let yaml = "# nothing yet\n---\na: &x {b: [1, \"2\", yes, ~]}\nc: *x\n---\n- |\n  text\n";
        let documents = parse(yaml, false).unwrap();
        assert_eq!(documents.len(), 2, "{documents:?}");
        assert_eq!(documents[0]["a"]["b"][0], json!(1));
        assert_eq!(documents[0]["a"]["b"][1], json!("2"));
        assert_eq!(documents[0]["c"], documents[0]["a"]);
        assert_eq!(documents[1], json!(["text\n"]));
        assert!(parse("", false).unwrap().is_empty());
    }

    #[test]
    fn complaints_name_the_line() {
        for (text, is_json) in
            [("{\"a\": 1,\n \"b\" 2}", false), ("a: [1\nb: 2", false), ("a: 1\na: 2\n", false)]
        {
            let error = format!("{:#}", parse(text, is_json).unwrap_err());
            assert!(error.contains("line") || error.contains(':'), "{error}");
        }
        assert!(parse("a: 1", true).is_err());
    }

    #[test]
    fn places_read_like_a_sentence() {
        let place = Place { file: "a.yaml".into(), document: Some(2), path: String::new() };
        assert_eq!(place.to_string(), "a.yaml: document 2");
        let inner = place.within("services[0]").within("loadBalancers[1].targetGroupArn");
        assert_eq!(inner.to_string(), "a.yaml: document 2: services[0].loadBalancers[1].targetGroupArn");
        assert_eq!(place.within("[3]").within("").to_string(), "a.yaml: document 2: [3]");
    }
}
