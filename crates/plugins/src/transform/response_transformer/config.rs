//! The configuration of `response-transformer`.

use tollgate_model::{Config, PluginSchema};

use crate::transform::pair;

/// Configuration of `response-transformer` (Kong 3.11). What it does happens in the order of its fields.
#[derive(Debug, Clone, Config)]
pub struct ResponseTransformerConfig {
    /// What is taken out.
    pub remove: Remove,
    /// What gets another name: `old:new`.
    pub rename: Rename,
    /// What gets another value where it is there: `name:value`.
    pub replace: Values,
    /// What is put in where it is not there: `name:value`.
    pub add: Values,
    /// What is put in beside what is there: `name:value`.
    pub append: Values,
}

/// Names to take out.
#[derive(Debug, Clone, Config)]
pub struct Remove {
    /// Members of a JSON body.
    #[config(default = [])]
    pub json: Vec<String>,
    /// Header fields.
    #[config(default = [])]
    pub headers: Vec<String>,
}

/// Names to change.
#[derive(Debug, Clone, Config)]
pub struct Rename {
    /// Members of a JSON body.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$")))]
    pub json: Vec<String>,
    /// Header fields.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$"), check = pair::two_headers))]
    pub headers: Vec<String>,
}

/// Values to put in.
#[derive(Debug, Clone, Config)]
pub struct Values {
    /// Members of a JSON body.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$")))]
    pub json: Vec<String>,
    /// Type of each member, in their order; strings where there is none.
    #[config(default = [])]
    pub json_types: Vec<JsonType>,
    /// Header fields.
    #[config(default = [], each(matches(pattern = "^[^:]+:.*$", regex = "(?s)^[^:]+:.*$")))]
    pub headers: Vec<String>,
}

/// What a configured value becomes in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum JsonType {
    /// `true`, or `false` for anything else.
    Boolean,
    /// A number; other text is left out.
    Number,
    /// A string.
    String,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("response-transformer", 800, ResponseTransformerConfig::schema())
        .about("Edits the header fields and JSON bodies that clients get.")
}
