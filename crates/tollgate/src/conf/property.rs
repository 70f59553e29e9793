//! Every property that has a meaning here: the one place for its default and its documentation.

/// A property of `kong.conf`.
#[derive(Debug)]
pub struct Property {
    /// Its name; as a variable `TOLLGATE_…` or `KONG_…` in capitals.
    pub name: &'static str,
    /// Its default; empty for none.
    pub default: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Never shown.
    pub secret: bool,
}

const fn property(name: &'static str, default: &'static str, about: &'static str) -> Property {
    Property { name, default, about, secret: false }
}

const fn secret(name: &'static str, about: &'static str) -> Property {
    Property { name, default: "", about, secret: true }
}

/// The properties, in the order of the documentation.
pub const PROPERTIES: &[Property] = &[
    property(
        "prefix",
        "",
        "Folder of store, logs and pid file; by default /usr/local/tollgate where that can be written to, else ~/.tollgate.",
    ),
    property(
        "log_level",
        "notice",
        "Least severe messages that are logged: debug, info, notice, warn, error, crit, alert, emerg.",
    ),
    property(
        "proxy_access_log",
        "logs/access.log",
        "File of the access log, relative ones below `prefix`; `/dev/stdout` for standard output, `off` for none.",
    ),
    property("proxy_error_log", "logs/error.log", "File of the error log; `off` for standard error."),
    property(
        "admin_access_log",
        "logs/admin_access.log",
        "File of the Admin API's access log; `off` for none.",
    ),
    property("status_access_log", "off", "File of the Status API's access log; `off` for none."),
    property(
        "plugins",
        "bundled",
        "Plugins that can be configured: `bundled` for all, `off` for none, or a list.",
    ),
    property("proxy_listen", "0.0.0.0:8000, 0.0.0.0:8443 http2 ssl", "Where requests are served."),
    property(
        "admin_listen",
        "127.0.0.1:8001",
        "Where the Admin API is served; beyond loopback only with `admin_token`.",
    ),
    property("status_listen", "127.0.0.1:8100", "Where status and metrics are served."),
    property("admin_gui_listen", "off", "Where the console is served."),
    secret(
        "admin_token",
        "Token that the Admin API asks for, as `Authorization: Bearer …` or `Kong-Admin-Token`.",
    ),
    property("nginx_worker_processes", "auto", "Number of workers; `auto` for one per core."),
    property("database", "sqlite", "`sqlite` for the embedded store, `off` for a declarative file."),
    property("declarative_config", "", "The declarative file, where `database` is `off`."),
    secret("declarative_config_string", "The declarative configuration itself, in place of a file."),
    property(
        "headers",
        "server_tokens, latency_tokens, X-Kong-Request-Id",
        "Headers added to answers; `off` for none.",
    ),
    property("headers_upstream", "X-Kong-Request-Id", "Headers added to requests; `off` for none."),
    property("server_token", "", "Product name in `Server` and `Via`; by default tollgate and its version."),
    property("trusted_ips", "", "Addresses and ranges whose X-Forwarded-* headers are believed."),
    property("real_ip_header", "X-Real-IP", "Header in which trusted peers name the client."),
    property("real_ip_recursive", "off", "Whether trusted addresses in that header are skipped."),
    property("port_maps", "", "Ports that clients use for ports listened on: `80:8000, 443:8443`."),
    property("allow_debug_header", "off", "Whether `Kong-Debug: 1` is answered with route and service."),
    property("error_default_type", "text/plain", "Type of errors where the request asks for none."),
    property(
        "error_template_json",
        "",
        "File with the form of errors in JSON; its two `%s` stand for message and request id.",
    ),
    property("error_template_html", "", "The same for HTML."),
    property("error_template_xml", "", "The same for XML."),
    property("error_template_plain", "", "The same for plain text."),
    property("client_max_body_size", "0", "Largest request body; 0 for no limit."),
    property(
        "ssl_cert",
        "",
        "Certificate for names without one of their own: a file, or PEM; by default self-signed.",
    ),
    secret("ssl_cert_key", "Its key: a file, or PEM."),
    property("ssl_protocols", "TLSv1.2 TLSv1.3", "Versions of TLS that are spoken."),
    property(
        "tls_certificate_verify",
        "off",
        "Whether upstream certificates are checked where a service does not say.",
    ),
    property(
        "client_ssl",
        "off",
        "Whether upstreams are shown a certificate where neither service nor upstream has one.",
    ),
    property("client_ssl_cert", "", "That certificate: a file, or PEM."),
    secret("client_ssl_cert_key", "Its key: a file, or PEM."),
    property(
        "upstream_keepalive_pool_size",
        "512",
        "Idle connections kept for an upstream address, on each worker.",
    ),
    property("upstream_keepalive_idle_timeout", "60", "Seconds an idle upstream connection is kept."),
    property("upstream_keepalive_max_requests", "10000", "Requests on one upstream connection."),
];

/// Properties of Kong without a meaning here; they are accepted.
const OTHERS: &[&str] = &[
    "admin_error_log",
    "status_error_log",
    "proxy_stream_access_log",
    "proxy_stream_error_log",
    "vaults",
    "port",
    "anonymous_reports",
    "proxy_server",
    "proxy_server_ssl_verify",
    "role",
    "cluster_mtls",
    "cluster_cert",
    "cluster_cert_key",
    "cluster_listen",
    "cluster_control_plane",
    "cluster_server_name",
    "cluster_telemetry_listen",
    "cluster_telemetry_endpoint",
    "stream_listen",
    "admin_gui_url",
    "admin_gui_path",
    "admin_gui_api_url",
    "ssl_cipher_suite",
    "ssl_ciphers",
    "ssl_prefer_server_ciphers",
    "ssl_dhparam",
    "ssl_session_tickets",
    "ssl_session_timeout",
    "ssl_session_cache_size",
    "admin_ssl_cert",
    "admin_ssl_cert_key",
    "status_ssl_cert",
    "status_ssl_cert_key",
    "mem_cache_size",
    "client_body_buffer_size",
    "db_update_frequency",
    "db_update_propagation",
    "db_cache_ttl",
    "db_cache_neg_ttl",
    "db_resurrect_ttl",
    "db_cache_warmup_entities",
    "dns_resolver",
    "dns_hostsfile",
    "dns_order",
    "dns_valid_ttl",
    "dns_stale_ttl",
    "dns_cache_size",
    "dns_not_found_ttl",
    "dns_error_ttl",
    "dns_no_sync",
    "new_dns_client",
    "worker_consistency",
    "worker_state_update_frequency",
    "router_flavor",
    "route_match_calculation",
    "lua_max_req_headers",
    "lua_max_resp_headers",
    "lua_max_uri_args",
    "lua_max_post_args",
    "lua_gc_tuning",
    "lua_ssl_trusted_certificate",
    "lua_ssl_verify_depth",
    "lua_ssl_protocols",
    "lua_package_path",
    "lua_package_cpath",
    "lua_socket_pool_size",
    "lmdb_environment_path",
    "lmdb_map_size",
    "pg_host",
    "pg_port",
    "pg_user",
    "pg_password",
    "pg_database",
    "pg_schema",
    "pg_ssl",
    "pg_ssl_verify",
    "pg_timeout",
    "pg_max_concurrent_queries",
    "enforce_rbac",
    "admin_gui_auth",
    "konnect_mode",
    "license_path",
    "license_data",
    "tracing_instrumentations",
    "tracing_sampling_rate",
    "untrusted_lua",
    "wasm",
    "nginx_conf",
    "opentelemetry_tracing",
    "request_debug",
    "request_debug_token",
    "privileged_agent",
    "rpc",
    "cluster_rpc",
    "worker_events_max_payload",
    "upstream_keepalive",
    "upstream_keepalive_max",
];

/// Whether a name is a property, of ours or of Kong's.
pub(super) fn is_known(name: &str) -> bool {
    PROPERTIES.iter().any(|property| property.name == name)
        || OTHERS.contains(&name)
        || name.starts_with("pg_")
        || name.starts_with("cluster_")
}

/// A property's default.
pub(super) fn default(name: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|property| property.name == name).map(|property| property.default)
}

/// The property whose name is nearest, where one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    PROPERTIES
        .iter()
        .map(|property| (distance(name, property.name), property.name))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, name)| name)
}

/// How many letters must change to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (corner + usize::from(x != y)).min(above + 1).min(row[j] + 1);
            corner = above;
        }
    }
    row[b.len()]
}
