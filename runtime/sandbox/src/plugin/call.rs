//! What is done with an instance.

use super::CallFuture;
use crate::host::HostState;
use crate::net::Hops;
use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, Instance, Val};

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
        let func = instance
            .get_func(&mut *store, self.export)
            .ok_or_else(|| wasmtime::Error::msg("the export is gone"))?;
        if let Some(hops) = self.hops {
            store.data_mut().answering().begin(hops);
        }
        func.call_async(&mut *store, self.arguments, self.results).await?;
        if let Some(hops) = self.hops {
            store.data_mut().answering().end(hops);
        }
        Ok(())
    }
}

/// The same, with results of its own.
pub(super) struct Owned<'a> {
    pub(super) export: ComponentExportIndex,
    pub(super) arguments: &'a [Val],
    /// How many there will be.
    pub(super) results: usize,
}

impl Call<Instance> for Owned<'_> {
    type Output = Vec<Val>;

    async fn run(self, instance: &Instance, store: &mut Store<HostState>) -> wasmtime::Result<Vec<Val>> {
        let mut results = vec![Val::Bool(false); self.results];
        let call =
            ByName { export: self.export, arguments: self.arguments, results: &mut results, hops: None };
        call.run(instance, store).await?;
        Ok(results)
    }
}
