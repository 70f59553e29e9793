//! Every metric there is (Kong 3.11's names, types, labels and buckets).

/// A metric with all its series.
#[derive(Debug)]
pub struct Family {
    /// Its name, complete.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
}

/// Types of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A count that only grows.
    Counter,
    /// An amount that only grows, with fractions.
    Amount,
    /// A value that comes and goes.
    Gauge,
    /// Counts by size, with the upper bounds of the buckets.
    Histogram(&'static [u64]),
}

impl Family {
    /// Upper bounds of the buckets; none where it is no histogram.
    pub fn buckets(&self) -> &'static [u64] {
        match self.kind {
            Kind::Histogram(buckets) => buckets,
            Kind::Counter | Kind::Amount | Kind::Gauge => &[],
        }
    }
}

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family { name, help, kind, labels }
}

const KONG_MILLISECONDS: Kind =
    Kind::Histogram(&[1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1000, 3000, 6000]);
const UPSTREAM_MILLISECONDS: Kind =
    Kind::Histogram(&[25, 50, 80, 100, 250, 400, 700, 1000, 2000, 5000, 10_000, 30_000, 60_000]);
const AI_MILLISECONDS: Kind = Kind::Histogram(&[
    250, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 4500, 5000, 10_000, 30_000, 60_000,
]);

const OF_ROUTE: &[&str] = &["service", "route", "workspace"];
// `request_mode`: Kong 3.12.
const OF_AI: &[&str] = &[
    "ai_provider",
    "ai_model",
    "cache_status",
    "vector_db",
    "embeddings_provider",
    "embeddings_model",
    "workspace",
    "consumer",
    "request_mode",
];

/// Requests by route and status.
pub static HTTP_REQUESTS: Family = family(
    "kong_http_requests_total",
    Kind::Counter,
    &["service", "route", "code", "source", "workspace", "consumer"],
    "Requests by service, route, status code, who answered, and consumer.",
);
/// Bytes by route and direction.
pub static BANDWIDTH: Family = family(
    "kong_bandwidth_bytes",
    Kind::Counter,
    &["service", "route", "direction", "workspace", "consumer"],
    "Bytes received from (ingress) and sent to (egress) clients.",
);
/// Time spent in the gateway.
pub static KONG_LATENCY: Family = family(
    "kong_kong_latency_ms",
    KONG_MILLISECONDS,
    OF_ROUTE,
    "Milliseconds a request spent in the gateway and its plugins before it went on or was answered.",
);
/// Time the upstream took.
pub static UPSTREAM_LATENCY: Family = family(
    "kong_upstream_latency_ms",
    UPSTREAM_MILLISECONDS,
    OF_ROUTE,
    "Milliseconds until the upstream's answer began.",
);
/// Time of the whole request.
pub static REQUEST_LATENCY: Family = family(
    "kong_request_latency_ms",
    UPSTREAM_MILLISECONDS,
    OF_ROUTE,
    "Milliseconds from a request's first byte to the last byte of its answer.",
);

/// Calls of LLMs.
pub static AI_REQUESTS: Family =
    family("kong_ai_llm_requests_total", Kind::Counter, OF_AI, "Calls of LLM providers.");
/// What calls of LLMs cost.
pub static AI_COST: Family =
    family("kong_ai_llm_cost_total", Kind::Amount, OF_AI, "Cost of calls of LLM providers.");
/// Tokens of LLMs.
pub static AI_TOKENS: Family = family(
    "kong_ai_llm_tokens_total",
    Kind::Counter,
    &[
        "ai_provider",
        "ai_model",
        "cache_status",
        "vector_db",
        "embeddings_provider",
        "embeddings_model",
        "token_type",
        "workspace",
        "consumer",
    ],
    "Tokens sent to and received from LLM providers.",
);
/// Time LLMs took.
pub static AI_LATENCY: Family = family(
    "kong_ai_llm_provider_latency_ms",
    AI_MILLISECONDS,
    OF_AI,
    "Milliseconds until LLM providers answered.",
);
/// Time semantic caches took.
pub static AI_CACHE_FETCH: Family = family(
    "kong_ai_cache_fetch_latency",
    AI_MILLISECONDS,
    OF_AI,
    "Milliseconds it took to look into a semantic cache.",
);
/// Time the embeddings of semantic caches took.
pub static AI_CACHE_EMBEDDINGS: Family = family(
    "kong_ai_cache_embeddings_latency",
    AI_MILLISECONDS,
    OF_AI,
    "Milliseconds it took to compute an embedding for a semantic cache.",
);

/// Connections of clients.
pub static CONNECTIONS: Family = family(
    "kong_nginx_connections_total",
    Kind::Gauge,
    &["node_id", "subsystem", "state"],
    "Connections of clients by state; `total` counts requests.",
);
/// Requests received.
pub static REQUESTS: Family = family(
    "kong_nginx_requests_total",
    Kind::Gauge,
    &["node_id", "subsystem"],
    "Requests received since the start.",
);
/// Work in the background.
pub static TIMERS: Family = family(
    "kong_nginx_timers",
    Kind::Gauge,
    &["state"],
    "Background tasks of the workers: running, and pending for a turn.",
);
/// Whether the store can be read.
pub static DATASTORE: Family =
    family("kong_datastore_reachable", Kind::Gauge, &[], "1 where the store can be read, else 0.");
/// The node.
pub static NODE: Family =
    family("kong_node_info", Kind::Gauge, &["node_id", "version"], "1; the labels tell the node.");
/// Memory of the process.
pub static PROCESS_MEMORY: Family = family(
    "kong_memory_workers_lua_vms_bytes",
    Kind::Gauge,
    &["node_id", "pid", "kong_subsystem"],
    "Resident memory of the process; all workers share it.",
);
/// Memory of shared tables.
pub static TABLE_MEMORY: Family = family(
    "kong_memory_lua_shared_dict_bytes",
    Kind::Gauge,
    &["node_id", "shared_dict", "kong_subsystem"],
    "Bytes used of a bounded table.",
);
/// Bounds of shared tables.
pub static TABLE_CAPACITY: Family = family(
    "kong_memory_lua_shared_dict_total_bytes",
    Kind::Gauge,
    &["node_id", "shared_dict", "kong_subsystem"],
    "Bytes a bounded table may use.",
);
/// What was not counted.
pub static METRIC_ERRORS: Family = family(
    "kong_nginx_metric_errors_total",
    Kind::Counter,
    &[],
    "Observations that were not counted, for want of room.",
);
/// Health of targets.
pub static TARGET_HEALTH: Family = family(
    "kong_upstream_target_health",
    Kind::Gauge,
    &["upstream", "target", "address", "state", "subsystem"],
    "1 for the state a target is in, 0 for the others.",
);
/// Entities in the store.
pub static ENTITIES: Family =
    family("kong_db_entities_total", Kind::Gauge, &[], "Entities in the store, of all kinds and workspaces.");
/// Failures to count them.
pub static ENTITY_ERRORS: Family = family(
    "kong_db_entity_count_errors",
    Kind::Counter,
    &[],
    "Times the entities in the store could not be counted.",
);
