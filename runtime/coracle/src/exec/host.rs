//! Where ExecuteCommand meets the node: the API's commands are run by the agent of this process.

use std::sync::Arc;

use coracle_agent::Agent;
use coracle_server::{ExecCommand, ExecError, ExecHost, ExecStream};
use futures_util::future::BoxFuture;

/// The tasks of one agent.
pub(crate) struct AgentCommands(pub(crate) Arc<Agent>);

impl ExecHost for AgentCommands {
    fn exec(&self, command: ExecCommand) -> BoxFuture<'static, Result<ExecStream, ExecError>> {
        let ExecCommand { task, container, argv } = command;
        let started = self.0.exec(task.id, &container, argv);
        Box::pin(std::future::ready(match started {
            Ok(running) => Ok(ExecStream { input: running.input, output: running.output }),
            Err(error) => Err(ExecError(error.to_string())),
        }))
    }
}
