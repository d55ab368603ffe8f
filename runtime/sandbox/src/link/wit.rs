//! Types as WIT writes them, for errors. Types have no names here: a record is its fields.

use std::fmt::Write as _;
use wasmtime::component::Type;
use wasmtime::component::types::ComponentFunc;

/// The longest signature that is written out, in characters.
const LONGEST: usize = 400;

/// A function's type: `func(token: string) -> result<string, string>`.
pub(super) fn signature(ty: &ComponentFunc) -> String {
    let params: Vec<String> = ty.params().map(|(name, ty)| format!("{name}: {}", written(&ty))).collect();
    let mut text = format!("{}func({})", if ty.async_() { "async " } else { "" }, params.join(", "));
    if let Some(result) = ty.results().next() {
        let _ = write!(text, " -> {}", written(&result));
    }
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).chain(['…']).collect();
    }
    text
}

fn written(ty: &Type) -> String {
    let simple = match ty {
        Type::Bool => "bool",
        Type::S8 => "s8",
        Type::U8 => "u8",
        Type::S16 => "s16",
        Type::U16 => "u16",
        Type::S32 => "s32",
        Type::U32 => "u32",
        Type::S64 => "s64",
        Type::U64 => "u64",
        Type::Float32 => "f32",
        Type::Float64 => "f64",
        Type::Char => "char",
        Type::String => "string",
        Type::ErrorContext => "error-context",
        Type::Own(_) | Type::Borrow(_) => "resource",
        Type::List(list) => return format!("list<{}>", written(&list.ty())),
        Type::FixedLengthList(list) => return format!("list<{}, {}>", written(&list.ty()), list.len()),
        Type::Map(map) => return format!("map<{}, {}>", written(&map.key()), written(&map.value())),
        Type::Option(option) => return format!("option<{}>", written(&option.ty())),
        Type::Future(future) => return generic("future", &[future.ty()]),
        Type::Stream(stream) => return generic("stream", &[stream.ty()]),
        Type::Result(result) => return generic("result", &[result.ok(), result.err()]),
        Type::Tuple(tuple) => {
            let types: Vec<Option<Type>> = tuple.types().map(Some).collect();
            return generic("tuple", &types);
        }
        Type::Record(record) => {
            return braced(
                "record",
                record.fields().map(|field| format!("{}: {}", field.name, written(&field.ty))),
            );
        }
        Type::Variant(variant) => {
            return braced(
                "variant",
                variant.cases().map(|case| match &case.ty {
                    Some(ty) => format!("{}({})", case.name, written(ty)),
                    None => case.name.to_owned(),
                }),
            );
        }
        Type::Enum(cases) => return braced("enum", cases.names().map(str::to_owned)),
        Type::Flags(flags) => return braced("flags", flags.names().map(str::to_owned)),
    };
    simple.to_owned()
}

/// `result<_, string>`; what is missing at the end is left out.
fn generic(name: &str, types: &[Option<Type>]) -> String {
    let given = types.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    if given == 0 {
        return name.to_owned();
    }
    let types: Vec<String> =
        types[..given].iter().map(|ty| ty.as_ref().map_or_else(|| "_".to_owned(), written)).collect();
    format!("{name}<{}>", types.join(", "))
}

fn braced(name: &str, parts: impl Iterator<Item = String>) -> String {
    format!("{name} {{ {} }}", parts.collect::<Vec<_>>().join(", "))
}

/// What can't leave the store it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Impassable {
    Asynchronous,
    Resource,
    Future,
    Stream,
    ErrorContext,
}

impl Impassable {
    /// What a function is called that has it.
    pub(super) fn function(self) -> &'static str {
        match self {
            Impassable::Asynchronous => "an asynchronous function",
            Impassable::Resource => "a function with a resource",
            Impassable::Future => "a function with a future",
            Impassable::Stream => "a function with a stream",
            Impassable::ErrorContext => "a function with an error context",
        }
    }

    /// What an interface may have in its place, as the end of a sentence.
    pub(super) fn instead(self) -> &'static str {
        match self {
            Impassable::Asynchronous => {
                "declare it without async: a call waits for its answer, and only the calling instance with it"
            }
            Impassable::Resource => {
                "a handle means nothing in another sandbox: pass an id of your own in its place"
            }
            Impassable::Future => "return the value itself: a call waits for it",
            Impassable::Stream => "pass lists, in as many calls as it takes",
            Impassable::ErrorContext => "pass its text as a string",
        }
    }
}

/// What in a type can't leave the store it belongs to, if anything.
pub(super) fn impassable(ty: &Type) -> Option<Impassable> {
    match ty {
        Type::Own(_) | Type::Borrow(_) => Some(Impassable::Resource),
        Type::Future(_) => Some(Impassable::Future),
        Type::Stream(_) => Some(Impassable::Stream),
        Type::ErrorContext => Some(Impassable::ErrorContext),
        Type::List(list) => impassable(&list.ty()),
        Type::FixedLengthList(list) => impassable(&list.ty()),
        Type::Map(map) => impassable(&map.key()).or_else(|| impassable(&map.value())),
        Type::Option(option) => impassable(&option.ty()),
        Type::Result(result) => {
            [result.ok(), result.err()].into_iter().flatten().find_map(|ty| impassable(&ty))
        }
        Type::Tuple(tuple) => tuple.types().find_map(|ty| impassable(&ty)),
        Type::Record(record) => record.fields().find_map(|field| impassable(&field.ty)),
        Type::Variant(variant) => variant.cases().find_map(|case| case.ty.as_ref().and_then(impassable)),
        Type::Bool
        | Type::S8
        | Type::U8
        | Type::S16
        | Type::U16
        | Type::S32
        | Type::U32
        | Type::S64
        | Type::U64
        | Type::Float32
        | Type::Float64
        | Type::Char
        | Type::String
        | Type::Enum(_)
        | Type::Flags(_) => None,
    }
}
