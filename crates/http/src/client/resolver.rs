//! Names to addresses, through the system's resolver (`/etc/hosts` included), with a cache on each worker
//! thread: looking a known name up locks nothing.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer is used.
const VALID: Duration = Duration::from_secs(30);
/// How long an old answer is used while a new one is asked for, and where none can be had (Kong 3.11:
/// `dns_stale_ttl`).
const STALE: Duration = Duration::from_secs(3600);
/// How long a name that does not exist is remembered.
const NOT_FOUND: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Known {
    addresses: Vec<IpAddr>,
    /// Whose turn it is.
    next: usize,
    since: Option<Instant>,
    /// Somebody asks for new addresses.
    refreshing: bool,
}

thread_local! {
    static NAMES: RefCell<HashMap<Arc<str>, Known, foldhash::fast::RandomState>> = RefCell::default();
}

/// One of the addresses of a name, in turn; `None` where it has none. Must be called on a runtime of tokio's.
pub async fn resolve(name: &Arc<str>) -> Option<IpAddr> {
    match look_up(name) {
        Cached::Valid(address) => address,
        Cached::Stale(address) => {
            let name = Arc::clone(name);
            tokio::spawn(async move { ask(&name).await });
            Some(address)
        }
        Cached::Unknown => {
            ask(name).await;
            NAMES.with_borrow_mut(|names| names.get_mut(name).and_then(Known::turn))
        }
    }
}

enum Cached {
    Valid(Option<IpAddr>),
    Stale(IpAddr),
    Unknown,
}

fn look_up(name: &Arc<str>) -> Cached {
    NAMES.with_borrow_mut(|names| {
        let Some(known) = names.get_mut(name) else { return Cached::Unknown };
        let Some(age) = known.since.map(|since| since.elapsed()) else { return Cached::Unknown };
        match known.turn() {
            None if age < NOT_FOUND => Cached::Valid(None),
            None => Cached::Unknown,
            Some(address) if age < VALID || known.refreshing && age < STALE => Cached::Valid(Some(address)),
            Some(address) if age < STALE => {
                known.refreshing = true;
                Cached::Stale(address)
            }
            Some(_) => Cached::Unknown,
        }
    })
}

impl Known {
    fn turn(&mut self) -> Option<IpAddr> {
        self.next = (self.next + 1) % self.addresses.len().max(1);
        self.addresses.get(self.next).copied()
    }
}

/// Asks the system and remembers the answer.
async fn ask(name: &Arc<str>) {
    let answer = tokio::net::lookup_host((&**name, 0)).await;
    let mut found: Vec<IpAddr> =
        answer.into_iter().flatten().map(|address| address.ip().to_canonical()).collect();
    // IPv4 where there is any (Kong 3.11 asks for A records unless told otherwise).
    if found.iter().any(IpAddr::is_ipv4) {
        found.retain(IpAddr::is_ipv4);
    }
    found.sort_unstable();
    found.dedup();
    NAMES.with_borrow_mut(|names| {
        let known = names.entry(Arc::clone(name)).or_default();
        known.refreshing = false;
        if found.is_empty()
            && !known.addresses.is_empty()
            && known.since.is_some_and(|since| since.elapsed() < STALE)
        {
            return;
        }
        known.addresses = found;
        known.since = Some(Instant::now());
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_are_resolved_and_remembered() {
        let name: Arc<str> = "localhost".into();
        assert!(resolve(&name).await.is_some_and(|address| address.is_loopback()));
        assert!(matches!(look_up(&name), Cached::Valid(Some(_))));
        let nobody: Arc<str> = "nobody.invalid".into();
        assert_eq!(resolve(&nobody).await, None);
        assert!(matches!(look_up(&nobody), Cached::Valid(None)));
    }

    #[tokio::test]
    async fn an_old_answer_serves_while_a_new_one_is_asked_for() {
        let name: Arc<str> = "localhost".into();
        let old = Known {
            addresses: vec![IpAddr::from([192, 0, 2, 1])],
            since: Instant::now().checked_sub(VALID),
            ..Known::default()
        };
        NAMES.with_borrow_mut(|names| names.insert(Arc::clone(&name), old));
        assert_eq!(resolve(&name).await, Some(IpAddr::from([192, 0, 2, 1])));
        while NAMES.with_borrow(|names| names[&name].refreshing) {
            tokio::task::yield_now().await;
        }
        assert!(resolve(&name).await.is_some_and(|address| address.is_loopback()));
    }
}
