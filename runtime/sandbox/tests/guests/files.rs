//! Files of WASI 0.3 and of preview 1; those of 0.2 are among the hostile guests.

use crate::{ENGINE, Lines, prepare};
use coracle_fixtures::binaries;
use coracle_sandbox::{Container, ContainerSpec, Directory, DiskQuota, Exit, Files, Mount, StdStream};
use std::sync::Arc;

const LIMIT: u64 = 256 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn scratch_of_wasi_0_3_is_bounded() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let scratch = Directory::open(dir.path()).unwrap();
    let lines = Lines::default();
    let spec = ContainerSpec {
        args: vec!["guest".into(), "files".into()],
        mounts: vec![
            Mount { quota: Some(DiskQuota::new(scratch.clone(), LIMIT)), ..Mount::new(scratch, "/scratch") },
            Mount::new(Directory::open(other.path()).unwrap(), "/other"),
        ],
        files: Files::new(100),
        output: Arc::new(lines.clone()),
        ..ContainerSpec::default()
    };
    let command = prepare(coracle_fixtures::p3_command());
    assert_eq!(Container::new(&command, spec).unwrap().run().await, Exit::Code(0));
    let mut report = Vec::new();
    for line in lines.of(StdStream::Stdout) {
        let [way, end, count] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let end = end.trim_start_matches("ErrorCode::").to_owned();
        report.push((way.to_owned(), end, count.parse::<u64>().unwrap()));
    }
    let ends: Vec<_> = report.iter().map(|(way, end, _)| format!("{way} {end}")).collect();
    assert_eq!(
        ends,
        [
            "stream InsufficientSpace",
            "shrink ok",
            "append InsufficientSpace",
            "shrink ok",
            "grow InsufficientSpace",
            "unlink ok",
            "files InsufficientSpace",
            "rename CrossDevice",
            "link CrossDevice",
            "make InsufficientSpace",
            "symlink InsufficientSpace",
            "list ok",
            "again ok",
            "open Quota",
        ]
    );
    let count = |way: &str| report.iter().find(|(name, ..)| name == way).unwrap().2;
    for way in ["stream", "append"] {
        assert!((LIMIT / 2..=LIMIT).contains(&count(way)), "{way} {}", count(way));
    }
    assert_eq!(count("files"), LIMIT / 4096);
    assert_eq!(count("list"), count("files"));
    assert_eq!(count("open"), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn core_modules_work_on_files_within_bounds() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("secret"), "the secret").unwrap();
    let top = Directory::open(root.path()).unwrap();
    let (scratch, kept) = (top.make_child("scratch").unwrap(), top.make_child("kept").unwrap());
    let module = ENGINE.prepare_bytes(&binaries::preview1_files()).unwrap();
    let run = async |quota: Option<DiskQuota>, read_only: bool| {
        let lines = Lines::default();
        let spec = ContainerSpec {
            mounts: vec![
                Mount { quota, read_only, ..Mount::new(scratch.clone(), "/scratch") },
                Mount { read_only: true, ..Mount::new(kept.clone(), "/kept") },
            ],
            output: Arc::new(lines.clone()),
            ..ContainerSpec::default()
        };
        assert_eq!(Container::new(&module, spec).unwrap().run().await, Exit::Code(0));
        let said = lines.of(StdStream::Stdout).concat();
        let steps = said.bytes().map(|code| code - b'0');
        binaries::PREVIEW1_STEPS.into_iter().zip(steps).collect::<Vec<_>>()
    };
    const NO_SPACE: u8 = 51;
    let steps = run(Some(DiskQuota::new(scratch.clone(), LIMIT)), false).await;
    assert_eq!(steps.len(), binaries::PREVIEW1_STEPS.len());
    for (step, code) in steps {
        match step {
            "write until it ends" | "write to it without its name until it ends" => {
                assert_eq!(code, NO_SPACE, "{step}");
            }
            "open a file outside" | "create a file where only reading is allowed" => {
                assert_ne!(code, 0, "{step}");
            }
            _ => assert_eq!(code, 0, "{step}"),
        }
    }
    assert!(root.path().join("scratch/moved").is_dir(), "what is allowed was done");
    assert_eq!(std::fs::read_dir(root.path().join("kept")).unwrap().count(), 0);
    std::fs::remove_dir(root.path().join("scratch/moved")).unwrap();

    let steps = run(None, true).await;
    // The file it would close was never opened; what has that number then is its standard input.
    for (step, code) in steps.into_iter().filter(|(step, _)| *step != "close it") {
        assert_ne!(code, 0, "nothing is written where only reading is allowed: {step}");
    }
    assert_eq!(std::fs::read_dir(root.path().join("scratch")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn core_modules_read_directories_in_pieces() {
    let root = tempfile::tempdir().unwrap();
    let mut expected = vec![".".to_owned(), "..".to_owned(), "sub".to_owned()];
    std::fs::create_dir(root.path().join("sub")).unwrap();
    for number in 0..1000 {
        let name = format!("{number}");
        std::fs::write(root.path().join(&name), "").unwrap();
        expected.push(name);
    }
    expected.sort();
    // Room for little more than an entry, for some and a part of one, and for all at once.
    for at_once in [28, 100, 4096, 60_000] {
        let module = ENGINE.prepare_bytes(&binaries::preview1_listing(at_once)).unwrap();
        let lines = Lines::default();
        let files = Files::new(1);
        let spec = ContainerSpec {
            mounts: vec![Mount::new(Directory::open(root.path()).unwrap(), "/")],
            // While it is read, it is open once more.
            files: files.clone(),
            fuel_per_run: Some(10_000_000),
            output: Arc::new(lines.clone()),
            ..ContainerSpec::default()
        };
        assert_eq!(Container::new(&module, spec).unwrap().run().await, Exit::Code(0), "{at_once}");
        let mut names = lines.of(StdStream::Stdout);
        names.sort();
        assert_eq!(names, expected, "{at_once} bytes at once");
        assert_eq!(files.open(), 0);
    }
}
