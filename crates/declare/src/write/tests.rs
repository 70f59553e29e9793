use serde_json::json;

use super::*;

fn existing(kind: Kind, fields: Value) -> Existing {
    let Value::Object(fields) = fields else { panic!("an object is expected") };
    Existing { kind, id: fields["id"].as_str().unwrap().to_owned(), fields }
}

#[test]
fn nested_where_one_owner_is_there_and_by_name_elsewhere() {
    let entities = vec![
        existing(
            Kind::Service,
            json!({"id": "s", "name": "svc", "host": "h", "path": null, "created_at": 1}),
        ),
        existing(Kind::Route, json!({"id": "r", "name": "rt", "service": {"id": "s"}, "tags": []})),
        existing(Kind::Consumer, json!({"id": "c", "username": "u"})),
        existing(Kind::KeyAuthCredential, json!({"id": "k", "key": "1", "consumer": {"id": "c"}})),
        existing(
            Kind::Plugin,
            json!({"id": "p1", "name": "cors", "route": {"id": "r"}, "config": {"a": null}}),
        ),
        existing(
            Kind::Plugin,
            json!({"id": "p2", "name": "cors", "service": {"id": "s"}, "consumer": {"id": "c"}, "config": {}}),
        ),
        existing(Kind::Route, json!({"id": "lonely", "paths": ["/x"]})),
    ];
    let header =
        Header { control_plane: Some("cp".into()), select_tags: vec!["t".into()], ..Header::default() };
    assert_eq!(
        document(entities, &header, Style::default()),
        json!({
            "_format_version": "3.0",
            "_konnect": {"control_plane_name": "cp"},
            "_info": {"defaults": {}, "select_tags": ["t"]},
            "services": [{"name": "svc", "host": "h", "routes": [
                {"name": "rt", "plugins": [{"name": "cors", "config": {"a": null}}]}
            ]}],
            "routes": [{"id": "lonely", "paths": ["/x"]}],
            "consumers": [{"username": "u", "keyauth_credentials": [{"key": "1"}]}],
            "plugins": [{"name": "cors", "service": "svc", "consumer": "u", "config": {}}],
        })
    );
}
