//! Schemas in the shape of Kong's `/schemas/…` answers, which decK fills defaults from.

use serde_json::{Map, Value, json};

use crate::plugin::PluginSchema;
use crate::schema::{Constraint, EntityCheck, Field, FieldType, Record, Shape};

impl Record {
    /// Body of `GET /schemas/<entity>`.
    pub fn to_kong_schema(&self) -> Value {
        json!({"entity_checks": checks(&self.checks), "fields": fields(&self.fields)})
    }
}

impl PluginSchema {
    /// Body of `GET /schemas/plugins/<name>`.
    pub fn to_kong_schema(&self) -> Value {
        let mut list = Vec::new();
        for (name, allowed, reference) in [
            ("consumer", self.consumer, "consumers"),
            ("service", self.service, "services"),
            ("route", self.route, "routes"),
        ] {
            if !allowed {
                list.push(json!({name: {"type": "foreign", "reference": reference, "eq": null}}));
            }
        }
        list.push(json!({"protocols": {
            "type": "set", "required": true, "default": self.protocols,
            "elements": {"type": "string", "one_of": self.allowed_protocols, "required": true}
        }}));
        let mut config = Map::new();
        config.insert("type".into(), "record".into());
        config.insert("required".into(), true.into());
        config.insert("fields".into(), fields(&self.config.fields));
        add_checks(&mut config, &self.config.checks);
        let deprecated: Vec<Value> =
            self.config.shorthands.iter().filter_map(|field| self.deprecated(field)).collect();
        if !deprecated.is_empty() {
            config.insert("shorthand_fields".into(), deprecated.into());
        }
        list.push(json!({"config": config}));
        json!({"entity_checks": checks(&self.checks), "fields": list})
    }

    /// A deprecated field of `config`, and which took its place.
    fn deprecated(&self, field: &Field) -> Option<Value> {
        let heir = field.replaced_by?;
        let message =
            format!("{}: config.{} is deprecated, please use config.{heir} instead", self.name, field.name);
        let mut value = shape(&field.shape, false);
        value.as_object_mut()?.insert(
            "deprecation".into(),
            json!({
                "message": message,
                "removal_in_version": "4.0",
                "replaced_with": [{"path": heir.split('.').collect::<Vec<_>>()}]
            }),
        );
        Some(json!({field.name: value}))
    }
}

fn add_checks(out: &mut Map<String, Value>, list: &[EntityCheck]) {
    let shown = checks(list);
    if shown.as_array().is_some_and(|list| !list.is_empty()) {
        out.insert("entity_checks".into(), shown);
    }
}

fn fields(fields: &[Field]) -> Value {
    fields.iter().map(|field| json!({field.name: shape(&field.shape, true)})).collect()
}

/// `named`: a field, whose being required is shown; elements show it only where it is a demand.
fn shape(shape: &Shape, named: bool) -> Value {
    let mut out = Map::new();
    let kind = match &shape.kind {
        FieldType::String => "string",
        FieldType::Integer => "integer",
        FieldType::Number => "number",
        FieldType::Boolean => "boolean",
        FieldType::Array(_) => "array",
        FieldType::Set(_) => "set",
        FieldType::Map { .. } => "map",
        FieldType::Record(_) => "record",
        FieldType::Foreign(_) => "foreign",
        FieldType::Json => "json",
    };
    out.insert("type".into(), kind.into());
    match &shape.kind {
        FieldType::Array(element) | FieldType::Set(element) => {
            out.insert("elements".into(), self::shape(element, false));
        }
        FieldType::Map { keys, values } => {
            out.insert("keys".into(), self::shape(keys, false));
            out.insert("values".into(), self::shape(values, false));
        }
        FieldType::Record(record) => {
            out.insert("fields".into(), fields(&record.fields));
            add_checks(&mut out, &record.checks);
        }
        FieldType::Foreign(kind) => {
            out.insert("reference".into(), kind.plural().into());
        }
        _ => {}
    }
    if !shape.description.is_empty() && named {
        out.insert("description".into(), shape.description.into());
    }
    if shape.required && !shape.auto {
        out.insert("required".into(), true.into());
    }
    for (name, set) in [
        ("auto", shape.auto),
        ("unique", shape.unique),
        ("referenceable", shape.referenceable),
        ("encrypted", shape.encrypted),
    ] {
        if set {
            out.insert(name.into(), true.into());
        }
    }
    if let Some(default) = &shape.default {
        out.insert("default".into(), default.clone());
    }
    for constraint in &shape.constraints {
        add_constraint(&mut out, constraint);
    }
    Value::Object(out)
}

fn number(value: f64) -> Value {
    if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) }
}

fn add_constraint(out: &mut Map<String, Value>, constraint: &Constraint) {
    let (name, value) = match constraint {
        Constraint::Eq(value) => ("eq", value.clone()),
        Constraint::Ne(value) => ("ne", value.clone()),
        Constraint::Required => ("required", json!(true)),
        Constraint::Gt(bound) => ("gt", number(*bound)),
        Constraint::Between(low, high) => ("between", json!([number(*low), number(*high)])),
        Constraint::OneOf(values) => ("one_of", Value::Array(values.clone())),
        Constraint::NotOneOf(values) => ("not_one_of", Value::Array(values.clone())),
        Constraint::LenMin(count) => ("len_min", json!(count)),
        Constraint::LenMax(count) => ("len_max", json!(count)),
        Constraint::LenEq(count) => ("len_eq", json!(count)),
        Constraint::StartsWith(prefix) => ("starts_with", json!(prefix)),
        Constraint::Match { pattern, negated: true, .. } => ("not_match", json!(pattern)),
        Constraint::Match { pattern, error: Some(error), .. } => {
            ("match_all", json!([{"pattern": pattern, "err": error}]))
        }
        Constraint::Match { pattern, .. } => ("match", json!(pattern)),
        Constraint::Uuid => ("uuid", json!(true)),
        Constraint::Timestamp => ("timestamp", json!(true)),
        Constraint::Custom(..) => return,
    };
    out.insert(name.into(), value);
}

fn checks(checks: &[EntityCheck]) -> Value {
    let mut list = Vec::new();
    for check in checks {
        list.push(match check {
            EntityCheck::AtLeastOneOf(names) => json!({"at_least_one_of": names}),
            EntityCheck::OnlyOneOf(names) => json!({"only_one_of": names}),
            EntityCheck::MutuallyRequired(names) => json!({"mutually_required": names}),
            EntityCheck::MutuallyExclusive(names) => json!({"mutually_exclusive": names}),
            EntityCheck::Distinct(names) => json!({"distinct": names}),
            EntityCheck::Conditional { if_field, if_match, then_field, then_match, then_error } => {
                let (mut if_map, mut then_map) = (Map::new(), Map::new());
                add_constraint(&mut if_map, if_match);
                add_constraint(&mut then_map, then_match);
                let mut conditional = json!({"if_field": if_field, "if_match": if_map, "then_field": then_field, "then_match": then_map});
                if let (Some(error), Some(object)) = (then_error, conditional.as_object_mut()) {
                    object.insert("then_err".into(), (*error).into());
                }
                json!({"conditional": conditional})
            }
            EntityCheck::Custom(..) => continue,
        });
    }
    Value::Array(list)
}
