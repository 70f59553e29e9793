//! Creating, reading, changing and deleting entities, at the top and below those they belong to.

use tollgate_http::StatusCode;
use tollgate_model::check::Mode;
use tollgate_model::kind::ForeignKey;
use tollgate_model::{FieldErrors, FieldType, Kind, Map, Value, check_entity, json, merge_entity};
use tollgate_store::{Author, DEFAULT_WORKSPACE, StoreError, Stored, Transaction, View};
use uuid::Uuid;

use crate::answer::{
    Answer, Failure, created, invalid_unique, method_not_allowed, not_found, nothing, nothing_to_change, ok,
    unresolved,
};
use crate::endpoint::{self, Above};
use crate::{Admin, Call, certificates, form, id_of};

/// Longest time to live of a credential, in seconds (Kong 3.11).
const LONGEST_TTL: f64 = 100_000_000.0;

/// What a body says of an entity.
struct Input {
    fields: Map<String, Value>,
    /// Whether an id it gives must be free.
    new: bool,
    /// The names a certificate shall have; `None` leaves them.
    names: Option<Vec<String>>,
}

/// What is done to an entity, as a declarative node refuses it.
#[derive(Clone, Copy)]
pub(crate) enum Write<'a> {
    Create,
    Upsert(&'a str),
    Update(&'a str),
    Remove(&'a str),
}

impl Admin {
    /// Lists or adds to a collection.
    pub(crate) fn collection(&self, call: &Call, kind: Kind, above: Option<Above<'_>>) -> Answer {
        if call.method == "GET" {
            return self.list(call, kind, above);
        }
        let above = self.above(call, above)?;
        let mut input = self.read_input(call, kind, None, None)?;
        input.new = true;
        refer_up(&mut input, above.as_ref());
        let stored = self.write(call, kind, input, None, Write::Create)?;
        created(self.show(kind, stored)?)
    }

    /// Shows or changes an entity.
    pub(crate) fn item(&self, call: &Call, kind: Kind, key: &str, above: Option<Above<'_>>) -> Answer {
        let above = self.above(call, above)?;
        let found = match &above {
            Some((_, upstream)) if kind == Kind::Target => self.find_target(upstream, key)?,
            _ => self.find(call, kind, key)?,
        };
        let belongs = |stored: &Stored| {
            above
                .as_ref()
                .is_none_or(|(link, parent)| reference(&stored.fields, link.field) == Some(parent.id))
        };
        match call.method.as_str() {
            // Kong 3.11: what belongs to another entity comes to this one.
            "PUT" if kind != Kind::Target || call.konnect => {
                let mut input = self.read_input(call, kind, Some(key), None)?;
                input.new = found.is_none() && id_of(key).is_none();
                refer_up(&mut input, above.as_ref());
                name_by_path(kind, key, found.as_ref(), &mut input.fields);
                let stored = self.write(call, kind, input, None, Write::Upsert(key))?;
                ok(self.show(kind, stored)?)
            }
            // Kong 3.11: a target is not made by PUT.
            "PATCH" | "PUT" => {
                let Some(found) = found.filter(belongs) else {
                    return Err(match above {
                        None if kind != Kind::Plugin => missing(kind, key),
                        _ => not_found(),
                    });
                };
                let mut input = self.read_input(call, kind, Some(key), Some(&found))?;
                input.fields.remove("id");
                let stored = self.write(call, kind, input, Some(&found), Write::Update(key))?;
                ok(self.show(kind, stored)?)
            }
            "DELETE" => match found.filter(belongs) {
                None if above.is_some() => Err(not_found()),
                None if kind == Kind::Certificate && id_of(key).is_none() => Err(missing(kind, key)),
                _ if self.facts.declarative => Err(unsupported("remove", kind, Some(key))),
                Some(stored) if kind == Kind::Workspace => self.delete_workspace(call, stored.id),
                Some(stored) => {
                    self.commit(call, kind, |transaction| transaction.delete(kind, stored.id))?;
                    nothing()
                }
                None => nothing(),
            },
            _ => match found.filter(belongs) {
                Some(stored) if kind == Kind::ConsumerGroup => self.show_group(call, stored),
                Some(stored) => ok(self.show(kind, stored)?),
                None if kind == Kind::Certificate && above.is_none() => Err(missing(kind, key)),
                None => Err(not_found()),
            },
        }
    }

    /// Shows or changes what an entity refers to.
    pub(crate) fn linked(&self, call: &Call, kind: Kind, key: &str, link: &'static ForeignKey) -> Answer {
        let child = self.find(call, kind, key)?.ok_or_else(not_found)?;
        let found = match reference(&child.fields, link.field) {
            Some(id) => self.store.read(|view| view.get(link.to, id))?,
            None => None,
        };
        match (call.method.as_str(), found) {
            ("PUT", None) => {
                let mut input = self.read_input(call, link.to, None, None)?;
                input.fields.insert("id".into(), self.source.id().to_string().into());
                let stored = self.transact(call, link.to, Write::Create, |transaction| {
                    let stored = self.check_and_put(transaction, call.workspace, link.to, input, None)?;
                    let mut fields = child.fields;
                    fields.insert(link.field.into(), json!({"id": stored.id.to_string()}));
                    transaction.put(kind, call.workspace, fields)?;
                    Ok(stored)
                })?;
                ok(self.show(link.to, stored)?)
            }
            (_, None) => Err(not_found()),
            ("GET", Some(found)) => ok(self.show(link.to, found)?),
            ("PATCH", Some(found)) => {
                let id = found.id.to_string();
                let mut input = self.read_input(call, link.to, Some(&id), Some(&found))?;
                input.fields.remove("id");
                let stored = self.write(call, link.to, input, Some(&found), Write::Update(&id))?;
                ok(self.show(link.to, stored)?)
            }
            ("PUT", Some(found)) => {
                let id = found.id.to_string();
                let mut input = self.read_input(call, link.to, Some(&id), None)?;
                name_by_path(link.to, &id, Some(&found), &mut input.fields);
                let stored = self.write(call, link.to, input, None, Write::Upsert(&id))?;
                ok(self.show(link.to, stored)?)
            }
            _ => Err(method_not_allowed()),
        }
    }

    /// The entity that others belong to.
    fn above(
        &self,
        call: &Call,
        above: Option<Above<'_>>,
    ) -> Result<Option<(&'static ForeignKey, Stored)>, Failure> {
        match above {
            Some((key, link)) => {
                let parent = self.find(call, link.to, key)?;
                Ok(Some((link, parent.ok_or_else(not_found)?)))
            }
            None => Ok(None),
        }
    }

    pub(crate) fn delete_workspace(&self, call: &Call, workspace: Uuid) -> Answer {
        let refuse = |message| Err(Failure::message(StatusCode::BAD_REQUEST, message));
        if workspace == DEFAULT_WORKSPACE {
            return refuse("cannot delete default workspace");
        }
        let cascade = matches!(call.query("cascade"), Some("true" | "1"));
        let deleted = self.commit(call, Kind::Workspace, |transaction| {
            if cascade {
                for kind in Kind::ALL.into_iter().rev().filter(|kind| kind.workspaced()) {
                    transaction.clear(kind, workspace)?;
                }
            }
            transaction.delete(Kind::Workspace, workspace)
        });
        match deleted {
            Err(StoreError::Referenced { .. }) => refuse("Workspace is not empty"),
            Err(error) => Err(error.into()),
            Ok(_) => nothing(),
        }
    }

    fn read_input(
        &self,
        call: &Call,
        kind: Kind,
        key: Option<&str>,
        before: Option<&Stored>,
    ) -> Result<Input, Failure> {
        let mut fields = self.read_fields(call, kind, before)?;
        let names = match kind {
            Kind::Certificate => {
                let name = key.filter(|key| id_of(key).is_none());
                certificates::take_names(call, &mut fields, name)?
            }
            _ => None,
        };
        Ok(Input { fields, new: false, names })
    }

    /// The body's fields, those of a form in the types of the schema: a plugin's by its name, which a change
    /// need not give.
    pub(crate) fn read_fields(
        &self,
        call: &Call,
        kind: Kind,
        before: Option<&Stored>,
    ) -> Result<Map<String, Value>, Failure> {
        let mut fields = form::read(call, Some(kind.schema()))?;
        if kind == Kind::Plugin && form::is_form(call) {
            let before = before.and_then(|before| before.fields.get("name"));
            let name = fields.get("name").or(before).and_then(Value::as_str).unwrap_or_default().to_owned();
            if let (Some(plugin), Some(config)) = (self.plugins.get(&name), fields.get_mut("config")) {
                let record = FieldType::Record(plugin.config.clone());
                form::infer(config, &tollgate_model::schema::Shape::new(record));
            }
        }
        if let Some(Value::Number(ttl)) = fields.get("ttl").filter(|_| kind == Kind::KeyAuthCredential) {
            // Kong 3.11: an option of the call, not a field.
            if ttl.as_f64().is_none_or(|ttl| ttl.fract() != 0.0 || !(0.0..=LONGEST_TTL).contains(&ttl)) {
                let message = format!("must be an integer between 0 and {LONGEST_TTL}");
                return Err(Failure::option("ttl", message));
            }
        }
        // Kong 3.11: when something was changed is the server's to say.
        if fields.get("updated_at").is_some_and(Value::is_number) {
            fields.remove("updated_at");
        }
        Ok(fields)
    }

    /// Checks input against the schema, and against what is there: references by name are resolved.
    pub(crate) fn check(
        &self,
        view: &View<'_>,
        workspace: Uuid,
        kind: Kind,
        mut input: Map<String, Value>,
        before: Option<&Stored>,
    ) -> Result<Map<String, Value>, Failure> {
        for link in kind.foreign_keys() {
            resolve(view, workspace, link, &mut input)?;
        }
        if kind == Kind::Plugin {
            plain_protocols(&mut input);
        }
        let mut checked = match before {
            Some(before) => merge_entity(kind, input, &before.fields, &*self.plugins, &*self.source)?,
            None => check_entity(kind, input, None, &*self.plugins, &*self.source)?,
        };
        if let Some(id) = checked.get("id").and_then(Value::as_str).and_then(id_of) {
            checked.insert("id".into(), id.to_string().into());
        }
        match kind {
            Kind::Plugin => check_protocols(view, &checked)?,
            Kind::Workspace => {
                let name = checked.get("name").and_then(Value::as_str).unwrap_or_default();
                if endpoint::is_reserved(name) {
                    let message = format!("'{name}' is the name of an endpoint, and so of no workspace");
                    return Err(FieldErrors::of("name", message).into());
                }
            }
            _ => {}
        }
        Ok(checked)
    }

    /// Checks and writes in one transaction.
    fn write(
        &self,
        call: &Call,
        kind: Kind,
        input: Input,
        before: Option<&Stored>,
        write: Write<'_>,
    ) -> Result<Stored, Failure> {
        self.transact(call, kind, write, |transaction| {
            let id = input.fields.get("id").and_then(Value::as_str).and_then(id_of).filter(|_| input.new);
            if let Some(id) = id
                && transaction.view().get(kind, id)?.is_some()
            {
                return Err(StoreError::PrimaryKey { kind, id }.into());
            }
            // What others have changed meanwhile is merged with, not undone.
            let before = match before {
                Some(before) => Some(transaction.view().get(kind, before.id)?.ok_or_else(not_found)?),
                None => None,
            };
            self.check_and_put(transaction, call.workspace, kind, input, before.as_ref())
        })
    }

    /// One transaction for a call: what it refuses is rolled back; a declarative node refuses all that is
    /// valid.
    pub(crate) fn transact<T>(
        &self,
        call: &Call,
        kind: Kind,
        write: Write<'_>,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut refused = None;
        let outcome = self.commit(call, kind, |transaction| {
            let result = change(transaction).and_then(|value| match (self.facts.declarative, write) {
                (false, _) => Ok(value),
                (true, Write::Create) => Err(unsupported("create", kind, None)),
                (true, Write::Upsert(key)) => Err(unsupported("create or update", kind, Some(key))),
                (true, Write::Update(key)) => Err(unsupported("update", kind, Some(key))),
                (true, Write::Remove(key)) => Err(unsupported("remove", kind, Some(key))),
            });
            result.map_err(|failure| {
                refused = Some(failure);
                StoreError::Refused(String::new())
            })
        });
        match refused {
            Some(failure) => Err(failure),
            None => Ok(outcome?),
        }
    }

    /// Commits what a call changes.
    pub(crate) fn commit<T>(
        &self,
        call: &Call,
        kind: Kind,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let message = format!("{} {}", call.method, kind.plural());
        let author = Author { name: "admin-api", message: &message };
        self.store.commit(author, change).map(|(value, _)| value)
    }

    /// Writes a checked entity that needs nothing else.
    pub(crate) fn put(
        &self,
        call: &Call,
        kind: Kind,
        fields: Map<String, Value>,
        new: bool,
    ) -> Result<Stored, Failure> {
        let id = fields.get("id").and_then(Value::as_str).and_then(id_of).unwrap_or_default();
        let stored = Stored { workspace: Uuid::nil(), id, fields };
        self.commit(call, kind, |transaction| match new {
            true => transaction.insert(kind, call.workspace, stored.fields.clone()),
            false => transaction.put(kind, call.workspace, stored.fields.clone()),
        })?;
        Ok(stored)
    }

    fn check_and_put(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: Uuid,
        kind: Kind,
        input: Input,
        before: Option<&Stored>,
    ) -> Result<Stored, Failure> {
        let mut fields = self.check(&transaction.view(), workspace, kind, input.fields, before)?;
        if kind == Kind::Certificate {
            fields.remove("snis");
        }
        let id = fields.get("id").and_then(Value::as_str).and_then(id_of).unwrap_or_default();
        transaction.put(kind, workspace, fields.clone())?;
        if let Some(names) = input.names {
            certificates::put_names(transaction, workspace, id, &names, self)?;
        }
        Ok(Stored { workspace, id, fields })
    }

    /// Checks and writes an entity of a whole sync, a certificate with the names it lists.
    pub(crate) fn put_in_sync(
        &self,
        transaction: &mut Transaction<'_>,
        workspace: Uuid,
        kind: Kind,
        mut fields: Map<String, Value>,
    ) -> Result<(), Failure> {
        let names = match (kind, fields.remove("snis")) {
            (Kind::Certificate, Some(Value::Array(names))) => {
                Some(names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            (Kind::Certificate, _) => None,
            (_, other) => {
                fields.extend(other.map(|value| ("snis".to_owned(), value)));
                None
            }
        };
        self.check_and_put(transaction, workspace, kind, Input { fields, new: false, names }, None).map(drop)
    }

    /// An entity by id or name.
    ///
    /// # Errors
    /// A key that is none.
    pub(crate) fn find(&self, call: &Call, kind: Kind, key: &str) -> Result<Option<Stored>, Failure> {
        let here = |stored: &Stored| !kind.workspaced() || stored.workspace == call.workspace;
        if let Some(id) = id_of(key) {
            return Ok(self.store.read(|view| view.get(kind, id))?.filter(here));
        }
        let named = if kind == Kind::Certificate { Kind::Sni } else { kind };
        let Some(name) = named.endpoint_key() else {
            let message = "invalid primary key: '{id=\"expected a valid UUID\"}'";
            let fields = json!({"id": "expected a valid UUID"});
            let status = StatusCode::BAD_REQUEST;
            return Err(Failure::coded(status, 1, "invalid primary key", message, Some(fields)));
        };
        let shape = named.schema().fields.iter().find(|field| field.name == name).map(|field| &field.shape);
        if let Some(Err(Value::String(message))) = shape.map(|shape| shape.check(key.into(), Mode::Insert)) {
            return Err(invalid_unique(name, &message));
        }
        let found = self.store.read(|view| match kind {
            Kind::Certificate => match certificates::by_name(view, call.workspace, key)? {
                Some(id) => view.get(kind, id),
                None => Ok(None),
            },
            _ => view.get_by_name(kind, call.workspace, key),
        })?;
        Ok(found.filter(here))
    }

    /// A target of an upstream by id or address.
    pub(crate) fn find_target(&self, upstream: &Stored, key: &str) -> Result<Option<Stored>, Failure> {
        if let Some(id) = id_of(key) {
            let found = self.store.read(|view| view.get(Kind::Target, id))?;
            return Ok(found.filter(|target| reference(&target.fields, "upstream") == Some(upstream.id)));
        }
        let address = tollgate_model::entity::Target::split(key).map(|(host, port)| format!("{host}:{port}"));
        let all = self.store.read(|view| {
            view.list_referring(Kind::Target, "upstream", upstream.id, None, usize::MAX, None)
        })?;
        let same =
            |target: &Stored| target.fields.get("target").and_then(Value::as_str) == address.as_deref();
        Ok(all.entities.into_iter().find(same))
    }

    /// An entity as the API shows it.
    pub(crate) fn show(&self, kind: Kind, stored: Stored) -> Result<Value, Failure> {
        let mut fields = stored.fields;
        if kind == Kind::Certificate {
            let names = self.store.read(|view| certificates::names(view, stored.id))?;
            fields.insert("snis".into(), names.into());
        }
        Ok(Value::Object(fields))
    }
}

/// An entity that a key names, but that is not there (Kong 3.11).
fn missing(kind: Kind, key: &str) -> Failure {
    match (id_of(key), kind.endpoint_key()) {
        (None, None) if kind == Kind::Certificate => Failure::message(StatusCode::NOT_FOUND, "SNI not found"),
        (None, Some(name)) => nothing_to_change(key, name),
        _ => nothing_to_change(key, "id"),
    }
}

fn refer_up(input: &mut Input, above: Option<&(&'static ForeignKey, Stored)>) {
    if let Some((link, parent)) = above {
        input.fields.insert(link.field.into(), json!({"id": parent.id.to_string()}));
    }
}

/// The path's key wins over what the body says.
fn name_by_path(kind: Kind, key: &str, found: Option<&Stored>, fields: &mut Map<String, Value>) {
    if let Some(id) = id_of(key) {
        fields.insert("id".into(), id.to_string().into());
        return;
    }
    if let Some(found) = found {
        fields.insert("id".into(), found.id.to_string().into());
    }
    if let Some(name) = kind.endpoint_key() {
        fields.insert(name.into(), key.into());
    }
}

/// Turns a reference by name into one by id. decK sends names beside ids; the id is what counts.
fn resolve(
    view: &View<'_>,
    workspace: Uuid,
    link: &ForeignKey,
    input: &mut Map<String, Value>,
) -> Result<(), Failure> {
    let Some(Value::Object(given)) = input.get(link.field) else { return Ok(()) };
    if let Some(id) = given.get("id") {
        let id = id.as_str().and_then(id_of).map_or_else(|| id.clone(), |id| id.to_string().into());
        input.insert(link.field.into(), json!({"id": id}));
        return Ok(());
    }
    for group in link.to.unique() {
        let [name] = group else { continue };
        let Some(value) = given.get(*name).and_then(Value::as_str) else { continue };
        let found = view.get_unique(link.to, workspace, name, value)?;
        let Some(found) = found.filter(|found| !link.to.workspaced() || found.workspace == workspace) else {
            return Err(unresolved(link.field, name, value, link.to.plural()));
        };
        input.insert(link.field.into(), json!({"id": found.id.to_string()}));
        return Ok(());
    }
    Ok(())
}

/// WebSockets run under the protocols they begin with here, where Kong Enterprise has protocols of their own, which
/// decK sends.
fn plain_protocols(plugin: &mut Map<String, Value>) {
    let protocols = plugin.get_mut("protocols").and_then(Value::as_array_mut);
    for protocol in protocols.into_iter().flatten() {
        match protocol.as_str() {
            Some("ws") => *protocol = "http".into(),
            Some("wss") => *protocol = "https".into(),
            _ => {}
        }
    }
}

/// A plugin must have a protocol in common with its route, or with a route of its service (Kong 3.11).
fn check_protocols(view: &View<'_>, plugin: &Map<String, Value>) -> Result<(), Failure> {
    fn protocols(fields: &Map<String, Value>) -> Vec<&str> {
        let list = fields.get("protocols").and_then(Value::as_array);
        list.map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
    }
    let own = protocols(plugin);
    let fits = |route: &Stored| protocols(&route.fields).iter().any(|protocol| own.contains(protocol));
    let refuse = |message: &str| Err(FieldErrors::of("protocols", message).into());
    if let Some(route) = reference(plugin, "route") {
        return match view.get(Kind::Route, route)? {
            Some(route) if !fits(&route) => refuse("must match the associated route's protocols"),
            _ => Ok(()),
        };
    }
    let Some(service) = reference(plugin, "service") else { return Ok(()) };
    let routes = view.list_referring(Kind::Route, "service", service, None, usize::MAX, None)?.entities;
    if routes.is_empty() || routes.iter().any(fits) {
        Ok(())
    } else {
        refuse("must match the protocols of at least one route pointing to this Plugin's service")
    }
}

/// The id an entity refers to by a field.
pub(crate) fn reference(fields: &Map<String, Value>, field: &str) -> Option<Uuid> {
    fields.get(field)?.get("id")?.as_str().and_then(id_of)
}

/// What a declarative node says to writes.
fn unsupported(action: &str, kind: Kind, key: Option<&str>) -> Failure {
    let by = match (kind.endpoint_key(), key) {
        (Some(name), Some(key)) if id_of(key).is_none() => format!(" by '{name}'"),
        _ => String::new(),
    };
    let message = format!("cannot {action} '{}' entities{by} when not using a database", kind.plural());
    Failure::coded(StatusCode::METHOD_NOT_ALLOWED, 12, "operation unsupported", message, None)
}
