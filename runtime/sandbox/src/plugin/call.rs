//! What is done with an instance.

use super::CallFuture;
use crate::host::HostState;
use crate::net::Hops;
use std::borrow::Cow;
use std::marker::PhantomData;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Func, Instance, Lift, Lower, Val};

/// One call, of exports that are reached through `B`.
pub(super) trait Call<B>: Send {
    type Output: Send;

    fn run(
        self,
        exports: &B,
        store: &mut Store<HostState>,
    ) -> impl Future<Output = wasmtime::Result<Self::Output>> + Send;
}

/// Whatever the embedder does.
pub(super) struct ByClosure<F>(pub(super) F);

impl<B, R, F> Call<B> for ByClosure<F>
where
    B: Sync,
    R: Send,
    F: for<'a> FnOnce(&'a B, &'a mut Store<HostState>) -> CallFuture<'a, R> + Send,
{
    type Output = R;

    async fn run(self, exports: &B, store: &mut Store<HostState>) -> wasmtime::Result<R> {
        (self.0)(exports, store).await
    }
}

/// A function that was found by its name, with values by its types.
pub(super) struct ByName<'a> {
    pub(super) export: ComponentExportIndex,
    pub(super) arguments: &'a [Val],
    pub(super) results: &'a mut [Val],
    /// What the request behind the call has behind it; `None` if there is none.
    pub(super) hops: Option<Hops>,
}

impl Call<Instance> for ByName<'_> {
    type Output = ();

    async fn run(self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<()> {
        let func = exported(instance, store, self.export)?;
        answering(store, self.hops, async |store| func.call_async(store, self.arguments, self.results).await)
            .await
    }
}

/// The same, with results of its own.
pub(super) struct Owned<'a> {
    pub(super) export: ComponentExportIndex,
    pub(super) arguments: Cow<'a, [Val]>,
    /// How many there will be.
    pub(super) results: usize,
    pub(super) hops: Option<Hops>,
}

impl Call<Instance> for Owned<'_> {
    type Output = Vec<Val>;

    async fn run(self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Vec<Val>> {
        let mut results = vec![Val::Bool(false); self.results];
        let Owned { export, arguments, hops, .. } = self;
        ByName { export, arguments: &arguments, results: &mut results, hops }.run(instance, store).await?;
        Ok(results)
    }
}

/// A function whose types are known here, so that no value is taken apart.
pub(super) struct Typed<P, R> {
    pub(super) export: ComponentExportIndex,
    pub(super) params: P,
    pub(super) hops: Hops,
    pub(super) result: PhantomData<fn() -> R>,
}

impl<P, R> Call<Instance> for Typed<P, R>
where
    P: ComponentNamedList + Lower + Send + Sync + 'static,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    type Output = R;

    async fn run(self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<R> {
        let func = exported(instance, store, self.export)?.typed::<P, R>(&*store)?;
        answering(store, Some(self.hops), async |store| func.call_async(store, self.params).await).await
    }
}

fn exported(
    instance: &Instance,
    store: &mut Store<HostState>,
    export: ComponentExportIndex,
) -> wasmtime::Result<Func> {
    instance.get_func(store, export).ok_or_else(|| wasmtime::Error::msg("the export is gone"))
}

/// Calls on behalf of a request, if there is one: what the guest asks of others meanwhile is for that request's sake.
async fn answering<R>(
    store: &mut Store<HostState>,
    hops: Option<Hops>,
    call: impl AsyncFnOnce(&mut Store<HostState>) -> wasmtime::Result<R>,
) -> wasmtime::Result<R> {
    if let Some(hops) = hops {
        store.data_mut().answering().begin(hops);
    }
    let returned = call(store).await?;
    if let Some(hops) = hops {
        store.data_mut().answering().end(hops);
    }
    Ok(returned)
}
