//! The least a proxy does: passes every request to one upstream. For measuring what the wire itself costs.
//!
//! `bench_proxy LISTEN UPSTREAM [WORKERS]`, such as `bench_proxy 127.0.0.1:9001 127.0.0.1:9002 1`.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use tollgate_http::client::{Client, Endpoint, PoolSettings, Timeouts};
use tollgate_http::server::{Certificates, Limits, Listener, ServerConfig, self_signed, serve};
use tollgate_http::{Connection, Handler, Refusal, Request, RequestHead, Response, StatusCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Proxy {
    client: Client,
    upstream: Endpoint,
    timeouts: Timeouts,
}

impl Handler for Proxy {
    async fn handle(&self, mut request: Request) -> Response {
        match self.client.send(&self.upstream, &request.head, &mut request.body, &self.timeouts).await {
            Ok(response) => response,
            Err(_) => Response::new(StatusCode::BAD_GATEWAY),
        }
    }

    fn refuse(&self, _: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        Response::new(StatusCode::BAD_REQUEST)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut address = || -> Result<SocketAddr, Box<dyn Error>> {
        Ok(arguments.next().ok_or("LISTEN UPSTREAM [WORKERS]")?.parse()?)
    };
    let (listen, upstream) = (address()?, address()?);
    let workers = arguments.next().map_or(Ok(1), |count| count.parse())?;
    let proxy = Proxy {
        client: Client::default(),
        upstream: Endpoint { address: upstream, tls: None, http2: false },
        timeouts: Timeouts::default(),
    };
    let (chain, key) = self_signed()?;
    let config = ServerConfig {
        listeners: vec![Listener::plain(listen)],
        workers,
        limits: Limits::default(),
        certificates: Arc::new(Certificates::new((&chain, &key), true)?),
        pool: PoolSettings::default(),
    };
    let _server = serve(config, Arc::new(proxy))?;
    std::future::pending().await
}
