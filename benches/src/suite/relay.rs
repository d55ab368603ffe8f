//! The least a proxy can do: moves the bytes of each connection to one of its own to the target, and back, and looks at
//! none of them. What it adds, this machine asks of every proxy that is a process of its own: waking it up twice for each
//! request, and copying what it reads. It is no peer, as it could not choose between two targets.

use std::io;
use std::net::SocketAddr;
use std::thread;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};

use crate::suite::proxy::announce;

/// The part of the bench that it is.
pub(super) const NAME: &str = "relay";

/// Threads that move bytes. A connection stays with one of them, so that it wakes no other.
pub(super) const THREADS: usize = 2;

/// Relays every connection to `target`.
pub(super) async fn run(target: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?)?;
    Ok(serve(listener, target).await?)
}

/// Has the connections relayed in turn by one thread and by the next, until none can be accepted any more.
async fn serve(listener: TcpListener, target: SocketAddr) -> io::Result<()> {
    let threads = (0..THREADS).map(|_| start()).collect::<io::Result<Vec<_>>>()?;
    for thread in threads.iter().cycle() {
        let (client, _) = listener.accept().await?;
        // Taken off this runtime here, put on the other there.
        let client = client.into_std()?;
        thread.spawn(async move {
            // It ends when both sides have, or one fails; whoever loads it counts what was not answered.
            let _ = relay(client, target).await;
        });
    }
    Ok(())
}

/// A thread with a runtime that lasts as long as the process.
fn start() -> io::Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("relay".to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

async fn relay(client: std::net::TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::from_std(client)?;
    let mut target = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    target.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut target).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A relay to a target that gives back what it gets, connection by connection.
    async fn relayed() -> SocketAddr {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = echo.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = echo.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, target));
        address
    }

    #[tokio::test]
    async fn bytes_come_back_over_the_connection_they_went_by() {
        let address = relayed().await;
        let mut streams = Vec::new();
        for _ in 0..2 * THREADS {
            streams.push(TcpStream::connect(address).await.unwrap());
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            stream.write_all(format!("request {number}").as_bytes()).await.unwrap();
        }
        for (number, mut stream) in streams.into_iter().enumerate() {
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, format!("request {number}"), "and the end came through");
        }
    }

    #[tokio::test]
    async fn without_a_target_the_connection_is_closed() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = gone.local_addr().unwrap();
        drop(gone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, target));
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
