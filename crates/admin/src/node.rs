//! The node: `/`, `/status`, `/schemas`, `/tags`, `/endpoints` and the like.

use tollgate_http::{Method, StatusCode};
use tollgate_model::{Kind, Map, Value, json};

use crate::answer::{Answer, Failure, method_not_allowed, ok};
use crate::status::Unit;
use crate::{Admin, Call, form};

/// Kong's version whose behaviour is followed.
pub const KONG_VERSION: &str = "3.11.0";

/// First segments that are the node's own, and so no workspace.
pub(crate) fn is_reserved(segment: &str) -> bool {
    matches!(
        segment,
        "status"
            | "schemas"
            | "tags"
            | "endpoints"
            | "config"
            | "kong"
            | "konnect-api"
            | "v2"
            | "tollgate"
            | "timers"
            | "cache"
            | "debug"
            | "clustering"
            | "metrics"
    )
}

/// Answers a call about the node; `None` where it is about something else.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    let segments = call.segments();
    let get = |answer: &dyn Fn() -> Answer| {
        Some(if call.method == Method::GET { answer() } else { Err(method_not_allowed()) })
    };
    match segments[..] {
        [] | ["kong"] => get(&|| ok(admin.root())),
        ["status"] => get(&|| {
            let unit = Unit::parse(call.query("unit"), call.query("scale"))?;
            ok(admin.status.status(unit))
        }),
        ["robots.txt"] => get(&|| ok(Value::from("User-agent: *\nDisallow: /"))),
        ["endpoints"] => get(&|| ok(json!({"data": endpoints()}))),
        ["plugins", "enabled"] => get(&|| {
            let names: Vec<&str> = admin.plugins.all().iter().map(|plugin| plugin.name).collect();
            ok(json!({"enabled_plugins": names}))
        }),
        ["plugins", "schema", name] => get(&|| match admin.plugins.get(name) {
            Some(plugin) => ok(plugin.config.to_kong_schema()),
            None => Err(Failure::message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'"))),
        }),
        ["schemas", "plugins", "validate"] if call.method == Method::POST => {
            Some(validate(admin, call, Kind::Plugin))
        }
        ["schemas", "plugins", name] => get(&|| match admin.plugins.get(name) {
            Some(plugin) => ok(plugin.to_kong_schema()),
            None => Err(Failure::message(StatusCode::NOT_FOUND, &format!("No plugin named '{name}'"))),
        }),
        ["schemas", name, "validate"] if call.method == Method::POST => Some(match Kind::from_plural(name) {
            Some(kind) => validate(admin, call, kind),
            None => Err(Failure::message(StatusCode::NOT_FOUND, &format!("No entity named '{name}'"))),
        }),
        ["schemas", name] => get(&|| match Kind::from_plural(name) {
            Some(kind) => ok(kind.to_kong_schema()),
            None => Err(Failure::message(StatusCode::NOT_FOUND, &format!("No entity named '{name}'"))),
        }),
        ["tags"] => get(&|| tags(admin, call, None)),
        ["tags", tag] => get(&|| tags(admin, call, Some(tag))),
        ["workspaces", name] if name == "default" && call.method == Method::DELETE => {
            Some(Err(Failure::message(StatusCode::BAD_REQUEST, "cannot delete default workspace")))
        }
        _ => None,
    }
}

impl Admin {
    fn root(&self) -> Value {
        let mut available = Map::new();
        for plugin in self.plugins.all() {
            available
                .insert(plugin.name.into(), json!({"version": KONG_VERSION, "priority": plugin.priority}));
        }
        let mut configured: Vec<String> = Vec::new();
        let listed = self.store.read(|view| {
            view.for_each::<tollgate_store::StoreError>(Kind::Plugin, |stored| {
                configured.extend(stored.fields.get("name").and_then(Value::as_str).map(str::to_owned));
                Ok(())
            })
        });
        if listed.is_err() {
            configured.clear();
        }
        configured.sort();
        configured.dedup();
        let hostname = std::fs::read_to_string("/etc/hostname").unwrap_or_default().trim().to_owned();
        let mut configuration = self.facts.configuration.clone();
        configuration
            .insert("database".into(), if self.facts.declarative { "off" } else { "postgres" }.into());
        json!({
            "tagline": "Welcome to kong",
            "version": KONG_VERSION,
            "edition": "community",
            "hostname": hostname,
            "node_id": self.facts.node_id,
            "timers": {"running": 0, "pending": 0},
            "plugins": {"available_on_server": available, "enabled_in_cluster": configured},
            "lua_version": "LuaJIT 2.1",
            "configuration": configuration,
            "pids": {"master": std::process::id(), "workers": [std::process::id()]},
            "tollgate": {"version": self.facts.version, "store": if self.facts.declarative { "memory" } else { "sqlite" }},
        })
    }
}

fn validate(admin: &Admin, call: &Call, kind: Kind) -> Answer {
    let input = form::read(call, Some(kind.schema()))?;
    admin.store.read(|view| Ok(admin.check(view, call, kind, input, None).map(|_| ())))??;
    ok(json!({"message": "schema validation successful"}))
}

fn tags(admin: &Admin, call: &Call, tag: Option<&str>) -> Answer {
    let list = admin.store.read(|view| view.tags(call.workspace, tag))?;
    let data: Vec<Value> = list
        .into_iter()
        .map(|(tag, kind, id)| json!({"tag": tag, "entity_name": kind.plural(), "entity_id": id.to_string()}))
        .collect();
    ok(json!({"data": data, "next": null}))
}

fn endpoints() -> Vec<String> {
    let mut list: Vec<String> = [
        "/",
        "/config",
        "/debug/cluster/log-level/{log_level}",
        "/debug/node/log-level",
        "/debug/node/log-level/{log_level}",
        "/endpoints",
        "/metrics",
        "/plugins/enabled",
        "/schemas/plugins/validate",
        "/schemas/plugins/{name}",
        "/schemas/{name}",
        "/schemas/{name}/validate",
        "/status",
        "/tags",
        "/tags/{tags}",
    ]
    .map(str::to_owned)
    .to_vec();
    let top = |kind: Kind| if kind == Kind::KeyAuthCredential { "key-auths" } else { kind.plural() };
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Target) {
        let name = top(kind);
        list.push(format!("/{name}"));
        list.push(format!("/{name}/{{{name}}}"));
        for key in kind.foreign_keys() {
            list.push(format!("/{name}/{{{name}}}/{}", key.field));
        }
    }
    for kind in Kind::ALL {
        let below = if kind == Kind::KeyAuthCredential { "key-auth" } else { kind.plural() };
        for key in kind.foreign_keys() {
            let above = key.to.plural();
            list.push(format!("/{above}/{{{above}}}/{below}"));
            list.push(format!("/{above}/{{{above}}}/{below}/{{{below}}}"));
        }
    }
    list.sort();
    list.dedup();
    list
}
