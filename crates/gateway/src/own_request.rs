//! Requests that the gateway makes of its own, such as a plugin that asks an LLM about the request at hand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tollgate_http::client::{Endpoint, SendError, Timeouts};
use tollgate_http::{Body, BodyError, Connection, Headers, Method, Request, RequestHead, Response, Version};

use crate::Exchange;
use crate::balancer::{Peer, PeerHost};
use crate::destination::Host;
use crate::exchange::Source;
use crate::request::{Gateway, set_target};
use crate::upstream::server_name;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is nobody to send to.
    #[error("{0}")]
    Nobody(String),
    /// The request failed.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The answer broke off, or is too large.
    #[error(transparent)]
    Body(#[from] BodyError),
}

impl Exchange {
    /// A request of the gateway's own: with nothing of this one's in it, no route and no plugins. Values of this one
    /// may be put into it ([`Exchange::on_behalf_of`], [`Exchange::captures`]).
    pub fn own_request(&self, method: Method) -> Self {
        let target = Bytes::from_static(b"/");
        let head = RequestHead { method, target, version: Version::HTTP_11, headers: Headers::new() };
        // It counts for nobody's connection.
        let connection =
            Arc::new(Connection { requests: Arc::default(), ..Connection::clone(&self.connection) });
        let request = Request { head, body: Body::Empty, connection };
        let mut own = Gateway::begin(request, Arc::clone(&self.snapshot), &self.settings, &self.client);
        own.captures.clone_from(&self.captures);
        own.on_behalf_of = Some(Box::new(self.head.clone()));
        *own
    }

    /// Sends a request of the gateway's own to its destination, once, and reads the answer whole: at most so many
    /// bytes of body. By way of `proxy`, where there is one; with TLS through a tunnel.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn fetch(
        &mut self,
        proxy: Option<&Peer>,
        timeouts: &Timeouts,
        limit: usize,
    ) -> Result<Response, FetchError> {
        let nobody = |reason: &str| FetchError::Nobody(reason.to_owned());
        let destination = self.destination.clone().ok_or_else(|| nobody("it has no destination"))?;
        let Host::One(peer) = &destination.host else { return Err(nobody("it is for an upstream")) };
        let dialled = proxy.unwrap_or(peer);
        let ip = dialled.host.resolve().await.ok_or_else(|| FetchError::Nobody(no_address(&dialled.host)))?;
        set_target(self);
        let host = self.upstream_host.as_deref().unwrap_or(peer.host_field(destination.tls.is_some()));
        self.head.headers.set("Host", host);
        let tls = destination.tls.as_ref().map(|profile| match proxy {
            None => Arc::clone(profile),
            Some(_) => Arc::new(profile.through(&authority(peer))),
        });
        if proxy.is_some() && tls.is_none() {
            self.head.target = [b"http://", host.as_bytes(), &self.head.target].concat().into();
        }
        let tls = tls.map(|profile| (profile, server_name(host.as_bytes(), ip)));
        let endpoint = Endpoint { address: (ip, dialled.port).into(), tls, http2: false };
        let mut response = self.client.send(&endpoint, &self.head, &mut self.body, timeouts).await?;
        self.facts.answered = Some(Instant::now());
        self.facts.upstream_status = Some(response.status.as_u16());
        self.facts.source = Source::Upstream;
        response.body.buffer(limit).await?;
        Ok(response)
    }
}

fn no_address(host: &PeerHost) -> String {
    match host {
        PeerHost::Address(ip) => format!("{ip} is no address"),
        PeerHost::Name(name) => format!("'{name}' has no address"),
    }
}

/// A server as a proxy is told of it.
fn authority(peer: &Peer) -> String {
    match &peer.host {
        PeerHost::Address(ip) => SocketAddr::new(*ip, peer.port).to_string(),
        PeerHost::Name(name) => format!("{name}:{}", peer.port),
    }
}
