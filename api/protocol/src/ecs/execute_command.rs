//! ExecuteCommand.

use coracle_types::{AccountId, Arn, Container, Resource, Task};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::members::Members;
use crate::object::Object;

/// The longest command, in bytes.
const COMMAND_BYTES_MAX: usize = 8192;

/// ExecuteCommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecuteCommand {
    /// The cluster.
    pub cluster: Option<String>,
    /// The task's id or ARN.
    pub task: String,
    /// The container; may be left out when there is only one.
    pub container: Option<String>,
    /// The command line.
    pub command: String,
}

impl ExecuteCommand {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the command or the task is missing, or the session is not to be interactive.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let command = members.required_text("command")?;
        if command.len() > COMMAND_BYTES_MAX {
            return Err(members.refuse(format_args!("command can have at most {COMMAND_BYTES_MAX} bytes.")));
        }
        match members.flag("interactive")? {
            None => return Err(members.missing("interactive")),
            Some(false) => return Err(members.refuse("Interactive is the only mode supported currently.")),
            Some(true) => {}
        }
        Ok(Self {
            cluster: members.text("cluster")?,
            task: members.required_text("task")?,
            container: members.text("container")?.filter(|name| !name.is_empty()),
            command,
        })
    }
}

/// Splits a command line into words as a shell does: at blanks outside of quotes, with back slashes before what
/// is meant literally. Nothing is expanded.
///
/// # Errors
/// When a quote is not closed, or there is no word.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(next) = chars.next() {
        match (quote, next) {
            (Some(open), close) if close == open => quote = None,
            (None, open @ ('"' | '\'')) => {
                quote = Some(open);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some(literal) => word.get_or_insert_default().push(literal),
                None => return Err("the command ends with a back slash".to_owned()),
            },
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("the command has a quote that is not closed".to_owned());
    }
    words.extend(word);
    if words.is_empty() { Err("the command has no words".to_owned()) } else { Ok(words) }
}

/// The answer: where to get the session, and the token that opens it.
#[must_use]
pub fn session(
    account: AccountId,
    task: &Task,
    container: &Container,
    session_id: &str,
    stream_url: &str,
    token: &str,
) -> Value {
    let arn = |resource| Arn::new(account, resource).to_string();
    Object::new()
        .with("clusterArn", arn(Resource::Cluster(task.cluster.clone())))
        .with("containerArn", arn(Resource::Container(task.cluster.clone(), task.id, container.id)))
        .with("containerName", container.name.as_str())
        .with("interactive", true)
        .with("session", json!({"sessionId": session_id, "streamUrl": stream_url, "tokenValue": token}))
        .with("taskArn", arn(Resource::Task(task.cluster.clone(), task.id)))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_as_a_shell_does() {
        for (line, expected) in [
            ("/bin/sh", vec!["/bin/sh"]),
            ("  ls  -l\t/tmp ", vec!["ls", "-l", "/tmp"]),
            (r#"echo "two words" 'and "these"' "#, vec!["echo", "two words", "and \"these\""]),
            (r#"a\ b "c\"d" 'e\f' """#, vec!["a b", "c\"d", "e\\f", ""]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for line in ["", "   ", "'open", "end\\"] {
            assert!(words(line).is_err(), "{line}");
        }
    }
}
