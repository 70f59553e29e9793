//! The way back: the answer's head through the plugins and the gateway's own fields, its body through the
//! filters to the client, and the log when the last byte is out or the client has gone.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use tollgate_http::{Body, BodyError, BodyStream, Headers, Method, Response, StatusCode};
use tollgate_telemetry::Level;

use crate::chain::{Chain, Configured};
use crate::exchange::Source;
use crate::forwarded;
use crate::plugin::{Phases, ResponseFilter};
use crate::request_id::RequestId;
use crate::settings::Settings;
use crate::{Exchange, answer, logging, trace};

/// The status logged when the client left before it had an answer (nginx's).
const CLIENT_GONE: u16 = 499;

/// Requests this process is answering.
static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Requests this process is answering now.
pub fn under_way() -> usize {
    UNDER_WAY.load(Ordering::Relaxed)
}

/// An exchange on its way. However it ends, filters are finished and the log phase runs, once.
pub(crate) struct InFlight {
    pub(crate) exchange: Box<Exchange>,
    filters: Vec<Box<dyn ResponseFilter>>,
    /// The answer went out to its end.
    complete: bool,
    /// The upstream's answer broke off.
    broken: bool,
}

impl InFlight {
    pub(crate) fn new(exchange: Box<Exchange>) -> Self {
        UNDER_WAY.fetch_add(1, Ordering::Relaxed);
        Self { exchange, filters: Vec::new(), complete: false, broken: false }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let exchange = &mut *self.exchange;
        if exchange.facts.status == 0 {
            exchange.facts.status = CLIENT_GONE;
            if exchange.facts.proxied.is_some() {
                // Nobody erred (Kong 3.11).
                exchange.facts.source = Source::Upstream;
            }
        }
        if !self.complete && !self.broken {
            logging::about(exchange, Level::Info, &"client prematurely closed connection");
        }
        let unused = std::mem::take(&mut exchange.filters);
        for mut filter in self.filters.drain(..).chain(unused.into_iter().map(|(_, filter)| filter)) {
            filter.finish(exchange, self.complete);
        }
        for observer in std::mem::take(&mut exchange.llm_usage_observers) {
            if catch_unwind(AssertUnwindSafe(|| observer(exchange))).is_err() {
                logging::about(exchange, Level::Error, &"an observer of the LLM's usage failed");
            }
        }
        if chain(exchange).has(Phases::LOG) {
            exchange.facts.ended = Some(Instant::now());
        }
        each_plugin(exchange, Phases::LOG, |configured, exchange, _| {
            // While another panic unwinds, a second one would end the process.
            let logged = catch_unwind(AssertUnwindSafe(|| configured.plugin.log(exchange)));
            if logged.is_err() {
                logging::about(
                    exchange,
                    Level::Error,
                    &format_args!("the log phase of {} failed", configured.name),
                );
            }
        });
        logging::access(exchange);
        UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends an answer through the plugins' response phase and adds the gateway's fields.
pub(crate) fn finish(mut flight: InFlight, mut response: Response, settings: &Settings) -> Response {
    let InFlight { exchange, filters, .. } = &mut flight;
    let exchange = &mut **exchange;
    if exchange.facts.source == Source::Upstream {
        forwarded::clean_response(&mut response.headers, &exchange.head.headers);
    }
    set_fields(exchange, &mut response.headers);
    each_plugin(exchange, Phases::RESPONSE, |configured, exchange, place| {
        let begun = trace::phase_begins(exchange, |traces| traces.plugin_header_filter);
        let left = exchange.filters.iter().position(|(owner, _)| *owner == place);
        let filter = match left {
            Some(at) => {
                let (_, mut filter) = exchange.filters.remove(at);
                filter.head(exchange, &mut response);
                Some(filter)
            }
            None => configured.plugin.response(exchange, &mut response),
        };
        filters.extend(filter);
        trace::phase_ended(exchange, "header_filter", configured.name, begun);
    });
    set_fields(exchange, &mut response.headers);
    let now = match exchange.facts.answered {
        // Nothing has come between that would take time.
        Some(answered) if filters.is_empty() && !chain(exchange).has(Phases::RESPONSE) => answered,
        _ => Instant::now(),
    };
    exchange.facts.responded = Some(now);
    add_fields(exchange, &mut response, settings, now);
    if exchange.head.method == Method::HEAD && exchange.facts.source != Source::Upstream {
        answer::drop_body(&mut response);
    }
    follow(flight, response)
}

/// Sends an answer as it is, and logs it when it is out.
pub(crate) fn follow(mut flight: InFlight, mut response: Response) -> Response {
    let InFlight { exchange, filters, .. } = &mut flight;
    exchange.facts.status = response.status.as_u16();
    let body = std::mem::take(&mut response.body);
    let bodiless = exchange.head.method == Method::HEAD
        || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status.is_informational();
    if chain(exchange).has(Phases::ENTRY) {
        exchange.facts.response_headers =
            as_framed(&response.headers, known_length(filters, &body), bodiless);
    }
    response.body = Body::stream(FollowedBody { body, flight, ended: false, bodiless });
    response
}

/// Sets the fields that the exchange has for the answer, and forgets them: plugins that run later may change them.
fn set_fields(exchange: &mut Exchange, headers: &mut Headers) {
    if exchange.response_headers.is_empty() {
        return;
    }
    for (name, value) in std::mem::take(&mut exchange.response_headers).iter() {
        if let Ok(name) = std::str::from_utf8(name) {
            // Cookies stand beside each other.
            match name.eq_ignore_ascii_case("set-cookie") {
                true => headers.append(name, value),
                false => headers.set(name, value),
            }
        }
    }
}

/// The chain of the exchange's route.
pub(crate) fn chain(exchange: &Exchange) -> &Chain {
    exchange.route.as_ref().map_or(&exchange.snapshot.unmatched, |route| &route.chain)
}

/// Calls `run` for every plugin of the exchange that has the phase, in order.
fn each_plugin(
    exchange: &mut Exchange,
    phase: Phases,
    mut run: impl FnMut(&Configured, &mut Exchange, usize),
) {
    if !chain(exchange).has(phase) {
        return;
    }
    let collected = exchange.collected.take();
    let route = exchange.route.clone();
    let snapshot = Arc::clone(&exchange.snapshot);
    let chain: &Chain = route.as_ref().map_or(&snapshot.unmatched, |route| &route.chain);
    // A request that was answered before its consumer could be known has none.
    let of_nobody: Vec<_>;
    let plugins = match collected.as_deref().or(chain.fixed.as_deref()) {
        Some(plugins) => plugins,
        None => {
            let run = |place| chain.resolve(place, None, &snapshot.consumers).cloned();
            of_nobody = (0..chain.len()).filter_map(run).collect();
            &of_nobody
        }
    };
    for (place, configured) in plugins.iter().enumerate() {
        if configured.phases.has(phase) {
            run(configured, exchange, place);
        }
    }
    exchange.collected = collected;
}

/// `Via`, `Server`, latencies and the request id (Kong 3.11: `headers`).
fn add_fields(exchange: &Exchange, response: &mut Response, settings: &Settings, now: Instant) {
    let tokens = &settings.headers;
    let status = response.status;
    let headers = &mut response.headers;
    match exchange.facts.proxied {
        Some(proxied) => {
            if tokens.upstream_latency {
                let answered = exchange.facts.answered.unwrap_or(now);
                set_milliseconds(headers, "X-Kong-Upstream-Latency", proxied, answered);
            }
            if tokens.proxy_latency {
                set_milliseconds(headers, "X-Kong-Proxy-Latency", exchange.started, proxied);
            }
            if tokens.via {
                let http2 = exchange.destination.as_ref().is_some_and(|destination| destination.http2);
                forwarded::add_via(headers, if http2 { "2" } else { "1.1" }, &settings.product);
            }
            if tokens.upstream_status {
                let status = exchange.facts.upstream_status.unwrap_or(status.as_u16());
                headers.set("X-Kong-Upstream-Status", itoa::Buffer::new().format(status));
            }
            if tokens.server && !headers.contains("server") {
                headers.append("Server", settings.product.as_bytes());
            }
        }
        None => {
            if tokens.response_latency {
                set_milliseconds(headers, "X-Kong-Response-Latency", exchange.started, now);
            }
            set_own_server(headers, settings);
        }
    }
    if tokens.total_latency {
        set_milliseconds(headers, "X-Kong-Total-Latency", exchange.started, now);
    }
    if settings.debug_header && exchange.head.headers.contains("kong-debug") {
        add_debug_fields(exchange, headers);
    }
    if tokens.request_id {
        headers.set_own("X-Kong-Request-Id", exchange.request_id.as_bytes());
    }
}

fn set_milliseconds(headers: &mut Headers, name: &str, from: Instant, to: Instant) {
    let milliseconds = to.saturating_duration_since(from).as_millis() as u64;
    headers.set_own(name, itoa::Buffer::new().format(milliseconds));
}

/// `Server` of an answer made here. A plugin that passes on another server's answer says so in `Via`, and is
/// left its `Server` (Kong 3.11).
fn set_own_server(headers: &mut Headers, settings: &Settings) {
    if settings.headers.via && headers.get("via") == Some(settings.product.as_bytes()) {
        return;
    }
    match settings.headers.server {
        true => headers.set("Server", settings.product.as_bytes()),
        false => {
            headers.remove("server");
        }
    }
}

/// The fields of a refusal.
pub(crate) fn add_refusal_fields(headers: &mut Headers, settings: &Settings, request_id: &RequestId) {
    if settings.headers.response_latency {
        headers.set("X-Kong-Response-Latency", "0");
    }
    set_own_server(headers, settings);
    if settings.headers.request_id {
        headers.set("X-Kong-Request-Id", request_id.as_bytes());
    }
}

fn add_debug_fields(exchange: &Exchange, headers: &mut Headers) {
    let Some(route) = &exchange.route else { return };
    headers.set("Kong-Route-Id", route.id.to_string());
    if let Some(name) = &route.name {
        headers.set("Kong-Route-Name", name.as_bytes());
    }
    if let Some(service) = &route.service {
        headers.set("Kong-Service-Id", service.id.to_string());
        if let Some(name) = &service.name {
            headers.set("Kong-Service-Name", name.as_bytes());
        }
    }
}

/// The bytes still to come, where no filter changes their number.
fn known_length(filters: &[Box<dyn ResponseFilter>], body: &Body) -> Option<u64> {
    filters.iter().all(|filter| filter.keeps_length()).then(|| body.remaining()).flatten()
}

/// The fields with those by which the server will frame the body.
fn as_framed(headers: &Headers, length: Option<u64>, bodiless: bool) -> Headers {
    let mut headers = headers.clone();
    match length {
        _ if bodiless => {}
        Some(length) => headers.set("content-length", itoa::Buffer::new().format(length)),
        None => {
            headers.remove("content-length");
            headers.set("transfer-encoding", "chunked");
        }
    }
    headers
}

/// The body of an answer on its way to the client, with the exchange it belongs to.
struct FollowedBody {
    body: Body,
    flight: InFlight,
    ended: bool,
    /// Whether the answer ends with its head.
    bodiless: bool,
}

impl BodyStream for FollowedBody {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        while !self.ended {
            let chunk = ready!(self.body.poll_chunk(context));
            let InFlight { exchange, filters, complete, broken } = &mut self.flight;
            let out = match chunk {
                Some(Ok(chunk)) => filters.iter_mut().fold(chunk, |chunk, filter| match chunk.is_empty() {
                    true => chunk,
                    false => filter.chunk(exchange, chunk),
                }),
                Some(Err(error)) => {
                    self.ended = true;
                    logging::about(
                        exchange,
                        Level::Error,
                        &format_args!("upstream broke off ({error}) while reading upstream"),
                    );
                    exchange.facts.source = Source::Error;
                    *broken = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    *complete = true;
                    last_words(filters, exchange)
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out)));
            }
        }
        Poll::Ready(None)
    }

    fn remaining(&self) -> Option<u64> {
        known_length(&self.flight.filters, &self.body)
    }

    fn take_trailers(&mut self) -> Option<Headers> {
        match &mut self.body {
            Body::Stream(stream) => stream.take_trailers(),
            _ => None,
        }
    }

    fn head_sent(&mut self, bytes: u64) {
        self.flight.exchange.facts.response_head_size = bytes;
    }

    fn sent(&mut self, bytes: u64) {
        self.flight.exchange.facts.response_size += bytes;
        self.flight.complete |= self.bodiless;
    }
}

/// What each filter has left to say, seen by the filters after it.
fn last_words(filters: &mut [Box<dyn ResponseFilter>], exchange: &mut Exchange) -> Bytes {
    let mut carried = Bytes::new();
    for filter in filters {
        let passed = if carried.is_empty() { carried } else { filter.chunk(exchange, carried) };
        let own = filter.end(exchange);
        carried = match (passed.is_empty(), own.is_empty()) {
            (_, true) => passed,
            (true, false) => own,
            (false, false) => [passed, own].concat().into(),
        };
    }
    carried
}
