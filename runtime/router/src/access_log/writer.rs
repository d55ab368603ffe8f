//! The thread that writes the access log's files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;

use super::format::line;
use super::{AccessLogConfig, Entry};

pub(super) struct Writer {
    config: AccessLogConfig,
    file: BufWriter<File>,
    written: u64,
    /// Whether the last write failed, which is said once.
    is_failing: bool,
}

impl Writer {
    pub(super) fn open(config: AccessLogConfig) -> io::Result<Self> {
        if let Some(directory) = config.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let (file, written) = append_to(&config.path)?;
        Ok(Self { config, file, written, is_failing: false })
    }

    /// Writes entries until nobody can send any more. What was written reaches the file as soon as no
    /// other entry waits.
    pub(super) fn run(&mut self, entries: &Receiver<Entry>) {
        while let Ok(entry) = entries.recv() {
            let mut next = Some(entry);
            while let Some(entry) = next {
                let written = self.write(&entry);
                self.note(written);
                next = entries.try_recv().ok();
            }
            let flushed = self.file.flush();
            self.note(flushed);
        }
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let line = line(entry, self.config.format);
        let len = line.len() as u64;
        if self.written > 0 && self.written + len > self.config.max_file_bytes {
            self.rotate()?;
        }
        self.written += len;
        self.file.write_all(line.as_bytes())
    }

    /// Begins a new file. The full one becomes `.1`, that `.2`, and the one past the last is gone.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        let kept = |number: u32| {
            let mut name = self.config.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        for number in (1..self.config.max_files).rev() {
            rename_if_there(&kept(number), &kept(number + 1))?;
        }
        if self.config.max_files > 0 {
            rename_if_there(&self.config.path, &kept(1))?;
        } else {
            fs::remove_file(&self.config.path)?;
        }
        (self.file, self.written) = append_to(&self.config.path)?;
        Ok(())
    }

    fn note(&mut self, done: io::Result<()>) {
        match done {
            Ok(()) => self.is_failing = false,
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::error!(path = %self.config.path.display(), %error, "could not write the access log");
            }
            Err(_) => {}
        }
    }
}

fn append_to(path: &Path) -> io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let written = file.metadata()?.len();
    Ok((BufWriter::with_capacity(64 * 1024, file), written))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::AccessLog;
    use super::*;

    #[test]
    fn files_are_bounded_in_size_and_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("logs/access.log");
        let config =
            AccessLogConfig { max_file_bytes: 1000, max_files: 2, ..AccessLogConfig::new(path.clone()) };
        let mut writer = Writer::open(config).unwrap();
        let (queue, entries) = std::sync::mpsc::sync_channel(100);
        for index in 0..40 {
            let request = http::Request::get(format!("/{index}")).body(()).unwrap();
            queue.send(Entry::of(&request, "192.0.2.7:1".parse().unwrap(), false)).unwrap();
        }
        drop(queue);
        writer.run(&entries);
        let mut names: Vec<_> =
            fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["access.log", "access.log.1", "access.log.2"]);
        let newest = fs::read_to_string(&path).unwrap();
        assert!(newest.contains("\"/39\"") && newest.len() <= 1000, "{newest}");
        let before = fs::read_to_string(path.with_extension("log.1")).unwrap();
        assert!(before.lines().all(|line| line.starts_with('{')) && before.len() <= 1000, "{before}");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (queue, _entries) = std::sync::mpsc::sync_channel(1);
        let dropped = prometheus::IntCounter::new("dropped", "dropped").unwrap();
        let log = AccessLog { queue, dropped: dropped.clone() };
        let request = http::Request::get("/").body(()).unwrap();
        for _ in 0..3 {
            log.write(Entry::of(&request, "192.0.2.7:1".parse().unwrap(), false));
        }
        assert_eq!(dropped.get(), 2);
    }
}
