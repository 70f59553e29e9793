//! The wire: listeners, TLS, HTTP/1 and HTTP/2 in, pooled HTTP/1.1 out, bodies with limits, timeouts.
//!
//! The rest of the gateway sees only the types here; which parser or protocol library is behind them
//! is this crate's business.

pub mod body;
pub mod client;
mod date;
mod framing;
mod head;
pub mod headers;
mod http2;
pub mod message;
mod outgoing;
pub mod server;
mod timer;
mod transport;

pub use ::http::{Method, StatusCode, Version};
pub use body::{Body, BodyError, BodyStream};
pub use headers::Headers;
pub use message::{Connection, Duplex, Handler, Refusal, Request, RequestHead, Response, TlsInfo};
