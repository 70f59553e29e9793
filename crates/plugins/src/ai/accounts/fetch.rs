//! Requests to token services: small, with a bound on time and size, tried twice.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tollgate_gateway::query;
use tollgate_http::client::{Client, PoolSettings, Timeouts};
use tollgate_http::{Method, StatusCode};

use super::AccountError;
use crate::server::Server;

/// How long one try may take, from name to last byte.
const AT_MOST: Duration = Duration::from_secs(10);
/// How long connecting may take. A machine outside the cloud has nobody at its metadata address.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause before the second try.
const PAUSE: Duration = Duration::from_millis(200);
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

    fn server(&self) -> Result<Server, AccountError> {
        Server::of(&self.url).map_err(|error| AccountError(error.to_string()))
    }

    /// Host and path as they will be sent, and the body, for a signature over them.
    ///
    /// # Errors
    /// An address that is none.
    pub fn to_sign(&self) -> Result<(String, String, Bytes), AccountError> {
        let server = self.server()?;
        Ok((server.host_field().to_owned(), server.target, self.body.clone()))
    }

    /// Sends it; a failure that may pass is tried once more.
    ///
    /// # Errors
    /// Nobody there, or an answer that is not good: where, and in the service's own words.
    pub async fn send(self) -> Result<Answer, AccountError> {
        let server = self.server()?;
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = match tokio::time::timeout(AT_MOST, self.attempt(&server)).await {
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
                return Err(AccountError(format!("{}{}: {failure}", server.origin, server.path())));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, server: &Server) -> Result<(StatusCode, Bytes), String> {
        // Between two tokens lies an hour: a connection is not worth keeping.
        let client = Client::new(PoolSettings { size: 0, ..PoolSettings::default() });
        let timeouts = Timeouts { connect: CONNECT, write: AT_MOST, read: AT_MOST };
        let fields = self.headers.iter().map(|(name, value)| (&**name, &**value));
        server.ask(&client, &self.method, fields, self.body.clone(), &timeouts).await
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

/// Whether an address can be one.
pub fn is_address(url: &str) -> bool {
    Server::of(url).is_ok()
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
