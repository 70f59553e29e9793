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
mod attribute;
mod pattern;
mod target;
mod transformation;
mod vectors;

use tollgate_http::{Response, StatusCode};
use tollgate_llm::Format;

/// Largest body that is read where nothing is configured, in bytes. (Kong 3.13's: up to 3.12 it was 8192, which
/// refuses ordinary chats.)
pub(crate) const LARGEST_BODY: u64 = 1_048_576;

/// An error as clients of this format read it.
fn refuse(format: Format, status: StatusCode, message: &str) -> Response {
    let mut response = tollgate_gateway::answer::json(status, &format.refusal(status.as_u16(), message));
    mark_error(format, &mut response);
    response
}

/// Sets the header that errors have in this format, where they have one.
fn mark_error(format: Format, response: &mut Response) {
    if let Some((name, value)) = format.error_header(response.status.as_u16()) {
        response.headers.set(name, value);
    }
}
