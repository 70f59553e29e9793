//! Spans on their way to a collector: OTLP over HTTP, in protobuf.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tollgate_http::Method;
use tollgate_http::client::{Client, PoolSettings, Timeouts};
use tollgate_model::Secret;
use tollgate_telemetry::log;

use crate::observe::queue::Delivery;
use crate::server::Server;

/// A span, and whose it is.
pub(super) struct Entry {
    pub(super) resource: Arc<Resource>,
    pub(super) span: Span,
}

/// A collector.
pub(super) struct Collector {
    pub(super) server: Server,
    pub(super) headers: BTreeMap<String, Secret>,
    pub(super) timeouts: Timeouts,
    client: Client,
}

/// Connections that wait for the next batch; one batch is under way at a time, mostly.
const CONNECTIONS: usize = 4;

impl Collector {
    pub(super) fn new(server: Server, headers: BTreeMap<String, Secret>, timeouts: Timeouts) -> Self {
        let idle = Duration::from_secs(60);
        let client = Client::new(PoolSettings { size: CONNECTIONS, idle, ..PoolSettings::default() });
        Self { server, headers, timeouts, client }
    }

    /// Sends a message.
    async fn post(&self, message: Vec<u8>) -> Result<Bytes, String> {
        let fields = self.headers.iter().map(|(name, value)| (&**name, value.expose()));
        let fields = [("Content-Type", "application/x-protobuf")].into_iter().chain(fields);
        let (status, answer) =
            self.server.ask(&self.client, &Method::POST, fields, message.into(), &self.timeouts).await?;
        match status.is_success() {
            true => Ok(answer),
            false => Err(format!("the collector answered with status {}", status.as_u16())),
        }
    }
}

impl Delivery<Box<Entry>> for Collector {
    async fn deliver(&self, batch: &[Box<Entry>]) -> Result<(), String> {
        let answer = self.post(message(batch).encode_to_vec()).await?;
        // A collector may take some and not others; what it refuses is not sent again (OTLP, "Partial Success").
        if let Ok(ExportTraceServiceResponse { partial_success: Some(partial) }) =
            ExportTraceServiceResponse::decode(answer)
            && partial.rejected_spans > 0
        {
            log!(
                Warn,
                "opentelemetry: {}{} has refused {} of {} spans: {}",
                self.server.origin,
                self.server.path(),
                partial.rejected_spans,
                batch.len(),
                partial.error_message
            );
        }
        Ok(())
    }
}

fn message(batch: &[Box<Entry>]) -> ExportTraceServiceRequest {
    let mut resource_spans: Vec<ResourceSpans> = Vec::new();
    let mut last: Option<&Resource> = None;
    for entry in batch {
        if last != Some(&*entry.resource) {
            last = Some(&entry.resource);
            resource_spans.push(ResourceSpans {
                resource: Some(Resource::clone(&entry.resource)),
                scope_spans: vec![ScopeSpans {
                    scope: Some(InstrumentationScope {
                        name: "tollgate".to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        ..InstrumentationScope::default()
                    }),
                    ..ScopeSpans::default()
                }],
                ..ResourceSpans::default()
            });
        }
        if let Some(scope) = resource_spans.last_mut().and_then(|spans| spans.scope_spans.last_mut()) {
            scope.spans.push(entry.span.clone());
        }
    }
    ExportTraceServiceRequest { resource_spans }
}
