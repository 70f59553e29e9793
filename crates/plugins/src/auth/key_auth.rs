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

use crate::body::{FieldValue, Form, Parsed};
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
    PluginSchema::new("key-auth", 1250, KeyAuthConfig::schema())
        .about("Knows a consumer by a key in a header, the query or the body; refuses who has none.")
        .without_consumer()
        .without_consumer_group()
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
    Key(Cow<'a, [u8]>),
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
        if self.needs_body(exchange) {
            return Access::wait(async move {
                let body = read_body(exchange).await;
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

/// The body's fields, where it is of a kind that has some and is not too large.
async fn read_body(exchange: &mut Exchange) -> Option<Parsed> {
    let form = Form::of(exchange.head.headers.get_str("content-type")?)?;
    let bytes = exchange.buffer_body(LARGEST_BODY).await.ok()?;
    Parsed::read(form, &bytes)
}

impl KeyAuth {
    /// Whether the body decides: a name stands neither in a header nor in the query before a key is found, or
    /// the key that is found is to be hidden in the body too.
    fn needs_body(&self, exchange: &Exchange) -> bool {
        if !self.config.key_in_body {
            return false;
        }
        for name in &self.names {
            match self.find_in_head(exchange, name) {
                Found::Key(_) => return self.config.hide_credentials,
                Found::Many => return false,
                Found::Other => {}
                Found::Nothing => return true,
            }
        }
        false
    }

    /// Finds the key and its consumer; an answer where there is none.
    fn authenticate(&self, exchange: &mut Exchange, body: Option<Parsed>) -> Option<Response> {
        let refusal = match self.identify(exchange, body) {
            Ok(credential) => {
                exchange.authenticate(Arc::clone(&credential.consumer), Some(credential));
                return None;
            }
            Err(refusal) => refusal,
        };
        let Some(anonymous) = &self.config.anonymous else {
            let mut response = exchange.error(StatusCode::UNAUTHORIZED, refusal.message());
            response.headers.set("WWW-Authenticate", &self.challenge);
            return Some(response);
        };
        match find_anonymous(exchange, anonymous) {
            Some(consumer) => {
                exchange.authenticate(consumer, None);
                None
            }
            None => {
                let message = format!("anonymous consumer {anonymous} is configured but doesn't exist");
                Some(exchange.error(StatusCode::INTERNAL_SERVER_ERROR, &message))
            }
        }
    }

    fn identify(&self, exchange: &mut Exchange, body: Option<Parsed>) -> Result<Arc<Credential>, Refusal> {
        for name in &self.names {
            let mut found = self.find_in_head(exchange, name);
            if let (Found::Nothing, Some(body)) = (&found, &body) {
                found = find_in_body(body, &name.name);
            }
            match found {
                Found::Key(key) => {
                    let credential = look_up(exchange, &key);
                    if self.config.hide_credentials {
                        hide(exchange, body, name);
                    }
                    return credential;
                }
                Found::Many => return Err(Refusal::Duplicate),
                Found::Other | Found::Nothing => {}
            }
        }
        Err(Refusal::NoKey)
    }

    fn find_in_head<'a>(&self, exchange: &'a Exchange, name: &KeyName) -> Found<'a> {
        if self.config.key_in_header {
            let spellings = std::iter::once(&name.name).chain(&name.dashed);
            let found = spellings.map(|name| find_in_headers(exchange, name));
            if let Some(found) = found.into_iter().find(|found| !matches!(found, Found::Nothing)) {
                return found;
            }
        }
        let Some(query) = exchange.query.as_deref().filter(|_| self.config.key_in_query) else {
            return Found::Nothing;
        };
        let mut values = query::pairs(query).filter(|(other, _)| **other == *name.name.as_bytes());
        match (values.next(), values.next()) {
            (None, _) => Found::Nothing,
            (Some((_, Some(value))), None) => Found::Key(value),
            (Some((_, None)), None) => Found::Other,
            (Some(_), Some(_)) => Found::Many,
        }
    }
}

fn find_in_headers<'a>(exchange: &'a Exchange, name: &str) -> Found<'a> {
    let seen = exchange.head.headers.iter().take(query::MAX_ARGUMENTS);
    let mut values = seen.filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
    match (values.next(), values.next()) {
        (None, _) => Found::Nothing,
        (Some((_, value)), None) => Found::Key(Cow::Borrowed(value)),
        (Some(_), Some(_)) => Found::Many,
    }
}

fn find_in_body<'a>(body: &'a Parsed, name: &'a str) -> Found<'a> {
    match body.values(name).as_slice() {
        [] => Found::Nothing,
        [FieldValue::Text(value)] => Found::Key(Cow::Borrowed(value)),
        [FieldValue::Json(Value::String(value))] => Found::Key(Cow::Borrowed(value.as_bytes())),
        [FieldValue::Json(Value::Array(_) | Value::Object(_))] => Found::Many,
        [_] => Found::Other,
        _ => Found::Many,
    }
}

/// Takes the key out of the request, wherever it stands under this name. The query and a body that was read
/// are written anew, as Kong does, even where they did not hold it.
fn hide(exchange: &mut Exchange, body: Option<Parsed>, name: &KeyName) {
    exchange.head.headers.remove(&name.name);
    if let Some(dashed) = &name.dashed {
        exchange.head.headers.remove(dashed);
    }
    if let Some(query) = &exchange.query {
        let kept = query::pairs(query).filter(|(other, _)| **other != *name.name.as_bytes());
        let written = query::write(kept);
        exchange.query = (!written.is_empty()).then(|| Bytes::from(written));
    }
    if let Some(mut body) = body {
        body.remove(&name.name);
        let (bytes, content_type) = body.write();
        exchange.set_body(bytes);
        if let Some(content_type) = content_type {
            exchange.head.headers.set("Content-Type", content_type);
        }
    }
}

fn look_up(exchange: &Exchange, key: &[u8]) -> Result<Arc<Credential>, Refusal> {
    if key.is_empty() {
        return Err(Refusal::NoKey);
    }
    // Keys are text: bytes that are none match no key, and are not made into one.
    let key = std::str::from_utf8(key).map_err(|_| Refusal::Unknown)?;
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
