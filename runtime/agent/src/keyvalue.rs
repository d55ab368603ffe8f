//! The key-value stores of tasks: which one a container gets.

use std::sync::Arc;

use coracle_sandbox::KeyValue;
use coracle_types::{Task, TaskGroup};

/// Has the key-value stores of a node.
pub trait KeyValueSource: Send + Sync + 'static {
    /// The buckets of one namespace. Whoever opens the same one sees the same. What is written through what is answered
    /// must not make the namespace larger than so many bytes.
    fn open(&self, namespace: &str, limit_bytes: u64) -> Arc<dyn KeyValue>;
}

/// What a namespace may hold unless a label says otherwise, in bytes.
pub(crate) const DEFAULT_LIMIT: u64 = 1 << 30;

/// The namespace of a container: the one its label names, or else its service's or family's own. A label's namespace
/// is shared over the region; the others can't be named by one.
pub(crate) fn namespace(task: &Task, label: Option<&str>) -> String {
    let region = &task.cluster.region;
    match (label, &task.group) {
        (Some(label), _) => format!("{region}/shared/{label}"),
        (None, TaskGroup::Service(service)) => format!("{region}/service/{}/{service}", task.cluster.name),
        (None, TaskGroup::Family(_) | TaskGroup::Custom(_)) => {
            format!("{region}/family/{}", task.task_definition.family)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{container, definition, task};

    #[test]
    fn services_and_families_have_their_own() {
        let mut task = task(&definition(vec![container("web", "web")]), 1);
        assert_eq!(namespace(&task, None), "us-east-1/family/app");
        task.group = TaskGroup::Service("web".parse().unwrap());
        assert_eq!(namespace(&task, None), "us-east-1/service/default/web");
        assert_eq!(namespace(&task, Some("carts")), "us-east-1/shared/carts");
    }
}
