//! What of the node's configuration the request path needs, worked out once.

use std::collections::HashMap;
use std::sync::Arc;

/// Which fields the gateway adds to answers (`headers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderTokens {
    /// `Server`
    pub server: bool,
    /// `Via`
    pub via: bool,
    /// `X-Kong-Proxy-Latency`
    pub proxy_latency: bool,
    /// `X-Kong-Response-Latency`
    pub response_latency: bool,
    /// `X-Kong-Upstream-Latency`
    pub upstream_latency: bool,
    /// `X-Kong-Total-Latency`
    pub total_latency: bool,
    /// `X-Kong-Admin-Latency`, on the Admin API
    pub admin_latency: bool,
    /// `X-Kong-Upstream-Status`
    pub upstream_status: bool,
    /// `X-Kong-Request-Id`
    pub request_id: bool,
}

impl HeaderTokens {
    /// No field at all (`headers = off`).
    pub const OFF: Self = Self {
        server: false,
        via: false,
        proxy_latency: false,
        response_latency: false,
        upstream_latency: false,
        total_latency: false,
        admin_latency: false,
        upstream_status: false,
        request_id: false,
    };

    /// Reads the values of the `headers` property; names and tokens ignore case.
    ///
    /// # Errors
    /// Names the token that is none.
    pub fn parse(tokens: &[String]) -> Result<Self, String> {
        let mut result = Self::OFF;
        for token in tokens {
            match token.to_ascii_lowercase().as_str() {
                "off" if tokens.len() == 1 => return Ok(Self::OFF),
                "server_tokens" => (result.server, result.via) = (true, true),
                "latency_tokens" => {
                    (result.proxy_latency, result.response_latency, result.upstream_latency) =
                        (true, true, true);
                    result.admin_latency = true;
                }
                "advanced_latency_tokens" => result.total_latency = true,
                "server" => result.server = true,
                "via" => result.via = true,
                "x-kong-proxy-latency" => result.proxy_latency = true,
                "x-kong-response-latency" => result.response_latency = true,
                "x-kong-upstream-latency" => result.upstream_latency = true,
                "x-kong-total-latency" => result.total_latency = true,
                "x-kong-upstream-status" => result.upstream_status = true,
                "x-kong-request-id" => result.request_id = true,
                "x-kong-admin-latency" => result.admin_latency = true,
                "x-kong-third-party-latency" | "x-kong-client-latency" => {}
                _ => {
                    return Err(format!("'{token}' is not a header or token that can be listed here"));
                }
            }
        }
        Ok(result)
    }
}

impl Default for HeaderTokens {
    /// Kong 3.11: `server_tokens, latency_tokens, X-Kong-Request-Id`.
    fn default() -> Self {
        Self {
            server: true,
            via: true,
            proxy_latency: true,
            response_latency: true,
            upstream_latency: true,
            admin_latency: true,
            request_id: true,
            ..Self::OFF
        }
    }
}

/// The node's settings for the request path.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Fields to add to answers.
    pub headers: HeaderTokens,
    /// Whether the upstream is told the request id (`headers_upstream`).
    pub upstream_request_id: bool,
    /// Name and version in `Server` and `Via`, such as `tollgate/0.1.0`.
    pub product: Arc<str>,
    /// Id of this node, as the Admin API tells it.
    pub node_id: Arc<str>,
    /// Name of this machine.
    pub hostname: Arc<str>,
    /// Whose `X-Forwarded-*` and real-address fields are believed.
    pub forwarded: crate::forwarded::TrustSettings,
    /// Whether `Kong-Debug: 1` is answered (`allow_debug_header`).
    pub debug_header: bool,
    /// Listening port to the port clients use (`port_maps`).
    pub port_maps: HashMap<u16, u16>,
    /// Where requests have a line each (`proxy_access_log`).
    pub access_log: Option<Arc<tollgate_telemetry::Sink>>,
    /// Whether connections to upstreams are kept (`upstream_keepalive_pool_size` is not 0).
    pub keeps_connections: bool,
    /// How the gateway's own errors look.
    pub errors: crate::answer::ErrorSettings,
    /// Whether upstream certificates are checked where a service does not say (`tls_certificate_verify`).
    pub verify_upstreams: bool,
    /// Which parts of requests are traced.
    pub traces: crate::trace::TraceSettings,
}
