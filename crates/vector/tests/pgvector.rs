//! Vectors in a Postgres with the pgvector extension.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::postgres::Postgres;
use common::{found, keeps_directions, keeps_points, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tollgate_vector::{Index, Metric, PgVector, PgVectorSettings, PgVectorTls, Shape};

fn settings(port: u16, tls: Option<PgVectorTls>) -> PgVectorSettings {
    PgVectorSettings {
        host: "127.0.0.1".into(),
        port,
        user: "postgres".into(),
        password: None,
        database: "postgres".into(),
        timeout: Duration::from_secs(20),
        tls,
    }
}

fn index(port: u16, metric: Metric, tls: Option<PgVectorTls>) -> PgVector {
    PgVector::new(settings(port, tls), Shape { dimensions: 2, metric }).unwrap()
}

/// A server in front of another that speaks TLS as Postgres does: asked for it, it says `S`.
async fn speak_tls(port: u16) -> u16 {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(issued.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![issued.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut asked = [0; 8];
                stream.read_exact(&mut asked).await.unwrap();
                assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47], "the request for TLS");
                stream.write_all(b"S").await.unwrap();
                // A client that does not trust the certificate ends the handshake.
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ = copy_bidirectional(&mut stream, &mut server).await;
            });
        }
    });
    own
}

/// One server for all: it takes seconds to start.
#[test]
fn keeps_and_finds() {
    let postgres = Postgres::start();
    let port = postgres.port;
    run(async {
        keeps_directions(&index(port, Metric::Cosine, None)).await;
        keeps_points(&index(port, Metric::Euclidean, None)).await;

        // Nodes share what is kept; a table that somebody drops is made anew.
        let (one, other) = (index(port, Metric::Cosine, None), index(port, Metric::Cosine, None));
        one.put("shared", "east", &[1.0, 0.0]).await.unwrap();
        assert_eq!(found(&other, "shared", &[1.0, 0.0], 1, None).await, [("east".to_owned(), 0.0)]);
        drop_table(port).await;
        assert_eq!(found(&other, "shared", &[1.0, 0.0], 1, None).await, []);
        one.put("shared", "east", &[1.0, 0.0]).await.unwrap();
        assert!(other.has("shared", "east").await.unwrap());

        // With TLS.
        let tls = |required, verify| Some(PgVectorTls { required, verify, certificate: None });
        let tls_port = speak_tls(port).await;
        assert!(index(tls_port, Metric::Cosine, tls(true, false)).has("shared", "east").await.unwrap());
        let error = index(tls_port, Metric::Cosine, tls(true, true)).has("shared", "east").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("cannot be reached") && error.contains("certificate"), "{error}");
        // This server speaks none.
        assert!(index(port, Metric::Cosine, tls(false, false)).has("shared", "east").await.unwrap());
        let error = index(port, Metric::Cosine, tls(true, false)).has("shared", "east").await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains("server does not support TLS"), "{error}");
    });
    drop(postgres);
    let error = run(index(port, Metric::Cosine, None).has("a", "b")).unwrap_err().to_string();
    assert!(error.starts_with(&format!("Postgres at 127.0.0.1:{port} cannot be reached: ")), "{error}");
}

async fn drop_table(port: u16) {
    let url = format!("host=127.0.0.1 port={port} user=postgres dbname=postgres");
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("DROP TABLE tollgate_vectors_2").await.unwrap();
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let settings = PgVectorSettings { timeout: Duration::from_millis(50), ..settings(port, None) };
    let index = PgVector::new(settings, Shape { dimensions: 2, metric: Metric::Cosine }).unwrap();
    let error = run(index.has("a", "b")).unwrap_err().to_string();
    assert_eq!(error, format!("Postgres at 127.0.0.1:{port} did not answer within 50 ms"));
}
