//! DB-less declarations (`cases/dbless.json`): what they declare, or what is wrong with them as Kong tells it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use proptest::prelude::*;
use tollgate_declare::{Entity, Invalid, Node};
use tollgate_model::{Config, PluginSchema, PluginSchemas, Source, Value, json};

#[derive(Debug, Config)]
#[allow(dead_code, reason = "the fields are its schema")]
struct Auth {
    #[config(default = ["apikey"])]
    names: Vec<String>,
    #[config(default = false)]
    hide: bool,
    anonymous: Option<String>,
}

struct Plugins(Vec<PluginSchema>);

impl PluginSchemas for Plugins {
    fn get(&self, name: &str) -> Option<&PluginSchema> {
        self.0.iter().find(|plugin| plugin.name == name)
    }

    fn all(&self) -> Vec<&PluginSchema> {
        self.0.iter().collect()
    }
}

fn plugins() -> Plugins {
    let auth = PluginSchema::new("auth", 2, Auth::schema()).without_consumer();
    Plugins(vec![auth, PluginSchema::new("limit", 1, Auth::schema())])
}

struct Clock;

impl Source for Clock {
    fn now(&self) -> f64 {
        1000.0
    }
}

fn read(text: &str) -> Result<Vec<Entity>, Invalid> {
    let node = Node::parse("f.yaml", text).map_err(Invalid::malformed)?;
    Invalid::read("f.yaml", node, &plugins(), &Clock)
}

/// What differs from a case, if anything does.
fn difference(case: &Value) -> Option<String> {
    let invalid = match (read(case["document"].as_str().unwrap()), case.get("fields")) {
        (Ok(entities), None) => return missing(case, &entities),
        (Ok(entities), Some(_)) => return Some(format!("was accepted: {entities:?}")),
        (Err(invalid), None) => return Some(format!("was refused: {}", json!(invalid.fields))),
        (Err(invalid), Some(fields)) if json!(invalid.fields) != *fields => {
            return Some(format!("expected {fields}, found {}", json!(invalid.fields)));
        }
        (Err(invalid), Some(_)) => invalid,
    };
    let wanted = case.get("problem")?.as_str()?;
    let found: Vec<String> = invalid.problems.iter().map(ToString::to_string).collect();
    (!found.iter().any(|line| line == wanted)).then(|| format!("no line {wanted:?} in {found:?}"))
}

fn missing(case: &Value, entities: &[Entity]) -> Option<String> {
    for (plural, wanted) in case.get("entities")?.as_object()? {
        let found: Vec<&Entity> = entities.iter().filter(|entity| entity.kind.plural() == plural).collect();
        let wanted = wanted.as_array()?;
        if wanted.len() != found.len() {
            return Some(format!("{plural}: {} became {}", wanted.len(), found.len()));
        }
        for (wanted, found) in wanted.iter().zip(found) {
            for (name, value) in wanted.as_object()? {
                if found.fields.get(name) != Some(value) {
                    return Some(format!("{plural}: {name}: {value} became {:?}", found.fields.get(name)));
                }
            }
        }
    }
    None
}

#[test]
fn cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../cases/dbless.json")).unwrap();
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|case| difference(case).map(|difference| format!("{}: {difference}", case["title"])))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// UUID v5 of what names an entity, in the name space of its kind, which is one of Kong's.
fn id_of(plural: &str, key: &str) -> String {
    let root = uuid::Uuid::parse_str("fd02801f-0957-4a15-a55a-c8d9606f30b5").unwrap();
    uuid::Uuid::new_v5(&uuid::Uuid::new_v5(&root, plural.as_bytes()), key.as_bytes()).to_string()
}

#[test]
fn ids_are_derived_from_names() {
    let text = "_format_version: \"3.0\"\nservices:\n- name: s\n  host: h\n  routes:\n  - name: r\n    paths: [/]\n    plugins: [{name: auth}]\n  plugins: [{name: auth}]\nplugins: [{name: auth}, {name: limit, service: s}]\nconsumers: [{username: u, plugins: [{name: limit}]}]\nupstreams: [{name: up, targets: [{target: 10.0.0.1}]}]\n";
    let entities = read(text).unwrap();
    let ids: Vec<&str> = entities.iter().map(|entity| entity.fields["id"].as_str().unwrap()).collect();
    let (service, route, consumer) = (id_of("services", "s"), id_of("routes", "r"), id_of("consumers", "u"));
    let upstream = id_of("upstreams", "up");
    let plugin = |key: String| id_of("plugins", &key);
    for wanted in [
        plugin(format!("plugins:*:auth:{route}::")),
        plugin(format!("plugins:*:auth::{service}:")),
        plugin("plugins:*:auth:::".into()),
        plugin("plugins:*:limit::s:".into()),
        plugin(format!("plugins:*:limit:::{consumer}")),
        id_of("targets", &format!("targets:*:{upstream}:10.0.0.1")),
        service,
        route,
        consumer,
        upstream,
    ] {
        assert!(ids.contains(&wanted.as_str()), "{wanted} is not in {ids:?}");
    }
    // Ids that Kong gives.
    for (plural, name, id) in [
        ("services", "my-service", "0855b320-0dd2-547d-891d-601e9b38647f"),
        ("routes", "my-route", "481a9539-f49c-51b6-b2e2-fe99ee68866c"),
        ("consumers", "my-user", "4b1b701d-de2b-5588-9aa2-3b97061d9f52"),
    ] {
        assert_eq!(id_of(plural, name), id);
    }
}

#[test]
fn what_has_no_name_gets_a_new_id_each_time() {
    let text = "_format_version: \"3.0\"\nservices: [{host: h}]\n";
    let id = || read(text).unwrap()[0].fields["id"].clone();
    assert_ne!(id(), id());
}

proptest! {
    #[test]
    fn no_document_breaks_it(text in "(_format_version: \"3.0\"\n)?((services|routes|plugins|snis|_info|_config): ?[\\[{]?(name|host|[a-c0-9]|[:,\\[{}\\] \n\"-]){0,20}\n){0,4}") {
        let _ = read(&text);
    }
}
