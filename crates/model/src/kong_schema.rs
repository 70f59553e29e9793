//! Schemas in the shape of Kong's `/schemas/…` answers, which decK fills defaults from.

use serde_json::{Map, Value, json};

use crate::Kind;
use crate::plugin::PluginSchema;
use crate::schema::{Branch, Constraint, EntityCheck, Field, FieldType, Record, Shape};

impl Kind {
    /// Body of `GET /schemas/<entity>`.
    pub fn to_kong_schema(self) -> Value {
        let mut answer = self.schema().to_kong_schema();
        if let (Kind::Plugin, Some(fields)) = (self, answer.get_mut("fields").and_then(Value::as_array_mut)) {
            // What `config` is, each plugin's own schema says.
            fields.push(json!({"config": {"type": "record", "abstract": true}}));
        }
        // A Kong that has checked an entity shows the demand that its strings are not empty.
        let fields = answer.get_mut("fields").and_then(Value::as_array_mut);
        for shape in fields.into_iter().flatten().filter_map(Value::as_object_mut).flat_map(Map::values_mut) {
            if let Some(shape) = shape.as_object_mut().filter(|shape| is_string(shape)) {
                shape.entry("len_min").or_insert(json!(1));
            }
        }
        answer
    }
}

fn is_string(shape: &Map<String, Value>) -> bool {
    shape.get("type").and_then(Value::as_str) == Some("string")
}

impl Record {
    /// The record as `/schemas` shows it.
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
            "elements": {"type": "string", "one_of": self.allowed_protocols, "required": true, "len_min": 1}
        }}));
        let mut config = Map::new();
        config.insert("type".into(), "record".into());
        config.insert("required".into(), true.into());
        add_record(&mut config, self.config);
        let old =
            self.config.shorthands.iter().filter_map(|field| deprecated(field, &format!("{}: ", self.name)));
        let old: Vec<Value> = old.collect();
        if !old.is_empty() {
            config.insert("shorthand_fields".into(), old.into());
        }
        list.push(json!({"config": config}));
        json!({"entity_checks": checks(&self.checks), "fields": list})
    }
}

fn fields(fields: &[Field]) -> Value {
    let shown = fields.iter().filter(|field| !field.shape.hidden);
    shown.map(|field| json!({field.name: shape(&field.shape, true)})).collect()
}

fn add_record(out: &mut Map<String, Value>, record: &Record) {
    out.insert("fields".into(), fields(&record.fields));
    if !record.checks.is_empty() {
        let shown = checks(&record.checks);
        if shown.as_array().is_some_and(|list| !list.is_empty()) {
            out.insert("entity_checks".into(), shown);
        }
    }
    let shorthands: Vec<Value> = record.shorthands.iter().filter_map(|field| deprecated(field, "")).collect();
    if !shorthands.is_empty() {
        out.insert("shorthand_fields".into(), shorthands.into());
    }
}

/// A deprecated name, with what took its place; `plugin` stands before the message.
fn deprecated(field: &Field, plugin: &str) -> Option<Value> {
    let heir = field.replaced_by?;
    let mut value = shape(&field.shape, false);
    let (message, removal) = match &field.shape.deprecation {
        Some(deprecation) => (deprecation.message.to_owned(), deprecation.removal_in_version),
        None => {
            (format!("{plugin}config.{} is deprecated, please use config.{heir} instead", field.name), "4.0")
        }
    };
    value.as_object_mut()?.insert(
        "deprecation".into(),
        json!({
            "message": message,
            "removal_in_version": removal,
            "replaced_with": [{"path": heir.split('.').collect::<Vec<_>>()}]
        }),
    );
    Some(json!({field.name: value}))
}

/// `named`: a field, with its description; elements are shown without.
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
        FieldType::Record(record) => add_record(&mut out, record),
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
    } else if shape.optional || named && matches!(shape.kind, FieldType::Record(_)) {
        // Records are required unless it is said that they are not.
        out.insert("required".into(), false.into());
    }
    for (name, set) in [
        ("auto", shape.auto),
        ("unique", shape.unique),
        ("referenceable", shape.referenceable),
        ("encrypted", shape.encrypted),
        ("transient", shape.transient),
    ] {
        if set {
            out.insert(name.into(), true.into());
        }
    }
    if let Some(default) = &shape.default {
        out.insert("default".into(), default.clone());
    }
    if let Some(error) = shape.error {
        out.insert("err".into(), error.into());
    }
    if let Some(deprecation) = &shape.deprecation {
        let shown = json!({
            "message": deprecation.message, "removal_in_version": deprecation.removal_in_version
        });
        out.insert("deprecation".into(), shown);
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
        Constraint::Match { pattern, negated: true, error: Some(error), .. } => {
            ("match_none", json!([{"pattern": pattern, "err": error}]))
        }
        Constraint::Match { pattern, negated: true, .. } => ("not_match", json!(pattern)),
        Constraint::Match { pattern, error: Some(error), .. } => {
            ("match_all", json!([{"pattern": pattern, "err": error}]))
        }
        Constraint::Match { pattern, .. } => ("match", json!(pattern)),
        Constraint::MatchAny { patterns, error, .. } => {
            ("match_any", json!({"patterns": patterns, "err": error}))
        }
        Constraint::Contains(value) => ("contains", value.clone()),
        Constraint::Elements(inner) => {
            let mut elements = Map::from_iter([("type".to_owned(), json!("string"))]);
            add_constraint(&mut elements, inner);
            ("elements", Value::Object(elements))
        }
        Constraint::ExclusiveSubsets(subsets) => ("mutually_exclusive_subsets", json!(subsets)),
        Constraint::Regex => ("is_regex", json!(true)),
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
            EntityCheck::MutuallyExclusiveSets(first, second) => {
                json!({"mutually_exclusive_sets": {"set1": first, "set2": second}})
            }
            EntityCheck::Distinct(names) => json!({"distinct": names}),
            EntityCheck::Conditional { if_field, if_match, then_field, then_match, then_error } => {
                let mut conditional = json!({
                    "if_field": if_field, "if_match": condition(if_match), "then_field": then_field,
                    "then_match": condition(then_match)
                });
                if let (Some(error), Some(object)) = (then_error, conditional.as_object_mut()) {
                    object.insert("then_err".into(), (*error).into());
                }
                json!({"conditional": conditional})
            }
            EntityCheck::ConditionalAtLeastOneOf { if_field, branches } => {
                json!({"conditional_at_least_one_of": branched(if_field, branches)})
            }
            EntityCheck::CustomOn { fields, run_with_missing_fields, .. } => {
                let mut shown = json!({"field_sources": fields});
                if let (true, Some(object)) = (*run_with_missing_fields, shown.as_object_mut()) {
                    object.insert("run_with_missing_fields".into(), true.into());
                }
                json!({"custom_entity_check": shown})
            }
            EntityCheck::Custom(..) => continue,
        });
    }
    Value::Array(list)
}

fn condition(constraint: &Constraint) -> Value {
    let mut shown = Map::new();
    add_constraint(&mut shown, constraint);
    Value::Object(shown)
}

fn branched(if_field: &str, branches: &[Branch]) -> Value {
    let mut shown = Map::from_iter([("if_field".to_owned(), json!(if_field))]);
    let names = [
        ("if_match", "then_at_least_one_of", "then_err"),
        ("else_match", "else_then_at_least_one_of", "else_then_err"),
    ];
    for (branch, (matches, list, error)) in branches.iter().zip(names) {
        shown.insert(matches.into(), condition(&branch.matches));
        shown.insert(list.into(), json!(branch.at_least_one_of));
        if let Some(text) = branch.error {
            shown.insert(error.into(), text.into());
        }
    }
    Value::Object(shown)
}
