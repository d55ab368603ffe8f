//! Daemons: one task on every node of a cluster.
//!
//! A daemon is a service the scheduler runs as it runs every DAEMON service, under a name no other service can
//! have; its task definitions are task definitions of families no other one can be of. So everything that is
//! true of deployments, revisions, tags and retention is true of daemons. Only names and ARNs tell them apart.

use crate::ids::{DaemonName, Family, IdError, ServiceName};

/// What the names of services that are daemons, and of the families they run, begin with.
pub const DAEMON_PREFIX: &str = "ecs-daemon-";

impl ServiceName {
    /// The name of the service that is this daemon.
    ///
    /// # Errors
    /// When the name is too long with what goes before it.
    pub fn of_daemon(daemon: &DaemonName) -> Result<Self, IdError> {
        format!("{DAEMON_PREFIX}{daemon}").parse()
    }

    /// The name of the daemon this service is, if it is one.
    #[must_use]
    pub fn daemon(&self) -> Option<&str> {
        self.as_str().strip_prefix(DAEMON_PREFIX)
    }
}

impl Family {
    /// The family of task definitions that daemons run, by the name people gave it.
    ///
    /// # Errors
    /// When it can't be the name of a family, or is too long with what goes before it.
    pub fn of_daemons(name: &str) -> Result<Self, IdError> {
        name.parse::<Self>()?;
        format!("{DAEMON_PREFIX}{name}").parse()
    }

    /// The name people gave it, if daemons run it.
    #[must_use]
    pub fn daemons(&self) -> Option<&str> {
        self.as_str().strip_prefix(DAEMON_PREFIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        let name: DaemonName = "logs".parse().unwrap();
        assert_eq!(ServiceName::of_daemon(&name).unwrap().daemon(), Some("logs"));
        assert_eq!("logs".parse::<ServiceName>().unwrap().daemon(), None);
        assert_eq!(Family::of_daemons("agent").unwrap().daemons(), Some("agent"));
        assert!(Family::of_daemons("a b").is_err());
    }
}
