//! `ai-proxy`: a route becomes an LLM. The client speaks OpenAI's format; the request is checked, edited for
//! the route's model, authenticated and sent to the provider; the answer streams back, and its usage is logged.

mod answer;
mod config;
mod log;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_gateway::destination::Destination;
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, query};
use tollgate_http::client::TlsProfile;
use tollgate_http::{Response, StatusCode};
use tollgate_llm::Operation;
use tollgate_llm::openai::{self, Asked, Options, Streaming};
use tollgate_llm::template::{Place, Template};
use tollgate_model::{Config, Map, PluginSchema};

use crate::read;
use answer::{Plain, Streamed};
pub use config::AiProxyConfig;
use config::{Auth, LlmFormat, ParamLocation, ResponseStreaming, RouteType};
use log::Record;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema {
        protocols: &["grpc", "grpcs", "http", "https"],
        ..PluginSchema::new("ai-proxy", 770, AiProxyConfig::schema())
    }
}

/// Compiles a configured `ai-proxy`.
///
/// # Errors
/// A provider or format that is not there yet, or an address that cannot be one.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiProxyConfig = read(config)?;
    let error = |field: &str, message: String| BuildError { field: field.to_owned(), message };
    if config.model.provider != "openai" {
        let message = format!(
            "the provider '{}' cannot be served yet; use 'openai', which with 'options.upstream_url' is any server that speaks OpenAI's API",
            config.model.provider
        );
        return Err(error("config.model.provider", message));
    }
    if config.llm_format != LlmFormat::Openai {
        return Err(error(
            "config.llm_format",
            format!("the format '{}' cannot be served yet; use 'openai'", config.llm_format.name()),
        ));
    }
    let operation = match config.route_type {
        RouteType::Chat => Operation::Chat,
        RouteType::Completions => Operation::Completions,
        RouteType::Embeddings => Operation::Embeddings,
        RouteType::Preserve => Operation::Preserve,
    };
    let options = config.model.options.clone().unwrap_or_default();
    let place = match &options.upstream_url {
        Some(url) => Upstream::of_url(Template::new(url))
            .map_err(|message| error("config.model.options.upstream_url", message))?,
        None => {
            let path = options.upstream_path.as_deref().or(openai::path(operation));
            Upstream::fixed("https", openai::HOST, 443, path)
                .map_err(|message| error("config.model.provider", message))?
        }
    };
    let number = |value: Option<f64>| value.map(|value| json!(value).to_string());
    let logging = config.logging.unwrap_or_default();
    Ok(Arc::new(AiProxy {
        operation,
        upstream: place,
        model: config.model.name.as_deref().map(Template::new),
        options: Options {
            max_tokens: options.max_tokens,
            temperature: number(options.temperature),
            top_p: number(options.top_p),
            dimensions: options.embeddings_dimensions,
        },
        streaming: match config.response_streaming {
            ResponseStreaming::Allow => Streaming::Allow,
            ResponseStreaming::Deny => Streaming::Deny,
            ResponseStreaming::Always => Streaming::Always,
        },
        auth: config.auth.clone().unwrap_or_default(),
        body_limit: if config.max_request_body_size == 0 {
            usize::MAX
        } else {
            config.max_request_body_size as usize
        },
        model_header: config.model_name_header,
        shared: Arc::new(Shared {
            operation,
            plugin_id: scope.id.to_string(),
            statistics: logging.log_statistics == Some(true),
            payloads: logging.log_statistics == Some(true) && logging.log_payloads == Some(true),
            input_cost: options.input_cost,
            output_cost: options.output_cost,
        }),
    }))
}

/// What the answer's side needs to know too.
struct Shared {
    operation: Operation,
    plugin_id: String,
    statistics: bool,
    payloads: bool,
    input_cost: Option<f64>,
    output_cost: Option<f64>,
}

struct AiProxy {
    operation: Operation,
    upstream: Upstream,
    model: Option<Template>,
    options: Options,
    streaming: Streaming,
    auth: Auth,
    body_limit: usize,
    model_header: bool,
    shared: Arc<Shared>,
}

/// Where the provider is.
enum Upstream {
    Fixed {
        destination: Arc<Destination>,
        path: Option<Bytes>,
    },
    /// An address with placeholders, known when the request is.
    Templated(Template),
}

impl Upstream {
    fn fixed(scheme: &str, host: &str, port: u16, path: Option<&str>) -> Result<Self, String> {
        let tls = match scheme {
            // Kong 3.11 checks no certificates unless told so; a provider's key is worth checking for.
            "https" => Some(Arc::new(TlsProfile::new(true, &[], None).map_err(|error| error.to_string())?)),
            _ => None,
        };
        let path = path.map(|path| Bytes::from(format!("/{}", path.trim_start_matches('/'))));
        Ok(Self::Fixed { destination: Arc::new(Destination::new(host, port, tls)), path })
    }

    fn of_url(template: Template) -> Result<Self, String> {
        match template.fixed() {
            Some(url) => {
                let (scheme, host, port, path) = split_url(url)?;
                Self::fixed(scheme, host, port, Some(path))
            }
            None => Ok(Self::Templated(template)),
        }
    }
}

/// Scheme, host, port and path of an address; its query is left out (Kong 3.11).
fn split_url(url: &str) -> Result<(&str, &str, u16, &str), String> {
    let wrong = |what: &str| format!("{what} in '{url}'; expected http(s)://host[:port][/path]");
    let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("no scheme"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong("unknown scheme"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| wrong("no valid port"))?)
        }
        _ => (authority, if scheme == "https" { 443 } else { 80 }),
    };
    if host.is_empty() { Err(wrong("no host")) } else { Ok((scheme, host, port, path)) }
}

impl Plugin for AiProxy {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn secret_names(&self) -> Vec<String> {
        [&self.auth.header_name, &self.auth.param_name].into_iter().flatten().cloned().collect()
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        Access::wait(async move {
            match self.prepare(exchange).await {
                Ok(()) => Outcome::Continue,
                Err((status, message)) => Outcome::Answer(refuse(status, &message)),
            }
        })
    }
}

/// An error as OpenAI's clients read it.
fn refuse(status: StatusCode, message: &str) -> Response {
    tollgate_gateway::answer::json(status, &json!({"error": {"message": message}}))
}

type Refused = (StatusCode, String);

fn bad_request(message: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, message.into())
}

impl AiProxy {
    async fn prepare(&self, exchange: &mut Exchange) -> Result<(), Refused> {
        let model = match &self.model {
            Some(template) => Some(render(template, exchange).map_err(bad_request)?),
            None => None,
        };
        let (destination, path) = self.place(exchange)?;
        let accepts_gzip = exchange.head.headers.get_str("accept-encoding").is_some_and(has_gzip);
        if self.operation == Operation::Preserve {
            exchange.upstream_path = path.unwrap_or_else(|| exchange.path.clone());
        } else {
            let body = self.read_body(exchange).await;
            let auth = match (self.auth.param_location, &self.auth.param_name, &self.auth.param_value) {
                (Some(ParamLocation::Body), Some(name), Some(value)) => {
                    Some((name.as_str(), value.expose(), self.keeps_own_auth()))
                }
                _ => None,
            };
            let asked = Asked {
                operation: self.operation,
                model: model.as_deref().filter(|model| !model.is_empty()),
                options: &self.options,
                streaming: self.streaming,
                want_usage: self.shared.statistics,
                auth,
            };
            let prepared = openai::prepare(body.as_deref(), &asked)
                .map_err(|message| bad_request(message.into_owned()))?;
            let record = Record::new(
                Arc::clone(&self.shared),
                prepared.model.clone(),
                prepared.stream,
                &prepared.body,
            );
            let model_header = self.model_header.then(|| format!("openai/{}", prepared.model));
            if prepared.stream {
                exchange.follow(Box::new(Streamed::new(record, model_header, prepared.hide_usage)));
            } else {
                exchange.follow(Box::new(Plain::new(record, model_header, accepts_gzip)));
            }
            exchange.set_body(prepared.body.into());
            let headers = &mut exchange.head.headers;
            headers.set("Content-Type", "application/json");
            headers.set("Accept-Encoding", "identity");
            if let Some(path) = path {
                exchange.upstream_path = path;
            }
        }
        self.authenticate(exchange);
        exchange.destination = Some(destination);
        Ok(())
    }

    /// The body, where it is JSON by its type and not too large.
    async fn read_body(&self, exchange: &mut Exchange) -> Option<Bytes> {
        let content_type = exchange.head.headers.get_str("content-type").unwrap_or("application/json");
        let is_json =
            content_type.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/json"));
        if !is_json {
            return None;
        }
        exchange.buffer_body(self.body_limit).await.ok()
    }

    fn place(&self, exchange: &Exchange) -> Result<(Arc<Destination>, Option<Bytes>), Refused> {
        match &self.upstream {
            Upstream::Fixed { destination, path } => Ok((Arc::clone(destination), path.clone())),
            Upstream::Templated(template) => {
                let url = render(template, exchange).map_err(bad_request)?;
                let (scheme, host, port, path) = split_url(&url).map_err(bad_request)?;
                match Upstream::fixed(scheme, host, port, Some(path)).map_err(bad_request)? {
                    Upstream::Fixed { destination, path } => Ok((destination, path)),
                    Upstream::Templated(_) => {
                        Err(bad_request("the upstream_url holds a placeholder inside a placeholder"))
                    }
                }
            }
        }
    }

    fn keeps_own_auth(&self) -> bool {
        self.auth.allow_override == Some(true)
    }

    /// Sets the provider's key in header and query.
    fn authenticate(&self, exchange: &mut Exchange) {
        if let (Some(name), Some(value)) = (&self.auth.header_name, &self.auth.header_value)
            && !(self.keeps_own_auth() && exchange.head.headers.contains(name))
        {
            exchange.head.headers.set(name, value.expose());
        }
        if let (Some(ParamLocation::Query), Some(name), Some(value)) =
            (self.auth.param_location, &self.auth.param_name, &self.auth.param_value)
        {
            let query = exchange.query.take().unwrap_or_default();
            let mut pairs: Vec<_> = query::parse(&query).collect();
            let own = pairs.iter().any(|(other, _)| other == name);
            if !(own && self.keeps_own_auth()) {
                pairs.retain(|(other, _)| other != name);
                pairs.push((name.as_str().into(), Some(value.expose().into())));
            }
            exchange.query =
                Some(query::write(pairs.iter().map(|(name, value)| (&**name, value.as_deref()))).into());
        }
    }
}

/// Whether a list of encodings has `gzip`.
fn has_gzip(list: &str) -> bool {
    list.split(',').any(|item| item.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("gzip"))
}

fn render(template: &Template, exchange: &Exchange) -> Result<String, String> {
    template.render(|place, key| match place {
        Place::Headers => exchange
            .head
            .headers
            .get_str(key)
            .or_else(|| exchange.head.headers.get_str(&key.replace('_', "-")))
            .map(str::to_owned),
        Place::UriCaptures => {
            exchange.captures.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.to_string())
        }
        Place::QueryParams => {
            let query = exchange.query.as_deref().unwrap_or_default();
            query::parse(query)
                .find(|(name, _)| name == key)
                .and_then(|(_, value)| value.map(|value| value.into_owned()))
        }
    })
}

/// The log's way of writing a payload.
fn text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes))
}
