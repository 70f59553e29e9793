//! The node: `/`, `/status`, `/schemas`, `/tags`, `/endpoints` and the like.

use tollgate_http::StatusCode;
use tollgate_model::{Kind, Map, Value, check_entity, json};

use crate::answer::{Answer, Failure, not_found, nothing, ok, text};
use crate::endpoint::Endpoint;
use crate::status::Unit;
use crate::{Admin, Call, absent, certificates, log_level, names};

/// Kong's version whose behaviour is followed.
pub const KONG_VERSION: &str = "3.11.0";

impl Admin {
    /// Answers a call about the node.
    pub(crate) fn about_node(&self, call: &Call, endpoint: &Endpoint<'_>) -> Answer {
        let no_plugin = |name: &str| not_named("plugin", name);
        match *endpoint {
            Endpoint::Root => ok(self.root()),
            Endpoint::Status => {
                let unit = Unit::parse(call.query("unit"), call.query("scale"))?;
                ok(self.status.status(unit))
            }
            Endpoint::StatusDns => {
                let message = "not implemented with the legacy DNS client";
                Err(Failure::message(StatusCode::NOT_IMPLEMENTED, message))
            }
            Endpoint::Robots => text("User-agent: *\nDisallow: /"),
            Endpoint::Endpoints => ok(json!({"data": endpoints()})),
            Endpoint::EnabledPlugins => {
                let names: Vec<&str> = self.plugins.all().iter().map(|plugin| plugin.name).collect();
                ok(json!({"enabled_plugins": names}))
            }
            Endpoint::PluginConfigSchema(name) => {
                ok(self.plugins.get(name).ok_or_else(|| no_plugin(name))?.config.to_kong_schema())
            }
            Endpoint::PluginSchema(name) => {
                ok(self.plugins.get(name).ok_or_else(|| no_plugin(name))?.to_kong_schema())
            }
            Endpoint::AbsentSchema(kind, name) => Err(not_named(kind, name)),
            Endpoint::Schema("consumer_group_plugins") => ok(absent::consumer_group_plugins()),
            Endpoint::Schema(name) => {
                let kind = Kind::from_plural(name).ok_or_else(|| not_named("entity", name))?;
                ok(kind.to_kong_schema())
            }
            Endpoint::Validate(name) => {
                let kind = Kind::from_plural(name).ok_or_else(|| not_named("entity", name))?;
                self.validate(call, kind)
            }
            // What Kong keeps in its cache is compiled here: there is nothing to find, and nothing to forget.
            Endpoint::WholeCache => nothing(),
            Endpoint::Cache if call.method == "DELETE" => nothing(),
            Endpoint::LogLevel(None) => log_level::show(),
            Endpoint::LogLevel(Some(level)) => log_level::change(self, call, level),
            Endpoint::Tags(tag) => self.tags(call, tag),
            Endpoint::WorkspaceMeta(workspace) => self.workspace_meta(call, workspace),
            Endpoint::Clustering => {
                let message = "this endpoint is only available when Kong is configured to run as Control Plane for the cluster";
                Err(Failure::message(StatusCode::BAD_REQUEST, message))
            }
            _ => Err(not_found()),
        }
    }

    /// Checks an entity against its schema. What it refers to need not be there (Kong 3.11).
    fn validate(&self, call: &Call, kind: Kind) -> Answer {
        let mut input = self.read_fields(call, kind, None)?;
        for link in kind.foreign_keys() {
            // decK sends names beside ids; a reference by name alone is as good as one by id.
            if let Some(Value::Object(given)) = input.get(link.field) {
                let named = link
                    .to
                    .unique()
                    .iter()
                    .flat_map(|group| group.iter())
                    .any(|name| given.contains_key(*name));
                let id = given.get("id").cloned();
                let id = id.or_else(|| named.then(|| self.source.id().to_string().into()));
                if let Some(id) = id {
                    input.insert(link.field.into(), json!({"id": id}));
                }
            }
        }
        if kind == Kind::Certificate {
            certificates::take_names(call, &mut input, None)?;
        }
        check_entity(kind, input, None, &*self.plugins, &*self.source)?;
        ok(json!({"message": "schema validation successful"}))
    }

    /// How much a workspace holds.
    fn workspace_meta(&self, call: &Call, workspace: &str) -> Answer {
        let workspace = self.find(call, Kind::Workspace, workspace)?.ok_or_else(not_found)?;
        let mut counts = Map::new();
        self.store.read(|view| {
            for kind in Kind::ALL.into_iter().filter(|kind| kind.workspaced()) {
                let count = view.count(kind, workspace.id)?;
                if count > 0 {
                    counts.insert(kind.plural().into(), count.into());
                }
            }
            Ok(())
        })?;
        ok(json!({"counts": counts}))
    }

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

fn not_named(what: &str, name: &str) -> Failure {
    Failure::message(StatusCode::NOT_FOUND, &format!("No {what} named '{name}'"))
}

/// Every path, a segment before what begins like it (Kong 3.11).
fn endpoints() -> Vec<String> {
    let mut list: Vec<String> = [
        "/",
        "/cache",
        "/cache/{key}",
        "/clustering/data-planes",
        "/clustering/status",
        "/config",
        "/consumer_groups/{consumer_groups}/consumers",
        "/consumer_groups/{consumer_groups}/consumers/{consumers}",
        "/consumer_groups/{consumer_groups}/overrides/plugins/rate-limiting-advanced",
        "/consumers/{consumers}/consumer_groups",
        "/consumers/{consumers}/consumer_groups/{consumer_groups}",
        "/debug/cluster/log-level/{log_level}",
        "/debug/node/log-level",
        "/debug/node/log-level/{log_level}",
        "/endpoints",
        "/metrics",
        "/plugins/enabled",
        "/plugins/schema/{name}",
        "/schemas/plugins/validate",
        "/schemas/plugins/{name}",
        "/schemas/{db_entity_name}/validate",
        "/schemas/{name}",
        "/status",
        "/status/dns",
        "/tags",
        "/tags/{tags}",
        "/tollgate/revisions",
        "/tollgate/revisions/{revision}",
        "/tollgate/revisions/{revision}/diff",
        "/tollgate/revisions/{revision}/rollback",
        "/tollgate/transaction",
        "/upstreams/{upstreams}/health",
        "/upstreams/{upstreams}/targets/all",
        "/upstreams/{upstreams}/targets/{targets}/healthy",
        "/upstreams/{upstreams}/targets/{targets}/unhealthy",
        "/upstreams/{upstreams}/targets/{targets}/{address}/healthy",
        "/upstreams/{upstreams}/targets/{targets}/{address}/unhealthy",
        "/workspaces/{workspaces}/meta",
    ]
    .map(str::to_owned)
    .to_vec();
    for kind in names::with_paths() {
        let (entity, top, nested) = (kind.plural(), names::top(kind), names::nested(kind));
        if kind != Kind::Target {
            list.push(format!("/{top}"));
            list.push(format!("/{top}/{{{entity}}}"));
        }
        for key in kind.foreign_keys() {
            if !matches!(kind, Kind::Target | Kind::Sni) {
                list.push(format!("/{top}/{{{entity}}}/{}", key.field));
            }
            let (parents, parent) = (names::top(key.to), key.to.plural());
            list.push(format!("/{parents}/{{{parent}}}/{nested}"));
            list.push(format!("/{parents}/{{{parent}}}/{nested}/{{{entity}}}"));
        }
    }
    list.sort_by_key(|path| path.replace('/', "\0"));
    list.dedup();
    list
}
