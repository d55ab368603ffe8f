//! Connections to the endpoint: accepted, bounded, and ended in good order.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

/// How many connections are served at once; further ones wait in the kernel's backlog. SDKs keep some ten
/// each.
const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take to send the head of a request, and how long a connection may rest between
/// two. SDKs open another one when theirs was closed.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How many headers a request may have, and how large its head may be. Signed requests have a dozen; a
/// session token is the largest.
const HEADERS_MAX: usize = 100;
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long requests in flight may go on once the server is to stop.
const GRACE: Duration = Duration::from_secs(5);
/// How long to wait after the kernel had no file descriptor or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` until `shutdown`; then takes no more connections and gives requests in flight five
/// seconds to end.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // A client that is gone already concerns nobody; for what the kernel lacks, time may help.
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // Answers are small and clients wait for each: Nagle's algorithm would only delay them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "could not set TCP_NODELAY");
        }
        let service = service_fn({
            let app = app.clone();
            move |request| answer(app.clone(), request, client)
        });
        // Sessions of ExecuteCommand take their connection over.
        let connection = http.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended badly");
            }
        });
    }
    drop(listener);
    // Whoever is not done by then is cut off with the process.
    let _ = tokio::time::timeout(GRACE, connections.shutdown()).await;
    Ok(())
}

async fn answer(
    app: Router,
    mut request: http::Request<Incoming>,
    client: SocketAddr,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(client));
    app.oneshot(request.map(Body::new)).await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn answer_to(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn heads_are_bounded_and_the_end_is_in_good_order() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let client = |ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.ip().to_string() };
        let app = Router::new().route("/", axum::routing::get(client));
        let served = tokio::spawn(serve(listener, app, async move {
            let _ = stopped.await;
        }));

        let answer = answer_to(address, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("127.0.0.1"), "{answer}");
        for headers in
            ["x: y\r\n".repeat(HEADERS_MAX + 1), format!("x: {}\r\n", "y".repeat(4 * HEAD_BYTES_MAX))]
        {
            let answer =
                answer_to(address, &format!("GET / HTTP/1.1\r\nconnection: close\r\n{headers}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        }

        // A connection that rests does not hold up the end.
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut byte = [0];
        idle.read_exact(&mut byte).await.unwrap();
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
