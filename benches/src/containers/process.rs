//! A bare process: fork and exec.

use std::process::{Child, Command, Stdio};

use super::native::Native;
use super::{Address, Engine, Place};
use crate::cleanup::Directory;
use crate::report::{Row, Side};

/// Starts programs as they are.
pub(crate) struct Process;

impl Engine for Process {
    fn row(&self, native: &Native) -> Row {
        Row::new("process", "bare process: fork + exec", Side::Bound, native.command_line().join(" "))
            .with_settings("no isolation, no limits; static binary")
    }

    fn place(&self, native: &Native) -> anyhow::Result<Box<dyn Place>> {
        let directory = Directory::new()?;
        let address = Address::of(native, directory.path(), false)?;
        Ok(Box::new(Bare {
            program: native.host_program(),
            arguments: native.arguments.clone(),
            environment: address.iter().flat_map(|address| address.environment(directory.path())).collect(),
            address,
            _directory: directory,
        }))
    }
}

struct Bare {
    program: std::path::PathBuf,
    arguments: Vec<String>,
    environment: Vec<String>,
    address: Option<Address>,
    _directory: Directory,
}

impl Place for Bare {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        let variables = self.environment.iter().filter_map(|variable| variable.split_once('='));
        command.args(&self.arguments).envs(variables).stdin(Stdio::null());
        command
    }

    fn address(&self) -> Option<Address> {
        self.address.clone()
    }

    fn stop(&mut self, started: &mut Child) {
        let _ = started.kill();
        let _ = started.wait();
        self.address.iter().for_each(Address::clear);
    }

    fn processes(&self, started: &Child) -> Vec<u32> {
        vec![started.id()]
    }
}
