//! Checking whole entities: the schema, what the server fills in, and what depends on other fields.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::check::Mode;
use crate::entity::{ConsumerGroupConsumer, Plugin, Target, consumer, route};
use crate::entity_check::run_check;
use crate::fill::Shorthands;
use crate::plugin::{PluginSchema, PluginSchemas};
use crate::schema::{Constraint, Record, Shape};
use crate::{Config, FieldErrors, Kind};

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
    input: Map<String, Value>,
    before: Option<&Map<String, Value>>,
    plugins: &dyn PluginSchemas,
    source: &dyn Source,
) -> Result<Map<String, Value>, FieldErrors> {
    let mut filled = check_fields(kind, input, plugins, Mode::Insert)?;
    fill_auto(kind, &mut filled, before, source);
    Ok(filled)
}

/// Applies the given fields to an entity and checks the whole (PATCH). Records are merged, lists and maps
/// replaced.
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
    let mut merged = before.clone();
    if kind == Kind::Plugin {
        merge_plugin_config(&mut merged, &mut changes, plugins)?;
    }
    kind.schema().merge(&mut merged, changes)?;
    let mut filled = check_fields(kind, merged, plugins, Mode::Update)?;
    fill_auto(kind, &mut filled, Some(before), source);
    Ok(filled)
}

/// A plugin's `config` is merged by the schema of the plugin; one that becomes another plugin starts afresh.
fn merge_plugin_config(
    merged: &mut Map<String, Value>,
    changes: &mut Map<String, Value>,
    plugins: &dyn PluginSchemas,
) -> Result<(), FieldErrors> {
    if changes.get("name").is_some_and(|name| Some(name) != merged.get("name")) {
        merged.remove("config");
        return Ok(());
    }
    let name = merged.get("name").and_then(Value::as_str).unwrap_or_default();
    let Some(plugin) = plugins.get(name) else { return Ok(()) };
    let Some(Value::Object(config)) = merged.get_mut("config") else { return Ok(()) };
    plugin.config.hide_shorthands(config);
    if let Some(Value::Object(_)) = changes.get("config")
        && let Some(Value::Object(more)) = changes.remove("config")
    {
        plugin.config.merge(config, more)?;
    }
    Ok(())
}

fn check_fields(
    kind: Kind,
    mut input: Map<String, Value>,
    plugins: &dyn PluginSchemas,
    mode: Mode,
) -> Result<Map<String, Value>, FieldErrors> {
    // What the server sets is not checked (Kong 3.11).
    input.remove("updated_at");
    match kind {
        Kind::Plugin => check_plugin(input, plugins, mode),
        Kind::Route => route::schema_for(&input)?.check(input, mode),
        Kind::Target => kind.schema().check(input, mode).map(with_port),
        _ => kind.schema().check(input, mode),
    }
}

/// A target is stored with its port.
fn with_port(mut filled: Map<String, Value>) -> Map<String, Value> {
    let split = filled.get("target").and_then(Value::as_str).and_then(Target::split);
    if let Some((host, port)) = split {
        filled.insert("target".into(), format!("{host}:{port}").into());
    }
    filled
}

/// Checks a plugin, whose schema depends on its name.
fn check_plugin(
    mut input: Map<String, Value>,
    plugins: &dyn PluginSchemas,
    mode: Mode,
) -> Result<Map<String, Value>, FieldErrors> {
    let plugin = match input.get("name") {
        None | Some(Value::Null) => return Err(FieldErrors::of("name", "required field missing")),
        Some(Value::String(name)) => plugins.get(name).ok_or_else(|| {
            let message =
                format!("plugin '{name}' not enabled; add it to the 'plugins' configuration property");
            FieldErrors::of("name", message)
        })?,
        Some(_) => return Err(FieldErrors::of("name", "expected a string")),
    };
    let config = match input.remove("config") {
        None => Value::Object(plugin.config.fill(Map::new(), Shorthands::of(mode))?),
        Some(Value::Object(config)) => Value::Object(plugin.config.fill(config, Shorthands::of(mode))?),
        // An empty Lua table is a list as well as an object.
        Some(Value::Array(list)) if list.is_empty() => {
            Value::Object(plugin.config.fill(Map::new(), Shorthands::of(mode))?)
        }
        Some(other) => other,
    };
    if !input.contains_key("protocols") {
        input.insert("protocols".into(), Value::from(plugin.protocols.to_vec()));
    }
    let base = Plugin::schema();
    let mut filled = base.fill(input, Shorthands::Done)?;
    filled.insert("config".into(), config);
    let errors = plugin_errors(plugin, base, &filled, mode);
    errors.into_result()?;
    Ok(filled)
}

fn plugin_errors(
    plugin: &PluginSchema,
    base: &Record,
    filled: &Map<String, Value>,
    mode: Mode,
) -> FieldErrors {
    let mut errors = base.validate_fields(filled, mode);
    match filled.get("config") {
        Some(Value::Object(config)) => {
            let wrong = plugin.config.validate(config, mode);
            if !wrong.is_empty() {
                errors.put("config", wrong.into_value());
            } else if let (Some(check), Some(config)) = (plugin.config_check, filled.get("config"))
                && let Err(message) = check(config)
            {
                errors.put("config", message.into());
            }
        }
        Some(Value::Null) | None => errors.put("config", "required field missing".into()),
        Some(_) => errors.put("config", "expected a record".into()),
    }
    let is_set = |field: &str| filled.get(field).is_some_and(|value| !value.is_null());
    for (field, allowed) in [
        ("consumer", plugin.consumer),
        ("consumer_group", plugin.consumer_group),
        ("service", plugin.service),
        ("route", plugin.route),
    ] {
        if !allowed && is_set(field) {
            errors.put(field, "value must be null".into());
        }
    }
    if is_set("consumer") && is_set("consumer_group") {
        errors.add_entity("a plugin is bound to a consumer or to a consumer group, not to both");
    }
    if !errors.fields().contains_key("protocols")
        && let Err(error) = allowed_protocols(plugin, filled.get("protocols"))
    {
        errors.put("protocols", error);
    }
    let shapes = |path: &str| -> Option<&Shape> {
        match path.strip_prefix("config.") {
            Some(path) => plugin.config.shape_at(path),
            None => base.shape_at(path),
        }
    };
    for check in base.checks.iter().chain(&plugin.checks) {
        run_check(check, &shapes, filled, mode, &mut errors);
    }
    errors
}

fn allowed_protocols(plugin: &PluginSchema, given: Option<&Value>) -> Result<(), Value> {
    let allowed: Vec<Value> = plugin.allowed_protocols.iter().map(|name| Value::from(*name)).collect();
    let allowed = Constraint::OneOf(allowed);
    let mut wrong = Vec::new();
    for (place, protocol) in given.and_then(Value::as_array).into_iter().flatten().enumerate() {
        if let Err(message) = allowed.check(protocol) {
            wrong.resize(place, Value::Null);
            wrong.push(Value::from(message));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Value::Array(wrong)) }
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
    if let Some(id) = membership_id(kind, filled) {
        filled.insert("id".into(), id.to_string().into());
    }
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
        filled.insert("key".into(), consumer::random_key(source).into());
    }
    // A time to live of 0 is none (Kong 3.11).
    if kind == Kind::KeyAuthCredential && filled.get("ttl").and_then(Value::as_i64) == Some(0) {
        filled.insert("ttl".into(), Value::Null);
    }
    if kind == Kind::CaCertificate
        && let Some(digest) = filled.get("cert").and_then(Value::as_str).and_then(digest)
    {
        filled.insert("cert_digest".into(), digest.into());
    }
}

/// The id of a membership, which follows from what it joins; `None` for other kinds.
pub fn membership_id(kind: Kind, fields: &Map<String, Value>) -> Option<Uuid> {
    let id = |field: &str| Uuid::parse_str(fields.get(field)?.get("id")?.as_str()?).ok();
    let is_membership = kind == Kind::ConsumerGroupConsumer;
    is_membership.then(|| Some(ConsumerGroupConsumer::id_of(id("consumer")?, id("consumer_group")?)))?
}

fn digest(cert: &str) -> Option<String> {
    use sha2::{Digest, Sha256};
    let pem = x509_parser::pem::Pem::iter_from_buffer(cert.as_bytes()).find_map(Result::ok)?;
    Some(Sha256::digest(&pem.contents).iter().map(|byte| format!("{byte:02x}")).collect())
}
