//! The functions of Kong's PDK that snippets use, over an exchange that can be read only.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use mlua::{IntoLua, Lua, MultiValue, Value as Lua51};
use tollgate_gateway::exchange::Source;
use tollgate_gateway::secrets::REDACTED;
use tollgate_gateway::{Exchange, forwarded, log_entry, query};
use tollgate_http::{Body, Headers, Version};
use tollgate_model::{Map, Value, json};
use tollgate_telemetry::Level;

use crate::state::Answer;
use crate::value::to_lua;

/// Whether a snippet sees what the request holds under names of secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrets {
    /// It sees `REDACTED`, as what it returns is shown.
    Redacted,
    /// It sees them; once it has, neither what it logs nor its errors are shown.
    Shown,
}

/// A call of a snippet.
pub(crate) struct Call<'a> {
    exchange: &'a Exchange,
    secrets: Secrets,
    seen: Cell<bool>,
}

type Pdk = fn(&Call<'_>, &Lua, &[Lua51]) -> Answer;

/// The functions, by Kong's names. `ngx.variable` is what `ngx.var` asks.
const FUNCTIONS: &[(&str, Pdk)] = &[
    ("kong.client.get_consumer", |call, lua, _| call.json(lua, &consumer(call.exchange))),
    ("kong.client.get_credential", |call, lua, _| call.json(lua, &credential(call.exchange))),
    ("kong.client.get_forwarded_ip", |call, lua, _| one(lua, call.exchange.client_ip.to_string())),
    ("kong.client.get_forwarded_port", |call, lua, _| one(lua, call.exchange.connection.peer.port())),
    ("kong.client.get_ip", |call, lua, _| {
        one(lua, call.exchange.connection.peer.ip().to_canonical().to_string())
    }),
    ("kong.client.get_port", |call, lua, _| one(lua, call.exchange.connection.peer.port())),
    ("kong.log.alert", |call, lua, said| call.log(lua, Level::Alert, said)),
    ("kong.log.crit", |call, lua, said| call.log(lua, Level::Crit, said)),
    ("kong.log.debug", |call, lua, said| call.log(lua, Level::Debug, said)),
    ("kong.log.emerg", |call, lua, said| call.log(lua, Level::Emerg, said)),
    ("kong.log.err", |call, lua, said| call.log(lua, Level::Error, said)),
    ("kong.log.info", |call, lua, said| call.log(lua, Level::Info, said)),
    ("kong.log.notice", |call, lua, said| call.log(lua, Level::Notice, said)),
    ("kong.log.serialize", |call, lua, _| call.json(lua, &Value::Object(call.exchange.current_log_entry()))),
    ("kong.log.warn", |call, lua, said| call.log(lua, Level::Warn, said)),
    ("kong.node.get_hostname", |call, lua, _| one(lua, &*call.exchange.settings.hostname)),
    ("kong.node.get_id", |call, lua, _| one(lua, &*call.exchange.settings.node_id)),
    ("kong.request.get_body", |call, lua, _| call.body(lua)),
    ("kong.request.get_forwarded_host", |call, lua, _| one(lua, text(&forwarded::host(call.exchange)))),
    ("kong.request.get_forwarded_port", |call, lua, _| one(lua, call.exchange.client_port())),
    ("kong.request.get_forwarded_scheme", |call, lua, _| one(lua, call.exchange.client_scheme)),
    ("kong.request.get_header", |call, lua, asked| call.header(lua, call.sent(), asked)),
    ("kong.request.get_headers", |call, lua, _| call.headers(lua, call.sent())),
    ("kong.request.get_host", |call, lua, _| one(lua, call.host())),
    ("kong.request.get_http_version", |call, lua, _| one(lua, call.version())),
    ("kong.request.get_method", |call, lua, _| one(lua, call.exchange.head.method.as_str())),
    ("kong.request.get_path", |call, lua, _| bytes(lua, &call.exchange.path)),
    ("kong.request.get_path_with_query", |call, lua, _| bytes(lua, &call.path_with_query())),
    ("kong.request.get_port", |call, lua, _| one(lua, call.exchange.connection.local.port())),
    ("kong.request.get_query", |call, lua, _| call.arguments(lua)),
    ("kong.request.get_query_arg", |call, lua, asked| call.argument(lua, asked)),
    ("kong.request.get_raw_body", |call, lua, _| call.raw_body(lua)),
    ("kong.request.get_raw_path", |call, lua, _| bytes(lua, call.received().0)),
    ("kong.request.get_raw_query", |call, lua, _| bytes(lua, &call.query())),
    ("kong.request.get_scheme", |call, lua, _| one(lua, call.scheme())),
    ("kong.request.get_uri_captures", |call, lua, _| call.json(lua, &captures(call.exchange))),
    ("kong.response.get_header", |call, lua, asked| {
        call.header(lua, &call.exchange.facts.response_headers, asked)
    }),
    ("kong.response.get_headers", |call, lua, _| call.headers(lua, &call.exchange.facts.response_headers)),
    ("kong.response.get_raw_body", |_, _, _| Ok(Ok(MultiValue::new()))),
    ("kong.response.get_source", |call, lua, _| one(lua, call.source())),
    ("kong.response.get_status", |call, lua, _| one(lua, call.status())),
    ("kong.router.get_route", |call, lua, _| call.json(lua, &route(call.exchange))),
    ("kong.router.get_service", |call, lua, _| call.json(lua, &service(call.exchange))),
    ("kong.service.response.get_status", |call, lua, _| one(lua, call.exchange.facts.upstream_status)),
    ("ngx.now", |_, lua, _| one(lua, (now() * 1000.0).floor() / 1000.0)),
    ("ngx.time", |_, lua, _| one(lua, now().floor())),
    ("ngx.variable", |call, lua, asked| call.variable(lua, asked)),
];

/// The functions' names, in the order of their numbers from 1 on.
pub(crate) fn names() -> Vec<&'static str> {
    FUNCTIONS.iter().map(|(name, _)| *name).collect()
}

fn one(lua: &Lua, value: impl IntoLua) -> Answer {
    Ok(Ok(MultiValue::from_iter([value.into_lua(lua)?])))
}

fn bytes(lua: &Lua, bytes: &[u8]) -> Answer {
    one(lua, lua.create_string(bytes)?)
}

/// `nil` and why.
fn nothing(lua: &Lua, why: &str) -> Answer {
    Ok(Ok(MultiValue::from_iter([Lua51::Nil, why.into_lua(lua)?])))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn consumer(exchange: &Exchange) -> Value {
    exchange.consumer.as_ref().map_or(Value::Null, |consumer| log_entry::consumer(consumer))
}

/// Who the credential is, never what it is.
fn credential(exchange: &Exchange) -> Value {
    exchange.credential.as_ref().map_or(Value::Null, |credential| {
        let consumer = credential.consumer.id.to_string();
        json!({"id": credential.id.to_string(), "consumer_id": consumer, "consumer": {"id": consumer}})
    })
}

fn route(exchange: &Exchange) -> Value {
    exchange.route.as_ref().map_or(Value::Null, |route| Value::Object((*route.entity).clone()))
}

fn service(exchange: &Exchange) -> Value {
    let service = exchange.route.as_ref().and_then(|route| route.service.as_ref());
    service.map_or(Value::Null, |service| Value::Object((*service.entity).clone()))
}

fn captures(exchange: &Exchange) -> Value {
    let (mut named, mut unnamed) = (Map::new(), Vec::new());
    for (name, value) in &exchange.captures {
        match name.parse::<usize>() {
            // The whole match is none of Kong's.
            Ok(0) => {}
            Ok(_) => unnamed.push(Value::from(&**value)),
            Err(_) => {
                named.insert(name.to_string(), (&**value).into());
            }
        }
    }
    json!({"named": named, "unnamed": unnamed})
}

impl<'a> Call<'a> {
    pub(crate) fn new(exchange: &'a Exchange, secrets: Secrets) -> Self {
        Self { exchange, secrets, seen: Cell::new(false) }
    }

    /// Whether the snippet has been given what may be a secret.
    pub(crate) fn has_seen_secrets(&self) -> bool {
        self.seen.get()
    }

    /// Answers the function of this number.
    pub(crate) fn answer(&self, lua: &Lua, number: usize, arguments: &[Lua51]) -> Answer {
        match number.checked_sub(1).and_then(|place| FUNCTIONS.get(place)) {
            Some((_, function)) => function(self, lua, arguments),
            None => Ok(Err("there is no such function".into())),
        }
    }

    /// What stands under a name, for the snippet.
    fn guarded<'b>(&self, name: &str, value: &'b [u8]) -> &'b [u8] {
        if !self.exchange.snapshot.secret_names.contains(name) {
            return value;
        }
        match self.secrets {
            Secrets::Redacted => REDACTED.as_bytes(),
            Secrets::Shown => {
                self.seen.set(true);
                value
            }
        }
    }

    /// An address or query with arguments, for the snippet.
    fn guarded_address(&self, address: &[u8]) -> Vec<u8> {
        let shown = self.exchange.snapshot.secret_names.redact(address);
        match self.secrets {
            Secrets::Redacted => shown.into_owned(),
            Secrets::Shown => {
                if *shown != *address {
                    self.seen.set(true);
                }
                address.to_vec()
            }
        }
    }

    fn json(&self, lua: &Lua, value: &Value) -> Answer {
        // What is null is not there in Lua.
        one(lua, to_lua(lua, value, &Lua51::Nil)?)
    }

    fn log(&self, lua: &Lua, level: Level, said: &[Lua51]) -> Answer {
        let said =
            said.first().and_then(Lua51::as_string).map(|said| said.to_string_lossy()).unwrap_or_default();
        let said = if self.seen.get() { "(not shown, as the snippet has read a secret)" } else { &said };
        self.exchange.write_error_log(level, &format_args!("[lua] {said}"));
        let _ = lua;
        Ok(Ok(MultiValue::new()))
    }

    /// The request's fields as the plugins left them.
    fn sent(&self) -> &Headers {
        self.exchange.facts.request_headers.as_ref().unwrap_or(&self.exchange.head.headers)
    }

    fn header(&self, lua: &Lua, headers: &Headers, asked: &[Lua51]) -> Answer {
        let Some(Lua51::String(name)) = asked.first() else {
            return Ok(Err("header name must be a string".into()));
        };
        let name = name.to_string_lossy();
        let value = headers.get(&name).or_else(|| headers.get(&name.replace('_', "-")));
        match value {
            Some(value) => bytes(lua, self.guarded(&name, value)),
            None => Ok(Ok(MultiValue::from_iter([Lua51::Nil]))),
        }
    }

    fn headers(&self, lua: &Lua, headers: &Headers) -> Answer {
        let pairs = headers.iter().map(|(name, value)| {
            let name = text(name).to_ascii_lowercase();
            let value = Some(self.guarded(&name, value).to_vec());
            (name, value)
        });
        self.table(lua, pairs)
    }

    /// Values by name; several of one name are a list, one without a value is `true`.
    fn table(&self, lua: &Lua, pairs: impl Iterator<Item = (String, Option<Vec<u8>>)>) -> Answer {
        let table = lua.create_table()?;
        for (name, value) in pairs {
            let value = match value {
                Some(value) => Lua51::String(lua.create_string(value)?),
                None => Lua51::Boolean(true),
            };
            match table.raw_get::<Lua51>(name.as_str())? {
                Lua51::Nil => table.raw_set(name, value)?,
                Lua51::Table(list) => list.raw_push(value)?,
                first => table.raw_set(name, lua.create_sequence_from([first, value])?)?,
            }
        }
        one(lua, table)
    }

    fn pairs(&self) -> impl Iterator<Item = (String, Option<Vec<u8>>)> + '_ {
        query::pairs(self.exchange.query.as_deref().unwrap_or_default()).map(|(name, value)| {
            let name = text(&name);
            let value = value.map(|value| self.guarded(&name, &value).to_vec());
            (name, value)
        })
    }

    fn arguments(&self, lua: &Lua) -> Answer {
        self.table(lua, self.pairs())
    }

    fn argument(&self, lua: &Lua, asked: &[Lua51]) -> Answer {
        let Some(Lua51::String(wanted)) = asked.first() else {
            return Ok(Err("query argument name must be a string".into()));
        };
        let wanted = wanted.to_string_lossy();
        match self.pairs().find(|(name, _)| *name == wanted) {
            Some((_, Some(value))) => bytes(lua, &value),
            Some((_, None)) => one(lua, true),
            None => Ok(Ok(MultiValue::from_iter([Lua51::Nil]))),
        }
    }

    /// Path and query as received.
    fn received(&self) -> (&[u8], Option<&[u8]>) {
        let target = &*self.exchange.received_target;
        match target.iter().position(|byte| *byte == b'?') {
            Some(at) => (&target[..at], target.get(at + 1..)),
            None => (target, None),
        }
    }

    fn query(&self) -> Vec<u8> {
        let query = self.exchange.query.as_deref().unwrap_or_default();
        self.guarded_address(&[b"?", query].concat()).split_off(1)
    }

    fn path_with_query(&self) -> Vec<u8> {
        let query = self.query();
        let between: &[u8] = if query.is_empty() { b"" } else { b"?" };
        [&self.exchange.path, between, &query].concat()
    }

    fn host(&self) -> String {
        text(forwarded::bare_host(self.sent())).to_ascii_lowercase()
    }

    fn version(&self) -> f64 {
        match self.exchange.head.version {
            Version::HTTP_2 => 2.0,
            Version::HTTP_10 => 1.0,
            _ => 1.1,
        }
    }

    fn scheme(&self) -> &'static str {
        if self.exchange.connection.tls.is_some() { "https" } else { "http" }
    }

    fn status(&self) -> Option<u16> {
        Some(self.exchange.facts.status).filter(|status| *status != 0)
    }

    fn source(&self) -> &'static str {
        match self.exchange.facts.source {
            Source::Upstream => "service",
            Source::Exit => "exit",
            Source::Error => "error",
        }
    }

    /// The body, where it has been read.
    fn whole_body(&self) -> Result<&[u8], &'static str> {
        match &self.exchange.body {
            Body::Empty => Ok(b""),
            Body::Full(bytes) => Ok(bytes),
            Body::Stream(_) => Err("the request body is not there: it is too large, or has been sent on"),
        }
    }

    fn raw_body(&self, lua: &Lua) -> Answer {
        match self.whole_body() {
            Ok(body) => {
                self.seen.set(self.seen.get() || self.holds_secrets(body));
                bytes(lua, body)
            }
            Err(why) => nothing(lua, why),
        }
    }

    /// Whether a body has members under names of secrets.
    fn holds_secrets(&self, body: &[u8]) -> bool {
        let names = &self.exchange.snapshot.secret_names;
        match serde_json::from_slice::<Map<String, Value>>(body) {
            Ok(members) => members.keys().any(|name| names.contains(name)),
            Err(_) => query::parse(body).any(|(name, _)| names.contains(&name)),
        }
    }

    /// The body as a table, by its type: JSON, or a form.
    fn body(&self, lua: &Lua) -> Answer {
        let body = match self.whole_body() {
            Ok(body) => body,
            Err(why) => return nothing(lua, why),
        };
        self.seen.set(self.seen.get() || self.holds_secrets(body));
        let kind = text(self.sent().get("content-type").unwrap_or_default()).to_ascii_lowercase();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let mut answer = match kind {
            "application/x-www-form-urlencoded" => {
                let pairs = query::pairs(body)
                    .map(|(name, value)| (text(&name), value.map(|value| value.into_owned())));
                self.table(lua, pairs)?
            }
            _ if kind == "application/json" || kind.ends_with("+json") => {
                match serde_json::from_slice::<Value>(body) {
                    Ok(value) => Ok(MultiValue::from_iter([to_lua(lua, &value, &Lua51::NULL)?])),
                    Err(_) => return nothing(lua, "invalid json body"),
                }
            }
            other => return nothing(lua, &format!("unsupported content type '{other}'")),
        };
        if let Ok(results) = &mut answer {
            results.push_back(Lua51::Nil);
            results.push_back(kind.into_lua(lua)?);
        }
        Ok(answer)
    }

    /// The variables of nginx that are asked for commonly; others are `nil`.
    fn variable(&self, lua: &Lua, asked: &[Lua51]) -> Answer {
        let Some(Lua51::String(name)) = asked.first() else {
            return Ok(Err("a variable's name is text".into()));
        };
        let exchange = self.exchange;
        let name = name.to_string_lossy();
        match &*name {
            "remote_addr" => one(lua, exchange.client_ip.to_string()),
            "remote_port" => one(lua, exchange.connection.peer.port().to_string()),
            "request_id" | "kong_request_id" => one(lua, exchange.request_id.as_str()),
            "request_method" => one(lua, exchange.head.method.as_str()),
            "request_uri" => bytes(lua, &self.guarded_address(&exchange.received_target)),
            "uri" => bytes(lua, &exchange.path),
            "args" | "query_string" => bytes(lua, &self.query()),
            "host" => one(lua, self.host()),
            "scheme" => one(lua, self.scheme()),
            "server_port" => one(lua, exchange.connection.local.port().to_string()),
            "status" => one(lua, self.status().map(|status| status.to_string())),
            _ => match (name.strip_prefix("http_"), name.strip_prefix("arg_")) {
                (Some(header), _) => self.header(lua, self.sent(), &[header.into_lua(lua)?]),
                (_, Some(argument)) => self.argument(lua, &[argument.into_lua(lua)?]),
                _ => Ok(Ok(MultiValue::from_iter([Lua51::Nil]))),
            },
        }
    }
}
