//! The part of Konnect's API beside the entities: control planes, which are workspaces, who calls, schemas.

use tollgate_http::StatusCode;
use tollgate_model::{Kind, Map, Value, check_entity, json, merge_entity};
use tollgate_store::Stored;
use uuid::Uuid;

use crate::answer::{Answer, Failure, created, ok};
use crate::{Admin, Call, form, id_of, json_schema, names};

/// What a path of Konnect's API leads to.
pub(crate) enum Konnect<'a> {
    /// `/konnect-api/api/runtime_groups`: the list decK looks its control plane up in
    RuntimeGroups,
    /// `/v2/control-planes`
    ControlPlanes,
    /// `/v2/control-planes/{id}`
    ControlPlane(&'a str),
    /// `/v2/organizations/me`, `/v3/organizations/me`
    Organization,
    /// `/v2/users/me`, `/v3/users/me`
    User,
    /// `/v1/schemas/json/{entity}`, below a control plane's entities or not
    JsonSchema(&'a str),
}

impl<'a> Konnect<'a> {
    pub(crate) fn of(segments: &[&'a str], below_control_plane: bool) -> Option<Self> {
        Some(match *segments {
            ["v1", "schemas", "json", entity] => Self::JsonSchema(entity),
            _ if below_control_plane => return None,
            ["konnect-api", "api", "runtime_groups"] => Self::RuntimeGroups,
            ["v2", "control-planes"] => Self::ControlPlanes,
            ["v2", "control-planes", id] => Self::ControlPlane(id),
            ["v2" | "v3", "organizations", "me"] => Self::Organization,
            ["v2" | "v3", "users", "me"] => Self::User,
            _ => return None,
        })
    }

    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::ControlPlanes => &["GET", "HEAD", "OPTIONS", "POST"],
            Self::ControlPlane(_) => &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"],
            _ => &["GET", "HEAD", "OPTIONS"],
        }
    }

    pub(crate) fn answer(&self, admin: &Admin, call: &Call) -> Answer {
        match self {
            Self::RuntimeGroups => runtime_groups(admin, call),
            Self::ControlPlanes if call.method == "POST" => create(admin, call),
            Self::ControlPlanes => control_planes(admin, call),
            Self::ControlPlane(id) => control_plane(admin, call, id),
            Self::Organization => {
                ok(json!({"id": Uuid::nil().to_string(), "name": "Tollgate", "state": "active"}))
            }
            Self::User => ok(
                json!({"id": Uuid::nil().to_string(), "full_name": "Tollgate", "email": "", "active": true}),
            ),
            Self::JsonSchema(name) => {
                match Kind::ALL.into_iter().find(|kind| names::singular(*kind) == *name) {
                    Some(kind) => ok(json_schema::of(kind.schema())),
                    None => Err(missing("schema", name)),
                }
            }
        }
    }
}

/// Konnect's errors name their status; `message` is what decK shows.
pub(crate) fn failure(status: StatusCode, message: &str) -> Failure {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({"status": status.as_u16(), "title": title, "detail": message, "message": message});
    Failure { status, body: Some(body) }
}

fn missing(what: &str, name: &str) -> Failure {
    failure(StatusCode::NOT_FOUND, &format!("there is no {what} '{name}'"))
}

/// The text of a field of a control plane.
fn text<'a>(stored: &'a Stored, name: &str) -> &'a str {
    stored.fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn labels(stored: &Stored) -> Map<String, Value> {
    let labels = stored.fields.get("meta").and_then(|meta| meta.get("labels")).and_then(Value::as_object);
    labels.cloned().unwrap_or_default()
}

fn shown(stored: &Stored, host: &str) -> Value {
    let time = |name: &str| iso_time(stored.fields.get(name).and_then(Value::as_i64).unwrap_or_default());
    json!({
        "id": stored.id.to_string(),
        "name": text(stored, "name"),
        "description": text(stored, "comment"),
        "labels": labels(stored),
        "config": {
            "control_plane_endpoint": format!("http://{host}"),
            "telemetry_endpoint": format!("http://{host}"),
            "cluster_type": CLUSTER_TYPE,
            "auth_type": "pinned_client_certs",
            "cloud_gateway": false,
            "proxy_urls": [],
        },
        "created_at": time("created_at"),
        "updated_at": time("updated_at"),
    })
}

const CLUSTER_TYPE: &str = "CLUSTER_TYPE_CONTROL_PLANE";

/// Seconds since 1970 as `2026-11-25T01:02:03Z`.
fn iso_time(seconds: i64) -> String {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).ok();
    time.and_then(|time| time.format(&time::format_description::well_known::Rfc3339).ok()).unwrap_or_default()
}

/// Every control plane, by name.
fn all(admin: &Admin) -> Result<Vec<Stored>, Failure> {
    let page = admin.store.read(|view| view.list(Kind::Workspace, Uuid::nil(), None, usize::MAX, None))?;
    let mut all = page.entities;
    all.sort_by(|a, b| text(a, "name").cmp(text(b, "name")));
    Ok(all)
}

/// A page by number: its items, its number, its size, and the number of all items.
fn page<T>(
    all: Vec<T>,
    call: &Call,
    number: &str,
    size: &str,
) -> Result<(Vec<T>, usize, usize, usize), Failure> {
    let read = |name: &str, default: usize, most: usize| match call.query(name) {
        None => Ok(default),
        Some(text) => text.parse().ok().filter(|value| (1..=most).contains(value)).ok_or_else(|| {
            failure(StatusCode::BAD_REQUEST, &format!("{name}: expected a number between 1 and {most}"))
        }),
    };
    let (number, size) = (read(number, 1, usize::MAX)?, read(size, 100, 1000)?);
    let total = all.len();
    let page = all.into_iter().skip(size.saturating_mul(number - 1)).take(size).collect();
    Ok((page, number, size, total))
}

fn runtime_groups(admin: &Admin, call: &Call) -> Answer {
    let (groups, number, size, total) = page(all(admin)?, call, "page", "size")?;
    let data: Vec<Value> =
        groups.iter().map(|group| json!({"id": group.id.to_string(), "name": text(group, "name")})).collect();
    let pages = total.div_ceil(size);
    // Tells our own decK that a sync can be one transaction.
    let own = json!({"version": admin.facts.version});
    ok(json!({"data": data, "page": number, "pageCount": pages, "tollgate": own}))
}

fn control_planes(admin: &Admin, call: &Call) -> Answer {
    let mut found = Vec::new();
    for stored in all(admin)? {
        if matches(&stored, call)? {
            found.push(stored);
        }
    }
    let created = |stored: &Stored| stored.fields.get("created_at").and_then(Value::as_u64);
    match call.query("sort").map(|sort| (sort.split([' ', ',']).next().unwrap_or_default(), sort)) {
        Some(("created_at", sort)) => {
            found.sort_by_key(created);
            if sort.ends_with("desc") {
                found.reverse();
            }
        }
        Some(("name", sort)) if sort.ends_with("desc") => found.reverse(),
        _ => {}
    }
    let (page, number, size, total) = page(found, call, "page[number]", "page[size]")?;
    let data: Vec<Value> = page.iter().map(|stored| shown(stored, &call.host)).collect();
    let page = json!({"number": number, "size": size, "total": total});
    ok(json!({"meta": {"page": page}, "data": data}))
}

/// Whether a control plane passes the filters of a list: `filter[name][eq]=…`, `labels=key:value,key`.
fn matches(stored: &Stored, call: &Call) -> Result<bool, Failure> {
    for (name, value) in &call.query {
        let value = value.as_deref().unwrap_or_default();
        if name == "labels" {
            let labels = labels(stored);
            let has = |wanted: &str| match wanted.split_once(':') {
                Some((key, value)) => labels.get(key).and_then(Value::as_str) == Some(value),
                None => labels.contains_key(wanted),
            };
            if !value.split(',').all(has) {
                return Ok(false);
            }
            continue;
        }
        let Some(filter) = name.strip_prefix("filter[").and_then(|rest| rest.strip_suffix(']')) else {
            continue;
        };
        let (field, operator) = filter.split_once("][").unwrap_or((filter, "eq"));
        let id = stored.id.to_string();
        let actual = match field {
            "name" => text(stored, "name"),
            "id" => &id,
            "cluster_type" => CLUSTER_TYPE,
            _ => return Err(failure(StatusCode::BAD_REQUEST, &format!("{name}: there is no such filter"))),
        };
        let passes = match operator {
            "eq" => actual == value,
            "neq" => actual != value,
            "contains" => actual.contains(value),
            "oeq" => value.split(',').any(|one| one == actual),
            _ => return Err(failure(StatusCode::BAD_REQUEST, &format!("{name}: there is no such filter"))),
        };
        if !passes {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A control plane's fields as a workspace's.
fn as_workspace(mut input: Map<String, Value>) -> Map<String, Value> {
    let mut workspace = Map::new();
    if let Some(name) = input.remove("name") {
        workspace.insert("name".into(), name);
    }
    if let Some(description) = input.remove("description") {
        workspace.insert("comment".into(), description);
    }
    if let Some(labels) = input.remove("labels") {
        workspace.insert("meta".into(), json!({"labels": labels}));
    }
    workspace
}

fn create(admin: &Admin, call: &Call) -> Answer {
    admin.must_have_store()?;
    let input = as_workspace(form::read(call, None)?);
    let checked = check_entity(Kind::Workspace, input, None, &*admin.plugins, &*admin.source)?;
    let stored = admin.put(call, Kind::Workspace, checked, true)?;
    created(shown(&stored, &call.host))
}

fn control_plane(admin: &Admin, call: &Call, key: &str) -> Answer {
    let found = match id_of(key) {
        Some(id) => admin.store.read(|view| view.get(Kind::Workspace, id))?,
        None => None,
    };
    let found = found.ok_or_else(|| missing("control plane", key))?;
    match call.method.as_str() {
        "DELETE" => {
            admin.must_have_store()?;
            admin.delete_workspace(call, found.id)
        }
        "PATCH" | "PUT" => {
            admin.must_have_store()?;
            let changes = as_workspace(form::read(call, None)?);
            let plugins = &*admin.plugins;
            let merged = merge_entity(Kind::Workspace, changes, &found.fields, plugins, &*admin.source)?;
            let stored = admin.put(call, Kind::Workspace, merged, false)?;
            ok(shown(&stored, &call.host))
        }
        _ => ok(shown(&found, &call.host)),
    }
}
