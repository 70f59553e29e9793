//! `ai-proxy`: a route becomes an LLM. The client speaks OpenAI's format; the request is checked, edited for
//! the route's model, authenticated and sent to the provider; the answer streams back, and its usage is logged.

mod answer;
mod aws;
mod config;
mod gunzip;
mod log;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, query};
use tollgate_http::{Body, Response, StatusCode};
use tollgate_llm::json::Object;
use tollgate_llm::request::{self, BodyAuth, Options, Rules, Streaming};
use tollgate_llm::template::{Place, Template};
use tollgate_llm::{Operation, Provider, provider};
use tollgate_model::{Config, PluginSchema};

use crate::body::{Form, Parsed};
use crate::read;
use answer::{Plain, Preserved, Streamed};
use aws::Aws;
pub use config::AiProxyConfig;
use config::{Auth, ParamLocation, ResponseStreaming};
use log::{Azure, Record};
use upstream::Upstream;

/// How the plugin presents itself.
pub fn schema() -> PluginSchema {
    PluginSchema {
        checks: config::format_checks(),
        about: "Makes a route an LLM: checks the request, sends it to a provider with its key, streams the answer back and logs its usage.",
        ..PluginSchema::new("ai-proxy", 770, AiProxyConfig::schema())
    }
}

/// Compiles a configured `ai-proxy`.
///
/// # Errors
/// A configuration that was not checked.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiProxyConfig = read(config)?;
    let unknown =
        |field: &str| BuildError { field: field.to_owned(), message: "cannot be served".to_owned() };
    let operation = Operation::named(&config.route_type).ok_or_else(|| unknown("config.route_type"))?;
    let options = config.model.options.unwrap_or_default();
    let provider = provider::configured(&config.model.provider, &options.settings())
        .ok_or_else(|| unknown("config.model.provider"))?;
    let upstream = Upstream::new(&*provider, operation, &options)?;
    let auth = config.auth.unwrap_or_default();
    let aws = Aws::of(&*provider, &auth, &options)?;
    let number = |value: Option<f64>| value.map(|value| json!(value).to_string());
    let count = |value: Option<i64>| value.map(|value| value.to_string());
    let logging = config.logging.unwrap_or_default();
    let statistics = logging.log_statistics == Some(true);
    let model = config.model.name.as_deref().map(Template::new);
    let name = provider.name();
    let header_of = |model: &str| format!("{name}/{model}").into();
    Ok(Arc::new(AiProxy {
        upstream,
        fixed_header: model.as_ref().and_then(Template::fixed).map(header_of),
        model,
        options: Options {
            max_tokens: count(options.max_tokens),
            temperature: number(options.temperature),
            top_p: number(options.top_p),
            top_k: count(options.top_k),
            dimensions: count(options.embeddings_dimensions),
        },
        streaming: match config.response_streaming {
            None | Some(ResponseStreaming::Allow) => Streaming::Allow,
            Some(ResponseStreaming::Deny) => Streaming::Deny,
            Some(ResponseStreaming::Always) => Streaming::Always,
        },
        auth,
        aws,
        body_limit: match config.max_request_body_size {
            None | Some(0) => usize::MAX,
            Some(limit) => limit as usize,
        },
        model_header: config.model_name_header == Some(true),
        shared: Arc::new(Shared {
            provider,
            operation,
            plugin_id: scope.id.to_string(),
            azure: Azure::of(&config.model.provider, &options),
            statistics,
            payloads: statistics && logging.log_payloads == Some(true),
            input_cost: options.input_cost,
            output_cost: options.output_cost,
        }),
    }))
}

/// What the answer's side needs to know too.
struct Shared {
    provider: Arc<dyn Provider>,
    operation: Operation,
    /// What the log says of Azure.
    azure: Option<Azure>,
    plugin_id: String,
    statistics: bool,
    payloads: bool,
    input_cost: Option<f64>,
    output_cost: Option<f64>,
}

struct AiProxy {
    upstream: Upstream,
    model: Option<Template>,
    /// `X-Kong-LLM-Model` of a model without placeholders.
    fixed_header: Option<Arc<str>>,
    options: Options,
    streaming: Streaming,
    auth: Auth,
    /// Who signs requests, where they must be signed.
    aws: Option<Aws>,
    body_limit: usize,
    model_header: bool,
    shared: Arc<Shared>,
}

impl Plugin for AiProxy {
    fn phases(&self) -> Phases {
        Phases::ACCESS.and(Phases::RESPONSE)
    }

    fn secret_names(&self) -> Vec<String> {
        let names = [&self.auth.header_name, &self.auth.param_name].into_iter().flatten().cloned();
        names.chain(self.aws.iter().map(|_| "x-amz-security-token".to_owned())).collect()
    }

    fn llm_providers(&self) -> Vec<&'static str> {
        vec![self.shared.provider.name()]
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let form = self.form_to_read(exchange);
        // Nearly always the body has come along with the head: nothing needs to be waited for.
        let at_hand = match (&form, &exchange.body) {
            (None, _) => None,
            (Some(_), Body::Stream(_)) => {
                return Access::wait(async move {
                    let bytes = exchange.buffer_body(self.body_limit).await.ok();
                    match self.decide(exchange, form.zip(bytes)) {
                        None => Outcome::Continue,
                        Some(refusal) => Outcome::Answer(refusal),
                    }
                });
            }
            (Some(_), Body::Full(bytes)) => {
                Some(bytes.clone()).filter(|bytes| bytes.len() <= self.body_limit)
            }
            (Some(_), Body::Empty) => Some(Bytes::new()),
        };
        match self.decide(exchange, form.zip(at_hand)) {
            None => Access::Continue,
            Some(refusal) => Access::Answer(refusal),
        }
    }
}

/// An error as OpenAI's clients read it.
fn refuse(status: StatusCode, message: &str) -> Response {
    tollgate_gateway::answer::json(status, &json!({"error": {"message": message}}))
}

impl AiProxy {
    /// Of which form the body is, where it is of one that is read.
    fn form_to_read(&self, exchange: &Exchange) -> Option<Form> {
        let form = match exchange.head.headers.get_str("content-type") {
            Some(content_type) => Form::of(content_type)?,
            None => Form::Json,
        };
        let is_read = form == Form::Json || self.shared.operation != Operation::Preserve;
        (is_read && !matches!(form, Form::Multipart(_))).then_some(form)
    }

    /// Makes the request the provider's, or refuses it. `None` stands for a body that is not read, or too large.
    fn decide(&self, exchange: &mut Exchange, body: Option<(Form, Bytes)>) -> Option<Response> {
        let body = body.and_then(|(form, bytes)| match form {
            Form::Json => Some(bytes),
            _ => Some(Parsed::read(form, &bytes)?.to_json().to_string().into()),
        });
        let refused = self.prepare(exchange, body.as_deref()).err();
        refused.map(|message| refuse(StatusCode::BAD_REQUEST, &message))
    }

    /// Checks the request and makes it the provider's.
    fn prepare(&self, exchange: &mut Exchange, body: Option<&[u8]>) -> Result<(), String> {
        let model = match &self.model {
            Some(template) => match template.fixed() {
                Some(model) => Some(model.into()),
                None => Some(std::borrow::Cow::Owned(render(template, exchange)?)),
            },
            None => None,
        };
        let (destination, mut path) = self.upstream.resolve(exchange)?;
        let rules = Rules {
            operation: self.shared.operation,
            model: model.as_deref().filter(|model| !model.is_empty()),
            streaming: self.streaming,
            options: &self.options,
            want_usage: self.shared.statistics || exchange.wants_llm_usage(),
            auth: self.body_auth(),
        };
        let call = request::check(body.and_then(Object::parse), &rules)?;
        let body = self.follow(exchange, &call, &rules)?;
        if path.is_empty() {
            let model = call.model.as_deref().unwrap_or_default();
            path = self.shared.provider.call_path(model, call.stream).unwrap_or_default().into();
        }
        exchange.head.headers.set("Accept-Encoding", "gzip, identity");
        self.upstream.mark(exchange)?;
        self.authenticate(exchange);
        if let Some(aws) = &self.aws {
            aws.sign(exchange, &destination, &path, &body)?;
        }
        exchange.upstream_path = path;
        exchange.destination = Some(destination);
        Ok(())
    }

    /// Sets the body to send, which it returns too, and leaves what follows the answer.
    ///
    /// # Errors
    /// Why the request cannot be made the provider's.
    fn follow(
        &self,
        exchange: &mut Exchange,
        call: &request::Call<'_>,
        rules: &Rules<'_>,
    ) -> Result<Bytes, String> {
        let takes_gzip = exchange.head.headers.get_str("accept-encoding").is_some_and(has_gzip);
        let header = self.header(exchange, call.model.as_deref());
        if self.shared.operation == Operation::Preserve {
            exchange.follow(Box::new(Preserved::new(header, takes_gzip)));
            return Ok(Bytes::new());
        }
        let sent = self.shared.provider.request(call, rules)?;
        let body = Bytes::from(sent.body);
        exchange.set_body(body.clone());
        exchange.head.headers.set("Content-Type", "application/json");
        let model = call.model.as_deref().unwrap_or_default();
        let record = Record::new(&self.shared, model, call.stream, body.clone(), rules.want_usage);
        exchange.follow(match call.stream {
            true => Box::new(Streamed::new(record, header, sent.hide_usage)),
            false => Box::new(Plain::new(record, header, takes_gzip)),
        });
        Ok(body)
    }

    /// `X-Kong-LLM-Model`, where it is wanted.
    fn header(&self, exchange: &Exchange, model: Option<&str>) -> Option<Arc<str>> {
        if !self.model_header && !exchange.head.headers.contains("kong-debug") {
            return None;
        }
        let from_call = || model.map(|model| format!("{}/{model}", self.shared.provider.name()).into());
        self.fixed_header.clone().or_else(from_call)
    }

    fn keeps_own_auth(&self) -> bool {
        self.auth.allow_override == Some(true)
    }

    fn body_auth(&self) -> Option<BodyAuth<'_>> {
        match (self.auth.param_location, &self.auth.param_name, &self.auth.param_value) {
            (Some(ParamLocation::Body), Some(name), Some(value)) => {
                Some(BodyAuth { name, value: value.expose(), keep_own: self.keeps_own_auth() })
            }
            _ => None,
        }
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
            set_argument(exchange, name, value.expose(), self.keeps_own_auth());
        }
    }
}

/// Sets an argument of the query, unless the client's own is kept.
fn set_argument(exchange: &mut Exchange, name: &str, value: &str, keep_own: bool) {
    let query = exchange.query.take().unwrap_or_default();
    let mut pairs: Vec<query::Pair<'_>> = query::pairs(&query).collect();
    let own = pairs.iter().any(|(other, _)| **other == *name.as_bytes());
    if own && keep_own {
        exchange.query = Some(query);
        return;
    }
    pairs.retain(|(other, _)| **other != *name.as_bytes());
    pairs.push((name.as_bytes().into(), Some(value.as_bytes().into())));
    exchange.query = Some(query::write(pairs).into());
}

/// Whether a list of encodings has `gzip`, and does not rule it out.
fn has_gzip(list: &str) -> bool {
    list.split(',').any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let ruled_out = ["q=0", "q=0.0", "q=0.00", "q=0.000"].contains(&weight.trim());
        name.trim().eq_ignore_ascii_case("gzip") && !ruled_out
    })
}

/// Fills a template in from the request.
///
/// # Errors
/// Kong's message for a placeholder that is malformed or has no value.
fn render(template: &Template, exchange: &Exchange) -> Result<String, String> {
    template.render(|place, key| match place {
        Place::Headers => {
            let headers = &exchange.head.headers;
            let value = headers.get_str(key);
            value.or_else(|| headers.get_str(&key.replace('_', "-"))).map(str::to_owned)
        }
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
