//! Redis for the request path.
//!
//! A [`Redis`] stands for one configured server (or cluster). Each thread that uses it has a connection of its
//! own, made when it is first needed and shared by everything on that thread. While the server cannot be reached,
//! calls fail at once but for one attempt a second: an outage never makes requests wait for each other.

mod client;
mod connect;
mod error;
mod settings;

pub use client::Redis;
pub use error::Error;
pub use redis::{Script, ScriptInvocation};
pub use settings::{Login, Node, Settings, Tls, Topology};
