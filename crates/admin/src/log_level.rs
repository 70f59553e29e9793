//! `/debug/node/log-level`: what is logged, changed while the node runs.

use tollgate_http::{Method, StatusCode};
use tollgate_model::json;
use tollgate_telemetry::{Level, error_log};

use crate::answer::{Answer, Failure, method_not_allowed, ok};
use crate::{Admin, Call};

/// Seconds a change lasts where the call does not say (Kong 3.11).
const LASTS: f64 = 60.0;

/// Answers a call about the log level; `None` where it is about something else.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    match call.segments()[..] {
        ["debug", "node", "log-level"] if call.method == Method::GET => {
            Some(message(&format!("log level: {}", error_log::level().name())))
        }
        ["debug", "node" | "cluster", "log-level", level] if call.method == Method::PUT => {
            Some(change(admin, call, level))
        }
        ["debug", "node", "log-level"] | ["debug", "node" | "cluster", "log-level", _] => {
            Some(Err(method_not_allowed()))
        }
        _ => None,
    }
}

fn message(text: &str) -> Answer {
    ok(json!({"message": text}))
}

fn change(admin: &Admin, call: &Call, level: &str) -> Answer {
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
