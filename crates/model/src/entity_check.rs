//! Checks over several fields of an object.

use serde_json::{Map, Value};

use crate::FieldErrors;
use crate::check::Mode;
use crate::constraint::quoted;
use crate::fill::at;
use crate::schema::{Branch, Constraint, EntityCheck, Shape};

/// Finds the shape of a field by its dotted path.
pub(crate) type Shapes<'a> = &'a dyn Fn(&str) -> Option<&'a Shape>;

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    }
}

/// Runs a check over a filled object; `errors` holds what is wrong with its fields.
pub(crate) fn run_check(
    check: &EntityCheck,
    shapes: Shapes<'_>,
    fields: &Map<String, Value>,
    mode: Mode,
    errors: &mut FieldErrors,
) {
    let reference = |name: &str| shapes(name).is_some_and(|shape| shape.is_reference(at(fields, name)));
    let wrong =
        |errors: &FieldErrors, names: &[&str]| names.iter().any(|name| errors.fields().contains_key(*name));
    let set = |names: &[&'static str]| names.iter().filter(|name| is_set(at(fields, name))).count();
    match check {
        // A check of which a field is a reference cannot be run here.
        EntityCheck::AtLeastOneOf(names)
        | EntityCheck::OnlyOneOf(names)
        | EntityCheck::MutuallyRequired(names)
        | EntityCheck::MutuallyExclusive(names)
        | EntityCheck::Distinct(names)
            if names.iter().any(|name| reference(name)) => {}
        EntityCheck::AtLeastOneOf(names) if set(names) == 0 => {
            let when = if mode == Mode::Update { "when updating, " } else { "" };
            let list = quoted(names);
            errors.add_entity(format!("{when}at least one of these fields must be non-empty: {list}"));
        }
        EntityCheck::OnlyOneOf(names) if set(names) != 1 => {
            errors.add_entity(format!("exactly one of these fields must be non-empty: {}", quoted(names)));
        }
        EntityCheck::MutuallyRequired(names)
            if set(names) != 0 && set(names) != names.len() && !wrong(errors, names) =>
        {
            errors.add_entity(format!("all or none of these fields must be set: {}", quoted(names)));
        }
        EntityCheck::MutuallyExclusive(names) if set(names) > 1 && !wrong(errors, names) => {
            errors.add_entity(format!("only one or none of these fields must be set: {}", quoted(names)));
        }
        EntityCheck::MutuallyExclusiveSets(first, second) if set(first) > 0 && set(second) > 0 => {
            let used = |names: &[&'static str]| {
                let used: Vec<&str> = names.iter().copied().filter(|name| is_set(at(fields, name))).collect();
                quoted(&used)
            };
            errors.add_entity(format!(
                "these sets are mutually exclusive: ({}), ({})",
                used(first),
                used(second)
            ));
        }
        EntityCheck::Distinct(names) => {
            let values: Vec<_> =
                names.iter().map(|name| at(fields, name)).filter(|value| is_set(value)).collect();
            let repeated = values.iter().enumerate().any(|(index, value)| values[..index].contains(value));
            if repeated {
                errors.add_entity(format!("values of these fields must be distinct: {}", quoted(names)));
            }
        }
        EntityCheck::Conditional { if_field, if_match, then_field, then_match, then_error } => {
            if !holds(shapes, fields, if_field, if_match) || reference(if_field) || reference(then_field) {
                return;
            }
            let value = at(fields, then_field);
            let general = || format!("failed conditional validation given value of field '{if_field}'");
            if matches!(**then_match, Constraint::Required) && value.is_null() {
                errors.put_at(then_field, "required field missing");
                errors.add_entity(general());
                return;
            }
            let outcome = match shapes(then_field) {
                Some(shape) => shape.satisfies(then_match, value),
                None => then_match.check(value),
            };
            if let Err(message) = outcome {
                errors.put_at(then_field, &message);
                errors.add_entity(then_error.map_or_else(general, |text| text.replace("%s", if_field)));
            }
        }
        EntityCheck::ConditionalAtLeastOneOf { if_field, branches } => {
            let Some(branch) =
                branches.iter().find(|branch| holds(shapes, fields, if_field, &branch.matches))
            else {
                return;
            };
            at_least_one(branch, fields, mode, errors);
        }
        EntityCheck::CustomOn { fields: names, check, .. }
            if !wrong(errors, names) && !names.iter().any(|name| reference(name)) =>
        {
            if let Err(message) = check(fields) {
                errors.add_entity(message);
            }
        }
        EntityCheck::Custom(_, check) => {
            if let Err(more) = check(fields) {
                errors.merge(more);
            }
        }
        _ => {}
    }
}

fn holds(shapes: Shapes<'_>, fields: &Map<String, Value>, path: &str, condition: &Constraint) -> bool {
    let value = at(fields, path);
    match shapes(path) {
        Some(shape) => shape.satisfies(condition, value).is_ok(),
        None => condition.check(value).is_ok(),
    }
}

fn at_least_one(branch: &Branch, fields: &Map<String, Value>, mode: Mode, errors: &mut FieldErrors) {
    if branch.at_least_one_of.iter().any(|name| is_set(at(fields, name))) {
        return;
    }
    let list = quoted(&branch.at_least_one_of);
    errors.add_entity(match branch.error {
        Some(text) => text.replace("%s", &list),
        None => {
            let when = if mode == Mode::Update { "when updating, " } else { "" };
            format!("{when}at least one of these fields must be non-empty: {list}")
        }
    });
}
