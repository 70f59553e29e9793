//! LLMs.

pub mod accounts;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
mod pattern;
mod request_body;
mod target;

use tollgate_http::{Response, StatusCode};
use tollgate_llm::Format;

/// An error as clients of this format read it.
fn refuse(format: Format, status: StatusCode, message: &str) -> Response {
    tollgate_gateway::answer::json(status, &format.refusal(status.as_u16(), message))
}
