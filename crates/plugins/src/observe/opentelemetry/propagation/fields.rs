//! The header fields of each tracing system.

use std::fmt::Write as _;

use tollgate_http::Headers;

/// A tracing system's way of writing where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `x-amzn-trace-id`
    Aws,
    /// `x-b3-traceid` and others
    B3,
    /// `b3`
    B3Single,
    /// `x-datadog-trace-id` and others
    Datadog,
    /// `x-cloud-trace-context`
    Gcp,
    /// `x-instana-t` and others
    Instana,
    /// `uber-trace-id`
    Jaeger,
    /// `ot-tracer-traceid` and others
    Ot,
    /// `traceparent` (W3C Trace Context)
    W3c,
}

/// What a client has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extracted {
    /// How it was written.
    pub format: Format,
    /// The trace; `None` where only whether to sample was said.
    pub trace_id: Option<u128>,
    /// Whether the trace's id was written with 64 bits.
    pub is_short: bool,
    /// The client's span.
    pub span: Option<u64>,
    /// Whether the client's spans are sampled, where it says.
    pub sampled: Option<bool>,
    /// Whether it asks for the trace to be kept whatever else is decided (B3).
    pub is_debug: bool,
    /// What travels with the trace (Jaeger, OpenTracing).
    pub baggage: Vec<(String, String)>,
}

/// What an upstream is told.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    /// The trace.
    pub trace_id: u128,
    /// Whether the client wrote its id with 64 bits.
    pub is_short: bool,
    /// The span that the upstream's work is part of.
    pub span: u64,
    /// What that span is part of.
    pub parent: Option<u64>,
    /// Whether it is sampled.
    pub sampled: bool,
    /// Whether the client asked for it to be kept (B3).
    pub is_debug: bool,
    /// What travels with the trace.
    pub baggage: Vec<(String, String)>,
}

/// Prefixes of what travels with a trace.
const JAEGER_BAGGAGE: &str = "uberctx-";
const OT_BAGGAGE: &str = "ot-baggage-";

impl Format {
    /// Every format.
    const ALL: [Self; 9] = [
        Self::Aws,
        Self::B3,
        Self::B3Single,
        Self::Datadog,
        Self::Gcp,
        Self::Instana,
        Self::Jaeger,
        Self::Ot,
        Self::W3c,
    ];

    /// The format of this name in configuration.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name in configuration and in the log entry.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::B3 => "b3",
            Self::B3Single => "b3-single",
            Self::Datadog => "datadog",
            Self::Gcp => "gcp",
            Self::Instana => "instana",
            Self::Jaeger => "jaeger",
            Self::Ot => "ot",
            Self::W3c => "w3c",
        }
    }

    /// A trace's id as this format writes it.
    pub(crate) fn trace_id(self, trace_id: u128, is_short: bool) -> String {
        match self {
            Self::Datadog => (trace_id as u64).to_string(),
            Self::Aws => format!("1-{:08x}-{:024x}", trace_id >> 96, trace_id & (u128::MAX >> 32)),
            Self::W3c | Self::Gcp => format!("{trace_id:032x}"),
            _ if is_short => format!("{trace_id:016x}"),
            _ => format!("{trace_id:032x}"),
        }
    }

    /// What a client says in this format; `None` where that is nothing, or cannot be understood.
    pub(crate) fn read(self, headers: &Headers) -> Option<Extracted> {
        match self {
            Self::W3c => w3c(headers.get_str("traceparent")?),
            Self::B3 | Self::B3Single => b3(headers),
            Self::Jaeger => jaeger(headers),
            Self::Ot => ot(headers),
            Self::Datadog => datadog(headers),
            Self::Aws => aws(headers.get_str("x-amzn-trace-id")?),
            Self::Gcp => gcp(headers.get_str("x-cloud-trace-context")?),
            Self::Instana => instana(headers),
        }
    }

    /// Writes where the upstream's work belongs.
    pub(crate) fn write(self, headers: &mut Headers, told: &Told) {
        let trace = self.trace_id(told.trace_id, told.is_short);
        let (span, sampled) = (told.span, u8::from(told.sampled));
        match self {
            Self::W3c => headers.set("traceparent", format!("00-{trace}-{span:016x}-{sampled:02x}")),
            Self::B3 => {
                headers.set("x-b3-traceid", trace);
                headers.set("x-b3-spanid", format!("{span:016x}"));
                match told.parent {
                    Some(parent) => headers.set("x-b3-parentspanid", format!("{parent:016x}")),
                    None => {
                        headers.remove("x-b3-parentspanid");
                    }
                }
                match told.is_debug {
                    true => headers.set("x-b3-flags", "1"),
                    false => headers.set("x-b3-sampled", sampled.to_string()),
                }
            }
            Self::B3Single => {
                let sampled = if told.is_debug { "d".to_owned() } else { sampled.to_string() };
                let mut value = format!("{trace}-{span:016x}-{sampled}");
                if let Some(parent) = told.parent {
                    // A text takes whatever is written to it.
                    let _ = write!(value, "-{parent:016x}");
                }
                headers.set("b3", value);
            }
            Self::Jaeger => {
                let parent = told.parent.map_or_else(|| "0".to_owned(), |parent| format!("{parent:016x}"));
                headers.set("uber-trace-id", format!("{trace}:{span:016x}:{parent}:{sampled:02x}"));
                carry(headers, JAEGER_BAGGAGE, &told.baggage);
            }
            Self::Ot => {
                headers.set("ot-tracer-traceid", trace);
                headers.set("ot-tracer-spanid", format!("{span:016x}"));
                headers.set("ot-tracer-sampled", sampled.to_string());
                carry(headers, OT_BAGGAGE, &told.baggage);
            }
            Self::Datadog => {
                headers.set("x-datadog-trace-id", trace);
                headers.set("x-datadog-parent-id", span.to_string());
                headers.set("x-datadog-sampling-priority", sampled.to_string());
            }
            Self::Aws => {
                headers.set("x-amzn-trace-id", format!("Root={trace};Parent={span:016x};Sampled={sampled}"))
            }
            Self::Gcp => headers.set("x-cloud-trace-context", format!("{trace}/{span};o={sampled}")),
            Self::Instana => {
                headers.set("x-instana-t", trace);
                headers.set("x-instana-s", format!("{span:016x}"));
                headers.set("x-instana-l", sampled.to_string());
            }
        }
    }
}

impl Extracted {
    fn new(format: Format, trace_id: u128, is_short: bool) -> Self {
        Self {
            format,
            trace_id: Some(trace_id),
            is_short,
            span: None,
            sampled: None,
            is_debug: false,
            baggage: Vec::new(),
        }
    }
}

/// The id of a trace: up to 32 hexadecimal digits, not all zero; and whether it has no more than 16.
fn trace_id(text: &str) -> Option<(u128, bool)> {
    let id = u128::from_str_radix(text, 16).ok()?;
    (id != 0 && is_hex(text)).then_some((id, text.len() <= 16))
}

/// The id of a span: up to 16 hexadecimal digits, not all zero.
fn span_id(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok().filter(|id| *id != 0 && is_hex(text))
}

/// A sign is no digit.
fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
    }
}

fn baggage(headers: &Headers, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let items = headers.iter().map(|(name, value)| (text(name).to_ascii_lowercase(), text(value)));
    items.filter_map(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value))).collect()
}

fn carry(headers: &mut Headers, prefix: &str, baggage: &[(String, String)]) {
    for (name, value) in baggage {
        headers.set(&format!("{prefix}{name}"), value);
    }
}

/// W3C Trace Context, version 00.
fn w3c(value: &str) -> Option<Extracted> {
    let mut parts = value.trim().split('-');
    let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let sizes = [version.len(), trace.len(), span.len(), flags.len()];
    if version != "00" || sizes != [2, 32, 16, 2] || parts.next().is_some() {
        return None;
    }
    let (id, _) = trace_id(trace)?;
    let sampled = u8::from_str_radix(flags, 16).ok().filter(|_| is_hex(flags))? & 1 == 1;
    Some(Extracted {
        span: Some(span_id(span)?),
        sampled: Some(sampled),
        ..Extracted::new(Format::W3c, id, false)
    })
}

/// B3, in one field or several.
fn b3(headers: &Headers) -> Option<Extracted> {
    if let Some(value) = headers.get_str("b3") {
        return b3_single(value.trim());
    }
    let is_debug = headers.get_str("x-b3-flags") == Some("1");
    let sampled = headers.get_str("x-b3-sampled").and_then(flag).or(is_debug.then_some(true));
    let trace = headers.get_str("x-b3-traceid").and_then(trace_id);
    if trace.is_none() && sampled.is_none() {
        return None;
    }
    Some(Extracted {
        trace_id: trace.map(|(id, _)| id),
        span: headers.get_str("x-b3-spanid").and_then(span_id).filter(|_| trace.is_some()),
        sampled,
        is_debug,
        ..Extracted::new(Format::B3, 0, trace.is_some_and(|(_, is_short)| is_short))
    })
}

fn b3_single(value: &str) -> Option<Extracted> {
    let sampling = |text: &str| match text {
        "d" => Some((true, true)),
        other => flag(other).map(|sampled| (sampled, false)),
    };
    if let Some((sampled, is_debug)) = sampling(value) {
        return Some(Extracted {
            trace_id: None,
            sampled: Some(sampled),
            is_debug,
            ..Extracted::new(Format::B3Single, 0, false)
        });
    }
    let mut parts = value.split('-');
    let (id, is_short) = trace_id(parts.next()?)?;
    let span = span_id(parts.next()?)?;
    let sampling = match parts.next() {
        None => None,
        Some(text) => Some(sampling(text)?),
    };
    Some(Extracted {
        span: Some(span),
        sampled: sampling.map(|(sampled, _)| sampled),
        is_debug: sampling.is_some_and(|(_, is_debug)| is_debug),
        ..Extracted::new(Format::B3Single, id, is_short)
    })
}

fn jaeger(headers: &Headers) -> Option<Extracted> {
    let value = headers.get_str("uber-trace-id")?;
    let mut parts = value.trim().split(':');
    let [trace, span, _, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let (id, is_short) = trace_id(trace)?;
    let flags = u8::from_str_radix(flags, 16).ok().filter(|_| is_hex(flags))?;
    Some(Extracted {
        span: Some(span_id(span)?),
        sampled: Some(flags & 1 == 1),
        baggage: baggage(headers, JAEGER_BAGGAGE),
        ..Extracted::new(Format::Jaeger, id, is_short)
    })
}

fn ot(headers: &Headers) -> Option<Extracted> {
    let (id, is_short) = trace_id(headers.get_str("ot-tracer-traceid")?)?;
    Some(Extracted {
        span: headers.get_str("ot-tracer-spanid").and_then(span_id),
        sampled: headers.get_str("ot-tracer-sampled").and_then(flag),
        baggage: baggage(headers, OT_BAGGAGE),
        ..Extracted::new(Format::Ot, id, is_short)
    })
}

fn datadog(headers: &Headers) -> Option<Extracted> {
    let number = |name: &str| headers.get_str(name).and_then(|text| text.trim().parse::<u64>().ok());
    let id = number("x-datadog-trace-id").filter(|id| *id != 0)?;
    let priority = headers.get_str("x-datadog-sampling-priority").and_then(|text| text.parse::<i8>().ok());
    Some(Extracted {
        span: number("x-datadog-parent-id").filter(|span| *span != 0),
        sampled: priority.map(|priority| priority > 0),
        ..Extracted::new(Format::Datadog, id.into(), true)
    })
}

fn aws(value: &str) -> Option<Extracted> {
    let part = |name: &str| {
        let mut parts = value.split(';').filter_map(|part| part.trim().split_once('='));
        parts.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let mut root = part("Root")?.split('-');
    let (version, time, rest) = (root.next()?, root.next()?, root.next()?);
    if version != "1" || time.len() != 8 || rest.len() != 24 {
        return None;
    }
    let (id, _) = trace_id(&format!("{time}{rest}"))?;
    Some(Extracted {
        span: part("Parent").and_then(span_id),
        sampled: part("Sampled").and_then(flag),
        ..Extracted::new(Format::Aws, id, false)
    })
}

fn gcp(value: &str) -> Option<Extracted> {
    let (context, options) = value.trim().split_once(';').unwrap_or((value.trim(), ""));
    let (trace, span) = context.split_once('/').unwrap_or((context, ""));
    let (id, _) = trace_id(trace).filter(|_| trace.len() == 32)?;
    Some(Extracted {
        span: span.parse().ok().filter(|span| *span != 0),
        sampled: options.trim().strip_prefix("o=").and_then(flag),
        ..Extracted::new(Format::Gcp, id, false)
    })
}

fn instana(headers: &Headers) -> Option<Extracted> {
    let (id, is_short) = trace_id(headers.get_str("x-instana-t")?)?;
    Some(Extracted {
        span: headers.get_str("x-instana-s").and_then(span_id),
        sampled: headers.get_str("x-instana-l").and_then(flag),
        ..Extracted::new(Format::Instana, id, is_short)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &str) -> Headers {
        let mut headers = Headers::new();
        for field in fields.split("; ").filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once(": ").unwrap();
            headers.set(name, value);
        }
        headers
    }

    /// Fields, and what they say: trace, span, sampled. Examples of the systems' own documentation.
    #[test]
    fn what_clients_send() {
        const W3C: &str = "0af7651916cd43dd8448eb211c80319c";
        const B3: &str = "80f198ee56343ba864fe8b2a57d3eff7";
        for (format, fields, expected) in [
            (Format::W3c, format!("traceparent: 00-{W3C}-b7ad6b7169203331-01"), Some((W3C, "b7ad6b7169203331", Some(true)))),
            (Format::W3c, format!("traceparent: 00-{W3C}-b7ad6b7169203331-00"), Some((W3C, "b7ad6b7169203331", Some(false)))),
            (Format::W3c, format!("traceparent: 01-{W3C}-b7ad6b7169203331-01"), None),
            (Format::W3c, format!("traceparent: 00-{W3C}-0000000000000000-01"), None),
            (Format::W3c, format!("traceparent: 00-{W3C}-b7ad6b7169203331"), None),
            (Format::W3c, "traceparent: 00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(), None),
            (Format::B3, format!("x-b3-traceid: {B3}; x-b3-spanid: e457b5a2e4d86bd1; x-b3-sampled: 1"), Some((B3, "e457b5a2e4d86bd1", Some(true)))),
            (Format::B3, "x-b3-traceid: 463ac35c9f6413ad; x-b3-spanid: a2fb4a1d1a96d312; x-b3-flags: 1".into(), Some(("463ac35c9f6413ad", "a2fb4a1d1a96d312", Some(true)))),
            (Format::B3, format!("b3: {B3}-e457b5a2e4d86bd1-0-05e3ac9a4f6e3b90"), Some((B3, "e457b5a2e4d86bd1", Some(false)))),
            (Format::B3, format!("b3: {B3}-e457b5a2e4d86bd1"), Some((B3, "e457b5a2e4d86bd1", None))),
            (Format::B3, format!("b3: {B3}-e457b5a2e4d86bd1-x"), None),
            (Format::B3, "x-b3-spanid: e457b5a2e4d86bd1".into(), None),
            (Format::Jaeger, format!("uber-trace-id: {W3C}:b7ad6b7169203331:0:1"), Some((W3C, "b7ad6b7169203331", Some(true)))),
            (Format::Jaeger, "uber-trace-id: abc:1:0:0".into(), Some(("abc", "1", Some(false)))),
            (Format::Jaeger, "uber-trace-id: abc:1:0".into(), None),
            (Format::Ot, "ot-tracer-traceid: 20000000000001; ot-tracer-spanid: 30000000000001; ot-tracer-sampled: true".into(), Some(("20000000000001", "30000000000001", Some(true)))),
            (Format::Datadog, "x-datadog-trace-id: 255; x-datadog-parent-id: 16; x-datadog-sampling-priority: 2".into(), Some(("ff", "10", Some(true)))),
            (Format::Datadog, "x-datadog-trace-id: 255; x-datadog-parent-id: 16; x-datadog-sampling-priority: -1".into(), Some(("ff", "10", Some(false)))),
            (Format::Aws, "x-amzn-trace-id: Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1".into(), Some(("5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8", Some(true)))),
            (Format::Aws, "x-amzn-trace-id: Root=2-5759e988-bd862e3fe1be46a994272793".into(), None),
            (Format::Gcp, "x-cloud-trace-context: 105445aa7843bc8bf206b12000100000/1;o=1".into(), Some(("105445aa7843bc8bf206b12000100000", "1", Some(true)))),
            (Format::Gcp, "x-cloud-trace-context: 105445/1;o=1".into(), None),
            (Format::Instana, "x-instana-t: 0af7651916cd43dd; x-instana-s: b7ad6b7169203331; x-instana-l: 0".into(), Some(("0af7651916cd43dd", "b7ad6b7169203331", Some(false)))),
        ] {
            let found = format.read(&headers(&fields));
            let said = found.map(|found| (found.trace_id.unwrap(), found.span.unwrap(), found.sampled));
            let expected = expected.map(|(trace, span, sampled)| {
                let (trace, span) = (u128::from_str_radix(trace, 16), u64::from_str_radix(span, 16));
                (trace.unwrap(), span.unwrap(), sampled)
            });
            assert_eq!(said, expected, "{fields}");
        }
        let only_sampling = Format::B3.read(&headers("b3: 0")).unwrap();
        assert_eq!((only_sampling.trace_id, only_sampling.sampled), (None, Some(false)));
    }

    /// What is written is understood again, and says the same.
    #[test]
    fn what_upstreams_get() {
        let told = Told {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            is_short: false,
            span: 0xb7ad_6b71_6920_3331,
            parent: Some(3),
            sampled: true,
            is_debug: false,
            baggage: vec![("user".to_owned(), "a".to_owned())],
        };
        for format in Format::ALL {
            let mut headers = Headers::new();
            format.write(&mut headers, &told);
            let found = format.read(&headers).unwrap();
            let trace = if format == Format::Datadog { told.trace_id as u64 as u128 } else { told.trace_id };
            assert_eq!(
                (found.format, found.trace_id, found.span, found.sampled),
                (format, Some(trace), Some(told.span), Some(true)),
                "{format:?}"
            );
            assert_eq!(Format::named(format.name()), Some(format));
            let carries = matches!(format, Format::Jaeger | Format::Ot);
            assert_eq!(found.baggage.is_empty(), !carries, "{format:?}");
        }
        let mut written = Headers::new();
        Format::B3.write(&mut written, &Told { is_short: true, trace_id: 5, ..told });
        assert_eq!(written.get_str("x-b3-traceid"), Some("0000000000000005"));
        assert_eq!(written.get_str("x-b3-parentspanid"), Some("0000000000000003"));
    }

    proptest::proptest! {
        #[test]
        fn any_value_is_read_or_not(value in "\\PC{0,80}", hex in "[0-9a-f:;/=-]{0,60}") {
            for name in ["traceparent", "b3", "x-b3-traceid", "uber-trace-id", "ot-tracer-traceid",
                "x-datadog-trace-id", "x-amzn-trace-id", "x-cloud-trace-context", "x-instana-t"] {
                for value in [&value, &hex] {
                    let mut headers = Headers::new();
                    headers.set(name, value);
                    for format in Format::ALL {
                        let _ = format.read(&headers);
                    }
                }
            }
        }
    }
}
