//! What a worker does: the loop inside its store, and the supervision around it.

use super::{Job, Rest, Worker};
use crate::entry::HttpEntry;
use crate::exit::Exit;
use crate::host::{HostState, charged};
use crate::instance::{End, Instance, NoInstance, refuel};
use crate::net::Hops;
use crate::usage::Metered;
use futures_util::stream::{FuturesUnordered, StreamExt};
use http::header::HOST;
use http::uri::{Authority, Scheme};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime::AsContextMut;
use wasmtime::component::Accessor;
use wasmtime_wasi_http::p3;
use wasmtime_wasi_http::p3::bindings::Service;
use wasmtime_wasi_http::{WasiHttpView, p3::Request};

type Jobs = mpsc::UnboundedReceiver<Job>;

/// Runs in the worker's own task: instantiates, serves, and says how it ended.
pub(super) async fn run(worker: &Arc<Worker>, jobs: Jobs) -> End {
    let shared = &worker.shared;
    let Some(HttpEntry::P3(entry)) = &shared.prepared.0.http else { return End(Ok(Exit::Killed)) };
    let deadline = shared.admission.deadline();
    let mut instance = match Instance::create(shared, entry, shared.spec.fuel_per_request, deadline).await {
        Ok(instance) => instance,
        Err(NoInstance::Died(exit)) => return End(Ok(exit)),
        Err(NoInstance::NoRoom { .. } | NoInstance::PoolFull) => {
            return End(Err(shared.admission.overloaded()));
        }
    };
    let exit = match supervise(worker, serve(worker, &mut instance, jobs)).await {
        Ok(()) => Exit::Code(0),
        Err(error) => instance.exit_from(&error),
    };
    // Before the store is dropped, and bodies end with it.
    let end = Ok(exit);
    worker.close(&end);
    End(end)
}

/// Polls the loop, and from outside of it enforces what a guest could keep the loop from noticing.
async fn supervise(
    worker: &Worker,
    requests: impl Future<Output = wasmtime::Result<()>>,
) -> wasmtime::Result<()> {
    let mut requests = pin!(requests);
    let mut timer: Option<(Instant, Pin<Box<Sleep>>)> = None;
    poll_fn(|cx| {
        worker.changed.register(cx.waker());
        // First, so that what it does is seen below.
        if let Poll::Ready(end) = requests.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        loop {
            // A timer that is set stays, for the next time that it rests.
            let Some(deadline) = worker.next_deadline() else { return Poll::Pending };
            let (_, sleep) = match &mut timer {
                // One that ends too early costs a look; one that ends too late would break a promise.
                Some(set) if set.0 <= deadline => set,
                other => other.insert((deadline, Box::pin(sleep_until(deadline)))),
            };
            ready!(sleep.as_mut().poll(cx));
            timer = None;
            if worker.expire(Instant::now()) {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await
}

impl Worker {
    /// When something will have taken too long.
    fn next_deadline(&self) -> Option<Instant> {
        let load = self.load.lock();
        let (since, rest) = load.resting?;
        Some(
            since
                + match rest {
                    Rest::Idle => super::IDLE,
                    Rest::PostReturn => self.shared.spec.request_timeout,
                },
        )
    }

    /// Draws the consequences of what has taken too long. Answers whether the worker is to end at once.
    fn expire(&self, now: Instant) -> bool {
        let mut load = self.load.lock();
        let expired = match load.resting {
            Some((since, Rest::Idle)) => since + super::IDLE <= now,
            Some((since, Rest::PostReturn)) => since + self.shared.spec.request_timeout <= now,
            None => false,
        };
        load.retired |= expired;
        expired && load.is_for_nobody()
    }

    /// No request is being served. Answers whether that is the end.
    fn rest(&self, rest: Rest) -> bool {
        let mut load = self.load.lock();
        if !load.live.is_empty() {
            return false;
        }
        if load.resting.is_none_or(|(_, before)| before != rest) {
            load.resting = Some((Instant::now(), rest));
        }
        if rest == Rest::Idle && (load.accepted >= self.most.total || self.shared.admission.is_crowded()) {
            load.retired = true;
        }
        load.retired && rest == Rest::Idle
    }
}

/// Several requests at once.
async fn serve(worker: &Worker, instance: &mut Instance<Service>, mut jobs: Jobs) -> wasmtime::Result<()> {
    // The request whose usage is told, for as long as it is alone. With the instance, which tells it after a trap.
    let Instance { store, exports: service, fuel, metered, .. } = &mut *instance;
    let fuel_per_request = worker.shared.spec.fuel_per_request.unwrap_or(u64::MAX);
    let handler = *service.wasi_http_handler().func_handle().func();
    store
        .run_concurrent(async |accessor| {
            let mut calls = FuturesUnordered::new();
            poll_fn(|cx: &mut Context<'_>| {
                loop {
                    match calls.poll_next_unpin(cx) {
                        Poll::Ready(Some(Ok(()))) => continue,
                        Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                        Poll::Ready(None) | Poll::Pending => {}
                    }
                    if accessor.poll_ready_for_concurrent_call(handler, cx).is_ready()
                        && let Poll::Ready(Some(job)) = jobs.poll_recv(cx)
                    {
                        accessor.with(|mut access| {
                            refuel(access.as_context_mut(), fuel, &worker.shared, fuel_per_request);
                        });
                        let alone = calls.is_empty() && metered.is_none();
                        *metered = Metered::begin(job.request.extensions(), *fuel).filter(|_| alone);
                        calls.push(call(accessor, service, job));
                        continue;
                    }
                    if !calls.is_empty() {
                        return Poll::Pending;
                    }
                    let rest = match accessor.poll_no_interesting_tasks(cx) {
                        Poll::Ready(()) => Rest::Idle,
                        Poll::Pending => Rest::PostReturn,
                    };
                    if rest == Rest::Idle
                        && let Some(metered) = metered.take()
                    {
                        accessor.with(|mut access| {
                            let left = access.as_context_mut().get_fuel().ok();
                            metered.end(left, access.data_mut().limiter.held());
                        });
                    }
                    return if worker.rest(rest) { Poll::Ready(Ok(())) } else { Poll::Pending };
                }
            })
            .await
        })
        .await
        .flatten()
}

/// One request, until its response's head; the body is the concern of who reads it.
async fn call(accessor: &Accessor<HostState>, service: &Service, job: Job) -> wasmtime::Result<()> {
    let Job { request, head, ticket } = job;
    let host = request.headers().get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let hops = Hops::of(&request);
    let (mut request, sent) = accessor.with(|mut access| {
        access.data_mut().answering().begin(hops);
        let (request, sent) = Request::from_http(access.data_mut().http().hooks, request);
        let sent: Pin<Box<dyn Future<Output = _> + Send>> = Box::pin(sent);
        (request, sent)
    });
    request.scheme.get_or_insert(Scheme::HTTP);
    request.authority = request.authority.or(host);
    let answer = service.handle(accessor, request).await?;
    accessor.with(|mut access| access.data_mut().answering().end(hops));
    let answer = match answer {
        Ok(response) => {
            let response = accessor.with(|access| p3::Response::into_http(response, access, sent))?;
            let memory = accessor.with(|mut access| access.data_mut().memory());
            Ok(response.map(|body| charged(body, &memory)))
        }
        Err(code) => Err(format!("{code:?}")),
    };
    let is_error = answer.is_err();
    if head.send(answer).is_err() || is_error {
        ticket.finish();
    }
    Ok(())
}
