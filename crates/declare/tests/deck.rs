//! decK files (`cases/deck.json`): what they declare, or what is wrong with them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

use serde_json::{Value, json};
use tollgate_declare::{Declaration, Dialect};

fn variable(name: &str) -> Option<String> {
    match name {
        "DECK_NAME" => Some("s".to_owned()),
        "DECK_PORT" => Some("80".to_owned()),
        _ => None,
    }
}

/// What is wrong with the files of a case, and what they declare.
fn read(case: &Value) -> (Vec<String>, Declaration) {
    let (mut problems, mut declaration) = (Vec::new(), Declaration::default());
    for (place, file) in case["files"].as_array().unwrap().iter().enumerate() {
        let (name, text) = (format!("f{place}.yaml"), file.as_str().unwrap());
        if let Err(more) = declaration.add(&name, text, Dialect::Deck, &variable) {
            problems.extend(more.iter().map(ToString::to_string));
        }
    }
    (problems, declaration)
}

#[test]
fn cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../cases/deck.json")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let (problems, declaration) = read(case);
        let expected = case.get("problems").cloned().unwrap_or_else(|| json!([]));
        let mut compare = |name: &str, found: Value| {
            if let Some(expected) = case.get(name)
                && *expected != found
            {
                wrong.push(format!("{}: {name}: {expected} became {found}", case["title"]));
            }
        };
        compare("count", declaration.entities.len().into());
        compare("workspace", json!(declaration.workspace));
        compare("control_plane", json!(declaration.control_plane));
        compare("konnect", declaration.konnect.into());
        compare("select_tags", json!(declaration.select_tags));
        if json!(problems) != expected {
            wrong.push(format!("{}: {expected} became {}", case["title"], json!(problems)));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn nested_entities_know_what_they_stand_in() {
    let text = "services:\n- name: s\n  routes:\n  - name: r\n    plugins:\n    - name: p\n      config:\n        a: 1\n";
    let mut declaration = Declaration::default();
    declaration.add("f.yaml", text, Dialect::Deck, &variable).unwrap();
    let [service, route, plugin] = declaration.entities.as_slice() else { panic!("three entities") };
    assert_eq!((service.parent, route.parent, plugin.parent), (None, Some(0), Some(1)));
    assert_eq!(plugin.path_text(), "services[1].routes[1].plugins[1]");
    assert_eq!(
        plugin.problem("config.a", "no").to_string(),
        "f.yaml:8: services[1].routes[1].plugins[1].config.a: no"
    );
    assert_eq!(plugin.problem("tags", "no").line, 6);
    assert_eq!(Value::Object(service.fields.clone()), json!({"name": "s"}));
}
