//! What the gateway tells upstream and client about each other: `X-Forwarded-*`, `Via`, and which fields are
//! not passed on (RFC 9110 §7.6.1).

#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;

use ipnet::IpNet;
use smallvec::SmallVec;
use tollgate_http::{Connection, Headers, Version};

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
        let peer = peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }

    /// The address that the fields of a trusted peer name, from the right: the first, or with `recursive` the
    /// first that is not trusted itself.
    fn named_address(&self, headers: &Headers) -> Option<IpAddr> {
        let lines: Vec<&[u8]> = headers.get_all(&self.real_ip_header).collect();
        let items = lines.iter().rev().flat_map(|line| line.rsplit(|byte| *byte == b','));
        let mut found = None;
        for ip in items.map_while(read_address) {
            found = Some(ip);
            if !self.recursive || !self.trusts(ip) {
                break;
            }
        }
        found
    }
}

/// An address, with or without port.
fn read_address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let ip = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()))?;
    Some(ip.to_canonical())
}

/// Who the client is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) ip: IpAddr,
    pub(crate) scheme: &'static str,
}

/// The client of a request: the peer, or who a trusted peer says it is.
pub(crate) fn client(settings: &TrustSettings, headers: &Headers, connection: &Connection) -> Client {
    let peer = connection.peer.ip().to_canonical();
    let own_scheme = scheme(connection);
    if !settings.trusts(peer) {
        return Client { ip: peer, scheme: own_scheme };
    }
    let scheme = match headers.get("x-forwarded-proto") {
        Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => "https",
        Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => "http",
        _ => own_scheme,
    };
    Client { ip: settings.named_address(headers).unwrap_or(peer), scheme }
}

fn scheme(connection: &Connection) -> &'static str {
    if connection.tls.is_some() { "https" } else { "http" }
}

/// Whether a client asks for a WebSocket.
pub(crate) fn wants_websocket(headers: &Headers) -> bool {
    headers.get("upgrade").is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"))
}

/// Makes the request's fields what the upstream is to see.
pub(crate) fn prepare_request(exchange: &mut Exchange, host: &[u8], settings: &Settings) {
    let Exchange { head, connection, received_target, path, .. } = exchange;
    let port = connection.local.port();
    let path_end = memchr::memchr(b'?', received_target).unwrap_or(received_target.len());
    let origin = Origin {
        trusted: settings.forwarded.trusts(connection.peer.ip()),
        peer: connection.peer.ip().to_canonical(),
        client: exchange.client_ip,
        scheme: scheme(connection),
        port: settings.port_maps.get(&port).copied().unwrap_or(port),
        path: &received_target[..path_end],
        stripped: path.get(..exchange.stripped).unwrap_or_default(),
    };
    let headers = &mut head.headers;
    origin.tell(headers, &connection.told);
    clean_request(headers);
    headers.set("Host", host);
    let version = match head.version {
        Version::HTTP_2 => "2",
        // Kong 3.11 writes the number, without zeros behind the point.
        Version::HTTP_10 => "1",
        _ => "1.1",
    };
    add_via(headers, version, &settings.product);
    if settings.upstream_request_id {
        headers.set_own("X-Kong-Request-Id", exchange.request_id.as_bytes());
    }
}

/// Where a request came from, for `X-Forwarded-*` (Kong 3.11).
struct Origin<'a> {
    /// Whether the peer's own `X-Forwarded-*` are kept.
    trusted: bool,
    peer: IpAddr,
    client: IpAddr,
    scheme: &'static str,
    /// Port the client used.
    port: u16,
    /// Path as received.
    path: &'a [u8],
    /// What was stripped off the path.
    stripped: &'a [u8],
}

impl Origin<'_> {
    /// Tells the upstream. Reads the client's `Host`, which must still be there. What was told of the connection of an
    /// untrusted peer, whose own word does not count, is the same with every request.
    fn tell(&self, headers: &mut Headers, told: &OnceLock<Headers>) {
        let of_connection = || {
            let mut headers = Headers::new();
            self.tell_of_connection(&mut headers);
            headers
        };
        if self.trusted || !headers.append_absent(told.get_or_init(of_connection)) {
            self.tell_of_connection(headers);
        }
        let mut host: SmallVec<[u8; 64]> = SmallVec::from_slice(bare_host(headers));
        host.make_ascii_lowercase();
        self.show(headers, "X-Forwarded-Host", &host);
        self.show(headers, "X-Forwarded-Path", self.path);
        match self.stripped {
            b"" | b"/" if self.trusted => {}
            b"" | b"/" => {
                headers.remove("X-Forwarded-Prefix");
            }
            prefix => self.show(headers, "X-Forwarded-Prefix", prefix),
        }
    }

    fn tell_of_connection(&self, headers: &mut Headers) {
        let client = AddressText::new(self.client);
        match joined_lines(headers, "x-forwarded-for").as_slice() {
            b"" => headers.set("X-Forwarded-For", client.as_bytes()),
            before => {
                headers.set_parts("X-Forwarded-For", [before, b", ", AddressText::new(self.peer).as_bytes()]);
            }
        }
        headers.set("X-Real-IP", client.as_bytes());
        self.show(headers, "X-Forwarded-Proto", self.scheme.as_bytes());
        self.show(headers, "X-Forwarded-Port", itoa::Buffer::new().format(self.port).as_bytes());
    }

    fn show(&self, headers: &mut Headers, name: &str, own: &[u8]) {
        if !self.trusted || !headers.contains(name) {
            headers.set(name, own);
        }
    }
}

/// The host a client used, as it or a trusted peer tells.
pub fn host(exchange: &Exchange) -> Vec<u8> {
    let headers = &exchange.head.headers;
    let trusted = exchange.settings.forwarded.trusts(exchange.connection.peer.ip());
    match headers.get("x-forwarded-host").filter(|_| trusted) {
        Some(host) => host.to_vec(),
        None => bare_host(headers).to_ascii_lowercase(),
    }
}

/// `Host` without port and last dot; where there is none, the name Kong's server has (nginx: `$host`).
pub fn bare_host(headers: &Headers) -> &[u8] {
    let host = headers.get("host").unwrap_or_default();
    let port = memchr::memrchr(b':', host).filter(|at| host[at + 1..].iter().all(u8::is_ascii_digit));
    let name = &host[..port.unwrap_or(host.len())];
    match name.strip_suffix(b".").unwrap_or(name) {
        b"" => b"kong",
        name => name,
    }
}

/// An address as text.
struct AddressText {
    bytes: [u8; 45],
    length: usize,
}

impl AddressText {
    fn new(ip: IpAddr) -> Self {
        let mut text = Self { bytes: [0; 45], length: 0 };
        match ip {
            // As nearly all are, and with less ado than formatting makes.
            IpAddr::V4(ip) => {
                for (place, octet) in ip.octets().into_iter().enumerate() {
                    if place > 0 {
                        text.put(b".");
                    }
                    text.put(itoa::Buffer::new().format(octet).as_bytes());
                }
            }
            IpAddr::V6(ip) => {
                let mut rest = &mut text.bytes[..];
                let _ = write!(rest, "{ip}");
                text.length = 45 - rest.len();
            }
        }
        text
    }

    fn put(&mut self, part: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.length..self.length + part.len()) {
            place.copy_from_slice(part);
            self.length += part.len();
        }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The values of all fields of a name, joined with commas (RFC 9110 §5.3).
#[inline]
fn joined_lines(headers: &Headers, name: &str) -> Vec<u8> {
    let mut joined = Vec::new();
    if !headers.contains(name) {
        return joined;
    }
    for value in headers.get_all(name).filter(|value| !value.is_empty()) {
        if !joined.is_empty() {
            joined.extend_from_slice(b", ");
        }
        joined.extend_from_slice(value);
    }
    joined
}

/// Adds the gateway to `Via`.
pub(crate) fn add_via(headers: &mut Headers, version: &str, product: &str) {
    let before = joined_lines(headers, "via");
    let link: &[u8] = if before.is_empty() { b"" } else { b", " };
    headers.set_parts("Via", [&before, link, version.as_bytes(), b" ", product.as_bytes()]);
}

/// Removes from a request what concerns only the connection it came on. `Upgrade` stays for a WebSocket, `TE`
/// where it asks for trailers (Kong 3.11).
fn clean_request(headers: &mut Headers) {
    let websocket = wants_websocket(headers);
    let trailers = headers.contains("te")
        && headers.get_all("te").flat_map(items).any(|item| item.eq_ignore_ascii_case(b"trailers"));
    let named = named_by_connection(headers);
    if !named.is_empty() {
        headers.retain(|name, _| !is_listed(&named, name) || is_identity(name));
    }
    // Fields that concern one connection only, whether `Connection` names them or not. `Content-Length` is written
    // anew by whoever frames the message.
    headers.remove("te");
    headers.remove("proxy");
    headers.remove("expect");
    headers.remove("upgrade");
    headers.remove("connection");
    headers.remove("keep-alive");
    headers.remove("content-length");
    headers.remove("proxy-connection");
    headers.remove("transfer-encoding");
    if websocket {
        headers.set("Upgrade", "websocket");
    }
    if trailers {
        headers.set("TE", "trailers");
    }
}

/// Removes from an upstream's answer what concerns only the connection to it, and what is meant for the proxy in
/// front of it. `request` is what the upstream was sent.
pub(crate) fn clean_response(headers: &mut Headers, request: &Headers) {
    let named = named_by_connection(headers);
    if !named.is_empty() {
        headers.retain(|name, _| !is_listed(&named, name));
    }
    if headers.contains("upgrade") {
        let asked = request.get("upgrade");
        let is_asked = |value: &[u8]| asked.is_some_and(|asked| asked.eq_ignore_ascii_case(value));
        headers.retain(|name, value| !name.eq_ignore_ascii_case(b"upgrade") || is_asked(value));
    }
    if !request.contains("te") {
        headers.remove("trailer");
    }
    headers.remove("connection");
    headers.remove("keep-alive");
    headers.remove("transfer-encoding");
    headers.remove("x-pad");
    headers.remove("x-accel-buffering");
    headers.remove("x-accel-charset");
    headers.remove("x-accel-expires");
    headers.remove("x-accel-limit-rate");
    headers.remove("x-accel-redirect");
    add_charset(headers);
}

/// Adds the charset to types of text that come without one (nginx: `charset UTF-8`, as Kong sets it).
fn add_charset(headers: &mut Headers) {
    const TEXTS: [&str; 6] = [
        "text/plain",
        "text/html",
        "text/xml",
        "text/vnd.wap.wml",
        "application/javascript",
        "application/rss+xml",
    ];
    let Some(kind) = headers.get("content-type") else { return };
    if TEXTS.iter().any(|text| kind.eq_ignore_ascii_case(text.as_bytes())) {
        let kind = kind.to_vec();
        headers.set_parts("Content-Type", [&kind, b"; charset=UTF-8"]);
    }
}

/// Fields by which the gateway tells the upstream who asks, and fields it has set just now: naming them in
/// `Connection` is no way to be rid of them.
fn is_identity(name: &[u8]) -> bool {
    let starts = |beginning: &[u8]| {
        name.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    };
    let beginnings: [&[u8]; 6] = [
        b"x-consumer-",
        b"x-credential-",
        b"x-anonymous-consumer",
        b"x-authenticated-",
        b"x-forwarded-",
        b"x-real-ip",
    ];
    beginnings.iter().any(|beginning| starts(beginning))
}

/// Options of `Connection` that are no names of fields to remove: `Upgrade` has rules of its own.
const OPTIONS: [&[u8]; 3] = [b"keep-alive", b"close", b"upgrade"];

/// The names of fields in `Connection`, each followed by a comma.
fn named_by_connection(headers: &Headers) -> Vec<u8> {
    let mut named = Vec::new();
    if !headers.contains("connection") {
        return named;
    }
    let lists = headers.get_all("connection").filter(|list| !list.eq_ignore_ascii_case(b"keep-alive"));
    for item in lists.flat_map(items) {
        if !OPTIONS.iter().any(|option| option.eq_ignore_ascii_case(item)) {
            named.extend_from_slice(item);
            named.push(b',');
        }
    }
    named
}

fn is_listed(named: &[u8], name: &[u8]) -> bool {
    !named.is_empty() && items(named).any(|item| item.eq_ignore_ascii_case(name))
}

/// The items of a list in a field's value.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}
