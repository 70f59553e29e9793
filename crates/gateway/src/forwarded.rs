//! What the gateway tells upstream and client about each other: `X-Forwarded-*`, `Via`, and which fields are
//! not passed on (RFC 9110 §7.6.1).

use std::net::IpAddr;

use ipnet::IpNet;
use tollgate_http::{Connection, Headers};

use crate::exchange::Exchange;
use crate::settings::Settings;

/// Whose word about the client is believed.
#[derive(Debug, Clone)]
pub struct TrustSettings {
    /// Peers that are believed (`trusted_ips`).
    pub trusted: Vec<IpNet>,
    /// The header that names the client (`real_ip_header`).
    pub real_ip_header: String,
    /// Whether trusted addresses in that header are skipped, from the right (`real_ip_recursive`).
    pub recursive: bool,
}

impl Default for TrustSettings {
    /// Kong 3.11: nobody is trusted; `X-Real-IP`.
    fn default() -> Self {
        Self { trusted: Vec::new(), real_ip_header: "X-Real-IP".into(), recursive: false }
    }
}

impl TrustSettings {
    /// Whether a peer is believed.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.trusted.is_empty() && self.trusted.iter().any(|net| net.contains(&peer))
    }
}

/// Who the client is.
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) scheme: &'static str,
}

/// The client of a request: the peer, or who a trusted peer says it is.
pub(crate) fn client(settings: &TrustSettings, headers: &Headers, connection: &Connection) -> Client {
    let own_scheme = if connection.tls.is_some() { "https" } else { "http" };
    let peer = connection.peer.ip();
    if !settings.trusts(peer) {
        return Client { ip: peer, scheme: own_scheme };
    }
    let scheme = match headers.get_str("x-forwarded-proto") {
        Some(scheme) if scheme.eq_ignore_ascii_case("https") => "https",
        Some(scheme) if scheme.eq_ignore_ascii_case("http") => "http",
        _ => own_scheme,
    };
    let named = headers.get_str(&settings.real_ip_header).unwrap_or_default();
    let mut addresses = named.rsplit(',').map_while(|text| address(text.trim()));
    let ip = match settings.recursive {
        false => addresses.next(),
        true => {
            let all: Vec<IpAddr> = addresses.collect();
            all.iter().find(|ip| !settings.trusts(**ip)).or(all.last()).copied()
        }
    };
    Client { ip: ip.unwrap_or(peer), scheme }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()))
}

/// Whether a client asks for a WebSocket.
pub(crate) fn wants_websocket(headers: &Headers) -> bool {
    headers.get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// Fields that concern one connection only, by lower-case name.
fn is_hop_by_hop(name: &[u8]) -> bool {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match name.len() {
        2 => is("te"),
        5 => is("proxy"),
        6 => is("expect"),
        7 => is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        14 => is("content-length"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        _ => false,
    }
}

/// Makes the request's fields what the upstream is to see.
pub(crate) fn prepare_request(exchange: &mut Exchange, host: &[u8], settings: &Settings) {
    let connection = std::sync::Arc::clone(&exchange.connection);
    let headers = &mut exchange.head.headers;
    let websocket = wants_websocket(headers);
    let trailers = headers.get("te").is_some_and(|value| {
        value.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    let named: Vec<u8> = headers.get_all("connection").flat_map(|value| [value, b","].concat()).collect();
    let plain_connection = named.is_empty() || named.eq_ignore_ascii_case(b"keep-alive,") || named.eq_ignore_ascii_case(b"close,");
    headers.retain(|name, _| {
        !is_hop_by_hop(name)
            && (plain_connection || !named.split(|byte| *byte == b',').any(|item| item.trim_ascii().eq_ignore_ascii_case(name)))
    });
    let client_host = headers.get("host").unwrap_or_default().to_vec();
    headers.set("Host", host);
    if websocket {
        headers.set("Upgrade", "websocket");
    }
    if trailers {
        headers.set("TE", "trailers");
    }
    let peer = connection.peer.ip();
    let mut text = String::with_capacity(64);
    let trusted = settings.forwarded.trusts(peer);
    let shown = |headers: &mut Headers, name: &str, own: &[u8]| {
        if !trusted || !headers.contains(name) {
            headers.set(name, own);
        }
    };
    use std::fmt::Write;
    let _ = write!(text, "{peer}");
    match headers.get("x-forwarded-for") {
        Some(before) => {
            let list = [before, b", ", text.as_bytes()].concat();
            headers.set("X-Forwarded-For", list);
        }
        None => headers.set("X-Forwarded-For", &text),
    }
    text.clear();
    let _ = write!(text, "{}", exchange.client_ip);
    headers.set("X-Real-IP", &text);
    headers.set("X-Forwarded-Proto", exchange.client_scheme);
    let bare = memchr::memrchr(b':', &client_host).filter(|at| client_host[at + 1..].iter().all(u8::is_ascii_digit));
    let bare = client_host[..bare.unwrap_or(client_host.len())].to_ascii_lowercase();
    shown(headers, "X-Forwarded-Host", &bare);
    let port = connection.local.port();
    let port = settings.port_maps.get(&port).copied().unwrap_or(port);
    shown(headers, "X-Forwarded-Port", itoa::Buffer::new().format(port).as_bytes());
    let end = memchr::memchr(b'?', &exchange.received_target).unwrap_or(exchange.received_target.len());
    shown(headers, "X-Forwarded-Path", &exchange.received_target[..end]);
    match exchange.stripped_prefix.as_deref() {
        Some(prefix) if prefix.len() > 1 => shown(headers, "X-Forwarded-Prefix", prefix),
        _ if !trusted => {
            headers.remove("X-Forwarded-Prefix");
        }
        _ => {}
    }
    let version = if exchange.head.version == tollgate_http::Version::HTTP_2 { "2" } else { "1.1" };
    add_via(headers, version, &settings.product);
    if settings.upstream_request_id {
        headers.set("X-Kong-Request-Id", exchange.request_id.as_str());
    }
}

/// Adds the gateway to `Via`.
pub(crate) fn add_via(headers: &mut Headers, version: &str, product: &str) {
    let own = [version, " ", product].concat();
    match headers.get("via") {
        Some(before) => {
            let list = [before, b", ", own.as_bytes()].concat();
            headers.set("Via", list);
        }
        None => headers.append("Via", own),
    }
}

/// Removes from an upstream's answer what concerns only the connection to it.
pub(crate) fn clean_response(headers: &mut Headers, upgrades: bool, takes_trailers: bool) {
    let named: Vec<u8> = headers.get("connection").unwrap_or_default().to_vec();
    let listed = |name: &[u8]| {
        !named.is_empty()
            && named.split(|byte| *byte == b',').any(|item| {
                let item = item.trim_ascii();
                item.eq_ignore_ascii_case(name)
                    && ![&b"close"[..], b"keep-alive", b"upgrade"].iter().any(|kept| item.eq_ignore_ascii_case(kept))
            })
    };
    headers.retain(|name, _| {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let gone = match name.len() {
            7 => is("upgrade") && !upgrades || is("trailer") && !takes_trailers,
            10 => is("connection") || is("keep-alive"),
            17 => is("transfer-encoding"),
            _ => false,
        };
        !gone && !listed(name)
    });
}
