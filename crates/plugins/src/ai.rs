//! LLMs.

pub mod accounts;
pub mod ai_prompt_decorator;
pub mod ai_prompt_guard;
pub mod ai_prompt_template;
pub mod ai_proxy;
pub mod ai_proxy_advanced;
pub mod ai_rate_limiting_advanced;
pub mod ai_request_transformer;
pub mod ai_response_transformer;
mod ask;
mod pattern;
mod target;
mod transformation;

use tollgate_http::{Response, StatusCode};
use tollgate_llm::Format;

/// An error as clients of this format read it.
fn refuse(format: Format, status: StatusCode, message: &str) -> Response {
    let mut response = tollgate_gateway::answer::json(status, &format.refusal(status.as_u16(), message));
    target::mark_error(format, &mut response);
    response
}
