//! Edits of bodies with named fields.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::body::{Form, Parsed, Part};
use crate::transform::arguments::Arguments;
use crate::transform::edits::Rendered;
use crate::transform::members::{append, is_true, rename};

/// The kind of body that a `Content-Type` has somewhere in it (Kong 3.11).
pub(super) fn form_within(content_type: &str) -> Option<Form> {
    let lower = content_type.to_ascii_lowercase();
    ["application/json", "multipart/form-data", "application/x-www-form-urlencoded"]
        .iter()
        .find_map(|name| lower.find(name))
        .and_then(|at| Form::of(&content_type[at..]))
}

/// The body edited; `None` where it stays byte for byte: nothing was to be done, or it is not of its kind.
pub(super) fn edit(form: Form, bytes: &[u8], edits: &Rendered<'_>) -> Option<Bytes> {
    match form {
        Form::UrlEncoded => {
            let mut arguments = Arguments::read(bytes);
            arguments.edit(edits).then(|| arguments.write().into())
        }
        Form::Json => {
            let mut fields = match serde_json::from_slice(bytes) {
                Ok(Value::Object(fields)) => fields,
                _ if bytes.is_empty() => Map::new(),
                _ => return None,
            };
            edit_json(&mut fields, edits, bytes.is_empty()).then(|| Value::Object(fields).to_string().into())
        }
        Form::Multipart(boundary) => {
            let mut parts = match Parsed::read(Form::Multipart(boundary.clone()), bytes) {
                Some(Parsed::Multipart(_, parts)) => parts,
                _ if bytes.is_empty() => Vec::new(),
                _ => return None,
            };
            edit_parts(&mut parts, edits, bytes.is_empty())
                .then(|| Parsed::Multipart(boundary, parts).write().0)
        }
    }
}

fn text(value: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(value))
}

/// Edits an object; tells whether anything was to be done. An empty body gets only what `add` and `append` give it.
fn edit_json(fields: &mut Map<String, Value>, edits: &Rendered<'_>, was_empty: bool) -> bool {
    let mut edited = false;
    if !was_empty {
        for name in edits.remove {
            fields.shift_remove(&**name);
            edited = true;
        }
        for (old, new) in &edits.rename {
            let new = String::from_utf8_lossy(new);
            if *old != new && is_true(fields.get(*old)) {
                rename(fields, old, &new);
                edited = true;
            }
        }
        for (name, value) in &edits.replace {
            if is_true(fields.get(*name)) {
                fields.insert((*name).to_owned(), text(value));
                edited = true;
            }
        }
    }
    for (name, value) in &edits.add {
        if !is_true(fields.get(*name)) {
            fields.insert((*name).to_owned(), text(value));
            edited = true;
        }
    }
    for (name, value) in &edits.append {
        append(fields, name, text(value));
        edited = true;
    }
    edited
}

/// Edits parts; tells whether anything was to be done. Renaming comes first, and nothing is appended (Kong 3.11).
fn edit_parts(parts: &mut Vec<Part>, edits: &Rendered<'_>, was_empty: bool) -> bool {
    let mut edited = false;
    let set = |parts: &mut Vec<Part>, name: &str, content: Vec<u8>| {
        parts.retain(|part| part.name != name);
        let head =
            format!("Content-Disposition: form-data; name=\"{}\"", name.replace(['"', '\r', '\n'], ""));
        parts.push(Part { name: name.to_owned(), head, content });
    };
    if !was_empty {
        for (old, new) in &edits.rename {
            let new = String::from_utf8_lossy(new);
            if let Some(part) = parts.iter().find(|part| part.name == *old).filter(|_| *old != new) {
                let content = part.content.clone();
                set(parts, &new, content);
                parts.retain(|part| part.name != *old);
                edited = true;
            }
        }
        for name in edits.remove {
            parts.retain(|part| part.name != **name);
            edited = true;
        }
        for (name, value) in &edits.replace {
            if parts.iter().any(|part| part.name == *name) {
                set(parts, name, value.to_vec());
                edited = true;
            }
        }
    }
    for (name, value) in &edits.add {
        if !parts.iter().any(|part| part.name == *name) {
            set(parts, name, value.to_vec());
            edited = true;
        }
    }
    edited
}
