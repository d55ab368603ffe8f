//! The service {{name}}.

use coracle_sdk::http::{Error, Request, RequestExt, Response, Router};

#[coracle_sdk::http]
async fn handle(request: Request) -> Response {
    Router::new()
        .get("/", async |_| "Hello from {{name}}!\n")
        .get("/greet/{name}", greet)
        .handle(request)
        .await
}

async fn greet(request: Request) -> Result<String, Error> {
    Ok(format!("Hello, {}!\n", request.param("name")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[coracle_sdk::test]
    async fn it_greets() {
        let request = Request::get("/greet/you").body(Default::default()).unwrap();
        let mut response = handle(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.body_mut().text().await.unwrap(), "Hello, you!\n");
    }
}
