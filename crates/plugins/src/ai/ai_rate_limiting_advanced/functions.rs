//! The Lua functions that count requests and price calls.

use tollgate_gateway::{BuildError, Exchange};
use tollgate_http::{Response, StatusCode};
use tollgate_lua::{LuaError, Secrets, Snippet};
use tollgate_model::{Value, json};
use tollgate_telemetry::Level;

use super::config::AiRateLimitingConfig;
use super::refused;

/// The functions that are configured.
pub(super) struct Functions {
    /// `request_prompt_count_function`, where a limit asks for it.
    count: Option<Snippet>,
    /// `custom_cost_count_function`, where a limit asks for it.
    cost: Option<Snippet>,
}

impl Functions {
    /// Compiles the functions.
    ///
    /// # Errors
    /// One is no Lua, or not there and a limit asks for it.
    pub(super) fn new(config: &AiRateLimitingConfig) -> Result<Self, BuildError> {
        let function = |name: &str, provider: &str, text: &Option<String>| {
            let field = format!("config.{name}");
            let snippet = text.as_deref().map(Snippet::compile).transpose();
            let snippet = snippet.map_err(|error| refused(&field, error.to_string()))?;
            let mut providers = config.llm_providers.iter().flatten();
            let asked = providers.position(|other| other.name == provider);
            match (asked, snippet) {
                (Some(place), None) => Err(refused(
                    format!("config.llm_providers[{}].name", place + 1),
                    format!("'{provider}' counts by a Lua function: set {field}"),
                )),
                // Nobody asks for what it counts (Kong 3.11).
                (None, _) => Ok(None),
                (Some(_), snippet) => Ok(snippet),
            }
        };
        let (count, cost) = (&config.request_prompt_count_function, &config.custom_cost_count_function);
        Ok(Self {
            count: function("request_prompt_count_function", "requestPrompt", count)?,
            cost: function("custom_cost_count_function", "customCost", cost)?,
        })
    }

    /// Whether the request's body must be there when it is counted.
    pub(super) fn read_body(&self) -> bool {
        self.count.as_ref().is_some_and(Snippet::reads_body)
    }

    /// What a request counts.
    ///
    /// # Errors
    /// The answer where the function fails (Kong 3.11).
    pub(super) fn count(&self, exchange: &Exchange) -> Result<f64, Response> {
        let Some(snippet) = &self.count else { return Ok(0.0) };
        let (logged, said) = match number(snippet.run(exchange, Secrets::Shown)) {
            Ok(count) => return Ok(count),
            Err(Failure::NoNumber(kind)) => (
                format!("Bad return value from function, expected number type, got {kind}"),
                "Bad return value from the request prompt count function",
            ),
            Err(Failure::Lua(error)) => (
                format!("Error executing request prompt count function: {error}"),
                "Error executing request prompt count function",
            ),
        };
        exchange.write_error_log(Level::Error, &format_args!("ai-rate-limiting-advanced: {logged}"));
        Err(exchange.exit(StatusCode::INTERNAL_SERVER_ERROR, &json!({"message": said})))
    }

    /// What a call costs that has been answered; nothing where the function fails, which the error log tells.
    pub(super) fn cost(&self, exchange: &Exchange) -> f64 {
        let Some(snippet) = &self.cost else { return 0.0 };
        let why = match number(snippet.run(exchange, Secrets::Shown)) {
            Ok(cost) => return cost,
            Err(Failure::NoNumber(kind)) => format!("it returned no number but {kind}"),
            Err(Failure::Lua(error)) => error.to_string(),
        };
        let message = format_args!("ai-rate-limiting-advanced: custom_cost_count_function: {why}");
        exchange.write_error_log(Level::Error, &message);
        0.0
    }
}

/// Why a function has no number to tell.
enum Failure {
    /// It returned something else, of this type.
    NoNumber(&'static str),
    Lua(LuaError),
}

fn number(result: Result<Value, LuaError>) -> Result<f64, Failure> {
    let value = result.map_err(Failure::Lua)?;
    value.as_f64().ok_or(Failure::NoNumber(match value {
        Value::Null => "nil",
        Value::Bool(_) => "boolean",
        Value::String(_) => "string",
        _ => "table",
    }))
}
