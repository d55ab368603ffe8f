//! Sessions that were opened and nobody has connected to yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng as _;

use super::ExecCommand;

/// How long a session waits for somebody to connect.
const WAITS: Duration = Duration::from_secs(60);

/// At most this many wait at once; past it, the oldest go.
const SESSIONS_MAX: usize = 1000;

/// A session, as ExecuteCommand answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) id: String,
    pub(crate) token: String,
}

struct Waiting {
    token: String,
    command: ExecCommand,
    since: Instant,
}

/// The sessions of one process.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<String, Waiting>>);

impl Sessions {
    /// Opens a session for a command.
    pub(crate) fn open(&self, command: ExecCommand) -> Opened {
        let mut rng = rand::rng();
        let id = format!("ecs-execute-command-{:017x}", rng.random::<u128>() >> 60);
        let token = hex::encode(rng.random::<[u8; 32]>());
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, one| one.since.elapsed() < WAITS);
        if waiting.len() >= SESSIONS_MAX
            && let Some(oldest) = waiting.iter().min_by_key(|(_, one)| one.since).map(|(id, _)| id.clone())
        {
            waiting.remove(&oldest);
        }
        waiting.insert(id.clone(), Waiting { token: token.clone(), command, since: Instant::now() });
        Opened { id, token }
    }

    /// The command of a session, for whoever has its token; nobody else gets it afterwards.
    pub(crate) fn take(&self, id: &str, token: &str) -> Option<ExecCommand> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = waiting.get(id)?;
        if one.since.elapsed() >= WAITS || !is_same(&one.token, token) {
            return None;
        }
        waiting.remove(id).map(|one| one.command)
    }
}

/// Compares in a time that does not tell where two texts differ.
fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> ExecCommand {
        let cluster = coracle_types::ClusterId {
            region: "us-east-1".parse().unwrap(),
            name: coracle_types::ClusterName::default_cluster(),
        };
        ExecCommand {
            task: coracle_types::TaskKey { cluster, id: coracle_types::TaskId(1) },
            container: "web".parse().unwrap(),
            argv: vec!["sh".to_owned()],
        }
    }

    #[test]
    fn a_session_is_for_one_who_has_its_token() {
        let sessions = Sessions::default();
        let opened = sessions.open(command());
        assert!(opened.id.starts_with("ecs-execute-command-") && opened.token.len() == 64, "{opened:?}");
        assert_eq!(sessions.take(&opened.id, "guess"), None);
        assert_eq!(sessions.take("ecs-execute-command-0", &opened.token), None);
        assert_eq!(sessions.take(&opened.id, &opened.token), Some(command()));
        assert_eq!(sessions.take(&opened.id, &opened.token), None, "only once");
    }

    #[test]
    fn those_nobody_wants_do_not_pile_up() {
        let sessions = Sessions::default();
        let first = sessions.open(command());
        (0..SESSIONS_MAX).for_each(|_| drop(sessions.open(command())));
        assert_eq!(sessions.0.lock().unwrap().len(), SESSIONS_MAX);
        assert_eq!(sessions.take(&first.id, &first.token), None, "the oldest went");
    }
}
