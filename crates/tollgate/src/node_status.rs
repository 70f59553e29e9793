//! What the node tells about itself: `/status`, `/status/ready`, `/metrics`.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tollgate_admin::{ConfigurationHash, StatusSource, Unit, Upstreams};
use tollgate_gateway::Gateway;
use tollgate_gateway::balancer::{Balancer, Health};
use tollgate_http::server::ServerHandle;
use tollgate_model::{PluginSchemas, Value, json};
use tollgate_plugins::Registry;
use tollgate_plugins::observe::prometheus;
use tollgate_store::Store;
use tollgate_telemetry::metrics::{self, Exposition, Metrics, Number, families};
use uuid::Uuid;

/// The subsystem that all of this is, to Kong.
const SUBSYSTEM: &str = "http";
/// Kong's name for the table of metrics.
const METRICS_TABLE: &str = "prometheus_metrics";

/// The parts of a node that know something.
pub struct NodeStatus {
    /// The data plane.
    pub gateway: Arc<Gateway>,
    /// Its server.
    pub proxy: Arc<ServerHandle>,
    /// The entities.
    pub store: Arc<Store>,
    /// The plugins.
    pub registry: Arc<Registry>,
    /// Whether the configuration comes from a declarative file.
    pub declarative: bool,
    /// Hash of that configuration.
    pub hash: Arc<ConfigurationHash>,
    /// The node's id.
    pub node_id: String,
    /// Version of Kong whose behaviour is followed, as `GET /` tells it.
    pub version: &'static str,
}

/// Connections and requests since the start, in nginx's terms.
struct Connections {
    accepted: u64,
    active: u64,
    writing: u64,
    waiting: u64,
    requests: u64,
}

impl NodeStatus {
    fn connections(&self) -> Connections {
        let active = self.proxy.open_connections();
        let writing = tollgate_gateway::under_way();
        Connections {
            accepted: self.proxy.accepted_connections() as u64,
            active: active as u64,
            writing: writing as u64,
            waiting: active.saturating_sub(writing) as u64,
            requests: self.gateway.counters().requests.load(Ordering::Relaxed),
        }
    }

    fn is_reachable(&self) -> bool {
        self.store.read(|view| view.revision()).is_ok()
    }

    fn show_node(&self, shown: &mut Exposition) {
        let node_id = self.node_id.as_str();
        let connections = self.connections();
        let mut integer = |family, labels: &[&str], value: u64| {
            shown.value(family, labels, Number::Integer(value));
        };
        for (state, value) in [
            ("accepted", connections.accepted),
            ("handled", connections.accepted),
            ("total", connections.requests),
            ("active", connections.active),
            // A head is read at once or waited for: the two are not told apart.
            ("reading", 0),
            ("writing", connections.writing),
            ("waiting", connections.waiting),
        ] {
            integer(&families::CONNECTIONS, &[node_id, SUBSYSTEM, state], value);
        }
        integer(&families::REQUESTS, &[node_id, SUBSYSTEM], connections.requests);
        let (mut running, mut pending) = (0, 0);
        for runtime in self.proxy.runtimes() {
            running += runtime.metrics().num_alive_tasks();
            pending += runtime.metrics().global_queue_depth();
        }
        // Each connection is a task too, but nothing that runs in the background.
        let running = running.saturating_sub(connections.active as usize);
        integer(&families::TIMERS, &["running"], running as u64);
        integer(&families::TIMERS, &["pending"], pending as u64);
        integer(&families::DATASTORE, &[], u64::from(self.is_reachable()));
        integer(&families::NODE, &[node_id, self.version], 1);
        let process = std::process::id().to_string();
        integer(&families::PROCESS_MEMORY, &[node_id, &process, SUBSYSTEM], resident_memory());
        let table = [node_id, METRICS_TABLE, SUBSYSTEM];
        integer(&families::TABLE_MEMORY, &table, Metrics::global().used() as u64);
        integer(&families::TABLE_CAPACITY, &table, metrics::CAPACITY as u64);
        integer(&families::METRIC_ERRORS, &[], Metrics::global().errors());
        let entities = self.store.read(|view| view.count_all());
        if let Ok(count) = entities {
            integer(&families::ENTITIES, &[], count);
        }
        Metrics::global().add(&families::ENTITY_ERRORS, &[], u64::from(entities.is_err()));
    }

    /// The health of every target, where a plugin asks for it to be shown.
    async fn show_targets(&self, shown: &mut Exposition) {
        let snapshot = self.gateway.snapshot();
        if !snapshot.plugins().any(prometheus::shows_target_health) {
            return;
        }
        for balancer in snapshot.upstreams.values() {
            for (index, target) in balancer.targets().iter().enumerate() {
                let Some(peer) = balancer.peer(index) else { continue };
                let address = peer.host.resolve().await;
                let state = match (address, balancer.health(index)) {
                    (None, _) => "dns_error",
                    (_, Some(Health::Healthy)) => "healthy",
                    (_, Some(Health::Unhealthy)) => "unhealthy",
                    (_, Some(Health::Off) | None) => "healthchecks_off",
                };
                let name = format!("{}:{}", target.host, target.port);
                let address =
                    address.map(|ip| SocketAddr::new(ip, peer.port).to_string()).unwrap_or_default();
                for other in ["healthchecks_off", "healthy", "unhealthy", "dns_error"] {
                    let labels = [&balancer.name, name.as_str(), address.as_str(), other, SUBSYSTEM];
                    let is = Number::Integer(u64::from(other == state));
                    shown.value(&families::TARGET_HEALTH, &labels, is);
                }
            }
        }
    }
}

impl Upstreams for NodeStatus {
    fn balancer(&self, workspace: Uuid, name: &str) -> Option<Arc<Balancer>> {
        self.gateway.snapshot().upstreams.get(&(workspace, name.into())).cloned()
    }
}

impl StatusSource for NodeStatus {
    fn status(&self, unit: Unit) -> Value {
        let connections = self.connections();
        let snapshot = self.gateway.snapshot();
        let mut status = json!({
            "memory": {
                "lua_shared_dicts": {METRICS_TABLE: {
                    "capacity": unit.show(metrics::CAPACITY as u64),
                    "allocated_slabs": unit.show(Metrics::global().used() as u64),
                }},
                "workers_lua_vms": [{"http_allocated_gc": unit.show(resident_memory()), "pid": std::process::id()}],
            },
            "server": {
                "connections_accepted": connections.accepted,
                "connections_handled": connections.accepted,
                "connections_active": connections.active,
                "connections_reading": 0,
                "connections_writing": connections.writing,
                "connections_waiting": connections.waiting,
                "total_requests": connections.requests,
            },
            "tollgate": {"revision": snapshot.revision},
        });
        match self.declarative {
            true => status["configuration_hash"] = self.hash.get().into(),
            false => status["database"] = json!({"reachable": self.is_reachable()}),
        }
        status
    }

    fn not_ready(&self) -> Option<String> {
        let entities = match self.gateway.snapshot().routes.is_empty() {
            true => self.store.read(|view| view.count_all()),
            false => return None,
        };
        match entities {
            Ok(0) if self.declarative => {
                Some("no configuration available (empty configuration present)".to_owned())
            }
            Ok(_) => None,
            Err(_) => Some("failed to connect to database".to_owned()),
        }
    }

    fn metrics(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>> {
        Box::pin(async {
            self.registry.get(prometheus::NAME)?;
            let mut shown = Exposition::default();
            self.show_node(&mut shown);
            self.show_targets(&mut shown).await;
            Metrics::global().show(&mut shown);
            Some(shown.into_text())
        })
    }
}

/// Resident memory of the process, in bytes; 0 where the system does not tell.
fn resident_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}
