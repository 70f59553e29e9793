//! Answers of the Admin API, in Kong's shapes.

use tollgate_http::{Body, RequestHead, Response, StatusCode};
use tollgate_model::{FieldErrors, Map, Value, json};
use tollgate_store::StoreError;
use tollgate_store::error_text::lua_fields;

/// What a call gives.
pub(crate) type Answer = Result<Success, Failure>;

/// A call that worked.
pub(crate) struct Success {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

/// A call that did not.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) body: Option<Value>,
}

pub(crate) fn ok(body: Value) -> Answer {
    Ok(Success { status: StatusCode::OK, body: Some(body), headers: Vec::new() })
}

pub(crate) fn created(body: Value) -> Answer {
    Ok(Success { status: StatusCode::CREATED, body: Some(body), headers: Vec::new() })
}

pub(crate) fn nothing() -> Answer {
    Ok(Success { status: StatusCode::NO_CONTENT, body: None, headers: Vec::new() })
}

/// Text as it is: bodies that are no JSON.
pub(crate) fn text(body: impl Into<String>) -> Answer {
    Ok(Success { status: StatusCode::OK, body: Some(Value::String(body.into())), headers: Vec::new() })
}

/// Part of a path or query as it stands in a link.
pub(crate) fn escape(text: &str) -> percent_encoding::PercentEncode<'_> {
    const KEPT: percent_encoding::AsciiSet =
        percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, &KEPT)
}

/// What is our own fault (Kong 3.11).
pub(crate) fn unexpected() -> Failure {
    Failure::message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
}

pub(crate) fn not_found() -> Failure {
    Failure::message(StatusCode::NOT_FOUND, "Not found")
}

pub(crate) fn method_not_allowed() -> Failure {
    Failure::message(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed")
}

impl Failure {
    /// `{"message": …}`
    pub(crate) fn message(status: StatusCode, message: &str) -> Self {
        Self { status, body: Some(json!({"message": message})) }
    }

    /// Kong's numbered errors.
    pub(crate) fn coded(
        status: StatusCode,
        code: u8,
        name: &str,
        message: impl Into<String>,
        fields: Option<Value>,
    ) -> Self {
        let mut body = json!({"code": code, "name": name, "message": message.into()});
        if let (Some(fields), Some(object)) = (fields, body.as_object_mut()) {
            object.insert("fields".into(), fields);
        }
        Self { status, body: Some(body) }
    }

    /// Whether a reference leads nowhere (Kong's code 4), or something refers to what was to go.
    pub(crate) fn is_about_references(&self) -> bool {
        self.body.as_ref().and_then(|body| body.get("code")).is_some_and(|code| code == 4)
    }

    /// A query argument that is not what it should be.
    pub(crate) fn option(name: &str, message: impl std::fmt::Display) -> Self {
        let body = json!({
            "code": 11, "name": "invalid options", "message": format!("invalid option ({name}: {message})"), "options": {name: message.to_string()}
        });
        Self { status: StatusCode::BAD_REQUEST, body: Some(body) }
    }
}

impl From<FieldErrors> for Failure {
    fn from(errors: FieldErrors) -> Self {
        // A time to live is an option of the call, not a field (Kong 3.11).
        if let (1, Some(Value::String(message))) = (errors.fields().len(), errors.fields().get("ttl")) {
            return Self::option("ttl", message);
        }
        let message = errors.summary();
        Self::coded(StatusCode::BAD_REQUEST, 2, "schema violation", message, Some(errors.into_value()))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let message = error.to_string();
        match error {
            StoreError::Unique { fields, .. } => Self::coded(
                StatusCode::CONFLICT,
                5,
                "unique constraint violation",
                message,
                Some(Value::Object(fields)),
            ),
            StoreError::PrimaryKey { id, .. } => Self::coded(
                StatusCode::BAD_REQUEST,
                3,
                "primary key violation",
                message,
                Some(json!({"id": id.to_string()})),
            ),
            StoreError::Reference { field, id, .. } => {
                let fields = json!({field: {"id": id.to_string()}});
                Self::coded(StatusCode::BAD_REQUEST, 4, "foreign key violation", message, Some(fields))
            }
            StoreError::Referenced { by, .. } => {
                let fields = json!({"@referenced_by": by.plural()});
                Self::coded(StatusCode::BAD_REQUEST, 4, "foreign key violation", message, Some(fields))
            }
            StoreError::NotFound { .. } => not_found(),
            StoreError::Refused(reason) => {
                let fields = json!({"@entity": [reason]});
                Self::coded(
                    StatusCode::BAD_REQUEST,
                    2,
                    "schema violation",
                    format!("schema violation ({reason})"),
                    Some(fields),
                )
            }
            StoreError::Invalid(errors) => errors.into(),
            StoreError::NoRevision(_) => Self::message(StatusCode::NOT_FOUND, &message),
            StoreError::StillUsed { .. } => {
                Self::coded(StatusCode::BAD_REQUEST, 19, "referenced by others", message, None)
            }
            StoreError::Later { .. } | StoreError::Corrupt(_) | StoreError::Sql(_) | StoreError::Io(_) => {
                tollgate_telemetry::log!(Error, "Admin API: {message}");
                let message = format!("An unexpected error occurred: {message}");
                Self::message(StatusCode::INTERNAL_SERVER_ERROR, &message)
            }
        }
    }
}

/// A name by which nothing can be found.
pub(crate) fn invalid_unique(field: &str, message: &str) -> Failure {
    Failure::coded(StatusCode::BAD_REQUEST, 10, &format!("invalid unique {field}"), message, None)
}

/// An entity that is to be changed but is not there.
pub(crate) fn nothing_to_change(key: &str, name: &str) -> Failure {
    let fields = Map::from_iter([(name.to_owned(), Value::from(key))]);
    let by = if name == "id" { "primary key " } else { "" };
    let message = format!("could not find the entity with {by}'{{{}}}'", lua_fields(&fields));
    Failure::coded(StatusCode::NOT_FOUND, 6, "not found", message, Some(Value::Object(fields)))
}

/// A reference that leads nowhere, by name.
pub(crate) fn unresolved(field: &str, name: &str, value: &str, to: &str) -> Failure {
    let text = format!(
        "the foreign key cannot be resolved with '{{{name}=\"{value}\"}}' for an existing '{to}' entity"
    );
    let fields = json!({field: {name: text}});
    let message = format!("foreign key unresolved ({field}.{name}: {text})");
    Failure::coded(StatusCode::BAD_REQUEST, 13, "foreign keys unresolved", message, Some(fields))
}

/// Answers `OPTIONS` (Kong 3.11).
pub(crate) fn options(methods: &[&str], head: &RequestHead) -> Answer {
    let methods = methods.join(", ");
    let asked = head.headers.get_str("access-control-request-headers").unwrap_or("Content-Type").to_owned();
    Ok(Success {
        status: StatusCode::NO_CONTENT,
        body: None,
        headers: vec![
            ("Allow", methods.clone()),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", asked),
        ],
    })
}

pub(crate) fn into_response(answer: Answer) -> Response {
    let (status, body, headers) = match answer {
        Ok(success) => (success.status, success.body, success.headers),
        Err(failure) => (failure.status, failure.body, Vec::new()),
    };
    let mut response = Response::new(status);
    match body {
        Some(Value::String(text)) => {
            response.headers.set("Content-Type", "text/plain; charset=UTF-8");
            response.body = Body::Full(text.into());
        }
        Some(json) => {
            response.headers.set("Content-Type", "application/json; charset=utf-8");
            response.body = Body::Full(json.to_string().into());
        }
        None => {}
    }
    for (name, value) in headers {
        response.headers.set(name, value);
    }
    response
}
