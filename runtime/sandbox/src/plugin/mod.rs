//! Plugins: calling any export of a component, typed or by name, in instances that are kept between calls.

mod error;
mod function;
mod pool;
mod value;

pub use error::CallError;

use crate::container::{Container, ContainerError, ContainerStats};
use crate::control::Control;
use crate::exit::Exit;
use crate::host::HostState;
use crate::instance::drive;
use crate::prepare::Prepared;
use crate::spec::ContainerSpec;
use function::Functions;
use parking_lot::RwLock;
use pool::{Bind, Pool, Warm};
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use wasmtime::Store;
use wasmtime::component::Instance;

/// A component whose exports are called, under limits. Clones share it, over any number of threads.
///
/// Calls run in instances of a pool. An instance that has served a call is kept for a later one, with all its state,
/// unless the call trapped, hit a limit or took too long; [`ContainerSpec::instance_reuse`] limits how many calls one
/// instance serves (`Some(1)`: each call meets a fresh one). [`ContainerSpec::max_concurrency`] bounds the pool,
/// [`ContainerSpec::max_queue`] and [`ContainerSpec::queue_timeout`] the calls that wait for it.
///
/// `B` is what exports are called through: by name ([`Dynamic`]), or what `bindgen!` generates for a world
/// ([`Plugin::typed`]).
///
/// A call runs in the task that awaits it and needs a tokio runtime with time. Dropping its future stops the guest.
pub struct Plugin<B: 'static = Dynamic>(Arc<Inner<B>>);

/// Exports are called by name, with JSON.
pub type Dynamic = Instance;

struct Inner<B: 'static> {
    spec: ContainerSpec,
    bind: Arc<Bind<B>>,
    current: RwLock<Arc<Version<B>>>,
}

/// One version of the component; [`Plugin::reload`] puts another in its place.
struct Version<B: 'static> {
    container: Container,
    pool: Pool<B>,
    functions: Functions,
}

/// Limits of one call. `None` is what the plugin's [`ContainerSpec`] says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// Fuel, in wasmtime's units (about one per instruction); else [`ContainerSpec::fuel_per_run`].
    pub fuel: Option<u64>,
    /// Wall-clock time, waiting for an instance included; else [`ContainerSpec::run_timeout`].
    pub timeout: Option<Duration>,
    /// Bytes of memory its instance may hold; else as much as [`ContainerSpec::memory`] has left.
    pub memory: Option<u64>,
}

impl<B: 'static> Clone for Plugin<B> {
    fn clone(&self) -> Self {
        Plugin(self.0.clone())
    }
}

impl Plugin {
    /// A plugin whose exports are called by name.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn new(prepared: &Prepared, spec: ContainerSpec) -> Result<Plugin, ContainerError> {
        Plugin::typed(prepared, spec, |_, instance| Ok(*instance))
    }

    /// Calls an export. `arguments` is an array, by position, or an object, by the parameters' names; the answer is
    /// the function's result, or `null` if it has none.
    ///
    /// A function of an interface is named `demo:text/shout@1.0.0#shout`; the version may be left out, and so may all
    /// before the `#` if no other function has that name. Values are converted by the component's own types:
    ///
    /// | WIT | JSON |
    /// |---|---|
    /// | `bool`, integers, floats | number, or `"NaN"`, `"Infinity"`, `"-Infinity"` |
    /// | `char`, `string` | string |
    /// | `list`, `tuple` | array |
    /// | `record` | object; fields of type `option` may be missing |
    /// | `variant` | `"case"`, or `{"case": payload}` |
    /// | `enum` | `"case"` |
    /// | `flags` | array of names |
    /// | `option` | `null`, or the value; `{"some": value}` where the value may itself be an `option` |
    /// | `result` | `{"ok": value}` or `{"err": value}`, with `null` for no value |
    ///
    /// Resources, streams and futures have no JSON form and are refused.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, function: &str, arguments: &Value) -> Result<Value, CallError> {
        self.call_with(CallLimits::default(), function, arguments).await
    }

    /// [`call`](Self::call), under limits of its own.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call_with(
        &self,
        limits: CallLimits,
        function: &str,
        arguments: &Value,
    ) -> Result<Value, CallError> {
        let version = self.0.current.read().clone();
        let function = version.functions.find(function)?;
        let arguments = function.arguments(arguments)?;
        let export = function.export;
        let results = version
            .enter(&self.0, limits, |instance, store| {
                Box::pin(async move {
                    let func = instance
                        .get_func(&mut *store, export)
                        .ok_or_else(|| wasmtime::Error::msg("the export is gone"))?;
                    let mut results =
                        vec![wasmtime::component::Val::Bool(false); func.ty(&*store).results().len()];
                    func.call_async(store, &arguments, &mut results).await?;
                    Ok(results)
                })
            })
            .await?;
        function.result(results)
    }

    /// The names of all functions that can be called.
    pub fn functions(&self) -> Vec<String> {
        self.0.current.read().functions.names()
    }
}

/// The future of a call that borrows its instance.
pub type CallFuture<'a, R> = Pin<Box<dyn Future<Output = wasmtime::Result<R>> + Send + 'a>>;

impl<B: Send + Sync + 'static> Plugin<B> {
    /// A plugin whose exports are called through the bindings that `bindgen!` generates for its world. `bind` makes
    /// them, once per instance: `|store, instance| World::new(store, instance)`.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn typed(
        prepared: &Prepared,
        spec: ContainerSpec,
        bind: impl Fn(&mut Store<HostState>, &Instance) -> wasmtime::Result<B> + Send + Sync + 'static,
    ) -> Result<Plugin<B>, ContainerError> {
        let bind: Arc<Bind<B>> = Arc::new(bind);
        let version = Version::new(prepared, spec.clone(), bind.clone())?;
        Ok(Plugin(Arc::new(Inner { spec, bind, current: RwLock::new(Arc::new(version)) })))
    }

    /// Gives `call` an instance: its bindings and its store.
    ///
    /// `|greeter, store| Box::pin(greeter.call_greet(store, "you"))`
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn with<R: Send>(
        &self,
        call: impl for<'a> FnOnce(&'a B, &'a mut Store<HostState>) -> CallFuture<'a, R> + Send,
    ) -> Result<R, CallError> {
        self.with_limits(CallLimits::default(), call).await
    }

    /// [`with`](Self::with), under limits of its own.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn with_limits<R: Send>(
        &self,
        limits: CallLimits,
        call: impl for<'a> FnOnce(&'a B, &'a mut Store<HostState>) -> CallFuture<'a, R> + Send,
    ) -> Result<R, CallError> {
        let version = self.0.current.read().clone();
        version.enter(&self.0, limits, call).await
    }

    /// Puts a new version of the component in the place of this one, with the same limits and budgets. Calls that have
    /// begun end in the version they began in; later ones meet the new. If this fails, the old one stays.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn reload(&self, prepared: &Prepared) -> Result<(), ContainerError> {
        let version = Arc::new(Version::new(prepared, self.0.spec.clone(), self.0.bind.clone())?);
        let old = std::mem::replace(&mut *self.0.current.write(), version);
        old.pool.close();
        Ok(())
    }

    /// Stops every call and refuses later ones.
    pub fn kill(&self) {
        let version = self.0.current.read().clone();
        version.container.kill();
        version.pool.close();
    }

    /// What the current version has used so far.
    pub fn stats(&self) -> ContainerStats {
        self.0.current.read().container.stats()
    }
}

/// How a call ended in the task that drove it.
enum Outcome<R> {
    Returned(R),
    Refused(CallError),
    Ended(Exit),
}

impl<R> From<Exit> for Outcome<R> {
    fn from(exit: Exit) -> Self {
        Outcome::Ended(exit)
    }
}

impl<B: Send + Sync + 'static> Version<B> {
    fn new(prepared: &Prepared, spec: ContainerSpec, bind: Arc<Bind<B>>) -> Result<Self, ContainerError> {
        let Some(pre) = prepared.instance_pre() else { return Err(ContainerError::NotAComponent) };
        Ok(Version {
            functions: Functions::of(pre.component()),
            pool: Pool::new(pre.clone(), bind, spec.instance_reuse),
            container: Container::new(prepared, spec)?,
        })
    }

    async fn enter<R: Send>(
        &self,
        plugin: &Inner<B>,
        limits: CallLimits,
        call: impl for<'a> FnOnce(&'a B, &'a mut Store<HostState>) -> CallFuture<'a, R> + Send,
    ) -> Result<R, CallError> {
        let shared = self.container.shared();
        let timeout = limits.timeout.or(plugin.spec.run_timeout);
        let fuel = limits.fuel.or(plugin.spec.fuel_per_run);
        let whole = async {
            let _running = shared.admission.admit_to_container().await?;
            let slot = self.pool.slot(shared).await?;
            let control = Control::new();
            let _registered = shared.registry.insert(control.clone());
            if shared.is_stopped() {
                return Err(CallError::Closed);
            }
            let guest = async {
                let mut warm = match self.pool.take(shared, slot, fuel).await {
                    Ok(warm) => warm,
                    Err(error) => return Outcome::Refused(error),
                };
                match warm.call(shared, fuel, limits.memory, call).await {
                    Ok(result) => {
                        self.pool.put_back(warm, shared);
                        Outcome::Returned(result)
                    }
                    Err(exit) => Outcome::Ended(exit),
                }
            };
            match drive(shared, &control, guest).await {
                Outcome::Returned(result) => Ok(result),
                Outcome::Refused(error) => Err(error),
                Outcome::Ended(exit) => {
                    shared.count(&exit);
                    Err(CallError::from(exit))
                }
            }
        };
        match timeout {
            None => whole.await,
            Some(after) => tokio::time::timeout(after, whole)
                .await
                .unwrap_or(Err(CallError::Limit(Exit::TimedOut { after }))),
        }
    }
}

impl<B: 'static> Warm<B> {
    async fn call<R>(
        &mut self,
        shared: &crate::container::Shared,
        fuel: Option<u64>,
        memory: Option<u64>,
        call: impl for<'a> FnOnce(&'a B, &'a mut Store<HostState>) -> CallFuture<'a, R> + Send,
    ) -> Result<R, Exit>
    where
        B: Send + Sync,
    {
        self.calls += 1;
        let instance = &mut self.instance;
        crate::instance::refuel(&mut instance.store, &mut instance.fuel, shared, fuel.unwrap_or(u64::MAX));
        instance.store.data_mut().limiter.set_cap(memory);
        let called = call(&instance.exports, &mut instance.store).await;
        called.map_err(|error| instance.exit_from(&error))
    }
}
