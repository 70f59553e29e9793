use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{Declaration, Dialect};

struct Counter(std::cell::Cell<u128>);

impl tollgate_model::Source for Counter {
    fn now(&self) -> f64 {
        1.0
    }

    fn id(&self) -> Uuid {
        self.0.set(self.0.get() + 1);
        Uuid::from_u128(self.0.get())
    }
}

fn planned(text: &str, current: Vec<Existing>, keep: bool) -> Result<Vec<Event>, Vec<String>> {
    let texts = |problems: Vec<crate::Problem>| problems.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut declaration = Declaration::default();
    declaration.add("f.yaml", text, Dialect::Deck, &|_| None).map_err(texts)?;
    let current = Known::new(current);
    let nothing = Known::default();
    let mut schemas = Schemas::default();
    schemas.add_entity(Kind::Service, &Kind::Service.schema().to_kong_schema());
    let source = Counter(std::cell::Cell::new(0));
    let around = Surroundings {
        current: &current,
        referable: if keep { &current } else { &nothing },
        schemas: &schemas,
        source: &source,
    };
    let desired = desired(&declaration, &around).map_err(texts)?;
    Ok(plan(&current, desired, &nothing, &schemas, keep))
}

fn lines(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{:?} {} {}", event.action, printed(event.kind), event.name)).collect()
}

const FILE: &str = "_format_version: \"3.0\"
_info: {select_tags: [llm]}
services:
- name: s
  url: http://h:81/p
  routes:
  - name: r
    paths: [/r]
    plugins:
    - name: key-auth
consumers:
- username: u
  keyauth_credentials:
  - key: \"123456\"
upstreams:
- name: up
  targets:
  - target: 10.0.0.1:80
";

#[test]
fn decks_order_and_names() {
    let events = planned(FILE, Vec::new(), false).unwrap();
    assert_eq!(
        lines(&events),
        [
            "Create consumer u",
            "Create service s",
            "Create upstream up",
            "Create key-auth 23456 for consumer u",
            "Create route r",
            &format!("Create target 10.0.0.1:80 for upstream {}", events[2].id),
            "Create plugin key-auth for route r",
        ]
    );
    let service = &events[1].fields;
    assert_eq!(
        (&service["host"], &service["port"], &service["path"]),
        (&json!("h"), &json!(81), &json!("/p"))
    );
    assert_eq!((&service["retries"], &service["tags"]), (&json!(5), &json!(["llm"])));
    assert!(!service.contains_key("url"));
}

#[test]
fn a_second_plan_is_empty_and_what_is_not_declared_goes() {
    let first = planned(FILE, Vec::new(), false).unwrap();
    let there: Vec<Existing> = first
        .into_iter()
        .map(|event| Existing { kind: event.kind, id: event.id, fields: event.fields })
        .collect();
    assert_eq!(lines(&planned(FILE, there.clone(), false).unwrap()), [""; 0]);
    let gone =
        planned("_format_version: \"3.0\"\n_info: {select_tags: [llm]}\n", there.clone(), false).unwrap();
    assert_eq!(
        gone.iter().map(|event| printed(event.kind)).collect::<Vec<_>>(),
        ["plugin", "route", "target", "service", "upstream", "key-auth", "consumer"]
    );
    let kept = "_format_version: \"3.0\"\nplugins:\n- name: cors\n  service: s\n";
    assert_eq!(lines(&planned(kept, there, true).unwrap()), ["Create plugin cors for service s"]);
}

#[test]
fn a_declared_id_takes_over_a_name() {
    let old = Existing {
        kind: Kind::Service,
        id: "11111111-1111-4111-8111-111111111111".into(),
        fields: json!({"id": "11111111-1111-4111-8111-111111111111", "name": "s", "host": "h"})
            .as_object()
            .unwrap()
            .clone(),
    };
    let text = "_format_version: \"3.0\"\nservices:\n- id: 22222222-2222-4222-8222-222222222222\n  name: s\n  host: h\n";
    let events = planned(text, vec![old], false).unwrap();
    assert_eq!(lines(&events), ["Delete service s", "Create service s"]);
}

#[test]
fn problems_name_file_line_and_field() {
    let wrong =
        |body: &str| planned(&format!("_format_version: \"3.0\"\n{body}"), Vec::new(), false).unwrap_err();
    assert_eq!(
        wrong("plugins:\n- name: cors\n  service: none\n"),
        ["f.yaml:4: plugins[1].service: service none for plugin cors: entity not found"]
    );
    assert_eq!(
        wrong("services:\n- name: a\n  host: h\n- name: a\n  host: h\n"),
        [
            "f.yaml:5: services[2].name: inserting service into state: inserting service a: entity already exists"
        ]
    );
    assert_eq!(
        wrong("services:\n- name: a\n  host: h\n  plugins:\n  - name: cors\n    service: a\n"),
        [
            "f.yaml:7: services[1].plugins[1].service: nesting service (a) under service-scoped plugin (cors) is not allowed"
        ]
    );
    let list = wrong("services:\n- name: a\n  host: h\n  port: x\n  hoost: y\n");
    assert_eq!(list.len(), 2, "{list:?}");
    assert!(list.iter().any(|line| line == "f.yaml:5: services[1].port: expected an integer"), "{list:?}");
    assert!(
        list.iter().any(|line| line == "f.yaml:6: services[1].hoost: unknown field (did you mean 'host'?)"),
        "{list:?}"
    );
    let repeated = wrong("plugins:\n- name: cors\n- name: cors\n");
    assert!(repeated[0].starts_with("f.yaml:4: plugins[2]: inserting plugin into state"), "{repeated:?}");
}

#[test]
fn every_kind_has_its_place_in_the_order() {
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Workspace) {
        let rows: Vec<usize> = (0..ROWS.len()).filter(|row| ROWS[*row].contains(&kind)).collect();
        let [row] = rows[..] else { panic!("{} stands in {} rows", kind.plural(), rows.len()) };
        // What it refers to is made in an earlier row.
        let later = |to: Kind| ROWS[row..].iter().any(|row| row.contains(&to));
        assert!(!kind.foreign_keys().iter().any(|key| later(key.to)), "{}", kind.plural());
    }
}
