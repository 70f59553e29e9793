//! What `/schemas/…` answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::Plugins;
use tollgate_model::{Kind, Map, PluginSchemas, Value, json};

/// A schema without descriptions, which are each product's own words.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, _)| name != "description")
            .map(|(name, value)| (name, bare(value)))
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.into_iter().map(bare).collect(),
        other => other,
    }
}

/// A field of an entity's schema.
fn field(kind: Kind, name: &str) -> Value {
    let schema = bare(kind.to_kong_schema());
    let fields = schema["fields"].as_array().unwrap();
    fields.iter().find_map(|field| field.get(name)).cloned().unwrap_or_default()
}

#[test]
fn services_are_as_recorded_of_kong() {
    let recorded: Value = serde_json::from_str(include_str!("services.schema.json")).unwrap();
    let ours = bare(Kind::Service.to_kong_schema());
    assert_eq!(ours["entity_checks"], recorded["entity_checks"]);
    let (ours, recorded) = (ours["fields"].as_array().unwrap(), recorded["fields"].as_array().unwrap());
    for (ours, recorded) in ours.iter().zip(recorded) {
        assert_eq!(ours, recorded);
    }
    assert_eq!(ours.len(), recorded.len());
}

#[test]
fn fields_are_described_as_kong_does() {
    let protocols = json!({
        "type": "set", "required": true, "len_min": 1, "default": ["http", "https"],
        "elements": {
            "type": "string",
            "one_of": ["grpc", "grpcs", "http", "https", "tcp", "tls", "tls_passthrough", "udp"]
        },
        "mutually_exclusive_subsets":
            [["http", "https"], ["tcp", "tls", "udp"], ["tls_passthrough"], ["grpc", "grpcs"]]
    });
    assert_eq!(field(Kind::Route, "protocols"), protocols);
    let paths = json!({"type": "array", "elements": {
        "type": "string",
        "match_none": [{"pattern": "//", "err": "must not have empty segments"}],
        "match_any": {
            "patterns": ["^/", "^~/"], "err": "should start with: / (fixed path) or ~/ (regex path)"
        }
    }});
    assert_eq!(field(Kind::Route, "paths"), paths);
    let headers = json!({
        "type": "map",
        "keys": {"type": "string", "match_none": [{
            "pattern": "^[Hh][Oo][Ss][Tt]$",
            "err": "cannot contain 'host' header, which must be specified in the 'hosts' attribute"
        }]},
        "values": {"type": "array", "elements": {"type": "string"}}
    });
    assert_eq!(field(Kind::Route, "headers"), headers);
    let sources = json!({"type": "set", "elements": {
        "type": "record", "entity_checks": [{"at_least_one_of": ["ip", "port"]}],
        "fields": [{"ip": {"type": "string"}}, {"port": {"type": "integer", "between": [0, 65535]}}]
    }});
    assert_eq!(field(Kind::Route, "sources"), sources);
    assert_eq!(
        field(Kind::Plugin, "route"),
        json!({"type": "foreign", "reference": "routes", "default": null})
    );
    assert_eq!(field(Kind::Plugin, "config"), json!({"type": "record", "abstract": true}));
    assert_eq!(
        field(Kind::Certificate, "snis"),
        json!({"type": "array", "required": false, "transient": true, "elements": {"type": "string"}})
    );
    assert_eq!(
        field(Kind::KeyAuthCredential, "key"),
        json!({"type": "string", "required": false, "unique": true, "auto": true, "len_min": 1})
    );
    assert_eq!(field(Kind::KeyAuthCredential, "ttl"), Value::Null);
    let checks = field(Kind::Upstream, "healthchecks");
    assert_eq!(checks["required"], true);
    assert_eq!(checks["default"]["active"]["healthy"]["http_statuses"], json!([200, 302]));
    assert_eq!(checks["default"].get("threshold"), None);
    let upstream = Kind::Upstream.to_kong_schema();
    assert_eq!(
        upstream["entity_checks"][0],
        json!({"conditional": {
            "if_field": "hash_on", "if_match": {"match": "^header$"},
            "then_field": "hash_on_header", "then_match": {"required": true}
        }})
    );
    let route = Kind::Route.to_kong_schema();
    assert_eq!(
        route["entity_checks"][0]["conditional"]["if_match"],
        json!({"elements": {"type": "string", "not_one_of": ["grpcs", "https", "tls", "tls_passthrough"]}})
    );
}

#[test]
fn plugins_show_their_scope_their_checks_and_their_old_names() {
    let plugins = Plugins::default();
    let shown = |name: &str| bare(plugins.get(name).unwrap().to_kong_schema());
    let auth = shown("auth");
    assert_eq!(
        auth["fields"][0],
        json!({"consumer": {"type": "foreign", "reference": "consumers", "eq": null}})
    );
    assert_eq!(auth["fields"][1]["protocols"]["default"], json!(["grpc", "grpcs", "http", "https"]));
    let names = json!({"names": {
        "type": "array", "required": true, "default": ["apikey"], "elements": {"type": "string"}
    }});
    assert_eq!(auth["fields"][2]["config"]["fields"][0], names);
    let limit = shown("limit");
    assert_eq!(limit["entity_checks"][0], json!({"at_least_one_of": ["config.second", "config.minute"]}));
    let config = &limit["fields"][1]["config"];
    let old = json!({"redis_host": {"type": "string", "deprecation": {
        "message": "limit: config.redis_host is deprecated, please use config.redis.host instead",
        "removal_in_version": "4.0", "replaced_with": [{"path": ["redis", "host"]}]
    }}});
    assert_eq!(config["shorthand_fields"][0], old);
    assert_eq!(config["fields"][4]["extra"]["required"], false);
    let fields = shown("shown")["fields"][1]["config"]["fields"].clone();
    assert_eq!(
        fields[0]["old"]["deprecation"],
        json!({"message": "old: use new", "removal_in_version": "4.0"})
    );
    assert_eq!(fields[1]["secret"], json!({"type": "string", "required": false, "encrypted": true}));
}
