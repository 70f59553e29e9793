//! Where a request can be sent, worked out when the configuration is compiled.

use std::sync::Arc;

use tollgate_http::client::TlsProfile;

use crate::balancer::{Balancer, Peer};

/// Whom to send to, and how.
#[derive(Clone)]
pub struct Destination {
    /// Who is there.
    pub host: Host,
    /// How to speak TLS; `None` for plain HTTP.
    pub tls: Option<Arc<TlsProfile>>,
    /// Whether it speaks HTTP/2 (Kong 3.11: services of `grpc` and `grpcs`), else HTTP/1.1.
    pub http2: bool,
}

/// What stands in the host of a service.
#[derive(Clone)]
pub enum Host {
    /// A host.
    One(Arc<Peer>),
    /// An upstream of the same workspace.
    Upstream(Arc<Balancer>),
}

impl Destination {
    /// A destination for a host that is no upstream.
    pub fn new(host: &str, port: u16, tls: Option<Arc<TlsProfile>>) -> Self {
        Self { host: Host::One(Arc::new(Peer::new(host, port, None))), tls, http2: false }
    }
}
