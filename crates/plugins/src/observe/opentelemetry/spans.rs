//! The spans of a request, as OTLP has them. Names and attributes are Kong 3.11's; those of a call of an LLM are
//! OpenTelemetry's ([`crate::ai`]).

use std::borrow::Cow;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind};
use tollgate_gateway::trace::{self, Attribute, Context, Trace};
use tollgate_gateway::{Exchange, clock};
use tollgate_http::Version;

/// What is told of this node: what is known of itself, and what is configured, which wins.
pub(super) fn resource<'a>(node_id: &str, configured: impl Iterator<Item = (&'a str, String)>) -> Resource {
    let mut values = vec![
        ("service.name", "kong".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", node_id.to_owned()),
    ];
    for (name, value) in configured {
        values.retain(|(other, _)| *other != name);
        values.push((name, value));
    }
    let attributes = values.into_iter().map(|(name, value)| attribute(name, Attribute::Text(value)));
    Resource { attributes: attributes.collect(), ..Resource::default() }
}

/// The spans of a request that is over: the request as a whole first, then its parts.
pub(super) fn of(exchange: &Exchange, trace: Trace, context: &Context) -> Vec<Span> {
    let writer = Writer { context, now: (Instant::now(), clock::now()) };
    let mut spans = Vec::with_capacity(trace.spans.len() + exchange.facts.tries.len() + 1);
    writer.write(&mut spans, whole(exchange, &trace.host), context.root, context.parent);
    let tries = exchange.facts.tries.len();
    for part in trace.spans {
        writer.write(&mut spans, part, fastrand::u64(1..), Some(context.root));
    }
    for (number, part) in lookups(exchange).into_iter().map(|part| (0, part)).chain(balanced(exchange)) {
        // The last try's span is the one that the upstream was told of.
        let id = if number == tries { context.upstream } else { fastrand::u64(1..) };
        writer.write(&mut spans, part, id, Some(context.root));
    }
    spans
}

fn text(bytes: &[u8]) -> Attribute {
    Attribute::Text(String::from_utf8_lossy(bytes).into_owned())
}

/// The request as a whole.
fn whole(exchange: &Exchange, host: &str) -> trace::Span {
    let facts = &exchange.facts;
    let scheme = if exchange.connection.tls.is_some() { "https" } else { "http" };
    let uri = exchange.snapshot.secret_names.redact(&exchange.received_target);
    let url = format!("{scheme}://{host}{}", String::from_utf8_lossy(&uri));
    let flavor = if exchange.head.version == Version::HTTP_2 { 2.0 } else { 1.1 };
    let mut attributes = vec![
        ("http.method", Attribute::Text(exchange.head.method.to_string())),
        ("http.url", Attribute::Text(url)),
        ("http.host", Attribute::Text(host.to_owned())),
        ("http.scheme", Attribute::Text(scheme.to_owned())),
        ("http.flavor", Attribute::Number(flavor)),
        ("http.client_ip", Attribute::Text(exchange.client_ip.to_string())),
        ("net.peer.ip", Attribute::Text(exchange.connection.peer.ip().to_string())),
        ("kong.request.id", Attribute::Text(exchange.request_id.as_str().to_owned())),
        ("http.status_code", Attribute::Count(facts.status.into())),
    ];
    let route = exchange.route.as_ref();
    let path = route.and_then(|route| route.entity.get("paths")?.as_array()?.first()?.as_str());
    attributes.extend(path.map(|path| ("http.route", Attribute::Text(path.to_owned()))));
    trace::Span {
        name: Cow::Borrowed("kong"),
        asks_another: false,
        started: exchange.started,
        ended: facts.ended.unwrap_or_else(Instant::now),
        attributes,
        failed: facts.status >= 500,
        parts: Vec::new(),
    }
}

/// Names that were looked up.
fn lookups(exchange: &Exchange) -> Vec<trace::Span> {
    if !exchange.settings.traces.dns_query {
        return Vec::new();
    }
    let looked_up = exchange.facts.tries.iter().filter_map(|attempt| Some((attempt, attempt.name.as_ref()?)));
    looked_up
        .map(|(attempt, name)| trace::Span {
            name: Cow::Borrowed("kong.dns"),
            asks_another: true,
            started: attempt.started,
            ended: attempt.chosen,
            attributes: vec![
                ("dns.record.domain", Attribute::Text(name.to_string())),
                ("dns.record.port", Attribute::Count(attempt.port.into())),
                ("dns.record.ip", Attribute::Text(attempt.ip.to_string())),
            ],
            failed: false,
            parts: Vec::new(),
        })
        .collect()
}

/// Tries of the upstream, with their numbers from 1.
fn balanced(exchange: &Exchange) -> Vec<(usize, trace::Span)> {
    if !exchange.settings.traces.balancer {
        return Vec::new();
    }
    let facts = &exchange.facts;
    let over = facts.ended.unwrap_or_else(Instant::now);
    let spans = facts.tries.iter().enumerate().map(|(place, attempt)| {
        let mut attributes = vec![
            ("try_count", Attribute::Count(place as u64 + 1)),
            ("net.peer.ip", Attribute::Text(attempt.ip.to_string())),
            ("net.peer.port", Attribute::Count(attempt.port.into())),
        ];
        attributes.extend(attempt.name.as_ref().map(|name| ("net.peer.name", text(name.as_bytes()))));
        let status = attempt.failure.or(facts.upstream_status.filter(|_| place + 1 == facts.tries.len()));
        attributes.extend(status.map(|status| ("http.status_code", Attribute::Count(status.into()))));
        let span = trace::Span {
            name: Cow::Borrowed("kong.balancer"),
            asks_another: true,
            started: attempt.started,
            ended: attempt.ended.unwrap_or(over),
            attributes,
            failed: attempt.failure.is_some(),
            parts: Vec::new(),
        };
        (place + 1, span)
    });
    spans.collect()
}

struct Writer<'a> {
    context: &'a Context,
    /// One moment on both clocks.
    now: (Instant, Duration),
}

impl Writer<'_> {
    fn nanoseconds(&self, moment: Instant) -> u64 {
        let (now, since_1970) = self.now;
        since_1970.saturating_sub(now.saturating_duration_since(moment)).as_nanos() as u64
    }

    fn write(&self, spans: &mut Vec<Span>, part: trace::Span, id: u64, parent: Option<u64>) {
        let kind = match (parent, part.asks_another) {
            _ if id == self.context.root => SpanKind::Server,
            (_, true) => SpanKind::Client,
            _ => SpanKind::Internal,
        };
        let status = part.failed.then(|| Status { code: StatusCode::Error.into(), ..Status::default() });
        spans.push(Span {
            trace_id: self.context.trace_id.to_be_bytes().to_vec(),
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id: parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
            name: part.name.into_owned(),
            kind: kind.into(),
            start_time_unix_nano: self.nanoseconds(part.started),
            end_time_unix_nano: self.nanoseconds(part.ended),
            attributes: part.attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
            status,
            // The W3C flag of a sampled trace.
            flags: 1,
            ..Span::default()
        });
        for inner in part.parts {
            self.write(spans, inner, fastrand::u64(1..), Some(id));
        }
    }
}

fn attribute(name: &str, value: Attribute) -> KeyValue {
    let value = match value {
        Attribute::Text(text) => any_value::Value::StringValue(text),
        Attribute::Count(count) => any_value::Value::IntValue(i64::try_from(count).unwrap_or(i64::MAX)),
        Attribute::Number(number) => any_value::Value::DoubleValue(number),
        Attribute::Texts(texts) => any_value::Value::ArrayValue(ArrayValue {
            values: texts
                .into_iter()
                .map(|text| AnyValue { value: Some(any_value::Value::StringValue(text)) })
                .collect(),
        }),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
