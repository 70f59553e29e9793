//! What sending to a target takes, worked out once.

use std::net::IpAddr;
use std::sync::Arc;

/// A target as requests see it.
#[derive(Debug)]
pub struct Peer {
    /// Where it is.
    pub host: PeerHost,
    /// Port.
    pub port: u16,
    /// `Host` over plain HTTP, and over TLS.
    host_fields: [Box<str>; 2],
}

/// An address, or a name to resolve.
#[derive(Debug, Clone)]
pub enum PeerHost {
    /// An address.
    Address(IpAddr),
    /// A name.
    Name(Arc<str>),
}

impl Peer {
    /// A peer at `host` and `port`; `host_header` stands for the host in what it is sent (Kong 3.11: the port
    /// follows either where it is not the scheme's own).
    pub fn new(host: &str, port: u16, host_header: Option<&str>) -> Self {
        let shown = host_header.unwrap_or(host);
        let field = |default: u16| match port == default {
            true => shown.into(),
            false => format!("{shown}:{port}").into(),
        };
        Self { host: PeerHost::new(host), port, host_fields: [field(80), field(443)] }
    }

    /// Value of the `Host` field.
    pub fn host_field(&self, tls: bool) -> &str {
        &self.host_fields[usize::from(tls)]
    }
}

impl PeerHost {
    /// Reads a host; IPv6 addresses may stand in brackets.
    pub fn new(host: &str) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_or_else(|_| Self::Name(host.into()), Self::Address)
    }

    /// The address, resolved where it is a name; `None` where the name has none.
    pub async fn resolve(&self) -> Option<IpAddr> {
        match self {
            Self::Address(ip) => Some(*ip),
            Self::Name(name) => Box::pin(tollgate_http::client::resolve(name)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_follows_where_it_is_not_the_schemes_own() {
        for (host, port, header, plain, tls) in [
            ("a", 80, None, "a", "a:80"),
            ("a", 443, None, "a:443", "a"),
            ("a", 8000, Some("b"), "b:8000", "b:8000"),
            ("[::1]", 80, None, "[::1]", "[::1]:80"),
        ] {
            let peer = Peer::new(host, port, header);
            assert_eq!((peer.host_field(false), peer.host_field(true)), (plain, tls));
        }
        assert!(matches!(PeerHost::new("[::1]"), PeerHost::Address(_)));
        assert!(matches!(PeerHost::new("a.test"), PeerHost::Name(_)));
    }
}
