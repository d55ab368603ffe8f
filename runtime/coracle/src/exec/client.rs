//! `coracle exec`: a command inside a running task, with this terminal's input and output.
//!
//! It asks ExecuteCommand for a session and carries it as `coracle-exec`, the plain frames that the server's
//! `exec/frames.rs` describes: both outputs apart, the end of input, and the exit code, none of which the AWS CLI's
//! plugin knows.

use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::cli::ExecArgs;
use crate::client::ApiClient;
use crate::ps::{last_segment, list_tasks};
use crate::up::Signals;

const PROTOCOL: &str = "coracle-exec";
const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERROR_OUTPUT: u8 = 2;
const EXIT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const NOT_RUN: u8 = 5;
const TAKEN: u8 = 6;

/// How much input one frame carries, in bytes; less than the server takes.
const INPUT_BYTES: usize = 16 * 1024;
/// How much input may be on its way that the command has not taken, in bytes: the server's bound.
const WINDOW_BYTES: usize = 64 * 1024;

pub(crate) async fn exec(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::listen()?;
    tokio::select! {
        ended = run(args) => ended,
        // The connection ends with this process, and the command with the connection.
        signal = stop.wait() => Ok(signal.exit_code()),
    }
}

async fn run(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let client = ApiClient::new(&args.api)?;
    let task = find_task(&client, args).await?;
    let request = json!({
        "cluster": args.cluster,
        "task": task,
        "container": args.container,
        "command": command_line(&args.command),
        // The only way ECS has it. Whether input is passed on is decided here.
        "interactive": true,
    });
    let answer = client.ecs("ExecuteCommand", &request).await?;
    let session = &answer["session"];
    let text = |name: &str| session[name].as_str().with_context(|| format!("the session has no {name}"));
    let (url, token) = (text("streamUrl")?, text("tokenValue")?);

    let mut request = url.into_client_request()?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
    let (socket, _) = connect_async(request).await.with_context(|| format!("cannot connect to {url}"))?;
    let (mut sending, mut receiving) = socket.split();
    let opening = json!({"MessageSchemaVersion": "1.0", "TokenValue": token}).to_string();
    sending.send(Message::Text(Utf8Bytes::from(opening))).await?;

    let window = Semaphore::new(WINDOW_BYTES);
    let feeding = async {
        if args.interactive {
            let mut stdin = tokio::io::stdin();
            let mut frame = vec![0; 1 + INPUT_BYTES];
            loop {
                frame[0] = INPUT;
                let read = stdin.read(&mut frame[1..]).await.context("cannot read standard input")?;
                window.acquire_many(u32::try_from(read)?).await?.forget();
                let input = Bytes::copy_from_slice(&frame[..=read]);
                // A connection that takes no more has its end to say, on the other half.
                if read == 0 || sending.send(Message::Binary(input)).await.is_err() {
                    break;
                }
            }
        }
        let _ = sending.send(Message::Binary(Bytes::from_static(&[END_OF_INPUT]))).await;
        std::future::pending().await
    };
    let printing = async {
        while let Some(message) = receiving.next().await {
            let Message::Binary(message) = message? else { continue };
            match message.split_first() {
                Some((&OUTPUT, bytes)) => write(&mut std::io::stdout(), bytes)?,
                Some((&ERROR_OUTPUT, bytes)) => write(&mut std::io::stderr(), bytes)?,
                Some((&EXIT, code)) => {
                    let code = code.try_into().map(i32::from_be_bytes).unwrap_or(1);
                    return Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)));
                }
                Some((&TAKEN, bytes)) => {
                    let bytes = bytes.try_into().map_or(0, u32::from_be_bytes);
                    window.add_permits(usize::try_from(bytes)?.min(WINDOW_BYTES));
                }
                Some((&NOT_RUN, why)) => bail!("{}", String::from_utf8_lossy(why)),
                _ => {}
            }
        }
        Err(anyhow!("the connection ended before the command did"))
    };
    tokio::select! {
        ended = printing => ended,
        failed = feeding => failed,
    }
}

fn write(to: &mut impl std::io::Write, bytes: &[u8]) -> std::io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// The task that is meant: the running one whose id begins as given.
async fn find_task(client: &ApiClient, args: &ExecArgs) -> anyhow::Result<Value> {
    let given = last_segment(&args.task);
    let is_part = given.len() < 32 && !args.task.starts_with("arn:");
    if !is_part {
        return Ok(Value::from(args.task.as_str()));
    }
    let cluster = Value::from(args.cluster.as_str());
    let mut arns = list_tasks(client, &cluster, json!({ "desiredStatus": "RUNNING" })).await?;
    arns.retain(|arn| last_segment(arn.as_str().unwrap_or_default()).starts_with(given));
    match <[Value; 1]>::try_from(arns) {
        Ok([arn]) => Ok(arn),
        Err(none) if none.is_empty() => {
            bail!("no task of cluster {:?} that runs begins with {given:?}; see `coracle ps`", args.cluster)
        }
        Err(several) => bail!("{} tasks begin with {given:?}; give more of its id", several.len()),
    }
}

/// Words as one command line that is split into the same words.
fn command_line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''")));
    quoted.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let words: Vec<String> =
            ["batch", "", "two words", "it's", "a\\b", "\"x\" $y"].iter().map(|&word| word.into()).collect();
        assert_eq!(
            command_line(&words),
            r#"'batch' '' 'two words' 'it'\''s' 'a\b' '"x" $y'"#,
            "as coracle-protocol splits it"
        );
    }
}
