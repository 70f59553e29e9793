//! Listeners and workers: thread per core, each with its own runtime and its own listening sockets.

mod connection;
mod http2;
mod proxy_protocol;
mod respond;
mod tls;
mod tunnel;
mod wire;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
pub use tls::{CertificateError, Certificates, self_signed};

use crate::Handler;
use crate::client::PoolSettings;
use crate::head::HeadLimits;
use tls::Tls;
use worker::{Shared, Worker};

/// A listening address and its flags (Kong 3.11: an entry of `proxy_listen`).
#[derive(Debug, Clone)]
pub struct Listener {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whether it speaks TLS.
    pub ssl: bool,
    /// Whether it speaks HTTP/2: by ALPN with TLS, by prior knowledge without.
    pub http2: bool,
    /// Whether connections open with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// Length of the accept queue.
    pub backlog: i32,
}

impl Listener {
    /// A plain HTTP/1.1 listener.
    pub fn plain(address: SocketAddr) -> Self {
        Self { address, ssl: false, http2: false, proxy_protocol: false, backlog: 16_384 }
    }
}

/// Bounds on what clients may send, and how slowly.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest line of a head, in bytes.
    pub head_line: usize,
    /// Longest head, in bytes.
    pub head_total: usize,
    /// Largest body, in bytes; 0 for no limit (`client_max_body_size`).
    pub body: u64,
    /// For a whole head (`client_header_timeout`).
    pub head_timeout: Duration,
    /// Between two reads of a body (`client_body_timeout`).
    pub body_timeout: Duration,
    /// Between two writes of an answer (`send_timeout`).
    pub send_timeout: Duration,
    /// Between two requests (`keepalive_timeout`).
    pub idle_timeout: Duration,
    /// Requests on one connection (`keepalive_requests`).
    pub requests: u64,
}

impl Default for Limits {
    /// nginx's defaults, with Kong's for `client_max_body_size` and `keepalive_requests`.
    fn default() -> Self {
        let head = HeadLimits::default();
        Self {
            head_line: head.line,
            head_total: head.total,
            body: 0,
            head_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            requests: 10_000,
        }
    }
}

/// What to serve, and how.
pub struct ServerConfig {
    /// Where to listen.
    pub listeners: Vec<Listener>,
    /// Number of workers.
    pub workers: usize,
    /// Bounds on clients.
    pub limits: Limits,
    /// Certificates for TLS listeners; can be changed while serving.
    pub certificates: Arc<Certificates>,
    /// Bounds on the workers' upstream pools.
    pub pool: PoolSettings,
}

/// A running server. Dropping it ends it at once.
pub struct ServerHandle {
    addresses: Vec<SocketAddr>,
    workers: Vec<Worker>,
}

impl ServerHandle {
    /// Addresses in the order of the listeners, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.state().open()).sum()
    }

    /// Connections accepted since the start.
    pub fn accepted_connections(&self) -> usize {
        self.workers.iter().map(|worker| worker.state().accepted()).sum()
    }

    /// The runtimes of the workers, for work that belongs to one of them.
    pub fn runtimes(&self) -> impl Iterator<Item = &tokio::runtime::Handle> {
        self.workers.iter().map(Worker::runtime)
    }

    /// Stops accepting, lets requests under way end for as long as `grace`, then ends. Blocks the thread.
    pub fn stop(self, grace: Duration) {
        for worker in &self.workers {
            worker.stop();
        }
        let deadline = std::time::Instant::now() + grace;
        while self.open_connections() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Binds every listener for every worker and starts serving. Every worker is a thread with its own runtime and
/// its own listening sockets; a connection stays on the worker that accepted it.
///
/// # Errors
/// An address that cannot be listened on, named in the message; a thread that cannot be started.
pub fn serve<H: Handler>(config: ServerConfig, handler: Arc<H>) -> io::Result<ServerHandle> {
    for listener in config.listeners.iter().filter(|listener| listener.address.port() != 0) {
        // SO_REUSEPORT would let a second server share the port silently: see first that nobody has it.
        drop(bind(listener.address, false).map_err(|error| cannot_listen(listener, &error))?);
    }
    serve_beside(config, handler)
}

fn cannot_listen(listener: &Listener, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listener.address))
}

/// As [`serve`], on addresses that another server of this process may still have: for taking over from it
/// without a moment in which nobody listens.
///
/// # Errors
/// As [`serve`].
pub fn serve_beside<H: Handler>(config: ServerConfig, handler: Arc<H>) -> io::Result<ServerHandle> {
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<(Listener, StdListener)>> =
        (0..config.workers.max(1)).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let mut address = listener.address;
        let named = |error: io::Error| cannot_listen(listener, &error);
        for worker in &mut sockets {
            let socket = bind(address, true).map_err(named)?;
            socket.listen(listener.backlog).map_err(named)?;
            address = socket.local_addr()?.as_socket().unwrap_or(address);
            worker.push((listener.clone(), socket.into()));
        }
        addresses.push(address);
    }
    let tls = Tls::new(config.certificates).map_err(io::Error::other)?;
    let mut workers = Vec::new();
    for (number, sockets) in sockets.into_iter().enumerate() {
        let shared = Shared {
            limits: config.limits,
            handler: Arc::clone(&handler),
            tls: tls.clone(),
            state: Arc::default(),
        };
        workers.push(Worker::start(number, sockets, shared, config.pool)?);
    }
    Ok(ServerHandle { addresses, workers })
}

fn bind(address: SocketAddr, reuse_port: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(reuse_port)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}
