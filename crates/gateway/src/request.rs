//! The way of a request through the gateway, top to bottom.
//!
//! accept → match a route → run the plugins' access → send to a target → answer phases → log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tollgate_http::client::{Client, SendError, Timeouts};
use tollgate_http::{
    Body, BodyError, Connection, Handler, Headers, Refusal, Request, RequestHead, Response, StatusCode,
};
use tollgate_telemetry::Level;

use crate::answer;
use crate::balancer::probe::Prober;
use crate::destination::Destination;
use crate::exchange::{Exchange, Facts, Source, Try};
use crate::path;
use crate::plugin::{Access, Outcome, Phases};
use crate::request_id::RequestId;
use crate::response::{self, InFlight};
use crate::router::MatchInput;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::upstream::{self, Choice, Target};
use crate::{forwarded, logging, received, trace};

/// The data plane: answers requests by the current snapshot.
pub struct Gateway {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Snapshots that requests under way may still hold, so that none of them has to free one.
    retired: Mutex<Vec<Arc<Snapshot>>>,
    client: Client,
    settings: Arc<Settings>,
    counters: Counters,
    prober: Prober,
}

/// Counts since the start, for the status API.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests begun.
    pub requests: AtomicU64,
}

impl Gateway {
    /// A gateway that serves `snapshot`.
    pub fn new(snapshot: Snapshot, client: Client, settings: Settings) -> Self {
        let gateway = Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            retired: Mutex::default(),
            client,
            settings: Arc::new(settings),
            counters: Counters::default(),
            prober: Prober::default(),
        };
        gateway.prober.follow(&gateway.snapshot.load(), &gateway.snapshot);
        gateway
    }

    /// The configuration being served.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Serves another configuration from now on; requests under way end with theirs.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.prober.follow(&snapshot, &self.snapshot);
        let old = self.snapshot.swap(snapshot);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.push(old);
        retired.retain(|old| Arc::strong_count(old) > 1);
    }

    /// The node's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn open(&self, request: Request) -> Box<Exchange> {
        Self::begin(request, self.snapshot.load_full(), &self.settings, &self.client)
    }

    /// A request that has just begun.
    pub(crate) fn begin(
        request: Request,
        snapshot: Arc<Snapshot>,
        settings: &Arc<Settings>,
        sender: &Client,
    ) -> Box<Exchange> {
        let Request { head, mut body, connection } = request;
        let request_size = received::head_size(&head) + body.remaining().unwrap_or(0);
        let request_counted = received::count_unknown(&mut body);
        let client = forwarded::client(&settings.forwarded, &head.headers, &connection);
        Box::new(Exchange {
            received_target: head.target.clone(),
            request_id: RequestId::new(),
            started: Instant::now(),
            client_ip: client.ip,
            client_scheme: client.scheme,
            settings: Arc::clone(settings),
            client: sender.clone(),
            on_behalf_of: None,
            snapshot,
            route: None,
            captures: Vec::new(),
            consumer: None,
            credential: None,
            path: Bytes::new(),
            query: None,
            upstream_path: Bytes::new(),
            connection_requests: connection.requests.fetch_add(1, Ordering::Relaxed) + 1,
            stripped: 0,
            destination: None,
            upstream_host: None,
            response_headers: Headers::new(),
            facts: Facts { request_size, request_counted, ..Facts::default() },
            filters: Vec::new(),
            llm_usage_observers: Vec::new(),
            running: 0,
            collected: None,
            entry: None,
            lease: None,
            attempts: None,
            trace: None,
            head,
            body,
            connection,
        })
    }
}

impl Handler for Gateway {
    async fn handle(&self, request: Request) -> Response {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let mut flight = InFlight::new(self.open(request));
        let answered = without_panic(pin!(self.answer(&mut flight.exchange))).await;
        let response = match answered {
            Some(response) => response,
            None => {
                let exchange = &mut *flight.exchange;
                exchange.facts.source = Source::Error;
                logging::about(exchange, Level::Error, &"the request failed with a panic");
                exchange.error(StatusCode::INTERNAL_SERVER_ERROR, answer::UNEXPECTED)
            }
        };
        response::finish(flight, response, &self.settings)
    }

    fn refuse(&self, refusal: Refusal, head: Option<&RequestHead>, connection: &Connection) -> Response {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = RequestId::new();
        let mut response = answer::refusal(refusal, head, &request_id, &self.settings.errors);
        response::add_refusal_fields(&mut response.headers, &self.settings, &request_id);
        let Some(head) = head else {
            if let Some(sink) = &self.settings.access_log {
                let secrets = &self.snapshot.load().secret_names;
                logging::refused(sink, None, connection, &response, &request_id, secrets);
            }
            return response;
        };
        let (head, connection) = (head.clone(), Arc::new(connection.clone()));
        let mut exchange = self.open(Request { head, body: Body::Empty, connection });
        exchange.request_id = request_id;
        exchange.query = exchange.head.query().map(|query| exchange.head.target.slice_ref(query));
        exchange.facts.source = Source::Error;
        response::follow(InFlight::new(exchange), response)
    }
}

/// What a future gives; `None` where it panics.
async fn without_panic<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

impl Gateway {
    /// The answer to a request, before the plugins' response phase.
    async fn answer(&self, exchange: &mut Exchange) -> Response {
        let refusal = self.find_route(exchange);
        if self.settings.traces.request {
            trace::begin(exchange);
        }
        let answer = match refusal {
            None => run_access(exchange).await,
            refusal => refusal,
        };
        match (answer, exchange.attempts.take()) {
            (Some(answer), _) => answer,
            (None, None) => self.send(exchange).await,
            (None, Some(attempts)) => Box::pin(self.send_by(exchange, attempts)).await,
        }
    }

    /// Matches the request; an answer where nothing matches or the route demands another protocol.
    fn find_route(&self, exchange: &mut Exchange) -> Option<Response> {
        let path_length = exchange.head.path().len();
        exchange.path = path::normalize(exchange.head.target.slice(..path_length));
        exchange.query = exchange.head.query().map(|query| exchange.head.target.slice_ref(query));
        let snapshot = &exchange.snapshot;
        let found = snapshot.router.find(&MatchInput {
            method: exchange.head.method.as_str(),
            host: exchange.head.headers.get_str("host").unwrap_or_default(),
            path: &exchange.path,
            headers: &exchange.head.headers,
            server_name: exchange.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            port: exchange.client_port(),
            tls: exchange.connection.tls.is_some(),
        });
        let Some((found, route)) = found.and_then(|found| {
            snapshot.routes.get(found.route).cloned().flatten().map(|route| (found, route))
        }) else {
            return Some(exchange.error(StatusCode::NOT_FOUND, answer::NO_ROUTE));
        };
        if let Some(refusal) = route.protocols.demand(&route, exchange) {
            exchange.route = Some(route);
            return Some(refusal);
        }
        let service_path = route.service.as_ref().and_then(|service| service.path.as_deref()).unwrap_or("/");
        exchange.upstream_path = path::join(
            service_path,
            &exchange.path,
            found.matched_length,
            route.strip_path,
            route.path_handling,
        );
        if route.strip_path {
            exchange.stripped = found.matched_length.min(exchange.path.len());
        }
        exchange.captures = found.captures;
        exchange.destination = route.service.as_ref().map(|service| Arc::clone(&service.destination));
        exchange.route = Some(route);
        None
    }
}

/// Runs the access phase of the route's plugins in order; the first answer ends it.
async fn run_access(exchange: &mut Exchange) -> Option<Response> {
    let route = Arc::clone(exchange.route.as_ref()?);
    if route.chain.fixed.is_none() {
        exchange.collected = Some(Vec::with_capacity(route.chain.len()));
    }
    let mut answer = None;
    for place in 0..route.chain.len() {
        let consumer = exchange.consumer.as_ref().map(|consumer| consumer.id);
        let Some(configured) = route.chain.resolve(place, consumer, &exchange.snapshot.consumers) else {
            continue;
        };
        if let Some(collected) = &mut exchange.collected {
            exchange.running = collected.len();
            collected.push(Arc::clone(configured));
        } else {
            exchange.running = place;
        }
        if answer.is_none() && configured.phases.has(Phases::ACCESS) {
            let begun = trace::phase_begins(exchange, |traces| traces.plugin_access);
            answer = match configured.plugin.access(exchange) {
                Access::Continue => None,
                Access::Answer(response) => Some(response),
                Access::Wait(future) => match future.await {
                    Outcome::Continue => None,
                    Outcome::Answer(response) => Some(response),
                },
            };
            trace::phase_ended(exchange, "access", configured.name, begun);
        }
    }
    answer
}

/// Bodies up to this size are read whole before an upstream is bothered with them, so that a slow client costs it
/// nothing and a failed try can be repeated; longer ones stream (Kong 3.11: `request_buffering`).
const BUFFERED_AT_MOST: usize = 1024 * 1024;

impl Gateway {
    /// Sends the request to the destination, trying again where that is safe, and returns the upstream's
    /// answer or the error that stands for it.
    async fn send(&self, exchange: &mut Exchange) -> Response {
        let Some(destination) = exchange.destination.clone() else {
            return exchange.error(StatusCode::SERVICE_UNAVAILABLE, answer::NO_SERVICE);
        };
        let mut choice = Choice::new(&destination, exchange);
        let mut target = match choice.next().await {
            Ok(target) => target,
            Err(none) => {
                logging::about(exchange, Level::Error, &none);
                return exchange.error(StatusCode::SERVICE_UNAVAILABLE, none.message());
            }
        };
        if let Err(refusal) = self.take_in(exchange, &destination, target.chosen).await {
            return refusal;
        }
        set_target(exchange);
        let own_host = own_host(exchange);
        forwarded::prepare_request(
            exchange,
            own_host.as_deref().unwrap_or(target.host.as_bytes()),
            &self.settings,
        );
        let service = exchange.route.as_ref().and_then(|route| route.service.as_ref());
        let (timeouts, mut retries) = match service {
            Some(service) => (service.timeouts, service.retries),
            None => (Timeouts::default(), 5),
        };
        loop {
            let error = match self.attempt(exchange, &target, &timeouts).await {
                Ok(response) => return gather(exchange, response).await,
                Err(error) => error,
            };
            if retries == 0 || !error.may_retry(&exchange.head.method) {
                return upstream_error(exchange, upstream::status_of(&error));
            }
            retries -= 1;
            let Ok(next) = choice.next().await else {
                return upstream_error(exchange, StatusCode::SERVICE_UNAVAILABLE);
            };
            if own_host.is_none() && next.host != target.host {
                exchange.head.headers.set("Host", next.host);
            }
            target = next;
        }
    }

    /// Reads what is to be there before an upstream is bothered, and notes what the log wants to know. From here on
    /// the answer is the upstream's, or an error in its place. The error is one of the client's body.
    pub(crate) async fn take_in(
        &self,
        exchange: &mut Exchange,
        destination: &Destination,
        chosen: Instant,
    ) -> Result<(), Response> {
        exchange.facts.proxied = Some(chosen);
        exchange.facts.source = Source::Error;
        if matches!(exchange.body, Body::Stream(_))
            && !destination.http2
            && exchange.route.as_ref().is_none_or(|route| route.request_buffering)
        {
            match Box::pin(exchange.body.buffer(BUFFERED_AT_MOST)).await {
                // A larger one goes on as it comes.
                Ok(_) | Err(BodyError::TooLarge { limit: BUFFERED_AT_MOST }) => {}
                Err(error) => return Err(upstream_error(exchange, upstream::status_of_body(&error))),
            }
            exchange.facts.proxied = Some(Instant::now());
        }
        if response::chain(exchange).has(Phases::ENTRY) {
            exchange.facts.request_headers = Some(exchange.head.headers.clone());
        }
        Ok(())
    }

    /// One try: sends the request to `target` and waits for the head of the answer.
    pub(crate) async fn attempt(
        &self,
        exchange: &mut Exchange,
        target: &Target<'_>,
        timeouts: &Timeouts,
    ) -> Result<Response, SendError> {
        exchange.lease = target.lease();
        let endpoint = target.endpoint(exchange.head.headers.get("host").unwrap_or_default());
        exchange.facts.tries.push(Try {
            ip: endpoint.address.ip(),
            port: endpoint.address.port(),
            started: target.started,
            chosen: target.chosen,
            failure: None,
            ended: None,
            name: exchange.trace.as_ref().and(target.name).map(Box::from),
        });
        let outcome = self.client.send(&endpoint, &exchange.head, &mut exchange.body, timeouts).await;
        let answered = Instant::now();
        target.report(&outcome, answered.saturating_duration_since(target.chosen));
        if let Some(attempt) = exchange.facts.tries.last_mut() {
            attempt.ended = Some(answered);
            attempt.failure = outcome.as_ref().err().map(|error| upstream::status_of(error).as_u16());
        }
        if let Err(error) = &outcome {
            logging::try_failed(exchange, error);
        }
        if let Ok(response) = &outcome {
            exchange.facts.answered = Some(answered);
            exchange.facts.upstream_status = Some(response.status.as_u16());
            exchange.facts.source = Source::Upstream;
        }
        outcome
    }
}

/// `Host` to send on where it is not the target's: what a plugin set, or the client's (`preserve_host`).
fn own_host(exchange: &Exchange) -> Option<Box<[u8]>> {
    exchange.upstream_host.as_ref().map(|host| host.as_bytes().into()).or_else(|| kept_host(exchange))
}

/// The client's `Host`, where it is sent on (`preserve_host`).
pub(crate) fn kept_host(exchange: &Exchange) -> Option<Box<[u8]>> {
    exchange.route.as_ref().filter(|route| route.preserve_host)?;
    exchange.head.headers.get("host").filter(|host| !host.is_empty()).map(Box::from)
}

/// Writes the target that is sent on into the head.
pub(crate) fn set_target(exchange: &mut Exchange) {
    let target = match &exchange.query {
        None => exchange.upstream_path.clone(),
        Some(query) => follow_on(&exchange.received_target, &exchange.upstream_path, query)
            .unwrap_or_else(|| [&exchange.upstream_path, &b"?"[..], query].concat().into()),
    };
    exchange.head.target = target;
}

/// Path and query as one piece of the received target, where they are still that: nothing needs to be copied then.
fn follow_on(received: &Bytes, path: &Bytes, query: &Bytes) -> Option<Bytes> {
    let start = (path.as_ptr() as usize).checked_sub(received.as_ptr() as usize)?;
    let end = start + path.len() + 1 + query.len();
    let follows = query.as_ptr() as usize == path.as_ptr() as usize + path.len() + 1;
    (follows && end <= received.len()).then(|| received.slice(start..end))
}

/// Reads the answer whole where a plugin wants it so.
pub(crate) async fn gather(exchange: &mut Exchange, mut response: Response) -> Response {
    let wanted = exchange.filters.iter().filter_map(|(_, filter)| filter.wants_whole(&response)).max();
    let Some(limit) = wanted else { return response };
    match Box::pin(response.body.buffer(limit)).await {
        Ok(_) => {
            wait_for_filters(exchange, &mut response).await;
            response
        }
        Err(error) => {
            exchange.facts.source = Source::Error;
            logging::about(
                exchange,
                Level::Error,
                &format_args!("upstream broke off ({error}) while reading upstream"),
            );
            upstream_error(exchange, StatusCode::BAD_GATEWAY)
        }
    }
}

/// Lets those filters change an answer that is there whole that have to wait for something. The filter that waits is
/// lost where the client leaves meanwhile; the others are finished as ever.
async fn wait_for_filters(exchange: &mut Exchange, response: &mut Response) {
    for place in 0..exchange.filters.len() {
        if exchange.filters.get(place).is_some_and(|(_, filter)| filter.waits()) {
            forwarded::clean_response(&mut response.headers, &exchange.head.headers);
            let (owner, mut filter) = exchange.filters.remove(place);
            filter.wait(exchange, response).await;
            exchange.filters.insert(place, (owner, filter));
        }
    }
}

/// The answer where the upstream gives none.
pub(crate) fn upstream_error(exchange: &Exchange, status: StatusCode) -> Response {
    answer::low_level(
        status,
        &answer::default_message(status),
        Some(&exchange.head),
        &exchange.request_id,
        &exchange.settings.errors,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_still_follows_on_is_not_copied() {
        let received = Bytes::from_static(b"/a/bc?d=e");
        let query = received.slice(6..);
        for (path, query, expected) in [
            (received.slice(..5), query.clone(), Some("/a/bc?d=e")),
            (received.slice(2..5), query.clone(), Some("/bc?d=e")),
            (received.slice(2..4), query.clone(), None),
            (received.slice(2..5), received.slice(7..), None),
            (Bytes::from_static(b"/bc"), query.clone(), None),
            (received.slice(..5), Bytes::copy_from_slice(b"d=e"), None),
            (Bytes::new(), query, None),
            (received.slice(..5), Bytes::new(), None),
        ] {
            let found = follow_on(&received, &path, &query);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path:?} {query:?}");
        }
    }

    #[tokio::test]
    async fn a_panic_is_no_answer() {
        assert_eq!(without_panic(pin!(async { 1 })).await, Some(1));
        let panics = async {
            tokio::task::yield_now().await;
            assert_eq!(1, std::hint::black_box(2), "this panic is part of the test");
        };
        assert_eq!(without_panic(pin!(panics)).await, None);
    }
}
