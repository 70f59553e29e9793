//! TLS from clients: which certificate for which name, and the handshake.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::ring;
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;

use super::{Listener, Shared, connection, http2};
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

/// Names and certificates, swapped as a whole while serving.
pub struct Certificates {
    default: Arc<CertifiedKey>,
    by_name: ArcSwap<HashMap<Box<str>, Vec<Arc<CertifiedKey>>>>,
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
    pub fn set<'a>(&self, certificates: impl IntoIterator<Item = (&'a str, Vec<Pair<'a>>)>) -> Result<(), CertificateError> {
        let mut by_name: HashMap<Box<str>, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for (name, pairs) in certificates {
            let certified = pairs.into_iter().map(certified).collect::<Result<_, _>>()?;
            by_name.insert(name.to_ascii_lowercase().into(), certified);
        }
        self.by_name.store(Arc::new(by_name));
        Ok(())
    }

    /// The certificates for a name: exact, `*.rest`, `first.*`, `*`, default (Kong 3.11).
    fn find(&self, name: Option<&str>) -> Vec<Arc<CertifiedKey>> {
        let by_name = self.by_name.load();
        let default = || vec![Arc::clone(&self.default)];
        let Some(name) = name.map(str::to_ascii_lowercase) else { return default() };
        let rest = name.split_once('.').map(|(_, rest)| format!("*.{rest}"));
        let first = name.rsplit_once('.').map(|(first, _)| format!("{first}.*"));
        [Some(name), rest, first, Some("*".to_owned())]
            .into_iter()
            .flatten()
            .find_map(|name| by_name.get(name.as_str()).cloned())
            .unwrap_or_else(default)
    }
}

/// Picks, of several certificates for a name, the first whose key the client can check.
#[derive(Debug)]
struct Choice(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

/// A new self-signed certificate for `localhost` and its key, in PEM.
///
/// # Errors
/// When the system has no randomness.
pub fn self_signed() -> Result<(String, String), CertificateError> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(|error| CertificateError(error.to_string()))?;
    Ok((made.cert.pem(), made.signing_key.serialize_pem()))
}

pub(super) async fn serve<H: Handler>(
    listener: Listener,
    stream: TcpStream,
    mut connection: Connection,
    shared: Arc<Shared>,
    handler: Arc<H>,
) {
    let mut first = [0];
    let limit = shared.limits.head_timeout;
    match tokio::time::timeout(limit, stream.peek(&mut first)).await {
        Ok(Ok(1..)) if first[0] != 0x16 => {
            return connection::refuse(Transport::Plain(stream), Refusal::PlainOnTls, &connection, &*handler).await;
        }
        Ok(Ok(1..)) => {}
        _ => return,
    }
    let handshake = async {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.ok()?;
        let certificates = shared.certificates.find(start.client_hello().server_name());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&shared.certificates.versions)
            .ok()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Choice(certificates)));
        config.alpn_protocols = if listener.http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        start.into_stream(Arc::new(config)).await.ok()
    };
    let Ok(Some(stream)) = tokio::time::timeout(limit, handshake).await else { return };
    let session = stream.get_ref().1;
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    connection.tls = Some(TlsInfo {
        server_name: session.server_name().map(str::to_owned),
        version,
        cipher: session.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
        client_certificates: Vec::new(),
    });
    if session.alpn_protocol() == Some(b"h2") {
        http2::serve(stream, Arc::new(connection), shared, handler).await;
    } else {
        connection::serve(Transport::Tls(Box::new(stream.into())), Arc::new(connection), shared, handler).await;
    }
}
