//! Redis for the request path.
//!
//! A [`Redis`] stands for one configured server (or cluster). Each thread that uses it has a connection of its
//! own, made when it is first needed and shared by everything on that thread. While the server cannot be reached
//! calls fail at once, and once a second a connection is tried beside them: an outage holds nobody up.

mod client;
mod connect;
mod error;
mod settings;

pub use client::Redis;
pub use error::Error;
pub use redis::{Cmd, Script, ScriptInvocation, Value, cmd};
pub use settings::{Login, Node, Settings, Tls, Topology};
