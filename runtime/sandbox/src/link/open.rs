//! What a component imports and nobody provides, and the functions that stand in for it.

use super::wit::{Impassable, impassable};
use super::{Linked, typed};
use crate::container::Shared;
use crate::host::HostState;
use crate::prepare::PrepareError;
use wasmtime::component::types::{Component, ComponentFunc, ComponentItem};
use wasmtime::component::{Linker, LinkerInstance, Val};
use wasmtime::{Engine, StoreContextMut};

/// A function that a component imports, to be linked to another container's.
#[derive(Clone, Debug)]
pub(crate) struct OpenFunction {
    /// The interface, with its version; `None` for a function of the world's root.
    pub(crate) interface: Option<String>,
    pub(crate) name: String,
    pub(crate) ty: ComponentFunc,
}

impl OpenFunction {
    /// `demo:auth/policy@1.0.0`, or the function's name where it has no interface.
    pub(crate) fn import(&self) -> &str {
        self.interface.as_deref().unwrap_or(&self.name)
    }

    /// What about it can't cross, if anything.
    fn impassable(&self) -> Option<Impassable> {
        if self.ty.async_() {
            return Some(Impassable::Asynchronous);
        }
        let mut types = self.ty.params().map(|(_, ty)| ty).chain(self.ty.results());
        types.find_map(|ty| impassable(&ty))
    }
}

/// Defines each import that is not WASI's as a call of whatever the container is linked to.
///
/// # Errors
/// When one of them can't be linked to anything.
pub(crate) fn leave_open(
    linker: &mut Linker<HostState>,
    engine: &Engine,
    component: &Component,
) -> Result<Vec<OpenFunction>, PrepareError> {
    let mut open = Vec::new();
    for (import, item) in component.imports(engine) {
        if import.starts_with("wasi:") {
            continue;
        }
        match item.ty {
            ComponentItem::ComponentFunc(ty) => {
                let function = OpenFunction { interface: None, name: import.to_owned(), ty };
                define(&mut linker.root(), function, &mut open)?;
            }
            ComponentItem::ComponentInstance(instance) => {
                let mut defined = linker.instance(import).map_err(|error| invalid(&error))?;
                for (name, item) in instance.exports(engine) {
                    match item.ty {
                        ComponentItem::ComponentFunc(ty) => {
                            let (interface, name) = (Some(import.to_owned()), name.to_owned());
                            define(&mut defined, OpenFunction { interface, name, ty }, &mut open)?;
                        }
                        ComponentItem::Resource(_) => {
                            return Err(unlinkable(
                                import,
                                format!("the resource {name}"),
                                Impassable::Resource,
                            ));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Ok(open)
}

fn define(
    linker: &mut LinkerInstance<'_, HostState>,
    function: OpenFunction,
    open: &mut Vec<OpenFunction>,
) -> Result<(), PrepareError> {
    if let Some(found) = function.impassable() {
        let what = format!("{} ({})", found.function(), function.name);
        return Err(unlinkable(function.import(), what, found));
    }
    let place = open.len();
    let defined = typed::define(linker, &function, place).unwrap_or_else(|| {
        linker.func_new_async(&function.name, move |store, _, params, results| {
            Box::new(call(store, place, params, results))
        })
    });
    defined.map_err(|error| invalid(&error))?;
    open.push(function);
    Ok(())
}

/// Runs on the importer's time: it waits for the answer.
async fn call(
    store: StoreContextMut<'_, HostState>,
    place: usize,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let (container, hops) = store.data().linking();
    linked_at(&container, place)?.call(hops, params, results).await.map_err(wasmtime::Error::new)
}

/// What answers an open function. A container is only made of a component whose open functions are all linked.
pub(super) fn linked_at(container: &Shared, place: usize) -> wasmtime::Result<&Linked> {
    let linked = container.links.get(place);
    linked.ok_or_else(|| wasmtime::Error::msg("this instance belongs to no container with links"))
}

fn unlinkable(import: &str, what: String, found: Impassable) -> PrepareError {
    PrepareError::Unlinkable { import: import.to_owned(), what, instead: found.instead() }
}

fn invalid(error: &wasmtime::Error) -> PrepareError {
    PrepareError::Invalid(format!("{error:#}"))
}
