//! Lua snippets of the configuration, run in a sandbox with the part of Kong's PDK they use.
//!
//! A snippet is compiled once for each configuration, and once more in each worker that runs it. A call gets an
//! environment of its own (`environment.lua`): Kong's sandbox, and `kong.*` over the exchange, which can be read only. A
//! call that takes too long or too much memory fails; it holds no worker up.
//!
//! The language is Lua 5.1 of the reference implementation, whose language Kong's LuaJIT speaks. LuaJIT itself cannot be
//! bounded: it takes no allocator that counts, and traces that it has compiled run no hooks.
//!
//! What Kong's sandbox has and this has not: coroutines. Lua 5.1 does not bound how deep they resume each other on the
//! stack of C.

mod budget;
mod pattern;
mod pdk;
mod policy;
mod state;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate_gateway::Exchange;
use tollgate_model::Value;

pub use pdk::Secrets;
pub use policy::{Policy, Untrusted};

/// Why a snippet cannot be compiled, or a call of it has failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LuaError {
    /// The node runs none.
    #[error("loading of untrusted Lua code disabled because 'untrusted_lua' config option is set to 'off'")]
    Off,
    /// It is no Lua; in Lua's words.
    #[error("Error parsing function: {0}")]
    Syntax(String),
    /// It raised an error.
    #[error("{0}")]
    Raised(String),
    /// It raised an error after it had been given a secret, which may be in it.
    #[error("it raised an error, which is not shown as it may hold a secret that it has read")]
    Hidden,
    /// It may run no longer.
    #[error("{0}")]
    TooLong(String),
    /// It wants more memory than there is for it.
    #[error("it needs more than {} MB of memory", state::MEMORY >> 20)]
    TooLarge,
    /// It returned what has no form in JSON, such as a function.
    #[error("it returned what cannot be used: {0}")]
    Returned(String),
}

/// Source of a snippet, with what finds it in the states of the workers.
#[derive(Debug)]
struct Source {
    id: u64,
    text: Box<str>,
}

/// A compiled snippet.
#[derive(Debug, Clone)]
pub struct Snippet(Arc<Source>);

impl Snippet {
    /// Compiles a snippet.
    ///
    /// # Errors
    /// [`LuaError::Off`] where the node runs none; [`LuaError::Syntax`].
    pub fn compile(text: &str) -> Result<Self, LuaError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if Policy::current().untrusted == Untrusted::Off {
            return Err(LuaError::Off);
        }
        state::check(text)?;
        Ok(Self(Arc::new(Source { id: NEXT.fetch_add(1, Ordering::Relaxed), text: text.into() })))
    }

    /// Whether it may ask for the request's body, which must then be there ([`Exchange::buffer_body`]).
    pub fn reads_body(&self) -> bool {
        ["get_body", "get_raw_body"].iter().any(|name| self.0.text.contains(name))
    }

    /// Runs it. What it returns first is given back, `nil` as null.
    ///
    /// # Errors
    /// Why the call has failed.
    pub fn run(&self, exchange: &Exchange, secrets: Secrets) -> Result<Value, LuaError> {
        let call = pdk::Call::new(exchange, secrets);
        let result =
            state::run(&self.0, &pdk::names(), &|lua, number, arguments| call.answer(lua, number, arguments));
        match result {
            Err(LuaError::Raised(_)) if call.has_seen_secrets() => Err(LuaError::Hidden),
            other => other,
        }
    }
}

/// Whether a field holds a snippet that can be compiled, for schemas.
///
/// # Errors
/// Says why not.
pub fn check(field: &Value) -> Result<(), String> {
    Snippet::compile(field.as_str().unwrap_or_default()).map(|_| ()).map_err(|error| error.to_string())
}
