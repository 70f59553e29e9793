//! Idle connections, kept by the worker thread that opened them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;

use tokio::time::Instant;

use super::connection::Upstream;
use super::{Endpoint, PoolSettings};

/// What connections must have in common to stand in for each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    address: SocketAddr,
    tls: Option<(u64, rustls::pki_types::ServerName<'static>)>,
}

impl Key {
    pub(super) fn new(endpoint: &Endpoint) -> Self {
        let tls = endpoint.tls.as_ref().map(|(profile, name)| (profile.identity(), name.clone()));
        Self { address: endpoint.address, tls }
    }
}

struct Idle {
    upstream: Upstream,
    since: Instant,
}

thread_local! {
    static POOL: RefCell<HashMap<Key, Vec<Idle>>> = RefCell::default();
}

/// The connection that became idle last, if it is still good.
pub(super) fn take(key: &Key, settings: &PoolSettings) -> Option<Upstream> {
    POOL.with_borrow_mut(|pool| {
        let list = pool.get_mut(key)?;
        while let Some(mut idle) = list.pop() {
            if idle.since.elapsed() < settings.idle && idle.upstream.is_quiet() {
                return Some(idle.upstream);
            }
        }
        None
    })
}

/// Keeps a connection whose last answer was read to its end.
pub(super) fn put(key: Key, upstream: Upstream, settings: &PoolSettings) {
    if settings.size == 0 || upstream.requests() >= settings.requests {
        return;
    }
    // The thread may be ending; then there is no pool any more.
    let _ = POOL.try_with(|pool| {
        let mut pool = pool.borrow_mut();
        let list = pool.entry(key).or_default();
        if list.len() >= settings.size {
            list.remove(0);
        }
        list.push(Idle { upstream, since: Instant::now() });
    });
}

/// Closes what has idled for too long or was closed by its upstream. Run by each worker now and then.
pub fn sweep(settings: &PoolSettings) {
    POOL.with_borrow_mut(|pool| {
        pool.retain(|_, list| {
            list.retain_mut(|idle| idle.since.elapsed() < settings.idle && idle.upstream.is_quiet());
            !list.is_empty()
        });
    });
}
