//! What is suspicious in files, by code: a warning or an error, as the flags have it.

use serde_json::Value;
use tollgate_declare::{Declaration, Declared, Problem};
use tollgate_model::Kind;

use crate::CliError;
use crate::arguments::Diagnostics;

const PATHS: &str = "route-regex-path-format";
const GROUPS: &str = "rla-consumer-groups-deprecated";
const SALT: &str = "oidc-missing-required-config";
const CODES: [&str; 3] = [PATHS, GROUPS, SALT];

/// Checks the flags.
///
/// # Errors
/// Codes that are none.
pub fn check_codes(flags: &Diagnostics) -> Result<(), CliError> {
    let lists = [
        ("-E/--warnings-as-errors", &flags.warnings_as_errors),
        ("-W/--errors-as-warnings", &flags.errors_as_warnings),
    ];
    for (flag, code) in lists.iter().flat_map(|(flag, codes)| codes.iter().map(move |code| (flag, code))) {
        if !CODES.contains(&code.as_str()) {
            return Err(CliError::Message(format!(
                "invalid value for {flag}: unknown diagnostic code: {code}. Valid diagnostic codes: [{}]",
                CODES.join(" ")
            )));
        }
    }
    Ok(())
}

/// Looks for them; warnings go to standard error.
///
/// # Errors
/// What is an error.
pub fn check(declaration: &Declaration, flags: &Diagnostics) -> Result<(), CliError> {
    let mut errors = Vec::new();
    for (code, problem) in declaration.entities.iter().flat_map(find) {
        let asked = |codes: &[String]| codes.iter().any(|other| other == code);
        let is_error =
            if code == PATHS { asked(&flags.warnings_as_errors) } else { !asked(&flags.errors_as_warnings) };
        if is_error {
            let message = format!("warning ({code}): {}", problem.message);
            errors.push(Problem { message, ..problem });
        } else {
            eprintln!("Warning: ({code}) {problem}");
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::Problems(errors)) }
}

fn find(declared: &Declared) -> Vec<(&'static str, Problem)> {
    let plugin = match declared.kind {
        Kind::Plugin => declared.fields.get("name").and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    let config = |name: &str| declared.fields.get("config").and_then(|config| config.get(name));
    let mut found = Vec::new();
    if declared.kind == Kind::Route {
        let paths = declared.fields.get("paths").and_then(Value::as_array);
        for (place, path) in paths.into_iter().flatten().enumerate() {
            let Some(path) = path.as_str().filter(|path| !path.starts_with("~/")) else { continue };
            let plain = |c: char| c.is_ascii_alphanumeric() || "._~/%-".contains(c);
            if !path.chars().all(plain) {
                let message = format!(
                    "'{path}' looks like a regular expression, which since version 3.0 must begin with ~/"
                );
                found.push((PATHS, declared.problem(&format!("paths[{}]", place + 1), message)));
            }
        }
    }
    if plugin == "rate-limiting-advanced" {
        for name in ["consumer_groups", "enforce_consumer_groups"] {
            if config(name).is_some_and(|value| !value.is_null() && value != false) {
                let message = "is deprecated; bind the plugin to consumer groups instead";
                found.push((GROUPS, declared.problem(&format!("config.{name}"), message)));
            }
        }
    }
    if plugin == "openid-connect"
        && config("cache_tokens_salt").and_then(Value::as_str).is_none_or(str::is_empty)
    {
        found.push((
            SALT,
            declared.problem(
                "config.cache_tokens_salt",
                "must be set, or the cache is not shared between restarts",
            ),
        ));
    }
    found
}
