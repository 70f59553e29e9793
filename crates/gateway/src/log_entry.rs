//! The log entry of a request: what every log plugin writes (Kong 3.11's serializer, names and types).
//!
//! Secrets are not in it: fields and arguments that hold one ([`crate::secrets`]) show `REDACTED`.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use tollgate_http::Headers;
use tollgate_model::{Map, Value, json};

use crate::consumers::Consumer;
use crate::exchange::{Exchange, Source, Try};
use crate::secrets::{REDACTED, SecretNames};
use crate::{forwarded, query};

/// Where the time of a request went, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latencies {
    /// In the gateway, before the request went on or was answered.
    pub kong: u64,
    /// Waiting for the upstream's head; `None` where the request did not go on, or nothing came.
    pub proxy: Option<u64>,
    /// From the request's head to the last byte of the answer.
    pub request: u64,
    /// Receiving the upstream's body.
    pub receive: u64,
}

impl Latencies {
    /// The latencies of an exchange that has ended.
    pub fn of(exchange: &Exchange) -> Self {
        let facts = &exchange.facts;
        let end = facts.ended.unwrap_or_else(Instant::now);
        let since = |from: Instant, to: Instant| to.saturating_duration_since(from).as_millis() as u64;
        let left = facts.proxied.or(facts.responded);
        Self {
            kong: left.map_or(0, |left| since(exchange.started, left)),
            proxy: facts
                .proxied
                .zip(facts.answered.or(facts.responded))
                .map(|(proxied, answered)| since(proxied, answered)),
            request: since(exchange.started, end),
            receive: facts.proxied.and(facts.responded).map_or(0, |responded| since(responded, end)),
        }
    }
}

/// The entry of an exchange that has ended.
pub(crate) fn build(exchange: &Exchange) -> Map<String, Value> {
    let facts = &exchange.facts;
    let secrets = &exchange.snapshot.secret_names;
    let latencies = Latencies::of(exchange);
    // When the head was complete, since 1970.
    let started_at = crate::clock::now().saturating_sub(exchange.started.elapsed());
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| {
        entry.insert(name.to_owned(), value);
    };
    put("request", request(exchange));
    put("upstream_uri", text(&secrets.redact(exchange.upstream_uri())));
    put("upstream_status", upstream_statuses(exchange).into());
    put(
        "response",
        json!({
            "status": facts.status,
            "headers": headers(&facts.response_headers, secrets),
            "size": facts.response_size,
        }),
    );
    put(
        "latencies",
        json!({
            "kong": latencies.kong,
            "proxy": latencies.proxy.map_or(json!(-1), Value::from),
            "request": latencies.request,
            "receive": latencies.receive,
        }),
    );
    if !facts.tries.is_empty() {
        put("tries", facts.tries.iter().map(|attempt| tried(attempt, exchange, started_at)).collect());
    }
    if let Some(credential) = &exchange.credential {
        put(
            "authenticated_entity",
            json!({"id": credential.id.to_string(), "consumer_id": credential.consumer.id.to_string()}),
        );
    }
    if let Some(route) = &exchange.route {
        put("route", entity(&route.entity, route.workspace));
        if let Some(service) = &route.service {
            put("service", entity(&service.entity, route.workspace));
        }
    }
    if let Some(consumer) = &exchange.consumer {
        put("consumer", entity(&as_map(self::consumer(consumer)), consumer.workspace));
    }
    put("client_ip", exchange.client_ip.to_string().into());
    put("started_at", (started_at.as_millis() as u64).into());
    put(
        "source",
        match facts.source {
            Source::Upstream => "upstream",
            Source::Exit => "exit",
            Source::Error => "error",
        }
        .into(),
    );
    let workspace = exchange.workspace();
    put("workspace", workspace.to_string().into());
    if let Some(name) = exchange.snapshot.workspaces.get(&workspace) {
        put("workspace_name", name.as_ref().into());
    }
    if let Some(id) = &facts.correlation_id {
        put("correlation_id", id.as_ref().into());
    }
    if let Some(ai) = &facts.ai {
        let mut ai = ai.clone();
        redact_payloads(&mut ai, secrets);
        put("ai", ai);
    }
    entry.extend(facts.custom.clone());
    entry
}

/// A consumer, as logs and Lua show it; what is not set is null.
pub fn consumer(consumer: &Consumer) -> Value {
    json!({
        "id": consumer.id.to_string(),
        "username": consumer.username,
        "custom_id": consumer.custom_id,
        "tags": consumer.tags,
        "created_at": consumer.created_at,
        "updated_at": consumer.updated_at,
    })
}

fn as_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Takes secrets out of the bodies that an `ai` section may hold (`payload`): keys that clients send in them,
/// and the provider's.
fn redact_payloads(section: &mut Value, secrets: &SecretNames) {
    let Value::Object(members) = section else { return };
    for (name, member) in members {
        match name.as_str() {
            "payload" => {
                redact_members(member, secrets);
            }
            _ => redact_payloads(member, secrets),
        }
    }
}

/// Redacts members of objects, also in text that is JSON. Text that holds none stays as it is, to the byte.
fn redact_members(value: &mut Value, secrets: &SecretNames) -> bool {
    match value {
        Value::Object(members) => {
            let mut any = false;
            for (name, member) in members {
                if secrets.contains(name) && !member.is_null() {
                    *member = REDACTED.into();
                    any = true;
                } else {
                    any |= redact_members(member, secrets);
                }
            }
            any
        }
        Value::Array(items) => items.iter_mut().fold(false, |any, item| redact_members(item, secrets) | any),
        Value::String(text) if text.starts_with(['{', '[']) => {
            let Ok(mut inner) = serde_json::from_str::<Value>(text) else { return false };
            let any = redact_members(&mut inner, secrets);
            if any {
                *text = inner.to_string();
            }
            any
        }
        _ => false,
    }
}

fn request(exchange: &Exchange) -> Value {
    let (head, secrets) = (&exchange.head, &exchange.snapshot.secret_names);
    let uri = secrets.redact(&exchange.received_target);
    let uri = String::from_utf8_lossy(&uri);
    let sent = exchange.facts.request_headers.as_ref().unwrap_or(&head.headers);
    let host = String::from_utf8_lossy(forwarded::bare_host(sent)).to_ascii_lowercase();
    let scheme = if exchange.connection.tls.is_some() { "https" } else { "http" };
    let mut request = json!({
        "id": exchange.request_id.as_str(),
        "uri": uri,
        "url": format!("{scheme}://{host}:{}{uri}", exchange.client_port()),
        "method": head.method.as_str(),
        "querystring": arguments(exchange.query.as_deref().unwrap_or_default(), secrets),
        "headers": headers(sent, secrets),
        "size": exchange.request_size(),
    });
    if let Some(tls) = &exchange.connection.tls {
        request["tls"] = json!({
            "version": tls.version,
            "cipher": openssl_name(tls.cipher),
            "client_verify": if tls.client_certificates.is_empty() { "NONE" } else { "SUCCESS" },
        });
    }
    request
}

/// Values by name; several of one name become a list, as Lua tables have it.
fn collect<'a>(pairs: impl Iterator<Item = (Cow<'a, str>, Value)>) -> Value {
    let mut collected = Map::new();
    for (name, value) in pairs {
        match collected.get_mut(&*name) {
            None => {
                collected.insert(name.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = json!([first.take(), value]),
        }
    }
    Value::Object(collected)
}

fn headers(headers: &Headers, secrets: &SecretNames) -> Value {
    collect(headers.iter().map(|(name, value)| {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let value = match name.as_str() {
            // Addresses carry queries, and queries keys.
            "location" | "referer" => text(&secrets.redact(value)),
            name if secrets.contains(name) => REDACTED.into(),
            _ => text(value),
        };
        (Cow::Owned(name), value)
    }))
}

fn arguments(query: &[u8], secrets: &SecretNames) -> Value {
    collect(query::parse(query).filter(|(name, _)| !name.is_empty()).map(|(name, value)| {
        let value = match value {
            None => Value::Bool(true),
            Some(_) if secrets.contains(&name) => REDACTED.into(),
            Some(value) => value.into_owned().into(),
        };
        (name, value)
    }))
}

/// The statuses of all tries, as nginx's `$upstream_status`: `502, 200`; `-` where none came.
fn upstream_statuses(exchange: &Exchange) -> String {
    let answered = exchange.facts.upstream_status;
    let statuses = exchange.facts.tries.iter().map(|attempt| attempt.failure.or(answered));
    statuses
        .map(|status| status.map_or_else(|| "-".to_owned(), |status| status.to_string()))
        .collect::<Vec<_>>()
        .join(", ")
}

fn tried(attempt: &Try, exchange: &Exchange, started_at: Duration) -> Value {
    let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let started = started_at + attempt.started.saturating_duration_since(exchange.started);
    let choosing = attempt.chosen.saturating_duration_since(attempt.started);
    let mut tried = json!({
        "balancer_start": started.as_millis() as u64,
        "balancer_start_ns": nanoseconds(started),
        "balancer_latency": choosing.as_millis() as u64,
        "balancer_latency_ns": nanoseconds(choosing),
        "ip": attempt.ip.to_string(),
        "port": attempt.port,
        "keepalive": exchange.settings.keeps_connections,
    });
    if let Some(status) = attempt.failure {
        tried["state"] = "failed".into();
        tried["code"] = status.into();
    }
    tried
}

/// An entity as Lua has it: without what is not set, and with its workspace.
fn entity(fields: &Map<String, Value>, workspace: uuid::Uuid) -> Value {
    let mut shown: Map<String, Value> = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    shown.insert("ws_id".into(), workspace.to_string().into());
    Value::Object(shown)
}

/// A cipher suite by OpenSSL's name, which nginx shows: `TLS_AES_256_GCM_SHA384`,
/// `ECDHE-RSA-AES256-GCM-SHA384`.
fn openssl_name(suite: &str) -> String {
    if let Some(name) = suite.strip_prefix("TLS13_") {
        return format!("TLS_{name}");
    }
    let name = suite.trim_start_matches("TLS_").replace("_WITH_", "_").replace("AES_", "AES");
    let name =
        name.strip_suffix("_POLY1305_SHA256").map_or(name.clone(), |start| format!("{start}_POLY1305"));
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_become_lists() {
        let mut fields = Headers::new();
        for (name, value) in [
            ("A", "1"),
            ("a", "2"),
            ("A", "3"),
            ("Authorization", "Basic x"),
            ("Api_Key", "s"),
            ("Location", "/a?apikey=s"),
        ] {
            fields.append(name, value);
        }
        let secrets = SecretNames::default();
        assert_eq!(
            headers(&fields, &secrets),
            json!({"a": ["1", "2", "3"], "authorization": "REDACTED", "api_key": "REDACTED", "location": "/a?apikey=REDACTED"})
        );
        assert_eq!(
            arguments(b"a=1&b&a=%32&=x&apikey=s&b", &secrets),
            json!({"a": ["1", "2"], "b": [true, true], "apikey": "REDACTED"})
        );
        assert_eq!(arguments(b"", &secrets), json!({}));
    }

    #[test]
    fn payloads_lose_their_secrets_only() {
        let kept = r#"{"a" : 1}"#;
        let mut ai = json!({"proxy": {
            "usage": {"token": 1},
            "payload": {"request": r#"{"model":"m","token":"s","messages":[{"api_key":"s"}]}"#, "response": kept, "other": "{"}
        }});
        redact_payloads(&mut ai, &SecretNames::new(["token".to_owned()].into_iter()));
        assert_eq!(
            ai,
            json!({"proxy": {
                "usage": {"token": 1},
                "payload": {
                    "request": r#"{"model":"m","token":"REDACTED","messages":[{"api_key":"REDACTED"}]}"#,
                    "response": kept, "other": "{"
                }
            }})
        );
    }

    #[test]
    fn cipher_suites_have_openssl_s_names() {
        for (suite, name) in [
            ("TLS13_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
            ("TLS13_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
            ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
            ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
        ] {
            assert_eq!(openssl_name(suite), name);
        }
    }
}
