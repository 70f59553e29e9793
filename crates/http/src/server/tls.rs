//! TLS from clients: which certificate for which name, and the handshake.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::worker::Shared;
use super::{Listener, connection, http2};
use crate::client::TlsProfileError;
use crate::transport::Transport;
use crate::{Connection, Handler, Refusal, TlsInfo};

/// A certificate that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CertificateError(String);

impl From<TlsProfileError> for CertificateError {
    fn from(error: TlsProfileError) -> Self {
        Self(error.to_string())
    }
}

impl From<rustls::Error> for CertificateError {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

/// First byte of a TLS connection: a record of the handshake.
const HANDSHAKE_RECORD: [u8; 1] = [0x16];

type ByName = HashMap<Box<str>, Vec<Arc<CertifiedKey>>>;

/// Names and certificates, swapped as a whole while serving.
pub struct Certificates {
    default: Arc<CertifiedKey>,
    by_name: ArcSwap<ByName>,
    versions: Vec<&'static SupportedProtocolVersion>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.by_name.load().keys()).finish()
    }
}

/// PEM of a certificate chain and of its key.
pub type Pair<'a> = (&'a str, &'a str);

fn certified((chain, key): Pair<'_>) -> Result<Arc<CertifiedKey>, CertificateError> {
    let key = crate::client::read_key(key)?;
    let signing = ring::sign::any_supported_type(&key)?;
    let certified = CertifiedKey::new(crate::client::read_chain(chain)?, signing);
    certified.keys_match()?;
    Ok(Arc::new(certified))
}

impl Certificates {
    /// A store with the certificate for names it does not know. `tls12` allows TLS 1.2 besides 1.3.
    ///
    /// # Errors
    /// A pair that cannot be read, or that does not match.
    pub fn new(default: Pair<'_>, tls12: bool) -> Result<Self, CertificateError> {
        let mut versions = vec![&rustls::version::TLS13];
        if tls12 {
            versions.push(&rustls::version::TLS12);
        }
        Ok(Self { default: certified(default)?, by_name: ArcSwap::default(), versions })
    }

    /// Sets the certificates by name; `*.x`, `x.*` and `*` are wildcards. Several for one name serve different
    /// key types.
    ///
    /// # Errors
    /// The first pair that cannot be read; then nothing has changed.
    pub fn set<'a>(
        &self,
        certificates: impl IntoIterator<Item = (&'a str, Vec<Pair<'a>>)>,
    ) -> Result<(), CertificateError> {
        let mut by_name = ByName::new();
        for (name, pairs) in certificates {
            let certified = pairs.into_iter().map(certified).collect::<Result<_, _>>()?;
            by_name.insert(name.to_ascii_lowercase().into(), certified);
        }
        self.by_name.store(Arc::new(by_name));
        Ok(())
    }

    /// The certificates for a name: exact, `*.rest`, `first.*`, `*` (Kong 3.11).
    fn find<'a>(&self, by_name: &'a ByName, name: &str) -> Option<&'a [Arc<CertifiedKey>]> {
        let name = name.to_ascii_lowercase();
        let exact = by_name.get(name.as_str());
        let rest = || name.split_once('.').and_then(|(_, rest)| by_name.get(format!("*.{rest}").as_str()));
        let first =
            || name.rsplit_once('.').and_then(|(first, _)| by_name.get(format!("{first}.*").as_str()));
        exact.or_else(rest).or_else(first).or_else(|| by_name.get("*")).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Certificates {
    /// Of several certificates for a name, the first whose key the client can check.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by_name = self.by_name.load();
        let found = hello.server_name().and_then(|name| self.find(&by_name, name)).unwrap_or_default();
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        Some(Arc::clone(found.iter().find(fits).or(found.first()).unwrap_or(&self.default)))
    }
}

/// How TLS is spoken on listeners: without HTTP/2, and with it.
#[derive(Clone)]
pub(super) struct Tls {
    http1: TlsAcceptor,
    http2: TlsAcceptor,
}

impl Tls {
    pub(super) fn new(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let acceptor = |protocols: &[&[u8]]| {
            let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_protocol_versions(&certificates.versions)?
                .with_no_client_auth()
                .with_cert_resolver(certificates.clone());
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            config.ticketer = ring::Ticketer::new()?;
            Ok::<_, rustls::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Self { http1: acceptor(&[b"http/1.1"])?, http2: acceptor(&[b"h2", b"http/1.1"])? })
    }
}

/// A new self-signed certificate for `localhost` and its key, in PEM.
///
/// # Errors
/// When the system has no randomness.
pub fn self_signed() -> Result<(String, String), CertificateError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .map_err(|error| CertificateError(error.to_string()))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

/// Serves a connection that is to speak TLS.
pub(super) async fn serve<H: Handler>(
    stream: TcpStream,
    mut connection: Connection,
    listener: &Listener,
    shared: &Shared<H>,
) {
    let mut first = [0];
    let limit = shared.limits.head_timeout;
    match shared.state.in_time(limit, stream.peek(&mut first)).await {
        Some(Ok(1)) if first != HANDSHAKE_RECORD => {
            return connection::refuse(Transport::Plain(stream), Refusal::PlainOnTls, connection, shared)
                .await;
        }
        Some(Ok(1)) => {}
        _ => return,
    }
    let acceptor = if listener.http2 { &shared.tls.http2 } else { &shared.tls.http1 };
    let Some(Ok(stream)) = shared.state.in_time(limit, acceptor.accept(stream)).await else { return };
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    connection.tls = Some(TlsInfo {
        server_name: session.server_name().map(str::to_owned),
        version,
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        client_certificates: Vec::new(),
    });
    if session.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, Arc::new(connection), shared).await;
    } else {
        connection::serve(Transport::Tls(Box::new(stream.into())), Arc::new(connection), false, shared).await;
    }
}
