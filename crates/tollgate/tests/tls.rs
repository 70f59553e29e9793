//! TLS to upstreams and from clients, with certificates from entities.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use common::{Answer, Tollgate, connect, find, read_answer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// PEM of a certificate and of its key.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    fn roots(&self) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add(CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()).unwrap();
        store
    }
}

/// An upstream over TLS that answers with the server name it was asked for and whether it was shown a
/// certificate. With `clients`, only those it vouches for are served.
fn upstream(own: &Pair, clients: Option<&Authority>) -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider)
                .build()
                .unwrap(),
        ),
    };
    let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            std::thread::spawn(move || {
                serve(StreamOwned::new(ServerConnection::new(config).unwrap(), stream))
            });
        }
    });
    port
}

fn serve(mut stream: StreamOwned<ServerConnection, TcpStream>) -> std::io::Result<()> {
    let (mut received, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        while find(&received, b"\r\n\r\n").is_none() {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
        received.clear();
        let name = stream.conn.server_name().unwrap_or("none").to_owned();
        let shown = stream.conn.peer_certificates().is_some();
        let body = format!("{name} {shown}");
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        stream.flush()?;
    }
}

fn get(tollgate: &Tollgate, path: &str, host: &str) -> Answer {
    common::exchange(
        tollgate.proxy(),
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )
}

#[test]
fn upstreams_are_verified_as_their_services_say() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = upstream(&authority.sign("localhost"), None);
    let (good, bad) = ("a8e4a6f2-6d5c-4f0e-9d5b-000000000001", "a8e4a6f2-6d5c-4f0e-9d5b-000000000002");
    let mut services = Vec::new();
    let mut service = |name: &str, fields: serde_json::Value, route: serde_json::Value| {
        let mut service =
            json!({"name": name, "protocol": "https", "host": "localhost", "port": port, "retries": 0});
        service.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let mut own = json!({"name": name, "paths": [format!("/{name}")]});
        own.as_object_mut().unwrap().extend(route.as_object().unwrap().clone());
        service["routes"] = json!([own]);
        services.push(service);
    };
    service("unchecked", json!({}), json!({}));
    service("off", json!({"tls_verify": false, "ca_certificates": [bad]}), json!({}));
    service("trusted", json!({"tls_verify": true, "ca_certificates": [bad, good]}), json!({}));
    service("untrusted", json!({"tls_verify": true, "ca_certificates": [bad]}), json!({}));
    service("system", json!({"tls_verify": true}), json!({}));
    service("address", json!({"host": "127.0.0.1"}), json!({}));
    service(
        "address-checked",
        json!({"host": "127.0.0.1", "tls_verify": true, "ca_certificates": [good]}),
        json!({}),
    );
    service("kept", json!({"tls_verify": true, "ca_certificates": [good]}), json!({"preserve_host": true}));
    service("balanced", json!({"host": "up", "tls_verify": true, "ca_certificates": [good]}), json!({}));
    service("named", json!({"host": "named-up", "tls_verify": true, "ca_certificates": [good]}), json!({}));
    let address = format!("127.0.0.1:{port}");
    let config = json!({
        "_format_version": "3.0",
        "services": services,
        "ca_certificates": [{"id": good, "cert": authority.pem()}, {"id": bad, "cert": other.pem()}],
        "upstreams": [
            {"name": "up", "targets": [{"target": address}]},
            {"name": "named-up", "host_header": "localhost", "targets": [{"target": address}]},
        ],
    });
    let tollgate = Tollgate::with_file(&config.to_string(), &[]);
    for (path, host, expected) in [
        ("/unchecked", "a", Ok("localhost false")),
        ("/off", "a", Ok("localhost false")),
        ("/trusted", "a", Ok("localhost false")),
        ("/untrusted", "a", Err(502)),
        ("/system", "a", Err(502)),
        ("/address", "a", Ok("none false")),
        ("/address-checked", "a", Err(502)),
        // The name that is asked for and checked is the `Host` that is sent.
        ("/kept", "localhost:81", Ok("localhost false")),
        ("/kept", "other.test", Err(502)),
        ("/balanced", "a", Err(502)),
        ("/named", "a", Ok("localhost false")),
    ] {
        let answer = get(&tollgate, path, host);
        match expected {
            Ok(body) => assert_eq!((answer.status, answer.text().as_str()), (200, body), "{path} {host}"),
            Err(status) => assert_eq!(answer.status, status, "{path} {host}: {}", answer.text()),
        }
    }
}

#[test]
fn upstreams_are_shown_certificates() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let port = upstream(&authority.sign("localhost"), Some(&clients));
    let (own, wrong) = (clients.sign("client"), authority.sign("client"));
    let (right_id, wrong_id) =
        ("a8e4a6f2-6d5c-4f0e-9d5b-000000000003", "a8e4a6f2-6d5c-4f0e-9d5b-000000000004");
    let service = |name: &str, host: &str, certificate: Option<&str>| {
        let certificate = certificate.map(|id| json!({"id": id}));
        json!({"name": name, "protocol": "https", "host": host, "port": port, "retries": 0,
            "client_certificate": certificate, "routes": [{"name": name, "paths": [format!("/{name}")]}]})
    };
    let upstream = |name: &str, id: &str| json!({"name": name, "client_certificate": {"id": id}, "targets": [{"target": format!("localhost:{port}")}]});
    let config = json!({
        "_format_version": "3.0",
        "certificates": [
            {"id": right_id, "cert": own.certificate, "key": own.key},
            {"id": wrong_id, "cert": wrong.certificate, "key": wrong.key},
        ],
        "services": [
            service("none", "localhost", None),
            service("right", "localhost", Some(right_id)),
            service("wrong", "localhost", Some(wrong_id)),
            service("by-upstream", "right-up", None),
            service("service-first", "wrong-up", Some(right_id)),
        ],
        "upstreams": [upstream("right-up", right_id), upstream("wrong-up", wrong_id)],
    });
    let tollgate = Tollgate::with_file(&config.to_string(), &[]);
    for (path, status) in
        [("/none", 502), ("/right", 200), ("/wrong", 502), ("/by-upstream", 200), ("/service-first", 200)]
    {
        assert_eq!(get(&tollgate, path, "a").status, status, "{path}");
    }
    let files = tempfile::tempdir().unwrap();
    let (chain, key) = (files.path().join("chain.pem"), files.path().join("key.pem"));
    std::fs::write(&chain, &own.certificate).unwrap();
    std::fs::write(&key, &own.key).unwrap();
    let settings = [
        ("KONG_CLIENT_SSL", "on"),
        ("KONG_CLIENT_SSL_CERT", chain.to_str().unwrap()),
        ("KONG_CLIENT_SSL_CERT_KEY", key.to_str().unwrap()),
    ];
    let tollgate = Tollgate::with_file(&config.to_string(), &settings);
    for (path, status) in [("/none", 200), ("/right", 200), ("/wrong", 502)] {
        assert_eq!(get(&tollgate, path, "a").status, status, "{path} with a certificate of the node's");
    }
}

/// Asks over TLS for `name`; the answer to a request, where the certificate is one that `authority` signed.
fn ask(tollgate: &Tollgate, authority: &Authority, name: &str) -> std::io::Result<Answer> {
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, connect(tollgate.port("proxy_tls")));
    write!(stream, "GET /x HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
    Ok(read_answer(&mut stream, false))
}

#[test]
fn certificates_are_served_from_the_moment_they_are_there() {
    let authority = Authority::new();
    let tollgate = Tollgate::with_store(&[]);
    assert!(ask(&tollgate, &authority, "api.example.test").is_err());
    let add = |name: &str, served: &str| {
        let pair = authority.sign(served);
        let body = json!({"cert": pair.certificate, "key": pair.key, "snis": [name]});
        let (status, added) = tollgate.admin_call("POST", "/certificates", Some(&body));
        assert_eq!(status, 201, "{added}");
        added["id"].as_str().unwrap().to_owned()
    };
    let id = add("api.example.test", "api.example.test");
    let answer = ask(&tollgate, &authority, "api.example.test").unwrap();
    assert_eq!(answer.status, 404);
    assert!(ask(&tollgate, &authority, "other.example.test").is_err());
    add("*.example.test", "other.example.test");
    assert_eq!(ask(&tollgate, &authority, "other.example.test").unwrap().status, 404);
    assert_eq!(tollgate.admin_call("DELETE", &format!("/certificates/{id}"), None).0, 204);
    // The wildcard is what is left, and its certificate has another name.
    assert!(ask(&tollgate, &authority, "api.example.test").is_err());
}

#[test]
fn server_names_choose_routes_and_https_is_what_it_demands() {
    let authority = Authority::new();
    let (one, two) = (authority.sign("one.test"), authority.sign("two.test"));
    let config = json!({
        "_format_version": "3.0",
        "certificates": [
            {"cert": one.certificate, "key": one.key, "snis": [{"name": "one.test"}]},
            {"cert": two.certificate, "key": two.key, "snis": [{"name": "two.test"}]},
        ],
        "routes": [{"name": "one", "paths": ["/x"], "snis": ["one.test"], "protocols": ["https"]}],
    });
    let tollgate = Tollgate::with_file(&config.to_string(), &[]);
    assert_eq!(ask(&tollgate, &authority, "one.test").unwrap().status, 503, "the route has no service");
    assert_eq!(ask(&tollgate, &authority, "two.test").unwrap().status, 404);
    assert_eq!(get(&tollgate, "/x", "two.test").status, 426);
    let plain = b"GET /x HTTP/1.1\r\nHost: one.test\r\n\r\n";
    assert_eq!(common::exchange(tollgate.port("proxy_tls"), plain).status, 400);
}
