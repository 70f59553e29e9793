//! `response-transformer`: edits the header fields and JSON bodies that clients get.

mod config;
mod json;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tollgate_gateway::{BuildError, Exchange, Phases, Plugin, ResponseFilter, Scope};
use tollgate_http::{Headers, Response};
use tollgate_model::{Map, Value};
use tollgate_telemetry::Level;

pub use self::config::schema;
use self::config::{Remove, Rename, ResponseTransformerConfig, Values};
use self::json::JsonEdits;
use super::pair::{Pairs, pairs};
use crate::read;

/// Largest body that is edited, in bytes; larger ones pass as they are.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// Compiles a configured `response-transformer`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let ResponseTransformerConfig { remove, rename, replace, add, append } = read(config)?;
    let Remove { json: remove_json, headers: remove_headers } = remove;
    let Rename { json: rename_json, headers: rename_headers } = rename;
    let json = JsonEdits::new(&remove_json, &rename_json, [&replace, &add, &append]);
    let values = |values: &Values| pairs(&values.headers);
    Ok(Arc::new(ResponseTransformer {
        headers: HeaderEdits {
            remove: pairs(&remove_headers),
            rename: pairs(&rename_headers),
            replace: values(&replace),
            add: values(&add),
            append: values(&append),
        },
        json: (!json.is_empty()).then(|| Arc::new(json)),
    }))
}

struct ResponseTransformer {
    headers: HeaderEdits,
    json: Option<Arc<JsonEdits>>,
}

impl Plugin for ResponseTransformer {
    fn phases(&self) -> Phases {
        Phases::RESPONSE
    }

    fn response(&self, _: &mut Exchange, response: &mut Response) -> Option<Box<dyn ResponseFilter>> {
        let was_json = is_json(&response.headers);
        self.headers.apply(&mut response.headers);
        let edits = self.json.as_ref()?;
        if was_json {
            response.headers.remove("Content-Length");
        }
        is_json(&response.headers).then(|| {
            Box::new(JsonFilter::Gathering(Arc::clone(edits), BytesMut::new())) as Box<dyn ResponseFilter>
        })
    }
}

/// Whether one of the types of an answer is JSON, by name or by suffix.
fn is_json(headers: &Headers) -> bool {
    let types = headers.get_str("content-type").unwrap_or_default().split(',');
    types.filter_map(|kind| kind.split(';').next()?.trim().split_once('/')).any(|(kind, subtype)| {
        let suffix = subtype.rsplit_once('+').map_or(subtype, |(_, suffix)| suffix);
        kind.eq_ignore_ascii_case("application") && suffix.eq_ignore_ascii_case("json")
    })
}

struct HeaderEdits {
    remove: Pairs,
    rename: Pairs,
    replace: Pairs,
    add: Pairs,
    append: Pairs,
}

impl HeaderEdits {
    /// Edits header fields. Whether a field is there is asked of the answer as it came (Kong 3.11).
    fn apply(&self, headers: &mut Headers) {
        let depends = [&self.rename, &self.replace, &self.add].iter().any(|pairs| !pairs.is_empty());
        let before = if depends { headers.clone() } else { Headers::new() };
        for (name, _) in &self.remove {
            headers.remove(name);
        }
        for (old, new) in self.rename.iter().filter(|(old, new)| before.contains(old) && !new.is_empty()) {
            if old.eq_ignore_ascii_case(new) {
                headers.rename(old, new);
                continue;
            }
            headers.remove(new);
            before.get_all(old).for_each(|value| headers.append(new, value));
            headers.remove(old);
        }
        for (name, value) in
            self.replace.iter().filter(|(name, value)| before.contains(name) && !value.is_empty())
        {
            headers.set(name, value.as_bytes());
        }
        for (name, value) in
            self.add.iter().filter(|(name, value)| !before.contains(name) && !value.is_empty())
        {
            headers.set(name, value.as_bytes());
        }
        for (name, value) in self.append.iter().filter(|(_, value)| !value.is_empty()) {
            headers.append(name, value.as_bytes());
        }
    }
}

/// Gathers a body, and edits it at its end.
enum JsonFilter {
    Gathering(Arc<JsonEdits>, BytesMut),
    /// The body is too large to be edited.
    Passing,
}

impl ResponseFilter for JsonFilter {
    fn chunk(&mut self, _: &mut Exchange, chunk: Bytes) -> Bytes {
        let Self::Gathering(_, gathered) = self else { return chunk };
        if gathered.len() + chunk.len() <= LARGEST_BODY {
            gathered.extend_from_slice(&chunk);
            return Bytes::new();
        }
        let all = [&gathered[..], &chunk].concat().into();
        *self = Self::Passing;
        all
    }

    fn end(&mut self, exchange: &mut Exchange) -> Bytes {
        match std::mem::replace(self, Self::Passing) {
            Self::Gathering(_, gathered) if gathered.is_empty() => Bytes::new(),
            Self::Gathering(edits, gathered) => edits.apply(&gathered).unwrap_or_else(|| {
                let message = "[response-transformer] the body is no JSON object and stays as it is";
                exchange.write_error_log(Level::Warn, &message);
                gathered.freeze()
            }),
            Self::Passing => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_from_other_types() {
        for (kind, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/problem+json", true),
            ("application/problem+json; charset=utf-8", true),
            ("application/x-www-form-urlencoded, application/json", true),
            ("Application/JSON", true),
            ("application/x-www-form-urlencoded", false),
            ("text/json", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let mut headers = Headers::new();
            headers.set("Content-Type", kind);
            assert_eq!(is_json(&headers), expected, "{kind}");
        }
    }
}
