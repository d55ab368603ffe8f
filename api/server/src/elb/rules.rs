//! Rules of listeners.

use std::collections::BTreeMap;

use coracle_protocol::elb::catalogue::limits;
use coracle_protocol::elb::listener::{encode_default_rule, encode_rule, parse_listener, parse_rule};
use coracle_protocol::elb::{ElbCode, action, condition, nothing, page, take_tags};
use coracle_protocol::object::{Object, list};
use coracle_protocol::{ApiError, Members};
use coracle_types::elb::{Condition, ElbArn, Listener, Rule, RuleId, Transform};
use coracle_types::{Changes, Key, State};
use serde_json::Value;

use super::{find, listeners, number};
use crate::api::{Api, Caller};

const PRIORITY_MAX: u32 = 50_000;
/// How large a compiled regular expression may be, in bytes: what a rule can cost is bounded.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// CreateRule.
pub(super) async fn create(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let listener = listeners::take(&mut members)?;
    let priority = members
        .integer_in("Priority", 1..=PRIORITY_MAX)?
        .ok_or_else(|| ApiError::Client("A priority must be specified".to_owned()))?;
    let conditions = condition::take(&mut members)?.filter(|conditions| !conditions.is_empty());
    let conditions =
        conditions.ok_or_else(|| ApiError::Client("At least one condition must be specified".to_owned()))?;
    let action = action::take(&mut members, "Actions")?
        .ok_or_else(|| ApiError::Client("A rule must have an action".to_owned()))?;
    let transforms = condition::take_transforms(&mut members)?.unwrap_or_default();
    check_regexes(&conditions, &transforms)?;
    let tags = take_tags(&mut members)?;
    let id = RuleId { listener: listener.clone(), number: number() };
    let rule = Rule { id, priority, conditions, action, transforms, tags };
    api.transact(|state| {
        find::listener(state, caller, &listener)?;
        find::possible(state, api, caller, &listener.load_balancer, &rule.action)?;
        if state.rules_of(&listener).any(|other| other.priority == priority) {
            return Err(in_use(priority));
        }
        let all: usize =
            state.listeners_of(&listener.load_balancer).map(|one| state.rules_of(&one.id).count()).sum();
        if all >= limits::RULES {
            return Err(ElbCode::TooManyRules
                .because(format_args!("A load balancer can have at most {} rules", limits::RULES))
                .into());
        }
        let mut changes = Changes::new();
        changes.put(rule.clone());
        Ok((changes, ()))
    })
    .await?;
    Ok(Object::new().with("Rules", list([encode_rule(&rule, api.account())])).into())
}

fn in_use(priority: u32) -> ApiError {
    ElbCode::PriorityInUse.because(format_args!("Priority '{priority}' is currently in use")).into()
}

/// Whether the router will be able to compile every regular expression.
fn check_regexes(conditions: &[Condition], transforms: &[Transform]) -> Result<(), ApiError> {
    for text in condition::regexes(conditions, transforms) {
        let built = regex::RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
        built.map_err(|error| {
            ApiError::Client(format!("'{text}' is not a regular expression that can be used here: {error}"))
        })?;
    }
    Ok(())
}

fn not_found() -> ApiError {
    ElbCode::RuleNotFound.because("One or more rules not found").into()
}

/// A rule by its id: one of its own, or a listener's default one.
enum Found {
    Own(std::sync::Arc<Rule>),
    Default(std::sync::Arc<Listener>),
}

fn find_rule(state: &State, caller: &Caller, id: &RuleId) -> Result<Found, ApiError> {
    let listener = find::listener(state, caller, &id.listener).map_err(|_| not_found())?;
    match state.rules.get(id) {
        Some(found) => Ok(Found::Own(found.value.clone())),
        None if listener.default_rule == id.number => Ok(Found::Default(listener)),
        None => Err(not_found()),
    }
}

/// DescribeRules: in the order they are tried, the default rule last.
pub(super) fn describe(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let page = page::take(&mut members)?;
    let listener = members.text("ListenerArn")?;
    let arns = members.texts("RuleArns")?.unwrap_or_default();
    let state = api.store.snapshot();
    let account = api.account();
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    let mut add = |found: &Found| match found {
        Found::Own(rule) => {
            let key = format!("{:05} {}", rule.priority, ElbArn::new(account, rule.id.clone()));
            wanted.insert(key, encode_rule(rule, account));
        }
        Found::Default(listener) => {
            let key = format!("default {}", ElbArn::new(account, listener.id.clone()));
            wanted.insert(key, encode_default_rule(listener, account));
        }
    };
    match (listener, arns.is_empty()) {
        (Some(arn), true) => {
            let listener = find::listener(&state, caller, &parse_listener(&arn)?)?;
            state.rules_of(&listener.id).for_each(|rule| add(&Found::Own(rule.clone())));
            add(&Found::Default(listener));
        }
        (None, false) => {
            for arn in arns {
                add(&find_rule(&state, caller, &parse_rule(&arn)?)?);
            }
        }
        _ => return Err(ApiError::Client("You must specify either listener ARN or rule ARNs".to_owned())),
    }
    page::of(&page, "Rules", wanted)
}

/// ModifyRule. What is not given stays.
pub(super) async fn modify(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = parse_rule(&members.required_text("RuleArn")?)?;
    let conditions = condition::take(&mut members)?.filter(|conditions| !conditions.is_empty());
    let action = action::take(&mut members, "Actions")?;
    let reset = members.flag("ResetTransforms")?.unwrap_or(false);
    let transforms = condition::take_transforms(&mut members)?;
    if reset && transforms.is_some() {
        return Err(ApiError::Client("You cannot specify both Transforms and ResetTransforms".to_owned()));
    }
    let transforms = if reset { Some(Vec::new()) } else { transforms };
    check_regexes(conditions.as_deref().unwrap_or_default(), transforms.as_deref().unwrap_or_default())?;
    let (_, shown) = api
        .transact(|state| {
            let mut changes = Changes::new();
            if let Some(action) = &action {
                find::possible(state, api, caller, &id.listener.load_balancer, action)?;
            }
            let shown = match find_rule(state, caller, &id)? {
                Found::Own(rule) => {
                    let mut rule = Rule::clone(&rule);
                    rule.conditions = conditions.clone().unwrap_or(rule.conditions);
                    rule.action = action.clone().unwrap_or(rule.action);
                    rule.transforms = transforms.clone().unwrap_or(rule.transforms);
                    let shown = encode_rule(&rule, api.account());
                    changes.put(rule);
                    shown
                }
                Found::Default(listener) => {
                    let only_action = conditions.is_none() && transforms.is_none();
                    let action = action.clone().filter(|_| only_action).ok_or_else(|| {
                        let arn = ElbArn::new(api.account(), id.clone());
                        ElbCode::OperationNotPermitted
                            .because(format_args!("Only the action of default rule '{arn}' can be modified"))
                    })?;
                    let listener = Listener { default_action: action, ..Listener::clone(&listener) };
                    let shown = encode_default_rule(&listener, api.account());
                    changes.put(listener);
                    shown
                }
            };
            Ok((changes, shown))
        })
        .await?;
    Ok(Object::new().with("Rules", list([shown])).into())
}

/// SetRulePriorities: all of them or none.
pub(super) async fn set_priorities(
    api: &Api,
    caller: &Caller,
    mut members: Members,
) -> Result<Value, ApiError> {
    let mut wanted = BTreeMap::new();
    for mut item in members.objects("RulePriorities")?.unwrap_or_default() {
        let id = parse_rule(&item.required_text("RuleArn")?)?;
        let priority = item.integer_in("Priority", 1..=PRIORITY_MAX)?;
        wanted.insert(id, priority.ok_or_else(|| item.missing("Priority"))?);
    }
    if wanted.is_empty() {
        return Err(members.missing("RulePriorities"));
    }
    let (_, rules) = api
        .transact(|state| {
            let mut changes = Changes::new();
            let mut changed = Vec::new();
            for (id, priority) in &wanted {
                match find_rule(state, caller, id)? {
                    Found::Own(rule) => changed.push(Rule { priority: *priority, ..Rule::clone(&rule) }),
                    Found::Default(_) => {
                        let arn = ElbArn::new(api.account(), id.clone());
                        return Err(ElbCode::OperationNotPermitted
                            .because(format_args!("Priority of default rule '{arn}' cannot be modified"))
                            .into());
                    }
                }
            }
            for rule in &changed {
                let unchanged =
                    state.rules_of(&rule.id.listener).filter(|other| !wanted.contains_key(&other.id));
                let others = changed
                    .iter()
                    .filter(|other| other.id != rule.id && other.id.listener == rule.id.listener);
                let mut taken =
                    unchanged.map(|other| other.priority).chain(others.map(|other| other.priority));
                if taken.any(|priority| priority == rule.priority) {
                    return Err(in_use(rule.priority));
                }
            }
            changed.iter().for_each(|rule| changes.put(rule.clone()));
            Ok((changes, changed))
        })
        .await?;
    let rules = rules.iter().map(|rule| encode_rule(rule, api.account()));
    Ok(Object::new().with("Rules", list(rules)).into())
}

/// DeleteRule.
pub(super) async fn delete(api: &Api, caller: &Caller, mut members: Members) -> Result<Value, ApiError> {
    let id = parse_rule(&members.required_text("RuleArn")?)?;
    api.transact(|state| {
        let mut changes = Changes::new();
        match find_rule(state, caller, &id)? {
            Found::Own(_) => changes.delete(Key::Rule(id.clone())),
            Found::Default(_) => {
                let arn = ElbArn::new(api.account(), id.clone());
                return Err(ElbCode::OperationNotPermitted
                    .because(format_args!("Default rule '{arn}' cannot be deleted"))
                    .into());
            }
        }
        Ok((changes, ()))
    })
    .await?;
    Ok(nothing())
}
