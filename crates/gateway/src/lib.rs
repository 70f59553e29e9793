//! Compiled state, router, plugin trait and chain, balancer, the gateway's own answers, the request path.
//!
//! [`request`] reads top to bottom and is the place to start.

pub mod answer;
pub mod attempts;
pub mod balancer;
pub mod chain;
pub mod clock;
pub mod compile;
pub mod consumers;
pub mod destination;
pub mod exchange;
pub mod forwarded;
pub mod log_entry;
pub mod logging;
pub mod own_request;
pub mod path;
pub mod plugin;
mod protocol;
pub mod query;
mod received;
pub mod request;
pub mod request_id;
mod response;
pub mod router;
pub mod secrets;
pub mod settings;
pub mod snapshot;
mod table;
pub mod trace;
mod upstream;

pub use exchange::Exchange;
pub use plugin::{Access, BuildError, Outcome, Phases, Plugin, PluginTypes, ResponseFilter, Scope};
pub use request::Gateway;
pub use response::under_way;
pub use settings::{HeaderTokens, Settings};
pub use snapshot::Snapshot;
