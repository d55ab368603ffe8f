//! JSON to component values and back, by the component's own types.
//!
//! How deep this recurses is how deep the type is, which the component model bounds; how much it holds is what the
//! caller sent, or what one call may carry from the guest to the host.

use serde_json::{Map, Number, Value};
use std::fmt;
use wasmtime::component::{Type, Val};

/// A value that does not fit a type, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// From the inside outwards.
    path: Vec<String>,
    reason: String,
}

impl Mismatch {
    fn new(reason: impl Into<String>) -> Self {
        Mismatch { path: Vec::new(), reason: reason.into() }
    }

    fn expected(what: &str, found: &Value) -> Self {
        Mismatch::new(format!("{what} is expected, not {}", describe(found)))
    }

    fn within(mut self, place: impl Into<String>) -> Self {
        self.path.push(place.into());
        self
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in self.path.iter().rev() {
            write!(f, "{place}: ")?;
        }
        f.write_str(&self.reason)
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "a boolean".to_owned(),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() <= 40 => format!("{text:?}"),
        Value::String(_) => "a string".to_owned(),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// Why a type has no JSON form.
fn unsupported(ty: &Type) -> Mismatch {
    let what = match ty {
        Type::Own(_) | Type::Borrow(_) => "a resource",
        Type::Future(_) => "a future",
        Type::Stream(_) => "a stream",
        Type::ErrorContext => "an error context",
        Type::Map(_) => "a map",
        _ => "this type",
    };
    Mismatch::new(format!("{what} has no JSON form; use the typed bindings"))
}

/// Whether `null` could be a value of the type, so that an option of it needs a wrapper.
fn is_nullable(ty: &Type) -> bool {
    matches!(ty, Type::Option(_))
}

pub(super) fn from_json(ty: &Type, value: &Value) -> Result<Val, Mismatch> {
    Ok(match ty {
        Type::Bool => Val::Bool(value.as_bool().ok_or_else(|| Mismatch::expected("a boolean", value))?),
        Type::S8 => Val::S8(signed(value, "an 8-bit signed integer")?),
        Type::S16 => Val::S16(signed(value, "a 16-bit signed integer")?),
        Type::S32 => Val::S32(signed(value, "a 32-bit signed integer")?),
        Type::S64 => Val::S64(signed(value, "a 64-bit signed integer")?),
        Type::U8 => Val::U8(unsigned(value, "an integer from 0 to 255")?),
        Type::U16 => Val::U16(unsigned(value, "an integer from 0 to 65535")?),
        Type::U32 => Val::U32(unsigned(value, "a 32-bit unsigned integer")?),
        Type::U64 => Val::U64(unsigned(value, "a 64-bit unsigned integer")?),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float32 is the nearest there is to the number"
        )]
        Type::Float32 => Val::Float32(float(value)? as f32),
        Type::Float64 => Val::Float64(float(value)?),
        Type::Char => {
            let mut characters = text(value, "a character")?.chars();
            match (characters.next(), characters.next()) {
                (Some(character), None) => Val::Char(character),
                _ => return Err(Mismatch::expected("a string of one character", value)),
            }
        }
        Type::String => Val::String(text(value, "a string")?.to_owned()),
        Type::List(list) => Val::List(elements(value, |_| Some(list.ty()))?),
        Type::FixedLengthList(list) => {
            let values = elements(value, |_| Some(list.ty()))?;
            if values.len() != list.len() as usize {
                return Err(Mismatch::new(format!(
                    "{} elements are expected, not {}",
                    list.len(),
                    values.len()
                )));
            }
            Val::FixedLengthList(values)
        }
        Type::Tuple(tuple) => {
            let types: Vec<Type> = tuple.types().collect();
            let values = elements(value, |place| types.get(place).cloned())?;
            if values.len() != types.len() {
                return Err(Mismatch::new(format!(
                    "{} elements are expected, not {}",
                    types.len(),
                    values.len()
                )));
            }
            Val::Tuple(values)
        }
        Type::Record(record) => {
            let given = value.as_object().ok_or_else(|| Mismatch::expected("an object", value))?;
            let mut fields = Vec::with_capacity(record.fields().len());
            for field in record.fields() {
                let value = match given.get(field.name) {
                    Some(value) => value,
                    None if is_nullable(&field.ty) => &Value::Null,
                    None => return Err(Mismatch::new(format!("the field {:?} is missing", field.name))),
                };
                let value = from_json(&field.ty, value).map_err(|error| error.within(field.name))?;
                fields.push((field.name.to_owned(), value));
            }
            if let Some(unknown) = given.keys().find(|key| !fields.iter().any(|(name, _)| name == *key)) {
                return Err(Mismatch::new(format!("there is no field {unknown:?}")));
            }
            Val::Record(fields)
        }
        Type::Variant(variant) => {
            let (name, payload) = case(value)?;
            let case = variant
                .cases()
                .find(|case| case.name == name)
                .ok_or_else(|| unknown(name, "case", variant.cases().map(|case| case.name)))?;
            Val::Variant(
                name.to_owned(),
                optional(case.ty.as_ref(), payload).map_err(|error| error.within(name))?,
            )
        }
        Type::Enum(cases) => {
            let name = text(value, "the name of a case")?;
            if !cases.names().any(|case| case == name) {
                return Err(unknown(name, "case", cases.names()));
            }
            Val::Enum(name.to_owned())
        }
        Type::Flags(flags) => {
            let given = value.as_array().ok_or_else(|| Mismatch::expected("an array of names", value))?;
            let mut set = Vec::with_capacity(given.len());
            for value in given {
                let name = text(value, "the name of a flag")?;
                if !flags.names().any(|flag| flag == name) {
                    return Err(unknown(name, "flag", flags.names()));
                }
                if !set.iter().any(|other| other == name) {
                    set.push(name.to_owned());
                }
            }
            Val::Flags(set)
        }
        Type::Option(option) => match (value, is_nullable(&option.ty())) {
            (Value::Null, _) => Val::Option(None),
            (Value::Object(wrapper), true) if wrapper.len() == 1 && wrapper.contains_key("some") => {
                let inner =
                    from_json(&option.ty(), &wrapper["some"]).map_err(|error| error.within("some"))?;
                Val::Option(Some(Box::new(inner)))
            }
            (_, true) => return Err(Mismatch::expected("null or {\"some\": …}", value)),
            (_, false) => Val::Option(Some(Box::new(from_json(&option.ty(), value)?))),
        },
        Type::Result(result) => {
            let (name, payload) = case(value)?;
            match name {
                "ok" => Val::Result(Ok(
                    optional(result.ok().as_ref(), payload).map_err(|error| error.within("ok"))?
                )),
                "err" => Val::Result(Err(
                    optional(result.err().as_ref(), payload).map_err(|error| error.within("err"))?
                )),
                other => return Err(unknown(other, "case", ["ok", "err"].into_iter())),
            }
        }
        Type::Map(_)
        | Type::Own(_)
        | Type::Borrow(_)
        | Type::Future(_)
        | Type::Stream(_)
        | Type::ErrorContext => return Err(unsupported(ty)),
    })
}

pub(super) fn to_json(ty: &Type, value: Val) -> Result<Value, Mismatch> {
    Ok(match (ty, value) {
        (_, Val::Bool(value)) => Value::Bool(value),
        (_, Val::S8(value)) => value.into(),
        (_, Val::U8(value)) => value.into(),
        (_, Val::S16(value)) => value.into(),
        (_, Val::U16(value)) => value.into(),
        (_, Val::S32(value)) => value.into(),
        (_, Val::U32(value)) => value.into(),
        (_, Val::S64(value)) => value.into(),
        (_, Val::U64(value)) => value.into(),
        (_, Val::Float32(value)) => float_to_json(f64::from(value)),
        (_, Val::Float64(value)) => float_to_json(value),
        (_, Val::Char(value)) => value.to_string().into(),
        (_, Val::String(value) | Val::Enum(value)) => value.into(),
        (_, Val::Flags(names)) => names.into(),
        (Type::List(list), Val::List(values)) => array(values, |_| Some(list.ty()))?,
        (Type::FixedLengthList(list), Val::FixedLengthList(values)) => array(values, |_| Some(list.ty()))?,
        (Type::Tuple(tuple), Val::Tuple(values)) => {
            let types: Vec<Type> = tuple.types().collect();
            array(values, |place| types.get(place).cloned())?
        }
        (Type::Record(record), Val::Record(values)) => {
            let mut fields = Map::new();
            for (field, (name, value)) in record.fields().zip(values) {
                let value = to_json(&field.ty, value).map_err(|error| error.within(&*name))?;
                fields.insert(name, value);
            }
            Value::Object(fields)
        }
        (Type::Variant(variant), Val::Variant(name, payload)) => {
            let ty = variant.cases().find(|case| case.name == name).and_then(|case| case.ty);
            match (ty, payload) {
                (Some(ty), Some(payload)) => single(&name, to_json(&ty, *payload)?),
                _ => Value::String(name),
            }
        }
        (Type::Option(option), Val::Option(value)) => match value {
            None => Value::Null,
            Some(value) if is_nullable(&option.ty()) => single("some", to_json(&option.ty(), *value)?),
            Some(value) => to_json(&option.ty(), *value)?,
        },
        (Type::Result(result), Val::Result(value)) => {
            let (name, ty, payload) = match value {
                Ok(payload) => ("ok", result.ok(), payload),
                Err(payload) => ("err", result.err(), payload),
            };
            let payload = match (ty, payload) {
                (Some(ty), Some(payload)) => to_json(&ty, *payload)?,
                _ => Value::Null,
            };
            single(name, payload)
        }
        (ty, _) => return Err(unsupported(ty)),
    })
}

fn single(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn array(values: Vec<Val>, ty: impl Fn(usize) -> Option<Type>) -> Result<Value, Mismatch> {
    let converted = values.into_iter().enumerate().map(|(place, value)| {
        let ty = ty(place).ok_or_else(|| Mismatch::new("there are too many elements"))?;
        to_json(&ty, value).map_err(|error| error.within(format!("[{place}]")))
    });
    converted.collect::<Result<_, _>>().map(Value::Array)
}

fn elements(value: &Value, ty: impl Fn(usize) -> Option<Type>) -> Result<Vec<Val>, Mismatch> {
    let given = value.as_array().ok_or_else(|| Mismatch::expected("an array", value))?;
    let converted = given.iter().enumerate().map(|(place, value)| {
        let ty = ty(place).ok_or_else(|| Mismatch::new(format!("{} elements are too many", given.len())))?;
        from_json(&ty, value).map_err(|error| error.within(format!("[{place}]")))
    });
    converted.collect()
}

/// `"name"`, or `{"name": payload}`.
fn case(value: &Value) -> Result<(&str, &Value), Mismatch> {
    match value {
        Value::String(name) => Ok((name, &Value::Null)),
        Value::Object(single) if single.len() == 1 => {
            let (name, payload) = single.iter().next().ok_or_else(|| Mismatch::new("a case is expected"))?;
            Ok((name, payload))
        }
        _ => Err(Mismatch::expected("\"case\" or {\"case\": payload}", value)),
    }
}

fn optional(ty: Option<&Type>, payload: &Value) -> Result<Option<Box<Val>>, Mismatch> {
    match ty {
        Some(ty) => from_json(ty, payload).map(|value| Some(Box::new(value))),
        None if payload.is_null() => Ok(None),
        None => Err(Mismatch::expected("no payload", payload)),
    }
}

fn unknown<'a>(name: &str, what: &str, known: impl Iterator<Item = &'a str>) -> Mismatch {
    let known: Vec<_> = known.take(20).collect();
    Mismatch::new(format!("there is no {what} {name:?}; there are {}", known.join(", ")))
}

fn text<'a>(value: &'a Value, what: &str) -> Result<&'a str, Mismatch> {
    value.as_str().ok_or_else(|| Mismatch::expected(what, value))
}

fn signed<T: TryFrom<i64>>(value: &Value, what: &str) -> Result<T, Mismatch> {
    value.as_i64().and_then(|number| T::try_from(number).ok()).ok_or_else(|| Mismatch::expected(what, value))
}

fn unsigned<T: TryFrom<u64>>(value: &Value, what: &str) -> Result<T, Mismatch> {
    value.as_u64().and_then(|number| T::try_from(number).ok()).ok_or_else(|| Mismatch::expected(what, value))
}

fn float(value: &Value) -> Result<f64, Mismatch> {
    match value {
        Value::String(text) if text == "NaN" => Ok(f64::NAN),
        Value::String(text) if text == "Infinity" => Ok(f64::INFINITY),
        Value::String(text) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
        _ => value.as_f64().ok_or_else(|| Mismatch::expected("a number", value)),
    }
}

/// JSON has no infinities.
fn float_to_json(value: f64) -> Value {
    match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => "NaN".into(),
        None if value > 0.0 => "Infinity".into(),
        None => "-Infinity".into(),
    }
}
