//! The app: an HTTP service that asks another container of its task who may do what. To ask is to call a function:
//! `policy::check` is imported, and the label `coracle.link` of the task definition says which container exports it.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

mod auth {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "package example:app; world app { import example:auth/policy@1.0.0; }",
        generate_all,
    });
    pub use example::auth::policy;
}

use auth::policy::{self, Denial};

struct App;

wasip2::http::proxy::export!(App);

impl wasip2::exports::http::incoming_handler::Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default();
        if path == "/" {
            return answer(out, 200, "Anybody may read this.\n");
        }
        let header = request.headers().get("authorization").into_iter().next().unwrap_or_default();
        match policy::check(&String::from_utf8_lossy(&header), path) {
            Ok(user) => answer(out, 200, &format!("Hello {user}, this is {path}.\n")),
            Err(Denial::Unauthenticated) => answer(out, 401, "Who are you?\n"),
            Err(Denial::Forbidden) => answer(out, 403, "Not you.\n"),
        }
    }
}

/// Sends a body that is already whole.
fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut headers = vec![header("content-length", &text.len().to_string())];
    if status == 401 {
        headers.push(header("www-authenticate", "Bearer"));
    }
    let headers = Fields::from_list(&headers).expect("the headers are well formed");
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status is one of HTTP's");
    let body = response.body().expect("a response has one body, taken here first");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("a body has one stream, taken here first");
    // Fails when the client has gone, and there is nobody left to tell. The texts are shorter than 4096 bytes.
    let _ = stream.blocking_write_and_flush(text.as_bytes());
    drop(stream);
    let _ = OutgoingBody::finish(body, None);
}
