//! Where a try of a request goes, and what its failure means.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tollgate_http::client::{Endpoint, SendError, SendErrorKind, TlsProfile};
use tollgate_http::{BodyError, Response, StatusCode};

use crate::answer;
use crate::balancer::{Balancer, Lease, Outcome, PeerHost};
use crate::destination::{Destination, Host};
use crate::exchange::Exchange;

/// Chooses the targets of one request's tries.
pub(crate) struct Choice<'a> {
    destination: &'a Destination,
    hash: Option<Vec<u8>>,
    tried: Vec<usize>,
}

/// There is nobody to send to.
pub(crate) enum Nobody<'a> {
    /// No target is healthy.
    NoPeer,
    /// This name has no address.
    NoAddress(&'a str),
}

impl Nobody<'_> {
    /// What the client is told.
    pub(crate) fn message(&self) -> &'static str {
        match self {
            Self::NoPeer => answer::NO_PEER,
            Self::NoAddress(_) => answer::NO_ADDRESS,
        }
    }
}

/// For the log: what the client is told, and about what.
impl fmt::Display for Nobody<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPeer => f.write_str(self.message()),
            Self::NoAddress(name) => write!(f, "{}: '{name}' has no address", self.message()),
        }
    }
}

impl<'a> Choice<'a> {
    pub(crate) fn new(destination: &'a Destination, exchange: &mut Exchange) -> Self {
        let hash = match &destination.host {
            Host::Upstream(balancer) => balancer.settings().hash.value(exchange),
            Host::One(_) => None,
        };
        Self { destination, hash, tried: Vec::new() }
    }

    /// The target of the next try.
    pub(crate) async fn next(&mut self) -> Result<Target<'a>, Nobody<'a>> {
        let started = Instant::now();
        let (peer, balanced) = match &self.destination.host {
            Host::One(peer) => (&**peer, None),
            Host::Upstream(balancer) => {
                let index = balancer.pick(&self.tried, self.hash.as_deref()).ok_or(Nobody::NoPeer)?;
                self.tried.push(index);
                (balancer.peer(index).ok_or(Nobody::NoPeer)?, Some((&**balancer, index)))
            }
        };
        let tls = self.destination.tls.as_ref();
        let (ip, chosen, name) = match &peer.host {
            PeerHost::Address(ip) => (*ip, started, None),
            PeerHost::Name(name) => {
                (peer.host.resolve().await.ok_or(Nobody::NoAddress(name))?, Instant::now(), Some(&**name))
            }
        };
        Ok(Target {
            address: SocketAddr::new(ip, peer.port),
            host: peer.host_field(tls.is_some()),
            name,
            tls,
            http2: self.destination.http2,
            balanced,
            started,
            chosen,
        })
    }
}

/// The target of a try.
pub(crate) struct Target<'a> {
    address: SocketAddr,
    /// Its value of `Host`.
    pub(crate) host: &'a str,
    /// The name that was looked up.
    pub(crate) name: Option<&'a str>,
    tls: Option<&'a Arc<TlsProfile>>,
    http2: bool,
    balanced: Option<(&'a Balancer, usize)>,
    /// When choosing it began.
    pub(crate) started: Instant,
    /// When it was chosen.
    pub(crate) chosen: Instant,
}

impl Target<'_> {
    /// Whom to connect to for a request with this `Host`: TLS asks for, and checks, the same name (Kong 3.11).
    pub(crate) fn endpoint(&self, host: &[u8]) -> Endpoint {
        let tls = self.tls.map(|profile| (Arc::clone(profile), server_name(host, self.address.ip())));
        Endpoint { address: self.address, tls, http2: self.http2 }
    }

    pub(crate) fn lease(&self) -> Option<Lease> {
        self.balanced.and_then(|(balancer, index)| balancer.lease(index))
    }

    /// Tells the balancer how the try went.
    pub(crate) fn report(&self, outcome: &Result<Response, SendError>, took: Duration) {
        let Some((balancer, index)) = self.balanced else { return };
        let outcome = match outcome {
            Ok(response) => Outcome::Status(response.status.as_u16()),
            Err(error) if is_clients(error.kind) => return,
            Err(error) if error.is_timeout() => Outcome::TimedOut,
            Err(_) => Outcome::Failed,
        };
        balancer.report(index, outcome, took);
    }
}

/// The name in a `Host` value; the address where that is no name.
pub(crate) fn server_name(host: &[u8], ip: IpAddr) -> ServerName<'static> {
    let host = std::str::from_utf8(host).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    ServerName::try_from(name.to_owned()).unwrap_or_else(|_| ServerName::from(ip))
}

/// Whether the client, not the upstream, made a try fail.
fn is_clients(kind: SendErrorKind) -> bool {
    matches!(
        kind,
        SendErrorKind::Body
            | SendErrorKind::BodyTooLarge
            | SendErrorKind::BodyTimeout
            | SendErrorKind::InvalidRequest
    )
}

/// The status a failed try stands for (Kong 3.11).
pub(crate) fn status_of(error: &SendError) -> StatusCode {
    match error.kind {
        SendErrorKind::ConnectTimeout | SendErrorKind::ReadTimeout | SendErrorKind::WriteTimeout => {
            StatusCode::GATEWAY_TIMEOUT
        }
        SendErrorKind::Body | SendErrorKind::InvalidRequest => StatusCode::BAD_REQUEST,
        SendErrorKind::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        SendErrorKind::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        SendErrorKind::Connect | SendErrorKind::Tls | SendErrorKind::Closed | SendErrorKind::Malformed => {
            StatusCode::BAD_GATEWAY
        }
    }
}

/// The status a client's broken body stands for.
pub(crate) fn status_of_body(error: &BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TimedOut => StatusCode::REQUEST_TIMEOUT,
        BodyError::Closed | BodyError::Malformed(_) | BodyError::Io(_) => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_name_is_the_host_without_port() {
        let ip = IpAddr::from([10, 0, 0, 1]);
        for (host, expected) in [
            ("a.test", "a.test"),
            ("a.test:8443", "a.test"),
            ("10.0.0.2:443", "10.0.0.2"),
            ("[::1]:443", "10.0.0.1"),
            ("odd host", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(server_name(host.as_bytes(), ip).to_str(), expected, "{host}");
        }
    }
}
