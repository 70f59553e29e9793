//! The node's log files.

use std::path::Path;
use std::sync::Arc;

use tollgate_telemetry::{Sink, error_log};

use crate::conf::Node;

/// Access logs; the error log is the process's.
pub struct Logs {
    /// `proxy_access_log`
    pub access: Option<Arc<Sink>>,
    /// `admin_access_log`
    pub admin_access: Option<Arc<Sink>>,
    /// `status_access_log`
    pub status_access: Option<Arc<Sink>>,
}

impl Logs {
    /// Opens them, and makes the error log the place for everything the process says from now on.
    ///
    /// # Errors
    /// The property at fault, the file, and why it cannot be opened.
    pub fn open(node: &Node) -> Result<Self, String> {
        let open = |property: &str, file: Option<&Path>| {
            let Some(file) = file else { return Ok(None) };
            if file.to_string_lossy().starts_with("syslog:") {
                return Err(format!("{property}: syslog cannot be written to; use a file, or /dev/stdout"));
            }
            let path = node.prefix.join(file);
            Sink::open(&path).map(Some).map_err(|error| format!("{property}: {}: {error}", path.display()))
        };
        error_log::set_level(node.log_level);
        error_log::set_target(open("proxy_error_log", node.error_log.as_deref())?);
        error_log::log_panics();
        Ok(Self {
            access: open("proxy_access_log", node.access_log.as_deref())?,
            admin_access: open("admin_access_log", node.admin_access_log.as_deref())?,
            status_access: open("status_access_log", node.status_access_log.as_deref())?,
        })
    }
}
