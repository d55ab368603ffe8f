//! Which export answers which import, and whether they are of one type.

use super::wit::signature;
use super::{Link, LinkFailed, OpenFunction};
use crate::net::Hops;
use crate::plugin::{CallError, Plugin};
use wasmtime::component::{ComponentNamedList, Lift, Lower, Val};

/// Why a component and the containers it is linked to don't fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// Nobody answers an import.
    #[error("the component imports {import}, which nobody here provides{hint}")]
    Missing {
        /// The interface, or the function of the world's root.
        import: String,
        /// The rest of the sentence: whom it is linked to.
        hint: String,
    },
    /// The container that is to answer an import does not export it.
    #[error("{import} is linked to container {container}, which does not export it{exports}")]
    NotExported {
        /// The interface that is imported.
        import: String,
        /// The container it is linked to.
        container: String,
        /// The rest of the sentence: what it exports instead.
        exports: String,
    },
    /// The interface is exported without one of the functions that are imported.
    #[error("container {container} exports {import} without the function {function}, which is imported")]
    MissingFunction {
        /// The interface.
        import: String,
        /// The function.
        function: String,
        /// The exporting container.
        container: String,
    },
    /// Both sides know the function by different types.
    #[error(
        "{import}: the function {function} is imported as `{imported}`, and container {container} exports it as \
         `{exported}`"
    )]
    Mismatch {
        /// The interface.
        import: String,
        /// The function.
        function: String,
        /// The exporting container.
        container: String,
        /// Its type as the importer has it, as WIT writes it.
        imported: String,
        /// Its type as the exporter has it.
        exported: String,
    },
    /// Several containers export what is imported, and none is named for it.
    #[error("containers {first} and {second} both export {import}; say which is meant: {import}={first}")]
    Ambiguous {
        /// The interface.
        import: String,
        /// One container.
        first: String,
        /// Another.
        second: String,
    },
    /// A link that answers nothing.
    #[error("container {container} is linked{interface}, and the component imports nothing of that{imports}")]
    Unused {
        /// The container.
        container: String,
        /// ` for INTERFACE`, if the link names one.
        interface: String,
        /// The rest of the sentence: what it imports.
        imports: String,
    },
}

/// An import, linked.
pub(crate) struct Linked {
    container: String,
    /// What it is called in the exporting component: `demo:auth/policy@1.0.0#check`.
    function: String,
    /// Its place among the exporting component's functions.
    place: usize,
    exports: Plugin,
}

impl Linked {
    /// Calls the function in an instance of its container. `hops` are those behind the importer's own request.
    pub(crate) async fn call(
        &self,
        hops: Hops,
        params: &[Val],
        results: &mut [Val],
    ) -> Result<(), LinkFailed> {
        let called = self.exports.call_linked(self.place, &self.function, hops, params, results).await;
        called.map_err(|error| self.failed(&error))
    }

    /// The same, of a function whose types are `P` and `R`.
    pub(crate) async fn call_typed<P, R>(&self, hops: Hops, params: P) -> Result<R, LinkFailed>
    where
        P: ComponentNamedList + Lower + Send + Sync + 'static,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let called = self.exports.call_linked_typed(self.place, &self.function, hops, params).await;
        called.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &CallError) -> LinkFailed {
        LinkFailed {
            container: self.container.clone(),
            function: self.function.clone(),
            reason: reason(error),
        }
    }
}

/// What is to be read behind the container's name, which says already that it is not the importer's fault.
fn reason(error: &CallError) -> String {
    match error {
        CallError::Guest(exit) | CallError::Limit(exit) => exit.to_string(),
        CallError::Closed => "the container has ended".to_owned(),
        other => other.to_string(),
    }
}

/// Finds the export for every open function.
///
/// # Errors
/// The first that is missing or of another type, or a link that is of no use.
pub(crate) fn resolve(open: &[OpenFunction], links: &[Link]) -> Result<Vec<Linked>, LinkError> {
    let linked = open.iter().map(|function| link(function, links)).collect::<Result<Vec<_>, _>>()?;
    for link in links {
        let used = match &link.interface {
            Some(rule) => open.iter().any(|function| names(rule, function.import())),
            None => open.iter().any(|function| exported(link, function).is_some()),
        };
        if !used {
            let interface = link.interface.as_ref().map(|interface| format!(" for {interface}"));
            let mut imports: Vec<&str> = open.iter().map(OpenFunction::import).collect();
            imports.dedup();
            return Err(LinkError::Unused {
                container: link.container.clone(),
                interface: interface.unwrap_or_default(),
                imports: listed("; it imports", &imports),
            });
        }
    }
    Ok(linked)
}

fn link(open: &OpenFunction, links: &[Link]) -> Result<Linked, LinkError> {
    let import = open.import();
    let named = links.iter().find(|link| link.interface.as_deref().is_some_and(|rule| names(rule, import)));
    let (link, interface) = if let Some(link) = named {
        let interface = exported(link, open).ok_or_else(|| {
            let interfaces = link.exports.interfaces();
            let interfaces: Vec<&str> = interfaces.iter().map(String::as_str).collect();
            LinkError::NotExported {
                import: import.to_owned(),
                container: link.container.clone(),
                exports: listed("; it exports", &interfaces),
            }
        })?;
        (link, interface)
    } else {
        let mut all = links.iter().filter(|link| link.interface.is_none());
        let found = all.find_map(|link| exported(link, open).map(|interface| (link, interface)));
        let Some((link, interface)) = found else {
            let containers: Vec<&str> = links.iter().map(|link| link.container.as_str()).collect();
            return Err(LinkError::Missing {
                import: import.to_owned(),
                hint: listed("; it is linked to", &containers),
            });
        };
        if let Some(second) = all.find(|link| exported(link, open).is_some()) {
            return Err(LinkError::Ambiguous {
                import: import.to_owned(),
                first: link.container.clone(),
                second: second.container.clone(),
            });
        }
        (link, interface)
    };
    let Some((place, function, ty)) = link.exports.function_of(interface.as_deref(), &open.name) else {
        return Err(LinkError::MissingFunction {
            import: import.to_owned(),
            function: open.name.clone(),
            container: link.container.clone(),
        });
    };
    let (imported, exported) = (&open.ty, &ty);
    let same = imported.async_() == exported.async_()
        && imported.params().eq(exported.params())
        && imported.results().eq(exported.results());
    if !same {
        return Err(LinkError::Mismatch {
            import: import.to_owned(),
            function: open.name.clone(),
            container: link.container.clone(),
            imported: signature(imported),
            exported: signature(exported),
        });
    }
    Ok(Linked { container: link.container.clone(), function, place, exports: link.exports.clone() })
}

/// Under which name a link's container exports what an open function is part of: the interface's name, or `None` for a
/// function of the world's root.
#[expect(clippy::option_option, reason = "whether it is exported, and whether it has an interface")]
fn exported(link: &Link, open: &OpenFunction) -> Option<Option<String>> {
    match &open.interface {
        Some(interface) => {
            let all = link.exports.interfaces();
            all.into_iter().find(|export| is_compatible(interface, export)).map(Some)
        }
        None => link.exports.function_of(None, &open.name).map(|_| None),
    }
}

/// Whether a link's rule means an interface: by its name, and by its version if the rule has one.
fn names(rule: &str, import: &str) -> bool {
    rule == import || import.split_once('@').is_some_and(|(name, _)| name == rule)
}

/// Whether an export can stand for an import: one name, and versions that semantic versioning calls compatible.
fn is_compatible(import: &str, export: &str) -> bool {
    match (import.split_once('@'), export.split_once('@')) {
        (None, None) => import == export,
        (Some((import, wanted)), Some((export, offered))) => {
            import == export && track(wanted) == track(offered)
        }
        _ => false,
    }
}

/// The part of a version that may not differ: `1` of 1.2.3, `0.2` of 0.2.3, and all of 0.0.3 and of prereleases.
fn track(version: &str) -> &str {
    if version.contains(['-', '+']) {
        return version;
    }
    let mut end = 0;
    for part in version.split_inclusive('.') {
        end += part.len();
        if part.trim_end_matches('.') != "0" {
            return version[..end].trim_end_matches('.');
        }
    }
    version
}

/// The end of a sentence that says what there is instead.
fn listed(lead: &str, names: &[&str]) -> String {
    match names.len() {
        0 => String::new(),
        1..=8 => format!("{lead} {}", names.join(", ")),
        more => format!("{lead} {} and {} more", names[..8].join(", "), more - 8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compatible_as_semver_has_it() {
        for (import, export, expected) in [
            ("demo:auth/policy@1.0.0", "demo:auth/policy@1.0.0", true),
            ("demo:auth/policy@1.0.0", "demo:auth/policy@1.7.2", true),
            ("demo:auth/policy@1.0.0", "demo:auth/policy@2.0.0", false),
            ("demo:auth/policy@1.0.0", "demo:auth/policy@10.0.0", false),
            ("demo:auth/policy@0.2.0", "demo:auth/policy@0.2.9", true),
            ("demo:auth/policy@0.2.0", "demo:auth/policy@0.3.0", false),
            ("demo:auth/policy@0.0.1", "demo:auth/policy@0.0.2", false),
            ("demo:auth/policy@1.0.0-rc.1", "demo:auth/policy@1.0.0", false),
            ("demo:auth/policy", "demo:auth/policy", true),
            ("demo:auth/policy", "demo:auth/policy@1.0.0", false),
            ("demo:auth/policy@1.0.0", "demo:auth/other@1.0.0", false),
        ] {
            assert_eq!(is_compatible(import, export), expected, "{import} and {export}");
        }
    }

    #[test]
    fn a_rule_names_an_interface_with_or_without_its_version() {
        assert!(names("demo:auth/policy", "demo:auth/policy@1.0.0"));
        assert!(names("demo:auth/policy@1.0.0", "demo:auth/policy@1.0.0"));
        assert!(!names("demo:auth/policy@1.0.0", "demo:auth/policy@1.0.1"));
        assert!(!names("demo:auth/pol", "demo:auth/policy@1.0.0"));
    }
}
