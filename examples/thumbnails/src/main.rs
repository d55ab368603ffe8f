//! A batch worker: takes PNG pictures from a folder, one after the other, and leaves thumbnails in another, until there
//! is nothing left to take. Any number of workers may do so at the same time.
//!
//! ```text
//! queue/cat.png ──claim──▶ working/cat.png ──▶ thumbs/cat.png, and the picture in done/
//!                                          └─▶ failed/cat.png, if it is no picture
//! ```
//!
//! To claim a picture is to rename it, which only one worker can do. A thumbnail has its name only when it is whole. What
//! a worker that was killed had claimed is in `working`: put it back into the queue.
//!
//! Run with, in `examples/thumbnails`,
//!
//! ```sh
//! cargo build --release --target wasm32-wasip2
//! coracle run --dir /tmp/photos::/photos target/wasm32-wasip2/release/thumbnails.wasm -- /photos 128
//! ```

mod picture;

use picture::Picture;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, side] = arguments.as_slice() else { return usage() };
    let Ok(side @ 1..=4096) = side.parse() else { return usage() };
    match work(Path::new(folder), side) {
        Ok(Done { made, failed }) => {
            println!("{made} thumbnails, {failed} failures");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("thumbnails: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: thumbnails FOLDER SIDE\n       SIDE is the longer side of a thumbnail, in pixels: 1 to 4096");
    ExitCode::FAILURE
}

#[derive(Default)]
struct Done {
    made: u32,
    failed: u32,
}

/// Works until the queue is empty.
fn work(folder: &Path, side: u32) -> Result<Done, String> {
    for name in ["working", "thumbs", "done", "failed"] {
        let place = folder.join(name);
        fs::create_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    let mut done = Done::default();
    while let Some(claimed) = claim(folder)? {
        let name = claimed.file_name().unwrap_or_default();
        let destination = match thumbnail(&claimed, &folder.join("thumbs"), side) {
            Ok(()) => {
                done.made += 1;
                "done"
            }
            Err(error) => {
                eprintln!("{}: {error}", name.display());
                done.failed += 1;
                "failed"
            }
        };
        let destination = folder.join(destination).join(name);
        fs::rename(&claimed, &destination).map_err(|error| format!("{}: {error}", destination.display()))?;
    }
    Ok(done)
}

/// Takes a picture from the queue that nobody else has.
fn claim(folder: &Path) -> Result<Option<PathBuf>, String> {
    let queue = folder.join("queue");
    loop {
        match claim_one_of(&queue, &folder.join("working")) {
            // Somebody else was faster, while the folder was read or the picture was renamed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && queue.is_dir() => {}
            claimed => return claimed.map_err(|error| format!("{}: {error}", queue.display())),
        }
    }
}

fn claim_one_of(queue: &Path, working: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(queue)? {
        let picture = entry?.path();
        if picture.extension().is_some_and(|extension| extension == "png") {
            let claimed = working.join(picture.file_name().unwrap_or_default());
            fs::rename(&picture, &claimed)?;
            return Ok(Some(claimed));
        }
    }
    Ok(None)
}

/// Makes one thumbnail.
fn thumbnail(picture: &Path, thumbs: &Path, side: u32) -> Result<(), String> {
    let small = Picture::read(picture)?.shrunk_to(side);
    let name = picture.file_name().unwrap_or_default();
    let (new, place) = (thumbs.join(name).with_extension("new"), thumbs.join(name));
    small.write(&new)?;
    fs::rename(&new, &place).map_err(|error| error.to_string())
}
