//! The routing table: which service is answered by which containers of this node.
//!
//! It is computed whole, from the store's services and the agent's endpoints, each time one of them
//! changes. A container keeps its slot, and with it its count of requests in flight, for as long as
//! the agent lists it.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_agent::{
    CallError as AgentError, Endpoint, EndpointTarget, HttpHandle, SocketEntry, SocketHandle,
};
use coracle_router::{
    CallError, HttpTarget, HttpTargetConfig, RequestBody, ResponseBody, Router, RoutingTable, ServiceName,
    Slot, Target,
};
use coracle_sandbox::HandleError;
use coracle_store::Store;
use coracle_types::{
    ContainerName, LastStatus, Region, Service, ServiceId, ServiceStatus, State, TaskDefinition, TaskId,
};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::watch;

use crate::balancing;
use crate::balancing::activation::Activity;
use crate::balancing::model::Place;

/// When to come again to a service whose task was just stopping: another one is on its way.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A container of this node, as the router calls it: a function call, no socket.
struct ContainerTarget {
    handle: HttpHandle,
}

impl Target for ContainerTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        let handle = self.handle.clone();
        async move {
            match handle.call(request).await {
                Ok(response) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
                Err(AgentError::Draining(request)) => Err(CallError::NotStarted(request)),
                Err(AgentError::Handle(error)) => Err(explain(&error)),
            }
        }
        .boxed()
    }
}

/// A container that listens on a port of its task's own network.
struct SocketTarget {
    socket: SocketHandle,
    http: HttpTarget,
}

impl SocketTarget {
    fn new(socket: SocketHandle) -> Self {
        let http = HttpTarget::new(HttpTargetConfig::new(socket.address()));
        Self { socket, http }
    }
}

impl Target for SocketTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        let Some(entry) = self.socket.enter() else {
            return std::future::ready(Err(CallError::NotStarted(request))).boxed();
        };
        let response = self.http.call(request);
        async move { Ok(response.await?.map(|body| Counted { body, _entry: entry }.boxed_unsync())) }.boxed()
    }
}

/// A response's body whose request is in flight for as long as it exists.
struct Counted {
    body: ResponseBody,
    _entry: SocketEntry,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = coracle_router::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A container of a service, whose requests are counted.
struct ServiceTarget {
    target: Arc<dyn Target>,
    calls: Arc<AtomicU64>,
}

impl Target for ServiceTarget {
    fn call(
        &self,
        request: http::Request<RequestBody>,
    ) -> BoxFuture<'static, Result<http::Response<ResponseBody>, CallError>> {
        if !is_health_check(request.headers()) {
            self.calls.fetch_add(1, Ordering::Relaxed);
        }
        self.target.call(request)
    }

    fn accepts_upgrades(&self) -> bool {
        self.target.accepts_upgrades()
    }
}

/// Whether the router itself asks.
fn is_health_check(headers: &http::HeaderMap) -> bool {
    let agent = headers.get(http::header::USER_AGENT);
    agent.is_some_and(|agent| agent.as_bytes().starts_with(b"ELB-HealthChecker/"))
}

/// How the router reaches a container.
fn target(endpoint: &Endpoint) -> Arc<dyn Target> {
    match &endpoint.target {
        EndpointTarget::Http(handle) => Arc::new(ContainerTarget { handle: handle.clone() }),
        EndpointTarget::Socket(socket) => Arc::new(SocketTarget::new(socket.clone())),
    }
}

/// A guest's fault in the router's words: whose fault, and whether it may pass.
fn explain(error: &HandleError) -> CallError {
    let reason = error.to_string();
    match error {
        HandleError::Overloaded { retry_after } => {
            CallError::Unavailable { reason, retry_after: *retry_after }
        }
        HandleError::Stopping => CallError::Unavailable { reason, retry_after: RETRY_AFTER },
        HandleError::TimedOut { .. } => CallError::TimedOut { reason },
        HandleError::RequestBody(_) => CallError::BadRequest { reason },
        _ => CallError::Failed { reason },
    }
}

/// Publishes a routing table each time the state or the endpoints change, until the store or the agent goes
/// away; `published` is then the revision of the state it is of.
pub(crate) async fn run(
    router: Router,
    store: Arc<dyn Store>,
    mut endpoints: watch::Receiver<Arc<Vec<Endpoint>>>,
    default_region: Region,
    place: Place,
    published: watch::Sender<u64>,
    activity: Arc<Activity>,
) {
    let mut revisions = store.watch();
    let mut slots = Slots { by_container: HashMap::new(), activity };
    loop {
        let state = store.snapshot();
        let current = Arc::clone(&endpoints.borrow_and_update());
        revisions.mark_unchanged();
        let listed: HashMap<(TaskId, &ContainerName), &Endpoint> =
            current.iter().map(|endpoint| ((endpoint.task.id, &endpoint.container), endpoint)).collect();
        slots.by_container.retain(|(task, container), _| listed.contains_key(&(*task, container)));
        let mut table = table(&state, &current, &mut slots, &default_region);
        balancing::model::fill(&mut table, &state, &place, |task, container| {
            listed.get(&(task, container)).map(|endpoint| slots.of(endpoint))
        });
        router.publish(table);
        published.send_replace(state.revision);
        tokio::select! {
            changed = revisions.changed() => if changed.is_err() { return },
            changed = endpoints.changed() => if changed.is_err() { return },
        }
    }
}

fn table(state: &State, endpoints: &[Endpoint], slots: &mut Slots, default_region: &Region) -> RoutingTable {
    let mut by_service: HashMap<ServiceId, Vec<&Endpoint>> = HashMap::new();
    for endpoint in endpoints {
        if let Some(id) = service_of(endpoint) {
            by_service.entry(id).or_default().push(endpoint);
        }
    }
    let mut table = RoutingTable::new(default_region.as_str());
    for (id, service) in state.services.iter().map(|(id, found)| (id, &found.value)) {
        if service.status == ServiceStatus::Inactive {
            continue;
        }
        let endpoints = by_service.remove(id).unwrap_or_default();
        let targets: Vec<Arc<Slot>> = endpoints
            .into_iter()
            .filter(|endpoint| serves(state, service, endpoint))
            .map(|endpoint| slots.of(endpoint))
            .collect();
        let name = ServiceName {
            region: id.cluster.region.to_string(),
            cluster: id.cluster.name.to_string(),
            service: id.name.to_string(),
        };
        let reason = if targets.is_empty() { empty_reason(state, service) } else { String::new() };
        let activates = service.activation().is_some();
        table.insert(name.clone(), targets, reason);
        if activates {
            table.activate(&name);
        }
    }
    table
}

/// The slots of containers, each the same for as long as the agent lists its container.
struct Slots {
    by_container: HashMap<(TaskId, ContainerName), Arc<Slot>>,
    activity: Arc<Activity>,
}

impl Slots {
    fn of(&mut self, endpoint: &Endpoint) -> Arc<Slot> {
        let key = (endpoint.task.id, endpoint.container.clone());
        let activity = &self.activity;
        let slot = self.by_container.entry(key).or_insert_with(|| {
            let id = endpoint.task.id.to_string();
            let Some(service) = service_of(endpoint) else { return Slot::new(id, target(endpoint)) };
            let calls = activity.calls(&service);
            let slot = Slot::new(id, Arc::new(ServiceTarget { target: target(endpoint), calls }));
            activity.add(&service, &slot);
            slot
        });
        Arc::clone(slot)
    }
}

/// The service a container answers for.
fn service_of(endpoint: &Endpoint) -> Option<ServiceId> {
    let name = endpoint.task.service()?;
    Some(ServiceId { cluster: endpoint.task.cluster.clone(), name: name.clone() })
}

/// Whether this container is the one that answers for the service: the one its load balancer names,
/// else the first that maps a port, else the first there is that serves HTTP.
fn serves(state: &State, service: &Service, endpoint: &Endpoint) -> bool {
    let named =
        service.rest.get("loadBalancers").and_then(|list| list.get(0)?.get("containerName")?.as_str());
    if let Some(name) = named {
        return endpoint.container.as_str() == name;
    }
    let Some(definition) = state.task_definitions.get(&endpoint.task.task_definition) else {
        return true;
    };
    first_port(&definition.value).is_none_or(|name| *name == endpoint.container)
}

fn first_port(definition: &TaskDefinition) -> Option<&ContainerName> {
    definition
        .containers
        .iter()
        .find(|container| !container.port_mappings.is_empty())
        .map(|container| &container.name)
}

/// Why a service has no task that could answer, in words for whoever called.
fn empty_reason(state: &State, service: &Service) -> String {
    if service.status == ServiceStatus::Draining {
        return format!("service {} is being deleted", service.id.name);
    }
    if service.desired_count == 0 {
        return format!("service {} has a desired count of 0", service.id.name);
    }
    let tasks = state.tasks_in(&service.id.cluster).filter(|task| task.service() == Some(&service.id.name));
    let (mut starting, mut running, mut newest_stop) = (0, 0, None);
    for task in tasks {
        match task.last_status {
            LastStatus::Running => running += 1,
            LastStatus::Stopped => newest_stop = newest_stop.max(task.stopped_at.map(|at| (at, task.id))),
            status if status < LastStatus::Running => starting += 1,
            _ => {}
        }
    }
    let mut reason = format!(
        "service {} wants {} tasks: {starting} starting, {running} running",
        service.id.name, service.desired_count
    );
    if running > 0 {
        reason.push_str(", none of which serves HTTP (the component must export wasi:http, or listen with wasi:sockets on the first port of its portMappings)");
    }
    let stopped = newest_stop.and_then(|(_, id)| {
        state.tasks.get(&coracle_types::TaskKey { cluster: service.id.cluster.clone(), id })
    });
    if let Some(stop) = stopped.and_then(|task| task.value.stop.as_ref()) {
        reason.push_str("; the last one stopped: ");
        reason.push_str(&stop.reason);
    }
    reason
}
