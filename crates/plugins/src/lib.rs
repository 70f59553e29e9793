//! The plugins: a module each, with its config type, its phases and its tests; one line each in [`registry`].

pub mod ai;
pub mod auth;
mod background;
pub mod body;
mod documentation;
pub mod identifier;
mod kept;
pub mod observe;
pub mod redis;
pub mod registry;
mod server;
pub mod traffic;
pub mod transform;

use tollgate_gateway::BuildError;
use tollgate_model::{Config, Map, Value};

pub use documentation::documentation;
pub use registry::Registry;

/// Reads a plugin's checked configuration into its type.
fn read<T: Config>(config: &Map<String, Value>) -> Result<T, BuildError> {
    T::from_checked(&Value::Object(config.clone())).map_err(|errors| {
        let (path, message) = errors.flat().into_iter().next().unwrap_or_default();
        BuildError { field: format!("config.{path}"), message }
    })
}
