//! `key-auth`: a consumer is known by a key in a header, the query or the body.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tollgate_gateway::consumers::{Consumer, Credential};
use tollgate_gateway::query;
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, clock};
use tollgate_http::{Method, Response, StatusCode};
use tollgate_model::entity::rules;
use tollgate_model::{Config, Kind, Map, PluginSchema};
use uuid::Uuid;

use crate::body::{Form, Parsed};
use crate::read;

/// Configuration of `key-auth` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct KeyAuthConfig {
    /// Names under which a client may send its key, as header, query argument or body field.
    #[config(default = ["apikey"], each(check = rules::header_name))]
    key_names: Vec<String>,
    /// Whether the key is taken out of the request before it goes on.
    #[config(default = false)]
    hide_credentials: bool,
    /// Consumer (id or username) that stands in where authentication fails; without it the request is refused.
    anonymous: Option<String>,
    /// Whether the key may be in a header.
    #[config(default = true)]
    key_in_header: bool,
    /// Whether the key may be in the query.
    #[config(default = true)]
    key_in_query: bool,
    /// Whether the key may be in a body: a form, JSON, or multipart.
    #[config(default = false)]
    key_in_body: bool,
    /// Whether `OPTIONS` requests need a key too.
    #[config(default = true)]
    run_on_preflight: bool,
    /// Realm named in `WWW-Authenticate`.
    #[config(optional)]
    realm: Option<String>,
}

/// Largest body that is looked into (Kong 3.11: `client_body_buffer_size`).
const LARGEST_BODY: usize = 8 * 1024;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("key-auth", 1250, KeyAuthConfig::schema()).without_consumer()
}

/// Compiles a configured `key-auth`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: KeyAuthConfig = read(config)?;
    let challenge = match &config.realm {
        Some(realm) => format!("Key realm=\"{realm}\""),
        None => "Key".to_owned(),
    };
    let names = config
        .key_names
        .iter()
        .map(|name| KeyName {
            name: name.as_str().into(),
            dashed: name.contains('_').then(|| name.replace('_', "-").into()),
        })
        .collect();
    Ok(Arc::new(KeyAuth { config, challenge, names }))
}

struct KeyAuth {
    config: KeyAuthConfig,
    /// Value of `WWW-Authenticate`.
    challenge: String,
    names: Vec<KeyName>,
}

struct KeyName {
    name: Box<str>,
    /// The same with `-` for `_`, which a header may be spelled with.
    dashed: Option<Box<str>>,
}

/// What stands under a name.
enum Found<'a> {
    Key(Cow<'a, str>),
    /// Several values: there is no telling which is meant.
    Many,
    /// Something that is no key, but keeps later places from being looked at.
    Other,
    Nothing,
}

/// Why a request is refused.
enum Refusal {
    NoKey,
    Duplicate,
    Unknown,
}

impl Refusal {
    fn message(&self) -> &'static str {
        match self {
            Self::NoKey => "No API key found in request",
            Self::Duplicate => "Duplicate API key found",
            Self::Unknown => "Unauthorized",
        }
    }
}

impl Plugin for KeyAuth {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn secret_names(&self) -> Vec<String> {
        self.config.key_names.clone()
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        if !self.config.run_on_preflight && exchange.head.method == Method::OPTIONS {
            return Access::Continue;
        }
        if self.config.anonymous.is_some() && exchange.credential.is_some() {
            return Access::Continue;
        }
        if self.config.key_in_body {
            return Access::wait(async move {
                let body = self.read_body(exchange).await;
                match self.authenticate(exchange, body) {
                    Some(response) => Outcome::Answer(response),
                    None => Outcome::Continue,
                }
            });
        }
        match self.authenticate(exchange, None) {
            Some(response) => Access::Answer(response),
            None => Access::Continue,
        }
    }
}

impl KeyAuth {
    /// The body's fields, where it is of a kind that has some and is not too large.
    async fn read_body(&self, exchange: &mut Exchange) -> Option<Parsed> {
        let content_type = exchange.head.headers.get_str("content-type")?.to_owned();
        let form = Form::of(&content_type)?;
        if exchange.body.remaining().is_some_and(|length| length > LARGEST_BODY as u64) {
            return None;
        }
        let bytes = exchange.buffer_body(LARGEST_BODY).await.ok()?;
        Parsed::read(form, &bytes)
    }

    /// Finds the key and its consumer; an answer where there is none.
    fn authenticate(&self, exchange: &mut Exchange, body: Option<Parsed>) -> Option<Response> {
        match self.identify(exchange, body) {
            Ok(credential) => {
                exchange.authenticate(Arc::clone(&credential.consumer), Some(credential));
                None
            }
            Err(refusal) => match &self.config.anonymous {
                Some(anonymous) => match find_anonymous(exchange, anonymous) {
                    Some(consumer) => {
                        exchange.authenticate(consumer, None);
                        None
                    }
                    None => {
                        let message =
                            format!("anonymous consumer {anonymous} is configured but doesn't exist");
                        Some(exchange.error(StatusCode::INTERNAL_SERVER_ERROR, &message))
                    }
                },
                None => {
                    let mut response = exchange.error(StatusCode::UNAUTHORIZED, refusal.message());
                    response.headers.set("WWW-Authenticate", &self.challenge);
                    Some(response)
                }
            },
        }
    }

    fn identify(&self, exchange: &mut Exchange, body: Option<Parsed>) -> Result<Arc<Credential>, Refusal> {
        let mut hidden = None;
        let mut found = Err(Refusal::NoKey);
        for name in &self.names {
            match self.find(exchange, body.as_ref(), name) {
                Found::Key(key) => {
                    hidden = Some(name);
                    found = look_up(exchange, &key);
                    break;
                }
                Found::Many => return Err(Refusal::Duplicate),
                Found::Other | Found::Nothing => {}
            }
        }
        if let Some(name) = hidden.filter(|_| self.config.hide_credentials) {
            self.hide(exchange, body, name);
        }
        found
    }

    fn find<'a>(&self, exchange: &'a Exchange, body: Option<&'a Parsed>, name: &'a KeyName) -> Found<'a> {
        if self.config.key_in_header {
            let mut values = exchange
                .head
                .headers
                .get_all(&name.name)
                .chain(name.dashed.iter().flat_map(|dashed| exchange.head.headers.get_all(dashed)));
            match (values.next(), values.next()) {
                (Some(value), None) => return Found::Key(String::from_utf8_lossy(value)),
                (Some(_), Some(_)) => return Found::Many,
                _ => {}
            }
        }
        if self.config.key_in_query
            && let Some(query) = &exchange.query
        {
            let mut values = query::parse(query).filter(|(other, _)| *other == *name.name);
            match (values.next(), values.next()) {
                (Some((_, Some(value))), None) => return Found::Key(Cow::Owned(value.into_owned())),
                (Some((_, None)), None) => return Found::Other,
                (Some(_), Some(_)) => return Found::Many,
                _ => {}
            }
        }
        match body.map(|body| body.values(&name.name)).unwrap_or_default().as_slice() {
            [] => Found::Nothing,
            [Value::String(value)] => Found::Key(Cow::Owned(value.clone())),
            [Value::Array(_) | Value::Object(_)] => Found::Many,
            [_] => Found::Other,
            _ => Found::Many,
        }
    }

    /// Takes the key out of the request, wherever it stands under this name.
    fn hide(&self, exchange: &mut Exchange, body: Option<Parsed>, name: &KeyName) {
        exchange.head.headers.remove(&name.name);
        if let Some(dashed) = &name.dashed {
            exchange.head.headers.remove(dashed);
        }
        if let Some(query) = &exchange.query {
            let kept: Vec<_> = query::parse(query).filter(|(other, _)| *other != *name.name).collect();
            let written = query::write(kept.iter().map(|(name, value)| (&**name, value.as_deref())));
            exchange.query = (!written.is_empty()).then(|| Bytes::from(written));
        }
        if let Some(mut body) = body.filter(|_| self.config.key_in_body)
            && body.remove(&name.name)
        {
            let (bytes, content_type) = body.write();
            exchange.set_body(bytes);
            if let Some(content_type) = content_type {
                exchange.head.headers.set("Content-Type", content_type);
            }
        }
    }
}

fn look_up(exchange: &Exchange, key: &str) -> Result<Arc<Credential>, Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    let found = exchange.snapshot.consumers.credential(Kind::KeyAuthCredential, exchange.workspace(), key);
    let valid =
        |credential: &&Arc<Credential>| credential.expires_at.is_none_or(|end| end > clock::seconds());
    found.filter(valid).cloned().ok_or(Refusal::Unknown)
}

/// The consumer with this id, else with this username.
fn find_anonymous(exchange: &Exchange, name: &str) -> Option<Arc<Consumer>> {
    let consumers = &exchange.snapshot.consumers;
    let workspace = exchange.workspace();
    let by_id = Uuid::parse_str(name)
        .ok()
        .and_then(|id| consumers.get(id))
        .filter(|found| found.workspace == workspace);
    by_id.or_else(|| consumers.by_username(workspace, name)).cloned()
}
