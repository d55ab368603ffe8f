//! Functions of bytes and text: for these the types are known here, and a list of bytes is copied as a whole. As a list
//! of values it would be dozens of times its size, and be made and taken apart twice on each side.
//!
//! The table is of what interfaces that carry bytes look like: codecs, stores, checks of signatures. Any other function
//! is called the slower way, with the same result.

use super::OpenFunction;
use super::open::linked_at;
use crate::host::HostState;
use wasmtime::StoreContextMut;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentNamedList, Lift, LinkerInstance, Lower, Type};

/// A list of bytes.
type Bytes = Vec<u8>;

macro_rules! table {
    ($($params:ty => $($results:ty),+;)+) => {
        /// Defines a function that is in the table.
        pub(super) fn define(
            linker: &mut LinkerInstance<'_, HostState>,
            function: &OpenFunction,
            place: usize,
        ) -> Option<wasmtime::Result<()>> {
            $($(
                if stands_for::<$params, $results>(&function.ty) {
                    return Some(wrap::<$params, $results>(linker, &function.name, place));
                }
            )+)+
            None
        }
    };
}

table! {
    () => (Bytes,);
    (String,) => (Bytes,), (Option<Bytes>,), (Result<Bytes, String>,);
    (Bytes,) => (), (Bytes,), (String,), (bool,), (Option<Bytes>,), (Result<Bytes, String>,), (Result<(), String>,);
    (String, Bytes) => (), (Bytes,), (bool,), (Result<Bytes, String>,), (Result<(), String>,);
    (Bytes, Bytes) => (Bytes,), (bool,), (Result<Bytes, String>,);
}

fn wrap<P, R>(linker: &mut LinkerInstance<'_, HostState>, name: &str, place: usize) -> wasmtime::Result<()>
where
    P: ComponentNamedList + Lift + Lower + Send + Sync + 'static,
    R: ComponentNamedList + Lift + Lower + Send + Sync + 'static,
{
    linker.func_wrap_async(name, move |store: StoreContextMut<'_, HostState>, params: P| {
        Box::new(async move {
            let (container, hops) = store.data().linking();
            let called = linked_at(&container, place)?.call_typed::<P, R>(hops, params).await;
            called.map_err(wasmtime::Error::new)
        })
    })
}

/// Whether Rust's types are those of a function.
fn stands_for<P: List, R: List>(ty: &ComponentFunc) -> bool {
    P::is(&mut ty.params().map(|(_, ty)| ty)) && R::is(&mut ty.results())
}

/// Types in a row.
trait List {
    fn is(types: &mut dyn Iterator<Item = Type>) -> bool;
}

impl List for () {
    fn is(types: &mut dyn Iterator<Item = Type>) -> bool {
        types.next().is_none()
    }
}

impl<A: One> List for (A,) {
    fn is(types: &mut dyn Iterator<Item = Type>) -> bool {
        A::is(types.next()) && types.next().is_none()
    }
}

impl<A: One, B: One> List for (A, B) {
    fn is(types: &mut dyn Iterator<Item = Type>) -> bool {
        A::is(types.next()) && B::is(types.next()) && types.next().is_none()
    }
}

/// One type, or the payload of a case, which may be missing.
trait One {
    fn is(ty: Option<Type>) -> bool;
}

impl One for () {
    fn is(ty: Option<Type>) -> bool {
        ty.is_none()
    }
}

impl One for bool {
    fn is(ty: Option<Type>) -> bool {
        matches!(ty, Some(Type::Bool))
    }
}

impl One for String {
    fn is(ty: Option<Type>) -> bool {
        matches!(ty, Some(Type::String))
    }
}

impl One for Bytes {
    fn is(ty: Option<Type>) -> bool {
        matches!(ty, Some(Type::List(list)) if list.ty() == Type::U8)
    }
}

impl<T: One> One for Option<T> {
    fn is(ty: Option<Type>) -> bool {
        matches!(ty, Some(Type::Option(option)) if T::is(Some(option.ty())))
    }
}

impl<T: One, E: One> One for Result<T, E> {
    fn is(ty: Option<Type>) -> bool {
        matches!(ty, Some(Type::Result(result)) if T::is(result.ok()) && E::is(result.err()))
    }
}
