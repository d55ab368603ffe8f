//! A component's functions by name.

use super::CallError;
use super::call::Owned;
use super::value::{Mismatch, from_json, to_json};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, Type, Val};

/// Every function that a component exports, directly or in an interface.
pub(super) struct Functions {
    all: Vec<Function>,
    /// Every name a function goes by; `None` where several have it.
    by_name: HashMap<String, Option<usize>>,
}

pub(super) struct Function {
    /// With its interface, if it has one: `demo:text/shout@1.0.0#shout`.
    name: String,
    /// How much of the name is the interface's.
    interface: Option<usize>,
    pub(super) export: ComponentExportIndex,
    ty: ComponentFunc,
    params: Vec<(String, Type)>,
    result: Option<Type>,
}

impl Functions {
    pub(super) fn of(component: &Component) -> Functions {
        let mut functions = Functions { all: Vec::new(), by_name: HashMap::new() };
        let engine = component.engine();
        for (name, item) in component.component_type().exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty) => {
                    if let Some(export) = component.get_export_index(None, name) {
                        functions.add(None, name, export, &ty);
                    }
                }
                ComponentItem::ComponentInstance(instance) => {
                    let Some(parent) = component.get_export_index(None, name) else { continue };
                    for (function, item) in instance.exports(engine) {
                        if let ComponentItem::ComponentFunc(ty) = item.ty
                            && let Some(export) = component.get_export_index(Some(&parent), function)
                        {
                            functions.add(Some(name), function, export, &ty);
                        }
                    }
                }
                _ => {}
            }
        }
        functions
    }

    fn add(
        &mut self,
        interface: Option<&str>,
        function: &str,
        export: ComponentExportIndex,
        ty: &ComponentFunc,
    ) {
        let place = self.all.len();
        let mut names = vec![function.to_owned()];
        if let Some(interface) = interface {
            names.push(format!("{interface}#{function}"));
            if let Some((unversioned, _)) = interface.split_once('@') {
                names.push(format!("{unversioned}#{function}"));
            }
        }
        let name = names.get(1).unwrap_or(&names[0]).clone();
        for name in names {
            self.by_name.entry(name).and_modify(|found| *found = None).or_insert(Some(place));
        }
        self.all.push(Function {
            name,
            interface: interface.map(str::len),
            export,
            ty: ty.clone(),
            params: ty.params().map(|(name, ty)| (name.to_owned(), ty)).collect(),
            result: ty.results().next(),
        });
    }

    pub(super) fn find(&self, name: &str) -> Result<&Function, CallError> {
        match self.by_name.get(name) {
            Some(Some(place)) => Ok(&self.all[*place]),
            Some(None) => Err(CallError::Call(format!(
                "several interfaces export {name}; say which: {}",
                self.listed(|other| other.ends_with(&format!("#{name}")))
            ))),
            None => Err(CallError::Call(format!(
                "the component exports no function {name:?}; it has {}",
                self.listed(|_| true)
            ))),
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.all.iter().map(|function| function.name.clone()).collect()
    }

    pub(super) fn interfaces(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.all.iter().filter_map(|one| one.interface()).map(str::to_owned).collect();
        names.dedup();
        names
    }

    /// The function of an interface, or of the world's root: its place, whole name and type.
    pub(super) fn of_interface(
        &self,
        interface: Option<&str>,
        function: &str,
    ) -> Option<(usize, String, ComponentFunc)> {
        let mut all = self.all.iter().enumerate();
        let is_meant = |one: &Function| one.interface() == interface && one.own_name() == function;
        all.find(|(_, one)| is_meant(one)).map(|(place, one)| (place, one.name.clone(), one.ty.clone()))
    }

    /// The function at a place, if it is still the one of that name; else the one of that name.
    pub(super) fn at(&self, place: usize, name: &str) -> Result<&Function, CallError> {
        match self.all.get(place) {
            Some(function) if function.name == name => Ok(function),
            _ => self.find(name),
        }
    }

    fn listed(&self, wanted: impl Fn(&str) -> bool) -> String {
        let names: Vec<_> =
            self.all.iter().map(|function| &*function.name).filter(|name| wanted(name)).collect();
        match names.len() {
            0 => "none".to_owned(),
            1..=20 => names.join(", "),
            more => format!("{} and {} more", names[..20].join(", "), more - 20),
        }
    }
}

impl Function {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn interface(&self) -> Option<&str> {
        self.interface.map(|end| &self.name[..end])
    }

    fn own_name(&self) -> &str {
        self.interface.map_or(&self.name, |end| &self.name[end + 1..])
    }

    /// A call of it, whose results are the answer.
    pub(super) fn called_with<'a>(&self, arguments: &'a [Val]) -> Owned<'a> {
        let results = usize::from(self.result.is_some());
        Owned { export: self.export, arguments: Cow::Borrowed(arguments), results, hops: None }
    }

    /// Whether a value it returned is the failure of a `result`.
    pub(super) fn is_failure(results: &[Val]) -> bool {
        matches!(results, [Val::Result(Err(_))])
    }

    pub(super) fn has_result(&self) -> bool {
        self.result.is_some()
    }

    pub(super) fn arguments(&self, given: &Value) -> Result<Vec<Val>, CallError> {
        let takes = || {
            let names: Vec<_> = self.params.iter().map(|(name, _)| &**name).collect();
            format!("{} takes ({})", self.name, names.join(", "))
        };
        let values: Vec<&Value> = match given {
            Value::Array(values) if values.len() == self.params.len() => values.iter().collect(),
            Value::Array(values) => {
                return Err(CallError::Call(format!("{}, not {} arguments", takes(), values.len())));
            }
            Value::Object(named) => {
                if let Some(unknown) =
                    named.keys().find(|key| !self.params.iter().any(|(name, _)| name == *key))
                {
                    return Err(CallError::Call(format!("{}, and no {unknown:?}", takes())));
                }
                self.params.iter().map(|(name, _)| named.get(name).unwrap_or(&Value::Null)).collect()
            }
            _ => return Err(CallError::Call(format!("{}, as an array or an object", takes()))),
        };
        let converted = self.params.iter().zip(values).map(|((name, ty), value)| {
            from_json(ty, value).map_err(|mismatch: Mismatch| {
                CallError::Call(format!("argument {name} of {}: {mismatch}", self.name))
            })
        });
        converted.collect()
    }

    /// Makes the arguments of a command line those of a call. What they are worth is checked by the call.
    pub(super) fn of_words(&self, words: &[String]) -> Result<Value, CallError> {
        if words.len() != self.params.len() {
            let names: Vec<_> = self.params.iter().map(|(name, _)| &**name).collect();
            let (name, given) = (&self.name, words.len());
            return Err(CallError::Call(format!("{name} takes ({}), not {given} words", names.join(", "))));
        }
        let values = self.params.iter().zip(words).map(|((name, ty), word)| {
            from_word(ty, word).map_err(|error| {
                CallError::Call(format!("argument {name} of {}: {word:?} is not JSON: {error}", self.name))
            })
        });
        values.collect::<Result<_, _>>().map(Value::Array)
    }

    pub(super) fn result(&self, results: Vec<Val>) -> Result<Value, CallError> {
        match (&self.result, results.into_iter().next()) {
            (Some(ty), Some(value)) => to_json(ty, value)
                .map_err(|mismatch| CallError::Call(format!("the result of {}: {mismatch}", self.name))),
            _ => Ok(Value::Null),
        }
    }
}

/// A word as JSON. Text is itself, unless it is written in quotes as JSON has it.
fn from_word(ty: &Type, word: &str) -> Result<Value, serde_json::Error> {
    let as_text = || Value::String(word.to_owned());
    match ty {
        Type::String | Type::Char | Type::Enum(_) => {
            Ok(serde_json::from_str(word).ok().filter(Value::is_string).unwrap_or_else(as_text))
        }
        // A case without a payload.
        Type::Variant(_) => Ok(serde_json::from_str(word).unwrap_or_else(|_| as_text())),
        Type::Option(option) if word != "null" => from_word(&option.ty(), word),
        _ => serde_json::from_str(word),
    }
}
