//! What a configuration is made of: entities, references, tags, secrets; the schema engine that checks and
//! fills them; errors with field paths. No I/O.

pub mod error;
pub mod kind;
pub mod schema;

pub use error::FieldErrors;
pub use kind::Kind;
pub use schema::{Config, Field, FieldType, Record};
pub use serde_json::{Map, Value};
