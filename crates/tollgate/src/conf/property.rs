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
    property(
        "ai_price_list",
        "",
        "File with prices of LLMs' tokens, read again by `reload`; they win over those that come with Tollgate, and what a plugin configures over both. JSON, per million tokens: `{\"prices\": {\"openai\": {\"gpt-4o\": {\"input_cost\": 2.5, \"output_cost\": 10, \"cache_read_cost\": 1.25}}}}`; also `cache_write_cost`, and the lists of `ai-proxy`'s `model.options`. Dates at the end of a model's name need not be written.",
    ),
    property(
        "untrusted_lua",
        "sandbox",
        "Whether Lua of the configuration runs: `sandbox`; `off` to refuse it; `on` to let it require every module there is and make metatables. It reaches neither files nor processes.",
    ),
    property(
        "untrusted_lua_sandbox_requires",
        "",
        "Modules that Lua of the configuration may require: `cjson`, `cjson.safe`, `ngx.base64`.",
    ),
    property("proxy_listen", "0.0.0.0:8000, 0.0.0.0:8443 http2 ssl", "Where requests are served."),
    property(
        "admin_listen",
        "127.0.0.1:8001",
        "Where the Admin API is served; beyond loopback only with `admin_token`.",
    ),
    property("status_listen", "127.0.0.1:8100", "Where status and metrics are served."),
    secret(
        "admin_token",
        "Token that the Admin API asks for, as `Authorization: Bearer …` or `Kong-Admin-Token`.",
    ),
    property("nginx_worker_processes", "auto", "Number of workers; `auto` for one per core."),
    property("nginx_main_worker_processes", "", "The same, as an nginx directive."),
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
    property(
        "tracing_instrumentations",
        "off",
        "Parts of requests that have spans of their own where a plugin traces: `off`, `all`, or some of request, router, dns_query, balancer, plugin_access, plugin_header_filter.",
    ),
    property("tracing_sampling_rate", "0.01", "Share of requests that are traced, from 0 to 1."),
    property("opentelemetry_tracing", "", "`tracing_instrumentations`, under its old name."),
    property("opentelemetry_tracing_sampling_rate", "", "`tracing_sampling_rate`, under its old name."),
    property("client_max_body_size", "0", "Largest request body; 0 for no limit."),
    property("nginx_http_client_max_body_size", "", "The same, as an nginx directive; it wins."),
    property(
        "nginx_http_large_client_header_buffers",
        "",
        "Bounds on a request's head: number and size of buffers, such as `4 8k`; a line must fit into one.",
    ),
    property("nginx_proxy_large_client_header_buffers", "", "The same; it wins."),
    property("nginx_http_keepalive_requests", "", "Requests on one client connection."),
    property(
        "nginx_http_keepalive_timeout",
        "",
        "How long an idle client connection is kept, such as `75s`.",
    ),
    property("nginx_http_client_header_timeout", "", "How long a request's head may take, such as `60s`."),
    property(
        "nginx_http_client_body_timeout",
        "",
        "How long a client may pause within a body, such as `60s`.",
    ),
    property(
        "nginx_http_send_timeout",
        "",
        "How long a client may pause in taking an answer, such as `60s`.",
    ),
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
    property("nginx_proxy_proxy_ssl_verify", "", "The same, as an nginx directive; `on` in either counts."),
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

/// Properties of Kong without a meaning here, one a line; they are accepted.
const OTHERS: &str = include_str!("kong_properties.txt");

/// Names of Kong's properties without a meaning here.
pub(super) fn others() -> impl Iterator<Item = &'static str> {
    OTHERS.lines()
}

/// Whether a property is set that cannot be known beforehand: an nginx directive, a vault, a plugin server.
pub(super) fn is_free(name: &str) -> bool {
    ["nginx_", "pluginserver_", "vault_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether a property has a meaning here.
pub(super) fn has_effect(name: &str) -> bool {
    PROPERTIES.iter().any(|property| property.name == name)
}

/// Whether a name is a property, of ours or of Kong's.
pub(super) fn is_known(name: &str) -> bool {
    has_effect(name) || is_free(name) || others().any(|other| other == name)
}

/// A property's default.
pub(super) fn default(name: &str) -> Option<&'static str> {
    PROPERTIES.iter().find(|property| property.name == name).map(|property| property.default)
}

/// The property whose name is nearest, where one is near.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let names = PROPERTIES.iter().map(|property| property.name).chain(others());
    names
        .map(|other| (distance(name, other), other))
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
