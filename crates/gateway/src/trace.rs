//! What a trace tells of a request: spans, left by the parts of the request as they end, for the plugin that sends
//! them on ([`Phases::TRACE`]).

use std::borrow::Cow;
use std::time::Instant;

use crate::Exchange;
use crate::plugin::Phases;
use crate::response::chain;

/// Which parts of a request have spans (Kong 3.11: `tracing_instrumentations`), and how many requests have any.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TraceSettings {
    /// Any at all: the request as a whole then has one.
    pub request: bool,
    /// Finding the route.
    pub router: bool,
    /// Looking up an upstream's address.
    pub dns_query: bool,
    /// Each try of the upstream.
    pub balancer: bool,
    /// Each plugin's access.
    pub plugin_access: bool,
    /// Each plugin's work on the head of the answer.
    pub plugin_header_filter: bool,
    /// The share of requests that are traced, from 0 to 1 (`tracing_sampling_rate`).
    pub sampling_rate: f64,
}

impl TraceSettings {
    /// Reads the values of `tracing_instrumentations`.
    ///
    /// # Errors
    /// Names the value that is none.
    pub fn parse(instrumentations: &[String], sampling_rate: f64) -> Result<Self, String> {
        let mut settings = Self { sampling_rate, ..Self::default() };
        for name in instrumentations {
            match name.as_str() {
                "off" if instrumentations.len() == 1 => return Ok(settings),
                "all" => {
                    (settings.router, settings.dns_query, settings.balancer) = (true, true, true);
                    (settings.plugin_access, settings.plugin_header_filter) = (true, true);
                }
                "router" => settings.router = true,
                "dns_query" => settings.dns_query = true,
                "balancer" => settings.balancer = true,
                "plugin_access" => settings.plugin_access = true,
                "plugin_header_filter" => settings.plugin_header_filter = true,
                // There is no database on a request's way, no rewrite phase, and the gateway's own requests stand
                // within what made them.
                "request" | "db_query" | "http_client" | "plugin_rewrite" => {}
                other => {
                    return Err(format!(
                        "expected 'off', 'all', or some of request, router, dns_query, balancer, plugin_access, \
                         plugin_header_filter, plugin_rewrite, http_client, db_query; found '{other}'"
                    ));
                }
            }
            settings.request = true;
        }
        Ok(settings)
    }
}

/// The trace of one request.
#[derive(Debug, Default)]
pub struct Trace {
    /// Where it belongs, once a plugin has decided.
    pub context: Option<Context>,
    /// The client's `Host`: the one that was sent on may be another.
    pub host: Box<str>,
    /// Parts of the request that have ended.
    pub spans: Vec<Span>,
}

impl Trace {
    /// Whether it is going to be sent on, as far as that is decided.
    pub fn is_sampled(&self) -> bool {
        self.context.is_some_and(|context| context.sampled)
    }
}

/// Where a request's spans belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: u128,
    /// The client's span, where it sent one.
    pub parent: Option<u64>,
    /// The span of the request as a whole.
    pub root: u64,
    /// The span that the upstream is told of as its parent.
    pub upstream: u64,
    /// Whether the spans are sent on.
    pub sampled: bool,
}

/// A part of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What it is.
    pub name: Cow<'static, str>,
    /// Whether another server was asked.
    pub asks_another: bool,
    /// When it began.
    pub started: Instant,
    /// When it was over.
    pub ended: Instant,
    /// What it tells.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Whether it failed.
    pub failed: bool,
    /// Parts of this part.
    pub parts: Vec<Span>,
}

impl Span {
    /// A part of the gateway's own work that is over now.
    pub fn ended_now(name: impl Into<Cow<'static, str>>, started: Instant) -> Self {
        Self {
            name: name.into(),
            asks_another: false,
            started,
            ended: Instant::now(),
            attributes: Vec::new(),
            failed: false,
            parts: Vec::new(),
        }
    }
}

/// What a span tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A whole number.
    Count(u64),
    /// A number.
    Number(f64),
    /// Several texts.
    Texts(Vec<String>),
}

/// Begins the trace of a request whose route has been looked up, where a plugin of the route wants it.
pub(crate) fn begin(exchange: &mut Exchange) {
    if !chain(exchange).has(Phases::TRACE) {
        return;
    }
    let host = exchange.head.headers.get_str("host").unwrap_or_default();
    let mut trace = Trace { host: host.into(), ..Trace::default() };
    if exchange.settings.traces.router {
        trace.spans.push(Span::ended_now("kong.router", exchange.started));
    }
    exchange.trace = Some(Box::new(trace));
}

/// When a plugin's phase begins, where that has a span.
pub(crate) fn phase_begins(
    exchange: &Exchange,
    is_wanted: impl Fn(&TraceSettings) -> bool,
) -> Option<Instant> {
    let wanted = exchange.trace.is_some() && is_wanted(&exchange.settings.traces);
    wanted.then(Instant::now)
}

/// Leaves the span of a plugin's phase that has a beginning.
pub(crate) fn phase_ended(exchange: &mut Exchange, phase: &str, plugin: &str, started: Option<Instant>) {
    if let (Some(started), Some(trace)) = (started, &mut exchange.trace) {
        trace.spans.push(Span::ended_now(format!("kong.{phase}.plugin.{plugin}"), started));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instrumentations() {
        let parse = |list: &[&str]| {
            TraceSettings::parse(&list.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>(), 0.5)
        };
        assert!(!parse(&["off"]).unwrap().request);
        assert!(!parse(&[]).unwrap().request);
        let all = parse(&["all"]).unwrap();
        assert!(all.request && all.router && all.dns_query && all.balancer && all.plugin_header_filter);
        let some = parse(&["balancer", "db_query"]).unwrap();
        assert!(some.request && some.balancer && !some.router && some.sampling_rate == 0.5);
        assert!(parse(&["request"]).unwrap().request);
        for wrong in [&["off", "all"][..], &["routers"], &[""]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
