//! The axum application: from bytes to an action and back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use coracle_protocol::{ApiError, Wire, cbor, query};
use coracle_types::Region;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde_json::{Value, json};

use crate::api::{Api, Caller};
use crate::auth::{self, Principal, Signature};
use crate::dispatch::{self, Operation, Protocol, Service, form_value};
use crate::encoding::decoded;
use crate::secrets::{manager, parameters};
use crate::{acm, admin, audit, cloudwatch, ecs, elb, exec, iam, logs, sts};

/// The largest request of an action, in bytes. The largest real ones, task definitions, have 64 KiB.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How deep a request may be nested. What is kept is stored inside other JSON, which must stay below the
/// 128 levels it can be read back with; AWS's own shapes have a dozen.
const DEPTH_MAX: usize = 32;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

const JSON: &str = "application/x-amz-json-1.1";
const XML: &str = "text/xml";
const CBOR: &str = "application/cbor";
const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The application: every service on one port, and Coracle's own endpoints below `/_coracle/`.
pub fn app(api: Api) -> Router {
    let allow_reset = api.config.allow_reset;
    let router = Router::new()
        .route("/metrics", get(admin::metrics))
        .route("/_coracle/health", get(admin::health))
        .route("/_coracle/exec/{session}", get(exec::connect))
        .route("/_coracle/images", get(admin::images).post(admin::push));
    let router = if allow_reset { router.route("/_coracle/reset", post(admin::reset)) } else { router };
    router.fallback(front).with_state(Arc::new(api))
}

/// A new random id. The process's own generator makes it: the system's would be one more call into the kernel.
pub(crate) fn new_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// Everything that is not one of our own endpoints.
async fn front(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    if path.starts_with("/_coracle/") {
        return admin::not_found(path);
    }
    let named = parts.uri.query().is_some_and(|query| form_value(query, "Action").is_some());
    match parts.method {
        Method::POST => action(api, parts, body).await,
        Method::GET if named => action(api, parts, body).await,
        // SDKs sign what they send, whatever the method; people with browsers and curl don't.
        _ if matches!(Signature::of(&parts), Ok(Some(_))) => action(api, parts, body).await,
        Method::GET | Method::HEAD if path == "/" => admin::welcome(&parts),
        _ => admin::not_found(path),
    }
}

async fn action(api: Arc<Api>, parts: Parts, body: Body) -> Response {
    let service = Signature::of(&parts).ok().flatten().map(|signature| signature.service);
    let wire =
        dispatch::wire(named(&parts), text(&parts, "content-type"), parts.uri.query(), service.as_deref());
    let query_mode = text(&parts, "x-amzn-query-mode") == Some("true");
    let request_id = new_id();
    // In a task of its own, because a client that hangs up ends this one: an action whose commit is on its
    // way must not give up what it holds until that has arrived. A panic stays in there, too: it is a bug
    // of ours, and must not look like a network failure.
    let performed = {
        let request_id = request_id.clone();
        tokio::spawn(async move { perform(&api, &parts, body, service.as_deref(), &request_id).await })
    };
    let answer = performed.await.unwrap_or_else(|error| {
        tracing::error!(request_id, %error, "an action did not end");
        Err(ApiError::Server(
            "The service could not process the request because of an internal error.".to_owned(),
        ))
    });
    let error = match answer {
        Ok(Answer::Json(value)) => return respond(200, JSON, value.to_string(), &request_id),
        Ok(Answer::Cbor(value)) => return respond_in_cbor(200, &value, &request_id),
        Ok(Answer::Xml(text)) => return respond(200, XML, text, &request_id),
        Err(error) => error,
    };
    let status = error.status(wire);
    let mut response = match wire {
        Wire::Query => return respond(status, XML, error.to_xml(&request_id), &request_id),
        Wire::Json => respond(status, JSON, error.to_json().to_string(), &request_id),
        Wire::Cbor => respond_in_cbor(status, &error.to_json(), &request_id),
    };
    let name = HeaderValue::from_static(error.row().json);
    response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), name);
    // Clients of services that were once spoken in Query know errors by the codes they had there.
    if query_mode && let Ok(code) = HeaderValue::from_str(&format!("{};{}", error.row().query, error.fault()))
    {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-query-error"), code);
    }
    response
}

enum Answer {
    Json(Value),
    Cbor(Value),
    Xml(String),
}

async fn perform(
    api: &Api,
    parts: &Parts,
    body: Body,
    service: Option<&str>,
    request_id: &str,
) -> Result<Answer, ApiError> {
    let (caller, body) = admit(api, parts, body, REQUEST_BYTES_MAX).await?;
    let body = decoded(parts, body, REQUEST_BYTES_MAX)?;
    let form = String::from_utf8_lossy(&body);
    let form = if body.is_empty() { parts.uri.query().unwrap_or_default() } else { &form };
    let operation = dispatch::operation(named(parts), form)?
        .ok_or_else(|| dispatch::no_action(parts.method.as_str(), parts.uri.path(), service))?;
    let protocol = operation.protocol();
    let request = match protocol {
        Protocol::Json { .. } => json_body(&body)?,
        Protocol::Cbor { .. } if body.is_empty() => json!({}),
        Protocol::Cbor { .. } => cbor::decode(&body)
            .map_err(|error| ApiError::Serialization(format!("the request body is not CBOR: {error}")))?,
        Protocol::Query { shape, .. } => {
            let shape = shape(&operation.name)
                .ok_or_else(|| dispatch::unknown_operation(operation.service, &operation.name))?;
            query::decode(form, shape)?
        }
    };
    let is_noted = !operation.is_read_only() || operation.reveals_secrets(&request);
    let noted = api.audit.as_ref().filter(|_| is_noted).map(|log| (log, request.clone()));
    let answer = match auth::authorize(api, &caller, &operation, &request) {
        Ok(()) => call(api, &caller, &operation, request).await,
        Err(denied) => Err(denied),
    };
    if let Some((log, parameters)) = noted {
        let call = audit::Call {
            at: api.now(),
            account: api.account(),
            caller: &caller,
            service: operation.service.prefix(),
            action: &operation.name,
            read_only: operation.is_read_only(),
            user_agent: text(parts, "user-agent"),
            request_id,
            parameters: &parameters,
            error: answer.as_ref().err(),
        };
        log.note(&call).await;
    }
    let answer = answer?;
    Ok(match protocol {
        Protocol::Json { .. } => Answer::Json(answer),
        Protocol::Cbor { .. } => Answer::Cbor(answer),
        Protocol::Query { namespace, .. } => {
            Answer::Xml(query::answer(&operation.name, namespace, &answer, request_id))
        }
    })
}

/// Answers one action of any service.
async fn call(api: &Api, caller: &Caller, operation: &Operation, request: Value) -> Result<Value, ApiError> {
    let name = operation.name.as_str();
    match operation.service {
        Service::Ecs => ecs::call(api, caller, name, request).await,
        Service::Elb => elb::call(api, caller, name, request).await,
        Service::Acm => acm::call(api, caller, name, request).await,
        Service::CloudWatch => cloudwatch::call(api, caller, name, request, operation.wire).await,
        Service::Logs => logs::call(api, caller, name, request).await,
        Service::SecretsManager => manager::call(api, caller, name, request).await,
        Service::Ssm => parameters::call(api, caller, name, request).await,
        Service::Sts => sts::call(api, caller, name, request),
        Service::Iam => iam::call(api, caller, name, request).await,
    }
}

/// What names the action of a request, beside its form.
fn named(parts: &Parts) -> dispatch::Named<'_> {
    dispatch::Named {
        target: text(parts, "x-amz-target"),
        smithy: text(parts, SMITHY_PROTOCOL.as_str()),
        path: parts.uri.path(),
    }
}

/// A header's value.
fn text<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// Reads a request's body, of at most `bytes_max`, and checks its signature if that is required.
///
/// # Errors
/// When the signature is missing or wrong, or the body too large or too slow.
pub(crate) async fn admit(
    api: &Api,
    parts: &Parts,
    body: Body,
    bytes_max: usize,
) -> Result<(Caller, Bytes), ApiError> {
    if !api.config.require_signatures {
        // Whatever it was signed with, if it was: only the region counts.
        let signature = Signature::of(parts).ok().flatten();
        return Ok((caller(api, parts, Principal::Root, signature), read(body, bytes_max).await?));
    }
    let state = api.store.snapshot();
    let claim = auth::identify(&api.config.access_keys, &state, &api.sealer, parts, api.now())?;
    drop(state);
    let body = read(body, bytes_max).await?;
    let (principal, signature) = claim.verify(parts, &body)?;
    Ok((caller(api, parts, principal, Some(signature)), body))
}

fn caller(api: &Api, parts: &Parts, principal: Principal, signature: Option<Signature>) -> Caller {
    let region = signature.as_ref().and_then(|signature| signature.region.parse::<Region>().ok());
    let host = text(parts, "host").or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    let source = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    Caller {
        region: region.unwrap_or_else(|| api.config.default_region.clone()),
        host: host.map(str::to_owned),
        principal,
        access_key: signature.map(|signature| signature.access_key),
        source,
    }
}

async fn read(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge { bytes_max }),
        Ok(Err(error)) => {
            Err(ApiError::Serialization(format!("the request body could not be read: {error}")))
        }
        Err(_) => Err(ApiError::Serialization("the request body did not arrive in time".to_owned())),
    }
}

fn json_body(body: &[u8]) -> Result<Value, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(json!({}));
    }
    let body: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::Serialization(format!("the request body is not JSON: {error}")))?;
    if is_deeper(&body, DEPTH_MAX) {
        return Err(ApiError::Serialization(format!(
            "the request body is nested deeper than {DEPTH_MAX} levels"
        )));
    }
    Ok(body)
}

/// Whether lists and objects are nested in each other more than `levels` deep. Recursion is bounded:
/// serde_json itself refuses more than 128 levels.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let inner = |value: &Value| is_deeper(value, levels - 1);
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(inner),
        Value::Object(members) => levels == 0 || members.values().any(inner),
        _ => false,
    }
}

fn respond_in_cbor(status: u16, value: &Value, request_id: &str) -> Response {
    let mut response = respond(status, CBOR, cbor::encode(value), request_id);
    response.headers_mut().insert(SMITHY_PROTOCOL, HeaderValue::from_static(dispatch::RPC_V2_CBOR));
    response
}

fn respond(status: u16, content_type: &'static str, body: impl Into<Body>, request_id: &str) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}
