//! Plugins: calling any export of a component, typed or by name, in instances that are kept between calls.

mod call;
mod error;
mod function;
mod pool;
mod run;
mod value;

pub use error::CallError;
pub use run::Invocation;

use crate::container::{Container, ContainerError, ContainerStats};
use crate::control::Control;
use crate::engine::Flavour;
use crate::exit::Exit;
use crate::host::HostState;
use crate::instance::drive;
use crate::net::Hops;
use crate::prepare::Prepared;
use crate::spec::ContainerSpec;
use call::{ByClosure, ByName, Call, Owned, Typed};
use error::Unfinished;
use function::Functions;
use parking_lot::RwLock;
use pool::{Bind, Pool, Warm};
use serde_json::Value;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use wasmtime::Store;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentNamedList, Instance, Lift, Lower, Val};

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
        let results = version.enter(version.limits(limits), function.called_with(&arguments)).await?;
        function.result(results)
    }

    /// A plugin of what a container exports: its instances are that container's, beside those of its requests and
    /// runs, under the same limits and budgets.
    ///
    /// # Errors
    /// [`ContainerError::NotAComponent`].
    pub fn of(container: &Container) -> Result<Plugin, ContainerError> {
        let bind: Arc<Bind<Instance>> = Arc::new(|_, instance| Ok(*instance));
        let version = Version::of(container.clone(), bind.clone())?;
        Ok(Plugin(Arc::new(Inner { bind, current: RwLock::new(Arc::new(version)) })))
    }

    /// Puts another container in the place of the one it was made of, such as one that was started again. Calls that
    /// have begun end where they began.
    ///
    /// # Errors
    /// [`ContainerError::NotAComponent`].
    pub fn attach(&self, container: &Container) -> Result<(), ContainerError> {
        self.0.replace(Version::of(container.clone(), self.0.bind.clone())?);
        Ok(())
    }

    /// The names of the interfaces with functions that are exported.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        self.0.current.read().functions.interfaces()
    }

    /// Finds an exported function: its place among all, its whole name, and its type.
    pub(crate) fn function_of(
        &self,
        interface: Option<&str>,
        function: &str,
    ) -> Option<(usize, String, ComponentFunc)> {
        self.0.current.read().functions.of_interface(interface, function)
    }

    /// A call by a link, on behalf of a request with those hops behind it. Its limits are those of a request.
    pub(crate) async fn call_linked(
        &self,
        place: usize,
        name: &str,
        hops: Hops,
        params: &[Val],
        results: &mut [Val],
    ) -> Result<(), CallError> {
        let version = self.0.current.read().clone();
        let export = version.functions.at(place, name)?.export;
        if version.needs_a_task_of_its_own() {
            let (arguments, hops) = (Cow::Owned(params.to_vec()), Some(hops));
            let call = Owned { export, arguments, results: results.len(), hops };
            results.clone_from_slice(&version.enter_linked(call).await?);
            return Ok(());
        }
        let call = ByName { export, arguments: params, results, hops: Some(hops) };
        version.linked(version.enter(version.limits_of_a_request(), call).await)
    }

    /// The same, of a function whose types are `P` and `R`.
    pub(crate) async fn call_linked_typed<P, R>(
        &self,
        place: usize,
        name: &str,
        hops: Hops,
        params: P,
    ) -> Result<R, CallError>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let version = self.0.current.read().clone();
        let export = version.functions.at(place, name)?.export;
        version.enter_linked(Typed { export, params, hops, result: PhantomData }).await
    }

    /// The whole name of the function that [`call`](Self::call) calls for `name`.
    ///
    /// # Errors
    /// [`CallError::Call`]: there is none of that name, or there are several.
    pub fn function(&self, name: &str) -> Result<String, CallError> {
        self.0.current.read().functions.find(name).map(|function| function.name().to_owned())
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
        let version = Version::of(Container::new(prepared, spec)?, bind.clone())?;
        Ok(Plugin(Arc::new(Inner { bind, current: RwLock::new(Arc::new(version)) })))
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
        Ok(version.enter(version.limits(limits), ByClosure(call)).await?)
    }

    /// Puts a new version of the component in the place of this one, with the same limits and budgets. Calls that have
    /// begun end in the version they began in; later ones meet the new. If this fails, the old one stays.
    ///
    /// # Errors
    /// As [`Container::new`].
    pub fn reload(&self, prepared: &Prepared) -> Result<(), ContainerError> {
        let spec = self.0.current.read().container.shared().spec.clone();
        self.0.replace(Version::of(Container::new(prepared, spec)?, self.0.bind.clone())?);
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

impl<B: Send + Sync + 'static> Inner<B> {
    fn replace(&self, version: Version<B>) {
        let old = std::mem::replace(&mut *self.current.write(), Arc::new(version));
        old.pool.close();
    }
}

/// How a call ended in the task that drove it.
enum Outcome<R> {
    Returned(R),
    Unfinished(Unfinished),
}

impl<R> From<Exit> for Outcome<R> {
    fn from(exit: Exit) -> Self {
        Outcome::Unfinished(Unfinished::Ended(exit))
    }
}

/// [`CallLimits`], with what the plugin's [`ContainerSpec`] says filled in.
struct Limits {
    fuel: Option<u64>,
    timeout: Option<Duration>,
    memory: Option<u64>,
}

impl<B: 'static> Version<B> {
    fn limits(&self, call: CallLimits) -> Limits {
        let spec = &self.container.shared().spec;
        Limits {
            fuel: call.fuel.or(spec.fuel_per_run),
            timeout: call.timeout.or(spec.run_timeout),
            memory: call.memory,
        }
    }
}

impl Version<Instance> {
    /// Whether its instances can't be entered from within another's. The event loop of a store with the component
    /// model's async features can't be run from within another such loop.
    fn needs_a_task_of_its_own(&self) -> bool {
        self.container.shared().prepared.0.flavour == Flavour::Concurrent
    }

    /// What holds for a call by a link.
    fn limits_of_a_request(&self) -> Limits {
        let spec = &self.container.shared().spec;
        Limits { fuel: spec.fuel_per_request, timeout: Some(spec.request_timeout), memory: None }
    }

    /// A call by a link, wherever it has to run.
    async fn enter_linked<C>(self: &Arc<Self>, call: C) -> Result<C::Output, CallError>
    where
        C: Call<Instance> + 'static,
        C::Output: 'static,
    {
        let limits = self.limits_of_a_request();
        if !self.needs_a_task_of_its_own() {
            return self.linked(self.enter(limits, call).await);
        }
        let version = self.clone();
        // It ends with this future.
        let mut task = JoinSet::new();
        task.spawn(async move { version.enter(limits, call).await });
        match task.join_next().await {
            Some(Ok(called)) => self.linked(called),
            Some(Err(error)) => Err(CallError::Host(error.to_string())),
            None => Err(CallError::Closed),
        }
    }

    /// Draws the consequences of how a call by a link ended.
    fn linked<R>(&self, called: Result<R, Unfinished>) -> Result<R, CallError> {
        called.map_err(|unfinished| {
            if let Unfinished::Ended(exit) = &unfinished {
                self.container.shared().note_out_of_memory(exit);
            }
            unfinished.into()
        })
    }
}

impl<B: Send + Sync + 'static> Version<B> {
    fn of(container: Container, bind: Arc<Bind<B>>) -> Result<Self, ContainerError> {
        let shared = container.shared();
        let Some(pre) = shared.prepared.instance_pre() else { return Err(ContainerError::NotAComponent) };
        Ok(Version {
            functions: Functions::of(pre.component()),
            pool: Pool::new(pre.clone(), bind, shared.spec.instance_reuse),
            container,
        })
    }

    async fn enter<C: Call<B>>(&self, limits: Limits, call: C) -> Result<C::Output, Unfinished> {
        let shared = self.container.shared();
        let Limits { fuel, timeout, memory } = limits;
        let whole = async {
            let _running = shared.admission.admit_to_container().await.map_err(CallError::from)?;
            let slot = self.pool.slot(shared).await?;
            let control = Control::new();
            let _registered = shared.registry.insert(control.clone());
            if shared.is_stopped() {
                return Err(CallError::Closed.into());
            }
            let guest = async {
                let mut warm = match self.pool.take(shared, slot, fuel).await {
                    Ok(warm) => warm,
                    Err(unfinished) => return Outcome::Unfinished(unfinished),
                };
                match warm.call(shared, fuel, memory, call).await {
                    Ok(result) => {
                        self.pool.put_back(warm, shared);
                        Outcome::Returned(result)
                    }
                    Err(exit) => Outcome::from(exit),
                }
            };
            let outcome = {
                let guest = pin!(guest);
                drive(shared, &control, guest).await
            };
            match outcome {
                Outcome::Returned(result) => Ok(result),
                Outcome::Unfinished(unfinished) => {
                    if let Unfinished::Ended(exit) = &unfinished {
                        shared.count(exit);
                    }
                    Err(unfinished)
                }
            }
        };
        match timeout {
            None => whole.await,
            Some(after) => tokio::time::timeout(after, whole)
                .await
                .unwrap_or(Err(Unfinished::Ended(Exit::TimedOut { after }))),
        }
    }
}

impl<B: Send + Sync + 'static> Warm<B> {
    async fn call<C: Call<B>>(
        &mut self,
        shared: &crate::container::Shared,
        fuel: Option<u64>,
        memory: Option<u64>,
        call: C,
    ) -> Result<C::Output, Exit> {
        self.calls += 1;
        let instance = &mut self.instance;
        crate::instance::refuel(&mut instance.store, &mut instance.fuel, shared, fuel.unwrap_or(u64::MAX));
        instance.store.data_mut().limiter.set_cap(memory);
        let called = call.run(&instance.exports, &mut instance.store).await;
        called.map_err(|error| instance.exit_from(&error))
    }
}
