//! hello in a container, and other containers that spin beside it, for the bench `noisy`.

use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context as _, bail};

use super::bundle::{LIMITS, Limits};
use super::native::{Native, Speaks};
use super::oci::Oci;
use super::{Address, Engine as _, ErrorOutput, Place, Started};
use crate::cold_start::{await_answer, natively_hello};

/// What tasks of 256 CPU units get.
const QUARTER: Limits = Limits { cpu_percent: 25, memory_mib: 64 };

/// A container that serves hello, with a whole processor as its limit.
pub(crate) struct Neighbours {
    /// Where it answers.
    pub(crate) address: SocketAddr,
    spinner: Native,
    engine: Oci,
    hello: Vec<Running>,
    /// What it runs, for as long as it does.
    _program: Native,
}

/// A container that runs.
type Running = (Box<dyn Place>, Started);

impl Neighbours {
    /// Starts it.
    ///
    /// # Errors
    /// Where containers with limits can't be had.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let program = natively_hello()?;
        let place = Oci::limited(LIMITS)?.place(&program)?;
        let Some(Address::Port(port)) = place.address() else { bail!("it has no port") };
        let mut errors = ErrorOutput::new()?;
        let mut command = place.command();
        let mut started = Started::spawn(command.stdout(Stdio::null()).stderr(errors.emptied()?))?;
        errors.explain(await_answer(&Address::Port(port), started.child(), 1))?;
        let source = "fn main() { let mut n = 0_u64; loop { n = std::hint::black_box(n.wrapping_add(1)); } }";
        Ok(Self {
            address: ([127, 0, 0, 1], port).into(),
            spinner: Native::build("spin", source, &[], &[], Speaks::Nothing)?,
            engine: Oci::limited(QUARTER)?,
            hello: vec![(place, started)],
            _program: program,
        })
    }

    /// Starts so many that spin, each with a quarter of a processor as its limit.
    pub(crate) fn spin(&self, count: usize) -> anyhow::Result<Spinning> {
        let mut spinning = Spinning(Vec::new());
        for _ in 0..count {
            let place = self.engine.place(&self.spinner)?;
            let started = Started::spawn(place.command().stdout(Stdio::null()).stderr(Stdio::null()));
            spinning.0.push((place, started.context("a neighbour")?));
        }
        Ok(spinning)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        stop(&mut self.hello);
    }
}

/// Containers that spin until this is dropped.
pub(crate) struct Spinning(Vec<Running>);

impl Drop for Spinning {
    fn drop(&mut self) {
        stop(&mut self.0);
    }
}

fn stop(running: &mut Vec<Running>) {
    for (mut place, mut started) in running.drain(..) {
        place.stop(started.child());
        // The process before the place it is in.
        drop(started);
    }
}
