//! Programs for this machine, and the root file systems in which containers find them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::cleanup::{self, Directory};
use crate::peers::find;

/// A program with everything it needs below one directory.
pub struct Native {
    directory: Directory,
    /// What it is called there, as an absolute path.
    program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where it can be told to listen.
    pub speaks: Speaks,
    /// The exit code it ends with if all is well. Another one is a failure, of the program or of what starts it.
    pub exit_code: i32,
}

/// Where a program can be told to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Nowhere: it runs to its exit.
    Nothing,
    /// At a Unix socket, named by SOCKET, or at a port, named by PORT.
    SocketOrPort,
    /// At a port, named by PORT.
    Port,
}

/// What `rustc` is told for everything.
const OPTIMISED: &[&str] =
    &["--edition", "2024", "-C", "opt-level=3", "-C", "panic=abort", "-C", "strip=symbols"];

/// And for a program of this machine, so that it needs nothing but the kernel.
const STATIC: &[&str] = &["-C", "target-feature=+crt-static"];

impl Native {
    /// Builds one of ours from its source, statically linked, with other crates' sources by name.
    ///
    /// # Errors
    /// Without `rustc`, or when a source does not compile.
    pub fn build(
        name: &str,
        source: &str,
        crates: &[(&str, &str)],
        arguments: &[&str],
        speaks: Speaks,
    ) -> anyhow::Result<Self> {
        let directory = skeleton()?;
        let mut options = Vec::new();
        for (name, source) in crates {
            let library = directory.path().join(format!("lib{name}.rlib"));
            compile(directory.path(), name, source, &["--crate-type", "rlib"], &library)?;
            options.extend(["--extern".to_owned(), format!("{name}={}", library.display())]);
        }
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        compile(directory.path(), name, source, &options, &root(&directory).join(name))?;
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { directory, program: format!("/{name}"), arguments, speaks, exit_code: 0 })
    }

    /// Takes a program of the user's, with the libraries that `ldd` names.
    ///
    /// # Errors
    /// If it, or a library of it, can't be copied.
    pub fn take(program: &Path, arguments: &[String], speaks: Speaks) -> anyhow::Result<Self> {
        let directory = skeleton()?;
        let name = program.file_name().and_then(|name| name.to_str()).context("the program has no name")?;
        let copy = |from: &Path, to: PathBuf| -> anyhow::Result<()> {
            let what = || format!("cannot copy {} to {}", from.display(), to.display());
            std::fs::create_dir_all(to.parent().context("below the root")?).with_context(what)?;
            std::fs::copy(from, &to).map(drop).with_context(what)
        };
        copy(program, root(&directory).join(name))?;
        let listed = Command::new("ldd").arg(program).output();
        for library in listed.iter().flat_map(|output| libraries(&String::from_utf8_lossy(&output.stdout))) {
            copy(&library, root(&directory).join(library.strip_prefix("/").unwrap_or(&library)))?;
        }
        let (program, arguments) = (format!("/{name}"), arguments.to_vec());
        Ok(Self { directory, program, arguments, speaks, exit_code: 0 })
    }

    /// The root file system that holds it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        root(&self.directory)
    }

    /// Where it is on this machine.
    #[must_use]
    pub fn host_program(&self) -> PathBuf {
        self.root().join(self.program.trim_start_matches('/'))
    }

    /// The command line within its root.
    #[must_use]
    pub fn command_line(&self) -> Vec<String> {
        [self.program.clone()].into_iter().chain(self.arguments.iter().cloned()).collect()
    }
}

/// Compiles a source: to a static program of this machine, or to the crate type that the options name.
pub(crate) fn compile(
    directory: &Path,
    name: &str,
    source: &str,
    options: &[&str],
    to: &Path,
) -> anyhow::Result<()> {
    let rustc = find("rustc").context("building it needs rustc, from https://rustup.rs")?;
    let file = directory.join(format!("{name}.rs"));
    std::fs::write(&file, source)?;
    let mut command = Command::new(rustc);
    // Away from any directory that says which toolchain to use, and that it may not have.
    command.current_dir(directory).args(OPTIMISED).args(options);
    if !options.contains(&"--crate-type") {
        command.args(STATIC);
    }
    let output = cleanup::output(command.arg("-o").arg(to).arg(&file))?;
    if !output.status.success() {
        bail!("rustc cannot build {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn root(directory: &Directory) -> PathBuf {
    directory.path().join("root")
}

/// A root with the directories that are mounted upon.
fn skeleton() -> anyhow::Result<Directory> {
    let directory = Directory::new()?;
    // One by one, so that none is made in a directory that has been removed by an interrupt.
    std::fs::create_dir(root(&directory))?;
    for mount in ["proc", "dev", "sys", "run", "tmp"] {
        std::fs::create_dir(root(&directory).join(mount))?;
    }
    Ok(directory)
}

/// The absolute paths that `ldd` lists.
fn libraries(listed: &str) -> Vec<PathBuf> {
    let path_of = |line: &str| {
        let line = line.split(" (").next()?.trim();
        let path = line.rsplit(" => ").next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    };
    listed.lines().filter_map(path_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_those_with_a_path() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        assert_eq!(
            libraries(listed),
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
        assert!(libraries("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_program_is_built_and_runs() {
        let source = "fn main() { println!(\"{:?}\", std::env::args().nth(1)) }";
        let native = Native::build("it", source, &[], &["x"], Speaks::Nothing).unwrap();
        let output = Command::new(native.host_program()).args(&native.arguments).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Some(\"x\")\n");
        assert_eq!(native.command_line(), ["/it", "x"]);
        let root = native.root();
        drop(native);
        assert!(!root.exists());
    }
}
