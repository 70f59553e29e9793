//! Idle connections, kept by the worker thread that opened them.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use super::connection::UpstreamConnection;
use super::{Endpoint, PoolSettings, http2};

struct Idle {
    connection: Box<UpstreamConnection>,
    since: Instant,
}

thread_local! {
    static POOLS: RefCell<HashMap<Endpoint, VecDeque<Idle>, foldhash::fast::RandomState>> = RefCell::default();
}

/// The connection to `endpoint` that was used last and is still alive.
pub(super) fn take(endpoint: &Endpoint, settings: &PoolSettings) -> Option<Box<UpstreamConnection>> {
    if settings.size == 0 {
        return None;
    }
    POOLS.with_borrow_mut(|pools| {
        let pool = pools.get_mut(endpoint)?;
        let now = Instant::now();
        while let Some(idle) = pool.pop_back() {
            let mut connection = idle.connection;
            if now - idle.since < settings.idle && connection.is_alive() {
                connection.taken = Some(now);
                return Some(connection);
            }
        }
        None
    })
}

/// Keeps a connection for the next request, where the settings allow.
pub(super) fn put(mut connection: Box<UpstreamConnection>, settings: &PoolSettings) {
    let worn = connection.requests >= settings.requests;
    if settings.size == 0 || worn {
        return;
    }
    connection.reused = true;
    let idle = Idle { connection, since: Instant::now() };
    // The thread may be ending; then there is no pool any more.
    let _ = POOLS.try_with(|pools| {
        let mut pools = pools.borrow_mut();
        let pool = match pools.get_mut(&idle.connection.endpoint) {
            Some(pool) => pool,
            None => pools.entry(idle.connection.endpoint.clone()).or_default(),
        };
        if pool.len() >= settings.size {
            pool.pop_front();
        }
        pool.push_back(idle);
    });
}

/// Closes what has idled for too long or was closed by its upstream. Run by each worker now and then.
pub fn sweep(settings: &PoolSettings) {
    let now = Instant::now();
    http2::sweep(settings.idle);
    POOLS.with_borrow_mut(|pools| {
        pools.retain(|_, pool| {
            pool.retain_mut(|idle| now - idle.since < settings.idle && idle.connection.is_alive());
            !pool.is_empty()
        });
    });
}
