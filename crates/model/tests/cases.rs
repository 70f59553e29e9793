//! Every row of `cases/`: an entity, and what is wrong with it or what it is filled to. A row is
//! `{"input": …}` with `errors` (the whole tree) and `message`, or `filled` (the fields named); `patch` are
//! changes to the entity that the input makes; `entity` is the file's name where it is not given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use common::{Fixed, Plugins, certificates};
use proptest::prelude::*;
use tollgate_model::{Kind, Map, Mode, Value, check_entity, json, merge_entity};

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn run(kind: Kind, row: &Value) -> Result<Map<String, Value>, tollgate_model::FieldErrors> {
    let (plugins, source) = (Plugins::default(), Fixed::default());
    let made = check_entity(kind, object(&row["input"]), None, &plugins, &source)?;
    match row.get("patch") {
        Some(changes) => merge_entity(kind, object(changes), &made, &plugins, &source),
        None => Ok(made),
    }
}

/// What differs from the row, if anything does.
fn difference(kind: Kind, row: &Value) -> Option<String> {
    match (run(kind, row), row.get("errors")) {
        (Ok(filled), Some(expected)) => Some(format!("expected {expected}, was filled to {}", json!(filled))),
        (Err(errors), None) => Some(format!("unexpected {}", errors.into_value())),
        (Err(errors), Some(expected)) => {
            let message = errors.summary();
            let found = errors.into_value();
            if found != *expected {
                return Some(format!("expected {expected}, found {found}"));
            }
            let wanted = row.get("message").and_then(Value::as_str).unwrap_or(&message);
            (wanted != message).then(|| format!("expected the message\n{wanted}\nfound\n{message}"))
        }
        (Ok(filled), None) => object(&row["filled"]).into_iter().find_map(|(name, value)| {
            let found = filled.get(&name);
            (found != Some(&value)).then(|| format!("{name}: expected {value}, found {found:?}"))
        }),
    }
}

#[test]
fn rows() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
    let (mut count, mut wrong) = (0, Vec::new());
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = certificates(&std::fs::read_to_string(&path).unwrap());
        for (index, line) in text.lines().enumerate() {
            let row: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(row.get("errors").is_some() != row.get("filled").is_some(), "{line}");
            let entity = row.get("entity").and_then(Value::as_str).unwrap_or(&name);
            let kind = Kind::from_plural(entity).unwrap();
            if let Some(difference) = difference(kind, &row) {
                wrong.push(format!("{name}:{}: {line}\n    {difference}", index + 1));
            }
            count += 1;
        }
    }
    assert!(count >= 200, "only {count} rows were found");
    assert!(wrong.is_empty(), "{} of {count} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// What was filled is accepted as it is: an entity written back changes nothing.
#[test]
fn filled_entities_stay_as_they_are() {
    let text = include_str!("../cases/plugins.jsonl");
    for row in text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let Ok(filled) = run(Kind::Plugin, &row) else { continue };
        let again = run(Kind::Plugin, &json!({"input": filled.clone()}));
        assert_eq!(again, Ok(filled));
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "name",
        "host",
        "url",
        "protocols",
        "config",
        "tags",
        "id",
        "service",
        "paths",
        "hosts",
        "hash_on",
        "algorithm",
        "healthchecks",
        "active",
        "cert",
        "key",
        "target",
        "headers",
        "sources",
        "ip",
        "snis",
        "redis",
        "redis_host",
        "http",
        "grpc",
        "tcp",
        "auth",
        "limit",
        "/a%",
        "a:1",
        "[::1",
        "%",
        "*.",
        "",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.clone().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((words.clone(), inner), 0..6)
                .prop_map(|pairs| pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_breaks_the_check(value in any_json(), changes in any_json()) {
        for kind in Kind::ALL {
            let mut input = object(&value);
            if kind == Kind::Plugin {
                input.insert("name".into(), "limit".into());
            }
            if let Err(errors) = run(kind, &json!({"input": input, "patch": object(&changes)})) {
                prop_assert!(errors.summary().contains("schema violation"));
            }
        }
    }
    #[test]
    fn what_is_filled_stays_as_it_is(value in any_json()) {
        for kind in Kind::ALL {
            let check = |input| kind.schema().check(input, Mode::Update);
            if let Ok(filled) = check(object(&value)) {
                prop_assert_eq!(check(filled.clone()), Ok(filled));
            }
        }
    }
}
