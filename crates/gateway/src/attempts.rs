//! Requests that can go to several places, one after the other: a plugin chooses each next attempt and makes the
//! request what goes there, as long as the client has seen nothing of an answer.

use std::pin::Pin;
use std::time::Duration;

use tollgate_http::client::{SendError, Timeouts};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_telemetry::Level;

use crate::answer;
use crate::exchange::{Exchange, Source};
use crate::forwarded;
use crate::logging;
use crate::request::{Gateway, gather, kept_host, set_target, upstream_error};
use crate::upstream::{self, Choice};

/// Chooses the attempts of one request. The first is the exchange as the plugin left it in access, with the filter
/// it left there ([`Exchange::follow`]).
pub trait Attempts: Send {
    /// How long the parts of each attempt may take.
    fn timeouts(&self) -> Timeouts;

    /// Whether an attempt that ended so has failed, and another may take its place.
    fn has_failed(&mut self, exchange: &Exchange, ended: &Ended) -> bool;

    /// Makes the exchange what goes to the next place: destination, path, query, head, body; and leaves the filter
    /// that takes the former one's place. `false` where there is no next place; the client gets what came last.
    fn next<'a>(&'a mut self, exchange: &'a mut Exchange) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// How an attempt ended.
pub enum Ended {
    /// The head of an answer is there.
    Answered(Response),
    /// It was not sent, or not answered.
    Failed(SendError),
    /// There is nobody to send to, for this reason: a name has no address.
    Nobody(&'static str),
}

impl Gateway {
    /// Sends the request where `attempts` says, and returns the answer that the client is to get, or the error
    /// that stands for it. `owner` is the place of the plugin whose attempts they are.
    pub(crate) async fn send_by(
        &self,
        exchange: &mut Exchange,
        (owner, mut attempts): (usize, Box<dyn Attempts>),
    ) -> Response {
        let timeouts = attempts.timeouts();
        let kept_host = kept_host(exchange);
        loop {
            let ended = match self.send_once(exchange, kept_host.as_deref(), &timeouts).await {
                Ok(ended) => ended,
                Err(refusal) => return refusal,
            };
            let mut another = false;
            if attempts.has_failed(exchange, &ended) {
                exchange.running = owner;
                tell_filter(exchange);
                another = attempts.next(exchange).await;
            }
            if !another {
                return match ended {
                    Ended::Answered(response) => gather(exchange, response).await,
                    Ended::Failed(error) => upstream_error(exchange, upstream::status_of(&error)),
                    Ended::Nobody(message) => exchange.error(StatusCode::SERVICE_UNAVAILABLE, message),
                };
            }
            forget(exchange, ended);
        }
    }

    /// One attempt. The error is an answer to a request that cannot be sent at all.
    async fn send_once(
        &self,
        exchange: &mut Exchange,
        kept_host: Option<&[u8]>,
        timeouts: &Timeouts,
    ) -> Result<Ended, Response> {
        let Some(destination) = exchange.destination.clone() else {
            return Err(exchange.error(StatusCode::SERVICE_UNAVAILABLE, answer::NO_SERVICE));
        };
        let target = match Choice::new(&destination, exchange).next().await {
            Ok(target) => target,
            Err(nobody) => {
                logging::about(exchange, Level::Error, &nobody);
                return Ok(Ended::Nobody(nobody.message()));
            }
        };
        let is_first = exchange.facts.proxied.is_none();
        if is_first {
            self.take_in(exchange, &destination, target.chosen).await?;
        }
        set_target(exchange);
        let own_host = exchange.upstream_host.take();
        let host = own_host.as_deref().map(str::as_bytes).or(kept_host).unwrap_or(target.host.as_bytes());
        if is_first {
            forwarded::prepare_request(exchange, host, self.settings());
        } else {
            exchange.head.headers.set("Host", host);
        }
        exchange.upstream_host = own_host;
        Ok(match self.attempt(exchange, &target, timeouts).await {
            Ok(response) => Ended::Answered(response),
            Err(error) => Ended::Failed(error),
        })
    }
}

/// Tells the filter of an attempt that it has failed.
fn tell_filter(exchange: &mut Exchange) {
    let Some(place) = exchange.filters.iter().position(|(owner, _)| *owner == exchange.running) else {
        return;
    };
    let (owner, mut filter) = exchange.filters.remove(place);
    filter.failed(exchange);
    exchange.filters.insert(place, (owner, filter));
}

/// What came of an attempt that another took the place of is no fact of the answer.
fn forget(exchange: &mut Exchange, ended: Ended) {
    if let Ended::Answered(response) = ended {
        if let Some(attempt) = exchange.facts.tries.last_mut() {
            attempt.failure = Some(response.status.as_u16());
        }
        read_on(response);
    }
    exchange.facts.answered = None;
    exchange.facts.upstream_status = None;
    exchange.facts.source = Source::Error;
}

/// Longest rest of an answer that is read though nobody will see it, in bytes.
const LONGEST_REST: usize = 64 * 1024;

/// Reads what is left of an answer that nobody will see, so that its connection can serve again: an upstream that
/// has too many requests as it is should not get new connections for each.
fn read_on(mut response: Response) {
    if matches!(response.body, Body::Stream(_)) {
        tokio::spawn(async move {
            let rest = response.body.buffer(LONGEST_REST);
            drop(tokio::time::timeout(Duration::from_secs(1), rest).await);
        });
    }
}
