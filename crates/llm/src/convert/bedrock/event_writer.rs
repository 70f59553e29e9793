//! A streamed answer as ConverseStream gives it: AWS events.

use bytes::BytesMut;
use serde_json::json;

use super::answer_writer::{metrics, stop_reason, usage};
use crate::aws_events::write;
use crate::convert::answer::{Failure, Finish, Tokens};
use crate::convert::events::Writer;
use crate::json::quote;

/// The events of a streamed answer.
#[derive(Default)]
pub(super) struct ConverseEvents {
    /// Of the block under way, else of the next one.
    index: usize,
    open: Option<Kind>,
    calls: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Reasoning,
    Call,
}

impl ConverseEvents {
    /// A block of this kind is under way from now on. Only those of calls have a beginning of their own.
    fn open(&mut self, out: &mut BytesMut, kind: Kind) {
        if self.open != Some(kind) || kind == Kind::Call {
            self.close(out);
            self.open = Some(kind);
        }
    }

    fn close(&mut self, out: &mut BytesMut) {
        if self.open.take().is_some() {
            let payload = format!(r#"{{"contentBlockIndex":{}}}"#, self.index);
            put(out, "contentBlockStop", &payload);
            self.index += 1;
        }
    }

    fn delta(&self, out: &mut BytesMut, delta: &str) {
        let payload = format!(r#"{{"contentBlockIndex":{},"delta":{delta}}}"#, self.index);
        put(out, "contentBlockDelta", &payload);
    }
}

impl Writer for ConverseEvents {
    fn name(&mut self, _: Option<&str>, _: Option<&str>) {}

    fn start(&mut self, out: &mut BytesMut, _: Option<Tokens>) {
        put(out, "messageStart", r#"{"role":"assistant"}"#);
    }

    fn text(&mut self, out: &mut BytesMut, quoted: &str) {
        self.open(out, Kind::Text);
        self.delta(out, &format!(r#"{{"text":{quoted}}}"#));
    }

    fn reasoning(&mut self, out: &mut BytesMut, quoted: &str) {
        self.open(out, Kind::Reasoning);
        self.delta(out, &format!(r#"{{"reasoningContent":{{"text":{quoted}}}}}"#));
    }

    fn signature(&mut self, out: &mut BytesMut, quoted: &str) {
        self.open(out, Kind::Reasoning);
        self.delta(out, &format!(r#"{{"reasoningContent":{{"signature":{quoted}}}}}"#));
    }

    fn redacted(&mut self, out: &mut BytesMut, quoted: &str) {
        self.close(out);
        self.open(out, Kind::Reasoning);
        self.delta(out, &format!(r#"{{"reasoningContent":{{"redactedContent":{quoted}}}}}"#));
        self.close(out);
    }

    fn call(&mut self, out: &mut BytesMut, _: usize, id: &str, name: &str) {
        self.calls = true;
        self.open(out, Kind::Call);
        let payload = format!(
            r#"{{"contentBlockIndex":{},"start":{{"toolUse":{{"toolUseId":{},"name":{}}}}}}}"#,
            self.index,
            quote(id),
            quote(name)
        );
        put(out, "contentBlockStart", &payload);
    }

    fn arguments(&mut self, out: &mut BytesMut, _: usize, quoted: &str) {
        self.delta(out, &format!(r#"{{"toolUse":{{"input":{quoted}}}}}"#));
    }

    fn end_call(&mut self, out: &mut BytesMut, _: usize) {
        self.close(out);
    }

    fn finish(&mut self, out: &mut BytesMut, finish: &Finish) {
        self.close(out);
        put(out, "messageStop", &json!({"stopReason": stop_reason(finish, self.calls)}).to_string());
    }

    fn done(&mut self, out: &mut BytesMut, tokens: Option<Tokens>) {
        let usage = usage(tokens.unwrap_or_default());
        put(out, "metadata", &json!({"usage": usage, "metrics": metrics()}).to_string());
    }

    fn fail(&mut self, out: &mut BytesMut, failure: &Failure<'_>) {
        let exception = match failure.status {
            424 => "modelStreamErrorException",
            429 => "throttlingException",
            503 | 529 => "serviceUnavailableException",
            400..=499 => "validationException",
            _ => "internalServerException",
        };
        let payload = json!({"message": failure.message}).to_string();
        write(out, "exception", (":exception-type", exception), &payload);
    }
}

fn put(out: &mut BytesMut, kind: &'static str, payload: &str) {
    write(out, "event", (":event-type", kind), payload);
}
