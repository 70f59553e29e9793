//! HTTP calls to an Admin API.

use std::net::ToSocketAddrs;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::CliError;
use crate::settings::Settings;

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// The server answered with an error.
    #[error("HTTP status {status} (message: \"{message}\")")]
    Status {
        /// The status.
        status: u16,
        /// `message` of the answer.
        message: String,
        /// The answer.
        body: Value,
    },
    /// There was no answer, or none that is JSON.
    #[error("{method} {url}: {reason}")]
    Transport {
        /// Method of the call.
        method: Method,
        /// Its address.
        url: String,
        /// What went wrong.
        reason: String,
    },
}

impl CallError {
    /// The status of an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Transport { .. } => None,
        }
    }
}

/// Largest answer that is read, in bytes.
const LARGEST_ANSWER: u64 = 1 << 30;
/// How often a call is made again that Konnect says came too soon.
const MOST_RETRIES: u32 = 10;

/// A client of one server.
pub struct Client {
    agent: ureq::Agent,
    base: String,
    headers: Vec<(String, String)>,
    verbose: bool,
}

impl Client {
    /// A client for the server at an address, with these headers besides those of the settings.
    ///
    /// # Errors
    /// Certificates that cannot be read.
    pub fn new(settings: &Settings, address: &str, token: Option<(&str, String)>) -> Result<Self, CliError> {
        let uri: Uri = address.parse().map_err(|_| CliError::Message(format!("invalid URL: '{address}'")))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let loopback = host == "localhost" || host.starts_with("127.") || host == "[::1]";
        let mut config = ureq::Agent::config_builder()
            .timeout_global(Some(settings.timeout))
            .http_status_as_error(false)
            .user_agent(concat!("tollgate/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections_per_host(32)
            .allow_non_standard_methods(true);
        if uri.scheme_str() == Some("https") {
            config = config.tls_config(tls(settings)?);
        }
        if loopback {
            config = config.proxy(None);
        }
        let mut headers: Vec<(String, String)> = Vec::new();
        if let Some((name, token)) = token {
            headers.push((name.to_owned(), token));
        }
        for (name, value) in &settings.headers {
            if !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                headers.push((name.clone(), value.clone()));
            }
        }
        if let Some(cookies) = &settings.cookies {
            headers.push(("Cookie".into(), cookies.clone()));
        }
        let (agent, base) = match &settings.server_name {
            // TLS takes the name from the address: it is replaced there, and the connection made to the real one.
            Some(name) if uri.scheme_str() == Some("https") => {
                let port = uri.port_u16().unwrap_or(443);
                headers.push(("Host".into(), uri.authority().map(ToString::to_string).unwrap_or_default()));
                let resolver = Fixed(format!("{host}:{port}"));
                let agent = ureq::Agent::with_parts(config.build(), DefaultConnector::default(), resolver);
                (agent, format!("https://{name}:{port}{}", uri.path().trim_end_matches('/')))
            }
            _ => (config.build().into(), address.to_owned()),
        };
        Ok(Self { agent, base, headers, verbose: settings.verbose })
    }

    /// Reads.
    ///
    /// # Errors
    /// An answer that is no success, or none.
    pub fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(&Method::GET, path, None, None)
    }

    /// Makes a call; `time` is how long it may take, where that is longer than the settings say.
    ///
    /// # Errors
    /// An answer that is no success, or none.
    pub fn call(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        time: Option<Duration>,
    ) -> Result<Value, CallError> {
        let url = format!("{}{path}", self.base);
        let failed =
            |reason: String| CallError::Transport { method: method.clone(), url: url.clone(), reason };
        let text = body.map(Value::to_string);
        let mut tries = 0;
        loop {
            let mut request = Request::builder().method(method.clone()).uri(&url);
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            if self.verbose {
                eprintln!(
                    "> {method} {url}{}",
                    text.as_deref().map(|text| format!("\n> {text}")).unwrap_or_default()
                );
            }
            let mut response = match &text {
                Some(text) => {
                    let request = request.header("Content-Type", "application/json").body(text.as_str());
                    let request = request.map_err(|error| failed(error.to_string()))?;
                    let request = match time {
                        Some(time) => {
                            self.agent.configure_request(request).timeout_global(Some(time)).build()
                        }
                        None => request,
                    };
                    self.agent.run(request)
                }
                None => {
                    let request = request.body(()).map_err(|error| failed(error.to_string()))?;
                    self.agent.run(request)
                }
            }
            .map_err(|error| failed(reason(&error)))?;
            let status = response.status().as_u16();
            let wait =
                response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let answer = response
                .body_mut()
                .with_config()
                .limit(LARGEST_ANSWER)
                .read_to_string()
                .map_err(|error| failed(reason(&error)))?;
            if self.verbose {
                eprintln!("< {status}\n< {answer}");
            }
            if status == 429 && tries < MOST_RETRIES {
                tries += 1;
                std::thread::sleep(Duration::from_secs(wait.unwrap_or(10 << tries.min(2)).min(60)));
                continue;
            }
            return read(status, &answer)
                .map_err(|error| error.unwrap_or_else(|| failed("the answer is not JSON".into())));
        }
    }
}

/// The answer's value. `Err(None)` for a success that is not JSON.
fn read(status: u16, answer: &str) -> Result<Value, Option<CallError>> {
    let value = serde_json::from_str::<Value>(answer);
    if (200..400).contains(&status) {
        return match value {
            Ok(value) => Ok(value),
            Err(_) if answer.is_empty() => Ok(Value::Null),
            Err(_) => Err(None),
        };
    }
    let (message, body) = match value {
        Ok(body) => (body.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(), body),
        Err(error) => (format!("<failed to parse response body: {error}>"), Value::Null),
    };
    Err(Some(CallError::Status { status, message, body }))
}

fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused: nothing listens there; is the address right (--kong-addr), and the gateway running?".into()
        }
        ureq::Error::ConnectionFailed => "the connection failed; is the address right (--kong-addr)?".into(),
        ureq::Error::HostNotFound => "there is no host of this name".into(),
        ureq::Error::Timeout(_) => "no answer in time (--timeout)".into(),
        other => hinted(other.to_string()),
    }
}

/// A reason that a library gave, with the mend where there is a usual one.
fn hinted(reason: String) -> String {
    let hint = match reason.as_str() {
        _ if reason.contains("invalid peer certificate") => {
            "trust it with --ca-cert-file, or do without with --tls-skip-verify"
        }
        _ if reason.contains("InvalidContentType") => {
            "the server does not speak TLS there; is http:// meant (--kong-addr)?"
        }
        _ if reason.contains("failed to lookup address") => "is the address right (--kong-addr)?",
        _ => return reason,
    };
    format!("{reason}: {hint}")
}

fn tls(settings: &Settings) -> Result<TlsConfig, CliError> {
    let mut config = TlsConfig::builder().disable_verification(settings.skip_verify);
    let mut roots: Vec<Certificate<'static>> = Vec::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        roots.push(Certificate::from_der(&certificate).to_owned());
    }
    if let Some(pem) = &settings.ca {
        roots.extend(certificates(pem, "ca-cert")?);
    }
    if !roots.is_empty() {
        config = config.root_certs(RootCerts::new_with_certs(&roots));
    }
    if let Some((chain, key)) = &settings.client_certificate {
        let key = parse_pem(key.as_bytes())
            .find_map(|item| match item {
                Ok(PemItem::PrivateKey(key)) => Some(key),
                _ => None,
            })
            .ok_or_else(|| CliError::Message("tls-client-key: there is no private key in PEM form".into()))?;
        config = config
            .client_cert(Some(ClientCert::new_with_certs(&certificates(chain, "tls-client-cert")?, key)));
    }
    Ok(config.build())
}

fn certificates(pem: &str, name: &str) -> Result<Vec<Certificate<'static>>, CliError> {
    let list: Vec<Certificate<'static>> = parse_pem(pem.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if list.is_empty() {
        return Err(CliError::Message(format!("{name}: there is no certificate in PEM form")));
    }
    Ok(list)
}

/// Leads every name to one address.
#[derive(Debug)]
struct Fixed(String);

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        // There is room for 16.
        for address in self.0.to_socket_addrs()?.take(16) {
            addresses.push(address);
        }
        Ok(addresses)
    }
}
