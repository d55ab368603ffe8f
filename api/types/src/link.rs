//! Containers of a task that are linked: one imports an interface, another exports it.

use std::collections::HashSet;
use std::fmt;

use crate::ids::ContainerName;
use crate::task_definition::ContainerDefinition;

/// The label of the importing container. Its value is a list, with commas in between: `CONTAINER`, for every interface
/// that the component imports and that container exports, or `INTERFACE=CONTAINER` for one interface, such as
/// `demo:auth/policy=policy` or `demo:auth/policy@1.0.0=policy`.
pub const LABEL: &str = "coracle.link";

/// One entry of the label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkRule {
    /// The interface, with or without its version; None is every one that fits.
    pub interface: Option<String>,
    /// The container that exports it.
    pub container: ContainerName,
}

/// What is wrong with links. The texts stand behind the importing container's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkRuleError {
    /// An entry that can't be read.
    Entry(String),
    /// An interface, or a container without one, that is named twice.
    Twice(String),
    /// More entries than there may be.
    TooMany(usize),
}

impl fmt::Display for LinkRuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry(entry) => write!(
                f,
                "label {LABEL}: {:?} is neither CONTAINER nor INTERFACE=CONTAINER, such as demo:auth/policy=policy",
                entry.chars().take(100).collect::<String>()
            ),
            Self::Twice(what) => write!(f, "label {LABEL} names {what} twice"),
            Self::TooMany(count) => {
                write!(f, "label {LABEL} has {count} entries; there may be {}", LinkRule::MOST)
            }
        }
    }
}

impl std::error::Error for LinkRuleError {}

impl LinkRule {
    /// The most entries of one container.
    const MOST: usize = 100;

    /// Reads the label's value.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn parse(value: &str) -> Result<Vec<Self>, LinkRuleError> {
        let count = value.split(',').count();
        if count > Self::MOST {
            return Err(LinkRuleError::TooMany(count));
        }
        let mut rules: Vec<Self> = Vec::new();
        for entry in value.split(',') {
            let rule =
                Self::one(entry.trim()).ok_or_else(|| LinkRuleError::Entry(entry.trim().to_owned()))?;
            let same = |other: &Self| match (&rule.interface, &other.interface) {
                (None, None) => rule.container == other.container,
                (one, other) => one == other,
            };
            if rules.iter().any(same) {
                let what = rule.interface.unwrap_or_else(|| rule.container.to_string());
                return Err(LinkRuleError::Twice(what));
            }
            rules.push(rule);
        }
        Ok(rules)
    }

    fn one(entry: &str) -> Option<Self> {
        let (interface, container) = match entry.split_once('=') {
            Some((interface, container)) => (Some(interface.trim()), container.trim()),
            None => (None, entry),
        };
        if interface.is_some_and(|interface| !is_interface(interface)) {
            return None;
        }
        Some(Self { interface: interface.map(str::to_owned), container: container.parse().ok()? })
    }
}

/// Whether a text looks like an interface's name: `namespace:package/interface`, perhaps with a version. The host's own
/// can't be had from a container.
fn is_interface(text: &str) -> bool {
    let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
    let Some((namespace, rest)) = name.split_once(':') else { return false };
    let Some((package, interface)) = rest.split_once('/') else { return false };
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b':' | b'/'))
    };
    let is_version = |version: &str| {
        version.starts_with(|first: char| first.is_ascii_digit())
            && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+'))
    };
    text.len() <= 256
        && namespace != "wasi"
        && [namespace, package, interface].into_iter().all(plain)
        && version.is_none_or(is_version)
}

impl ContainerDefinition {
    /// The links of its label.
    ///
    /// # Errors
    /// What is wrong with the label.
    pub fn links(&self) -> Result<Vec<LinkRule>, LinkRuleError> {
        self.docker_labels.get(LABEL).map_or(Ok(Vec::new()), |value| LinkRule::parse(value))
    }
}

/// Checks the links of containers that are to run in one task.
///
/// # Errors
/// What is wrong, as a sentence: an entry, a container that is not there, or containers that link, or wait for, each
/// other in a circle.
pub fn check_links(containers: &[ContainerDefinition]) -> Result<(), String> {
    let mut linked = false;
    let mut needs: Vec<(&str, HashSet<String>)> = Vec::new();
    for container in containers {
        let name = container.name.as_str();
        let rules = container.links().map_err(|error| format!("Container {name}: {error}."))?;
        for rule in &rules {
            let to = &rule.container;
            if !containers.iter().any(|other| other.name == *to) {
                return Err(format!(
                    "Container {name} is linked to {to}, which is not in the task definition."
                ));
            }
            if *to == container.name {
                return Err(format!("Container {name} is linked to itself."));
            }
        }
        linked |= !rules.is_empty();
        let waits = container.depends_on.iter().map(|dependency| dependency.container.to_string());
        needs.push((name, waits.chain(rules.iter().map(|rule| rule.container.to_string())).collect()));
    }
    // Takes away, again and again, what needs none that is left.
    while linked && !needs.is_empty() {
        let left: HashSet<String> = needs.iter().map(|(name, _)| (*name).to_owned()).collect();
        let before = needs.len();
        needs.retain(|(_, on)| on.iter().any(|name| left.contains(name)));
        if needs.len() == before {
            let names: Vec<&str> = needs.iter().map(|(name, _)| *name).collect();
            return Err(format!(
                "Containers are linked to, or wait for, each other in a circle: {}.",
                names.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<(Option<String>, String)>, String> {
        let rules = LinkRule::parse(text).map_err(|error| error.to_string())?;
        Ok(rules.into_iter().map(|rule| (rule.interface, rule.container.to_string())).collect())
    }

    #[test]
    fn entries_are_containers_with_or_without_an_interface() {
        let rule = |interface: &str, container: &str| (Some(interface.to_owned()), container.to_owned());
        assert_eq!(parse("policy"), Ok(vec![(None, "policy".to_owned())]));
        assert_eq!(
            parse("demo:auth/policy=policy, demo:geo/places@1.2.0 = geo ,cache"),
            Ok(vec![
                rule("demo:auth/policy", "policy"),
                rule("demo:geo/places@1.2.0", "geo"),
                (None, "cache".to_owned())
            ])
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_shown() {
        for (text, why) in [
            ("", "\"\" is neither"),
            ("policy,", "\"\" is neither"),
            ("=policy", "\"=policy\""),
            ("policy=", "\"policy=\""),
            ("auth=policy", "\"auth=policy\""),
            ("demo:auth=policy", "demo:auth/policy=policy"),
            ("demo:/policy=policy", "is neither"),
            ("demo:auth/policy@=policy", "is neither"),
            ("demo:auth/po licy=policy", "is neither"),
            ("wasi:keyvalue/store=cache", "is neither"),
            ("a b", "is neither"),
            ("a,a", "names a twice"),
            ("demo:auth/policy=a,demo:auth/policy=b", "names demo:auth/policy twice"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(why) && refused.contains(LABEL), "{text:?}: {refused}");
        }
        assert!(parse(&vec!["a"; 101].join(",")).unwrap_err().contains("101 entries"));
    }
}
