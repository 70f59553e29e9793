//! Where a request can be sent, worked out when the configuration is compiled.

use std::net::IpAddr;
use std::sync::Arc;

use tollgate_http::client::TlsProfile;

use crate::balancer::Balancer;

/// Scheme, host and port with all that follows from them.
#[derive(Clone)]
pub struct Destination {
    /// The host.
    pub host: Host,
    /// The port; an upstream's targets have their own.
    pub port: u16,
    /// How to speak TLS; `None` for plain HTTP.
    pub tls: Option<Arc<TlsProfile>>,
    /// Value of the `Host` field, with the port where it is not the scheme's own.
    pub host_header: Box<str>,
}

/// What stands in the host of a service.
#[derive(Clone)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A name to resolve.
    Name(Arc<str>),
    /// An upstream of the same workspace.
    Upstream(Arc<Balancer>),
}

impl Destination {
    /// A destination for a host that is no upstream.
    pub fn new(host: &str, port: u16, tls: Option<Arc<TlsProfile>>) -> Self {
        let default_port = if tls.is_some() { 443 } else { 80 };
        let host_header = if port == default_port { host.into() } else { format!("{host}:{port}").into() };
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let host = bare.parse().map_or_else(|_| Host::Name(host.into()), Host::Address);
        Self { host, port, tls, host_header }
    }
}
