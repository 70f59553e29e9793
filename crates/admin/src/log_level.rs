//! `/debug/node/log-level`: what is logged, changed while the node runs.

use tollgate_http::StatusCode;
use tollgate_model::json;
use tollgate_telemetry::{Level, error_log};

use crate::answer::{Answer, Failure, ok};
use crate::{Admin, Call};

/// Seconds a change lasts where the call does not say (Kong 3.11).
const LASTS: f64 = 60.0;

/// What is logged now.
pub(crate) fn show() -> Answer {
    message(&format!("log level: {}", error_log::level().name()))
}

fn message(text: &str) -> Answer {
    ok(json!({"message": text}))
}

/// Changes it for a while, or for good with a `timeout` of 0.
pub(crate) fn change(admin: &Admin, call: &Call, level: &str) -> Answer {
    let wrong = |text: &str| Failure::message(StatusCode::BAD_REQUEST, text);
    if admin.facts.declarative {
        let text = "cannot change log level when not using a database";
        return Err(Failure::message(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let seconds = call.query("timeout").and_then(|text| text.parse::<f64>().ok()).unwrap_or(LASTS);
    if seconds < 0.0 {
        return Err(wrong("timeout must be greater than or equal to 0"));
    }
    let level = Level::named(level).ok_or_else(|| wrong(&format!("unknown log level: {level}")))?;
    if level == error_log::level() {
        return message(&format!("log level is already {}", level.name()));
    }
    match seconds as u64 {
        0 => error_log::set_level(level),
        seconds => error_log::set_level_for(level, seconds),
    }
    message("log level changed")
}
