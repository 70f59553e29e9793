//! What a configuration is made of: entities, references, tags, secrets; the schema engine that checks and
//! fills them; errors with field paths. No I/O.

pub mod check;
pub mod checked;
mod constraint;
pub mod entity;
mod entity_check;
pub mod error;
mod fill;
pub mod kind;
mod kong_schema;
pub mod lua;
pub mod plugin;
pub mod schema;
pub mod value;

pub use check::Mode;
pub use checked::{Source, check_entity, membership_id, merge_entity};
pub use error::FieldErrors;
pub use kind::Kind;
pub use plugin::{PluginSchema, PluginSchemas};
pub use schema::{Config, Field, FieldType, Record};
pub use serde_json::{Map, Value, json};
pub use tollgate_model_derive::Config;
pub use value::{Reference, Secret, Set};

extern crate self as tollgate_model;
