//! What a plugin is to the request path.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tollgate_http::Response;
use tollgate_model::{Map, Value};
use uuid::Uuid;

use crate::Exchange;

/// The phases a plugin takes part in. A phase that is not named here costs nothing per request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases(u8);

impl Phases {
    /// Before the request is sent on.
    pub const ACCESS: Phases = Phases(1);
    /// When the head of the answer is there.
    pub const RESPONSE: Phases = Phases(2);
    /// After the last byte.
    pub const LOG: Phases = Phases(4);
    /// After the last byte, with the log entry ([`Exchange::log_entry`]).
    pub const ENTRY: Phases = Phases(4 | 8);
    /// After the last byte, with the spans of the request ([`Exchange::trace`]), where there are any
    /// ([`TraceSettings`](crate::trace::TraceSettings)).
    pub const TRACE: Phases = Phases(4 | 16);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }

    /// Whether every phase of `other` is in this set.
    pub const fn has(self, other: Phases) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a plugin decided about a request.
pub enum Access<'a> {
    /// Go on with the next plugin.
    Continue,
    /// Answer the client now; later plugins' access is skipped, their response and log phases run.
    Answer(Response),
    /// The decision needs waiting (reading a body, asking another server). Boxed only then.
    Wait(Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>),
}

/// The end of [`Access::Wait`].
pub enum Outcome {
    /// Go on with the next plugin.
    Continue,
    /// Answer the client now.
    Answer(Response),
}

impl<'a> Access<'a> {
    /// A decision that needs waiting.
    pub fn wait(future: impl Future<Output = Outcome> + Send + 'a) -> Self {
        Access::Wait(Box::pin(future))
    }

    /// The decision, waited for where it needs waiting.
    pub async fn outcome(self) -> Outcome {
        match self {
            Access::Continue => Outcome::Continue,
            Access::Answer(answer) => Outcome::Answer(answer),
            Access::Wait(future) => future.await,
        }
    }
}

/// One configured plugin, compiled for the request path.
pub trait Plugin: Send + Sync {
    /// The phases this instance takes part in.
    fn phases(&self) -> Phases;

    /// Names of header fields, query arguments and body fields under which this instance takes or sends
    /// secrets; what stands there is not logged.
    fn secret_names(&self) -> Vec<String> {
        Vec::new()
    }

    /// LLM providers, by Kong's names, that this instance may send a request to.
    fn llm_providers(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Decides about a request, and may change it: `exchange.head`, `query`, `upstream_path`, `body`,
    /// `destination`. Runs in order of priority.
    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let _ = exchange;
        Access::Continue
    }

    /// Sees the head of the answer (the upstream's or one made here) and may change it; to see the body too
    /// it returns a filter. Not called where the plugin left a filter in access ([`Exchange::follow`]).
    fn response(&self, exchange: &mut Exchange, response: &mut Response) -> Option<Box<dyn ResponseFilter>> {
        let _ = (exchange, response);
        None
    }

    /// After the last byte, or when the client has gone. Must not wait.
    fn log(&self, exchange: &mut Exchange) {
        let _ = exchange;
    }
}

/// What a plugin does with one answer; holds the plugin's state of that request.
pub trait ResponseFilter: Send {
    /// Whether the body leaves with the length it came with, so that the client can be told it ahead.
    fn keeps_length(&self) -> bool {
        false
    }

    /// Whether the answer must be there whole before its head goes out (at most so many bytes of body).
    fn wants_whole(&self, response: &Response) -> Option<usize> {
        let _ = response;
        None
    }

    /// The attempt that it follows has failed, and another may take its place
    /// ([`Attempts`](crate::attempts::Attempts)). The exchange still tells of this one.
    fn failed(&mut self, exchange: &mut Exchange) {
        let _ = exchange;
    }

    /// Whether [`ResponseFilter::wait`] has something to do.
    fn waits(&self) -> bool {
        false
    }

    /// The upstream's answer is there whole, as the filter wanted it: it may be changed by what has to be waited for.
    /// Runs before any filter's [`ResponseFilter::head`].
    fn wait<'a>(
        &'a mut self,
        exchange: &'a mut Exchange,
        response: &'a mut Response,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let _ = (exchange, response);
        Box::pin(std::future::ready(()))
    }

    /// The head is there; where the filter wanted it whole, so is the body.
    fn head(&mut self, exchange: &mut Exchange, response: &mut Response) {
        let _ = (exchange, response);
    }

    /// A chunk came; what is returned goes on at once (empty: nothing goes on).
    fn chunk(&mut self, exchange: &mut Exchange, chunk: Bytes) -> Bytes {
        let _ = exchange;
        chunk
    }

    /// The body has ended; what is returned is sent after it.
    fn end(&mut self, exchange: &mut Exchange) -> Bytes {
        let _ = exchange;
        Bytes::new()
    }

    /// Runs exactly once before the log phase; `complete` is false when the client left or the upstream broke
    /// off.
    fn finish(&mut self, exchange: &mut Exchange, complete: bool) {
        let _ = (exchange, complete);
    }
}

/// What a plugin is told when it is compiled.
pub struct Scope {
    /// The plugin entity's id.
    pub id: Uuid,
    /// `instance_name`, where given.
    pub instance_name: Option<Arc<str>>,
    /// Workspace of the plugin.
    pub workspace: Uuid,
    /// Route it is bound to.
    pub route: Option<Uuid>,
    /// Service it is bound to.
    pub service: Option<Uuid>,
    /// Consumer it is bound to.
    pub consumer: Option<Uuid>,
    /// Group of consumers it is bound to; never together with a consumer.
    pub consumer_group: Option<Uuid>,
}

/// A plugin cannot be compiled from its (valid) configuration.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{field}: {message}")]
pub struct BuildError {
    /// Path of the field at fault, such as `config.model.options.upstream_url`.
    pub field: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// The plugins there are: their schemas, and how to compile a configured one.
pub trait PluginTypes: tollgate_model::PluginSchemas + Send + Sync {
    /// Compiles a plugin from its checked `config`.
    ///
    /// # Errors
    /// When something the schema cannot see is wrong; the configuration is then refused as a whole.
    fn build(
        &self,
        name: &str,
        config: &Map<String, Value>,
        scope: &Scope,
    ) -> Result<Arc<dyn Plugin>, BuildError>;
}
