//! Parameter Store: parameters and their versions.

use std::sync::Arc;

use coracle_protocol::ecs::tag::nothing;
use coracle_protocol::members::Refusal;
use coracle_protocol::ssm as wire;
use coracle_protocol::{ApiError, Members, Object};
use coracle_types::parameter::{
    PARAMETER_VERSIONS_MAX, Parameter, ParameterId, ParameterKind, ParameterVersion,
};
use coracle_types::{Changes, Key, Region, State, Tags};
use regex::RegexBuilder;
use serde_json::Value;

use crate::api::{Api, Caller};
use crate::dispatch::{Service, unknown_operation};
use crate::seal::Sealer;

/// The largest value of a standard parameter and of an advanced one, in bytes.
const STANDARD_BYTES_MAX: usize = 4096;
const ADVANCED_BYTES_MAX: usize = 8192;

/// The deepest path.
const LEVELS_MAX: usize = 15;

/// Answers one action.
///
/// # Errors
/// Whatever the action is refused for.
pub(crate) async fn call(
    api: &Api,
    caller: &Caller,
    operation: &str,
    body: Value,
) -> Result<Value, ApiError> {
    let members = Members::of_body(body, Refusal::Validation)?;
    match operation {
        "PutParameter" => put(api, caller, wire::PutParameter::decode(members)?).await,
        "GetParameter" => {
            let request = wire::GetParameter::decode(members)?;
            let parameter = get(api, caller, &request.name, request.decrypt)?;
            Ok(Object::new().with("Parameter", parameter).into())
        }
        "GetParameters" => get_several(api, caller, &wire::NamedParameters::decode(members)?),
        "GetParametersByPath" => list(api, caller, &wire::ListParameters::decode_by_path(members)?),
        "DescribeParameters" => list(api, caller, &wire::ListParameters::decode_describe(members)?),
        "GetParameterHistory" => history(api, caller, &wire::GetParameterHistory::decode(members)?),
        "DeleteParameter" => {
            let name = wire::decode_name(members)?;
            let (deleted, _) = delete(api, caller, vec![name]).await?;
            if deleted.is_empty() { Err(not_found()) } else { Ok(nothing()) }
        }
        "DeleteParameters" => {
            let (deleted, invalid) =
                delete(api, caller, wire::NamedParameters::decode(members)?.names).await?;
            Ok(Object::new().with("DeletedParameters", deleted).with("InvalidParameters", invalid).into())
        }
        unknown => Err(unknown_operation(Service::Ssm, unknown)),
    }
}

fn named(code: &'static str, message: impl Into<String>) -> ApiError {
    ApiError::Named { code, message: message.into() }
}

fn validation(message: impl Into<String>) -> ApiError {
    named("ValidationException", message)
}

fn not_found() -> ApiError {
    // AWS says no more.
    named("ParameterNotFound", "Parameter not found.")
}

/// A name from a name or an ARN, and what follows the colon: a version.
fn parse_name(given: &str) -> (String, Option<&str>) {
    let name = match given.strip_prefix("arn:") {
        Some(rest) => match rest.split_once(":parameter/") {
            // `/a/b` and `a` have the ARNs `…:parameter/a/b` and `…:parameter/a`.
            Some((_, name)) if name.split(':').next().is_some_and(|name| name.contains('/')) => {
                return split_selector(format!("/{name}"), given);
            }
            Some((_, name)) => name,
            None => given,
        },
        None => given,
    };
    split_selector(name.to_owned(), given)
}

/// A parameter's name from its name or ARN, without what selects a version.
pub(crate) fn plain_name(given: &str) -> String {
    parse_name(given).0
}

fn split_selector(name: String, given: &str) -> (String, Option<&str>) {
    match name.split_once(':') {
        Some((plain, _)) => (plain.to_owned(), given.rsplit_once(':').map(|(_, selector)| selector)),
        None => (name, None),
    }
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let plain = |char: char| char.is_ascii_alphanumeric() || "._-/".contains(char);
    if !name.chars().all(plain) || name.len() > 1011 || name.ends_with('/') || name.contains("//") {
        return Err(validation(
            "Parameter name: can't be prefixed with \"ssm\" (case-insensitive). If formed as a path, it can consist \
             of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the \
             following 3 symbols .-_",
        ));
    }
    if name.contains('/') && !name.starts_with('/') {
        return Err(validation("Parameter name must be a fully qualified name: a path begins with a slash."));
    }
    let first = name.trim_start_matches('/').to_ascii_lowercase();
    if first.starts_with("aws") || first.starts_with("ssm") {
        return Err(validation(format!(
            "Parameter name: can't be prefixed with \"aws\" or \"ssm\" (case-insensitive): {name}"
        )));
    }
    if name.matches('/').count() > LEVELS_MAX {
        return Err(named(
            "HierarchyLevelLimitExceededException",
            format!("A hierarchy can have a maximum of {LEVELS_MAX} levels."),
        ));
    }
    Ok(())
}

fn check_pattern(pattern: &str, value: &str) -> Result<(), ApiError> {
    let expression =
        RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build().map_err(|_| {
            named(
                "InvalidAllowedPatternException",
                "The request doesn't meet the regular expression requirement.",
            )
        })?;
    if expression.is_match(value) {
        return Ok(());
    }
    Err(named(
        "ParameterPatternMismatchException",
        format!("Parameter value, cannot be validated against allowedPattern: {pattern}"),
    ))
}

async fn put(api: &Api, caller: &Caller, request: wire::PutParameter) -> Result<Value, ApiError> {
    check_name(&request.name)?;
    if request.overwrite && !request.tags.is_empty() {
        return Err(validation(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please \
             remove overwrite flag.",
        ));
    }
    let tier = match request.tier.as_deref() {
        Some("Advanced") => "Advanced",
        Some("Intelligent-Tiering") if request.value.len() > STANDARD_BYTES_MAX => "Advanced",
        _ => "Standard",
    };
    let most = if tier == "Advanced" { ADVANCED_BYTES_MAX } else { STANDARD_BYTES_MAX };
    if request.value.len() > most {
        return Err(validation(format!(
            "{tier} tier parameters support a maximum parameter value of {most} characters."
        )));
    }
    let id = ParameterId { region: caller.region.clone(), name: request.name.clone() };
    let mut tags = Tags::default();
    tags.merge(request.tags.clone()).map_err(|error| validation(error.to_string()))?;
    let now = api.now();
    let (_, number) = api
        .transact(|state| {
            let known = state.parameters.get(&id).map(|found| Parameter::clone(&found.value));
            if known.is_some() && !request.overwrite {
                return Err(named(
                    "ParameterAlreadyExists",
                    "The parameter already exists. To overwrite this value, set the overwrite option in the request \
                     to true.",
                ));
            }
            let before = known.as_ref().map(Parameter::latest);
            let kind = request.kind.or(before.map(|before| before.kind)).ok_or_else(|| {
                validation("A parameter type is required when you create a parameter.")
            })?;
            let allowed_pattern = request
                .allowed_pattern
                .clone()
                .or_else(|| before.and_then(|before| before.allowed_pattern.clone()));
            if let Some(pattern) = &allowed_pattern {
                check_pattern(pattern, &request.value)?;
            }
            let number = before.map_or(1, |before| before.number + 1);
            let context = Parameter::seal_context(&id, number);
            let secure_key = (kind == ParameterKind::Secure).then(|| "alias/aws/ssm".to_owned());
            let version = ParameterVersion {
                number,
                kind,
                sealed: api.sealer.seal(&context, request.value.as_bytes()),
                modified_at: now,
                description: request
                    .description
                    .clone()
                    .or_else(|| before.and_then(|before| before.description.clone())),
                key_id: request.key_id.clone().or(secure_key),
                allowed_pattern,
                tier: tier.to_owned(),
                data_type: request.data_type.clone().unwrap_or_else(|| "text".to_owned()),
            };
            let mut parameter = known.unwrap_or_else(|| Parameter {
                id: id.clone(),
                tags: tags.clone(),
                versions: Vec::new(),
            });
            parameter.versions.push(version);
            if parameter.versions.len() > PARAMETER_VERSIONS_MAX {
                parameter.versions.remove(0);
            }
            let mut changes = Changes::new();
            changes.put(parameter);
            Ok((changes, number))
        })
        .await?;
    Ok(Object::new().with("Version", number).with("Tier", tier).into())
}

/// The version of a parameter that a name, perhaps with a selector, means.
fn find<'a>(
    state: &'a State,
    region: &Region,
    given: &str,
) -> Result<(&'a Arc<Parameter>, &'a ParameterVersion, Option<String>), ApiError> {
    let (name, selector) = parse_name(given);
    let id = ParameterId { region: region.clone(), name };
    let parameter = state.parameters.get(&id).map(|found| &found.value).ok_or_else(not_found)?;
    let version = match selector {
        None => Some(parameter.latest()),
        // There are no labels here, so a selector is a number.
        Some(selector) => selector
            .parse()
            .ok()
            .and_then(|number: u64| parameter.versions.iter().find(|version| version.number == number)),
    };
    let version = version.ok_or_else(|| {
        named(
            "ParameterVersionNotFound",
            format!(
                "Systems Manager could not find version {} of {}. Verify the version and try again.",
                selector.unwrap_or_default(),
                id.name
            ),
        )
    })?;
    Ok((parameter, version, selector.map(|selector| format!(":{selector}"))))
}

/// A value in the clear.
fn open(sealer: &Sealer, id: &ParameterId, version: &ParameterVersion) -> Result<String, ApiError> {
    let opened = sealer.open_sealed(&Parameter::seal_context(id, version.number), &version.sealed);
    let bytes = opened.map_err(|error| {
        tracing::error!(parameter = %id.name, %error, "a parameter was not opened");
        named("InternalServerError", "The parameter's value could not be decrypted.")
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What a caller sees of a value: a secure one that is not to be decrypted stays sealed.
fn shown(
    sealer: &Sealer,
    id: &ParameterId,
    version: &ParameterVersion,
    decrypt: bool,
) -> Result<String, ApiError> {
    if version.kind == ParameterKind::Secure && !decrypt {
        return Ok(version.sealed.clone());
    }
    open(sealer, id, version)
}

/// The value of a parameter for a task, in the clear.
pub(crate) fn read(state: &State, sealer: &Sealer, region: &Region, given: &str) -> Result<String, ApiError> {
    let (parameter, version, _) = find(state, region, given)?;
    open(sealer, &parameter.id, version)
}

fn get(api: &Api, caller: &Caller, given: &str, decrypt: bool) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (parameter, version, selector) = find(&state, &caller.region, given)?;
    let value = shown(&api.sealer, &parameter.id, version, decrypt)?;
    Ok(wire::parameter(api.account(), &parameter.id, version, value, selector))
}

fn get_several(api: &Api, caller: &Caller, request: &wire::NamedParameters) -> Result<Value, ApiError> {
    let (mut parameters, mut invalid) = (Vec::new(), Vec::new());
    for name in &request.names {
        match get(api, caller, name, request.decrypt) {
            Ok(parameter) => parameters.push(parameter),
            Err(ApiError::Named { code: "ParameterNotFound" | "ParameterVersionNotFound", .. }) => {
                invalid.push(name.clone());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Object::new().with("Parameters", parameters).with("InvalidParameters", invalid).into())
}

fn list(api: &Api, caller: &Caller, request: &wire::ListParameters) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let after =
        ParameterId { region: caller.region.clone(), name: request.token.clone().unwrap_or_default() };
    let mut found = state
        .parameters
        .range(after.clone()..)
        .map(|(_, found)| &found.value)
        .take_while(|parameter| parameter.id.region == caller.region)
        .filter(|parameter| parameter.id != after)
        .filter(|parameter| {
            let path = request.path.as_deref();
            path.is_none_or(|path| is_below(&parameter.id.name, path, request.recursive))
        })
        .filter(|parameter| request.filters.iter().all(|filter| matches(parameter, filter)));
    let page: Vec<&Arc<Parameter>> = found.by_ref().take(request.limit).collect();
    let more = found.next().is_some();
    let next = page.last().filter(|_| more).map(|last| last.id.name.clone());
    let shown = page.into_iter().map(|parameter| {
        if request.path.is_none() {
            return Ok(wire::described(api.account(), parameter));
        }
        let version = parameter.latest();
        let value = shown(&api.sealer, &parameter.id, version, request.decrypt)?;
        Ok(wire::parameter(api.account(), &parameter.id, version, value, None))
    });
    Ok(wire::list_answer(shown.collect::<Result<_, ApiError>>()?, next))
}

/// Whether a name lies below a path: right below it, or anywhere.
fn is_below(name: &str, path: &str, recursive: bool) -> bool {
    let path = path.trim_end_matches('/');
    let rest = name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/'));
    rest.is_some_and(|rest| recursive || !rest.contains('/'))
}

fn matches(parameter: &Parameter, filter: &wire::ParameterFilter) -> bool {
    use coracle_protocol::names::Named as _;
    let latest = parameter.latest();
    let option = filter.option.as_deref().unwrap_or("Equals");
    let compare = |text: &str, value: &String| match option {
        "BeginsWith" => text.starts_with(value.as_str()),
        "Contains" => text.contains(value.as_str()),
        _ => text == value,
    };
    let any = |text: &str| filter.values.iter().any(|value| compare(text, value));
    match filter.key.as_str() {
        // A name is the same with and without the slash before it.
        "Name" => any(&parameter.id.name) || any(parameter.id.name.trim_start_matches('/')),
        "Type" => any(latest.kind.name()),
        "KeyId" => latest.key_id.as_deref().is_some_and(any),
        "Tier" => any(&latest.tier),
        "DataType" => any(&latest.data_type),
        "Path" => filter.values.iter().any(|path| is_below(&parameter.id.name, path, option == "Recursive")),
        key => {
            let tag = key.strip_prefix("tag:").unwrap_or(key);
            parameter
                .tags
                .iter()
                .any(|(known, value)| known == tag && (filter.values.is_empty() || any(value)))
        }
    }
}

fn history(api: &Api, caller: &Caller, request: &wire::GetParameterHistory) -> Result<Value, ApiError> {
    let state = api.store.snapshot();
    let (parameter, ..) = find(&state, &caller.region, &request.name)?;
    let after: u64 = match &request.token {
        None => 0,
        Some(token) => {
            token.parse().map_err(|_| named("InvalidNextToken", "The specified token isn't valid."))?
        }
    };
    let mut versions = parameter.versions.iter().filter(|version| version.number > after);
    let page: Vec<&ParameterVersion> = versions.by_ref().take(request.limit).collect();
    let next = versions.next().and(page.last()).map(|last| last.number.to_string());
    let shown = page.into_iter().map(|version| {
        let value = shown(&api.sealer, &parameter.id, version, request.decrypt)?;
        Ok(wire::historic(api.account(), &parameter.id, version, value))
    });
    Ok(wire::list_answer(shown.collect::<Result<_, ApiError>>()?, next))
}

/// Deletes parameters; answers which there were and which there were not.
async fn delete(
    api: &Api,
    caller: &Caller,
    names: Vec<String>,
) -> Result<(Vec<String>, Vec<String>), ApiError> {
    let (_, answer) = api
        .transact(|state| {
            let mut changes = Changes::new();
            let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
            for given in &names {
                let (name, _) = parse_name(given);
                let id = ParameterId { region: caller.region.clone(), name };
                if state.parameters.get(&id).is_some() {
                    changes.delete(Key::Parameter(id));
                    deleted.push(given.clone());
                } else {
                    invalid.push(given.clone());
                }
            }
            Ok((changes, (deleted, invalid)))
        })
        .await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_arns_and_selectors() {
        for (given, name, selector) in [
            ("/prod/db", "/prod/db", None),
            ("/prod/db:3", "/prod/db", Some("3")),
            ("plain", "plain", None),
            ("arn:aws:ssm:us-east-1:1:parameter/prod/db", "/prod/db", None),
            ("arn:aws:ssm:us-east-1:1:parameter/prod/db:7", "/prod/db", Some("7")),
            ("arn:aws:ssm:us-east-1:1:parameter/plain", "plain", None),
        ] {
            assert_eq!(parse_name(given), (name.to_owned(), selector), "{given}");
        }
    }

    #[test]
    fn paths() {
        assert!(is_below("/a/b", "/a", false) && is_below("/a/b", "/a/", false));
        assert!(!is_below("/a/b/c", "/a", false) && is_below("/a/b/c", "/a", true));
        assert!(!is_below("/ab", "/a", true) && is_below("/a", "/", false));
    }
}
