//! The Status API: whether the node is ready, and how it fares.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tollgate_gateway::query;
use tollgate_http::{Body, Connection, Handler, Method, Refusal, Request, RequestHead, Response, StatusCode};
use tollgate_model::{Value, json};

use crate::answer::{Answer, Failure, into_response, method_not_allowed, not_found, nothing, ok};

/// What the node knows about itself.
pub trait StatusSource: Send + Sync {
    /// Body of `GET /status`, sizes shown in a unit.
    fn status(&self, unit: Unit) -> Value;

    /// Why the node is not ready; `None` where it is.
    fn not_ready(&self) -> Option<String>;

    /// Body of `GET /metrics`; `None` where the plugin `prometheus` is not enabled.
    fn metrics(&self) -> Pin<Box<dyn Future<Output = Option<String>> + Send + '_>>;
}

/// How `/status` shows sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Bytes that make one; 1 for plain numbers.
    bytes: u64,
    name: &'static str,
    /// Digits after the point.
    scale: usize,
}

impl Unit {
    /// Reads the arguments `unit` and `scale` (Kong 3.11).
    ///
    /// # Errors
    /// Kong's message for what is none.
    pub(crate) fn parse(unit: Option<&str>, scale: Option<&str>) -> Result<Self, Failure> {
        let wrong = |message: &str| Failure::message(StatusCode::BAD_REQUEST, message);
        let (bytes, name) = match unit.unwrap_or("m") {
            "b" | "B" => (1, ""),
            "k" | "K" => (1 << 10, "KiB"),
            "m" | "M" => (1 << 20, "MiB"),
            "g" | "G" => (1 << 30, "GiB"),
            other => {
                return Err(wrong(&format!("invalid unit '{other}' (expected 'k/K', 'm/M', or 'g/G')")));
            }
        };
        // What is no number counts as not given.
        let scale = match scale.and_then(|text| text.parse::<f64>().ok()) {
            Some(number) if number < 0.0 => return Err(wrong("scale must be equal or greater than 0")),
            Some(number) => (number as usize).min(20),
            None => 2,
        };
        Ok(Self { bytes, name, scale })
    }

    /// A number of bytes in this unit: `5.00 MiB`; in bytes a number.
    pub fn show(self, bytes: u64) -> Value {
        match self.bytes {
            1 => bytes.into(),
            _ => format!("{:.*} {}", self.scale, bytes as f64 / self.bytes as f64, self.name).into(),
        }
    }
}

/// The answer to `GET /metrics`, on either API.
pub(crate) async fn metrics(source: &dyn StatusSource) -> Response {
    let Some(text) = source.metrics().await else { return into_response(Err(not_found())) };
    let mut response = Response::new(StatusCode::OK);
    response.headers.set("Content-Type", "text/plain; charset=UTF-8");
    response.body = Body::Full(text.into());
    response
}

/// Most of a body that is read.
const LARGEST_BODY: usize = 64 * 1024;

/// The Status API.
pub struct StatusApi {
    source: Arc<dyn StatusSource>,
    product: String,
    /// Whether somebody asked that the node be given no more requests.
    draining: AtomicBool,
}

impl StatusApi {
    /// A Status API over a node.
    pub fn new(source: Arc<dyn StatusSource>, product: String) -> Self {
        Self { source, product, draining: AtomicBool::new(false) }
    }

    async fn answer(&self, request: &mut Request) -> Response {
        let path = request.head.path();
        let path = path.strip_suffix(b"/").filter(|path| !path.is_empty()).unwrap_or(path).to_vec();
        let method = &request.head.method;
        into_response(match (path.as_slice(), method) {
            (b"/metrics", &Method::GET | &Method::HEAD) => return metrics(&*self.source).await,
            (b"/status", &Method::GET | &Method::HEAD) => self.status(&request.head),
            (b"/status/ready", &Method::GET | &Method::HEAD) => self.ready(),
            (b"/status/ready", &Method::POST) => self.drain(request).await,
            (b"/status/dns", &Method::GET | &Method::HEAD) => Err(Failure::message(
                StatusCode::NOT_IMPLEMENTED,
                "not implemented with the legacy DNS client",
            )),
            (b"/metrics" | b"/status" | b"/status/ready" | b"/status/dns", _) => Err(method_not_allowed()),
            _ => Err(not_found()),
        })
    }

    fn status(&self, head: &RequestHead) -> Answer {
        let query = head.query().unwrap_or_default();
        let find = |name| query::parse(query).find(|(other, _)| other == name).and_then(|(_, value)| value);
        let unit = Unit::parse(find("unit").as_deref(), find("scale").as_deref())?;
        ok(self.source.status(unit))
    }

    fn ready(&self) -> Answer {
        let draining = self.draining.load(Ordering::Relaxed).then(|| "draining".to_owned());
        match draining.or_else(|| self.source.not_ready()) {
            None => ok(json!({"message": "ready"})),
            Some(reason) => Err(Failure::message(StatusCode::SERVICE_UNAVAILABLE, &reason)),
        }
    }

    /// Takes the node out of service for those who ask whether it is ready.
    async fn drain(&self, request: &mut Request) -> Answer {
        let body = request.body.buffer(LARGEST_BODY).await.unwrap_or_default();
        let asked = match serde_json::from_slice::<Value>(&body) {
            Ok(body) => body.get("status") == Some(&"draining".into()),
            Err(_) => query::parse(&body)
                .any(|(name, value)| name == "status" && value.as_deref() == Some("draining")),
        };
        if !asked {
            return Err(Failure::message(StatusCode::BAD_REQUEST, "status: expected 'draining'"));
        }
        self.draining.store(true, Ordering::Relaxed);
        nothing()
    }
}

impl Handler for StatusApi {
    async fn handle(&self, mut request: Request) -> Response {
        let started = Instant::now();
        let mut response = self.answer(&mut request).await;
        response.headers.set("X-Kong-Admin-Latency", started.elapsed().as_millis().to_string());
        response.headers.set("Access-Control-Allow-Origin", "*");
        response.headers.set("Server", &self.product);
        if request.head.method == Method::HEAD {
            tollgate_gateway::answer::drop_body(&mut response);
        }
        response
    }

    fn refuse(&self, _: Refusal, _: Option<&RequestHead>, _: &Connection) -> Response {
        into_response(Err(Failure::message(StatusCode::BAD_REQUEST, "Bad request")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_units() {
        let show = |unit, scale, bytes| Unit::parse(unit, scale).map(|unit| unit.show(bytes));
        for (unit, scale, shown) in [
            (None, None, json!("5.00 MiB")),
            (Some("k"), None, json!("5120.00 KiB")),
            (Some("G"), Some("3"), json!("0.005 GiB")),
            (Some("b"), Some("3"), json!(5_242_880)),
            (Some("m"), Some("x"), json!("5.00 MiB")),
            (Some("m"), Some("0"), json!("5 MiB")),
        ] {
            assert_eq!(show(unit, scale, 5 << 20).unwrap(), shown);
        }
        let message = |failure: Failure| failure.body.unwrap()["message"].clone();
        assert_eq!(
            message(Unit::parse(Some("x"), None).unwrap_err()),
            "invalid unit 'x' (expected 'k/K', 'm/M', or 'g/G')"
        );
        assert_eq!(
            message(Unit::parse(None, Some("-1")).unwrap_err()),
            "scale must be equal or greater than 0"
        );
    }
}
