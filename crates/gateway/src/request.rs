//! The way of a request through the gateway, top to bottom.
//!
//! accept → match a route → run the plugins' access → send to a target → answer phases → log.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rustls::pki_types::ServerName;
use tollgate_http::client::{Client, Endpoint, Resolver, SendError, SendErrorKind, Timeouts};
use tollgate_http::{
    Body, BodyError, BodyStream, Connection, Handler, Headers, Refusal, Request, RequestHead, Response,
    StatusCode,
};
use tollgate_telemetry::Level;

use crate::answer;
use crate::balancer::Outcome as TargetOutcome;
use crate::destination::{Destination, Host};
use crate::exchange::{Exchange, Facts, Source, Try};
use crate::path;
use crate::plugin::{Access, Outcome, Phases};
use crate::request_id::RequestId;
use crate::response::{self, InFlight};
use crate::router::MatchInput;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use crate::{forwarded, logging};

/// The data plane: answers requests by the current snapshot.
pub struct Gateway {
    snapshot: ArcSwap<Snapshot>,
    client: Client,
    resolver: Resolver,
    settings: Arc<Settings>,
    counters: Counters,
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
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            client,
            resolver: Resolver::default(),
            settings: Arc::new(settings),
            counters: Counters::default(),
        }
    }

    /// The configuration being served.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Serves another configuration from now on; requests under way end with theirs.
    pub fn swap(&self, snapshot: Arc<Snapshot>) {
        self.snapshot.store(snapshot);
    }

    /// The node's settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn open(&self, request: Request) -> Exchange {
        let Request { head, mut body, connection } = request;
        let request_size = head_size(&head) + body.remaining().unwrap_or(0);
        let request_counted = count_unknown(&mut body);
        let client = forwarded::client(&self.settings.forwarded, &head.headers, &connection);
        Exchange {
            received_target: head.target.clone(),
            request_id: RequestId::new(),
            started: Instant::now(),
            started_at: crate::clock::milliseconds(),
            client_ip: client.ip,
            client_scheme: client.scheme,
            settings: Arc::clone(&self.settings),
            snapshot: self.snapshot.load_full(),
            route: None,
            captures: Vec::new(),
            consumer: None,
            credential: None,
            path: Bytes::new(),
            query: None,
            upstream_path: Bytes::new(),
            stripped_prefix: None,
            destination: None,
            upstream_host: None,
            response_headers: Headers::new(),
            facts: Facts { request_size, request_counted, ..Facts::default() },
            filters: Vec::new(),
            running: 0,
            collected: None,
            entry: None,
            lease: None,
            head,
            body,
            connection,
        }
    }
}

impl Handler for Gateway {
    async fn handle(&self, request: Request) -> Response {
        self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let mut flight = InFlight::new(self.open(request));
        let response = match without_panic(self.answer(&mut flight.exchange)).await {
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
        let request_id = RequestId::new();
        let mut response = answer::refusal(refusal, head, &request_id, &self.settings.errors);
        if self.settings.headers.response_latency {
            response.headers.set("X-Kong-Response-Latency", "0");
        }
        response::add_identity(&mut response.headers, &self.settings, &request_id);
        if let Some(sink) = &self.settings.access_log {
            let secrets = &self.snapshot.load().secret_names;
            logging::refused(sink, head, connection, &response, &request_id, secrets);
        }
        response
    }
}

/// What a future gives; `None` where it panics.
async fn without_panic<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Bytes of a request's head; for HTTP/2 what they would be without compression.
fn head_size(head: &RequestHead) -> u64 {
    let received = match head.headers.received_bytes() {
        0 => {
            head.headers.iter().fold(head.target.len() + head.method.as_str().len(), |sum, (name, value)| {
                sum + name.len() + value.len()
            })
        }
        received => received,
    };
    received as u64
}

/// Counts the bytes of a body whose length nobody has told.
fn count_unknown(body: &mut Body) -> Option<Arc<AtomicU64>> {
    struct Counted(Box<dyn BodyStream>, Arc<AtomicU64>);
    impl BodyStream for Counted {
        fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
            let chunk = self.0.poll_chunk(context);
            if let Poll::Ready(Some(Ok(chunk))) = &chunk {
                self.1.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            }
            chunk
        }

        fn take_trailers(&mut self) -> Option<Headers> {
            self.0.take_trailers()
        }
    }
    if body.remaining().is_some() {
        return None;
    }
    match std::mem::take(body) {
        Body::Stream(stream) => {
            let count = Arc::new(AtomicU64::new(0));
            *body = Body::stream(Counted(stream, Arc::clone(&count)));
            Some(count)
        }
        known => {
            *body = known;
            None
        }
    }
}

impl Gateway {
    /// The answer to a request, before the plugins' response phase.
    async fn answer(&self, exchange: &mut Exchange) -> Response {
        let answer = match self.find_route(exchange) {
            None => run_access(exchange).await,
            refusal => refusal,
        };
        match answer {
            Some(answer) => answer,
            None => self.send(exchange).await,
        }
    }

    /// Matches the request; an answer where nothing matches or the route demands another protocol.
    fn find_route(&self, exchange: &mut Exchange) -> Option<Response> {
        let path_length = exchange.head.path().len();
        exchange.path = path::normalize(&exchange.head.target.slice(..path_length));
        exchange.query = exchange.head.query().map(|query| exchange.head.target.slice_ref(query));
        let snapshot = Arc::clone(&exchange.snapshot);
        let found = snapshot.router.find(&MatchInput {
            method: exchange.head.method.as_str(),
            host: exchange.head.headers.get_str("host").unwrap_or_default(),
            path: &exchange.path,
            headers: &exchange.head.headers,
            server_name: exchange.connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()),
            port: exchange.client_port(),
            tls: exchange.connection.tls.is_some(),
        });
        let Some((found, route)) =
            found.and_then(|found| snapshot.routes.get(found.route).cloned().map(|route| (found, route)))
        else {
            return Some(exchange.error(StatusCode::NOT_FOUND, answer::NO_ROUTE));
        };
        if let Some(refusal) = route.demand_protocol(exchange) {
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
        if route.strip_path && found.matched_length > 0 {
            exchange.stripped_prefix =
                Some(exchange.path.slice(..found.matched_length.min(exchange.path.len())));
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
        let Some(configured) = route.chain.resolve(place, consumer) else { continue };
        if let Some(collected) = &mut exchange.collected {
            exchange.running = collected.len();
            collected.push(Arc::clone(configured));
        } else {
            exchange.running = place;
        }
        if answer.is_none() && configured.phases.has(Phases::ACCESS) {
            answer = match configured.plugin.access(exchange) {
                Access::Continue => None,
                Access::Answer(response) => Some(response),
                Access::Wait(future) => match future.await {
                    Outcome::Continue => None,
                    Outcome::Answer(response) => Some(response),
                },
            };
        }
    }
    answer
}

impl Gateway {
    /// Sends the request to the destination, trying again where that is safe, and returns the upstream's
    /// answer or the error that stands for it.
    async fn send(&self, exchange: &mut Exchange) -> Response {
        let Some(destination) = exchange.destination.clone() else {
            return exchange.error(StatusCode::SERVICE_UNAVAILABLE, answer::NO_SERVICE);
        };
        let (timeouts, retries) = match exchange.route.as_ref().and_then(|route| route.service.as_ref()) {
            Some(service) => (service.timeouts, service.retries),
            None => (Timeouts::default(), 5),
        };
        set_target(exchange);
        if response::has_phase(exchange, Phases::ENTRY) {
            exchange.facts.request_headers = Some(exchange.head.headers.clone());
        }
        let client_host = exchange.head.headers.get("host").map(<[u8]>::to_vec).unwrap_or_default();
        let mut prepared_for: Option<Box<[u8]>> = None;
        exchange.facts.proxied = Some(Instant::now());
        let mut failure = Failure::NoPeer;
        let mut tried = Vec::new();
        let balancer = match &destination.host {
            Host::Upstream(balancer) => Some(balancer),
            Host::Address(_) | Host::Name(_) => None,
        };
        let hash = balancer.and_then(|balancer| balancer.settings().hash.value(exchange));
        for _ in 0..=retries {
            let (started_at, started) = (crate::clock::now(), Instant::now());
            let (endpoint, host) = match self.choose(&destination, hash.as_deref(), &mut tried).await {
                Ok(chosen) => chosen,
                Err(none) => {
                    if exchange.facts.tries.is_empty() {
                        failure = none;
                    }
                    break;
                }
            };
            let preserve = exchange.route.as_ref().is_some_and(|route| route.preserve_host);
            let host = match &exchange.upstream_host {
                Some(host) => host.as_bytes().into(),
                None if preserve => client_host.clone().into_boxed_slice(),
                None => host.into_boxed_bytes(),
            };
            match &prepared_for {
                None => forwarded::prepare_request(exchange, &host, &self.settings),
                Some(before) if *before != host => exchange.head.headers.set("Host", &host),
                Some(_) => {}
            }
            prepared_for = Some(host);
            let target = balancer.zip(tried.last().copied());
            exchange.lease = target.and_then(|(balancer, index)| balancer.lease(index));
            let Exchange { head, body, facts, .. } = &mut *exchange;
            let (chosen_after, sent) = (started.elapsed(), Instant::now());
            let address = endpoint.address;
            facts.tries.push(Try {
                ip: address.ip(),
                port: address.port(),
                started_at,
                chosen_after,
                failure: None,
            });
            let outcome = self.client.send(&endpoint, head, body, &timeouts).await;
            if let (Some((balancer, index)), Some(outcome)) = (target, outcome_of(&outcome)) {
                balancer.report(index, outcome, sent.elapsed());
            }
            let failed = outcome.as_ref().err().map(|error| if error.is_timeout() { 504 } else { 502 });
            if let Some(attempt) = facts.tries.last_mut() {
                attempt.failure = failed;
            }
            match outcome {
                Ok(response) => {
                    facts.answered = Some(Instant::now());
                    facts.upstream_status = Some(response.status.as_u16());
                    facts.source = Source::Upstream;
                    return gather(exchange, response).await;
                }
                Err(error) => {
                    failure = Failure::Send(error.kind);
                    let may_retry = error.may_retry(&head.method) && !matches!(body, Body::Stream(_));
                    logging::try_failed(exchange, &error);
                    if !may_retry {
                        break;
                    }
                }
            }
        }
        exchange.facts.source = Source::Error;
        match &failure {
            Failure::NoPeer => {
                logging::about(
                    exchange,
                    Level::Error,
                    &format_args!("no target of {} can be used", destination.host_header),
                );
            }
            Failure::NoAddress => {
                logging::about(
                    exchange,
                    Level::Error,
                    &format_args!("DNS resolution failed for {}", destination.host_header),
                );
            }
            Failure::Send(_) => {}
        }
        match failure {
            Failure::NoPeer => exchange.error(StatusCode::SERVICE_UNAVAILABLE, answer::NO_PEER),
            Failure::NoAddress => exchange.error(StatusCode::SERVICE_UNAVAILABLE, answer::NO_ADDRESS),
            Failure::Send(
                SendErrorKind::ConnectTimeout | SendErrorKind::ReadTimeout | SendErrorKind::WriteTimeout,
            ) => upstream_error(exchange, StatusCode::GATEWAY_TIMEOUT),
            Failure::Send(SendErrorKind::Body) => upstream_error(exchange, StatusCode::BAD_REQUEST),
            Failure::Send(_) => upstream_error(exchange, StatusCode::BAD_GATEWAY),
        }
    }

    /// The address of the next try, and the `Host` that goes with it.
    async fn choose(
        &self,
        destination: &Destination,
        hash: Option<&[u8]>,
        tried: &mut Vec<usize>,
    ) -> Result<(Endpoint, Box<str>), Failure> {
        let (name, ip, port, host) = match &destination.host {
            Host::Address(ip) => (None, *ip, destination.port, destination.host_header.clone()),
            Host::Name(name) => {
                let ip = self.resolver.resolve(name).await.ok_or(Failure::NoAddress)?;
                (Some(Arc::clone(name)), ip, destination.port, destination.host_header.clone())
            }
            Host::Upstream(balancer) => {
                let index = balancer.pick(tried, hash).ok_or(Failure::NoPeer)?;
                tried.push(index);
                let target = balancer.targets().get(index).ok_or(Failure::NoPeer)?;
                let own = Destination::new(&target.host, target.port, destination.tls.clone());
                let (name, ip) = match own.host {
                    Host::Address(ip) => (None, ip),
                    Host::Name(name) => {
                        let ip = self.resolver.resolve(&name).await.ok_or(Failure::NoAddress)?;
                        (Some(name), ip)
                    }
                    Host::Upstream(_) => return Err(Failure::NoPeer),
                };
                (name, ip, target.port, balancer.host_header.clone().unwrap_or(own.host_header))
            }
        };
        let tls = match &destination.tls {
            None => None,
            Some(profile) => {
                let server_name = match name.and_then(|name| ServerName::try_from(name.to_string()).ok()) {
                    Some(server_name) => server_name,
                    None => ServerName::from(ip),
                };
                Some((Arc::clone(profile), server_name))
            }
        };
        Ok((Endpoint { address: SocketAddr::new(ip, port), tls }, host))
    }
}

/// What a try says about the target; nothing where the client's side failed.
fn outcome_of(result: &Result<Response, SendError>) -> Option<TargetOutcome> {
    match result {
        Ok(response) => Some(TargetOutcome::Status(response.status.as_u16())),
        Err(error) if error.kind == SendErrorKind::Body => None,
        Err(error) if error.is_timeout() => Some(TargetOutcome::TimedOut),
        Err(_) => Some(TargetOutcome::Failed),
    }
}

/// Writes the target that is sent on into the head.
fn set_target(exchange: &mut Exchange) {
    let target = match &exchange.query {
        None => exchange.upstream_path.clone(),
        Some(query) => [&exchange.upstream_path, &b"?"[..], query].concat().into(),
    };
    exchange.facts.upstream_uri = target.clone();
    exchange.head.target = target;
}

/// Reads the answer whole where a plugin wants it so.
async fn gather(exchange: &mut Exchange, mut response: Response) -> Response {
    let wanted = exchange.filters.iter().filter_map(|(_, filter)| filter.wants_whole(&response)).max();
    let Some(limit) = wanted else { return response };
    match response.body.buffer(limit).await {
        Ok(_) => response,
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

/// The answer where the upstream gives none.
fn upstream_error(exchange: &Exchange, status: StatusCode) -> Response {
    answer::low_level(
        status,
        &answer::default_message(status),
        Some(&exchange.head),
        &exchange.request_id,
        &exchange.settings.errors,
    )
}

enum Failure {
    NoPeer,
    NoAddress,
    Send(SendErrorKind),
}
