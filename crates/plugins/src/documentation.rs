//! The page about the plugins, made of their schemas.

use std::fmt::Write;

use serde_json::Value;
use tollgate_model::schema::{Constraint, Field, FieldType, Record, Shape};
use tollgate_model::{PluginSchema, PluginSchemas};

use crate::Registry;

/// `docs/plugins.md`
pub fn documentation() -> String {
    let mut page = String::from(
        "<!-- Written by `tollgate config plugins`; change the plugins' modules in crates/plugins/src instead. -->\n\
         # Plugins\n\n\
         A plugin is put on everything, a service, a route, a consumer or a group of consumers; where several of one name meet, the closest to \
         the request counts. Higher priority runs earlier. Fields are those of `config`; what is marked *required* must be \
         given, everything else may be left out. `a.b` is the field `b` of the record `a`, `a[].b` that of each element \
         of the list `a`.\n",
    );
    let registry = Registry::bundled();
    for plugin in registry.all() {
        section(&mut page, plugin);
    }
    page
}

fn section(page: &mut String, plugin: &PluginSchema) {
    let places = [
        ("service", plugin.service),
        ("route", plugin.route),
        ("consumer", plugin.consumer),
        ("consumer group", plugin.consumer_group),
    ];
    let places: Vec<&str> = places.iter().filter(|(_, allowed)| *allowed).map(|(name, _)| *name).collect();
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "\n## {}\n\n{}\n\nPriority {}. For everything, or for one {}. Protocols: {}.\n\n\
         | field | type | default | what it does |\n| --- | --- | --- | --- |\n",
        plugin.name,
        plugin.about,
        plugin.priority,
        places.join(" or "),
        plugin.allowed_protocols.join(", "),
    );
    rows(page, "", plugin.config);
}

fn rows(page: &mut String, path: &str, record: &Record) {
    for field in record.fields.iter().filter(|field| !field.shape.hidden) {
        let path = format!("{path}{}", field.name);
        row(page, &path, field);
        parts(page, &path, &field.shape);
    }
}

/// The fields of records inside a value.
fn parts(page: &mut String, path: &str, shape: &Shape) {
    match &shape.kind {
        FieldType::Record(record) => rows(page, &format!("{path}."), record),
        FieldType::Array(element) | FieldType::Set(element) => parts(page, &format!("{path}[]"), element),
        FieldType::Map { values, .. } => parts(page, &format!("{path}.*"), values),
        _ => {}
    }
}

fn row(page: &mut String, path: &str, field: &Field) {
    let shape = &field.shape;
    let default = match &shape.default {
        // Its fields have defaults of their own.
        _ if matches!(shape.kind, FieldType::Record(_)) => String::new(),
        Some(value) => format!("`{value}`"),
        None if shape.required => "*required*".to_owned(),
        None => String::new(),
    };
    let mut about = shape.description.trim().to_owned();
    let element = match &shape.kind {
        FieldType::Array(element) | FieldType::Set(element) => Some(&**element),
        _ => None,
    };
    for constraint in shape.constraints.iter().chain(element.into_iter().flat_map(|shape| &shape.constraints))
    {
        if let Some(limit) = limit(constraint) {
            about.push_str(&limit);
        }
    }
    if shape.encrypted || element.is_some_and(|shape| shape.encrypted) {
        about.push_str(" A secret: never logged.");
    }
    if let Some(deprecation) = &shape.deprecation {
        let _ = write!(about, " Deprecated: {}.", deprecation.message.trim_end_matches('.'));
    }
    let cells = [format!("`{path}`"), kind(shape), default, about.trim().to_owned()];
    let cells = cells.map(|cell| cell.replace('|', "\\|").replace('\n', " "));
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

fn kind(shape: &Shape) -> String {
    match &shape.kind {
        FieldType::String => "string".to_owned(),
        FieldType::Integer => "integer".to_owned(),
        FieldType::Number => "number".to_owned(),
        FieldType::Boolean => "boolean".to_owned(),
        FieldType::Array(element) => format!("list of {}", plural(element)),
        FieldType::Set(element) => format!("set of {}", plural(element)),
        FieldType::Map { values, .. } => format!("map to {}", plural(values)),
        FieldType::Record(_) => "record".to_owned(),
        FieldType::Foreign(other) => format!("reference to {}", other.plural()),
        FieldType::Json => "any JSON".to_owned(),
    }
}

fn plural(shape: &Shape) -> String {
    match &shape.kind {
        FieldType::Array(_) | FieldType::Set(_) | FieldType::Map { .. } => kind(shape),
        FieldType::Json => "any JSON".to_owned(),
        _ => format!("{}s", kind(shape)),
    }
}

/// What a reader must know of a check; `None` for those that the type's own words tell.
fn limit(constraint: &Constraint) -> Option<String> {
    let list = |values: &[Value]| {
        let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
        values.join(", ")
    };
    Some(match constraint {
        Constraint::OneOf(values) => format!(" One of {}.", list(values)),
        Constraint::NotOneOf(values) => format!(" None of {}.", list(values)),
        Constraint::Between(low, high) => format!(" From {low} to {high}."),
        Constraint::Gt(bound) => format!(" Greater than {bound}."),
        Constraint::LenMin(count) if *count > 1 => format!(" At least {count} long."),
        Constraint::LenMax(count) => format!(" At most {count} long."),
        Constraint::LenEq(count) => format!(" {count} long."),
        Constraint::StartsWith(start) => format!(" Starts with `{start}`."),
        Constraint::Uuid => " A UUID.".to_owned(),
        Constraint::Regex => " A regular expression.".to_owned(),
        Constraint::Eq(value) => format!(" Only `{value}`."),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_up_to_date() {
        let page = include_str!("../../../docs/plugins.md");
        assert!(page == documentation(), "run: cargo run -p tollgate -- config plugins > docs/plugins.md");
    }

    #[test]
    fn every_plugin_and_field_says_what_it_does() {
        fn silent(path: &str, record: &Record, out: &mut Vec<String>) {
            for field in record.fields.iter().filter(|field| !field.shape.hidden) {
                let path = format!("{path}.{}", field.name);
                match &field.shape.kind {
                    FieldType::Record(inner) => silent(&path, inner, out),
                    _ if field.shape.description.is_empty() => out.push(path),
                    _ => {}
                }
            }
        }
        let mut out = Vec::new();
        let registry = Registry::bundled();
        for plugin in registry.all() {
            if plugin.about.is_empty() {
                out.push(plugin.name.to_owned());
            }
            silent(plugin.name, plugin.config, &mut out);
        }
        assert!(out.is_empty(), "without a word: {out:?}");
    }
}
