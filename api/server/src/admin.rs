//! Coracle's own endpoints: health, metrics, images, reset, and a word for whoever opens the port in a
//! browser.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use coracle_protocol::{ApiError, Wire};
use coracle_registry::{ImageReference, RegistryError};
use coracle_types::{Changes, Key};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::api::{Api, Caller};
use crate::audit;
use crate::auth::authorize_own;
use crate::dispatch::form_value;
use crate::http::admit;

/// The largest image that can be pushed, in bytes; the registry's own bound.
const IMAGE_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Own endpoints without a body take none to speak of.
const EMPTY_BYTES_MAX: usize = 64 * 1024;

/// `GET /_coracle/health`: the process answers, and this is the state's revision.
pub(crate) async fn health(State(api): State<Arc<Api>>) -> Response {
    json_response(StatusCode::OK, &json!({"status": "ok", "revision": api.store.snapshot().revision}))
}

/// `GET /metrics`.
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    text_response("text/plain; version=0.0.4; charset=utf-8", (api.metrics)())
}

/// `GET /_coracle/images`: what was pushed.
pub(crate) async fn images(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(list_images(&api, request).await)
}

async fn list_images(api: &Api, request: Request) -> Result<Value, Refused> {
    let (parts, body) = request.into_parts();
    let (caller, _) = admit(api, &parts, body, EMPTY_BYTES_MAX).await?;
    authorize_own(api, &caller, "ecr:ListImages")?;
    let registry = Arc::clone(&api.registry);
    let images = blocking(move || registry.list()).await??;
    let images: Vec<Value> = images
        .into_iter()
        .map(|image| {
            json!({
                "name": image.name,
                "tag": image.tag,
                "digest": image.digest,
                "size": image.size,
                "pushedAt": coracle_protocol::object::seconds(coracle_types::Timestamp(image.pushed_at_ms)),
            })
        })
        .collect();
    Ok(json!({"images": images}))
}

/// `POST /_coracle/images?reference=NAME:TAG`: the body is the component.
pub(crate) async fn push(State(api): State<Arc<Api>>, request: Request) -> Response {
    answer(push_image(&api, request).await)
}

async fn push_image(api: &Api, request: Request) -> Result<Value, Refused> {
    let (parts, body) = request.into_parts();
    refuse_other_sites(&parts)?;
    let reference = form_value(parts.uri.query().unwrap_or_default(), "reference");
    let reference = reference.filter(|reference| !reference.is_empty()).ok_or_else(|| {
        Refused::new(StatusCode::BAD_REQUEST, "say which image this is: ?reference=NAME:TAG".to_owned())
    })?;
    let reference = ImageReference::parse(&reference).map_err(|error| {
        let shown: String = reference.chars().take(300).collect();
        Refused::new(StatusCode::BAD_REQUEST, format!("{shown:?} is not an image reference: {error}"))
    })?;
    let place = Arc::clone(&api.uploads).acquire_owned().await.map_err(|error| Refused::internal(&error))?;
    let (caller, bytes) = admit(api, &parts, body, IMAGE_BYTES_MAX).await?;
    let parameters = json!({"reference": reference.to_string(), "bytes": bytes.len()});
    permit(api, &parts, &caller, "ecr", "PutImage", &parameters).await?;
    let registry = Arc::clone(&api.registry);
    let pushed = blocking(move || {
        // The bytes are here until the end, also when the client has hung up.
        let _place = place;
        registry.push(&reference, &bytes)
    })
    .await??;
    Ok(json!({"digest": pushed.digest, "size": pushed.size}))
}

/// `POST /_coracle/reset`: forgets everything but connected nodes and identities, and answers when nothing runs any more.
pub(crate) async fn reset(State(api): State<Arc<Api>>, request: Request) -> Response {
    // In a task of its own, because a client that hangs up ends this one: half a reset would leave the logs
    // and images of what is gone.
    let done = tokio::spawn(async move { reset_everything(&api, request).await }).await;
    answer(done.unwrap_or_else(|error| Err(Refused::internal(&error))))
}

async fn reset_everything(api: &Api, request: Request) -> Result<Value, Refused> {
    let (parts, body) = request.into_parts();
    refuse_other_sites(&parts)?;
    let (caller, _) = admit(api, &parts, body, EMPTY_BYTES_MAX).await?;
    permit(api, &parts, &caller, "coracle", "Reset", &json!({})).await?;
    api.transact(|state| {
        let mut changes = Changes::new();
        for (record, _) in state.records() {
            let stays = match record.key() {
                // A node that is connected is a process and not something anybody made: it stays until it is
                // gone. One that RegisterContainerInstance made goes like everything else.
                Key::Node(id) => state.nodes.get(&id).is_some_and(|node| node.value.agent_connected),
                // Identities stay, or whoever resets could not sign the next request.
                Key::User(_) | Key::Group(_) | Key::AccessKey(_) | Key::Role(_) | Key::ManagedPolicy(_) => {
                    true
                }
                _ => false,
            };
            if !stays {
                changes.delete(record.key());
            }
        }
        Ok((changes, ()))
    })
    .await?;
    (api.reset)().await;
    api.metric_data.clear();
    // Last, because what was stopping may have gone on writing until now.
    let (logs, registry) = (api.logs.clone(), Arc::clone(&api.registry));
    blocking(move || logs.clear()).await?.map_err(|error| Refused::internal(&error))?;
    blocking(move || registry.clear()).await??;
    Ok(json!({}))
}

/// Asks whether the caller may change something that is not an action of an AWS service, and notes the
/// answer in the audit log.
async fn permit(
    api: &Api,
    parts: &Parts,
    caller: &Caller,
    service: &str,
    action: &str,
    parameters: &Value,
) -> Result<(), ApiError> {
    let permitted = authorize_own(api, caller, &format!("{service}:{action}"));
    if let Some(log) = &api.audit {
        let call = audit::Call {
            at: api.now(),
            account: api.account(),
            caller,
            service,
            action,
            read_only: false,
            user_agent: parts.headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()),
            request_id: &crate::http::new_id(),
            parameters,
            error: permitted.as_ref().err(),
        };
        log.note(&call).await;
    }
    permitted
}

/// Refuses what a page of another site makes a browser send. Actions need headers that a page can't send
/// without asking first; our own endpoints do not, and on a developer's machine often no keys either.
fn refuse_other_sites(parts: &Parts) -> Result<(), Refused> {
    let text = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text("host").or_else(|| parts.uri.authority().map(|authority| authority.as_str()));
    let is_ours = |origin: &str| origin.split_once("://").map(|(_, authority)| authority) == host;
    if text("origin").is_none_or(is_ours) {
        return Ok(());
    }
    Err(Refused::new(StatusCode::FORBIDDEN, "pages of other sites may not do this".to_owned()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refused::internal(&error))
}

/// `GET /`.
pub(crate) fn welcome(parts: &Parts) -> Response {
    let host =
        parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:4566");
    text_response(
        "text/plain; charset=utf-8",
        format!(
            "Coracle: Amazon ECS for WebAssembly components.\n\n\
             This is the API endpoint. Point the AWS CLI or any AWS SDK at it:\n\n    \
             export AWS_ENDPOINT_URL=http://{host}\n    \
             aws ecs list-clusters\n    \
             aws ecs list-services\n    \
             aws ecs list-tasks\n\n\
             Health: /_coracle/health   Images: /_coracle/images   Metrics: /metrics\n"
        ),
    )
}

/// Any path that means nothing.
pub(crate) fn not_found(path: &str) -> Response {
    let shown: String = path.chars().take(200).collect();
    let hint = format!(
        "there is nothing at {shown}; AWS clients POST to / (AWS_ENDPOINT_URL points them here), and GET / says more"
    );
    json_response(StatusCode::NOT_FOUND, &json!({"message": hint}))
}

/// Why one of our own endpoints did not do what it was asked.
struct Refused {
    status: StatusCode,
    message: String,
}

impl Refused {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message }
    }

    fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error, "one of Coracle's own endpoints failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        let status =
            StatusCode::from_u16(error.status(Wire::Query)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.to_string())
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::NotWasm { .. }
            | RegistryError::DigestMismatch { .. }
            | RegistryError::TooManyVersions { .. } => Self::new(StatusCode::BAD_REQUEST, error.to_string()),
            RegistryError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
            RegistryError::DamagedRecord { .. } | RegistryError::Io { .. } => Self::internal(&error),
        }
    }
}

fn answer(result: Result<Value, Refused>) -> Response {
    match result {
        Ok(value) => json_response(StatusCode::OK, &value),
        Err(refused) => json_response(refused.status, &json!({"message": refused.message})),
    }
}

pub(crate) fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = text_response("application/json", format!("{value}\n"));
    *response.status_mut() = status;
    response
}

fn text_response(content_type: &'static str, text: String) -> Response {
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
