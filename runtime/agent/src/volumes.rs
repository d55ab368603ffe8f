//! Volumes: which directory of the node each one is, making it, and removing what was a task's own.
//!
//! | volume | directory | life |
//! |---|---|---|
//! | `host.sourcePath` | that one; it must exist | the node's |
//! | `efsVolumeConfiguration` | `VOLUMES/shared/FILE_SYSTEM/ROOT_DIRECTORY` | stays; every task that names it sees it |
//! | `dockerVolumeConfiguration` with `"scope": "shared"` | `VOLUMES/named/NAME` | stays |
//! | any other | `VOLUMES/TASK/NAME` | the task's |
//! | scratch of a container | `VOLUMES/TASK/~NUMBER` | the task's |
//!
//! What is the task's own counts in its ephemeral storage ([`Ephemeral`]); the others are as large as their disk.
//!
//! Names from task definitions never lead out of the volumes directory: a name with a slash or made of dots
//! is refused, and below it no symbolic link is followed, because guests can make some there.

use std::io;
use std::path::{Path, PathBuf};

use coracle_sandbox::{Directory, DiskQuota};
use coracle_types::{TaskId, Volume};

/// A volume of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumePlan {
    pub(crate) name: String,
    pub(crate) source: VolumeSource,
    /// Whether it is the task's own, and counts in its ephemeral storage.
    pub(crate) is_own: bool,
    /// Bytes of this volume alone, of the task's own ones.
    pub(crate) limit: Option<u64>,
}

/// What a volume is on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VolumeSource {
    /// A directory somebody else made.
    Host(PathBuf),
    /// Directories below the volumes directory, made if they are not there.
    Managed(Vec<String>),
}

/// Why a volume can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// A name that could lead somewhere else.
    #[error("volume {volume:?}: {what} {given:?} must be a plain name")]
    Name { volume: String, what: &'static str, given: String },
    /// A source path that is not absolute.
    #[error("volume {volume:?}: the source path {} is not absolute", path.display())]
    Relative { volume: String, path: PathBuf },
    /// The directory is not there or can't be made.
    #[error("volume {volume:?}: {}: {error}", path.display())]
    Io { volume: String, path: PathBuf, error: io::Error },
    /// There is something else than a directory.
    #[error("volume {volume:?}: {} is not a directory", path.display())]
    NotADirectory { volume: String, path: PathBuf },
}

impl VolumePlan {
    /// A directory of one container's own, at most so large. No other volume has a name with a tilde.
    pub(crate) fn scratch(number: usize, limit: Option<u64>, task: TaskId) -> Self {
        let name = format!("~{number}");
        let source = VolumeSource::Managed(vec![task.to_string(), name.clone()]);
        Self { name, source, is_own: true, limit }
    }

    /// Decides what a volume is. Touches no disk.
    pub(crate) fn new(volume: &Volume, task: TaskId) -> Result<Self, VolumeError> {
        let name = &volume.name;
        let plain = |what, given: &str| {
            if is_plain(given) {
                Ok(given.to_owned())
            } else {
                Err(VolumeError::Name {
                    volume: name.clone(),
                    what,
                    given: given.chars().take(300).collect(),
                })
            }
        };
        let mut is_own = false;
        let source = if let Some(path) = volume.host_path.as_deref().filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            if !path.is_absolute() {
                return Err(VolumeError::Relative { volume: name.clone(), path });
            }
            VolumeSource::Host(path)
        } else if let Some(efs) = volume.rest.get("efsVolumeConfiguration") {
            let text = |member: &str| efs.get(member).and_then(|value| value.as_str()).unwrap_or_default();
            let mut parts = vec!["shared".to_owned(), plain("the file system", text("fileSystemId"))?];
            for part in text("rootDirectory").split('/').filter(|part| !part.is_empty()) {
                parts.push(plain("the root directory's part", part)?);
            }
            VolumeSource::Managed(parts)
        } else if volume
            .rest
            .get("dockerVolumeConfiguration")
            .and_then(|docker| docker.get("scope"))
            .is_some_and(|scope| scope == "shared")
        {
            VolumeSource::Managed(vec!["named".to_owned(), plain("its name", name)?])
        } else {
            is_own = true;
            VolumeSource::Managed(vec![task.to_string(), plain("its name", name)?])
        };
        Ok(Self { name: name.clone(), source, is_own, limit: None })
    }

    /// The directory, with `volumes` as the volumes directory.
    #[cfg(test)]
    pub(crate) fn path(&self, volumes: &Path) -> PathBuf {
        match &self.source {
            VolumeSource::Host(path) => path.clone(),
            VolumeSource::Managed(parts) => volumes.join(parts.iter().collect::<PathBuf>()),
        }
    }

    /// Makes the directory if it is ours to make, and opens it: what is opened is what was checked, whatever a guest
    /// that has part of the path in its hands does to it meanwhile. Blocks.
    fn prepare(&self, volumes: &Path) -> Result<Directory, VolumeError> {
        let failed = |path: &Path, error: io::Error| {
            let (volume, path) = (self.name.clone(), path.to_owned());
            match error.kind() {
                io::ErrorKind::NotADirectory => VolumeError::NotADirectory { volume, path },
                _ => VolumeError::Io { volume, path, error },
            }
        };
        match &self.source {
            VolumeSource::Host(path) => Directory::open(path).map_err(|error| failed(path, error)),
            VolumeSource::Managed(parts) => {
                let mut directory = open_volumes(volumes).map_err(|error| failed(volumes, error))?;
                for part in parts {
                    let below = directory.make_child(part);
                    directory = below.map_err(|error| failed(&directory.path().join(part), error))?;
                }
                Ok(directory)
            }
        }
    }
}

/// The volumes directory, made if it is not there.
fn open_volumes(volumes: &Path) -> io::Result<Directory> {
    std::fs::create_dir_all(volumes)?;
    Directory::open(volumes)
}

/// What a task's own volumes may hold, all of them together: ECS's `ephemeralStorage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ephemeral {
    /// Bytes.
    pub(crate) limit: u64,
}

/// A volume, ready to be mounted.
#[derive(Clone, Debug)]
pub(crate) struct MountedVolume {
    pub(crate) directory: Directory,
    pub(crate) quota: Option<DiskQuota>,
}

/// Makes and opens a task's volumes, in their order. Blocks.
pub(crate) fn prepare(
    plans: &[VolumePlan],
    ephemeral: Ephemeral,
    task: TaskId,
    volumes: &Path,
) -> Result<Vec<MountedVolume>, VolumeError> {
    let mut whole: Option<DiskQuota> = None;
    let mut mounted = Vec::new();
    for plan in plans {
        let directory = plan.prepare(volumes)?;
        let quota = match (plan.is_own, &whole) {
            (false, _) => None,
            (true, Some(whole)) => Some(whole.clone()),
            (true, None) => {
                let root = open_volumes(volumes).and_then(|volumes| volumes.child(&task.to_string()));
                let root = root.map_err(|error| VolumeError::Io {
                    volume: plan.name.clone(),
                    path: volumes.join(task.to_string()),
                    error,
                })?;
                Some(whole.insert(DiskQuota::new(root, ephemeral.limit)).clone())
            }
        };
        let quota = match (quota, plan.limit) {
            (Some(whole), Some(limit)) => Some(whole.child(directory.clone(), limit)),
            (quota, _) => quota,
        };
        mounted.push(MountedVolume { directory, quota });
    }
    Ok(mounted)
}

fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=255).contains(&name.len()) && name.bytes().all(plain) && !name.bytes().all(|byte| byte == b'.')
}

/// Removes what was this task's own. It need not be there. Blocks.
pub(crate) fn release(volumes: &Path, task: TaskId) -> io::Result<()> {
    match remove_tree(&volumes.join(task.to_string())) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory and all that is in it, however deep.
///
/// A guest can nest directories as deep as it likes, and the standard library's `remove_dir_all` takes a stack
/// frame and an open file for each level: 19,000 levels overflow a thread's stack, which ends the process. Here
/// directories two levels down are moved up to `root` first, so that nothing is ever deeper than that.
fn remove_tree(root: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(root)?.is_dir() {
        return std::fs::remove_file(root);
    }
    let mut moved = 0_u64;
    loop {
        let mut is_empty = true;
        // What is moved up while this reads may be missed; it is found in the next round.
        for entry in std::fs::read_dir(root)? {
            let entry = entry?;
            is_empty = false;
            if !entry.file_type()?.is_dir() {
                std::fs::remove_file(entry.path())?;
                continue;
            }
            for inner in std::fs::read_dir(entry.path())? {
                let inner = inner?;
                if inner.file_type()?.is_dir() {
                    move_up(&inner.path(), root, &mut moved)?;
                } else {
                    std::fs::remove_file(inner.path())?;
                }
            }
            std::fs::remove_dir(entry.path())?;
        }
        if is_empty {
            return std::fs::remove_dir(root);
        }
    }
}

/// Moves a directory into `root`, under a name that no volume has and that is free.
fn move_up(directory: &Path, root: &Path, moved: &mut u64) -> io::Result<()> {
    loop {
        let free = root.join(format!("~{moved}"));
        *moved += 1;
        match std::fs::rename(directory, free) {
            // Left behind by a removal that was interrupted.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) => {}
            renamed => return renamed,
        }
    }
}

/// Removes what tasks of an earlier process have left behind: none of them runs any more. Blocks.
pub(crate) fn release_all(volumes: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(volumes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    // One that can't be removed must not keep the others.
    let mut result = Ok(());
    for entry in entries {
        let name = entry?.file_name();
        if let Some(task) = name.to_str().and_then(|name| name.parse::<TaskId>().ok()) {
            result = release(volumes, task).and(result);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use coracle_types::JsonMap;

    use super::*;

    const TASK: TaskId = TaskId(0xabc);

    fn volume(name: &str, host_path: Option<&str>, rest: serde_json::Value) -> Volume {
        let rest = if let serde_json::Value::Object(rest) = rest { rest } else { JsonMap::new() };
        Volume { name: name.to_owned(), host_path: host_path.map(str::to_owned), rest }
    }

    #[track_caller]
    fn check(volume: &Volume, expected: &str) {
        let plan = VolumePlan::new(volume, TASK).unwrap();
        assert_eq!(plan.path(Path::new("/v")), Path::new(expected));
    }

    #[test]
    fn every_kind_has_its_place() {
        let null = serde_json::Value::Null;
        check(&volume("data", Some("/srv/data"), null.clone()), "/srv/data");
        check(&volume("scratch", None, null.clone()), "/v/00000000000000000000000000000abc/scratch");
        check(&volume("scratch", Some(""), null), "/v/00000000000000000000000000000abc/scratch");
        let efs = serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1"}});
        check(&volume("data", None, efs), "/v/shared/fs-1");
        let efs = serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/a//b/"}});
        check(&volume("data", None, efs), "/v/shared/fs-1/a/b");
        let docker = serde_json::json!({"dockerVolumeConfiguration": {"scope": "shared"}});
        check(&volume("cache", None, docker), "/v/named/cache");
    }

    #[test]
    fn names_do_not_lead_out() {
        let null = serde_json::Value::Null;
        for (name, host, rest) in [
            ("..", None, null.clone()),
            ("a/b", None, null.clone()),
            ("", None, null.clone()),
            ("a", Some("srv/data"), null),
            ("a", None, serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "../x"}})),
            ("a", None, serde_json::json!({"efsVolumeConfiguration": {}})),
            (
                "a",
                None,
                serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "f", "rootDirectory": "/a/../../b"}}),
            ),
        ] {
            assert!(VolumePlan::new(&volume(name, host, rest), TASK).is_err(), "{name:?} {host:?}");
        }
    }

    #[test]
    fn directories_come_and_go() {
        let root = tempfile::tempdir().unwrap();
        let volumes = root.path().join("volumes");
        release_all(&volumes).unwrap();
        release(&volumes, TASK).unwrap();
        let plan = VolumePlan::new(&volume("scratch", None, serde_json::Value::Null), TASK).unwrap();
        plan.prepare(&volumes).unwrap();
        plan.prepare(&volumes).unwrap();
        let efs = serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1"}});
        let shared = VolumePlan::new(&volume("data", None, efs), TASK).unwrap();
        shared.prepare(&volumes).unwrap();
        std::fs::write(plan.path(&volumes).join("file"), "x").unwrap();
        release_all(&volumes).unwrap();
        assert!(!volumes.join(TASK.to_string()).exists());
        assert!(shared.path(&volumes).exists());
    }

    #[test]
    fn a_volume_of_any_depth_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join(TASK.to_string());
        std::fs::create_dir_all(own.join("scratch/kept/x")).unwrap();
        std::fs::write(own.join("scratch/kept/file"), "x").unwrap();
        std::fs::create_dir_all(own.join("~0/left-behind")).unwrap();
        std::os::unix::fs::symlink(root.path(), own.join("scratch/link")).unwrap();
        std::fs::write(root.path().join("outside"), "x").unwrap();
        // From the bottom up: a path this long could not be named.
        let (deep, next) = (own.join("deep"), own.join("next"));
        std::fs::create_dir(&deep).unwrap();
        for _ in 0..3000 {
            std::fs::create_dir(&next).unwrap();
            std::fs::rename(&deep, next.join("d")).unwrap();
            std::fs::rename(&next, &deep).unwrap();
        }
        // A sixteenth of the stack of tokio's blocking threads; a recursion would need 110 bytes for each level.
        let volumes = root.path().to_owned();
        let release = move || release(&volumes, TASK);
        std::thread::Builder::new().stack_size(128 << 10).spawn(release).unwrap().join().unwrap().unwrap();
        assert!(!own.exists());
        assert!(root.path().join("outside").exists(), "no link is followed");
    }

    #[test]
    fn a_link_a_guest_made_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let volumes = root.path().join("volumes");
        std::fs::create_dir_all(volumes.join("shared/fs-1")).unwrap();
        std::os::unix::fs::symlink("/", volumes.join("shared/fs-1/out")).unwrap();
        let efs =
            serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/out"}});
        let plan = VolumePlan::new(&volume("data", None, efs), TASK).unwrap();
        assert!(matches!(plan.prepare(&volumes), Err(VolumeError::NotADirectory { .. })));
    }

    #[test]
    fn what_was_opened_stays_when_its_path_changes() {
        let root = tempfile::tempdir().unwrap();
        let efs =
            serde_json::json!({"efsVolumeConfiguration": {"fileSystemId": "fs-1", "rootDirectory": "/a"}});
        let plan = VolumePlan::new(&volume("data", None, efs), TASK).unwrap();
        let mounted = prepare(&[plan], Ephemeral { limit: 1 }, TASK, root.path()).unwrap();
        // Another task, which has the whole file system, puts a link in its place.
        std::fs::remove_dir(root.path().join("shared/fs-1/a")).unwrap();
        std::os::unix::fs::symlink("/", root.path().join("shared/fs-1/a")).unwrap();
        assert!(mounted[0].directory.child("etc").is_err(), "it is the directory that was opened");
        assert!(mounted[0].quota.is_none(), "a shared volume is as large as its disk");
    }

    #[test]
    fn only_what_is_the_tasks_own_counts_in_its_storage() {
        let root = tempfile::tempdir().unwrap();
        let null = serde_json::Value::Null;
        let plans = [
            VolumePlan::new(&volume("data", None, null.clone()), TASK).unwrap(),
            VolumePlan::new(&volume("host", root.path().to_str(), null), TASK).unwrap(),
            VolumePlan::scratch(0, None, TASK),
            VolumePlan::scratch(1, Some(4096), TASK),
        ];
        let mounted = prepare(&plans, Ephemeral { limit: 1 << 20 }, TASK, root.path()).unwrap();
        let limits: Vec<_> = mounted.iter().map(|one| one.quota.as_ref().map(DiskQuota::limit)).collect();
        assert_eq!(limits, [Some(1 << 20), None, Some(1 << 20), Some(4096)]);
        release(root.path(), TASK).unwrap();
        assert!(!root.path().join(TASK.to_string()).exists());
    }

    #[test]
    fn a_host_directory_must_be_there() {
        let missing =
            VolumePlan::new(&volume("data", Some("/does/not/exist"), serde_json::Value::Null), TASK).unwrap();
        let text = missing.prepare(Path::new("/v")).unwrap_err().to_string();
        assert!(text.contains("data") && text.contains("/does/not/exist"), "{text}");
    }
}
