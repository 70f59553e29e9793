//! TLS to upstreams.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How to speak TLS to an upstream: whom to trust, what to show.
pub struct TlsProfile {
    connector: TlsConnector,
    /// The same, agreeing on HTTP/2.
    http2: TlsConnector,
    identity: u64,
    /// The server (`host:port`) that a proxy is asked to connect to first.
    tunnel: Option<Arc<str>>,
}

/// A TLS profile cannot be made of what was given.
#[derive(Debug, thiserror::Error)]
pub enum TlsProfileError {
    /// PEM that is none.
    #[error("{what}: {reason}")]
    Pem {
        /// Which of the inputs.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What rustls refuses.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl TlsProfile {
    /// A profile. With `verify` the upstream's certificate must be vouched for by `authorities` (PEM), or by
    /// the system's where there are none. `certificate` (chain and key, PEM) is shown to the upstream.
    ///
    /// # Errors
    /// PEM that cannot be read.
    pub fn new(
        verify: bool,
        authorities: &[&str],
        certificate: Option<(&str, &str)>,
    ) -> Result<Self, TlsProfileError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?;
        let builder = if verify {
            builder.with_root_certificates(roots(authorities)?)
        } else {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        };
        let config = match certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(read_chain(chain)?, read_key(key)?)?,
        };
        let mut hasher = DefaultHasher::new();
        (verify, authorities, certificate).hash(&mut hasher);
        let mut http2 = config.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            http2: TlsConnector::from(Arc::new(http2)),
            identity: hasher.finish(),
            tunnel: None,
        })
    }

    /// The same by way of a proxy: whoever is connected to is asked for a tunnel to `server` (`host:port`) first.
    #[must_use]
    pub fn through(&self, server: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.identity, server).hash(&mut hasher);
        Self {
            connector: self.connector.clone(),
            http2: self.http2.clone(),
            identity: hasher.finish(),
            tunnel: Some(server.into()),
        }
    }

    /// The server that a proxy is asked to connect to.
    pub(super) fn tunnel(&self) -> Option<&str> {
        self.tunnel.as_deref()
    }

    /// Equal for profiles made of the same settings, so that they share connections.
    pub(super) fn identity(&self) -> u64 {
        self.identity
    }

    /// Speaks TLS over a connection to the server of this name.
    ///
    /// # Errors
    /// What the handshake failed of.
    pub async fn connect(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.connector.connect(name, stream).await
    }

    pub(super) async fn connect_http2(
        &self,
        stream: TcpStream,
        name: ServerName<'static>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        self.http2.connect(name, stream).await
    }
}

impl std::fmt::Debug for TlsProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsProfile({:x})", self.identity)
    }
}

fn roots(authorities: &[&str]) -> Result<Arc<RootCertStore>, TlsProfileError> {
    /// The system's, read once.
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if authorities.is_empty() {
        let read = || {
            let mut store = RootCertStore::empty();
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            Arc::new(store)
        };
        return Ok(Arc::clone(SYSTEM.get_or_init(read)));
    }
    let mut store = RootCertStore::empty();
    for authority in authorities {
        for certificate in read_chain(authority)? {
            store.add(certificate)?;
        }
    }
    Ok(Arc::new(store))
}

/// Certificates of a PEM text.
pub(crate) fn read_chain(pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsProfileError> {
    let error = |reason: String| TlsProfileError::Pem { what: "certificate", reason };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|reason| error(reason.to_string()))?;
    if chain.is_empty() { Err(error("no PEM block 'CERTIFICATE'".into())) } else { Ok(chain) }
}

/// The private key of a PEM text.
pub(crate) fn read_key(pem: &str) -> Result<PrivateKeyDer<'static>, TlsProfileError> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|reason| TlsProfileError::Pem { what: "key", reason: reason.to_string() })
}

/// Accepts any certificate (`tls_verify: false`); signatures are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
