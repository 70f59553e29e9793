//! Checking whole entities: the schema, what the server fills in, and what depends on other fields.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::{Mode, run_check};
use crate::entity::Target;
use crate::plugin::{PluginSchema, PluginSchemas};
use crate::schema::Constraint;
use crate::{FieldErrors, Kind};

/// What the server fills in: the clock and new ids.
pub trait Source {
    /// Seconds since 1970, with fractions.
    fn now(&self) -> f64;

    /// A new id.
    fn id(&self) -> Uuid {
        Uuid::new_v4()
    }
}

/// Checks a new or replacing entity and fills it: defaults, id, time stamps, generated keys.
///
/// `before` is the entity it replaces, whose id and `created_at` stay.
///
/// # Errors
/// Everything that is wrong, with Kong's texts.
pub fn check_entity(
    kind: Kind,
    mut input: Map<String, Value>,
    before: Option<&Map<String, Value>>,
    plugins: &dyn PluginSchemas,
    source: &dyn Source,
) -> Result<Map<String, Value>, FieldErrors> {
    expand_shorthands(kind, &mut input);
    let mut errors = FieldErrors::new();
    let plugin = match kind {
        Kind::Plugin => check_plugin(&mut input, plugins, &mut errors),
        _ => None,
    };
    adjust(kind, &mut input, before);
    let mut filled = match kind.schema().check(input, Mode::Insert) {
        Ok(filled) => filled,
        Err(more) => {
            errors.merge(more);
            return Err(errors);
        }
    };
    errors.into_result()?;
    if let Some(plugin) = plugin
        && filled.get("protocols").is_none_or(Value::is_null)
    {
        filled.insert("protocols".into(), Value::from(plugin.protocols.to_vec()));
    }
    fill_auto(kind, &mut filled, before, source);
    Ok(filled)
}

/// Applies the given fields to an entity and checks the whole (PATCH). Records are merged, lists replaced.
///
/// # Errors
/// Everything that is wrong, with Kong's texts.
pub fn merge_entity(
    kind: Kind,
    mut changes: Map<String, Value>,
    before: &Map<String, Value>,
    plugins: &dyn PluginSchemas,
    source: &dyn Source,
) -> Result<Map<String, Value>, FieldErrors> {
    expand_shorthands(kind, &mut changes);
    let renamed =
        kind == Kind::Plugin && changes.get("name").is_some_and(|name| Some(name) != before.get("name"));
    let mut merged = before.clone();
    if renamed {
        merged.remove("config");
    }
    merged.remove("updated_at");
    if kind == Kind::Upstream {
        follow_hash_on(&mut changes);
    }
    if kind == Kind::Plugin
        && let Some(plugin) = merged.get("name").and_then(Value::as_str).and_then(|name| plugins.get(name))
        && let Some(Value::Object(config)) = changes.get_mut("config")
    {
        let wrong = plugin.config.move_shorthands(config);
        if !wrong.is_empty() {
            let mut errors = FieldErrors::new();
            errors.nest("config", wrong.into_value());
            return Err(errors);
        }
    }
    deep_merge(&mut merged, changes);
    check_entity(kind, merged, Some(before), plugins, source)
}

fn deep_merge(into: &mut Map<String, Value>, changes: Map<String, Value>) {
    for (name, change) in changes {
        match (into.get_mut(&name), change) {
            (Some(Value::Object(there)), Value::Object(more))
                if !more.is_empty() && !there.contains_key("id") =>
            {
                deep_merge(there, more)
            }
            (_, change) => {
                into.insert(name, change);
            }
        }
    }
}

/// Setting `hash_on` chooses the algorithm that goes with it (Kong 3.11).
fn follow_hash_on(changes: &mut Map<String, Value>) {
    if changes.contains_key("algorithm") {
        return;
    }
    if let Some(hash_on) = changes.get("hash_on").and_then(Value::as_str) {
        let algorithm = if hash_on == "none" { "round-robin" } else { "consistent-hashing" };
        changes.insert("algorithm".into(), algorithm.into());
    }
}

/// Checks the parts of a plugin that its own schema decides.
fn check_plugin<'a>(
    input: &mut Map<String, Value>,
    plugins: &'a dyn PluginSchemas,
    errors: &mut FieldErrors,
) -> Option<&'a PluginSchema> {
    let name = input.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(plugin) = plugins.get(&name) else {
        if !name.is_empty() {
            errors.add(
                "name",
                format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property"),
            );
        }
        input.entry("config").or_insert_with(|| Value::Object(Map::new()));
        return None;
    };
    for (field, allowed) in
        [("consumer", plugin.consumer), ("service", plugin.service), ("route", plugin.route)]
    {
        if !allowed && input.get(field).is_some_and(|value| !value.is_null()) {
            errors.add(field, "value must be null");
        }
    }
    check_config(plugin, input, errors);
    let allowed =
        Constraint::OneOf(plugin.allowed_protocols.iter().map(|protocol| Value::from(*protocol)).collect());
    let given = input.get("protocols").and_then(Value::as_array).cloned().unwrap_or_default();
    let wrong: Vec<Value> =
        given.iter().map(|protocol| allowed.check(protocol).err().map_or(Value::Null, Value::from)).collect();
    if wrong.iter().any(|error| !error.is_null()) {
        errors.nest("protocols", Value::Array(wrong));
    }
    Some(plugin)
}

/// Checks and fills `config`, and what the plugin demands of its entity.
fn check_config(plugin: &PluginSchema, input: &mut Map<String, Value>, errors: &mut FieldErrors) {
    let config = match input.remove("config") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(config)) => config,
        // An empty Lua table is a list to JSON.
        Some(Value::Array(list)) if list.is_empty() => Map::new(),
        Some(_) => {
            errors.add("config", "expected a record");
            input.insert("config".into(), Value::Object(Map::new()));
            return;
        }
    };
    let (config, wrong) = plugin.config.check_partly(config, Mode::Insert);
    let config = Value::Object(config);
    if !wrong.is_empty() {
        errors.nest("config", wrong.into_value());
    } else if let Some(Err(message)) = plugin.config_check.map(|check| check(&config)) {
        errors.add("config", message);
    }
    input.insert("config".into(), config);
    for check in &plugin.checks {
        run_check(check, input, errors);
    }
}

/// A service's `url` is its protocol, host, port and path in one (Kong 3.11).
fn expand_shorthands(kind: Kind, input: &mut Map<String, Value>) {
    if kind != Kind::Service {
        return;
    }
    let Some(Value::String(url)) = input.remove("url") else { return };
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_owned()), rest),
        None => (None, url.as_str()),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.parse::<u32>().ok())
        }
        _ => (authority, None),
    };
    if scheme.is_none() {
        // Without a scheme the whole is a path, which the checks of the parts then refuse.
        input.insert("host".into(), Value::Null);
        input.insert("path".into(), url.into());
        return;
    }
    let scheme = scheme.unwrap_or_default();
    let port = port.unwrap_or(if scheme == "https" { 443 } else { 80 });
    input.insert("protocol".into(), scheme.into());
    input.insert("host".into(), if host.is_empty() { Value::Null } else { host.into() });
    input.insert("port".into(), port.into());
    input.insert("path".into(), if path.is_empty() { Value::Null } else { path.into() });
}

/// What fields do to each other before the check.
fn adjust(kind: Kind, input: &mut Map<String, Value>, before: Option<&Map<String, Value>>) {
    match kind {
        Kind::Route => {
            let grpc = |protocol: &Value| protocol == "grpc" || protocol == "grpcs";
            let is_grpc =
                input.get("protocols").and_then(Value::as_array).is_some_and(|list| list.iter().any(grpc));
            if is_grpc && input.get("strip_path").is_none_or(Value::is_null) {
                input.insert("strip_path".into(), false.into());
            }
        }
        Kind::Upstream if before.is_none() => follow_hash_on(input),
        Kind::Target => {
            let split = input.get("target").and_then(Value::as_str).and_then(Target::split);
            if let Some((host, port)) = split {
                input.insert("target".into(), format!("{host}:{port}").into());
            }
        }
        _ => {}
    }
}

fn fill_auto(
    kind: Kind,
    filled: &mut Map<String, Value>,
    before: Option<&Map<String, Value>>,
    source: &dyn Source,
) {
    let now = source.now();
    let stamp = if kind == Kind::Target {
        Value::from((now * 1000.0).round() / 1000.0)
    } else {
        Value::from(now as u64)
    };
    let missing = |filled: &Map<String, Value>, name: &str| filled.get(name).is_some_and(Value::is_null);
    if missing(filled, "id") {
        let id = before
            .and_then(|before| before.get("id").cloned())
            .unwrap_or_else(|| source.id().to_string().into());
        filled.insert("id".into(), id);
    }
    if missing(filled, "created_at") {
        let created =
            before.and_then(|before| before.get("created_at").cloned()).unwrap_or_else(|| stamp.clone());
        filled.insert("created_at".into(), created);
    }
    if missing(filled, "updated_at") {
        filled.insert("updated_at".into(), stamp);
    }
    if kind == Kind::KeyAuthCredential && missing(filled, "key") {
        filled.insert("key".into(), random_key(source).into());
    }
    if kind == Kind::CaCertificate
        && let Some(digest) = filled.get("cert").and_then(Value::as_str).and_then(digest)
    {
        filled.insert("cert_digest".into(), digest.into());
    }
}

/// 32 letters and digits.
fn random_key(source: &dyn Source) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bits = (source.id().as_u128(), source.id().as_u128());
    let mut key = String::new();
    for index in 0..32 {
        // The fixed bits of a version 4 UUID stand in its middle: both ids are mixed for each letter.
        let mixed = bits.0 ^ bits.1.rotate_left(64);
        key.push(LETTERS[(mixed % LETTERS.len() as u128) as usize] as char);
        bits = if index % 2 == 0 { (bits.0 / 62, bits.1) } else { (bits.0, bits.1 / 62) };
    }
    key
}

fn digest(cert: &str) -> Option<String> {
    use sha2::{Digest, Sha256};
    let pem = x509_parser::pem::Pem::iter_from_buffer(cert.as_bytes()).find_map(Result::ok)?;
    Some(Sha256::digest(&pem.contents).iter().map(|byte| format!("{byte:02x}")).collect())
}
