//! `opentelemetry`: sends traces of requests to a collector (OTLP), and has them go on through the upstream.
//!
//! What a trace is made of is left in [`Exchange::trace`] by the parts of the request as they end; here it gets its
//! place in the trace, and is sent.

mod export;
mod propagation;
mod spans;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry_proto::tonic::resource::v1::Resource;
use tollgate_gateway::trace::Context;
use tollgate_gateway::{Access, BuildError, Exchange, Phases, Plugin, Scope};
use tollgate_http::client::Timeouts;
use tollgate_model::entity::rules;
use tollgate_model::schema::EntityCheck;
use tollgate_model::{Config, Map, PluginSchema, Secret, Value};

use self::export::{Collector, Entry};
use self::propagation::{Extracted, Propagation, PropagationConfig, Told};
use crate::observe::queue::{Queue, QueueConfig};
use crate::read;
use crate::server::Server;
use crate::transform::template::{self, Template};

/// Configuration of `opentelemetry` (Kong 3.11).
#[derive(Debug, Clone, Config)]
#[config(checks = [EntityCheck::AtLeastOneOf(vec!["traces_endpoint", "logs_endpoint"])])]
pub struct OpenTelemetryConfig {
    /// Address that spans are sent to, such as `http://localhost:4318/v1/traces`.
    #[config(referenceable, check = address)]
    traces_endpoint: Option<String>,
    /// The same, under its old name.
    #[config(shorthand = "traces_endpoint", check = address)]
    #[allow(dead_code, reason = "its heir has the value")]
    endpoint: Option<String>,
    /// Not served: lines of the error log are not sent to collectors.
    #[config(referenceable, check = refuse_logs)]
    #[allow(dead_code, reason = "refused")]
    logs_endpoint: Option<String>,
    /// Header fields of requests to the collector, such as its key.
    #[config(keys(check = rules::header_name), values(referenceable, encrypted = false))]
    headers: Option<BTreeMap<String, Secret>>,
    /// What is told of this node beside `service.name` (`kong`, unless it is set here), `service.version` and
    /// `service.instance.id`. Values may hold `$(…)`, as `request-transformer`'s do,
    /// of the request as it was sent on.
    #[config(values(check = is_template))]
    resource_attributes: Option<BTreeMap<String, String>>,
    /// How spans wait and are sent.
    #[config(field_default("max_batch_size", 200))]
    queue: QueueConfig,
    /// Most spans that are sent together; `queue` has it now.
    #[config(shorthand = "queue.max_batch_size")]
    #[allow(dead_code, reason = "its heir has the value")]
    batch_span_count: Option<usize>,
    /// Seconds between two batches; `queue` has it now.
    #[config(shorthand = "queue.max_coalescing_delay")]
    #[allow(dead_code, reason = "its heir has the value")]
    batch_flush_delay: Option<f64>,
    /// Milliseconds to wait for a connection to the collector.
    #[config(default = 1000, between(0, 2_147_483_646))]
    connect_timeout: u32,
    /// Milliseconds that sending may pause.
    #[config(default = 5000, between(0, 2_147_483_646))]
    send_timeout: u32,
    /// Milliseconds to wait for its answer.
    #[config(default = 5000, between(0, 2_147_483_646))]
    read_timeout: u32,
    /// Header field in which clients are told the id of the trace.
    #[config(check = rules::header_name)]
    http_response_header_for_traceid: Option<String>,
    /// Which tracing headers are taken over and sent on; counts where `propagation` has nothing but a
    /// `default_format`.
    #[config(
        optional,
        default = "preserve",
        one_of(
            "preserve",
            "ignore",
            "b3",
            "b3-single",
            "w3c",
            "jaeger",
            "ot",
            "aws",
            "datadog",
            "gcp",
            "instana"
        )
    )]
    header_type: Option<String>,
    /// Share of requests that are traced, from 0 to 1; without it `tracing_sampling_rate` counts.
    #[config(between(0, 1))]
    sampling_rate: Option<f64>,
    /// Whether a client that samples its own spans decides: only when it does not
    /// (`parent_drop_probability_fallback`), or either way (`parent_probability_fallback`).
    #[config(default = "parent_drop_probability_fallback")]
    sampling_strategy: SamplingStrategy,
    /// How a trace is taken over from the client, and told to the upstream.
    #[config(record_default("default_format"))]
    propagation: PropagationConfig,
}

/// Who decides whether a request is traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum SamplingStrategy {
    /// A client that does not sample its spans; else chance.
    #[config(rename = "parent_drop_probability_fallback")]
    ParentDrops,
    /// The client, where it says; else chance.
    #[config(rename = "parent_probability_fallback")]
    ParentDecides,
}

fn address(value: &Value) -> Result<(), String> {
    Server::of(value.as_str().unwrap_or_default())
        .map(drop)
        .map_err(|error| format!("expected a URL, found {error}"))
}

fn refuse_logs(_: &Value) -> Result<(), String> {
    Err("lines of the error log cannot be sent to a collector; take this field out, and have the collector read \
         the file of proxy_error_log"
        .to_owned())
}

fn is_template(value: &Value) -> Result<(), String> {
    Template::new(value.as_str().unwrap_or_default()).map(drop).map_err(|error| error.to_string())
}

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema::new("opentelemetry", 14, OpenTelemetryConfig::schema())
        .about("Sends traces of requests to a collector, and has them go on through the upstream.")
        .without_consumer_group()
}

/// Compiles a configured `opentelemetry`.
///
/// # Errors
/// There is no thread to send with.
pub fn build(config: &Map<String, Value>, _: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: OpenTelemetryConfig = read(config)?;
    let refused = |field: &str, message: String| BuildError { field: format!("config.{field}"), message };
    let milliseconds = |count: u32| Duration::from_millis(count.into());
    let mut attributes = Vec::new();
    for (name, value) in config.resource_attributes.unwrap_or_default() {
        let template = Template::new(&value)
            .map_err(|error| refused(&format!("resource_attributes.{name}"), error.to_string()))?;
        attributes.push((name, template));
    }
    let queue = match &config.traces_endpoint {
        None => None,
        Some(url) => {
            let server = Server::of(url).map_err(|error| refused("traces_endpoint", error.to_string()))?;
            let name = format!("opentelemetry: {}{}", server.origin, server.path());
            let timeouts = Timeouts {
                connect: milliseconds(config.connect_timeout),
                write: milliseconds(config.send_timeout),
                read: milliseconds(config.read_timeout),
            };
            let collector = Collector::new(server, config.headers.unwrap_or_default(), timeouts);
            Some(
                Queue::new(name, config.queue, collector)
                    .map_err(|error| refused("queue", error.to_string()))?,
            )
        }
    };
    Ok(Arc::new(OpenTelemetry {
        propagation: Propagation::new(&config.propagation, config.header_type.as_deref()),
        queue,
        sampling_rate: config.sampling_rate,
        strategy: config.sampling_strategy,
        answer_field: config.http_response_header_for_traceid,
        is_fixed: attributes.iter().all(|(_, value)| value.is_fixed()),
        attributes,
        resource: OnceLock::new(),
    }))
}

struct OpenTelemetry {
    propagation: Propagation,
    queue: Option<Queue<Box<Entry>>>,
    sampling_rate: Option<f64>,
    strategy: SamplingStrategy,
    answer_field: Option<String>,
    attributes: Vec<(String, Template)>,
    /// Whether what is told of this node is the same for all requests.
    is_fixed: bool,
    resource: OnceLock<Arc<Resource>>,
}

impl OpenTelemetry {
    /// Where a request's spans belong, and whether they are sent on.
    fn decide(&self, exchange: &Exchange, extracted: Option<&Extracted>) -> Context {
        let traces = &exchange.settings.traces;
        let trace_id = extracted.and_then(|extracted| extracted.trace_id);
        let trace_id = trace_id.unwrap_or_else(|| fastrand::u128(1..));
        let by_chance = || {
            let rate = self.sampling_rate.unwrap_or(traces.sampling_rate);
            // Every gateway on a trace's way decides the same (OpenTelemetry: `TraceIdRatioBased`).
            (trace_id as u64 >> 1) < (rate * (1_u64 << 63) as f64) as u64
        };
        let parent_decided = extracted.and_then(|extracted| extracted.sampled);
        let sampled = traces.request
            && match (self.strategy, parent_decided) {
                _ if extracted.is_some_and(|extracted| extracted.is_debug) => true,
                (_, Some(false)) => false,
                (SamplingStrategy::ParentDecides, Some(true)) => true,
                _ => by_chance(),
            };
        let root = fastrand::u64(1..);
        let upstream = if traces.balancer { fastrand::u64(1..) } else { root };
        let parent = extracted.and_then(|extracted| extracted.span);
        Context { trace_id, parent, root, upstream, sampled }
    }

    /// What is told of this node.
    fn resource(&self, exchange: &Exchange) -> Arc<Resource> {
        let make = || {
            let scope = template::Scope::of(exchange);
            let values = self.attributes.iter().filter_map(|(name, template)| {
                let value = template.render(&scope).ok()?;
                Some((name.as_str(), String::from_utf8_lossy(&value).into_owned()))
            });
            Arc::new(spans::resource(&exchange.settings.node_id, values))
        };
        match self.is_fixed {
            true => Arc::clone(self.resource.get_or_init(make)),
            false => make(),
        }
    }
}

impl Plugin for OpenTelemetry {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::TRACE)
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let extracted = self.propagation.extract(&exchange.head.headers);
        let context = self.decide(exchange, extracted.as_ref());
        let told = Told {
            trace_id: context.trace_id,
            is_short: extracted.as_ref().is_some_and(|extracted| extracted.is_short),
            span: context.upstream,
            parent: if context.upstream == context.root { context.parent } else { Some(context.root) },
            sampled: context.sampled,
            is_debug: extracted.as_ref().is_some_and(|extracted| extracted.is_debug),
            baggage: extracted.as_ref().map(|extracted| extracted.baggage.clone()).unwrap_or_default(),
        };
        let mut formats = self.propagation.inject(&mut exchange.head.headers, extracted.as_ref(), &told);
        formats.extend(extracted.map(|extracted| extracted.format));
        if formats.is_empty() {
            formats.push(propagation::Format::W3c);
        }
        let ids = formats
            .iter()
            .map(|format| (format.name().to_owned(), format.trace_id(told.trace_id, told.is_short).into()));
        let ids = Value::Object(ids.collect());
        exchange.facts.custom.insert("trace_id".to_owned(), ids);
        if let Some(name) = &self.answer_field {
            exchange.response_headers.set(name, format!("{:032x}", context.trace_id));
        }
        if let Some(trace) = &mut exchange.trace {
            trace.context = Some(context);
        }
        Access::Continue
    }

    fn log(&self, exchange: &mut Exchange) {
        let (Some(trace), Some(queue)) = (exchange.trace.take(), &self.queue) else { return };
        // Where another plugin has answered before, nothing is decided yet.
        let context = trace.context.unwrap_or_else(|| {
            self.decide(exchange, self.propagation.extract(&exchange.head.headers).as_ref())
        });
        if !context.sampled {
            return;
        }
        let resource = self.resource(exchange);
        for span in spans::of(exchange, *trace, &context) {
            queue.push(Box::new(Entry { resource: Arc::clone(&resource), span }));
        }
    }
}
