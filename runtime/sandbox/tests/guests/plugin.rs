//! Plugins: any export, typed or by name.

use crate::{ENGINE, eventually};
use coracle_sandbox::wasmtime::component::HasSelf;
use coracle_sandbox::{
    CallError, CallLimits, ContainerSpec, Engine, EngineConfig, Exit, HostFunctions, HostState, MemoryBudget,
    Metering, Plugin, Prepared,
};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::Duration;

mod world {
    coracle_sandbox::wasmtime::component::bindgen!({
        path: "../fixtures/guests/plugin/wit",
        world: "plugin",
        imports: { default: trappable },
        exports: { default: async },
        wasmtime_crate: coracle_sandbox::wasmtime,
    });
}

struct Greeter {
    greeting: &'static str,
}

impl world::PluginImports for Greeter {
    fn greet(&mut self, name: String) -> coracle_sandbox::wasmtime::Result<String> {
        Ok(format!("{}, {name}", self.greeting))
    }

    fn fail(&mut self) -> coracle_sandbox::wasmtime::Result<()> {
        Err(coracle_sandbox::wasmtime::Error::msg("the database is down"))
    }
}

fn prepare(engine: &Engine, greeting: &'static str) -> Prepared {
    let host = HostFunctions::new(
        move || Greeter { greeting },
        |linker| world::Plugin::add_to_linker::<_, HasSelf<Greeter>>(linker, HostState::data_mut),
    );
    engine.prepare_with(&std::fs::read(coracle_fixtures::plugin()).unwrap(), &host).unwrap()
}

static PREPARED: LazyLock<Prepared> = LazyLock::new(|| prepare(&ENGINE, "hello"));

fn plugin(spec: ContainerSpec) -> Plugin {
    Plugin::new(&PREPARED, spec).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_type_pass_unchanged() {
    let plugin = plugin(ContainerSpec::default());
    for (function, arguments) in [
        ("small", json!([true, -128, 255, -32768, 65535, "é"])),
        ("large", json!([i32::MIN, u32::MAX, i64::MIN, u64::MAX, 0.5, 1e300])),
        ("large", json!([0, 0, 0, 0, "NaN", "-Infinity"])),
    ] {
        assert_eq!(plugin.call(function, &arguments).await.unwrap(), arguments, "{function}");
    }
    for (function, value) in [
        ("text", json!("grüß")),
        ("bytes", json!([0, 1, 255])),
        ("points", json!([{"x": 1, "y": -2, "label": null}, {"x": 0, "y": 0, "label": "origin"}])),
        ("shapes", json!(["nothing", {"circle": 1.5}, {"polygon": [{"x": 1, "y": 2, "label": null}]}])),
        ("colours", json!(["blue", "red"])),
        ("allow", json!(["read", "execute"])),
        ("maybe", json!(null)),
        ("maybe", json!({"some": null})),
        ("maybe", json!({"some": 7})),
        ("outcome", json!({"ok": 7})),
        ("outcome", json!({"err": "no"})),
        ("done", json!({"ok": null})),
        ("done", json!({"err": null})),
    ] {
        assert_eq!(plugin.call(function, &json!([value])).await.unwrap(), value, "{function}");
    }
    // By name, and with a field left out.
    let answer = plugin.call("points", &json!({"points": [{"x": 1, "y": 2}]})).await.unwrap();
    assert_eq!(answer, json!([{"x": 1, "y": 2, "label": null}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_fit_are_explained() {
    let plugin = plugin(ContainerSpec::default());
    let refused = async |function: &str, arguments: Value| match plugin.call(function, &arguments).await {
        Err(CallError::Call(text)) => text,
        other => panic!("{other:?}"),
    };
    for (function, arguments, expected) in [
        ("nonsense", json!([]), "no function \"nonsense\"; it has"),
        ("hello", json!([]), "takes (name), not 0 arguments"),
        ("hello", json!({"nom": "x"}), "no \"nom\""),
        ("hello", json!("x"), "as an array or an object"),
        ("hello", json!([7]), "argument name of hello: a string is expected, not the number 7"),
        ("small", json!([true, 128, 0, 0, 0, "x"]), "8-bit signed integer"),
        ("small", json!([true, 0, 0, 0, 0, "xy"]), "one character"),
        ("points", json!([[{"x": 1}]]), "[0]: the field \"y\" is missing"),
        ("points", json!([[{"x": 1, "y": 2, "z": 3}]]), "no field \"z\""),
        ("shapes", json!([["square"]]), "no case \"square\"; there are nothing, circle, polygon"),
        ("shapes", json!([[{"nothing": 1}]]), "no payload is expected"),
        ("colours", json!([["pink"]]), "red, green, blue"),
        ("allow", json!([["delete"]]), "no flag \"delete\""),
        ("maybe", json!([7]), "null or"),
        ("outcome", json!([{"maybe": 1}]), "there are ok, err"),
        ("lend", json!([1]), "a resource has no JSON form"),
    ] {
        let text = refused(function, arguments).await;
        assert!(text.contains(expected), "{function}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_go_by_several_names() {
    let plugin = plugin(ContainerSpec::default());
    let names = plugin.functions();
    assert!(
        names.contains(&"hello".to_owned()) && names.contains(&"demo:plugin/values@1.2.0#text".to_owned())
    );
    for name in ["text", "demo:plugin/values#text", "demo:plugin/values@1.2.0#text"] {
        assert_eq!(plugin.call(name, &json!(["x"])).await.unwrap(), json!("x"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_calls_and_host_functions() {
    let plugin = Plugin::typed(&PREPARED, ContainerSpec::default(), |store, instance| {
        world::Plugin::new(store, instance)
    })
    .unwrap();
    let answer = plugin.with(|plugin, store| Box::pin(plugin.call_hello(store, "you"))).await.unwrap();
    assert_eq!(answer, "hello, you");
    match plugin.with(|plugin, store| Box::pin(plugin.call_host_fails(store))).await {
        Err(CallError::Host(text)) => assert!(text.contains("the database is down"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_are_kept_until_they_fail() {
    let plugin = plugin(ContainerSpec::default());
    let count = async || plugin.call("count", &json!([])).await.unwrap();
    assert_eq!((count().await, count().await), (json!(1), json!(2)));
    assert!(matches!(plugin.call("trap", &json!([])).await, Err(CallError::Guest(Exit::Trap(_)))));
    assert_eq!(count().await, json!(1), "a new instance");
    let fresh = Plugin::new(&PREPARED, ContainerSpec { instance_reuse: Some(1), ..ContainerSpec::default() })
        .unwrap();
    for _ in 0..2 {
        assert_eq!(fresh.call("count", &json!([])).await.unwrap(), json!(1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_has_limits_of_its_own() {
    let plugin = plugin(ContainerSpec { memory: MemoryBudget::new(64 << 20), ..ContainerSpec::default() });
    let fuel = CallLimits { fuel: Some(1_000_000), ..CallLimits::default() };
    let out_of_fuel = CallError::Limit(Exit::OutOfFuel { limit: 1_000_000 });
    assert_eq!(plugin.call_with(fuel, "spin", &json!([])).await.unwrap_err(), out_of_fuel);
    let after = Duration::from_millis(50);
    let time = CallLimits { timeout: Some(after), ..CallLimits::default() };
    let timed_out = CallError::Limit(Exit::TimedOut { after });
    assert_eq!(plugin.call_with(time, "spin", &json!([])).await.unwrap_err(), timed_out);
    let memory = CallLimits { memory: Some(4 << 20), ..CallLimits::default() };
    assert!(matches!(
        plugin.call_with(memory, "hog", &json!([8 << 20])).await,
        Err(CallError::Limit(Exit::OutOfMemory { limit, .. })) if limit == 4 << 20
    ));
    assert_eq!(plugin.call("hog", &json!([8 << 20])).await.unwrap(), json!(8 << 20));
    assert!(matches!(
        plugin.call("hog", &json!([80 << 20])).await,
        Err(CallError::Limit(Exit::OutOfMemory { limit, .. })) if limit == 64 << 20
    ));
    assert_eq!(plugin.call("count", &json!([])).await.unwrap(), json!(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_bounded() {
    let plugin = plugin(ContainerSpec {
        max_concurrency: 1,
        max_queue: 1,
        queue_timeout: Duration::from_millis(100),
        ..ContainerSpec::default()
    });
    let spinning = tokio::spawn({
        let plugin = plugin.clone();
        async move { plugin.call("spin", &json!([])).await }
    });
    eventually("it spins", || plugin.stats().instances_live == 1).await;
    assert_eq!(plugin.call("count", &json!([])).await.unwrap_err(), CallError::Busy);
    plugin.kill();
    assert_eq!(spinning.await.unwrap().unwrap_err(), CallError::Closed);
    assert_eq!(plugin.call("count", &json!([])).await.unwrap_err(), CallError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_dropped_stops_its_guest() {
    let plugin = plugin(ContainerSpec::default());
    let spinning = tokio::spawn({
        let plugin = plugin.clone();
        async move { plugin.call("spin", &json!([])).await }
    });
    eventually("it spins", || plugin.stats().instances_live == 1).await;
    spinning.abort();
    eventually("it is gone", || plugin.stats().instances_live == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_prepared_component_serves_all_threads() {
    let plugin = plugin(ContainerSpec { max_concurrency: 4, ..ContainerSpec::default() });
    let calls: Vec<_> = (0..50)
        .map(|number| {
            let plugin = plugin.clone();
            tokio::spawn(async move { plugin.call("text", &json!([number.to_string()])).await.unwrap() })
        })
        .collect();
    for (number, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), json!(number.to_string()));
    }
    assert!(plugin.stats().instances_started <= 4, "{}", plugin.stats().instances_started);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_without_a_pause() {
    let plugin = plugin(ContainerSpec::default());
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let calling = tokio::spawn({
        let plugin = plugin.clone();
        async move {
            let mut answers = Vec::new();
            while stopped.try_recv().is_err() {
                answers.push(plugin.call("hello", &json!(["you"])).await.unwrap());
            }
            answers
        }
    });
    plugin.call("hello", &json!(["you"])).await.unwrap();
    plugin.reload(&prepare(&ENGINE, "welcome")).unwrap();
    assert_eq!(plugin.call("hello", &json!(["you"])).await.unwrap(), json!("welcome, you"));
    stop.send(()).unwrap();
    let answers = calling.await.unwrap();
    assert!(answers.iter().all(|answer| *answer == json!("hello, you") || *answer == json!("welcome, you")));
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_plugins_may_run_unmetered() {
    let config = EngineConfig { max_instances: 16, metering: Metering::None, ..EngineConfig::default() };
    let engine = Engine::new(&config).unwrap();
    let plugin = Plugin::new(&prepare(&engine, "hi"), ContainerSpec::default()).unwrap();
    assert_eq!(plugin.call("hello", &json!(["you"])).await.unwrap(), json!("hi, you"));
    let memory = CallLimits { memory: Some(4 << 20), ..CallLimits::default() };
    assert!(matches!(
        plugin.call_with(memory, "hog", &json!([8 << 20])).await,
        Err(CallError::Limit(Exit::OutOfMemory { .. }))
    ));
}
