//! What a task's own network looks like from outside: the elastic network interface ECS attaches to an
//! `awsvpc` task.
//!
//! No such interface exists here. Scripts read its private address and ids, so plausible ones are
//! derived from the task's id: the same on every answer, different between tasks.

use coracle_types::{Task, TaskId};
use serde_json::{Value, json};

/// The id of the attachment of a task's interface.
#[must_use]
pub fn attachment_id(task: TaskId) -> String {
    TaskNetwork::of(task).attachment_id
}

/// The interface of one task.
pub(super) struct TaskNetwork {
    attachment_id: String,
    interface_id: String,
    mac: String,
    ipv4: String,
}

impl TaskNetwork {
    pub(super) fn of(task: TaskId) -> Self {
        let bits = task.0;
        let byte = |index: u32| (bits >> (8 * index)) & 0xff;
        Self {
            attachment_id: format!(
                "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
                (bits >> 96) & 0xffff_ffff,
                (bits >> 80) & 0xffff,
                (bits >> 64) & 0xfff,
                (bits >> 48) & 0xfff,
                bits & 0xffff_ffff_ffff
            ),
            interface_id: format!("eni-0{:016x}", (bits >> 32) & 0xffff_ffff_ffff_ffff),
            mac: format!(
                "0a:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
                byte(4),
                byte(3),
                byte(2),
                byte(1),
                byte(0)
            ),
            ipv4: task.private_ipv4().to_string(),
        }
    }

    /// One of the task's `attachments`.
    pub(super) fn attachment(&self, task: &Task) -> Value {
        let status = match task.last_status {
            coracle_types::LastStatus::Provisioning => "PRECREATED",
            coracle_types::LastStatus::Stopped => "DELETED",
            _ => "ATTACHED",
        };
        let subnets = task
            .rest
            .get("networkConfiguration")
            .and_then(|network| network.get("awsvpcConfiguration")?.get("subnets")?.as_array().cloned());
        let subnet = subnets.and_then(|subnets| subnets.first()?.as_str().map(str::to_owned));
        let subnet = subnet.unwrap_or_else(|| "subnet-00000000000000000".to_owned());
        let dns = format!("ip-{}.ec2.internal", self.ipv4.replace('.', "-"));
        json!({
            "id": self.attachment_id,
            "type": "ElasticNetworkInterface",
            "status": status,
            "details": [
                {"name": "subnetId", "value": subnet},
                {"name": "networkInterfaceId", "value": self.interface_id},
                {"name": "macAddress", "value": self.mac},
                {"name": "privateDnsName", "value": dns},
                {"name": "privateIPv4Address", "value": self.ipv4},
            ],
        })
    }

    /// A container's `networkInterfaces`.
    pub(super) fn interfaces(&self) -> Value {
        json!([{"attachmentId": self.attachment_id, "privateIpv4Address": self.ipv4}])
    }
}
