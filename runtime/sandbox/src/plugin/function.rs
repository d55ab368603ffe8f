//! A component's functions by name.

use super::CallError;
use super::value::{Mismatch, from_json, to_json};
use serde_json::Value;
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
    name: String,
    pub(super) export: ComponentExportIndex,
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
            export,
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

    pub(super) fn result(&self, results: Vec<Val>) -> Result<Value, CallError> {
        match (&self.result, results.into_iter().next()) {
            (Some(ty), Some(value)) => to_json(ty, value)
                .map_err(|mismatch| CallError::Call(format!("the result of {}: {mismatch}", self.name))),
            _ => Ok(Value::Null),
        }
    }
}
