//! Connections to a Postgres: each thread that asks has one of its own, made when it is first needed.

use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use thread_local::ThreadLocal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_rustls::client::TlsStream;
use tollgate_http::client::TlsProfile;
use tollgate_model::Secret;

use super::Values;
use crate::Error;

/// How long no connection is tried after one could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// How a Postgres is reached.
#[derive(Debug, Clone)]
pub struct PgVectorSettings {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Who logs in.
    pub user: String,
    /// With which password.
    pub password: Option<Secret>,
    /// Where.
    pub database: String,
    /// How long a connection may take, and an answer.
    pub timeout: Duration,
    /// How to speak TLS, where that is to be spoken.
    pub tls: Option<PgVectorTls>,
}

/// How to speak TLS to a Postgres.
#[derive(Debug, Clone)]
pub struct PgVectorTls {
    /// Whether a server that speaks none is refused.
    pub required: bool,
    /// Whether its certificate is checked.
    pub verify: bool,
    /// Certificate and key that the server is shown (PEM).
    pub certificate: Option<(String, Secret)>,
}

/// Why a statement has no answer.
pub(super) enum Failure {
    Error(Error),
    /// What the server says, or what broke.
    Refused(tokio_postgres::Error),
}

/// Connections to one server.
pub(super) struct Connections {
    settings: PgVectorSettings,
    tls: Option<Arc<TlsProfile>>,
    /// `host:port`.
    server: String,
    slots: ThreadLocal<Mutex<Slot>>,
}

#[derive(Default)]
enum Slot {
    #[default]
    Closed,
    Open(Arc<Client>),
    /// Calls fail at once until the time.
    Down(Instant, Error),
}

impl Connections {
    /// # Errors
    /// TLS settings that cannot be used.
    pub(super) fn new(settings: PgVectorSettings) -> Result<Self, String> {
        let profile = |tls: &PgVectorTls| {
            let certificate = tls.certificate.as_ref().map(|(chain, key)| (chain.as_str(), key.expose()));
            TlsProfile::new(tls.verify, &[], certificate).map(Arc::new).map_err(|error| error.to_string())
        };
        let tls = settings.tls.as_ref().map(profile).transpose()?;
        let server = format!("{}:{}", settings.host, settings.port);
        Ok(Self { settings, tls, server, slots: ThreadLocal::new() })
    }

    /// Where the server is.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// Asks; where the connection turns out to be gone, once more on a new one.
    pub(super) async fn ask(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        match self.ask_once(statement, values).await {
            Err(Failure::Refused(error)) if error.is_closed() => self.ask_once(statement, values).await,
            answer => answer,
        }
    }

    async fn ask_once(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.client().await.map_err(Failure::Error)?;
        let after = self.settings.timeout;
        match timeout(after, client.query_typed(statement, values)).await {
            Ok(answer) => answer.map_err(Failure::Refused),
            Err(_) => {
                let error = Error::Timeout { server: self.server.clone(), after };
                // Who does not answer now will hardly answer what is asked behind it.
                *self.slots.get_or_default().lock().await = Slot::Down(Instant::now() + PAUSE, error.clone());
                Err(Failure::Error(error))
            }
        }
    }

    /// The thread's connection.
    async fn client(&self) -> Result<Arc<Client>, Error> {
        let mut slot = self.slots.get_or_default().lock().await;
        match &*slot {
            Slot::Open(client) if !client.is_closed() => return Ok(Arc::clone(client)),
            Slot::Down(until, error) if Instant::now() < *until => return Err(error.clone()),
            Slot::Open(_) | Slot::Down(..) | Slot::Closed => {}
        }
        let made = timeout(self.settings.timeout, self.connect()).await;
        let made = made.unwrap_or_else(|_| {
            Err(Error::Timeout { server: self.server.clone(), after: self.settings.timeout })
        });
        *slot = match &made {
            Ok(client) => Slot::Open(Arc::clone(client)),
            Err(error) => Slot::Down(Instant::now() + PAUSE, error.clone()),
        };
        made
    }

    async fn connect(&self) -> Result<Arc<Client>, Error> {
        let failed = |reason: String| Error::Unreachable { server: self.server.clone(), reason };
        let settings = &self.settings;
        let stream = TcpStream::connect((&*settings.host, settings.port));
        let stream = stream.await.map_err(|error| failed(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
        let mut config = Config::new();
        config.user(&settings.user).dbname(&settings.database).application_name("tollgate");
        if let Some(password) = &settings.password {
            config.password(password.expose());
        }
        let client = match (&settings.tls, &self.tls) {
            (Some(tls), Some(profile)) => {
                config.ssl_mode(if tls.required { SslMode::Require } else { SslMode::Prefer });
                let name = ServerName::try_from(settings.host.clone());
                let name = name.map_err(|error| failed(format!("TLS: {error}")))?;
                let connector = Connector { profile: Arc::clone(profile), name };
                let connected = config.connect_raw(stream, connector).await;
                let (client, connection) = connected.map_err(|error| failed(causes(&error)))?;
                tokio::spawn(connection);
                client
            }
            _ => {
                config.ssl_mode(SslMode::Disable);
                let connected = config.connect_raw(stream, NoTls).await;
                let (client, connection) = connected.map_err(|error| failed(causes(&error)))?;
                tokio::spawn(connection);
                client
            }
        };
        Ok(Arc::new(client))
    }
}

/// An error with what lies behind it.
pub(super) fn causes(error: &tokio_postgres::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

/// How the client speaks TLS.
struct Connector {
    profile: Arc<TlsProfile>,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Connector {
    type Stream = Tls;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Tls>> + Send>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move { self.profile.connect(stream, self.name).await.map(Tls) })
    }
}

/// A connection that speaks TLS.
struct Tls(TlsStream<TcpStream>);

impl tokio_postgres::tls::TlsStream for Tls {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Tls {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Tls {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
