//! `file-log`: a line of JSON for every request, in a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tollgate_gateway::{BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_model::{Config, Map, PluginSchema, Value};
use tollgate_telemetry::{Sink, log};

use super::lua_field::{self, LuaField};
use crate::read;

/// Configuration of `file-log` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct FileLogConfig {
    /// File that lines are appended to; it is created where it is not there.
    #[config(matches(pattern = "^[^*&%%\\`]+$", regex = r"^[^*&%\\`]+$", error = "not a valid filename"))]
    path: String,
    /// Whether the file is opened anew for every request, so that a file put in its place is noticed.
    #[config(default = false)]
    reopen: bool,
    /// Fields of the entry to set, each to what a snippet of Lua returns; `return nil` takes one out. Dots in a name lead
    /// into objects, `\.` is a dot. Snippets see Kong's `kong.request`, `kong.response` and the like, without secrets.
    #[config(keys(len_min(1)), values(len_min(1), check = tollgate_lua::check))]
    custom_fields_by_lua: Option<BTreeMap<String, String>>,
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("file-log", 9, FileLogConfig::schema())
        .about("Writes a line of JSON for every request into a file.")
        .without_consumer_group()
}

/// Compiles a configured `file-log`.
///
/// # Errors
/// The thread that writes the file cannot be started; a snippet that is no Lua. A file that cannot be written to is no reason to refuse
/// the configuration: the error log tells of it.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: FileLogConfig = read(config)?;
    let sink = Sink::to(Path::new(&config.path))
        .map_err(|error| BuildError { field: "config.path".into(), message: error.to_string() })?;
    let fields = lua_field::compile(&config.custom_fields_by_lua.unwrap_or_default())?;
    Ok(Arc::new(FileLog { sink, reopen: config.reopen, fields }))
}

struct FileLog {
    sink: Arc<Sink>,
    reopen: bool,
    fields: Vec<LuaField>,
}

impl Plugin for FileLog {
    fn phases(&self) -> Phases {
        Phases::ENTRY
    }

    fn log(&self, exchange: &mut Exchange) {
        let mut entry = exchange.log_entry();
        if !self.fields.is_empty() {
            let own = Arc::make_mut(&mut entry);
            self.fields.iter().for_each(|field| field.apply(own, exchange));
        }
        match serde_json::to_vec(&*entry) {
            Ok(mut line) => {
                line.push(b'\n');
                if self.reopen { self.sink.write_reopening(line) } else { self.sink.write(line) }
            }
            Err(error) => log!(Error, "file-log: an entry cannot be written as JSON: {error}"),
        }
    }
}
