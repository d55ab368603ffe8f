//! Which handler a request is for, by its path and method.

use std::pin::Pin;

use ::http::{HeaderValue, Method, StatusCode, header};

use super::path::decode;
use super::request::Parameters;
use super::{Body, IntoResponse, Request, Response};

type Handler = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

/// Handlers by path and method.
///
/// A part of a path in braces is a parameter: `/users/{id}`; one with a star takes all the rest: `/files/{*path}`. A
/// path that is written out goes before one with parameters. Without a handler for the path the answer is 404; with one,
/// but not for the method, it is 405. `HEAD` is answered by the handler of `GET`.
///
/// It is built for each request, because an instance usually lives for no more than one.
#[derive(Default)]
pub struct Router {
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
    fallback: Option<Handler>,
}

struct Route {
    path: String,
    methods: Vec<(Method, Handler)>,
}

macro_rules! methods {
    ($($function:ident $method:ident)*) => {$(
        #[doc = concat!("A handler for `", stringify!($method), "`.")]
        ///
        /// # Panics
        #[doc = "See [`Router::route`]."]
        #[must_use]
        pub fn $function<F, R>(self, path: &str, handler: impl Fn(Request) -> F + 'static) -> Self
        where
            F: Future<Output = R> + 'static,
            R: IntoResponse,
        {
            self.route(Method::$method, path, handler)
        }
    )*};
}

impl Router {
    /// No routes yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    methods! {
        get GET
        post POST
        put PUT
        patch PATCH
        delete DELETE
    }

    /// A handler for one method and path.
    ///
    /// # Panics
    /// When the path is not one, or could be another's as well: a mistake of the program, which every test of it shows.
    #[must_use]
    pub fn route<F, R>(mut self, method: Method, path: &str, handler: impl Fn(Request) -> F + 'static) -> Self
    where
        F: Future<Output = R> + 'static,
        R: IntoResponse,
    {
        let position = match self.routes.iter().position(|route| route.path == path) {
            Some(position) => position,
            None => {
                let position = self.routes.len();
                if let Err(error) = self.paths.insert(path, position) {
                    panic!("the route {path:?} can't be added: {error}");
                }
                self.routes.push(Route { path: path.to_owned(), methods: Vec::new() });
                position
            }
        };
        self.routes[position].methods.push((method, boxed(handler)));
        self
    }

    /// A handler for what no route is for.
    #[must_use]
    pub fn fallback<F, R>(mut self, handler: impl Fn(Request) -> F + 'static) -> Self
    where
        F: Future<Output = R> + 'static,
        R: IntoResponse,
    {
        self.fallback = Some(boxed(handler));
        self
    }

    /// Answers a request.
    pub async fn handle(self, mut request: Request) -> Response {
        let found = self.paths.at(request.uri().path()).ok().map(|found| {
            let parameters = found.params.iter().map(|(name, value)| (name.to_owned(), decode(value, false)));
            (*found.value, Parameters(parameters.collect()))
        });
        let Some((position, parameters)) = found else {
            return match &self.fallback {
                Some(handler) => handler(request).await,
                None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
            };
        };
        let methods = &self.routes[position].methods;
        let wanted = request.method();
        let as_get = |method: &Method| wanted == Method::HEAD && method == Method::GET;
        let handler = methods
            .iter()
            .find(|(method, _)| method == wanted)
            .or_else(|| methods.iter().find(|(method, _)| as_get(method)));
        let Some((method, handler)) = handler else { return not_allowed(methods) };
        let without_body = *wanted == Method::HEAD && *method == Method::GET;
        request.extensions_mut().insert(parameters);
        let response = handler(request).await;
        // One of unknown length: that of the answer to `GET` is not 0.
        if without_body { response.map(|_| Body::stream(async |_| Ok(()))) } else { response }
    }
}

fn boxed<F, R>(handler: impl Fn(Request) -> F + 'static) -> Handler
where
    F: Future<Output = R> + 'static,
    R: IntoResponse,
{
    Box::new(move |request| {
        let answer = handler(request);
        Box::pin(async move { answer.await.into_response() })
    })
}

fn not_allowed(methods: &[(Method, Handler)]) -> Response {
    let names: Vec<_> = methods.iter().map(|(method, _)| method.as_str()).collect();
    let mut response = (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n").into_response();
    if let Ok(allow) = HeaderValue::try_from(names.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::http::RequestExt;

    async fn handle(request: Request) -> Response {
        Router::new()
            .get("/users/{id}", async |request: Request| {
                let id: u32 = request.parse_param("id")?;
                Ok::<_, Error>(format!("user {id}"))
            })
            .delete("/users/{id}", async |_| ())
            .get("/users/me", async |_| "me")
            .get("/files/{*path}", async |request: Request| request.param("path").map(str::to_owned))
            .handle(request)
            .await
    }

    async fn answer(method: Method, path: &str) -> (u16, String) {
        let mut response =
            handle(::http::Request::builder().method(method).uri(path).body(Body::default()).unwrap()).await;
        (response.status().as_u16(), response.body_mut().text().await.unwrap())
    }

    #[crate::test]
    async fn requests_find_their_handlers() {
        assert_eq!(answer(Method::GET, "/users/7").await, (200, "user 7".to_owned()));
        assert_eq!(answer(Method::GET, "/users/me?x=1").await, (200, "me".to_owned()));
        assert_eq!(answer(Method::GET, "/files/a/b%20c").await, (200, "a/b c".to_owned()));
        assert_eq!(answer(Method::DELETE, "/users/7").await, (204, String::new()));
        assert_eq!(answer(Method::HEAD, "/users/7").await, (200, String::new()));
        assert_eq!(answer(Method::GET, "/users/seven").await.0, 404);
        assert_eq!(answer(Method::GET, "/nowhere").await.0, 404);
    }

    #[crate::test]
    async fn another_method_is_told_which_there_are() {
        let request = ::http::Request::post("/users/7").body(Body::default()).unwrap();
        let response = handle(request).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[header::ALLOW], "GET, DELETE");
    }
}
