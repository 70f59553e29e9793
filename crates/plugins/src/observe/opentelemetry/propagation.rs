//! Where a trace comes from and goes on: the header fields of each tracing system, read and written
//! (Kong 3.11: `config.propagation`).

mod fields;

use tollgate_http::Headers;
use tollgate_model::Config;

pub(super) use fields::{Extracted, Format};

/// How a trace is taken over from the client and told to the upstream.
#[derive(Debug, Clone, Config)]
pub struct PropagationConfig {
    /// Formats in which the client's trace is looked for, in this order; the first that is there counts. An empty list
    /// begins a new trace for every request.
    #[config(optional, each(one_of("w3c", "b3", "jaeger", "ot", "datadog", "aws", "gcp", "instana")))]
    extract: Option<Vec<String>>,
    /// Header fields of the client that are not sent on, once the trace has been read.
    #[config(optional)]
    clear: Option<Vec<String>>,
    /// Formats in which the upstream is told; `preserve` is the client's. An empty list tells it nothing.
    #[config(
        optional,
        each(one_of(
            "preserve",
            "w3c",
            "b3",
            "b3-single",
            "jaeger",
            "ot",
            "datadog",
            "aws",
            "gcp",
            "instana"
        ))
    )]
    inject: Option<Vec<String>>,
    /// The format that `preserve` stands for where the client has sent none.
    #[config(
        default = "w3c",
        one_of("w3c", "b3", "b3-single", "jaeger", "ot", "datadog", "aws", "gcp", "instana")
    )]
    default_format: String,
}

/// The same, compiled.
#[derive(Debug, PartialEq)]
pub(super) struct Propagation {
    extract: Vec<Format>,
    clear: Vec<String>,
    inject: Vec<Inject>,
    default_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inject {
    /// The client's format.
    Preserve,
    As(Format),
}

/// The order in which formats are looked for where none is configured (Kong 3.11: `header_type`).
const ANY: [Format; 8] = [
    Format::B3,
    Format::W3c,
    Format::Jaeger,
    Format::Ot,
    Format::Datadog,
    Format::Aws,
    Format::Gcp,
    Format::Instana,
];

impl Propagation {
    /// Of what is configured. `header_type`, which came before, counts where nothing else is set.
    pub(super) fn new(config: &PropagationConfig, header_type: Option<&str>) -> Self {
        let formats = |names: &Option<Vec<String>>| -> Vec<Format> {
            names.iter().flatten().filter_map(|name| Format::named(name)).collect()
        };
        let inject = |name: &str| match name {
            "preserve" => Some(Inject::Preserve),
            name => Format::named(name).map(Inject::As),
        };
        let default_format = Format::named(&config.default_format).unwrap_or(Format::W3c);
        let clear = config.clear.clone().unwrap_or_default();
        if config.extract.is_some() || config.inject.is_some() || config.clear.is_some() {
            let inject = config.inject.iter().flatten().filter_map(|name| inject(name)).collect();
            return Self { extract: formats(&config.extract), clear, inject, default_format };
        }
        let (extract, inject) = match header_type {
            Some("ignore") => (Vec::new(), vec![Inject::As(default_format)]),
            None | Some("preserve") => (ANY.to_vec(), vec![Inject::Preserve]),
            Some(other) => (ANY.to_vec(), std::iter::once(Inject::Preserve).chain(inject(other)).collect()),
        };
        Self { extract, clear, inject, default_format }
    }

    /// The client's trace.
    pub(super) fn extract(&self, headers: &Headers) -> Option<Extracted> {
        self.extract.iter().find_map(|format| format.read(headers))
    }

    /// Tells the upstream that its work belongs to `span` of a trace, itself part of `parent`; gives the formats in
    /// which it did.
    pub(super) fn inject(
        &self,
        headers: &mut Headers,
        extracted: Option<&Extracted>,
        told: &fields::Told,
    ) -> Vec<Format> {
        for name in &self.clear {
            headers.remove(name);
        }
        let mut formats = Vec::new();
        for inject in &self.inject {
            let format = match inject {
                Inject::As(format) => *format,
                Inject::Preserve => extracted.map_or(self.default_format, |extracted| extracted.format),
            };
            if !formats.contains(&format) {
                format.write(headers, told);
                formats.push(format);
            }
        }
        formats
    }
}

pub(super) use fields::Told;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(
        extract: Option<&[&str]>,
        inject: Option<&[&str]>,
        clear: Option<&[&str]>,
    ) -> PropagationConfig {
        let list = |names: Option<&[&str]>| {
            names.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        PropagationConfig {
            extract: list(extract),
            clear: list(clear),
            inject: list(inject),
            default_format: "b3".to_owned(),
        }
    }

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// What an upstream gets of these fields: names and values that tell of traces.
    fn sent(propagation: &Propagation, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut headers = Headers::new();
        fields.iter().for_each(|(name, value)| headers.set(name, value));
        let extracted = propagation.extract(&headers);
        let told = Told {
            trace_id: extracted.as_ref().and_then(|extracted| extracted.trace_id).unwrap_or(1),
            is_short: extracted.as_ref().is_some_and(|extracted| extracted.is_short),
            span: 2,
            parent: extracted.as_ref().and_then(|extracted| extracted.span),
            sampled: true,
            is_debug: false,
            baggage: Vec::new(),
        };
        propagation.inject(&mut headers, extracted.as_ref(), &told);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().to_lowercase();
        headers.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    fn field(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn what_is_configured_counts_over_what_came_before() {
        let preserved = Propagation::new(&config(None, None, None), Some("preserve"));
        let upstream = "00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01";
        assert_eq!(sent(&preserved, &[("traceparent", PARENT)]), [field("traceparent", upstream)]);
        let ignored = Propagation::new(&config(None, None, None), Some("ignore"));
        let fields = sent(&ignored, &[("traceparent", PARENT)]);
        assert!(fields.contains(&field("x-b3-traceid", "00000000000000000000000000000001")), "{fields:?}");
        let both = Propagation::new(&config(None, None, None), Some("w3c"));
        let fields = sent(&both, &[("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1")]);
        let single = "80f198ee56343ba864fe8b2a57d3eff7-0000000000000002-1-e457b5a2e4d86bd1";
        assert!(fields.contains(&field("b3", single)), "{fields:?}");
        assert!(fields.iter().any(|(name, _)| name == "traceparent"), "{fields:?}");
        let cleared =
            Propagation::new(&config(Some(&["w3c"]), Some(&["aws"]), Some(&["Traceparent"])), Some("w3c"));
        let amazon = "root=1-0af76519-16cd43dd8448eb211c80319c;parent=0000000000000002;sampled=1";
        assert_eq!(sent(&cleared, &[("traceparent", PARENT)]), [field("x-amzn-trace-id", amazon)]);
        let silent = Propagation::new(&config(Some(&[]), Some(&[]), None), None);
        assert_eq!(sent(&silent, &[("traceparent", PARENT)]), [field("traceparent", PARENT)]);
    }
}
