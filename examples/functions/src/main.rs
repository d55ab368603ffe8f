//! A function platform of many tenants: they upload components, and everybody may send those requests. What one tenant
//! computes, holds or breaks is no other's concern.
//!
//! ```sh
//! functions 127.0.0.1:8000 alice=sesame bob=hunter2
//! curl -X PUT -H 'x-key: sesame' --data-binary @hello.wasm http://127.0.0.1:8000/-/alice/hello
//! curl http://127.0.0.1:8000/alice/hello/any/path
//! curl -H 'x-key: sesame' http://127.0.0.1:8000/-/alice
//! ```

use anyhow::Context as _;
use bytes::Bytes;
use coracle_sandbox::{
    Container, ContainerSpec, CpuBudget, Engine, EngineConfig, HandleError, MemoryBudget, ResponseBody,
};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::RwLock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The largest component that is taken, in bytes.
const LARGEST: usize = 32 << 20;

/// Functions of one tenant.
const MOST: usize = 100;

type Asked = Request<Incoming>;
type Answer = Response<ResponseBody>;

struct Platform {
    engine: Engine,
    tenants: HashMap<String, Tenant>,
}

/// Budgets are a tenant's own: its functions share them.
struct Tenant {
    key: String,
    cpu: CpuBudget,
    memory: MemoryBudget,
    functions: RwLock<BTreeMap<String, Container>>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("usage: functions ADDRESS TENANT=KEY…")?;
    let tenants = arguments.map(|argument| {
        let (name, key) =
            argument.split_once('=').with_context(|| format!("{argument} is not TENANT=KEY"))?;
        anyhow::Ok((name.to_owned(), Tenant::new(key)))
    });
    let tenants = tenants.collect::<anyhow::Result<_>>()?;
    let platform = Arc::new(Platform { engine: Engine::new(&EngineConfig::default())?, tenants });

    let listener =
        TcpListener::bind(&address).await.with_context(|| format!("cannot listen on {address}"))?;
    println!("listening on http://{}/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let platform = platform.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| async { Ok::<_, Infallible>(platform.answer(request).await) });
            // A client that breaks off has nobody to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl Tenant {
    fn new(key: &str) -> Tenant {
        Tenant {
            key: key.to_owned(),
            cpu: CpuBudget::capped(512),          // half a core, whatever it does
            memory: MemoryBudget::new(128 << 20), // 128 MiB over all instances of all its functions
            functions: RwLock::default(),
        }
    }

    /// What one of its functions may do: nothing but compute, and answer.
    fn limits(&self) -> ContainerSpec {
        ContainerSpec {
            cpu: self.cpu.clone(),
            memory: self.memory.clone(),
            fuel_per_request: Some(200_000_000), // about as many instructions
            request_timeout: Duration::from_secs(5),
            max_concurrency: 16, // requests at the same time; more of them queue
            ..ContainerSpec::default()
        }
    }

    fn usage(&self) -> Value {
        let functions = self.functions.read();
        let functions = functions.iter().map(|(name, container)| {
            let used = container.stats();
            let figures =
                json!({"instances": used.instances_started, "failed": used.traps, "fuel": used.fuel_used});
            (name.clone(), figures)
        });
        json!({
            "cpuSeconds": self.cpu.used().as_secs_f64(),
            "memoryPeakBytes": self.memory.peak(),
            "functions": functions.collect::<serde_json::Map<_, _>>(),
        })
    }
}

impl Platform {
    async fn answer(&self, request: Asked) -> Answer {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str).to_owned();
        let mut parts = path.splitn(4, '/').skip(1);
        match (parts.next(), parts.next(), parts.next()) {
            (Some("-"), Some(tenant), rest) => self.manage(tenant, rest.unwrap_or_default(), request).await,
            (Some(tenant), Some(function), rest) => {
                let function = function.split('?').next().unwrap_or_default();
                self.call(tenant, function, rest.unwrap_or_default(), request).await
            }
            _ => say(StatusCode::NOT_FOUND, "call /TENANT/FUNCTION/…, manage /-/TENANT/FUNCTION"),
        }
    }

    /// Gives a request to a function, which sees the path behind its own name. Bodies are streamed both ways.
    async fn call(&self, tenant: &str, name: &str, rest: &str, request: Asked) -> Answer {
        let function = self.tenants.get(tenant).and_then(|tenant| tenant.functions.read().get(name).cloned());
        let Some(function) = function else { return say(StatusCode::NOT_FOUND, "there is no such function") };
        let (mut head, body) = request.into_parts();
        let Ok(uri) = format!("/{rest}").parse() else { return say(StatusCode::BAD_REQUEST, "what a path") };
        head.uri = uri;
        match function.handle(Request::from_parts(head, body)).await {
            Ok(response) => response,
            Err(error @ HandleError::Overloaded { .. }) => say(StatusCode::SERVICE_UNAVAILABLE, error),
            Err(error @ HandleError::TimedOut { .. }) => say(StatusCode::GATEWAY_TIMEOUT, error),
            Err(error) => say(StatusCode::BAD_GATEWAY, error),
        }
    }

    async fn manage(&self, tenant: &str, function: &str, request: Asked) -> Answer {
        let given = request.headers().get("x-key").map_or(&b""[..], |key| key.as_bytes());
        let Some(tenant) = self.tenants.get(tenant).filter(|tenant| tenant.key.as_bytes() == given) else {
            return say(StatusCode::FORBIDDEN, "no such tenant, or another key");
        };
        match *request.method() {
            Method::GET if function.is_empty() => say(StatusCode::OK, tenant.usage()),
            Method::PUT if !function.is_empty() => match self.deploy(tenant, function, request).await {
                Ok(()) => say(StatusCode::CREATED, format_args!("{function} is deployed")),
                Err(error) => say(StatusCode::BAD_REQUEST, format_args!("{error:#}")),
            },
            Method::DELETE => match tenant.functions.write().remove(function) {
                Some(_) => say(StatusCode::OK, format_args!("{function} is deleted")),
                None => say(StatusCode::NOT_FOUND, "there is no such function"),
            },
            _ => say(StatusCode::METHOD_NOT_ALLOWED, "GET /-/TENANT, PUT or DELETE /-/TENANT/FUNCTION"),
        }
    }

    /// Requests that have begun end in the version they began in.
    async fn deploy(&self, tenant: &Tenant, function: &str, request: Asked) -> anyhow::Result<()> {
        let body = Limited::new(request.into_body(), LARGEST).collect().await;
        let component = body.map_err(|error| anyhow::anyhow!("the component: {error}"))?.to_bytes();
        let engine = self.engine.clone();
        // Compiling takes a processor for a while.
        let prepared = tokio::task::spawn_blocking(move || engine.prepare_bytes(&component)).await??;
        anyhow::ensure!(prepared.exports().http, "it exports no wasi:http handler");
        let container = Container::new(&prepared, tenant.limits())?;
        let mut functions = tenant.functions.write();
        let full = functions.len() >= MOST && !functions.contains_key(function);
        anyhow::ensure!(!full, "there are {MOST} functions");
        functions.insert(function.to_owned(), container);
        Ok(())
    }
}

fn say(status: StatusCode, text: impl std::fmt::Display) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
