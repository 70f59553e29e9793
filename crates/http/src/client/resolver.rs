//! Names to addresses, through the system's resolver (`/etc/hosts` included), with a cache.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long an answer is used.
const VALID: Duration = Duration::from_secs(30);
/// How long an old answer stands in where a new one cannot be had (Kong 3.11: `dns_stale_ttl`).
const STALE: Duration = Duration::from_secs(3600);
/// How long a name that does not exist is remembered.
const NOT_FOUND: Duration = Duration::from_secs(1);

struct Known {
    addresses: Arc<[IpAddr]>,
    since: Instant,
}

/// Resolves names; shared by all workers.
#[derive(Default)]
pub struct Resolver {
    known: Mutex<HashMap<Arc<str>, Known>>,
    turn: AtomicUsize,
}

impl Resolver {
    /// One of the addresses of a name, in turn; `None` where it has none.
    pub async fn resolve(&self, name: &Arc<str>) -> Option<IpAddr> {
        let addresses = self.addresses(name).await;
        let turn = if addresses.len() > 1 { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        addresses.get(turn % addresses.len().max(1)).copied()
    }

    async fn addresses(&self, name: &Arc<str>) -> Arc<[IpAddr]> {
        let old = self.look_up(name);
        if let Some((addresses, age)) = &old {
            let valid = if addresses.is_empty() { NOT_FOUND } else { VALID };
            if *age < valid {
                return Arc::clone(addresses);
            }
        }
        let mut found: Vec<IpAddr> = match tokio::net::lookup_host((&**name, 0)).await {
            Ok(addresses) => addresses.map(|address| address.ip()).collect(),
            Err(_) => Vec::new(),
        };
        // IPv4 first (Kong 3.11 asks for A records unless told otherwise).
        found.sort_by_key(IpAddr::is_ipv6);
        let v4 = found.iter().take_while(|ip| ip.is_ipv4()).count();
        if v4 > 0 {
            found.truncate(v4);
        }
        found.dedup();
        let fresh: Arc<[IpAddr]> = match old {
            Some((old, age)) if found.is_empty() && age < STALE => old,
            _ => found.into(),
        };
        let entry = Known { addresses: Arc::clone(&fresh), since: Instant::now() };
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(name), entry);
        fresh
    }

    fn look_up(&self, name: &Arc<str>) -> Option<(Arc<[IpAddr]>, Duration)> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(name).map(|entry| (Arc::clone(&entry.addresses), entry.since.elapsed()))
    }
}
