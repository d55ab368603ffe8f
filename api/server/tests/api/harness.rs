//! An application to send requests to.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use coracle_logs::LogStore;
use coracle_registry::Registry;
use coracle_server::{Api, ApiConfig, app};
use coracle_store::{MemoryStore, Store};
use coracle_types::{AccountId, Changes, Node, NodeId, Record, Task, Timestamp};
use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

pub(crate) const NOW: Timestamp = Timestamp(1_795_254_385_250);
pub(crate) const NODE: NodeId = NodeId(7);

pub(crate) struct Harness {
    pub(crate) app: Router,
    pub(crate) store: Arc<dyn Store>,
    _dir: tempfile::TempDir,
}

/// An answer as it came.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The text of the first XML element of this name.
    #[track_caller]
    pub(crate) fn element(&self, name: &str) -> String {
        let found = self.text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<'));
        found.unwrap_or_else(|| panic!("no <{name}> in {}", self.text)).0.to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(|api| api, |_| {})
    }

    /// An application with one node of 1024 CPU units and 2048 MiB.
    pub(crate) fn with(api: impl FnOnce(Api) -> Api, config: impl FnOnce(&mut ApiConfig)) -> Self {
        Self::on(|store| Arc::new(store), api, config)
    }

    /// The same, on what `store` makes of a store in memory.
    pub(crate) fn on(
        store: impl FnOnce(MemoryStore) -> Arc<dyn Store>,
        api: impl FnOnce(Api) -> Api,
        config: impl FnOnce(&mut ApiConfig),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = Node::new(NODE, 1024, 2048, NOW, 3);
        let mut state = coracle_types::State::default();
        state.apply(&coracle_types::Change::Put(Record::from(node)), 0);
        let store = store(MemoryStore::with_state(state));
        let mut settings = ApiConfig {
            account: AccountId::default(),
            default_region: "us-east-1".parse().unwrap(),
            access_keys: Vec::new(),
            require_signatures: false,
            allow_reset: false,
        };
        config(&mut settings);
        let logs = LogStore::open(&dir.path().join("logs")).unwrap();
        let registry = Arc::new(Registry::open(&dir.path().join("registry")).unwrap());
        let new = Api::new(settings, Arc::clone(&store), logs, registry)
            .with_clock(Arc::new(|| NOW))
            .with_settle(Duration::ZERO);
        Self { app: app(api(new)), store, _dir: dir }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// Sends a JSON 1.1 request, for a region if one is given.
    pub(crate) async fn target(&self, target: &str, region: Option<&str>, body: &Value) -> Answer {
        let mut request = Request::post("/")
            .header("host", "127.0.0.1:4566")
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", target);
        if let Some(region) = region {
            let credential = format!("Credential=AKID/20261121/{region}/ecs/aws4_request");
            let value = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, Signature=00");
            request = request.header("authorization", value).header("x-amz-date", "20261121T094625Z");
        }
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    /// An ECS action that succeeds.
    #[track_caller]
    pub(crate) fn ecs(&self, operation: &str, body: Value) -> impl Future<Output = Value> {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.target(&target, None, &body).await;
            assert_eq!(answer.status, 200, "{target} at {caller}: {}", answer.text);
            assert_eq!(answer.header("content-type"), "application/x-amz-json-1.1");
            answer.json()
        }
    }

    /// An ECS action that is refused: the name of the error and its text.
    pub(crate) async fn refused(&self, operation: &str, body: Value) -> (String, String) {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        let answer = self.target(&target, None, &body).await;
        assert_eq!(answer.status, 400, "{operation}: {}", answer.text);
        let error = answer.json();
        assert_eq!(answer.header("x-amzn-errortype"), error["__type"]);
        let text = |name: &str| error[name].as_str().unwrap().to_owned();
        (text("__type"), text("message"))
    }

    /// An ELBv2 action: the status and the XML it answers with. The form is the members alone.
    pub(crate) async fn elb(&self, operation: &str, form: &str) -> Answer {
        let form = format!("Action={operation}&Version=2015-12-01&{form}");
        let request = Request::post("/").header("content-type", "application/x-www-form-urlencoded");
        self.send(request.body(Body::from(form)).unwrap()).await
    }

    /// An ELBv2 action that succeeds: the text of the first element of this name.
    pub(crate) async fn elb_made(&self, operation: &str, form: &str, element: &str) -> String {
        let answer = self.elb(operation, form).await;
        assert_eq!(answer.status, 200, "{operation}: {}", answer.text);
        answer.element(element)
    }

    /// Makes a target group behind a load balancer of its own, and gives its ARN.
    pub(crate) async fn target_group(&self, name: &str) -> String {
        let form = format!("Name={name}&Protocol=HTTP&Port=80&VpcId=vpc-1&TargetType=ip");
        let group = self.elb_made("CreateTargetGroup", &form, "TargetGroupArn").await;
        let form = format!("Name={name}&Subnets.member.1=subnet-a&Subnets.member.2=subnet-b");
        let balancer = self.elb_made("CreateLoadBalancer", &form, "LoadBalancerArn").await;
        let form = format!(
            "LoadBalancerArn={balancer}&Protocol=HTTP&Port=80&DefaultActions.member.1.Type=forward&\
             DefaultActions.member.1.TargetGroupArn={group}"
        );
        self.elb_made("CreateListener", &form, "ListenerArn").await;
        group
    }

    /// Registers a small task definition.
    pub(crate) async fn register(&self, family: &str, cpu: u32, memory: u32) -> String {
        let containers =
            json!([{"name": "app", "image": "acme/app:1", "portMappings": [{"containerPort": 80}]}]);
        let body = json!({
            "family": family, "cpu": cpu.to_string(), "memory": memory.to_string(), "containerDefinitions": containers,
        });
        let answer = self.ecs("RegisterTaskDefinition", body).await;
        answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap().to_owned()
    }

    /// Changes every task as a node's reports would.
    pub(crate) async fn tasks(&self, change: impl Fn(&mut Task)) {
        let base = self.store.snapshot();
        let mut changes = Changes::new();
        for found in base.tasks.values() {
            let mut task = Task::clone(&found.value);
            change(&mut task);
            changes.put(task);
        }
        self.store.commit(base, changes).await.unwrap();
    }
}

/// Whether everything that was sent came back, with whatever was added.
#[track_caller]
pub(crate) fn assert_contains(sent: &Value, came_back: &Value, path: &str) {
    match (sent, came_back) {
        (Value::Object(sent), Value::Object(back)) => {
            for (name, value) in sent {
                let back = back.get(name).unwrap_or_else(|| panic!("{path}.{name} did not come back"));
                assert_contains(value, back, &format!("{path}.{name}"));
            }
        }
        (Value::Array(sent), Value::Array(back)) => {
            assert_eq!(sent.len(), back.len(), "{path}");
            for (index, (sent, back)) in sent.iter().zip(back).enumerate() {
                assert_contains(sent, back, &format!("{path}[{index}]"));
            }
        }
        _ => assert_eq!(sent, came_back, "{path}"),
    }
}
