//! When something of a project has changed, and what.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::project::{Component, DEFINITION, Project};

/// What builds and tools write; with it, all whose names begin with a dot.
const NOT_SOURCE: [&str; 7] =
    ["target", "node_modules", "dist", "__pycache__", "venv", "Cargo.lock", "package-lock.json"];
/// How long nothing more must change before sources are built: editors and version control write several files.
const QUIET: Duration = Duration::from_millis(30);
/// The same for a component, which a build puts there whole, and somebody else may be copying.
const QUIET_COMPONENT: Duration = Duration::from_millis(8);

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    /// Something that is built.
    pub(super) source: bool,
    /// `coracle.toml`.
    pub(super) project: bool,
    /// The component or the task definition.
    pub(super) deployed: bool,
    /// A source that changed, as it is called in the folder.
    pub(super) example: Option<String>,
}

/// Looks at a project's files.
pub(super) struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<notify::Result<Event>>,
    places: Places,
    /// What has changed and has not been told yet.
    pending: Changes,
    /// Files that builds have been seen to write.
    outputs: HashSet<PathBuf>,
    /// Files that changed during the last build, and during the one before.
    during_build: HashSet<PathBuf>,
    during_last_build: HashSet<PathBuf>,
    /// When the last build ended.
    built: SystemTime,
}

/// Which file is what.
#[derive(Debug)]
struct Places {
    dir: PathBuf,
    project: PathBuf,
    definition: Option<PathBuf>,
    components: HashSet<PathBuf>,
    /// What is watched, if `coracle.toml` says so.
    sources: Option<Vec<PathBuf>>,
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Source,
    Project,
    Deployed,
    Nothing,
}

impl Places {
    fn of(&self, path: &Path) -> Place {
        let is_first_definition = self.definition.is_none() && path == self.dir.join(DEFINITION);
        if path == self.project || is_first_definition {
            return Place::Project;
        }
        if self.definition.as_deref() == Some(path) || self.components.contains(path) {
            return Place::Deployed;
        }
        let is_source = match &self.sources {
            Some(sources) => {
                sources.iter().any(|source| path.starts_with(source))
                    && !path.file_name().is_some_and(is_passing)
            }
            None => path.strip_prefix(&self.dir).is_ok_and(|inside| {
                let mut parts = inside.iter();
                let is_wasm = path.extension().is_some_and(|end| end == "wasm");
                !is_wasm && parts.next().is_some() && !inside.iter().any(is_not_source)
            }),
        };
        if is_source { Place::Source } else { Place::Nothing }
    }
}

fn is_not_source(name: &OsStr) -> bool {
    is_passing(name) || NOT_SOURCE.iter().any(|written| name == *written)
}

/// Whether it is hidden, or what editors write beside a file before they replace it.
fn is_passing(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") || name.ends_with(b"~")
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(project: &Project) -> anyhow::Result<Self> {
        let (tell, events) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event| {
            // The session has ended.
            let _ = tell.send(event);
        })
        .context("cannot watch files")?;
        let components = project.component().into_iter().chain(project.container_components());
        let places = Places {
            dir: project.dir.clone(),
            project: project.file(),
            definition: project.definition_file.clone(),
            components: components.map(Path::to_owned).collect(),
            sources: project.watch.clone(),
        };
        let mut watch = Self {
            watcher,
            events,
            places,
            pending: Changes::default(),
            outputs: HashSet::new(),
            during_build: HashSet::new(),
            during_last_build: HashSet::new(),
            built: SystemTime::UNIX_EPOCH,
        };
        watch.look_at(&project.dir, RecursiveMode::NonRecursive)?;
        match &project.watch {
            Some(sources) => {
                for source in sources {
                    watch.look_at(source, RecursiveMode::Recursive)?;
                }
            }
            None => {
                let entries = std::fs::read_dir(&project.dir)
                    .with_context(|| format!("cannot read {}", project.dir.display()))?;
                for entry in entries.flatten().filter(|entry| !is_not_source(&entry.file_name())) {
                    if entry.path().is_dir() {
                        watch.look_at(&entry.path(), RecursiveMode::Recursive)?;
                    }
                }
            }
        }
        watch.look_at_components();
        Ok(watch)
    }

    fn look_at(&mut self, path: &Path, mode: RecursiveMode) -> anyhow::Result<()> {
        self.watcher.watch(path, mode).with_context(|| format!("cannot watch {}", path.display()))
    }

    /// Looks at the folders that components and the task definition are in, as far as they are there already.
    fn look_at_components(&mut self) {
        let files: Vec<PathBuf> =
            self.places.components.iter().chain(&self.places.definition).cloned().collect();
        for folder in files.iter().filter_map(|file| file.parent()) {
            // One that is not there yet will be when it has been built.
            let _ = self.watcher.watch(folder, RecursiveMode::NonRecursive);
        }
    }

    /// What changes from now on may be written by the build.
    pub(super) fn build_begins(&mut self) {
        self.during_build.clear();
    }

    /// A build has ended, perhaps with a component. Files that two builds in a row have changed are what builds
    /// write, and no reason for a third.
    pub(super) fn build_ended(&mut self, component: Option<&Component>) {
        self.built = SystemTime::now();
        if let Some(Component(path)) = component {
            self.places.components.insert(path.clone());
        }
        self.look_at_components();
        while let Ok(event) = self.events.try_recv() {
            let changed = event.ok().filter(is_change).map(|event| event.paths).unwrap_or_default();
            // What is deployed is looked at anyway when a build has ended, and what is gone again by then was the
            // build's own.
            let counts = |path: &PathBuf| {
                matches!(self.places.of(path), Place::Source | Place::Project) && path.exists()
            };
            self.during_build.extend(changed.into_iter().filter(counts));
        }
        self.outputs.extend(self.during_build.intersection(&self.during_last_build).cloned());
        self.during_last_build.clone_from(&self.during_build);
    }

    /// Resolves when something has changed, and nothing more does. Dropped before, it has lost nothing.
    pub(super) async fn next(&mut self) -> anyhow::Result<Changes> {
        for path in std::mem::take(&mut self.during_build) {
            self.note(&path);
        }
        while self.pending == Changes::default() {
            let Some(event) = self.events.recv().await else { bail!("the project is no longer watched") };
            self.take(event)?;
        }
        let mut quiet_since = Instant::now();
        loop {
            let quiet = if self.pending.source { QUIET } else { QUIET_COMPONENT };
            match timeout_at(quiet_since + quiet, self.events.recv()).await {
                Ok(Some(event)) => {
                    if self.take(event)? {
                        quiet_since = Instant::now();
                    }
                }
                Ok(None) => bail!("the project is no longer watched"),
                Err(_) => return Ok(std::mem::take(&mut self.pending)),
            }
        }
    }

    /// Takes an event. Answers whether it is a reason to wait for more: what has nothing to do with the project, such as
    /// a log that grows in its folder, is none.
    fn take(&mut self, event: notify::Result<Event>) -> anyhow::Result<bool> {
        let event = event.context("cannot watch the project any more")?;
        if !is_change(&event) {
            // A component that is being written is not there yet.
            return Ok(event.paths.iter().any(|path| self.places.of(path) == Place::Deployed));
        }
        let mut counts = false;
        for path in &event.paths {
            // A new folder is watched from now on; what is in it already is no less a change.
            if path.is_dir() && path.parent() == Some(&self.places.dir) && self.places.sources.is_none() {
                if self.places.of(path) != Place::Source {
                    continue;
                }
                self.look_at(path, RecursiveMode::Recursive)?;
            }
            counts |= self.note(path);
        }
        Ok(counts)
    }

    /// Notes what has changed, and answers whether it matters.
    fn note(&mut self, path: &Path) -> bool {
        // What was saved during two builds looks like theirs; saved once more, it is a source after all.
        let is_later = || path.metadata().and_then(|found| found.modified()).is_ok_and(|at| at > self.built);
        if self.outputs.contains(path) && !is_later() {
            return false;
        }
        match self.places.of(path) {
            Place::Source => {
                self.pending.source = true;
                let inside = path.strip_prefix(&self.places.dir).unwrap_or(path);
                // What many editors save to first is gone when it has taken the file's place.
                let is_gone = |noted: &String| !self.places.dir.join(noted).exists();
                if self.pending.example.as_ref().is_none_or(is_gone) {
                    self.pending.example = Some(inside.display().to_string());
                }
            }
            Place::Project => self.pending.project = true,
            Place::Deployed => self.pending.deployed = true,
            Place::Nothing => return false,
        }
        true
    }
}

/// Whether a file is now another one. What is being written is not, until it is closed.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Create(_)
        | EventKind::Remove(_)
        | EventKind::Modify(ModifyKind::Name(_)) => true,
        EventKind::Access(_) | EventKind::Modify(_) | EventKind::Any | EventKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use notify::event::DataChange;

    use super::*;

    #[test]
    fn sources_are_told_from_what_builds_write() {
        let mut places = Places {
            dir: "/p".into(),
            project: "/p/coracle.toml".into(),
            definition: Some("/p/task-definition.json".into()),
            components: HashSet::from([PathBuf::from("/p/target/a.wasm")]),
            sources: None,
        };
        for (path, place) in [
            ("/p/src/lib.rs", Place::Source),
            ("/p/Cargo.toml", Place::Source),
            ("/p/Cargo.lock", Place::Nothing),
            ("/p/coracle.toml", Place::Project),
            ("/p/task-definition.json", Place::Deployed),
            ("/p/target/a.wasm", Place::Deployed),
            ("/p/target/b.wasm", Place::Nothing),
            ("/p/out.wasm", Place::Nothing),
            ("/p/src/.lib.rs.swp", Place::Nothing),
            ("/p/src/lib.rs~", Place::Nothing),
            ("/p/src/__pycache__/a.pyc", Place::Nothing),
            ("/p", Place::Nothing),
            ("/other/file", Place::Nothing),
        ] {
            assert_eq!(places.of(Path::new(path)), place, "{path}");
        }
        places.sources = Some(vec!["/p/app.py".into(), "/p/lib".into()]);
        assert_eq!(places.of(Path::new("/p/lib/x.py")), Place::Source);
        assert_eq!(places.of(Path::new("/p/README.md")), Place::Nothing);
        places.definition = None;
        assert_eq!(places.of(Path::new("/p/task-definition.json")), Place::Project, "the first there is");
    }

    /// A project in a folder, with the component `a.wasm`, that has these events.
    fn watch(dir: &Path, events: mpsc::UnboundedReceiver<notify::Result<Event>>) -> Watch {
        let places = Places {
            dir: dir.to_owned(),
            project: dir.join("coracle.toml"),
            definition: None,
            components: HashSet::from([dir.join("a.wasm")]),
            sources: None,
        };
        Watch {
            watcher: notify::recommended_watcher(|_| {}).unwrap(),
            events,
            places,
            pending: Changes::default(),
            outputs: HashSet::new(),
            during_build: HashSet::new(),
            during_last_build: HashSet::new(),
            built: SystemTime::UNIX_EPOCH,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_log_that_grows_in_the_folder_does_not_hold_up_a_swap() {
        let dir = Path::new("/p");
        let (tell, events) = mpsc::unbounded_channel();
        let mut watch = watch(dir, events);
        let closed = EventKind::Access(AccessKind::Close(AccessMode::Write));
        tell.send(Ok(Event::new(closed).add_path(dir.join("a.wasm")))).unwrap();
        let grows = async {
            loop {
                let grown = EventKind::Modify(ModifyKind::Data(DataChange::Any));
                for log in [".log", "log.txt"] {
                    tell.send(Ok(Event::new(grown).add_path(dir.join(log)))).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let changes = tokio::select! {
            changes = tokio::time::timeout(Duration::from_secs(60), watch.next()) => changes,
            () = grows => unreachable!("it grows for ever"),
        };
        let changes = changes.expect("it is told while the log grows").unwrap();
        assert_eq!(changes, Changes { deployed: true, ..Changes::default() });
    }

    #[test]
    fn a_source_saved_during_two_builds_counts_when_it_is_saved_again() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("lib.rs");
        std::fs::write(&source, "").unwrap();
        let mut watch = Watch {
            outputs: HashSet::from([source.clone()]),
            built: SystemTime::now() + Duration::from_secs(60),
            ..watch(dir.path(), mpsc::unbounded_channel().1)
        };
        watch.note(&source);
        assert!(!watch.pending.source, "a build wrote it");
        watch.built = SystemTime::UNIX_EPOCH;
        watch.note(&source);
        assert!(watch.pending.source);
    }
}
