//! Asking targets how they are (Kong 3.11: active health checks).
//!
//! One thread asks for all upstreams of the node, by the configuration that is being served. What it learns goes
//! where the request path looks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use tokio::sync::Semaphore;
use tollgate_http::client::{Client, Endpoint, PoolSettings, SendError, SendErrorKind, Timeouts, TlsProfile};
use tollgate_http::{Body, Headers, Method, RequestHead, Version};

use super::{Balancer, Outcome};
use crate::clock;
use crate::snapshot::Snapshot;

/// How often is looked who is to be asked.
const TICK: Duration = Duration::from_millis(50);
/// The same while nobody is to be asked at all.
const IDLE: Duration = Duration::from_millis(500);

/// Starts the thread that asks, once there is an upstream that wants it.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    started: AtomicBool,
}

impl Prober {
    /// Sees that targets are asked where `snapshot` wants it. The thread ends with `served`.
    pub(crate) fn follow(&self, snapshot: &Snapshot, served: &Arc<ArcSwap<Snapshot>>) {
        let wanted = snapshot.upstreams.values().any(|balancer| balancer.settings.active.is_on());
        if !wanted || self.started.swap(true, Ordering::Relaxed) {
            return;
        }
        let served = Arc::downgrade(served);
        let spawned = std::thread::Builder::new().name("prober".into()).spawn(move || run(&served));
        if spawned.is_err() {
            self.started.store(false, Ordering::Relaxed);
        }
    }
}

fn run(served: &Weak<ArcSwap<Snapshot>>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        while let Some(served) = served.upgrade() {
            let mut pause = IDLE;
            for balancer in
                served.load().upstreams.values().filter(|balancer| balancer.settings.active.is_on())
            {
                pause = TICK;
                ask_due(balancer);
            }
            drop(served);
            tokio::time::sleep(pause).await;
        }
    });
}

/// Begins to ask the targets whose time has come.
fn ask_due(balancer: &Arc<Balancer>) {
    let checks = &balancer.settings.active;
    let now = clock::milliseconds();
    let free = Arc::new(Semaphore::new(checks.concurrency));
    for (target, state) in balancer.states.iter().enumerate() {
        let interval =
            if state.health.is_healthy() { checks.healthy_interval } else { checks.unhealthy_interval };
        if interval.is_zero() || state.next_probe.load(Ordering::Relaxed) > now {
            continue;
        }
        let next = now + interval.as_millis() as u64;
        state.next_probe.store(next, Ordering::Relaxed);
        let (balancer, free) = (Arc::clone(balancer), Arc::clone(&free));
        tokio::spawn(async move {
            let _turn = free.acquire().await;
            let outcome = ask(&balancer, target).await;
            if let Some(state) = balancer.states.get(target) {
                state.health.report(outcome, &balancer.settings.active.thresholds);
            }
        });
    }
}

async fn ask(balancer: &Balancer, target: usize) -> Outcome {
    let checks = &balancer.settings.active;
    let asking = async {
        let peer = balancer.peer(target)?;
        let ip = peer.host.resolve().await?;
        let tls = match checks.tls {
            false => None,
            true => {
                let name = checks
                    .server_name
                    .as_deref()
                    .map_or_else(|| balancer.targets[target].host.to_string(), str::to_owned);
                Some((profile(checks.verify)?, ServerName::try_from(name).unwrap_or_else(|_| ip.into())))
            }
        };
        let endpoint = Endpoint { address: (ip, peer.port).into(), tls, http2: false };
        let client = Client::new(PoolSettings { size: 0, ..PoolSettings::default() });
        let timeouts = Timeouts { connect: checks.timeout, write: checks.timeout, read: checks.timeout };
        Some(client.send(&endpoint, &question(balancer, target), &mut Body::Empty, &timeouts).await)
    };
    match tokio::time::timeout(checks.timeout, asking).await {
        Err(_) => Outcome::TimedOut,
        Ok(None) => Outcome::Failed,
        Ok(Some(Ok(response))) => Outcome::Status(response.status.as_u16()),
        Ok(Some(Err(error))) => of_error(&error),
    }
}

fn of_error(error: &SendError) -> Outcome {
    match error.kind {
        SendErrorKind::ConnectTimeout | SendErrorKind::ReadTimeout | SendErrorKind::WriteTimeout => {
            Outcome::TimedOut
        }
        _ => Outcome::Failed,
    }
}

fn question(balancer: &Balancer, target: usize) -> RequestHead {
    let checks = &balancer.settings.active;
    let mut headers = Headers::new();
    let host = balancer.host_header.as_deref().unwrap_or_else(|| &balancer.targets[target].host);
    headers.append("Host", host);
    for (name, value) in &checks.headers {
        headers.append(name, value.as_bytes());
    }
    RequestHead {
        method: Method::GET,
        target: Bytes::copy_from_slice(checks.path.as_bytes()),
        version: Version::HTTP_11,
        headers,
    }
}

/// How TLS is spoken when asking; `None` where the system's certificates cannot be read.
fn profile(verify: bool) -> Option<Arc<TlsProfile>> {
    static PROFILES: [OnceLock<Option<Arc<TlsProfile>>>; 2] = [OnceLock::new(), OnceLock::new()];
    let [any, verified] = &PROFILES;
    let profile = if verify { verified } else { any };
    profile.get_or_init(|| TlsProfile::new(verify, &[], None).ok().map(Arc::new)).clone()
}
