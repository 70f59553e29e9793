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

    /// A query argument that is not what it should be.
    pub(crate) fn option(name: &str, message: &str) -> Self {
        let body = json!({
            "code": 11, "name": "invalid options", "message": format!("invalid option ({name}: {message})"), "options": {name: message}
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
            StoreError::Offset(_) => Self::coded(StatusCode::BAD_REQUEST, 7, "invalid offset", message, None),
            StoreError::Later { .. } | StoreError::Corrupt(_) | StoreError::Sql(_) | StoreError::Io(_) => {
                Self::message(StatusCode::INTERNAL_SERVER_ERROR, "An unexpected error occurred")
            }
        }
    }
}

/// A reference that leads nowhere, by name.
pub(crate) fn unresolved(field: &str, reference: &Map<String, Value>, to: &str) -> Failure {
    let text = format!(
        "the foreign key cannot be resolved with '{{{}}}' for an existing '{to}' entity",
        lua_fields(reference)
    );
    let name = reference.keys().next().map_or("name", String::as_str);
    let fields = json!({field: {name: text}});
    let message = format!("foreign key unresolved ({field}.{name}: {text})");
    Failure::coded(StatusCode::BAD_REQUEST, 13, "foreign keys unresolved", message, Some(fields))
}

/// Answers `OPTIONS`.
pub(crate) fn options(head: &RequestHead) -> Answer {
    let methods = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT".to_owned();
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
    if let Some(body) = body {
        response.headers.set("Content-Type", "application/json; charset=utf-8");
        response.body = Body::Full(body.to_string().into());
    }
    for (name, value) in headers {
        response.headers.set(name, value);
    }
    response
}
