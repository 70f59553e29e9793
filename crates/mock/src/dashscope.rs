//! DashScope's pictures, as far as the mock knows them. Its chats are OpenAI's.

use serde_json::{Value, json};
use tollgate_http::{Response, StatusCode};

use crate::plain;

pub(crate) fn answer(body: &[u8]) -> Response {
    let Ok(request) = serde_json::from_slice::<Value>(body) else {
        return error_of(
            StatusCode::BAD_REQUEST,
            "Required body invalid, please check the request body format.",
        );
    };
    let parts = request["input"]["messages"][0]["content"].as_array();
    if !parts.is_some_and(|parts| parts.iter().any(|part| part["text"].is_string())) {
        return error_of(
            StatusCode::BAD_REQUEST,
            "<400> InternalError.Algo.InvalidParameter: input is invalid.",
        );
    }
    let image = json!({"image": "https://mock.test/mock.png"});
    let count = request["parameters"]["n"].as_u64().unwrap_or(1).min(6);
    let content: Vec<Value> = (0..count).map(|_| image.clone()).collect();
    let message = json!({"role": "assistant", "content": content});
    let answer = json!({
        "output": {"choices": [{"finish_reason": "stop", "message": message}]},
        "usage": {"image_count": count, "width": 1328, "height": 1328},
        "request_id": "mock-d0250a3d",
    });
    plain(StatusCode::OK, &answer)
}

/// An error of this status.
pub(crate) fn error_of(status: StatusCode, message: &str) -> Response {
    let code = match status.as_u16() {
        401 => "InvalidApiKey",
        403 => "AccessDenied",
        429 => "Throttling",
        400..=499 => "InvalidParameter",
        _ => "InternalError",
    };
    plain(status, &json!({"code": code, "message": message, "request_id": "mock-d0250a3d"}))
}
