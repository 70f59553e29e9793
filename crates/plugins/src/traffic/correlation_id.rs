//! `correlation-id`: gives each request an id, tells it to the upstream and, if wanted, to the client.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, ResponseFilter, Scope, clock};
use tollgate_http::Response;
use tollgate_model::{Config, Map, PluginSchema, Value};
use uuid::Uuid;

use crate::read;

/// Configuration of `correlation-id` (Kong 3.11).
#[derive(Debug, Clone, Config)]
pub struct CorrelationIdConfig {
    /// Header that carries the id.
    #[config(default = "Kong-Request-ID", check = header_name)]
    pub header_name: Option<String>,
    /// How ids are made.
    #[config(default = "uuid#counter")]
    pub generator: Generator,
    /// Whether the client is told the id too.
    #[config(default = false)]
    pub echo_downstream: bool,
}

/// How ids are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum Generator {
    /// A UUID for each request.
    Uuid,
    /// One UUID for the process, and a number.
    #[config(rename = "uuid#counter")]
    UuidCounter,
    /// Where, by which process, on which connection and when the request came.
    Tracker,
}

/// A name that can stand in a message.
fn header_name(value: &Value) -> Result<(), String> {
    let name = value.as_str().unwrap_or_default();
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("'{name}' is not a valid header")),
    }
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("correlation-id", 100_001, CorrelationIdConfig::schema())
        .about("Gives each request an id, tells it to the upstream and, if wanted, to the client.")
        .without_consumer_group()
}

/// Compiles a configured `correlation-id`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: CorrelationIdConfig = read(config)?;
    Ok(Arc::new(CorrelationId {
        // Without a name there is nothing to do, as in Kong.
        header_name: config.header_name.map(String::into_boxed_str),
        generator: config.generator,
        echo: config.echo_downstream,
    }))
}

struct CorrelationId {
    header_name: Option<Box<str>>,
    generator: Generator,
    echo: bool,
}

impl Plugin for CorrelationId {
    fn phases(&self) -> Phases {
        if self.echo { Phases::ACCESS.and(Phases::RESPONSE) } else { Phases::ACCESS }
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let Some(name) = &self.header_name else { return Access::Continue };
        let id = self.id(exchange, name);
        if exchange.head.headers.get(name) != Some(id.as_bytes()) {
            exchange.head.headers.set(name, &*id);
        }
        if self.echo {
            exchange.follow(Box::new(Echo { name: name.clone(), id: id.clone() }));
        }
        exchange.facts.correlation_id = Some(id);
        Access::Continue
    }

    /// Access did not run: no route matched, or a plugin before this one answered.
    fn response(&self, exchange: &mut Exchange, response: &mut Response) -> Option<Box<dyn ResponseFilter>> {
        let name = self.header_name.as_ref()?;
        response.headers.set(name, &*self.id(exchange, name));
        None
    }
}

/// Tells the client the id.
struct Echo {
    name: Box<str>,
    id: Box<str>,
}

impl ResponseFilter for Echo {
    fn keeps_length(&self) -> bool {
        true
    }

    fn head(&mut self, _: &mut Exchange, response: &mut Response) {
        response.headers.set(&self.name, &*self.id);
    }
}

impl CorrelationId {
    /// The id that the client sent, else a new one.
    fn id(&self, exchange: &Exchange, name: &str) -> Box<str> {
        let sent = exchange.head.headers.get(name).map(<[u8]>::trim_ascii).filter(|value| !value.is_empty());
        match sent {
            Some(sent) => String::from_utf8_lossy(sent).into(),
            None => self.generator.make(exchange),
        }
    }
}

impl Generator {
    fn make(self, exchange: &Exchange) -> Box<str> {
        static PROCESS: LazyLock<Uuid> = LazyLock::new(Uuid::new_v4);
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        match self {
            Self::Uuid => Uuid::new_v4().to_string().into(),
            Self::UuidCounter => {
                format!("{}#{}", *PROCESS, NUMBER.fetch_add(1, Ordering::Relaxed) + 1).into()
            }
            Self::Tracker => {
                let connection = &exchange.connection;
                let now = clock::milliseconds();
                format!(
                    "{}-{}-{}-{}-{}-{}.{:03}",
                    connection.local.ip().to_canonical(),
                    connection.local.port(),
                    std::process::id(),
                    connection.number,
                    exchange.connection_requests,
                    now / 1000,
                    now % 1000
                )
                .into()
            }
        }
    }
}
