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
use std::sync::{Arc, Mutex, PoisonError};
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
    /// The sockets of each address, kept for a server that takes over.
    sockets: Mutex<Vec<Vec<StdListener>>>,
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

    /// Begins to stop: connections that wait are accepted, none after. Blocks the thread until the last one is in.
    pub fn stop_accepting(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for worker in &self.workers {
            worker.stop();
        }
        let accepting = || self.workers.iter().any(|worker| worker.state().is_accepting());
        wait_while(accepting, ACCEPT_AT_MOST);
    }

    /// Stops accepting, lets requests under way end for as long as `grace`, then ends. Connections on which nothing
    /// was asked yet have a second for it. Blocks the thread.
    pub fn stop(self, grace: Duration) {
        if !grace.is_zero() {
            self.stop_accepting();
        }
        wait_while(|| self.open_connections() > 0, grace);
    }
}

/// For how long workers may be too busy to accept the last connections.
const ACCEPT_AT_MOST: Duration = Duration::from_secs(1);

fn wait_while(holds: impl Fn() -> bool, at_most: Duration) {
    let deadline = std::time::Instant::now() + at_most;
    while holds() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
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
    start(config, handler, None)
}

fn cannot_listen(listener: &Listener, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {}: {error}", listener.address))
}

/// As [`serve`], taking over from another server of this process: the addresses they share are served from the
/// very same sockets, so that no connection that waits in one is lost when `before` stops.
///
/// # Errors
/// As [`serve`].
pub fn serve_beside<H: Handler>(
    config: ServerConfig,
    handler: Arc<H>,
    before: &ServerHandle,
) -> io::Result<ServerHandle> {
    start(config, handler, Some(before))
}

fn start<H: Handler>(
    config: ServerConfig,
    handler: Arc<H>,
    before: Option<&ServerHandle>,
) -> io::Result<ServerHandle> {
    let workers = config.workers.max(1);
    let (mut addresses, mut kept) = (Vec::new(), Vec::new());
    let mut of_workers: Vec<Vec<(Listener, StdListener)>> = (0..workers).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let (address, sockets) =
            listen(listener, workers, before).map_err(|error| cannot_listen(listener, &error))?;
        // Where there were more workers before, some of the new ones accept from several sockets.
        for (number, socket) in sockets.iter().enumerate() {
            if let Some(worker) = of_workers.get_mut(number % workers) {
                worker.push((listener.clone(), socket.try_clone()?));
            }
        }
        addresses.push(address);
        kept.push(sockets);
    }
    let tls = Tls::new(config.certificates).map_err(io::Error::other)?;
    let mut workers = Vec::new();
    for (number, sockets) in of_workers.into_iter().enumerate() {
        let shared = Shared {
            limits: config.limits,
            handler: Arc::clone(&handler),
            tls: tls.clone(),
            state: Arc::default(),
        };
        workers.push(Worker::start(number, sockets, shared, config.pool)?);
    }
    Ok(ServerHandle { addresses, sockets: Mutex::new(kept), workers })
}

/// The sockets of a listener, at least one for each worker: those there were before, and new ones.
fn listen(
    listener: &Listener,
    workers: usize,
    before: Option<&ServerHandle>,
) -> io::Result<(SocketAddr, Vec<StdListener>)> {
    let mut sockets = Vec::with_capacity(workers);
    if let Some(before) = before {
        let had = before.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let had = before.addresses.iter().zip(had.iter());
        for socket in had.filter(|(address, _)| **address == listener.address).flat_map(|(_, had)| had) {
            let socket = Socket::from(socket.try_clone()?);
            // Only sets the length of the queue anew.
            socket.listen(listener.backlog)?;
            sockets.push(StdListener::from(socket));
        }
    }
    let mut address = listener.address;
    while sockets.len() < workers {
        let socket = bind(address, true)?;
        socket.listen(listener.backlog)?;
        address = socket.local_addr()?.as_socket().unwrap_or(address);
        sockets.push(socket.into());
    }
    Ok((address, sockets))
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
