//! `coracle new`: a small project that builds to a component, in one of five languages.
//!
//! What it writes is below `sdk/templates`, in the binary. A project is the files of its language and kind, those that
//! all languages have, and where it needs them the shapes of WASI. Projects in Rust carry the SDK, so that they build
//! without this repository.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::cli::{Kind, Language, NewArgs};
use crate::output::say;

/// Names below `sdk/`, and contents.
const TEMPLATES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/templates.rs"));

/// The longest name of a project. It becomes a part of longer ones.
const LONGEST_NAME: usize = 64;

pub(crate) fn new(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let name = args.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let project = Project::new(name, args.lang, args.kind)?;
    write(&args.path, &project)?;
    let folder = args.path.display();
    say!("{folder} is {} in {}:", project.kind.describe(), project.language.name())?;
    for (path, _) in project
        .files()
        .iter()
        .filter(|(path, _)| !path.starts_with("vendor/") && !path.starts_with("wit/deps/"))
    {
        say!("  {path}")?;
    }
    say!("\nNext:\n  cd {folder}\n  {}\n  {}\n  {}", project.test(), project.build(), project.run())?;
    for missing in project.language.missing_tools(project.kind) {
        say!("\nMissing here: {missing}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes all files, or none.
fn write(folder: &Path, project: &Project) -> anyhow::Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot make the folder {}", parent.display()))?;
    }
    // This makes it, or fails when it is there: nothing that exists is ever written into.
    if let Err(error) = fs::create_dir(folder) {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            bail!("{} exists already; choose another name, or remove it", folder.display());
        }
        return Err(error).with_context(|| format!("cannot make the folder {}", folder.display()));
    }
    let written = project.files().into_iter().try_for_each(|(path, content)| {
        let path = folder.join(path);
        let inside = path.parent().map_or(Ok(()), fs::create_dir_all);
        inside
            .and_then(|()| fs::write(&path, content))
            .with_context(|| format!("cannot write {}", path.display()))
    });
    if written.is_err() {
        // It was made above.
        let _ = fs::remove_dir_all(folder);
    }
    written
}

/// What is asked for.
struct Project {
    name: String,
    language: Language,
    kind: Kind,
}

impl Project {
    fn new(name: &str, language: Language, kind: Kind) -> anyhow::Result<Self> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(plain) {
            bail!(
                "{name:?} can't be a project's name: lower-case letters, digits, hyphens and underscores can, beginning \
                 with a letter"
            );
        }
        if name.len() > LONGEST_NAME {
            bail!("a project's name has at most {LONGEST_NAME} characters, and {name} has {}", name.len());
        }
        if language == Language::Rust && is_reserved(name) {
            bail!("{name:?} is a word of Rust's and can't be a crate's name; choose another");
        }
        if (language, kind) == (Language::Go, Kind::Plugin) {
            bail!(
                "there is no template for a plugin in Go: its runtime is not yet started when a host first calls; \
                 --lang rust, js, python and c have one"
            );
        }
        Ok(Self { name: name.to_owned(), language, kind })
    }

    /// Paths and contents, in their order.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = TEMPLATES
            .iter()
            .filter_map(|(source, content)| Some((self.place(source)?, self.fill(content))))
            .collect();
        files.sort();
        files
    }

    /// Where a template goes, if this project has it.
    fn place(&self, source: &str) -> Option<String> {
        let (language, kind) = (self.language.folder(), self.kind.folder());
        let sdk = self.language == Language::Rust && self.kind != Kind::Plugin;
        let Some(template) = source.strip_prefix("templates/") else {
            // It needs the sandbox, which projects don't carry.
            let carried = sdk && source != "src/testing/component.rs";
            return carried.then(|| format!("vendor/coracle-sdk/{source}"));
        };
        let (first, rest) = template.split_once('/')?;
        match first {
            "wit" if !self.needs_wasi() => None,
            // One world for each kind: jco finds its way by that alone.
            "wit" if rest.strip_suffix(".wit") == Some(kind) => Some("wit/world.wit".to_owned()),
            "wit" => rest.starts_with("deps/").then(|| format!("wit/{rest}")),
            "common" if rest == "coracle.toml" => (self.kind != Kind::Plugin).then(|| rest.to_owned()),
            "common" => rest.strip_prefix(kind)?.strip_prefix('/').map(str::to_owned),
            first if first == language => match rest.split_once('/')? {
                ("common", "gitignore") => Some(".gitignore".to_owned()),
                ("common", file) => Some(file.to_owned()),
                ("vendor", file) => sdk.then(|| format!("vendor/{file}")),
                (folder, file) => (folder == kind).then(|| file.to_owned()),
            },
            _ => None,
        }
    }

    /// Whether its tools have to be told what WASI is.
    fn needs_wasi(&self) -> bool {
        match (self.language, self.kind) {
            (_, Kind::Plugin) | (Language::Rust, _) | (Language::Go | Language::C, Kind::Task) => false,
            (Language::Js | Language::Python, _) | (Language::Go | Language::C, Kind::Http) => true,
        }
    }

    /// Puts what is known of the project into a template.
    fn fill(&self, template: &[u8]) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(template) else { return template.to_vec() };
        if !text.contains("{{") {
            return template.to_vec();
        }
        let facts = [
            ("name", self.name.clone()),
            ("version", env!("CARGO_PKG_VERSION").to_owned()),
            ("language", self.language.name().to_owned()),
            ("world", self.kind.folder().to_owned()),
            ("source", "src/app.py".to_owned()),
            ("needs", self.language.needs(self.kind).to_owned()),
            ("build", self.build().to_owned()),
            ("test", self.test().to_owned()),
            ("component", self.component()),
            ("notes", self.language.notes(self.kind).to_owned()),
        ];
        let filled = facts
            .iter()
            .fold(text.to_owned(), |text, (fact, value)| text.replace(&format!("{{{{{fact}}}}}"), value));
        format!("{}\n", filled.trim_end()).into_bytes()
    }

    fn build(&self) -> &'static str {
        match self.language {
            Language::Rust => "cargo build --release --target wasm32-wasip2",
            Language::Js => "npm install && npm run build",
            Language::Python | Language::Go | Language::C => "sh build.sh",
        }
    }

    fn test(&self) -> &'static str {
        match self.language {
            Language::Rust => "cargo test",
            Language::Js => "npm test",
            Language::Python => "python3 -m unittest discover test",
            Language::Go | Language::C => "sh build.sh test",
        }
    }

    fn run(&self) -> String {
        let component = self.component();
        match self.kind {
            Kind::Http => format!("coracle run {component}"),
            Kind::Task => format!("coracle run {component} -- you"),
            Kind::Plugin => "less README.md".to_owned(),
        }
    }

    /// What building leaves.
    fn component(&self) -> String {
        let name = &self.name;
        match (self.language, self.kind) {
            (Language::Rust, Kind::Task) => format!("target/wasm32-wasip2/release/{name}.wasm"),
            (Language::Rust, _) => format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_")),
            _ => format!("{name}.wasm"),
        }
    }
}

impl Kind {
    fn folder(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Task => "task",
            Self::Plugin => "plugin",
        }
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Http => "an HTTP service",
            Self::Task => "a batch task",
            Self::Plugin => "a plugin",
        }
    }
}

impl Language {
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::Go => "go",
            Self::C => "c",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::C => "C",
        }
    }

    /// What has to be on a machine to build it.
    fn needs(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Rust, _) => "Rust with rustup (<https://rustup.rs>), which adds the target by itself",
            (Self::Js, _) => "Node.js 20 or newer with npm",
            (Self::Python, _) => {
                "Python 3.10 or newer with venv and pip (Debian: `apt install python3-venv`)"
            }
            (Self::Go | Self::C, Kind::Task) => "Python 3 with venv and pip, which install the compiler",
            (Self::Go | Self::C, _) => {
                "Python 3 with venv and pip, which install the compiler, and Node.js 20 or newer with npm, for the tool that \
                 makes a component of what it compiles"
            }
        }
    }

    /// What its users have to know.
    fn notes(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Rust, Kind::Plugin) => {
                "`wit-bindgen` makes the functions' types of `wit/plugin.wit`. A plugin that uses nothing of WASI needs about \
                 1 MiB of memory for each instance."
            }
            (Self::Rust, _) => {
                "`vendor/coracle-sdk` is the SDK of the Coracle that made this project: outgoing requests, key-value, \
                 configuration, secrets, task metadata, metrics, logging. `cargo doc --open -p coracle-sdk` explains it. An \
                 instance needs 1 to 2 MiB of memory."
            }
            (Self::Js, Kind::Http) => {
                "The component has SpiderMonkey, Firefox's engine, in it: 13 MB, compiled once for each machine (15 s of one \
                 core, in a cache from then on). An instance needs 12 MiB of memory: 512 MiB of the task definition are about 40 \
                 requests at the same time, and more of them wait."
            }
            (Self::Js, _) => {
                "The component has QuickJS in it: 1.6 MB, compiled in 2 s. An instance needs 2 MiB of memory."
            }
            (Self::Python, _) => {
                "The component has CPython in it: 18 MB, compiled once for each machine (15 s of one core, in a cache from \
                 then on). Modules in pure Python work when they are in `src`; those with C extensions don't, and there are \
                 no threads. An instance needs 16 MiB of memory: 512 MiB of the task definition are about 30 requests \
                 at the same time, and more of them wait."
            }
            (Self::Go, Kind::Task) => {
                "Go makes a core module of WASI preview 1, which Coracle runs as it is. Goroutines work, on one thread. A run \
                 needs 4 MiB of memory."
            }
            (Self::Go, _) => {
                "`wasi_wasip1.go` speaks the component model's canonical ABI by hand. Go's heap can't grow inside an adapted \
                 component: what one request allocates has to fit its first 4 MiB, because the adapter's memory lies behind \
                 that, and past it the request ends with a trap. Batch tasks have no such limit. An instance needs 4 \
                 MiB of memory."
            }
            (Self::C, Kind::Task) => {
                "zig makes a core module of WASI preview 1, which Coracle runs as it is. A run needs less than 1 MiB of memory, \
                 and what it allocates."
            }
            (Self::C, _) => {
                "`main.c` speaks the component model's canonical ABI by hand. An instance needs less than 1 MiB of memory, and \
                 what it allocates."
            }
        }
    }

    /// Tools that are not here, and how to get them.
    fn missing_tools(self, kind: Kind) -> Vec<&'static str> {
        let rust = ("cargo", "--version", "Rust; get it from https://rustup.rs");
        let npm =
            ("npm", "--version", "Node.js with npm; get it from https://nodejs.org or your package manager");
        let python =
            ("python3", "--version", "Python 3; get it from your package manager, with venv and pip");
        let needed: &[_] = match (self, kind) {
            (Self::Rust, _) => &[rust],
            (Self::Js, _) => &[npm],
            (Self::Python, _) | (Self::Go | Self::C, Kind::Task) => &[python],
            (Self::Go | Self::C, _) => &[python, npm],
        };
        let mut missing: Vec<_> =
            needed.iter().filter(|(tool, ask, _)| !runs(tool, &[ask])).map(|&(_, _, get)| get).collect();
        if needed.contains(&python)
            && missing.is_empty()
            && !runs("python3", &["-c", "import venv, ensurepip"])
        {
            missing.push("Python's venv and pip; on Debian and Ubuntu: apt install python3-venv");
        }
        missing
    }
}

/// Whether a program is there and says yes.
fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

/// Names that cargo refuses for a crate, or warns of.
fn is_reserved(name: &str) -> bool {
    const RESERVED: &str = "abstract alloc as async await become box break const continue core crate deps do dyn else enum \
                            examples extern false final fn for gen if impl in incremental let loop macro match mod move mut \
                            override priv proc_macro pub ref return self static std struct super test trait true try type \
                            typeof unsafe unsized use virtual where while yield build";
    RESERVED.split_whitespace().any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANGUAGES: [Language; 5] =
        [Language::Rust, Language::Js, Language::Python, Language::Go, Language::C];
    const KINDS: [Kind; 3] = [Kind::Http, Kind::Task, Kind::Plugin];

    #[test]
    fn projects_are_whole_and_nothing_in_them_is_left_open() {
        for (language, kind) in LANGUAGES.into_iter().flat_map(|language| KINDS.map(|kind| (language, kind)))
        {
            let Ok(project) = Project::new("my-app", language, kind) else {
                assert_eq!((language, kind), (Language::Go, Kind::Plugin));
                continue;
            };
            let files = project.files();
            let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
            let what = format!("{language:?} {kind:?}: {paths:?}");
            assert!(paths.contains(&"README.md") && paths.contains(&".gitignore"), "{what}");
            assert_eq!(paths.contains(&"task-definition.json"), kind != Kind::Plugin, "{what}");
            assert!(paths.windows(2).all(|pair| pair[0] != pair[1]), "{what}");
            for (path, content) in &files {
                let text = String::from_utf8(content.clone()).unwrap();
                let of_ours = !path.starts_with("vendor/coracle-sdk/src/");
                assert!(!of_ours || !text.contains("{{"), "{path} of {what}");
            }
            let definition = files.iter().find(|(path, _)| path == "task-definition.json");
            if let Some((_, definition)) = definition {
                let definition: serde_json::Value = serde_json::from_slice(definition).unwrap();
                assert_eq!(
                    (&definition["family"], definition["containerDefinitions"][0]["image"].as_str()),
                    (&"my-app".into(), Some("my-app:latest"))
                );
            }
        }
    }

    #[test]
    fn names_are_those_that_all_tools_take() {
        for name in ["", "My", "1a", "-a", "a b", "ä", "a/..", &"x".repeat(65), "test", "fn"] {
            assert!(Project::new(name, Language::Rust, Kind::Http).is_err(), "{name:?}");
        }
        assert!(Project::new("test", Language::Go, Kind::Http).is_ok());
        assert!(Project::new("shop-2_b", Language::Rust, Kind::Http).is_ok());
    }

    #[test]
    fn what_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let project = Project::new("app", Language::C, Kind::Task).unwrap();
        let folder = dir.path().join("new/app");
        write(&folder, &project).unwrap();
        fs::write(folder.join("main.c"), "mine").unwrap();
        let refused = write(&folder, &project).unwrap_err().to_string();
        assert!(refused.contains("exists already"), "{refused}");
        assert_eq!(fs::read_to_string(folder.join("main.c")).unwrap(), "mine");
    }

    #[test]
    fn the_sdk_that_is_carried_is_whole() {
        let project = Project::new("app", Language::Rust, Kind::Http).unwrap();
        let paths: Vec<_> = project.files().into_iter().map(|(path, _)| path).collect();
        for path in
            ["src/lib.rs", "src/host/bindings.rs", "macros/src/lib.rs", "Cargo.toml", "macros/Cargo.toml"]
        {
            assert!(paths.contains(&format!("vendor/coracle-sdk/{path}")), "{path}");
        }
        // Their dependencies are written twice: what one needs, the other has.
        let manifest = |text: &str| toml::from_str::<toml::Table>(text).unwrap();
        let names = |table: &toml::Table, of: &str| -> Vec<String> {
            table[of].as_table().unwrap().keys().cloned().collect()
        };
        let carried =
            project.files().into_iter().find(|(path, _)| path == "vendor/coracle-sdk/Cargo.toml").unwrap().1;
        let carried = manifest(std::str::from_utf8(&carried).unwrap());
        let own = manifest(include_str!("../../../sdk/Cargo.toml"));
        assert_eq!(names(&carried, "dependencies"), names(&own, "dependencies"));
        let wasm =
            |table: &toml::Table| table["target"]["cfg(target_family = \"wasm\")"]["dependencies"].clone();
        assert_eq!(wasm(&carried), wasm(&own));
    }
}
