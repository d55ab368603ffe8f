//! A small client of the API for the commands that are clients of it (`ps`, `logs`, `push`, `apply`, …): the
//! same requests the AWS SDKs send, signed with the same credentials.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use coracle_protocol::{ecs, elb, logs, query_client, secretsmanager, ssm};
use http::StatusCode;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::cli::ApiArgs;

/// No answer of the API is longer.
const MAX_ANSWER: usize = 64 << 20;
/// How long an answer may take. A push of a large component is the slowest.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Talks to one endpoint.
pub(crate) struct ApiClient {
    endpoint: String,
    region: String,
    credentials: Credentials,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// An error the API answered with.
#[derive(Debug)]
pub(crate) struct ApiError {
    /// Its name, such as `ClusterNotFoundException`; Coracle's own endpoints give none.
    pub(crate) name: Option<String>,
    message: String,
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}
impl std::error::Error for ApiError {}

impl ApiClient {
    /// A client as the flags and AWS's environment variables say. Without credentials it signs with
    /// made-up ones, which an API that requires no access key takes.
    pub(crate) fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let region =
            args.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let credentials = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment")
            }
            _ => Credentials::new("coracle", "coracle", None, None, "made up"),
        };
        let endpoint = args.api.trim_end_matches('/').to_owned();
        if !endpoint.starts_with("http://") {
            bail!("the API's address is written http://HOST:PORT, not {endpoint:?}");
        }
        Ok(Self {
            endpoint,
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
            credentials,
            http: Client::builder(TokioExecutor::new()).build_http(),
        })
    }

    /// Where it is.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Calls an ECS operation.
    pub(crate) async fn ecs(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        self.json("ecs", ecs::TARGET_PREFIX, operation, body).await
    }

    /// Calls a CloudWatch Logs operation.
    pub(crate) async fn cloudwatch_logs(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        self.json("logs", logs::TARGET_PREFIX, operation, body).await
    }

    /// Calls a Secrets Manager operation.
    pub(crate) async fn secrets(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        self.json("secretsmanager", secretsmanager::TARGET_PREFIX, operation, body).await
    }

    /// Calls an operation of Systems Manager's Parameter Store.
    pub(crate) async fn ssm(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        self.json("ssm", ssm::TARGET_PREFIX, operation, body).await
    }

    /// Calls an ELBv2 operation. In its answer numbers and flags are text.
    pub(crate) async fn elb(&self, operation: &str, body: &Value) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("{}/", self.endpoint))
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let form = query_client::form(operation, elb::VERSION, body);
        let (status, answer) = self.send("elasticloadbalancing", request, form.into()).await?;
        let text = String::from_utf8_lossy(&answer);
        if status.is_success() {
            return query_client::result(operation, &text).ok_or_else(|| self.not_coracle(status));
        }
        let refused = query_client::refused(&text).ok_or_else(|| self.not_coracle(status))?;
        Err(ApiError { name: Some(refused.code), message: refused.message }.into())
    }

    /// Calls an operation page by page and gathers the list `member` of all pages.
    pub(crate) async fn ecs_pages(
        &self,
        operation: &str,
        member: &str,
        mut body: Value,
    ) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let mut page = self.ecs(operation, &body).await?;
            if let Some(Value::Array(items)) = page.get_mut(member).map(Value::take) {
                all.extend(items);
            }
            match page.get_mut("nextToken").map(Value::take) {
                Some(token @ Value::String(_)) => body["nextToken"] = token,
                _ => return Ok(all),
            }
        }
    }

    /// Calls one of Coracle's own endpoints, below `/_coracle/`.
    pub(crate) async fn own(&self, method: &str, path_and_query: &str, body: Bytes) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}/_coracle/{path_and_query}", self.endpoint))
            .header("content-type", "application/octet-stream");
        let (status, answer) = self.send("coracle", request, body).await?;
        self.decode(status, &answer)
    }

    async fn json(
        &self,
        service: &str,
        prefix: &str,
        operation: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("{}/", self.endpoint))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("{prefix}.{operation}"));
        let (status, answer) = self.send(service, request, Bytes::from(serde_json::to_vec(body)?)).await?;
        self.decode(status, &answer)
    }

    async fn send(
        &self,
        service: &str,
        request: http::request::Builder,
        body: Bytes,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request =
            request.body(Full::new(body.clone())).context("the API's address is not a valid URL")?;
        self.sign(service, &mut request, &body)?;
        let answer = async {
            let answer = self.http.request(request).await.map_err(|error| self.unreachable(&error))?;
            let (head, body) = answer.into_parts();
            let body =
                Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| anyhow!(error))?.to_bytes();
            Ok::<_, anyhow::Error>((head.status, body))
        };
        tokio::time::timeout(TIMEOUT, answer)
            .await
            .map_err(|_| anyhow!("{} did not answer within {} seconds", self.endpoint, TIMEOUT.as_secs()))?
    }

    /// What a JSON service answered.
    fn decode(&self, status: StatusCode, body: &[u8]) -> anyhow::Result<Value> {
        let value: Value = serde_json::from_slice(body).map_err(|_| self.not_coracle(status))?;
        if status.is_success() {
            return Ok(value);
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let name = text("__type").map(|name| name.rsplit('#').next().unwrap_or(name).to_owned());
        let message = match text("message").or_else(|| text("Message")) {
            Some(message) => message.to_owned(),
            None => format!("{} answered {status} without an explanation", self.endpoint),
        };
        Err(ApiError { name, message }.into())
    }

    fn not_coracle(&self, status: StatusCode) -> anyhow::Error {
        anyhow!("{} answered {status} with something that is not Coracle's", self.endpoint)
    }

    fn unreachable(&self, error: &hyper_util::client::legacy::Error) -> anyhow::Error {
        if error.is_connect() {
            anyhow!(
                "nothing answers at {}; start Coracle with `coracle up`, or name its address with --api",
                self.endpoint
            )
        } else {
            anyhow!("the connection to {} broke: {error}", self.endpoint)
        }
    }

    fn sign(
        &self,
        service: &str,
        request: &mut http::Request<Full<Bytes>>,
        body: &[u8],
    ) -> anyhow::Result<()> {
        let host = request.uri().authority().context("the API's address names no host")?.to_string();
        request.headers_mut().insert(http::header::HOST, host.parse()?);
        let identity = self.credentials.clone().into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let uri = request.uri().to_string();
        let headers =
            request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable =
            SignableRequest::new(request.method().as_str(), &uri, headers, SignableBody::Bytes(body))?;
        let (instructions, _) = sign(signable, &params)?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
