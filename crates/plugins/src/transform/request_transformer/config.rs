//! The configuration of `request-transformer`.

use tollgate_model::{Config, PluginSchema};

use crate::transform::pair;

/// Configuration of `request-transformer` (Kong 3.11). What it does happens in the order of its fields, with
/// `http_method` behind `replace.uri`.
#[derive(Debug, Clone, Config)]
pub struct RequestTransformerConfig {
    /// Method to send on.
    #[config(matches(pattern = "^%u+$", regex = "^[A-Z]+$"))]
    pub http_method: Option<String>,
    /// What is taken out.
    pub remove: Remove,
    /// What gets another name: `old:new`.
    pub rename: Rename,
    /// What gets another value where it is there: `name:value`.
    pub replace: Replace,
    /// What is put in where it is not there: `name:value`.
    pub add: Add,
    /// What is put in beside what is there: `name:value`.
    pub append: Add,
}

/// Names to take out.
#[derive(Debug, Clone, Config)]
pub struct Remove {
    /// Fields of the body.
    #[config(default = [])]
    pub body: Vec<String>,
    /// Header fields.
    #[config(default = [], each(check = pair::header_name))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[config(default = [])]
    pub querystring: Vec<String>,
}

/// Names to change.
#[derive(Debug, Clone, Config)]
pub struct Rename {
    /// Fields of the body.
    #[config(default = [], each(check = pair::with_template))]
    pub body: Vec<String>,
    /// Header fields.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$"), check = pair::two_headers))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[config(default = [], each(check = pair::with_template))]
    pub querystring: Vec<String>,
}

/// Values to put in place of those that are there. They may hold `$(…)`: see `transform::template`.
#[derive(Debug, Clone, Config)]
pub struct Replace {
    /// Fields of the body.
    #[config(default = [], each(check = pair::with_template))]
    pub body: Vec<String>,
    /// Header fields.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$"), check = pair::header_with_template))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[config(default = [], each(check = pair::with_template))]
    pub querystring: Vec<String>,
    /// Path to send on; the query stays.
    #[config(check = pair::only_template)]
    pub uri: Option<String>,
}

/// Values to put in. They may hold `$(…)`: see `transform::template`.
#[derive(Debug, Clone, Config)]
pub struct Add {
    /// Fields of the body.
    #[config(default = [], each(check = pair::with_template))]
    pub body: Vec<String>,
    /// Header fields.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$"), check = pair::header_with_template))]
    pub headers: Vec<String>,
    /// Query arguments.
    #[config(default = [], each(check = pair::with_template))]
    pub querystring: Vec<String>,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("request-transformer", 801, RequestTransformerConfig::schema())
        .about("Edits the method, path, header fields, body and query that are sent on.")
        .for_any_protocol()
}
