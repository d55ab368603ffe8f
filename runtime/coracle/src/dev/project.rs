//! What there is to build and run in a folder: `coracle.toml`, with what Cargo implies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::apply::{is_local, parse_documents, task_definition_misfits};

/// The name of the file that says it.
const FILE: &str = "coracle.toml";
/// What builds a Cargo project.
pub(super) const CARGO_BUILD: &str = "cargo build --release --target wasm32-wasip2";
/// The file that is looked for when none is named.
pub(super) const DEFINITION: &str = "task-definition.json";

/// `coracle.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    build: Option<String>,
    component: Option<PathBuf>,
    #[serde(alias = "task-definition")]
    task_definition: Option<PathBuf>,
    watch: Option<Vec<PathBuf>>,
    #[serde(default)]
    containers: BTreeMap<String, PathBuf>,
}

/// A project, as it was when it was opened.
#[derive(Debug)]
pub(super) struct Project {
    /// The folder, absolute.
    pub(super) dir: PathBuf,
    pub(super) build: Build,
    /// What is watched, absolute; None for all of the folder but what builds write.
    pub(super) watch: Option<Vec<PathBuf>>,
    /// The task definition's file, if there is one.
    pub(super) definition_file: Option<PathBuf>,
    /// Components of containers by their names.
    containers: BTreeMap<String, PathBuf>,
}

/// How the component comes to be.
#[derive(Debug, PartialEq)]
pub(super) enum Build {
    /// Cargo builds it, and says where it is.
    Cargo,
    /// A command leaves it there.
    Command { command: String, component: PathBuf },
    /// Somebody else puts it there.
    None { component: PathBuf },
}

/// Where the component is that was built.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Component(pub(super) PathBuf);

/// A task definition, and the components of its containers by their names.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) request: Value,
    pub(super) components: BTreeMap<String, PathBuf>,
}

impl Project {
    /// Looks at a folder.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
        let path = dir.join(FILE);
        let has_cargo = dir.join("Cargo.toml").is_file();
        let file: File = match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).with_context(|| format!("{} cannot be used", path.display()))?
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !has_cargo {
                    bail!(
                        "{} has neither {FILE} nor Cargo.toml; `coracle dev --help` shows what {FILE} says",
                        dir.display()
                    );
                }
                File::default()
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let component = file.component.map(|component| dir.join(component));
        let build = match (file.build, component) {
            (Some(command), Some(component)) => Build::Command { command, component },
            (None, Some(component)) if has_cargo => {
                Build::Command { command: CARGO_BUILD.to_owned(), component }
            }
            (None, Some(component)) => Build::None { component },
            (None, None) if has_cargo => Build::Cargo,
            (_, None) => {
                bail!("{}: component is missing: the .wasm file that the build leaves", path.display())
            }
        };
        let definition_file = match file.task_definition {
            Some(named) => Some(dir.join(named)),
            None => Some(dir.join(DEFINITION)).filter(|path| path.is_file()),
        };
        let watch = file.watch.map(|paths| paths.into_iter().map(|path| dir.join(path)).collect());
        let containers = file.containers.into_iter().map(|(name, path)| (name, dir.join(path))).collect();
        Ok(Self { dir, build, watch, definition_file, containers })
    }

    /// The file that describes the project.
    pub(super) fn file(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// Where the component is to be, as far as is known before it is built.
    pub(super) fn component(&self) -> Option<&Path> {
        match &self.build {
            Build::Cargo => None,
            Build::Command { component, .. } | Build::None { component } => Some(component),
        }
    }

    /// The components of containers that `coracle.toml` names.
    pub(super) fn container_components(&self) -> impl Iterator<Item = &Path> {
        self.containers.values().map(PathBuf::as_path)
    }

    /// The task definition, with the component that was built in it.
    pub(super) fn definition(&self, built: &Component) -> anyhow::Result<Definition> {
        let request = match &self.definition_file {
            Some(path) => read_definition(path)?,
            None => self.usual_definition(built),
        };
        let containers = request["containerDefinitions"].as_array().into_iter().flatten();
        let mut components = BTreeMap::new();
        let mut unnamed = Vec::new();
        for container in containers {
            let name = container["name"].as_str().unwrap_or_default();
            let image = container["image"].as_str().unwrap_or_default();
            match self.containers.get(name) {
                Some(path) => {
                    components.insert(name.to_owned(), path.clone());
                }
                // Beside the built one there may be components that somebody else builds.
                None if is_local(image) && self.dir.join(image) != built.0 => {
                    components.insert(name.to_owned(), self.dir.join(image));
                }
                None if image.starts_with("file://") => {}
                None => unnamed.push(name.to_owned()),
            }
        }
        match unnamed.as_slice() {
            [] => {}
            [only] => {
                components.insert(only.clone(), built.0.clone());
            }
            several => bail!(
                "{FILE} does not say which components the containers {} have; write NAME = \"PATH.wasm\" below \
                 [containers] for all but the one that is built",
                several.join(", ")
            ),
        }
        Ok(Definition { request, components })
    }

    /// What is run when no task definition says otherwise.
    fn usual_definition(&self, built: &Component) -> Value {
        let stem = built.0.file_stem().or(self.dir.file_name()).unwrap_or_default().to_string_lossy();
        let plain = |char: char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '-' };
        let name: String = stem.chars().map(plain).collect();
        let name = Some(name.trim_matches('-')).filter(|name| !name.is_empty()).unwrap_or("app").to_owned();
        json!({
            "family": name, "requiresCompatibilities": ["FARGATE"], "networkMode": "awsvpc",
            "cpu": "256", "memory": "512",
            "containerDefinitions": [
                { "name": name, "image": name, "portMappings": [{ "containerPort": 80 }] },
            ],
        })
    }
}

fn read_definition(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let mut documents = parse_documents(&text, is_json).with_context(|| format!("{shown} cannot be read"))?;
    let Some(request) = documents.pop().filter(|_| documents.is_empty()) else {
        bail!("{shown} is not one document");
    };
    let misfits = task_definition_misfits(&request);
    if !misfits.is_empty() {
        bail!("{shown}: {}", misfits.join("\n  "));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, anyhow::Result<Project>) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let opened = Project::open(dir.path());
        (dir, opened)
    }

    #[test]
    fn a_cargo_project_needs_nothing_else() {
        let (_dir, opened) = project(&[("Cargo.toml", "")]);
        let project = opened.unwrap();
        assert_eq!(project.build, Build::Cargo);
        let definition = project.definition(&Component("/x/my_app.wasm".into())).unwrap();
        assert_eq!(definition.request["family"], "my-app");
        assert_eq!(
            definition.components,
            BTreeMap::from([("my-app".to_owned(), PathBuf::from("/x/my_app.wasm"))])
        );
    }

    #[test]
    fn what_coracle_toml_says_counts() {
        let toml = "build = \"make\"\ncomponent = \"out/a.wasm\"\ntask-definition = \"td.yaml\"\nwatch = [\"src\"]\n\
                    [containers]\nproxy = \"proxy.wasm\"\n";
        let yaml = "family: web\ncontainerDefinitions:\n- {name: app, image: 'web:latest'}\n- {name: proxy, image: x}\n\
                    - {name: other, image: ../other.wasm}\n";
        let (dir, opened) = project(&[("coracle.toml", toml), ("td.yaml", yaml)]);
        let (project, dir) = (opened.unwrap(), dir.path().canonicalize().unwrap());
        assert_eq!(project.watch, Some(vec![dir.join("src")]));
        let built = Component(project.component().unwrap().to_owned());
        let components = project.definition(&built).unwrap().components;
        assert_eq!(components["app"], dir.join("out/a.wasm"));
        assert_eq!(components["proxy"], dir.join("proxy.wasm"));
        assert_eq!(components["other"], dir.join("../other.wasm"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let told = |files: &[(&str, &str)]| format!("{:#}", project(files).1.unwrap_err());
        assert!(told(&[]).contains("neither coracle.toml nor Cargo.toml"));
        assert!(told(&[("coracle.toml", "build = \"make\"")]).contains("component is missing"));
        assert!(told(&[("coracle.toml", "biuld = 1")]).contains("biuld"));
        let definition =
            "{\"family\": \"a\", \"containerDefinitions\": [{\"name\": \"x\", \"imag\": \"y\"}]}";
        let (_dir, opened) = project(&[("Cargo.toml", ""), ("task-definition.json", definition)]);
        let error = opened.unwrap().definition(&Component("/a.wasm".into())).unwrap_err().to_string();
        assert!(error.contains("containerDefinitions[0].imag is not known; did you mean image?"), "{error}");
    }
}
