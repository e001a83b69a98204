//! The fake on a loopback socket.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;

use crate::reply::Broken;
use crate::world::World;

/// A fake that listens, until it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where: `127.0.0.1:PORT`.
    pub address: SocketAddr,
    /// What it serves.
    pub world: World,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// `http://127.0.0.1:PORT`, for `AWS_ENDPOINT_URL`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // The thread ends by itself only if it panicked, and then it has said why.
            let _ended = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The sender's end is the signal.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Serves a world on 127.0.0.1, on a port that was free, from threads of its own.
///
/// # Errors
/// Where there is no socket or no thread to be had.
pub fn serve(world: World) -> io::Result<Running> {
    serve_on(world, 0)
}

/// The same on a port of one's choice.
///
/// # Errors
/// As [`serve`]; or the port is taken.
pub fn serve_on(world: World, port: u16) -> io::Result<Running> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = world.clone();
    let thread = std::thread::Builder::new().name("fake-aws".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, served) => {}
                _ = stopped => {}
            }
        });
        // Replies that are held or slow do not keep the thread.
        runtime.shutdown_timeout(Duration::from_millis(100));
    })?;
    Ok(Running { address, world, stop: Some(stop), thread: Some(thread) })
}

async fn accept(listener: TcpListener, world: World) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        // A client that went away while it was accepted is no reason to stop.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let Ok(stream) = stream.into_std() else { continue };
        let world = world.clone();
        tokio::spawn(async move {
            // A broken connection is the client's business, or ours on purpose.
            let _ended = converse(stream, world).await;
        });
    }
}

/// Answers the requests of one connection.
async fn converse(stream: TcpStream, world: World) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A second handle of the socket, to say that its close is a reset.
    let socket = Arc::new(stream.try_clone()?);
    let stream = TokioIo::new(tokio::net::TcpStream::from_std(stream)?);
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let (world, socket) = (world.clone(), Arc::clone(&socket));
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Broken)?.to_bytes();
            let answer = world.answer(http::Request::from_parts(head, body)).await;
            if answer.is_err() {
                // Where this fails the connection is closed in order, which no client takes for a reply either.
                let _reset = rustix::net::sockopt::set_socket_linger(&*socket, Some(Duration::ZERO));
            }
            answer
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new());
    builder.serve_connection(stream, service).await.map_err(io::Error::other)
}
