//! The list of containers that take requests now.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_types::{ContainerName, Task, TaskId};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::handle::{HttpHandle, SocketHandle};

/// A container of a running task that answers requests.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// The task, as it was when it was assigned.
    pub task: Arc<Task>,
    /// The container's name in its task definition.
    pub container: ContainerName,
    /// Its `containerPort`s: names that targets are registered by. Nothing listens on those of an HTTP container.
    pub ports: Vec<u16>,
    /// How it is reached.
    pub target: EndpointTarget,
}

/// How a container is reached. Cheap to clone.
#[derive(Clone, Debug)]
pub enum EndpointTarget {
    /// It exports `wasi:http`: by a call.
    Http(HttpHandle),
    /// It listens with `wasi:sockets`: over a connection.
    Socket(SocketHandle),
}

impl EndpointTarget {
    /// Whether this is the same container, and not another one started in its place.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Http(this), Self::Http(other)) => this.is(other),
            (Self::Socket(this), Self::Socket(other)) => this.is(other),
            _ => false,
        }
    }

    /// Refuses new requests from now on.
    pub(crate) fn close(&self) {
        match self {
            Self::Http(handle) => handle.close(),
            Self::Socket(handle) => handle.close(),
        }
    }

    /// Refuses new requests from now on; resolves when the last one has ended.
    pub(crate) async fn drain(&self) {
        match self {
            Self::Http(handle) => handle.drain().await,
            Self::Socket(handle) => handle.drain().await,
        }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        match self {
            Self::Http(handle) => handle.in_flight(),
            Self::Socket(handle) => handle.in_flight(),
        }
    }
}

/// Task and position of the container in its definition.
type Key = (TaskId, usize);

/// Collects changes and publishes the list. Many changes at once, as when a service starts, become few lists.
pub(crate) struct EndpointRegistry {
    changes: Mutex<Changes>,
    changed: Notify,
    published: watch::Sender<u64>,
    list: watch::Sender<Arc<Vec<Endpoint>>>,
}

#[derive(Default)]
struct Changes {
    endpoints: BTreeMap<Key, Endpoint>,
    count: u64,
}

impl EndpointRegistry {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            changes: Mutex::default(),
            changed: Notify::new(),
            published: watch::Sender::new(0),
            list: watch::Sender::default(),
        })
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Vec<Endpoint>>> {
        self.list.subscribe()
    }

    /// Publishes what changes, for ever.
    pub(crate) async fn publish(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            let (list, count) = {
                let changes = self.changes.lock();
                (changes.endpoints.values().cloned().collect(), changes.count)
            };
            self.list.send_replace(Arc::new(list));
            self.published.send_replace(count);
        }
    }

    /// Adds an endpoint; it is taken away again when the answer is dropped.
    pub(crate) fn insert(self: &Arc<Self>, position: usize, endpoint: Endpoint) -> Published {
        let key = (endpoint.task.id, position);
        let count = self.change(|endpoints| {
            endpoints.insert(key, endpoint);
        });
        Published { registry: Arc::clone(self), key, count, withdrawn: false }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<Key, Endpoint>)) -> u64 {
        let count = {
            let mut changes = self.changes.lock();
            change(&mut changes.endpoints);
            changes.count += 1;
            changes.count
        };
        self.changed.notify_one();
        count
    }

    async fn published(&self, count: u64) {
        // The sender is `self`, so waiting can't fail.
        let _ = self.published.subscribe().wait_for(|&published| published >= count).await;
    }
}

/// An endpoint's place in the list.
pub(crate) struct Published {
    registry: Arc<EndpointRegistry>,
    key: Key,
    count: u64,
    withdrawn: bool,
}

impl Published {
    /// Resolves when a list with the endpoint has been published.
    pub(crate) fn visible(&self) -> impl Future<Output = ()> + Send + use<> {
        let (registry, count) = (Arc::clone(&self.registry), self.count);
        async move { registry.published(count).await }
    }

    /// Takes the endpoint away; resolves when a list without it has been published.
    pub(crate) async fn withdraw(mut self) {
        let count = self.remove();
        self.registry.published(count).await;
    }

    fn remove(&mut self) -> u64 {
        self.withdrawn = true;
        self.registry.change(|endpoints| {
            endpoints.remove(&self.key);
        })
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if !self.withdrawn {
            self.remove();
        }
    }
}
