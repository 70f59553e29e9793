//! Creating, reading, changing and deleting entities, at the top and below those they belong to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use tollgate_http::{Method, StatusCode};
use tollgate_model::kind::ForeignKey;
use tollgate_model::{Kind, Map, PluginSchemas, Value, check_entity, json, merge_entity};
use tollgate_store::{Author, Page, StoreError, Stored, TagFilter, Transaction, View};
use uuid::Uuid;

use crate::answer::{Answer, Failure, created, method_not_allowed, not_found, nothing, ok, unresolved};
use crate::{Admin, Call, form};

/// The kind of a collection at the top.
pub(crate) fn collection(name: &str) -> Option<Kind> {
    match name {
        "key-auths" => Some(Kind::KeyAuthCredential),
        "targets" | "keyauth_credentials" => None,
        name => Kind::from_plural(name),
    }
}

/// The kind of a collection below another entity.
fn nested_collection(name: &str) -> Option<Kind> {
    match name {
        "key-auth" => Some(Kind::KeyAuthCredential),
        "targets" => Some(Kind::Target),
        "keyauth_credentials" | "key-auths" => None,
        name => Kind::from_plural(name),
    }
}

/// Whether a name is a collection, and so no workspace.
pub(crate) fn is_collection(name: &str) -> bool {
    collection(name).is_some() || name == "targets"
}

const AUTHOR: Author<'static> = Author { name: "admin-api", message: "Admin API" };

/// Answers a call about entities.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Answer {
    let segments = call.segments();
    let Some(first) = segments.first() else { return Err(not_found()) };
    let kind = match collection(first) {
        Some(kind) => kind,
        None if call.konnect && *first == "targets" => Kind::Target,
        None => return Err(not_found()),
    };
    match segments[1..] {
        [] => admin.collection(call, kind, None),
        [key] => admin.item(call, kind, key, None),
        [key, second] => {
            let parent = admin.find(call, kind, key)?;
            if let Some((child, link)) = child_of(kind, second) {
                let parent = parent.ok_or_else(not_found)?;
                return admin.collection(call, child, Some((link, parent.id)));
            }
            match kind.foreign_keys().iter().find(|link| link.field == second) {
                Some(link) => admin.linked(call, kind, parent.ok_or_else(not_found)?, link),
                None => Err(not_found()),
            }
        }
        [key, second, third] => {
            let Some((child, link)) = child_of(kind, second) else { return Err(not_found()) };
            let parent = admin.find(call, kind, key)?.ok_or_else(not_found)?;
            if child == Kind::Target && third == "all" {
                return admin.collection(call, child, Some((link, parent.id)));
            }
            admin.item(call, child, third, Some((link, parent.id)))
        }
        _ => Err(not_found()),
    }
}

/// The kind of a collection below a kind, and the field by which its members refer up.
fn child_of(kind: Kind, name: &str) -> Option<(Kind, &'static ForeignKey)> {
    let child = nested_collection(name)?;
    child.foreign_keys().iter().find(|key| key.to == kind).map(|key| (child, key))
}

type Parent = Option<(&'static ForeignKey, Uuid)>;

impl Admin {
    fn collection(&self, call: &Call, kind: Kind, parent: Parent) -> Answer {
        match call.method {
            Method::GET => self.list(call, kind, parent),
            Method::POST => {
                let mut input = self.read_body(call, kind)?;
                if let Some((link, id)) = parent {
                    input.insert(link.field.into(), json!({"id": id.to_string()}));
                }
                let stored = self.write(
                    call,
                    kind,
                    |view, source_input: Map<String, Value>| self.check(view, call, kind, source_input, None),
                    input,
                    true,
                )?;
                created(self.show(call, kind, stored)?)
            }
            _ => Err(method_not_allowed()),
        }
    }

    fn list(&self, call: &Call, kind: Kind, parent: Parent) -> Answer {
        let size = match call.query("size") {
            None => 100,
            Some(text) => match text.parse::<i64>() {
                Err(_) => {
                    return Err(Failure::coded(
                        StatusCode::BAD_REQUEST,
                        9,
                        "invalid size",
                        "size must be a number",
                        None,
                    ));
                }
                Ok(size @ 1..=1000) => size as usize,
                Ok(_) => {
                    return Err(Failure::coded(
                        StatusCode::BAD_REQUEST,
                        9,
                        "invalid size",
                        "size must be an integer between 1 and 1000",
                        None,
                    ));
                }
            },
        };
        let from = call.query("offset").map(read_offset).transpose()?;
        let tags = match call.query.iter().find(|(name, _)| name == "tags") {
            None => None,
            Some((_, None)) => return Err(Failure::option("tags", "cannot be null")),
            Some((_, Some(text))) if text.is_empty() => {
                return Err(Failure::option("tags", "cannot be null"));
            }
            Some((_, Some(text))) => {
                Some(TagFilter::parse(text).ok_or_else(|| Failure::option("tags", "invalid filter syntax"))?)
            }
        };
        if kind == Kind::Consumer && parent.is_none() && call.has_query("custom_id") {
            let Some(custom_id) = call.query("custom_id").filter(|text| !text.is_empty()) else {
                return Err(Failure::message(StatusCode::BAD_REQUEST, "custom_id must be an unempty string"));
            };
            let found =
                self.store.read(|view| view.get_unique(kind, call.workspace, "custom_id", custom_id))?;
            let data: Vec<Value> = found.into_iter().map(|stored| Value::Object(stored.fields)).collect();
            return ok(json!({"data": data, "next": null}));
        }
        let page: Page = self.store.read(|view| match parent {
            Some((link, id)) => view.list_referring(kind, link.field, id, tags.as_ref(), size, from),
            None => view.list(kind, call.workspace, tags.as_ref(), size, from),
        })?;
        let mut data = Vec::with_capacity(page.entities.len());
        for stored in page.entities {
            data.push(self.show(call, kind, stored)?);
        }
        let Some(next) = page.next else { return ok(json!({"data": data, "next": null})) };
        let offset = BASE64.encode(next.to_string());
        let mut link = format!("{}/{}?offset={offset}", call.base, call.path.join("/"));
        if parent.is_none() {
            if let Some(tags) = call.query("tags") {
                link.push_str(&format!("&tags={tags}"));
            }
            if call.has_query("size") {
                link.push_str(&format!("&size={size}"));
            }
        }
        ok(json!({"data": data, "next": link, "offset": offset}))
    }

    fn item(&self, call: &Call, kind: Kind, key: &str, parent: Parent) -> Answer {
        let found = self
            .find(call, kind, key)?
            .filter(|stored| parent.is_none_or(|(link, id)| refers(stored, link.field, id)));
        match call.method {
            Method::GET => ok(self.show(call, kind, found.ok_or_else(not_found)?)?),
            Method::DELETE => {
                if self.facts.declarative {
                    return Err(unsupported("remove", kind, key));
                }
                match found {
                    Some(stored) => {
                        self.store.commit(AUTHOR, |transaction| transaction.delete(kind, stored.id))?;
                        nothing()
                    }
                    None if parent.is_some() => Err(not_found()),
                    None => nothing(),
                }
            }
            Method::PATCH => {
                let found = found.ok_or_else(not_found)?;
                let mut input = self.read_body(call, kind)?;
                input.remove("id");
                let stored = self.write(
                    call,
                    kind,
                    |view, input| self.check(view, call, kind, input, Some(&found)),
                    input,
                    false,
                )?;
                ok(self.show(call, kind, stored)?)
            }
            Method::PUT => {
                let mut input = self.read_body(call, kind)?;
                if let Some((link, id)) = parent {
                    input.insert(link.field.into(), json!({"id": id.to_string()}));
                }
                self.name_by_path(call, kind, key, found.as_ref(), &mut input)?;
                let stored = self.write(
                    call,
                    kind,
                    |view, input| self.check(view, call, kind, input, None),
                    input,
                    false,
                )?;
                ok(self.show(call, kind, stored)?)
            }
            _ => Err(method_not_allowed()),
        }
    }

    /// The path's key wins over what the body says.
    fn name_by_path(
        &self,
        call: &Call,
        kind: Kind,
        key: &str,
        found: Option<&Stored>,
        input: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        if let Ok(id) = Uuid::parse_str(key) {
            input.insert("id".into(), id.to_string().into());
            // A credential keeps its key where the body names none.
            return Ok(());
        }
        if let Some(found) = found {
            input.insert("id".into(), found.id.to_string().into());
        }
        match kind.endpoint_key() {
            Some(name) => {
                input.insert(name.into(), key.into());
                Ok(())
            }
            None if kind == Kind::Certificate => {
                let names = json!([key]);
                input.entry("snis").or_insert(names);
                Ok(())
            }
            None => {
                let message = "invalid primary key: '{id=\"expected a valid UUID\"}'";
                let _ = call;
                Err(Failure::coded(
                    StatusCode::BAD_REQUEST,
                    1,
                    "invalid primary key",
                    message,
                    Some(json!({"id": "expected a valid UUID"})),
                ))
            }
        }
    }

    /// What an entity refers to.
    fn linked(&self, call: &Call, kind: Kind, child: Stored, link: &'static ForeignKey) -> Answer {
        let id = reference(&child.fields, link.field);
        let parent = match id {
            Some(id) => self.store.read(|view| view.get(link.to, id))?,
            None => None,
        };
        match (&call.method, parent) {
            (&Method::GET, Some(parent)) => ok(self.show(call, link.to, parent)?),
            (&Method::DELETE, Some(_)) => Err(method_not_allowed()),
            (&Method::PATCH, Some(parent)) => {
                let input = self.read_body(call, link.to)?;
                let stored = self.write(
                    call,
                    link.to,
                    |view, input| self.check(view, call, link.to, input, Some(&parent)),
                    input,
                    false,
                )?;
                ok(self.show(call, link.to, stored)?)
            }
            (&Method::PUT, parent) => {
                let mut input = self.read_body(call, link.to)?;
                if let Some(parent) = parent {
                    input.insert("id".into(), parent.id.to_string().into());
                }
                let stored = self.write(
                    call,
                    link.to,
                    |view, input| self.check(view, call, link.to, input, None),
                    input,
                    false,
                )?;
                let mut fields = child.fields;
                fields.insert(link.field.into(), json!({"id": stored.id.to_string()}));
                self.store.commit(AUTHOR, |transaction| transaction.put(kind, call.workspace, fields))?;
                ok(self.show(call, link.to, stored)?)
            }
            _ => Err(not_found()),
        }
    }

    fn read_body(&self, call: &Call, kind: Kind) -> Result<Map<String, Value>, Failure> {
        let mut input = form::read(call, Some(kind.schema()))?;
        let is_form = call
            .content_type
            .as_deref()
            .is_some_and(|kind| !kind.to_ascii_lowercase().starts_with("application/json"));
        if kind == Kind::Plugin && is_form {
            let name = input.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            if let (Some(plugin), Some(config)) = (self.plugins.get(&name), input.get_mut("config")) {
                let shape = tollgate_model::schema::Shape::new(tollgate_model::FieldType::Record(
                    plugin.config.clone(),
                ));
                form::infer(config, &shape);
            }
        }
        Ok(input)
    }

    /// Checks input against the schema, references by name resolved.
    pub(crate) fn check(
        &self,
        view: &View<'_>,
        call: &Call,
        kind: Kind,
        mut input: Map<String, Value>,
        before: Option<&Stored>,
    ) -> Result<Map<String, Value>, Failure> {
        for link in kind.foreign_keys() {
            self.resolve(view, call, link, &mut input)?;
        }
        let plugins: &dyn PluginSchemas = &*self.plugins;
        Ok(match before {
            Some(before) => merge_entity(kind, input, &before.fields, plugins, &*self.source)?,
            None => check_entity(kind, input, None, plugins, &*self.source)?,
        })
    }

    fn resolve(
        &self,
        view: &View<'_>,
        call: &Call,
        link: &ForeignKey,
        input: &mut Map<String, Value>,
    ) -> Result<(), Failure> {
        let Some(Value::Object(given)) = input.get(link.field) else { return Ok(()) };
        // decK sends names beside ids; the id is what counts.
        if let Some(id) = given.get("id").cloned() {
            input.insert(link.field.into(), json!({"id": id}));
            return Ok(());
        }
        let Some(name) = link.to.endpoint_key().and_then(|key| given.get(key)).and_then(Value::as_str) else {
            return Ok(());
        };
        match view.get_by_name(link.to, call.workspace, name)? {
            Some(found) => {
                input.insert(link.field.into(), json!({"id": found.id.to_string()}));
                Ok(())
            }
            None => Err(unresolved(link.field, given, link.to.plural())),
        }
    }

    /// Checks and writes in one transaction.
    fn write(
        &self,
        call: &Call,
        kind: Kind,
        check: impl FnOnce(&View<'_>, Map<String, Value>) -> Result<Map<String, Value>, Failure>,
        input: Map<String, Value>,
        new: bool,
    ) -> Result<Stored, Failure> {
        let mut refused = None;
        let outcome = self.store.commit(AUTHOR, |transaction| {
            let checked = match check(&transaction.view(), input) {
                Ok(checked) => checked,
                Err(failure) => {
                    refused = Some(failure);
                    return Err(StoreError::Refused(String::new()));
                }
            };
            if self.facts.declarative {
                let key = checked.get("id").and_then(Value::as_str).unwrap_or_default();
                refused = Some(unsupported(if new { "create" } else { "create or update" }, kind, key));
                return Err(StoreError::Refused(String::new()));
            }
            put(transaction, call.workspace, kind, checked, new, &*self.source)
        });
        match (outcome, refused) {
            (_, Some(failure)) => Err(failure),
            (Ok((stored, _)), None) => Ok(stored),
            (Err(error), None) => Err(error.into()),
        }
    }

    /// An entity by id or name.
    pub(crate) fn find(&self, call: &Call, kind: Kind, key: &str) -> Result<Option<Stored>, Failure> {
        let found = self.store.read(|view| {
            if let Ok(id) = Uuid::parse_str(key) {
                return Ok(view
                    .get(kind, id)?
                    .filter(|stored| !kind.workspaced() || stored.workspace == call.workspace));
            }
            match kind {
                Kind::Certificate => match view.get_by_name(Kind::Sni, call.workspace, key)? {
                    Some(sni) => {
                        reference(&sni.fields, "certificate").map_or(Ok(None), |id| view.get(kind, id))
                    }
                    None => Ok(None),
                },
                Kind::Target => {
                    let address = tollgate_model::entity::Target::split(key)
                        .map(|(host, port)| format!("{host}:{port}"));
                    let same = |stored: &Stored| {
                        stored.fields.get("target").and_then(Value::as_str) == address.as_deref()
                    };
                    Ok(view
                        .list(kind, call.workspace, None, usize::MAX, None)?
                        .entities
                        .into_iter()
                        .find(same))
                }
                _ => view.get_by_name(kind, call.workspace, key),
            }
        })?;
        Ok(found)
    }

    /// An entity as the API shows it.
    pub(crate) fn show(&self, _: &Call, kind: Kind, stored: Stored) -> Result<Value, Failure> {
        let mut fields = stored.fields;
        if kind == Kind::Certificate {
            let snis = self.store.read(|view| {
                view.list_referring(Kind::Sni, "certificate", stored.id, None, usize::MAX, None)
            })?;
            let mut names: Vec<Value> =
                snis.entities.iter().filter_map(|sni| sni.fields.get("name").cloned()).collect();
            names.sort_by_key(ToString::to_string);
            fields.insert("snis".into(), Value::Array(names));
        }
        Ok(Value::Object(fields))
    }
}

/// Writes a checked entity; a certificate with the exact list of its names.
pub(crate) fn put(
    transaction: &mut Transaction<'_>,
    workspace: Uuid,
    kind: Kind,
    mut fields: Map<String, Value>,
    new: bool,
    source: &(dyn tollgate_model::Source + Send + Sync),
) -> Result<Stored, StoreError> {
    let snis = fields.remove("snis");
    let id =
        fields.get("id").and_then(Value::as_str).and_then(|id| Uuid::parse_str(id).ok()).unwrap_or_default();
    if new {
        transaction.insert(kind, workspace, fields.clone())?;
    } else {
        transaction.put(kind, workspace, fields.clone())?;
    }
    if let Some(snis) = snis {
        put_snis(transaction, workspace, id, &snis, source)?;
    }
    Ok(Stored { workspace, id, fields })
}

fn put_snis(
    transaction: &mut Transaction<'_>,
    workspace: Uuid,
    certificate: Uuid,
    snis: &Value,
    source: &(dyn tollgate_model::Source + Send + Sync),
) -> Result<(), StoreError> {
    let names: Vec<&str> = snis.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (place, name) in names.iter().enumerate() {
        if names[..place].contains(name) {
            return Err(tollgate_model::FieldErrors::of("snis", format!("{name} is duplicated")).into());
        }
    }
    let there =
        transaction.view().list_referring(Kind::Sni, "certificate", certificate, None, usize::MAX, None)?;
    let mut kept = Vec::new();
    for sni in there.entities {
        let name = sni.fields.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if names.contains(&name.as_str()) {
            kept.push(name);
        } else {
            transaction.delete(Kind::Sni, sni.id)?;
        }
    }
    for name in names.into_iter().filter(|name| !kept.iter().any(|kept| kept == name)) {
        if let Some(other) = transaction.view().get_by_name(Kind::Sni, workspace, name)? {
            let owner = reference(&other.fields, "certificate").unwrap_or_default();
            let message = format!("{name} already associated with existing certificate '{owner}'");
            return Err(tollgate_model::FieldErrors::of("snis", message).into());
        }
        let now = source.now() as u64;
        let sni = json!({
            "id": source.id().to_string(), "name": name, "created_at": now, "updated_at": now, "tags": null,
            "certificate": {"id": certificate.to_string()}
        });
        if let Value::Object(fields) = sni {
            transaction.insert(Kind::Sni, workspace, fields)?;
        }
    }
    Ok(())
}

fn refers(stored: &Stored, field: &str, to: Uuid) -> bool {
    reference(&stored.fields, field) == Some(to)
}

fn reference(fields: &Map<String, Value>, field: &str) -> Option<Uuid> {
    fields.get(field)?.get("id")?.as_str().and_then(|id| Uuid::parse_str(id).ok())
}

fn read_offset(text: &str) -> Result<Uuid, Failure> {
    let wrong = || StoreError::Offset(text.to_owned());
    let bytes = BASE64.decode(text).map_err(|_| wrong())?;
    let decoded = String::from_utf8(bytes).map_err(|_| wrong())?;
    Ok(Uuid::parse_str(&decoded).map_err(|_| wrong())?)
}

/// What a declarative node says to writes.
fn unsupported(action: &str, kind: Kind, key: &str) -> Failure {
    let by = match kind.endpoint_key() {
        Some(name) if !key.is_empty() && Uuid::parse_str(key).is_err() => format!(" by '{name}'"),
        _ => String::new(),
    };
    let message = format!("cannot {action} '{}' entities{by} when not using a database", kind.plural());
    Failure::coded(StatusCode::METHOD_NOT_ALLOWED, 12, "operation unsupported", message, None)
}
