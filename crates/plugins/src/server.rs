//! Servers that plugins ask of their own accord, such as token services and collectors: an address, and a request to
//! it.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tollgate_gateway::balancer::Peer;
use tollgate_http::client::{Client, Endpoint, Timeouts, TlsProfile, TlsProfileError};
use tollgate_http::{Body, Headers, Method, RequestHead, StatusCode, Version};

/// Largest answer that is taken in, in bytes.
const LARGEST: usize = 1024 * 1024;

/// Where a server is.
pub struct Server {
    peer: Peer,
    /// The host without brackets.
    name: String,
    tls: bool,
    /// Path and query.
    pub target: String,
    /// Scheme, host and port, for errors.
    pub origin: String,
}

/// A text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an address that is not http(s)://host[:port][/path]")]
pub struct NoAddress;

impl Server {
    /// The server of a URL.
    ///
    /// # Errors
    /// It is none of `http` or `https`, or has no host.
    pub fn of(url: &str) -> Result<Self, NoAddress> {
        let uri: http::Uri = url.parse().map_err(|_| NoAddress)?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(NoAddress),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(NoAddress)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let peer = Peer::new(host, port, None);
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            name: host.trim_matches(['[', ']']).to_owned(),
            tls,
            target: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            origin: format!("{scheme}://{}", peer.host_field(tls)),
            peer,
        })
    }

    /// `Host` of requests to it.
    pub fn host_field(&self) -> &str {
        self.peer.host_field(self.tls)
    }

    /// The path without the query, which may hold a key.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// Sends a request once, and reads the answer whole. Who the server is, is always checked.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        client: &Client,
        method: &Method,
        fields: impl IntoIterator<Item = (&str, &str)>,
        body: Bytes,
        timeouts: &Timeouts,
    ) -> Result<(StatusCode, Bytes), String> {
        let ip = self.peer.host.resolve().await.ok_or("the name has no address")?;
        let tls = match self.tls {
            false => None,
            true => {
                let name = ServerName::try_from(self.name.clone()).unwrap_or_else(|_| ip.into());
                Some((profile()?, name))
            }
        };
        let mut headers = Headers::new();
        headers.set("Host", self.host_field());
        headers.set("User-Agent", concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        headers.set("Accept", "*/*");
        for (name, value) in fields {
            headers.set(name, value);
        }
        let target = self.target.clone().into();
        let head = RequestHead { method: method.clone(), target, version: Version::HTTP_11, headers };
        let endpoint = Endpoint { address: (ip, self.peer.port).into(), tls, http2: false };
        let mut body = Body::from(body);
        let mut answer =
            client.send(&endpoint, &head, &mut body, timeouts).await.map_err(|error| error.to_string())?;
        let body = answer.body.buffer(LARGEST).await.map_err(|error| error.to_string())?;
        Ok((answer.status, body))
    }
}

fn profile() -> Result<Arc<TlsProfile>, String> {
    static CHECKING: LazyLock<Result<Arc<TlsProfile>, TlsProfileError>> =
        LazyLock::new(|| TlsProfile::new(true, &[], None).map(Arc::new));
    CHECKING.as_ref().map(Arc::clone).map_err(ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, origin, target) in [
            ("http://169.254.169.254/a?b=c", "http://169.254.169.254", "/a?b=c"),
            ("https://sts.amazonaws.com", "https://sts.amazonaws.com", "/"),
            ("http://[fd00:ec2::254]:81/x", "http://[fd00:ec2::254]:81", "/x"),
        ] {
            let server = Server::of(url).unwrap();
            assert_eq!((&*server.origin, &*server.target), (origin, target));
        }
        for url in ["", "/a", "a.b/c", "ftp://a/"] {
            assert!(Server::of(url).is_err(), "{url}");
        }
    }
}
