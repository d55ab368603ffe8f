//! The backend of the shop: what there is to buy, and orders, as JSON below `/api/`.
//!
//! Orders are values of the key-value store. The job reads them there, and leaves its report beside them: the label
//! `coracle.keyvalue` of both task definitions names the same store.

use coracle_sdk::http::{Error, Json, Request, RequestExt, Response, Router, StatusCode};
use coracle_sdk::keyvalue::Bucket;
use coracle_sdk::metrics;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
struct Product {
    name: &'static str,
    cents: u32,
}

const PRODUCTS: &[Product] = &[Product { name: "tea", cents: 350 }, Product { name: "cup", cents: 1200 }];

/// The most pieces in one order.
const MOST: u32 = 1000;

#[derive(Deserialize)]
struct Wish {
    product: String,
    quantity: u32,
}

#[derive(Serialize)]
struct Order {
    number: i64,
    product: &'static str,
    quantity: u32,
    cents: u32,
}

#[coracle_sdk::http]
async fn handle(request: Request) -> Response {
    Router::new()
        .get("/health", async |_| "ok\n")
        .get("/api/products", async |_| Json(PRODUCTS))
        .post("/api/orders", order)
        .get("/api/report", report)
        .handle(request)
        .await
}

/// Takes an order. When the answer is there, so is the order, on disk.
async fn order(mut request: Request) -> Result<(StatusCode, Json<Order>), Error> {
    let Wish { product, quantity } = request.json().await?;
    let product = PRODUCTS.iter().find(|known| known.name == product);
    let product = product.ok_or_else(|| Error::bad_request("there is no such product"))?;
    if !(1..=MOST).contains(&quantity) {
        return Err(Error::bad_request(format!("quantity has to be 1 to {MOST}")));
    }
    let bucket = Bucket::open("orders")?;
    let number = Bucket::open("default")?.increment("last-order", 1)?;
    let order = Order { number, product: product.name, quantity, cents: quantity * product.cents };
    bucket.set_json(&number.to_string(), &order)?;
    metrics::counter("orders_total").with("product", product.name).add(1.0)?;
    Ok((StatusCode::CREATED, Json(order)))
}

/// What the job has last found.
async fn report(_: Request) -> Result<Option<String>, Error> {
    let report = Bucket::open("default")?.get("report")?;
    Ok(report.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn post(body: &'static str) -> (StatusCode, String) {
        let request = Request::post("/api/orders").header("content-type", "application/json");
        let mut response = handle(request.body(body.into()).unwrap()).await;
        (response.status(), response.body_mut().text().await.unwrap())
    }

    #[coracle_sdk::test]
    async fn orders_are_numbered_and_kept() {
        let (status, order) = post(r#"{"product": "tea", "quantity": 2}"#).await;
        assert_eq!(status, StatusCode::CREATED);
        assert_eq!(order, r#"{"number":1,"product":"tea","quantity":2,"cents":700}"#);
        assert_eq!(Bucket::open("orders").unwrap().get("1").unwrap().unwrap(), order.into_bytes());
        assert_eq!(post(r#"{"product": "cup", "quantity": 1}"#).await.0, StatusCode::CREATED);
        assert_eq!(coracle_sdk::testing::metric("orders_total", &[("product", "tea")]), Some(1.0));
    }

    #[coracle_sdk::test]
    async fn what_can_not_be_ordered_is_refused() {
        for body in [r#"{"product": "car", "quantity": 1}"#, r#"{"product": "tea", "quantity": 0}"#] {
            assert_eq!(post(body).await.0, StatusCode::BAD_REQUEST, "{body}");
        }
    }
}
