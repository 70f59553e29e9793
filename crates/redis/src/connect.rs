//! Making a connection.

use std::io;
use std::time::Duration;

use futures_util::future::select_ok;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, RedisFuture, RedisResult, Value,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tollgate_http::client::TlsProfile;

use crate::settings::{Login, Node, Settings, Topology};

/// A connection to a server, or those to the nodes of a cluster.
#[derive(Clone)]
pub(crate) enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(one) => one.req_packed_command(command),
            Self::Cluster(cluster) => cluster.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(one) => one.req_packed_commands(pipeline, offset, count),
            Self::Cluster(cluster) => cluster.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(one) => one.get_db(),
            Self::Cluster(cluster) => cluster.get_db(),
        }
    }
}

/// TLS to single servers, made once.
pub(crate) fn tls_profile(settings: &Settings) -> Result<Option<TlsProfile>, String> {
    let Some(tls) = &settings.tls else { return Ok(None) };
    TlsProfile::new(tls.verify, &[], None).map(Some).map_err(|error| error.to_string())
}

/// Connects and logs in.
pub(crate) async fn open(settings: &Settings, tls: Option<&TlsProfile>) -> RedisResult<Connection> {
    let connector = Connector { settings, tls };
    match &settings.topology {
        Topology::One(node) => connector.one(node, &settings.login, settings.database).await,
        Topology::Sentinel { master, nodes, login } => {
            // The first sentinel that knows the master counts.
            let asked = nodes.iter().map(|node| Box::pin(connector.master(node, login, master)));
            let (master, _) = select_ok(asked).await?;
            connector.one(&master, &settings.login, settings.database).await
        }
        Topology::Cluster { nodes, max_redirections } => {
            let patience = settings.connect_timeout + settings.answer_timeout;
            let connection = within(patience, cluster(settings, nodes, *max_redirections)).await?;
            Ok(Connection::Cluster(connection))
        }
    }
}

struct Connector<'a> {
    settings: &'a Settings,
    tls: Option<&'a TlsProfile>,
}

impl Connector<'_> {
    async fn one(&self, node: &Node, login: &Login, database: i64) -> RedisResult<Connection> {
        let patience = self.settings.connect_timeout;
        let stream = within(patience, async {
            let stream = TcpStream::connect((&*node.host, node.port)).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        });
        let stream = stream.await?;
        let Some(profile) = self.tls else { return self.handshake(stream, login, database).await };
        let configured = self.settings.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let name = configured.unwrap_or(&node.host).to_owned();
        let name = ServerName::try_from(name)
            .map_err(|error| RedisError::from((ErrorKind::InvalidClientConfig, "TLS", error.to_string())))?;
        let stream = within(patience, async { Ok(profile.connect(stream, name).await?) }).await?;
        self.handshake(stream, login, database).await
    }

    async fn handshake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        login: &Login,
        database: i64,
    ) -> RedisResult<Connection> {
        let patience = self.settings.answer_timeout;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(patience));
        let login = connection_info(login, database);
        let made = within(patience, MultiplexedConnection::new_with_config(&login, stream, config));
        let (connection, driver) = made.await?;
        tokio::spawn(driver);
        Ok(Connection::One(connection))
    }

    /// Asks a sentinel who the master is.
    async fn master(&self, sentinel: &Node, login: &Login, name: &str) -> RedisResult<Node> {
        let mut connection = self.one(sentinel, login, 0).await?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let master: Option<(String, u16)> = command.query_async(&mut connection).await?;
        let (host, port) = master.ok_or_else(|| {
            RedisError::from((
                ErrorKind::InvalidClientConfig,
                "sentinels know no such master",
                name.to_owned(),
            ))
        })?;
        Ok(Node { host, port })
    }
}

async fn cluster(
    settings: &Settings,
    nodes: &[Node],
    max_redirections: u32,
) -> RedisResult<ClusterConnection> {
    let login = connection_info(&settings.login, 0);
    let seeds: Vec<ConnectionInfo> = nodes
        .iter()
        .map(|node| {
            let (host, port) = (node.host.clone(), node.port);
            let address = match &settings.tls {
                None => ConnectionAddr::Tcp(host, port),
                Some(tls) => ConnectionAddr::TcpTls { host, port, insecure: !tls.verify, tls_params: None },
            };
            Ok(address.into_connection_info()?.set_redis_settings(login.clone()))
        })
        .collect::<RedisResult<_>>()?;
    ClusterClient::builder(seeds)
        .connection_timeout(settings.connect_timeout)
        .response_timeout(settings.answer_timeout)
        .overall_response_timeout(Some(settings.answer_timeout))
        .retries(max_redirections)
        .build()?
        .get_async_connection()
        .await
}

fn connection_info(login: &Login, database: i64) -> RedisConnectionInfo {
    // The name of the library concerns nobody, and old servers do not know the command.
    let mut info = RedisConnectionInfo::default().set_db(database).set_skip_set_lib_name();
    if let Some(password) = &login.password {
        info = info.set_password(password.expose());
        if let Some(username) = &login.username {
            info = info.set_username(username);
        }
    }
    info
}

async fn within<T>(patience: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    match timeout(patience, work).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("no answer within {} ms", patience.as_millis());
            Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
        }
    }
}
