//! A chat: whoever is there is told of each message at once, by server-sent events.
//!
//! Every stream is a request of its own, and as a component of WASI 0.2 has an instance of its own, which shares no memory
//! with any other. What they share is a value in the key-value store: the room. To post is to swap it for one with a
//! message more; who listens looks at it four times a second. So it does not matter how many tasks the service has, which
//! of them a message comes to, or whether one is replaced: browsers connect again, say which message was their last, and
//! get those they have missed, as far as the room still has them.

mod room;

use std::time::Duration;

use coracle_sdk::http::{
    Body, Error, HeaderValue, Request, RequestExt, Response, Router, StatusCode, Writer, header,
};
use coracle_sdk::{stop, time};
use room::{Message, Room};

/// How often a stream looks for new messages.
const INTERVAL: Duration = Duration::from_millis(250);

/// Looks without a new message after which something is sent all the same: it shows whether anybody still listens.
const SILENT_LOOKS_MAX: u32 = 40;

#[coracle_sdk::http]
async fn handle(request: Request) -> Response {
    Router::new().get("/", page).get("/events", events).post("/messages", post).handle(request).await
}

async fn page(_: Request) -> Response {
    typed("text/html; charset=utf-8", include_str!("page.html").into())
}

/// Adds a message to the room.
async fn post(mut request: Request) -> Result<(StatusCode, String), Error> {
    let message: Message = request.json().await?;
    message.check()?;
    let number = Room::post(&message)?;
    Ok((StatusCode::CREATED, format!("{number}\n")))
}

/// Sends the messages there are, and then each new one, until the listener or the task goes.
async fn events(request: Request) -> Response {
    // A browser says it when it connects again.
    let seen = request.header("last-event-id").and_then(|id| id.parse().ok()).unwrap_or(0);
    let body = Body::stream(async move |writer| listen(writer, seen).await);
    let mut response = typed("text/event-stream", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn listen(mut writer: Writer, mut seen: u64) -> Result<(), Error> {
    // How many milliseconds a browser waits before it connects again.
    let mut pieces = "retry: 500\n\n".to_owned();
    let mut silent = 0;
    while !stop::requested() {
        for (number, message) in Room::open()?.after(seen) {
            pieces += &format!("id: {number}\ndata: {}\n\n", message.to_json()?);
            seen = number;
        }
        silent += 1;
        if silent > SILENT_LOOKS_MAX && pieces.is_empty() {
            // A comment, which browsers pass over.
            pieces += ":\n\n";
        }
        if !pieces.is_empty() {
            // Fails when nobody listens any more, and that is the end of it.
            if writer.write(std::mem::take(&mut pieces)).await.is_err() {
                break;
            }
            silent = 0;
        }
        time::sleep(INTERVAL).await;
    }
    Ok(())
}

fn typed(kind: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn say(text: &str) -> StatusCode {
        let message = format!(r#"{{"from": "ann", "text": "{text}"}}"#);
        let request = Request::post("/messages").header("content-type", "application/json");
        handle(request.body(message.into()).unwrap()).await.status()
    }

    async fn stream(last: Option<&str>) -> Body {
        let mut request = Request::get("/events");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        handle(request.body(Body::default()).unwrap()).await.into_body()
    }

    async fn piece(body: &mut Body) -> String {
        String::from_utf8(body.chunk().await.unwrap().unwrap().to_vec()).unwrap()
    }

    #[coracle_sdk::test]
    async fn a_stream_has_what_was_said_and_what_is_said() {
        assert_eq!(say("one").await, StatusCode::CREATED);
        let mut body = stream(None).await;
        let one = "id: 1\ndata: {\"from\":\"ann\",\"text\":\"one\"}\n\n";
        assert_eq!(piece(&mut body).await, format!("retry: 500\n\n{one}"));
        say("two").await;
        assert_eq!(piece(&mut body).await, "id: 2\ndata: {\"from\":\"ann\",\"text\":\"two\"}\n\n");

        let mut again = stream(Some("1")).await;
        let missed = piece(&mut again).await;
        assert!(missed.contains("two") && !missed.contains("one"), "{missed}");
    }

    #[coracle_sdk::test]
    async fn what_is_no_message_is_refused() {
        assert_eq!(say("").await, StatusCode::BAD_REQUEST);
        assert_eq!(say(&"x".repeat(501)).await, StatusCode::BAD_REQUEST);
    }

    #[coracle_sdk::test]
    async fn a_stream_ends_with_its_task() {
        let mut body = stream(None).await;
        assert_eq!(piece(&mut body).await, "retry: 500\n\n");
        coracle_sdk::testing::stop();
        assert_eq!(body.chunk().await.unwrap(), None);
    }
}
