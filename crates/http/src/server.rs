//! Listeners and workers: thread per core, each with its own runtime and its own listening sockets.

mod connection;
mod http2;
mod proxy_protocol;
mod request_body;
mod tls;

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub use tls::{CertificateError, Certificates, self_signed};

use crate::client::PoolSettings;
use crate::head::HeadLimits;
use crate::{Connection, Handler};

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

/// A running server.
pub struct ServerHandle {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    workers: Vec<std::thread::JoinHandle<()>>,
}

/// What workers and connections share.
struct Shared {
    limits: Limits,
    stopping: AtomicBool,
    open: AtomicUsize,
    accepted: AtomicUsize,
    certificates: Arc<Certificates>,
}

impl ServerHandle {
    /// Addresses in the order of the listeners, with the ports that were chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Connections accepted since the start.
    pub fn accepted_connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Stops accepting, lets requests under way end for as long as `grace`, then ends.
    pub fn stop(self, grace: Duration) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let _ = self.stop.send(true);
        let deadline = std::time::Instant::now() + grace;
        while self.open_connections() > 0 && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(self.stop);
        for worker in self.workers {
            let _ = worker.join();
        }
    }
}

/// Binds every listener for every worker and starts serving.
///
/// # Errors
/// An address that cannot be listened on, named in the message.
pub fn serve<H: Handler>(config: ServerConfig, handler: Arc<H>) -> io::Result<ServerHandle> {
    let shared = Arc::new(Shared {
        limits: config.limits,
        stopping: AtomicBool::new(false),
        open: AtomicUsize::new(0),
        accepted: AtomicUsize::new(0),
        certificates: config.certificates,
    });
    let (stop, stopped) = watch::channel(false);
    let mut addresses = Vec::new();
    let mut sockets: Vec<Vec<(Listener, StdListener)>> = (0..config.workers.max(1)).map(|_| Vec::new()).collect();
    for listener in &config.listeners {
        let mut address = listener.address;
        for worker in &mut sockets {
            let socket = bind(address, listener.backlog).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
            address = socket.local_addr()?;
            worker.push((listener.clone(), socket));
        }
        addresses.push(address);
    }
    let mut workers = Vec::new();
    for (number, sockets) in sockets.into_iter().enumerate() {
        let (shared, handler, stopped, pool) = (Arc::clone(&shared), Arc::clone(&handler), stopped.clone(), config.pool);
        let worker = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || run_worker(sockets, shared, handler, stopped, pool))?;
        workers.push(worker);
    }
    Ok(ServerHandle { addresses, shared, stop, workers })
}

fn bind(address: SocketAddr, backlog: i32) -> io::Result<StdListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

fn run_worker<H: Handler>(
    sockets: Vec<(Listener, StdListener)>,
    shared: Arc<Shared>,
    handler: Arc<H>,
    mut stopped: watch::Receiver<bool>,
    pool: PoolSettings,
) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async move {
        for (listener, socket) in sockets {
            let Ok(socket) = TcpListener::from_std(socket) else { continue };
            tokio::spawn(accept(listener, socket, Arc::clone(&shared), Arc::clone(&handler), stopped.clone()));
        }
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(10)).await;
                crate::client::sweep(&pool);
            }
        });
        // Told to stop first, then dropped: connections go on until the handle is.
        while stopped.changed().await.is_ok() {}
    });
}

async fn accept<H: Handler>(
    listener: Listener,
    socket: TcpListener,
    shared: Arc<Shared>,
    handler: Arc<H>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            _ = stopped.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                shared.open.fetch_add(1, Ordering::Relaxed);
                let guard = Open(Arc::clone(&shared));
                let (listener, shared, handler) = (listener.clone(), Arc::clone(&shared), Arc::clone(&handler));
                tokio::spawn(async move {
                    let _guard = guard;
                    start(listener, stream, peer, shared, handler).await;
                });
            }
            // Out of file descriptors, most likely: others must close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Counts a connection as open for as long as it lives.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Brings a connection to the point where it speaks HTTP.
async fn start<H: Handler>(listener: Listener, mut stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>, handler: Arc<H>) {
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    let mut connection = Connection { peer, local, tls: None };
    let deadline = shared.limits.head_timeout;
    if listener.proxy_protocol {
        match tokio::time::timeout(deadline, proxy_protocol::read(&mut stream)).await {
            Ok(Ok(source)) => connection.peer = source.unwrap_or(peer),
            _ => return,
        }
    }
    if listener.ssl {
        tls::serve(listener, stream, connection, shared, handler).await;
    } else if listener.http2 && matches!(tokio::time::timeout(deadline, http2::has_preface(&stream)).await, Ok(true)) {
        http2::serve(stream, Arc::new(connection), shared, handler).await;
    } else {
        connection::serve(crate::transport::Transport::Plain(stream), Arc::new(connection), shared, handler).await;
    }
}
