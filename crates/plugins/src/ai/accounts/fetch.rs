//! Requests to token services: small, with a bound on time and size, tried twice.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tollgate_gateway::balancer::Peer;
use tollgate_gateway::query;
use tollgate_http::client::{Client, Endpoint, PoolSettings, Timeouts, TlsProfile, TlsProfileError};
use tollgate_http::{Body, Headers, Method, RequestHead, StatusCode, Version};

use super::AccountError;

/// How long one try may take, from name to last byte.
const AT_MOST: Duration = Duration::from_secs(10);
/// How long connecting may take. A machine outside the cloud has nobody at its metadata address.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause before the second try.
const PAUSE: Duration = Duration::from_millis(200);
/// Largest answer that is taken in, in bytes.
const LARGEST: usize = 1024 * 1024;
/// Longest part of a service's own words in an error.
const LONGEST_REASON: usize = 300;

/// A request of a token service.
pub struct Call {
    method: Method,
    url: String,
    headers: Vec<(Cow<'static, str>, String)>,
    body: Bytes,
}

/// An answer with a good status.
pub struct Answer {
    /// Its body.
    pub body: Bytes,
}

impl Call {
    /// A GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: Method::GET, url: url.into(), headers: Vec::new(), body: Bytes::new() }
    }

    /// A PUT without a body.
    pub fn put(url: impl Into<String>) -> Self {
        Self { method: Method::PUT, ..Self::get(url) }
    }

    /// A POST of a form.
    pub fn form(url: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let body = query::write(fields.iter().map(|(name, value)| (*name, Some(*value)))).into();
        let call = Self { method: Method::POST, body, ..Self::get(url) };
        call.with("Content-Type", "application/x-www-form-urlencoded")
    }

    /// A POST of JSON.
    pub fn json(url: impl Into<String>, value: &Value) -> Self {
        let call = Self { method: Method::POST, body: value.to_string().into(), ..Self::get(url) };
        call.with("Content-Type", "application/json")
    }

    /// With a header field.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Host and path as they will be sent, and the body, for a signature over them.
    ///
    /// # Errors
    /// An address that is none.
    pub fn to_sign(&self) -> Result<(String, String, Bytes), AccountError> {
        let address = Address::read(&self.url)?;
        Ok((address.peer.host_field(address.tls).to_owned(), address.target, self.body.clone()))
    }

    /// Sends it; a failure that may pass is tried once more.
    ///
    /// # Errors
    /// Nobody there, or an answer that is not good: where, and in the service's own words.
    pub async fn send(self) -> Result<Answer, AccountError> {
        let address = Address::read(&self.url)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match tokio::time::timeout(AT_MOST, self.attempt(&address)).await {
                Ok(outcome) => outcome,
                Err(_) => Err("no answer in time".to_owned()),
            };
            let (failure, may_pass) = match outcome {
                Ok((status, body)) if status.is_success() => return Ok(Answer { body }),
                Ok((status, body)) => {
                    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    (format!("status {}{}", status.as_u16(), reason(&body)), passes)
                }
                Err(error) => (error, true),
            };
            if !may_pass || tries == 2 {
                let path = address.target.split('?').next().unwrap_or_default();
                return Err(AccountError(format!("{}{path}: {failure}", address.server)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, address: &Address) -> Result<(StatusCode, Bytes), String> {
        let ip = address.peer.host.resolve().await.ok_or("the name has no address")?;
        let tls = match address.tls {
            false => None,
            true => {
                let name = ServerName::try_from(address.name.clone()).unwrap_or_else(|_| ip.into());
                Some((profile()?, name))
            }
        };
        let mut headers = Headers::new();
        headers.set("Host", address.peer.host_field(address.tls));
        headers.set("User-Agent", concat!("tollgate/", env!("CARGO_PKG_VERSION")));
        headers.set("Accept", "*/*");
        for (name, value) in &self.headers {
            headers.set(name, value);
        }
        let head = RequestHead {
            method: self.method.clone(),
            target: address.target.clone().into(),
            version: Version::HTTP_11,
            headers,
        };
        let endpoint = Endpoint { address: (ip, address.peer.port).into(), tls, http2: false };
        // Between two tokens lies an hour: a connection is not worth keeping.
        let client = Client::new(PoolSettings { size: 0, ..PoolSettings::default() });
        let timeouts = Timeouts { connect: CONNECT, write: AT_MOST, read: AT_MOST };
        let mut body = Body::from(self.body.clone());
        let mut answer =
            client.send(&endpoint, &head, &mut body, &timeouts).await.map_err(|error| error.to_string())?;
        let body = answer.body.buffer(LARGEST).await.map_err(|error| error.to_string())?;
        Ok((answer.status, body))
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// What is not JSON.
    pub fn json(&self) -> Result<Value, AccountError> {
        serde_json::from_slice(&self.body).map_err(|_| AccountError("the answer is not JSON".to_owned()))
    }
}

/// Where a service is.
struct Address {
    peer: Peer,
    /// The host without brackets.
    name: String,
    tls: bool,
    target: String,
    /// Scheme, host and port, for errors.
    server: String,
}

impl Address {
    fn read(url: &str) -> Result<Self, AccountError> {
        let wrong = || AccountError("an address that is not http(s)://host[:port][/path]".to_owned());
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let peer = Peer::new(host, port, None);
        let scheme = if tls { "https" } else { "http" };
        Ok(Self {
            name: host.trim_matches(['[', ']']).to_owned(),
            tls,
            target: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            server: format!("{scheme}://{}", peer.host_field(tls)),
            peer,
        })
    }
}

/// Whether an address can be one.
pub fn is_address(url: &str) -> bool {
    Address::read(url).is_ok()
}

/// Token services are always checked for who they are.
fn profile() -> Result<Arc<TlsProfile>, String> {
    static CHECKING: LazyLock<Result<Arc<TlsProfile>, TlsProfileError>> =
        LazyLock::new(|| TlsProfile::new(true, &[], None).map(Arc::new));
    CHECKING.as_ref().map(Arc::clone).map_err(ToString::to_string)
}

/// What a service says about its refusal: OAuth's members, AWS's JSON or XML. Nothing else of a body is told.
fn reason(body: &[u8]) -> String {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(value) => {
            let nested = value.get("error").filter(|error| error.is_object()).unwrap_or(&value);
            let member = |name: &str| nested.get(name).and_then(Value::as_str);
            let names = ["error", "error_description", "code", "Code", "status", "message", "Message"];
            names.into_iter().filter_map(member).collect::<Vec<_>>().join(": ")
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            ["Code", "Message"]
                .into_iter()
                .filter_map(|name| element(&text, name))
                .collect::<Vec<_>>()
                .join(": ")
        }
    };
    match said.is_empty() {
        true => String::new(),
        false => format!(": {}", said.chars().take(LONGEST_REASON).collect::<String>()),
    }
}

/// Text of the first element of this name in a flat document such as AWS's answers are.
pub fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let mut plain = text.trim().to_owned();
    for (entity, character) in
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
    {
        plain = plain.replace(entity, character);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, server, target) in [
            ("http://169.254.169.254/a?b=c", "http://169.254.169.254", "/a?b=c"),
            ("https://sts.amazonaws.com", "https://sts.amazonaws.com", "/"),
            ("http://[fd00:ec2::254]:81/x", "http://[fd00:ec2::254]:81", "/x"),
        ] {
            let address = Address::read(url).unwrap();
            assert_eq!((&*address.server, &*address.target), (server, target));
        }
        for url in ["", "/a", "a.b/c", "ftp://a/"] {
            assert!(!is_address(url), "{url}");
        }
    }

    #[test]
    fn reasons() {
        for (body, expected) in [
            (
                r#"{"error":"invalid_client","error_description":"no","access_token":"x"}"#,
                ": invalid_client: no",
            ),
            (
                r#"{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}"#,
                ": PERMISSION_DENIED: denied",
            ),
            (r#"{"code":"X","message":"m"}"#, ": X: m"),
            (
                "<E><Error><Code>AccessDenied</Code><Message>a &lt;b&gt; &amp;lt;</Message></Error></E>",
                ": AccessDenied: a <b> &lt;",
            ),
            ("<html>secret</html>", ""),
            ("", ""),
        ] {
            assert_eq!(reason(body.as_bytes()), expected);
        }
    }
}
