//! What container agents report: SubmitTaskStateChange, SubmitContainerStateChange and
//! SubmitAttachmentStateChanges.

use serde_json::Value;

use crate::error::ApiError;
use crate::members::Members;
use crate::object::Object;

/// SubmitTaskStateChange and SubmitContainerStateChange: they differ in what the status is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The cluster.
    pub cluster: Option<String>,
    /// The task's id or ARN.
    pub task: String,
    /// The container, when it is about one.
    pub container: Option<String>,
    /// Its state, in ECS's words; None when only details changed.
    pub status: Option<String>,
}

impl StateChange {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When the task is missing, or a reason is longer than 1024 characters.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        if members.text("reason")?.is_some_and(|reason| reason.chars().count() > 1024) {
            return Err(members.refuse("reason can have at most 1024 characters."));
        }
        Ok(Self {
            cluster: members.text("cluster")?,
            task: members.required_text("task")?,
            container: members.text("containerName")?.filter(|name| !name.is_empty()),
            status: members.text("status")?.filter(|status| !status.is_empty()),
        })
    }
}

/// SubmitAttachmentStateChanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachmentStateChanges {
    /// The cluster.
    pub cluster: Option<String>,
    /// ARNs of attachments and their states.
    pub attachments: Vec<(String, String)>,
}

impl AttachmentStateChanges {
    /// Takes the request apart.
    ///
    /// # Errors
    /// When there are no attachments, or one lacks its ARN or status.
    pub fn decode(mut members: Members) -> Result<Self, ApiError> {
        let attachments = members.objects("attachments")?.unwrap_or_default();
        if attachments.is_empty() {
            return Err(members.missing("attachments"));
        }
        let pairs = attachments
            .into_iter()
            .map(|mut one| Ok((one.required_text("attachmentArn")?, one.required_text("status")?)));
        Ok(Self { cluster: members.text("cluster")?, attachments: pairs.collect::<Result<_, ApiError>>()? })
    }
}

/// The answer to all three.
#[must_use]
pub fn acknowledged() -> Value {
    Object::new().with("acknowledgment", "ACK").into()
}
