//! Lists: pages, and the tags they are filtered by.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tollgate_http::StatusCode;
use tollgate_model::{Kind, Value, json};
use tollgate_store::{Page, Stored, TagFilter, Tagged};
use uuid::Uuid;

use crate::answer::{Answer, Failure, escape, not_found, ok};
use crate::endpoint::Above;
use crate::groups::Side;
use crate::{Admin, Call, id_of};

/// Kong leaves the padding out, and takes both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Entities of a page where none are asked for, and at most (Kong 3.11).
const USUAL_PAGE: usize = 100;
pub(crate) const LARGEST_PAGE: usize = 1000;

/// How many entities a page shall have.
pub(crate) fn page_size(call: &Call) -> Result<usize, Failure> {
    let wrong = |message: &str| Failure::coded(StatusCode::BAD_REQUEST, 9, "invalid size", message, None);
    if !call.has_query("size") {
        return Ok(USUAL_PAGE);
    }
    let size = call.query("size").and_then(|text| text.trim().parse::<f64>().ok());
    let size = size.filter(|size| size.is_finite()).ok_or_else(|| wrong("size must be a number"))?;
    if size.fract() == 0.0 && (1.0..=LARGEST_PAGE as f64).contains(&size) {
        return Ok(size as usize);
    }
    Err(wrong(&format!("size must be an integer between 1 and {LARGEST_PAGE}")))
}

/// Where the page starts: what an earlier page said.
fn offset(call: &Call) -> Result<Option<Vec<Value>>, Failure> {
    let Some(text) = call.query("offset") else { return Ok(None) };
    let bytes = BASE64.decode(text).map_err(|_| invalid_offset(text, "bad base64 encoding"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Value::Array(position)) => Ok(Some(position)),
        _ => Err(invalid_offset(text, "bad json encoding")),
    }
}

fn invalid_offset(text: &str, reason: &str) -> Failure {
    let message = format!("'{text}' is not a valid offset: {reason}");
    Failure::coded(StatusCode::BAD_REQUEST, 7, "invalid offset", message, None)
}

fn encode(position: &Value) -> String {
    BASE64.encode(position.to_string())
}

/// The id at which the page starts.
fn offset_id(call: &Call) -> Result<Option<Uuid>, Failure> {
    let Some(position) = offset(call)? else { return Ok(None) };
    match position.first().and_then(Value::as_str).and_then(id_of) {
        Some(id) => Ok(Some(id)),
        None => Err(invalid_offset(call.query("offset").unwrap_or_default(), "bad json encoding")),
    }
}

/// The tags a list is filtered by.
fn tag_filter(call: &Call) -> Result<Option<TagFilter>, Failure> {
    if !call.has_query("tags") {
        return Ok(None);
    }
    match call.query("tags").filter(|text| !text.is_empty()) {
        None => Err(Failure::option("tags", "cannot be null")),
        Some(text) => TagFilter::parse(text).map(Some).map_err(|error| Failure::option("tags", error)),
    }
}

/// The body of a page; `offset` is where the next starts.
fn page(data: Vec<Value>, offset: Option<String>, path: &str, arguments: &str) -> Value {
    match offset {
        None => json!({"data": data, "next": null}),
        Some(offset) => {
            let next = format!("{path}?offset={}{arguments}", escape(&offset));
            json!({"data": data, "next": next, "offset": offset})
        }
    }
}

impl Call {
    /// The path that was called, for a link to the next page.
    fn link(&self) -> String {
        let segments: Vec<String> = self.path.iter().map(|segment| escape(segment).to_string()).collect();
        format!("{}/{}", self.base, segments.join("/"))
    }
}

impl Admin {
    /// A page of a collection, or of what belongs to an entity.
    pub(crate) fn list(&self, call: &Call, kind: Kind, above: Option<Above<'_>>) -> Answer {
        let above = match above {
            Some((key, link)) => Some((link, self.find(call, link.to, key)?.ok_or_else(not_found)?)),
            None => None,
        };
        if kind == Kind::Consumer && above.is_none() && call.has_query("custom_id") {
            return self.consumer_by_custom_id(call);
        }
        let size = page_size(call)?;
        let (found, arguments): (Page, String) = match &above {
            Some((_, upstream)) if kind == Kind::Target => return self.targets(call, upstream, size, Ok),
            // Kong 3.11: tags do not filter what belongs to an entity.
            Some((link, parent)) => {
                let from = offset_id(call)?;
                let read = self
                    .store
                    .read(|view| view.list_referring(kind, link.field, parent.id, None, size, from));
                (read?, String::new())
            }
            None => {
                let has_tags = kind.schema().fields.iter().any(|field| field.name == "tags");
                let tags = if has_tags { tag_filter(call)? } else { None };
                let from = offset_id(call)?;
                let read = self.store.read(|view| view.list(kind, call.workspace, tags.as_ref(), size, from));
                let mut arguments = String::new();
                if let Some(tags) = call.query("tags") {
                    arguments.push_str(&format!("&tags={}", escape(tags)));
                }
                if call.has_query("size") {
                    arguments.push_str(&format!("&size={size}"));
                }
                (read?, arguments)
            }
        };
        let offset = found.next.map(|id| encode(&json!([id.to_string()])));
        let data = found.entities.into_iter().map(|stored| self.show(kind, stored));
        let data = data.collect::<Result<Vec<_>, _>>()?;
        ok(page(data, offset, &call.link(), &arguments))
    }

    /// A page of what the memberships of `of` join it with.
    pub(crate) fn list_members(&self, call: &Call, of: &Stored, own: Side, other: Side) -> Answer {
        let (size, from) = (page_size(call)?, offset_id(call)?);
        let (data, next) = self.store.read(|view| {
            let found =
                view.list_referring(Kind::ConsumerGroupConsumer, own.field, of.id, None, size, from)?;
            let mut data = Vec::new();
            for membership in &found.entities {
                data.extend(other.joined(view, membership)?);
            }
            Ok((data, found.next))
        })?;
        let offset = next.map(|id| encode(&json!([id.to_string()])));
        ok(page(data, offset, &call.link(), ""))
    }

    fn consumer_by_custom_id(&self, call: &Call) -> Answer {
        let Some(custom_id) = call.query("custom_id").filter(|text| !text.is_empty()) else {
            let message = "custom_id must be an unempty string";
            return Err(Failure::message(StatusCode::BAD_REQUEST, message));
        };
        let found = self
            .store
            .read(|view| view.get_unique(Kind::Consumer, call.workspace, "custom_id", custom_id))?;
        let data: Vec<Value> = found.into_iter().map(|stored| Value::Object(stored.fields)).collect();
        ok(json!({"data": data, "next": null}))
    }

    /// A page of an upstream's targets, the newest first; the offset is a number (Kong 3.11). decK relies on
    /// the tags, which Kong ignores here.
    pub(crate) fn targets(
        &self,
        call: &Call,
        upstream: &Stored,
        size: usize,
        show: impl Fn(Value) -> Result<Value, Failure>,
    ) -> Answer {
        let tags = tag_filter(call)?;
        let from = match call.query("offset") {
            None => 0,
            Some(text) => text.parse::<usize>().map_err(|_| invalid_offset(text, "bad base64 encoding"))?,
        };
        let all = self.store.read(|view| {
            view.list_referring(Kind::Target, "upstream", upstream.id, tags.as_ref(), usize::MAX, None)
        })?;
        let mut all = all.entities;
        let created =
            |stored: &Stored| stored.fields.get("created_at").and_then(Value::as_f64).unwrap_or_default();
        all.sort_by(|a, b| created(b).total_cmp(&created(a)).then(b.id.cmp(&a.id)));
        let offset = (all.len() > from.saturating_add(size)).then(|| (from + size).to_string());
        let data = all.into_iter().skip(from).take(size).map(|stored| show(Value::Object(stored.fields)));
        ok(page(data.collect::<Result<_, _>>()?, offset, &call.link(), ""))
    }

    /// A page of an upstream's targets by id.
    pub(crate) fn all_targets(&self, call: &Call, upstream: &str) -> Answer {
        let upstream = self.find(call, Kind::Upstream, upstream)?.ok_or_else(not_found)?;
        let (size, from) = (page_size(call)?, offset_id(call)?);
        let found = self
            .store
            .read(|view| view.list_referring(Kind::Target, "upstream", upstream.id, None, size, from))?;
        let offset = found.next.map(|id| encode(&json!([id.to_string()])));
        let data = found.entities.into_iter().map(|stored| Value::Object(stored.fields)).collect();
        ok(page(data, offset, &call.link(), ""))
    }

    /// A page of tags, or of what has a tag.
    pub(crate) fn tags(&self, call: &Call, tag: Option<&str>) -> Answer {
        if tag.is_some_and(|tag| tag.contains([',', '/']) || tag.chars().any(|c| c.is_ascii_control())) {
            let message = format!(
                "invalid tag '{}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences",
                tag.unwrap_or_default()
            );
            return Err(crate::answer::invalid_unique("tag", &message));
        }
        let size = page_size(call)?;
        let from = match offset(call)?.as_deref() {
            None => None,
            Some([Value::String(tag), Value::String(kind), Value::String(id)]) => {
                Kind::from_plural(kind).zip(id_of(id)).map(|(kind, id)| Tagged { tag: tag.clone(), kind, id })
            }
            Some(_) => {
                return Err(invalid_offset(call.query("offset").unwrap_or_default(), "bad json encoding"));
            }
        };
        let mut list = self.store.read(|view| view.tags(call.workspace, tag, size + 1, from.as_ref()))?;
        let next = if list.len() > size { list.pop() } else { None };
        let offset = next.map(|next| encode(&json!([next.tag, next.kind.plural(), next.id.to_string()])));
        let show = |tagged: Tagged| json!({"tag": tagged.tag, "entity_name": tagged.kind.plural(), "entity_id": tagged.id.to_string()});
        ok(page(list.into_iter().map(show).collect(), offset, &call.link(), ""))
    }
}
