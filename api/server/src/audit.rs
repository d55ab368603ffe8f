//! The audit log: who changed what, when, from where, and how it ended.
//!
//! One line of JSON per call that may change something, with the members of a CloudTrail record, appended
//! to a file before the call is answered. Calls that only read are not in it, but for those that answer with
//! secrets; nor are requests whose sender could not be told. Secrets are left out. The file is replaced when it is full; a number of old
//! ones are kept.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use coracle_protocol::{ApiError, Wire};
use coracle_types::{AccountId, Timestamp};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::api::Caller;
use crate::auth::Principal;
use crate::http::new_id;

/// When a file is full, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many full files are kept beside the one being written: `audit.1.jsonl` is the newest.
const FILES_KEPT: u32 = 8;
/// How many lines may wait to be written. Callers wait for room, and each for its own line.
const WAITING_MAX: usize = 1024;
/// The most of a request's parameters that is kept, in bytes of JSON.
const PARAMETERS_BYTES_MAX: usize = 16 * 1024;
/// What stands where a secret was, as in CloudTrail.
const HIDDEN: &str = "HIDDEN_DUE_TO_SECURITY_REASONS";
/// The members that hold secrets, wherever they are.
const SECRET_MEMBERS: [&str; 4] = ["SecretString", "SecretBinary", "PrivateKey", "environment"];

/// Where changes are noted.
#[derive(Clone, Debug)]
pub struct AuditLog {
    lines: mpsc::Sender<Line>,
}

#[derive(Debug)]
struct Line {
    text: String,
    written: oneshot::Sender<()>,
}

/// One call, for the log.
pub(crate) struct Call<'a> {
    pub(crate) at: Timestamp,
    pub(crate) account: AccountId,
    pub(crate) caller: &'a Caller,
    /// The service of the action, as policies name it: `ecs`.
    pub(crate) service: &'a str,
    /// The action: `CreateService`.
    pub(crate) action: &'a str,
    /// Whether it only reads.
    pub(crate) read_only: bool,
    pub(crate) user_agent: Option<&'a str>,
    pub(crate) request_id: &'a str,
    /// The request.
    pub(crate) parameters: &'a Value,
    /// How it ended.
    pub(crate) error: Option<&'a ApiError>,
}

impl AuditLog {
    /// The log in the file at `path`, which is appended to. Writes on a thread of its own.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = LogFile::open(path.to_owned(), FILE_BYTES_MAX)?;
        let (lines, mut waiting) = mpsc::channel::<Line>(WAITING_MAX);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let mut batch = Vec::new();
            // What waits together is written together.
            while let Some(first) = waiting.blocking_recv() {
                batch.push(first);
                while let Ok(next) = waiting.try_recv() {
                    batch.push(next);
                }
                let texts = batch.iter().map(|line| line.text.as_str());
                if let Err(error) = file.append(texts) {
                    tracing::error!(%error, lines = batch.len(), "the audit log could not be written");
                }
                for line in batch.drain(..) {
                    // Whoever waited may have hung up.
                    let _ = line.written.send(());
                }
            }
        })?;
        Ok(Self { lines })
    }

    /// Notes a call. Resolves when it is in the file, or could not be written.
    pub(crate) async fn note(&self, call: &Call<'_>) {
        let (written, done) = oneshot::channel();
        let text = format!("{}\n", call.record());
        if self.lines.send(Line { text, written }).await.is_ok() {
            let _ = done.await;
        }
    }
}

impl Call<'_> {
    /// The record, with CloudTrail's members ("CloudTrail record contents").
    fn record(&self) -> Value {
        let Self { caller, service, action, .. } = self;
        let mut identity = json!({
            "type": match caller.principal {
                Principal::Root => "Root",
                Principal::User(_) => "IAMUser",
                Principal::Role(..) => "AssumedRole",
            },
            "principalId": caller.principal.id(self.account),
            "arn": caller.principal.arn(self.account),
            "accountId": self.account.to_string(),
        });
        if let Some(key) = &caller.access_key {
            identity["accessKeyId"] = key.as_str().into();
        }
        if let Principal::User(user) = &caller.principal {
            identity["userName"] = user.identity.name.as_str().into();
        }
        let short = |text: &str| text.chars().take(1024).collect::<String>();
        let mut record = json!({
            "eventVersion": "1.11",
            "userIdentity": identity,
            "eventTime": self.at.iso8601(),
            "eventSource": format!("{service}.amazonaws.com"),
            "eventName": short(action),
            "awsRegion": caller.region.as_str(),
            "sourceIPAddress": caller.source.map(|address| address.to_string()),
            "userAgent": self.user_agent.map(short),
            "requestParameters": parameters(service, self.parameters),
            "responseElements": null,
            "requestID": self.request_id,
            "eventID": new_id(),
            "readOnly": self.read_only,
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": self.account.to_string(),
            "eventCategory": "Management",
        });
        if let Some(error) = self.error {
            record["errorCode"] = error.row().json.into();
            record["errorMessage"] = short(&error.to_string()).into();
            record["httpStatus"] = error.status(Wire::Json).into();
        }
        record
    }
}

/// A request's parameters without secrets, or only their size where there are too many.
fn parameters(service: &str, given: &Value) -> Value {
    let mut kept = given.clone();
    hide(&mut kept);
    // A parameter's value; elsewhere a member of this name is a tag's or a filter's.
    if let Some(value) = kept.get_mut("Value").filter(|_| service == "ssm") {
        *value = HIDDEN.into();
    }
    let bytes = kept.to_string().len();
    if bytes > PARAMETERS_BYTES_MAX {
        json!({"omitted": format!("{bytes} bytes of parameters")})
    } else {
        kept
    }
}

fn hide(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Object(members) => {
            for (name, member) in members {
                match SECRET_MEMBERS.contains(&name.as_str()) && !member.is_null() {
                    true => *member = HIDDEN.into(),
                    false => hide(member),
                }
            }
        }
        _ => {}
    }
}

/// A file that is replaced when it is full.
struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    fn open(path: PathBuf, bytes_max: u64) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes, bytes_max })
    }

    fn append<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> std::io::Result<()> {
        let text: String = texts.collect();
        if self.bytes > 0 && self.bytes + text.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(text.as_bytes())?;
        self.bytes += text.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        for number in (1..FILES_KEPT).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        *self = Self::open(self.path.clone(), self.bytes_max)?;
        Ok(())
    }

    /// `audit.jsonl` becomes `audit.1.jsonl`.
    fn numbered(&self, number: u32) -> PathBuf {
        let extension = self.path.extension().map(|extension| extension.to_string_lossy().into_owned());
        self.path.with_extension(format!("{number}.{}", extension.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_files_are_kept_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut file = LogFile::open(path.clone(), 10).unwrap();
        for line in 0..12 {
            file.append([format!("line {line:02}\n")].iter().map(String::as_str)).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(read("audit.jsonl"), "line 11\n");
        assert_eq!(read("audit.1.jsonl"), "line 10\n");
        assert_eq!(read("audit.8.jsonl"), "line 03\n");
        assert!(!dir.path().join("audit.9.jsonl").exists());
        let mut again = LogFile::open(path, 100).unwrap();
        again.append(["more\n"].into_iter()).unwrap();
        assert_eq!(read("audit.jsonl"), "line 11\nmore\n");
    }

    #[test]
    fn secrets_are_left_out() {
        let given = json!({"Name": "db", "SecretString": "hush", "containers": [{"environment": [1]}]});
        let kept = parameters("secretsmanager", &given).to_string();
        assert!(!kept.contains("hush") && kept.contains("\"db\""), "{kept}");
        let large = json!({"x": "y".repeat(PARAMETERS_BYTES_MAX)});
        assert_eq!(parameters("ssm", &json!({"Value": "hush"}))["Value"], HIDDEN);
        assert_eq!(parameters("ecs", &json!({"Value": "shown"}))["Value"], "shown");
        assert!(parameters("ecs", &large)["omitted"].as_str().unwrap().ends_with("bytes of parameters"));
    }
}
