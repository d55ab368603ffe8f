//! Services called by name from within the process.

use http::{Request, Response};
use http_body_util::BodyExt as _;

use super::harness::*;
use crate::{ResponseBody, RouterConfig};

async fn call(front: &Front, host: &str, headers: &[(&str, &str)]) -> Response<ResponseBody> {
    let mut request = Request::get("/x?y=z").header("host", host);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    front.router.named(host).unwrap().call(request.body(empty()).unwrap()).await
}

async fn text(response: Response<ResponseBody>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_answers_under_its_name_and_is_counted() {
    let front = Front::start(RouterConfig::default());
    front.publish(&[("us-east-1/default/web", &[&echo("w")]), ("eu-west-1/prod/api", &[&echo("a")])]);
    for (host, task) in [
        ("web.default.internal", "w"),
        ("Web.Default.us-east-1.INTERNAL", "w"),
        ("web.default.localhost", "w"),
        ("api.prod.internal", "a"),
    ] {
        let response = call(&front, host, &[]).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-coracle-task"]),
            (200, &task.parse().unwrap())
        );
        let seen = text(response).await;
        assert!(seen.starts_with("GET /x?y=z\n") && seen.contains(&format!("host: {host}\n")), "{seen}");
        assert!(seen.contains("x-forwarded-for: 127.0.0.1\n"), "{seen}");
    }
    let counted = r#"coracle_router_requests_total{cluster="default",code="200",service="web"} 3"#;
    assert!(front.metric(counted), "{}", exposition(&front.registry));
}

#[tokio::test(start_paused = true)]
async fn no_header_leads_to_another_service_than_the_one_that_was_named() {
    let front = Front::start(RouterConfig::default());
    front.publish(&[("us-east-1/default/web", &[&echo("w")]), ("us-east-1/default/secret", &[&echo("s")])]);
    let headers = [("x-coracle-service", "secret"), ("x-forwarded-host", "secret.default.internal")];
    let response = call(&front, "web.default.internal", &headers).await;
    assert_eq!(response.headers()["x-coracle-task"], "w");
    let named = front.router.named("web.default.internal").unwrap();
    let request = Request::get("/").header("host", "secret.default.localhost").body(empty()).unwrap();
    assert_eq!(named.call(request).await.headers()["x-coracle-task"], "w");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_told_as_it_is_at_the_default_port() {
    let front = Front::web(&[]);
    let response = call(&front, "other.default.internal", &[]).await;
    assert_eq!(response.status(), 404);
    assert!(text(response).await.contains("there is no service \"other\""));
    let response = call(&front, "web.default.internal", &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["x-coracle-error"]),
        (503, &"no_ready_target".parse().unwrap())
    );
    for host in ["example.com", "db.internal", "localhost"] {
        assert!(front.router.named(host).is_none(), "{host}");
    }
}
