//! The frontend of the shop: a page, made of what the backend answers.
//!
//! The variable `BACKEND` says where that is. In a cluster it is another service, called by its name and without a socket;
//! the label `coracle.egress` lets this one go there and nowhere else.

use std::fmt::Write as _;
use std::time::Duration;

use coracle_sdk::http::{Error, HeaderValue, Request, Response, Router, StatusCode, header};
use coracle_sdk::{config, fetch};
use serde::Deserialize;

/// How long the backend may take.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Product {
    name: String,
    cents: u32,
}

#[coracle_sdk::http]
async fn handle(request: Request) -> Response {
    Router::new().get("/health", async |_| "ok\n").get("/", page).handle(request).await
}

async fn page(_: Request) -> Result<Response, Error> {
    let products = ask("/api/products").await?.body_mut().json::<Vec<Product>>().await?;
    let mut report = ask("/api/report").await?;
    let mut html = "<!doctype html>\n<meta charset=\"utf-8\">\n<title>The shop</title>\n<ul>\n".to_owned();
    for Product { name, cents } in products {
        writeln!(html, "<li>{}: {}.{:02}", escaped(&name), cents / 100, cents % 100)?;
    }
    html += "</ul>\n";
    // 404 until the job has run for the first time.
    if report.status() == StatusCode::OK {
        writeln!(html, "<pre>\n{}</pre>", escaped(&report.body_mut().text().await?))?;
    }
    let mut response = Response::new(html.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Ok(response)
}

async fn ask(path: &str) -> Result<Response, Error> {
    let backend = config::require("BACKEND")?;
    Ok(fetch::get(format!("{backend}{path}")).timeout(PATIENCE).send().await?)
}

/// A text inside of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sdk::http::Body;
    use coracle_sdk::testing;

    async fn page() -> (StatusCode, String) {
        let mut response = handle(Request::get("/").body(Body::default()).unwrap()).await;
        (response.status(), response.body_mut().text().await.unwrap())
    }

    #[coracle_sdk::test]
    async fn the_page_shows_what_the_backend_has() {
        testing::set_config("BACKEND", "http://backend.shop.internal");
        testing::on_fetch(|request| {
            let (status, body) = match request.uri().to_string().as_str() {
                "http://backend.shop.internal/api/products" => {
                    (StatusCode::OK, r#"[{"name": "<tea>", "cents": 305}]"#)
                }
                _ => (StatusCode::NOT_FOUND, ""),
            };
            let mut response = Response::new(body.into());
            *response.status_mut() = status;
            Ok(response)
        });
        let (status, html) = page().await;
        assert_eq!(status, StatusCode::OK);
        assert!(html.contains("<li>&lt;tea>: 3.05\n") && !html.contains("<pre>"), "{html}");
    }

    #[coracle_sdk::test]
    async fn without_a_backend_there_is_no_page() {
        testing::set_config("BACKEND", "http://backend.shop.internal");
        testing::on_fetch(|_| Err(fetch::Error::TimedOut));
        assert_eq!(page().await.0, StatusCode::GATEWAY_TIMEOUT);
    }
}
