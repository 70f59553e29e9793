//! Worker threads.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::tls::{self, Tls};
use super::{Limits, Listener, connection, proxy_protocol};
use crate::client::PoolSettings;
use crate::transport::Transport;
use crate::{Connection, Handler};

/// How often idle upstream connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// What the connections of one worker share.
pub(super) struct Shared<H> {
    pub(super) limits: Limits,
    pub(super) handler: Arc<H>,
    pub(super) tls: Tls,
    pub(super) state: Arc<State>,
}

/// What a worker and its owner share.
#[derive(Default)]
pub(super) struct State {
    open: AtomicUsize,
    accepted: AtomicUsize,
    /// Sockets that are accepted from.
    accepting: AtomicUsize,
    stopping: AtomicBool,
    /// Told once, when stopping begins.
    pub(super) stopped: Notify,
}

/// What a new connection has for its first request once stopping has begun.
pub(super) const FIRST_REQUEST: Duration = Duration::from_secs(1);

impl State {
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.accepting.load(Ordering::Relaxed) > 0
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// What comes before a first request: within `limit`, and soon once stopping has begun.
    pub(super) async fn in_time<T>(&self, limit: Duration, step: impl Future<Output = T>) -> Option<T> {
        let mut stopped = std::pin::pin!(self.stopped.notified());
        stopped.as_mut().enable();
        let overdue = async {
            if !self.is_stopping() {
                stopped.await;
            }
            tokio::time::sleep(FIRST_REQUEST).await;
        };
        tokio::select! {
            biased;
            done = timeout(limit, step) => done.ok(),
            () = overdue => None,
        }
    }
}

/// A thread that serves connections. Dropping it closes them all.
pub(super) struct Worker {
    state: Arc<State>,
    runtime: Handle,
    quit: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(super) fn start<H: Handler>(
        number: usize,
        sockets: Vec<(Listener, TcpListener)>,
        shared: Shared<H>,
        pool: PoolSettings,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = shared.state.clone();
        let shared = Arc::new(shared);
        let mut listeners = Vec::with_capacity(sockets.len());
        {
            let _inside = runtime.enter();
            for (listener, socket) in sockets {
                listeners.push((tokio::net::TcpListener::from_std(socket)?, listener));
            }
        }
        let (quit, quitting) = oneshot::channel();
        let own = runtime.handle().clone();
        let thread = std::thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            runtime.block_on(async move {
                for (socket, listener) in listeners {
                    shared.state.accepting.fetch_add(1, Ordering::Relaxed);
                    tokio::spawn(accept(socket, Arc::new(listener), shared.clone()));
                }
                tokio::spawn(async move {
                    loop {
                        tokio::time::sleep(SWEEP_INTERVAL).await;
                        crate::client::sweep(&pool);
                    }
                });
                let _ = quitting.await;
            });
            runtime.shutdown_timeout(Duration::ZERO);
        })?;
        Ok(Self { state, runtime: own, quit: Some(quit), thread: Some(thread) })
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn runtime(&self) -> &Handle {
        &self.runtime
    }

    pub(super) fn stop(&self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        self.state.stopped.notify_waiters();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(quit) = self.quit.take() {
            let _ = quit.send(());
        }
        // A handler that holds the last handle must not wait for its own thread.
        if let Some(thread) =
            self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id())
        {
            let _ = thread.join();
        }
    }
}

async fn accept<H: Handler>(
    socket: tokio::net::TcpListener,
    listener: Arc<Listener>,
    shared: Arc<Shared<H>>,
) {
    let stopped = shared.state.stopped.notified();
    let mut stopped = std::pin::pin!(stopped);
    // Registers for the notice before the flag is looked at, so that neither can be missed.
    stopped.as_mut().enable();
    while !shared.state.is_stopping() {
        tokio::select! {
            () = stopped.as_mut() => break,
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => take(stream, peer, &listener, &shared),
                // Out of descriptors, most likely: others must close first.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    // Those that wait would be reset when the last handle of the socket is closed.
    if let Ok(socket) = socket.into_std() {
        while let Ok((stream, peer)) = socket.accept() {
            let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
            if let Ok(stream) = stream {
                take(stream, peer, &listener, &shared);
            }
        }
    }
    shared.state.accepting.fetch_sub(1, Ordering::Relaxed);
}

fn take<H: Handler>(stream: TcpStream, peer: SocketAddr, listener: &Arc<Listener>, shared: &Arc<Shared<H>>) {
    let open = Open::count(shared.state.clone());
    let (listener, shared) = (listener.clone(), shared.clone());
    tokio::spawn(async move {
        let _open = open;
        begin(stream, peer, &listener, &shared).await;
    });
}

/// Takes an accepted connection to the point where it speaks HTTP.
async fn begin<H: Handler>(mut stream: TcpStream, peer: SocketAddr, listener: &Listener, shared: &Shared<H>) {
    let _ = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else { return };
    static ACCEPTED: AtomicU64 = AtomicU64::new(0);
    let number = ACCEPTED.fetch_add(1, Ordering::Relaxed) + 1;
    let mut connection =
        Connection { peer, local, tls: None, number, requests: Arc::default(), told: OnceLock::new() };
    if listener.proxy_protocol {
        match shared.state.in_time(shared.limits.head_timeout, proxy_protocol::read(&mut stream)).await {
            Some(Ok(source)) => connection.peer = source.unwrap_or(peer),
            _ => return,
        }
    }
    if listener.ssl {
        tls::serve(stream, connection, listener, shared).await;
    } else {
        connection::serve(Transport::Plain(stream), Arc::new(connection), listener.http2, shared).await;
    }
}

/// Counts a connection for as long as it is held.
struct Open(Arc<State>);

impl Open {
    fn count(state: Arc<State>) -> Self {
        state.open.fetch_add(1, Ordering::Relaxed);
        state.accepted.fetch_add(1, Ordering::Relaxed);
        Self(state)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
