//! The entities: one struct each is its fields, defaults, checks and docs.

mod certificate;
pub(crate) mod consumer;
mod plugin;
pub(crate) mod route;
pub mod rules;
mod service;
mod upstream;
mod workspace;

pub use certificate::{CaCertificate, Certificate, Sni};
pub use consumer::{Consumer, ConsumerGroup, ConsumerGroupConsumer, KeyAuthCredential};
pub use plugin::Plugin;
pub use route::{PathHandling, Route};
pub use service::Service;
pub use upstream::{Algorithm, HashOn, Healthchecks, Target, Upstream};
pub use workspace::Workspace;
