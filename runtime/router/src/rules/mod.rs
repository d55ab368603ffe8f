//! A listener's rules, compiled: which of them a request means. Pure.

mod beginnings;
mod condition;
mod index;
mod redirect;
mod split;
mod transform;
mod wildcard;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

pub(crate) use condition::RequestView;
use condition::{Test, Texts};
use index::{Filing, Host, Index, Within};
pub(crate) use redirect::{Origin, location};
pub(crate) use split::Split;
pub(crate) use transform::Rewrites;
use wildcard::Wildcard;

use crate::limit::Limiter;
use crate::model::{Action, FixedResponse, Redirect, Rule, RuleError};

/// A listener's rules in order of priority.
#[derive(Debug)]
pub(crate) struct RuleSet {
    rules: Box<[Arc<CompiledRule>]>,
    index: Index,
    default: Arc<CompiledRule>,
}

impl RuleSet {
    /// Compiles rules and default action. What is in `before`, the same listener's rules so far, and has
    /// not changed is taken over with its counters. A rule that can't be understood is left out, with a
    /// warning: it matches nothing.
    pub(crate) fn new(listener: &str, rules: &[Rule], default: &Action, before: Option<&Self>) -> Self {
        let old: HashMap<&str, &Arc<CompiledRule>> = before
            .iter()
            .flat_map(|before| &before.rules)
            .map(|rule| (rule.source.id.as_str(), rule))
            .collect();
        let mut in_order: Vec<&Rule> = rules.iter().collect();
        in_order.sort_by_key(|rule| rule.priority);
        let compiled: Box<[Arc<CompiledRule>]> = in_order
            .into_iter()
            .filter_map(|rule| {
                CompiledRule::renew(old.get(rule.id.as_str()).copied(), rule)
                    .inspect_err(|error| tracing::warn!(rule = rule.id, %error, "a rule matches nothing"))
                    .ok()
            })
            .collect();
        let default = Rule {
            id: listener.to_owned(),
            priority: u32::MAX,
            conditions: Vec::new(),
            transforms: Vec::new(),
            action: default.clone(),
            rate_limit: None,
        };
        let default = CompiledRule::renew(before.map(|before| &before.default), &default)
            .unwrap_or_else(|error| CompiledRule::broken(default, &error));
        Self { index: Index::new(compiled.iter().map(|rule| rule.filing())), rules: compiled, default }
    }

    /// The first rule that matches, else the default.
    pub(crate) fn find(&self, request: &RequestView<'_>) -> &Arc<CompiledRule> {
        let matches = |place: u32| self.rules[place as usize].matches(request);
        let (host, path) = (request.host.as_bytes(), request.path.as_bytes());
        let found = self.index.first(host, path, request.headers, matches);
        found.map_or(&self.default, |place| &self.rules[place as usize])
    }

    /// The ARNs of the target groups that may get traffic.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.rules
            .iter()
            .chain([&self.default])
            .flat_map(|rule| match &rule.action {
                CompiledAction::Forward(split) => split.groups(),
                _ => &[],
            })
            .map(|group| &*group.id)
    }
}

/// One rule, compiled.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    /// What it was compiled from.
    pub(crate) source: Rule,
    tests: Box<[Test]>,
    pub(crate) rewrites: Rewrites,
    pub(crate) action: CompiledAction,
    pub(crate) limiter: Option<Arc<Limiter>>,
}

/// An action, made ready to be done.
#[derive(Debug)]
pub(crate) enum CompiledAction {
    Forward(Split),
    Redirect(Redirect),
    Fixed { status: StatusCode, content_type: Option<HeaderValue>, body: Bytes },
}

impl CompiledRule {
    /// The compiled form of `rule`: `old` itself if it is that, else a new one with its limiter.
    fn renew(old: Option<&Arc<Self>>, rule: &Rule) -> Result<Arc<Self>, RuleError> {
        if let Some(old) = old.filter(|old| old.source == *rule) {
            return Ok(Arc::clone(old));
        }
        let limiter = match (&rule.rate_limit, old) {
            (None, _) => None,
            (limit, Some(old)) if old.limiter.is_some() && old.source.rate_limit == *limit => {
                old.limiter.clone()
            }
            (Some(limit), _) => Some(Arc::new(Limiter::new(limit)?)),
        };
        let tests = rule.conditions.iter().map(Test::compile).collect::<Result<_, _>>()?;
        let rewrites = Rewrites::compile(&rule.transforms)?;
        let action = CompiledAction::compile(&rule.action)?;
        Ok(Arc::new(Self { source: rule.clone(), tests, rewrites, action, limiter }))
    }

    /// Stands in for a default action that can't be done.
    fn broken(source: Rule, error: &RuleError) -> Arc<Self> {
        tracing::warn!(listener = source.id, %error, "a listener's default action can't be done");
        let action = CompiledAction::Fixed {
            status: StatusCode::SERVICE_UNAVAILABLE,
            content_type: Some(HeaderValue::from_static("text/plain")),
            body: Bytes::from(format!("the listener's default action can't be done: {error}\n")),
        };
        Arc::new(Self { source, tests: Box::default(), rewrites: Rewrites::default(), action, limiter: None })
    }

    fn matches(&self, request: &RequestView<'_>) -> bool {
        self.tests.iter().all(|test| test.holds(request))
    }

    /// What a request must have for the rule to match, as far as the index can tell.
    fn filing(&self) -> Filing {
        let mut filing = Filing::default();
        let mut header = None;
        for test in &self.tests {
            match test {
                Test::Host(texts) if filing.hosts.is_empty() => {
                    filing.hosts = texts.only_patterns().and_then(hosts).unwrap_or_default();
                }
                // Every path begins with a slash.
                Test::Path(texts) if filing.within == Within::default() => {
                    let prefixes = beginnings(texts).filter(|all| all.iter().all(|prefix| prefix.len() > 1));
                    filing.within = Within::Paths(prefixes.unwrap_or_default());
                }
                Test::Header(name, texts) if header.is_none() => {
                    header = Some(Within::Header(
                        name.clone(),
                        beginnings(texts).unwrap_or_else(|| vec![Vec::new()]),
                    ));
                }
                _ => {}
            }
        }
        if let Some(header) = header.filter(|_| filing.within == Within::default()) {
            filing.within = header;
        }
        filing
    }
}

/// Where rules for these hosts are found; none if some pattern has neither a literal nor an ending.
fn hosts(patterns: &[Wildcard]) -> Option<Vec<Host>> {
    let host = |pattern: &Wildcard| match (pattern.literal(), pattern.suffix()) {
        (Some(literal), _) => Some(Host::Named(literal.to_vec())),
        (None, []) => None,
        (None, ending) => Some(Host::EndingIn(ending.to_vec())),
    };
    patterns.iter().map(host).collect()
}

/// What a text must begin with, if patterns alone decide: each with the beginning of one of them.
fn beginnings(texts: &Texts) -> Option<Vec<Vec<u8>>> {
    let patterns = texts.only_patterns()?;
    Some(patterns.iter().map(|pattern| pattern.prefix().to_vec()).collect())
}

impl CompiledAction {
    fn compile(action: &Action) -> Result<Self, RuleError> {
        match action {
            Action::Forward(forward) => Ok(Self::Forward(Split::new(forward))),
            Action::Redirect(redirect) => Ok(Self::Redirect(redirect.clone())),
            Action::FixedResponse(FixedResponse { status, content_type, body }) => {
                let content_type = content_type.as_deref().map(|text| {
                    HeaderValue::from_str(text).map_err(|_| RuleError::ContentType(text.to_owned()))
                });
                Ok(Self::Fixed {
                    status: StatusCode::from_u16(*status)
                        .ok()
                        .filter(|status| (200..600).contains(&status.as_u16()))
                        .ok_or(RuleError::Status(*status))?,
                    content_type: content_type.transpose()?,
                    body: Bytes::from(body.clone()),
                })
            }
        }
    }
}

impl Rule {
    /// Whether the rule can be understood.
    ///
    /// # Errors
    ///
    /// The first thing in it that can't.
    pub fn check(&self) -> Result<(), RuleError> {
        CompiledRule::renew(None, self).map(|_| ())
    }
}

#[cfg(test)]
mod tests;
