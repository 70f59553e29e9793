//! What a node listens with: proxy, Admin API and Status API.

use std::sync::Arc;
use std::time::Duration;

use tollgate_admin::{Admin, AdminServer, KONG_VERSION, StatusApi};
use tollgate_gateway::Gateway;
use tollgate_gateway::logging::Logged;
use tollgate_http::Handler;
use tollgate_http::server::{
    Certificates, Limits, Listener, ServerConfig, ServerHandle, serve, serve_beside,
};
use tollgate_plugins::Registry;

use super::{Identity, Reader, StartError, SystemClock, node_facts};
use crate::conf::{Database, Node};
use crate::logs::Logs;
use crate::node_status::NodeStatus;

pub(super) struct Servers {
    /// As they were asked for, for proxy, Admin API and Status API; the ports are those of the handles.
    listeners: [Vec<Listener>; 3],
    pub(super) proxy: Arc<ServerHandle>,
    admin: Option<ServerHandle>,
    status: Option<ServerHandle>,
}

impl Servers {
    /// Listens; beside the servers of `before`, which are still there, where they are taken over from.
    pub(super) fn start(
        node: &Node,
        identity: &Identity,
        registry: Arc<Registry>,
        (gateway, certificates): (&Arc<Gateway>, &Arc<Certificates>),
        logs: Logs,
        before: Option<&Servers>,
    ) -> Result<Self, StartError> {
        let listeners = [node.proxy.clone(), node.admin.clone(), node.status.clone()];
        let listen = |which: usize, workers: usize, limits: Limits| {
            let mut listeners = listeners[which].clone();
            if let Some(before) = before {
                keep_ports(&mut listeners, &before.listeners[which], before.handles()[which]);
            }
            let certificates = Arc::clone(certificates);
            ServerConfig { listeners, workers, limits, certificates, pool: node.pool }
        };
        let failed = |property: &str| {
            let property = property.to_owned();
            move |error: std::io::Error| StartError(format!("{property}: {error}"))
        };
        let old = |which: usize| before.and_then(|before| before.handles()[which]);
        let proxy = launch(listen(0, node.workers, node.limits), Arc::clone(gateway), old(0));
        let proxy = Arc::new(proxy.map_err(failed("proxy_listen"))?);
        let status_source = Arc::new(NodeStatus {
            gateway: Arc::clone(gateway),
            proxy: Arc::clone(&proxy),
            store: Arc::clone(&identity.store),
            registry: Arc::clone(&registry),
            declarative: node.database == Database::Off,
            node_id: identity.node_id.to_string(),
            version: KONG_VERSION,
            hash: Arc::clone(&identity.hash),
        });
        let admin = if node.admin.is_empty() {
            None
        } else {
            let hash = Arc::clone(&identity.hash);
            let declarations = Arc::new(Reader { registry: Arc::clone(&registry), hash });
            let api = Admin::new(
                Arc::clone(&identity.store),
                registry,
                declarations,
                Box::new(SystemClock),
                status_source.clone(),
                status_source.clone(),
                node_facts(node, identity.node_id),
            );
            let api = Logged::new(Arc::new(AdminServer::new(api)), logs.admin_access);
            let limits = Limits { body: 0, ..Limits::default() };
            Some(launch(listen(1, 1, limits), Arc::new(api), old(1)).map_err(failed("admin_listen"))?)
        };
        let status = if node.status.is_empty() {
            None
        } else {
            let api = StatusApi::new(status_source, node.product.clone());
            let api = Logged::new(Arc::new(api), logs.status_access);
            let config = listen(2, 1, Limits::default());
            Some(launch(config, Arc::new(api), old(2)).map_err(failed("status_listen"))?)
        };
        Ok(Self { listeners, proxy, admin, status })
    }

    fn handles(&self) -> [Option<&ServerHandle>; 3] {
        [Some(&self.proxy), self.admin.as_ref(), self.status.as_ref()]
    }

    /// Prints where the node listens.
    pub(super) fn announce(&self) {
        let names = ["proxy", "admin", "status"];
        for ((name, listeners), server) in names.iter().zip(&self.listeners).zip(self.handles()) {
            let addresses = server.map_or(&[][..], ServerHandle::addresses);
            for (listener, address) in listeners.iter().zip(addresses) {
                println!("listening: {name}{} {address}", if listener.ssl { "_tls" } else { "" });
            }
        }
    }

    /// Accepts what waits and nothing after it.
    pub(super) fn stop_accepting(&self) {
        self.handles().into_iter().flatten().for_each(ServerHandle::stop_accepting);
    }

    /// Stops serving once requests under way have ended, or after the grace time.
    pub(super) fn stop(self, grace: Duration) {
        for server in [self.admin, self.status].into_iter().flatten() {
            server.stop(grace.min(Duration::from_secs(1)));
        }
        // The API and its view of the data plane are gone: ours is the last handle.
        if let Ok(proxy) = Arc::try_unwrap(self.proxy) {
            proxy.stop(grace);
        }
    }
}

/// Ports that the system chose stay the same where the same listener is asked for again.
fn keep_ports(listeners: &mut [Listener], asked: &[Listener], server: Option<&ServerHandle>) {
    let chosen = server.map_or(&[][..], ServerHandle::addresses);
    for ((listener, asked), chosen) in listeners.iter_mut().zip(asked).zip(chosen) {
        if listener.address == asked.address {
            listener.address = *chosen;
        }
    }
}

fn launch<H: Handler>(
    config: ServerConfig,
    handler: Arc<H>,
    before: Option<&ServerHandle>,
) -> std::io::Result<ServerHandle> {
    match before {
        Some(before) => serve_beside(config, handler, before),
        None => serve(config, handler),
    }
}
