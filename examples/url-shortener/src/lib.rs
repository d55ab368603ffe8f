//! A URL shortener. Addresses and how often each was followed are in the key-value store, which all instances and tasks
//! of the service share, and which survives them.
//!
//! | key | value |
//! |---|---|
//! | `codes` | how many codes have been given out |
//! | `address/CODE` | where a code leads |
//! | `visits/CODE` | how often it was followed |

use coracle_sdk::http::{
    Error, HeaderValue, Json, Rejection, Request, RequestExt, Response, Router, StatusCode, Uri, header,
};
use coracle_sdk::keyvalue::Bucket;
use serde::Serialize;

/// The longest address that is taken, in bytes.
const LONGEST: usize = 2048;

const USAGE: &str = "POST / with an address makes a short one.\n\
                     GET /CODE goes there. GET /CODE/stats says how often somebody did.\n";

#[coracle_sdk::http]
async fn handle(request: Request) -> Response {
    Router::new()
        .get("/", async |_| USAGE)
        .post("/", shorten)
        .get("/{code}", follow)
        .get("/{code}/stats", stats)
        .handle(request)
        .await
}

/// Gives an address a code, and answers with what leads there.
async fn shorten(mut request: Request) -> Result<(StatusCode, String), Error> {
    let body = request.body_mut().bytes_up_to(LONGEST).await.map_err(Rejection::from)?;
    let address = std::str::from_utf8(&body).unwrap_or_default().trim();
    if !is_address(address) {
        return Err(Error::bad_request("the body has to be an address, such as https://example.com/a/page"));
    }
    let bucket = Bucket::open("default")?;
    // Nobody else gets this number, however many instances ask at the same time.
    let code = code(bucket.increment("codes", 1)?);
    bucket.set(&format!("address/{code}"), address)?;
    let short = format!("http://{}/{code}\n", request.header("host").unwrap_or("localhost"));
    Ok((StatusCode::CREATED, short))
}

/// Redirects to where a code leads, and counts that.
async fn follow(request: Request) -> Result<Response, Error> {
    let code = request.param("code")?;
    let bucket = Bucket::open("default")?;
    let address = find(&bucket, code)?;
    bucket.increment(&format!("visits/{code}"), 1)?;
    let mut response = Response::default();
    // Not a permanent one: browsers would remember it, and the next visit would not be counted.
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(address)?);
    Ok(response)
}

#[derive(Serialize)]
struct Stats {
    address: String,
    visits: u64,
}

async fn stats(request: Request) -> Result<Json<Stats>, Error> {
    let code = request.param("code")?;
    let bucket = Bucket::open("default")?;
    let address = find(&bucket, code)?;
    Ok(Json(Stats { address, visits: bucket.get_json(&format!("visits/{code}"))?.unwrap_or(0) }))
}

fn find(bucket: &Bucket, code: &str) -> Result<String, Error> {
    let address = bucket.get(&format!("address/{code}"))?.ok_or_else(|| Error::not_found("no such code"))?;
    Ok(String::from_utf8(address)?)
}

/// Whether it is an absolute address that a browser may be sent to: not `javascript:`, for one.
fn is_address(text: &str) -> bool {
    let is_web = |uri: &Uri| matches!(uri.scheme_str(), Some("http" | "https"));
    text.parse::<Uri>().is_ok_and(|uri| is_web(&uri)) && HeaderValue::try_from(text).is_ok()
}

/// A number in as few letters and digits as there are for it.
fn code(number: i64) -> String {
    const DIGITS: &[u8] = b"23456789abcdefghjkmnpqrstuvwxyz";
    let (mut rest, mut code) = (number.unsigned_abs(), Vec::new());
    while rest > 0 || code.is_empty() {
        let digit = rest % DIGITS.len() as u64;
        code.push(char::from(DIGITS[digit as usize]));
        rest /= DIGITS.len() as u64;
    }
    code.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_sdk::http::Body;

    async fn post(address: &'static str) -> (StatusCode, String) {
        let request = Request::post("/").header("host", "s.example").body(Body::from(address)).unwrap();
        let mut response = handle(request).await;
        (response.status(), response.body_mut().text().await.unwrap())
    }

    async fn get(path: &str) -> Response {
        handle(Request::get(path).body(Body::default()).unwrap()).await
    }

    #[coracle_sdk::test]
    async fn an_address_is_shortened_followed_and_counted() {
        let (status, short) = post("https://example.com/a?b=c\n").await;
        assert_eq!((status, short.as_str()), (StatusCode::CREATED, "http://s.example/3\n"));
        for _ in 0..2 {
            let response = get("/3").await;
            assert_eq!(response.status(), StatusCode::FOUND);
            assert_eq!(response.headers()[header::LOCATION], "https://example.com/a?b=c");
        }
        let stats = get("/3/stats").await.body_mut().text().await.unwrap();
        assert_eq!(stats, r#"{"address":"https://example.com/a?b=c","visits":2}"#);
        assert_eq!(get("/4").await.status(), StatusCode::NOT_FOUND);
    }

    #[coracle_sdk::test]
    async fn what_is_no_address_is_refused() {
        for text in ["", "example.com", "/page", "javascript:alert(1)", "https://a b/", "ftp://example.com/"]
        {
            assert_eq!(post(text).await.0, StatusCode::BAD_REQUEST, "{text:?}");
        }
        let long = Request::post("/").body(Body::from(vec![b'a'; LONGEST + 1])).unwrap();
        assert_eq!(handle(long).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn codes_are_short_and_differ() {
        assert_eq!((code(0), code(30), code(31)), ("2".to_owned(), "z".to_owned(), "32".to_owned()));
    }
}
