//! A target: one model of one provider, and all that it takes to send a request there: its address, its key, what
//! is asked of it, and what becomes of its answer. `ai-proxy` has one, `ai-proxy-advanced` chooses among many.

mod account;
mod answer;
pub(super) mod config;
mod foreign;
mod gunzip;
mod intake;
mod log;
mod models;
mod passing;
mod realtime;
mod traced;
mod upstream;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate_gateway::destination::Destination;
use tollgate_gateway::{BuildError, Exchange, ResponseFilter, Scope, query};
use tollgate_http::{Response, StatusCode};
use tollgate_llm::json::{Object, quote};
use tollgate_llm::price::Prices;
use tollgate_llm::request::{self, BodyAuth, Options, Rules, Streaming};
use tollgate_llm::template::{Place, Template};
use tollgate_llm::{Format, Operation, Provider, provider};

use super::accounts::FAILED;
use super::refuse;
use account::TargetAccount;
pub(super) use answer::{LARGEST_ANSWER, plain_body};
use answer::{Plain, Preserved, Streamed};
use config::{Auth, ParamLocation, ResponseStreaming, TargetConfig};
use intake::parts_as_json;
pub(super) use intake::{Reads, body_limit, take_body, with_body};
use log::{Azure, Record, Watch};
pub(super) use log::{Finished, Told};
pub(super) use models::listed;
use upstream::{Upstream, safe_path};

/// What the answer's side needs to know too.
struct Shared {
    provider: Arc<dyn Provider>,
    /// What clients speak.
    format: Format,
    operation: Operation,
    /// What the log says of Azure.
    azure: Option<Azure>,
    plugin_id: String,
    statistics: bool,
    payloads: bool,
    /// What is configured of prices.
    prices: Prices,
}

/// What holds for all targets of a plugin.
pub(super) struct Policy {
    streaming: Streaming,
    model_header: bool,
}

impl Policy {
    /// Of what is configured.
    pub(super) fn new(streaming: Option<ResponseStreaming>, model_name_header: Option<bool>) -> Self {
        Self {
            streaming: match streaming {
                None | Some(ResponseStreaming::Allow) => Streaming::Allow,
                Some(ResponseStreaming::Deny) => Streaming::Deny,
                Some(ResponseStreaming::Always) => Streaming::Always,
            },
            model_header: model_name_header == Some(true),
        }
    }
}

/// A compiled target.
pub(super) struct Target {
    upstream: Upstream,
    model: Option<Template>,
    /// What clients may call the model.
    alias: Option<String>,
    /// `X-Kong-LLM-Model` of a model without placeholders.
    fixed_header: Option<Arc<str>>,
    options: Options,
    auth: Auth,
    /// Who answers for requests, where that is a cloud's account.
    account: Option<TargetAccount>,
    /// Whether tokens are to be known, logged or not.
    counts: bool,
    shared: Arc<Shared>,
}

/// What clients speak, of what is configured.
///
/// # Errors
/// A format that is not served.
pub(super) fn format(configured: Option<&str>) -> Result<Format, BuildError> {
    configured.map_or(Some(Format::default()), Format::named).ok_or_else(|| BuildError {
        field: "config.llm_format".to_owned(),
        message: "cannot be served".to_owned(),
    })
}

/// Why a request is not sent on.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl From<String> for Refusal {
    /// What is wrong with the request.
    fn from(message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message }
    }
}

impl Refusal {
    /// What is wrong here, and not with the request.
    pub(super) fn failure(message: &str) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: message.to_owned() }
    }

    /// Whether nothing is wrong with the request.
    pub(super) fn is_failure(&self) -> bool {
        self.status.is_server_error()
    }

    /// What the client is told.
    pub(super) fn message(&self) -> &str {
        &self.message
    }
}

/// What a request says besides its body, kept while the request is made the provider's. Formats that name the model
/// in the path read it as the client wrote it.
struct Heard {
    target: Bytes,
    captures: Vec<(Box<str>, Box<str>)>,
    /// `anthropic-beta`
    betas: Option<String>,
    wants_usage: bool,
}

/// The answer to a request that is not sent on.
pub(super) fn refuse_request(format: Format, refusal: &Refusal) -> Response {
    refuse(format, refusal.status, &refusal.message)
}

impl Target {
    /// Compiles what is configured at `field`.
    ///
    /// # Errors
    /// What the schema cannot see: keys and regions that are nowhere, an address that cannot be one.
    pub(super) fn new(
        config: TargetConfig,
        format: Format,
        field: &str,
        scope: &Scope,
    ) -> Result<Self, BuildError> {
        let under = |error: BuildError| BuildError { field: format!("{field}.{}", error.field), ..error };
        let unknown = |field: &str| {
            under(BuildError { field: field.to_owned(), message: "cannot be served".to_owned() })
        };
        let operation = Operation::named(config.route_type.name()).ok_or_else(|| unknown("route_type"))?;
        let options = config.model.options.unwrap_or_default();
        let provider = provider::configured(&config.model.provider, &options.settings())
            .ok_or_else(|| unknown("model.provider"))?;
        // What the provider does not serve is sent as a chat.
        let (format, operation) = match operation {
            Operation::Responses if provider.path(operation).is_none() => {
                (Format::Responses, Operation::Chat)
            }
            operation => (format, operation),
        };
        let upstream = Upstream::new(&*provider, (format, operation), &options).map_err(under)?;
        let auth = config.auth.unwrap_or_default();
        let account = TargetAccount::of(&*provider, &auth, &options).map_err(under)?;
        let number = |value: Option<f64>| value.map(|value| json!(value).to_string());
        let count = |value: Option<i64>| value.map(|value| value.to_string());
        let logging = config.logging.unwrap_or_default();
        let statistics = logging.log_statistics == Some(true);
        let model = config.model.name.as_deref().map(Template::new);
        let name = provider.name();
        let header_of = |model: &str| format!("{name}/{model}").into();
        Ok(Self {
            upstream,
            fixed_header: model.as_ref().and_then(Template::fixed).map(header_of),
            model,
            alias: config.model.model_alias,
            options: Options {
                max_tokens: count(options.max_tokens),
                temperature: number(options.temperature),
                top_p: number(options.top_p),
                top_k: count(options.top_k),
                dimensions: count(options.embeddings_dimensions),
            },
            auth,
            account,
            counts: config.counts,
            shared: Arc::new(Shared {
                provider,
                format,
                operation,
                plugin_id: scope.id.to_string(),
                azure: Azure::of(&config.model.provider, &options),
                statistics,
                payloads: statistics && logging.log_payloads == Some(true),
                prices: options.prices(),
            }),
        })
    }

    /// Names under which it sends secrets.
    pub(super) fn secret_names(&self) -> Vec<String> {
        let names = [&self.auth.header_name, &self.auth.param_name].into_iter().flatten().cloned();
        names.chain(self.account.iter().flat_map(TargetAccount::secret_names)).collect()
    }

    /// Names of header fields that it sets or takes away.
    pub(super) fn touched(&self) -> Vec<String> {
        let mut names = vec!["accept-encoding".to_owned(), "content-type".to_owned()];
        names.extend(self.upstream.header_names().map(str::to_ascii_lowercase));
        names.extend(self.auth.header_name.as_ref().map(|name| name.to_ascii_lowercase()));
        names.extend(self.account.iter().flat_map(|_| account::FIELDS).map(str::to_owned));
        names.extend(foreign::names(self.shared.format).map(str::to_owned));
        names
    }

    /// Whether its model takes instructions, as far as that is plain when it is configured.
    pub(super) fn takes_system(&self) -> bool {
        let model = self.model.as_ref().and_then(Template::fixed);
        model.is_none_or(|model| self.shared.provider.takes_system(model))
    }

    /// Kong's name of who answers.
    pub(super) fn llm_provider(&self) -> &'static str {
        self.shared.provider.name()
    }

    /// Which bodies it has to read.
    pub(super) fn reads(&self) -> Reads {
        match self.shared.operation {
            Operation::Preserve => Reads::Json,
            // What has no model is not looked at; files may be of any size.
            Operation::Files | Operation::Realtime => Reads::None,
            operation if operation.passes() => Reads::Parts,
            _ => Reads::Forms,
        }
    }

    /// Whether requests pass as OpenAI's clients write them.
    fn passes(&self) -> bool {
        provider::passes(&*self.shared.provider, self.shared.format, self.shared.operation)
    }

    /// Whether requests may have to wait for [`Target::ready`].
    pub(super) fn has_account(&self) -> bool {
        self.account.is_some()
    }

    /// Whether requests can be prepared at once; where not, [`Target::ready`] is to be waited for.
    pub(super) fn is_ready(&self) -> bool {
        self.account.as_ref().is_none_or(|account| account.held().is_some())
    }

    /// Waits until requests can be prepared, or cannot: they are refused then, and the error log has the cause.
    pub(super) async fn ready(&self) {
        if let Some(account) = &self.account {
            drop(account.ready().await);
        }
    }

    /// Checks the request and makes it the provider's; what it returns is to follow the answer, and tells `told` how
    /// it ended. `None` stands for a body that is not read.
    ///
    /// # Errors
    /// What the client is told.
    pub(super) fn prepare(
        &self,
        exchange: &mut Exchange,
        body: Option<&[u8]>,
        policy: &Policy,
        told: Option<Told>,
    ) -> Result<Box<dyn ResponseFilter>, Refusal> {
        let model = self.own_model(exchange)?;
        let (destination, mut path) = self.upstream.resolve(exchange)?;
        let of_parts = if self.passes() { None } else { parts_as_json(exchange, body) };
        let body = of_parts.as_deref().or(body);
        let renamed = self.without_alias(body, model.as_deref());
        let body = renamed.as_deref().or(body);
        let heard = self.hear(exchange);
        let rules = self.rules(&heard, model.as_deref(), policy);
        let watch = Watch { noted: exchange.facts.tries.len(), told };
        if self.passes() {
            let filter = self.pass(exchange, body, &rules, policy, watch)?;
            let path = passing::below(path, self.shared.operation, rules.path);
            self.prove(exchange, &destination, &path, body.unwrap_or_default())?;
            exchange.upstream_path = path;
            exchange.destination = Some(destination);
            return Ok(filter);
        }
        let call = request::check(body.and_then(Object::parse), &rules).map_err(String::from)?;
        let (body, filter) = self.convert(exchange, &call, &rules, policy, watch)?;
        if path.is_empty() {
            path = self.call_path(exchange, &call)?;
        } else if self.shared.format == Format::Anthropic && !call.action.is_empty() {
            // What counts, and what is kept, stands below what answers.
            path = [path.as_ref(), b"/", call.action.trim_start_matches('/').as_bytes()].concat().into();
        }
        foreign::remove(self, exchange);
        exchange.head.headers.set("Accept-Encoding", "gzip, identity");
        self.upstream.mark(exchange)?;
        self.authenticate(exchange);
        self.prove(exchange, &destination, &path, &body)?;
        exchange.upstream_path = path;
        exchange.destination = Some(destination);
        Ok(filter)
    }

    /// The model that is configured, templates filled in.
    ///
    /// # Errors
    /// What the client is told (status 400) where a value is missing.
    fn own_model(&self, exchange: &Exchange) -> Result<Option<Cow<'_, str>>, String> {
        let Some(template) = &self.model else { return Ok(None) };
        Ok(Some(match template.fixed() {
            Some(model) => model.into(),
            None => render(template, exchange)?.into(),
        }))
    }

    /// Names of the model that a request would ask: the configured one and its alias, or the one that the client names.
    /// A request that is going to be refused need not have any.
    pub(super) fn models(&self, exchange: &Exchange, body: Option<&[u8]>, policy: &Policy) -> Vec<String> {
        let own = self.own_model(exchange).ok().flatten().filter(|model| !model.is_empty());
        if let Some(own) = own {
            return std::iter::once(own.into_owned()).chain(self.alias.clone()).collect();
        }
        let heard = self.hear(exchange);
        let rules = self.rules(&heard, None, policy);
        let named = match self.shared.operation {
            Operation::Realtime => passing::model_in_query(exchange),
            operation if operation.passes() => {
                passing::read(exchange, body, &rules).ok().and_then(|passing| passing.model)
            }
            _ => {
                let call = request::check(body.and_then(Object::parse), &rules).ok();
                call.and_then(|call| call.model).map(Cow::into_owned)
            }
        };
        named.into_iter().chain(self.alias.clone()).collect()
    }

    fn hear(&self, exchange: &Exchange) -> Heard {
        let has_betas = self.shared.format == Format::Anthropic;
        let betas = has_betas.then(|| exchange.head.headers.get_str("anthropic-beta")).flatten();
        Heard {
            target: exchange.received_target.clone(),
            captures: exchange.captures.clone(),
            betas: betas.map(str::to_owned),
            wants_usage: exchange.wants_llm_usage(),
        }
    }

    /// What is allowed and wanted of a request.
    fn rules<'a>(&'a self, heard: &'a Heard, model: Option<&'a str>, policy: &Policy) -> Rules<'a> {
        let received = std::str::from_utf8(&heard.target).unwrap_or_default();
        let (path, query) = received.split_once('?').unwrap_or((received, ""));
        Rules {
            format: self.shared.format,
            operation: self.shared.operation,
            path,
            query,
            captures: &heard.captures,
            model: model.filter(|model| !model.is_empty()),
            streaming: policy.streaming,
            options: &self.options,
            want_usage: self.shared.statistics || self.counts || heard.wants_usage,
            auth: self.body_auth(),
            betas: heard.betas.as_deref(),
        }
    }

    /// A body that names the model by its alias, with the model's name; `None` for any other.
    fn without_alias(&self, body: Option<&[u8]>, model: Option<&str>) -> Option<Vec<u8>> {
        let (alias, model) = (self.alias.as_deref()?, model?);
        let object = Object::parse(body?)?;
        let names_alias = object.get_str("model").as_deref() == Some(alias);
        names_alias.then(|| object.edit(&[("model", Some(&quote(model)))]))
    }

    /// The path that the provider makes for a call; a query of its own is put before the client's.
    ///
    /// # Errors
    /// A value that is missing or would lead elsewhere.
    fn call_path(&self, exchange: &mut Exchange, call: &request::Call<'_>) -> Result<Bytes, String> {
        let made = self.shared.provider.call_path(call, self.shared.format, self.shared.operation);
        let (path, query) = made.split_once('?').unwrap_or((&made, ""));
        if let Some((name, value)) = query.split_once('=') {
            set_argument(exchange, name, value, false);
        }
        // Options with placeholders are part of some.
        Ok(match path.contains("$(") {
            true => safe_path(&render(&Template::new(path), exchange)?)?,
            false => Bytes::copy_from_slice(path.as_bytes()),
        })
    }

    /// Has the account, where there is one, answer for the request.
    ///
    /// # Errors
    /// Its credential cannot be had.
    fn prove(
        &self,
        exchange: &mut Exchange,
        destination: &Destination,
        path: &[u8],
        body: &[u8],
    ) -> Result<(), Refusal> {
        if let Some(account) = &self.account
            && !(self.keeps_own_auth() && exchange.head.headers.contains("authorization"))
        {
            let proof = account.held().ok_or_else(|| Refusal::failure(FAILED))?;
            account.prove(&proof, exchange, destination, path, body)?;
        }
        Ok(())
    }

    /// Sets the body to send, which it returns too, with what is to follow the answer.
    ///
    /// # Errors
    /// Why the request cannot be made the provider's.
    fn convert(
        &self,
        exchange: &mut Exchange,
        call: &request::Call<'_>,
        rules: &Rules<'_>,
        policy: &Policy,
        watch: Watch,
    ) -> Result<(Bytes, Box<dyn ResponseFilter>), String> {
        let takes_gzip = exchange.head.headers.get_str("accept-encoding").is_some_and(has_gzip);
        let header = self.header(exchange, call.model.as_deref(), policy);
        if self.shared.operation == Operation::Preserve {
            return Ok((Bytes::new(), Box::new(Preserved::new(header, takes_gzip, watch))));
        }
        let sent = self.shared.provider.request(call, rules)?;
        let body = Bytes::from(sent.body);
        if !call.is_of_kept() {
            exchange.set_body(body.clone());
            exchange.head.headers.set("Content-Type", "application/json");
        }
        let model = call.model.as_deref().unwrap_or_default();
        let mut record = Record::new(&self.shared, model, call, body.clone(), rules.want_usage, watch);
        record.trace(exchange, call.body.text().as_bytes());
        let filter: Box<dyn ResponseFilter> = match call.stream {
            true => Box::new(Streamed::new(record, header, sent.hide_usage)),
            false => Box::new(Plain::new(record, header, takes_gzip)),
        };
        Ok((body, filter))
    }

    /// `X-Kong-LLM-Model`, where it is wanted.
    fn header(&self, exchange: &Exchange, model: Option<&str>, policy: &Policy) -> Option<Arc<str>> {
        if !policy.model_header && !exchange.head.headers.contains("kong-debug") {
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
    let (headers, query) = match &exchange.on_behalf_of {
        Some(head) => (&head.headers, head.query()),
        None => (&exchange.head.headers, exchange.query.as_deref()),
    };
    template.render(|place, key| match place {
        Place::Headers => {
            let value = headers.get_str(key);
            value.or_else(|| headers.get_str(&key.replace('_', "-"))).map(str::to_owned)
        }
        Place::UriCaptures => {
            exchange.captures.iter().find(|(name, _)| **name == *key).map(|(_, value)| value.to_string())
        }
        Place::QueryParams => query::parse(query.unwrap_or_default())
            .find(|(name, _)| name == key)
            .and_then(|(_, value)| value.map(|value| value.into_owned())),
    })
}

/// The log's way of writing a payload.
fn text(bytes: &[u8]) -> Value {
    Value::from(String::from_utf8_lossy(bytes))
}
