//! LLMs.

pub mod accounts;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
pub mod ai_rate_limiting_advanced;
mod pattern;
mod request_body;
mod target;

use serde_json::json;
use tollgate_http::{Response, StatusCode};

/// An error as OpenAI's clients read it.
fn refuse(status: StatusCode, message: &str) -> Response {
    tollgate_gateway::answer::json(status, &json!({"error": {"message": message}}))
}
