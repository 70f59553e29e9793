//! `ai-rate-limiting-advanced`: so many tokens of LLMs, or so much money, in windows of any length.
//!
//! What a call uses is known when its answer has ended. So that limits hold while many are under way, a request
//! reserves what calls used lately before it is sent, and what it used takes the place of that in the end, also where
//! the client has left.

mod config;
mod functions;
mod meter;
mod policy;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tollgate_gateway::exchange::LlmUsage;
use tollgate_gateway::{Access, BuildError, Exchange, Outcome, Phases, Plugin, Scope, clock};
use tollgate_http::{Response, StatusCode};
use tollgate_limit::{Found, Window, WindowType};
use tollgate_llm::json::Object;
use tollgate_llm::{Format, prompt};
use tollgate_model::{Map, Value, json};
use tollgate_telemetry::Level;

pub use self::config::{AiRateLimitingConfig, schema};
use self::config::{PolicyConfig, ProviderConfig, Strategy, WindowTypeName};
use self::functions::Functions;
use self::meter::{Counted, CountedTokens, Counter, Meter, Rule, Spent, number};
use self::policy::{Match, Prompt};
use super::target::{Reads, take_body};
use crate::identifier::CountBy;
use crate::read;

/// Longest body whose prompt is looked at, in bytes.
const LONGEST_BODY: usize = 1024 * 1024;

/// Prompt tokens that are expected at most before it is known what calls use.
const MOST_EXPECTED: f64 = 1000.0;

/// Compiles a configured `ai-rate-limiting-advanced`.
///
/// # Errors
/// What is not served; a provider that counts by a function that is not there; a Redis that cannot be used.
pub fn build(config: &Map<String, Value>, scope: &Scope) -> Result<Arc<dyn Plugin>, BuildError> {
    let config: AiRateLimitingConfig = read(config)?;
    let functions = Functions::new(&config)?;
    let window_type = config.window_type.unwrap_or(WindowTypeName::Sliding);
    let counted = config.tokens_count_strategy.unwrap_or(CountedTokens::Total);
    let mut limits = Limits { groups: Vec::new(), rules: Vec::new(), names: Vec::new() };
    for (index, provider) in config.llm_providers.iter().flatten().enumerate() {
        limits.add_provider(
            provider,
            window_type,
            counted,
            &format!("config.llm_providers[{}]", index + 1),
        )?;
    }
    for (index, policy) in config.policies.iter().flatten().enumerate() {
        limits.add_policy(policy, index + 1)?;
    }
    let Limits { groups, rules, names } = limits;
    let namespace = config.namespace.clone().unwrap_or_else(|| scope.id.to_string());
    let sync_rate = config.sync_rate.unwrap_or(-1.0);
    let meter = if config.strategy == Some(Strategy::Redis) && sync_rate >= 0.0 {
        let interval = (sync_rate > 0.0).then(|| Duration::from_secs_f64(sync_rate));
        let fractions = config.decrease_by_fractions_in_redis == Some(true);
        Meter::in_redis(rules, &namespace, config.redis.client()?, interval, fractions)
    } else {
        // A store is one node's: its counters are that node's.
        Meter::here(rules, &namespace)
    };
    let reads_prompt = groups.iter().any(|group| match &group.of {
        Of::Provider(_) | Of::Requests | Of::CustomCosts => false,
        Of::Policy(matches) => {
            let rules = meter.rules.get(group.first..group.end).unwrap_or_default();
            matches.iter().any(Match::reads_body) || rules.iter().any(|rule| rule.counted.has_prompt())
        }
    });
    let code = config.error_code.unwrap_or(429.0);
    Ok(Arc::new(AiRateLimiting(Arc::new(Limiter {
        count_by: count_by(&config),
        status: status(code)?,
        message: config.error_message.unwrap_or_default(),
        names_groups: config.error_hide_providers != Some(true),
        tells_limits: config.hide_client_headers != Some(true),
        jitter: config.retry_after_jitter_max.unwrap_or_default().max(0.0),
        format: config.llm_format.as_deref().and_then(Format::named).unwrap_or(Format::OpenAi),
        reads_prompt,
        counts_refused_sliding: config.disable_penalty != Some(true),
        functions,
        groups,
        names,
        meter,
    }))))
}

fn refused(field: impl Into<String>, message: impl Into<String>) -> BuildError {
    BuildError { field: field.into(), message: message.into() }
}

fn count_by(config: &AiRateLimitingConfig) -> CountBy {
    let text = |text: &Option<String>| text.clone().unwrap_or_default().into();
    match config.identifier.as_deref() {
        Some("ip") => CountBy::Ip,
        Some("credential") => CountBy::Credential,
        Some("service") => CountBy::Service,
        Some("header") => CountBy::Header(text(&config.header_name)),
        Some("path") => CountBy::Path(text(&config.path)),
        Some("consumer-group") => CountBy::ConsumerGroup,
        _ => CountBy::Consumer,
    }
}

fn status(code: f64) -> Result<StatusCode, BuildError> {
    let whole = (code.fract() == 0.0 && (100.0..600.0).contains(&code)).then_some(code as u16);
    whole
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| refused("config.error_code", format!("{code} is no status of HTTP; use 100 to 599")))
}

/// The limits while they are compiled.
struct Limits {
    groups: Vec<Group>,
    rules: Vec<Rule>,
    names: Vec<Names>,
}

/// Limits that stand together.
struct Group {
    /// The provider, or `policy-` and a number.
    name: Arc<str>,
    of: Of,
    /// Its rules: from the first up to where they end.
    first: usize,
    end: usize,
}

/// Whose limits they are.
enum Of {
    /// Of requests, counted by a Lua function (`requestPrompt`).
    Requests,
    /// Of calls, priced by a Lua function (`customCost`).
    CustomCosts,
    /// Of a provider.
    Provider(String),
    /// Of requests that fulfil all of these; without any, of those that no other policy is for.
    Policy(Vec<Match>),
}

/// Header fields of a limit.
struct Names {
    limit: String,
    remaining: String,
    reset: String,
    retry_after: String,
    query_cost: String,
    /// The limit, which never changes.
    most: String,
}

impl Names {
    fn new(group: &str, size: u64, most: f64) -> Self {
        let window = match size {
            1 => "second".to_owned(),
            60 => "minute".to_owned(),
            3600 => "hour".to_owned(),
            86_400 => "day".to_owned(),
            2_592_000 => "month".to_owned(),
            31_536_000 => "year".to_owned(),
            size => size.to_string(),
        };
        let name = |what: &str| format!("X-AI-RateLimit-{what}-{window}-{group}");
        Self {
            limit: name("Limit"),
            remaining: name("Remaining"),
            reset: name("Reset"),
            retry_after: name("Retry-After"),
            query_cost: name("Query-Cost"),
            most: number(most).into_owned(),
        }
    }
}

impl Limits {
    fn add_provider(
        &mut self,
        provider: &ProviderConfig,
        kind: WindowTypeName,
        counted: CountedTokens,
        field: &str,
    ) -> Result<(), BuildError> {
        let (of, counted) = match provider.name.as_str() {
            "requestPrompt" => (Of::Requests, Counted::Request),
            "customCost" => (Of::CustomCosts, Counted::Custom),
            name => (Of::Provider(name.to_owned()), Counted::Usage(counted)),
        };
        let mut limits = Vec::new();
        for (most, size) in provider.limit.iter().zip(&provider.window_size) {
            if size.fract() != 0.0 || *size < 1.0 {
                return Err(refused(
                    format!("{field}.window_size"),
                    format!("{size} is no number of whole seconds"),
                ));
            }
            limits.push((*most, *size as u64, counted));
        }
        // Kong 3.11 has them shortest window first.
        limits.sort_by_key(|(_, size, _)| *size);
        self.add(provider.name.clone(), of, kind, limits);
        Ok(())
    }

    fn add_policy(&mut self, policy: &PolicyConfig, position: usize) -> Result<(), BuildError> {
        let field = format!("config.policies[{position}]");
        if policy.id.is_some() {
            let message =
                "policies that are kept elsewhere are not served by this version; write its limits here";
            return Err(refused(format!("{field}.id"), message));
        }
        let matches = policy.r#match.iter().flatten().enumerate();
        let matches = matches
            .map(|(index, config)| Match::new(config, &format!("{field}.match[{}]", index + 1)))
            .collect::<Result<_, _>>()?;
        let limit = |config: &config::LimitConfig| {
            let size = u64::try_from(config.window_size).unwrap_or(1);
            let counted = config.tokens_count_strategy.unwrap_or(CountedTokens::Total);
            (config.limit, size, Counted::Usage(counted))
        };
        let limits = policy.limits.iter().map(limit).collect();
        let kind = policy.window_type.unwrap_or(WindowTypeName::Sliding);
        self.add(format!("policy-{position}"), Of::Policy(matches), kind, limits);
        Ok(())
    }

    fn add(&mut self, name: String, of: Of, kind: WindowTypeName, limits: Vec<(f64, u64, Counted)>) {
        let (name, first): (Arc<str>, _) = (name.into(), self.rules.len());
        for (most, size, counted) in limits {
            self.names.push(Names::new(&name, size, most));
            let group = match counted {
                // Counters of what is counted otherwise are others.
                Counted::Usage(other) if other != CountedTokens::Total => {
                    format!("{name}:{}", other.name()).into()
                }
                _ => Arc::clone(&name),
            };
            self.rules.push(Rule { group, most, size, kind: kind.into(), counted });
        }
        self.groups.push(Group { name, of, first, end: self.rules.len() });
    }
}

struct AiRateLimiting(Arc<Limiter>);

struct Limiter {
    groups: Vec<Group>,
    meter: Meter,
    /// Of the meter's rules.
    names: Vec<Names>,
    count_by: CountBy,
    status: StatusCode,
    message: String,
    names_groups: bool,
    tells_limits: bool,
    /// Seconds.
    jitter: f64,
    format: Format,
    reads_prompt: bool,
    /// Whether refused requests count in sliding windows, where requests are counted.
    counts_refused_sliding: bool,
    functions: Functions,
}

impl Plugin for AiRateLimiting {
    fn phases(&self) -> Phases {
        Phases::ACCESS
    }

    fn access<'a>(&'a self, exchange: &'a mut Exchange) -> Access<'a> {
        let limiter = &self.0;
        let now = clock::now();
        if limiter.meter.is_here() && !limiter.reads_prompt && !limiter.functions.read_body() {
            let count = match limiter.functions.count(exchange) {
                Ok(count) => count,
                Err(answer) => return Access::Answer(answer),
            };
            let counters = limiter.counters(exchange, &Prompt { count, ..Prompt::default() }, now);
            let found = limiter.meter.take_here(&counters);
            let reservation = limiter.reservation(counters, &found);
            return limiter.decide(exchange, reservation, &found).map_or(Access::Continue, Access::Answer);
        }
        Access::wait(async move {
            let mut prompt =
                if limiter.reads_prompt { limiter.read_prompt(exchange).await } else { Prompt::default() };
            if limiter.functions.read_body() {
                // Where it is too large, the function is told that it is not there.
                let _ = exchange.buffer_body(LONGEST_BODY).await;
            }
            prompt.count = match limiter.functions.count(exchange) {
                Ok(count) => count,
                Err(answer) => return Outcome::Answer(answer),
            };
            let counters = limiter.counters(exchange, &prompt, now);
            let (reserved, taken) = oneshot::channel();
            let taker = Arc::clone(limiter);
            // Apart from the request: where the client leaves meanwhile, what was reserved is given back.
            tokio::spawn(async move {
                let (found, error) = taker.meter.take(&counters, now).await;
                let _ = reserved.send((taker.reservation(counters, &found), found, error));
            });
            let Ok((reservation, found, error)) = taken.await else { return Outcome::Continue };
            if let Some(error) = error {
                let message = format_args!("ai-rate-limiting-advanced: only this node is counted: {error}");
                exchange.write_error_log(Level::Error, &message);
            }
            limiter.decide(exchange, reservation, &found).map_or(Outcome::Continue, Outcome::Answer)
        })
    }
}

/// What a request reserved of its limits, if it did. Where nobody settles it, it is given back.
struct Reservation {
    limiter: Arc<Limiter>,
    counters: Vec<Counter>,
    made: bool,
}

impl Reservation {
    /// Puts what an exchange that has ended used in place of what is reserved.
    fn settle(&mut self, ended: Option<&Exchange>) {
        if std::mem::take(&mut self.made) {
            let limiter = &self.limiter;
            let used = ended.and_then(|exchange| Some((exchange, exchange.facts.llm_usage.as_ref()?)));
            let spent =
                used.map(|(exchange, usage)| Spent { usage, custom: limiter.functions.cost(exchange) });
            limiter.meter.settle(
                &self.counters,
                spent.as_ref(),
                |rule, usage| limiter.counts(rule, usage),
                clock::now(),
            );
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(None);
    }
}

impl Limiter {
    /// What the body says; nothing where it cannot be read.
    async fn read_prompt(&self, exchange: &mut Exchange) -> Prompt {
        let Some(body) = take_body(exchange, Reads::Forms, LONGEST_BODY).await else {
            return Prompt::default();
        };
        let Some(object) = Object::parse(&body) else { return Prompt::default() };
        let said = prompt::said(self.format, &object).unwrap_or_default();
        // Kong's estimate: a word is a token.
        let words: usize = said.iter().map(|said| said.text.split_whitespace().count()).sum();
        let model = object.get_str("model").map(|model| model.into_owned());
        Prompt { model, tokens: words as f64, ..Prompt::default() }
    }

    /// The limits that this request has to keep, and those it is told of.
    fn counters(&self, exchange: &Exchange, prompt: &Prompt, now: Duration) -> Vec<Counter> {
        let mut counters = Vec::with_capacity(self.names.len());
        let providers = exchange.llm_providers();
        let identifier: Arc<str> = self.count_by.identify(exchange).to_string().into();
        // While nobody knows what calls use: four bytes are about a token.
        let first = (exchange.body.remaining().unwrap_or_default() as f64 / 4.0).clamp(1.0, MOST_EXPECTED);
        let mut add = |group: &Group, whom: &Arc<str>, asked: Asked| {
            for place in group.first..group.end {
                let Some(rule) = self.meter.rules.get(place) else { continue };
                let counts_request = rule.counted == Counted::Request;
                let estimate = match rule.counted {
                    Counted::Request => self.meter.amount(prompt.count),
                    counted if counted.has_prompt() => prompt.tokens,
                    _ => 0.0,
                };
                // A prompt that does not fit is refused now; one that just fits is not.
                let most = if estimate > 0.0 || counts_request {
                    (rule.most - estimate).next_up()
                } else {
                    rule.most
                };
                let expected = || match rule.counted {
                    Counted::Request => estimate,
                    counted => self.meter.expected(counted, prompt.tokens, first),
                };
                counters.push(Counter {
                    rule: place,
                    whom: Arc::clone(whom),
                    window: Window::at(rule.kind, rule.size, now),
                    most: asked.keeps.then_some(most),
                    reserved: if asked.reserves { expected() } else { 0.0 },
                });
            }
        };
        let mut fallback = None;
        let mut matched = false;
        for group in &self.groups {
            match &group.of {
                Of::Provider(name) => {
                    let reaches = providers.iter().any(|provider| provider == name);
                    let asked = Asked { keeps: reaches || providers.is_empty(), reserves: reaches };
                    add(group, &identifier, asked);
                }
                Of::Requests | Of::CustomCosts => {
                    add(group, &identifier, Asked { keeps: true, reserves: true });
                }
                Of::Policy(matches) if matches.is_empty() => fallback = fallback.or(Some(group)),
                Of::Policy(matches) => {
                    if let Some(whom) = policy::whom(matches, exchange, prompt) {
                        matched = true;
                        add(group, &whom.into(), Asked { keeps: true, reserves: true });
                    }
                }
            }
        }
        if let Some(group) = fallback.filter(|_| !matched) {
            add(group, &"".into(), Asked { keeps: true, reserves: true });
        }
        counters
    }

    fn reservation(self: &Arc<Self>, counters: Vec<Counter>, found: &Found) -> Reservation {
        Reservation { limiter: Arc::clone(self), made: found.allowed && !counters.is_empty(), counters }
    }

    /// Tells the client what is left; refuses the request, or sees to it that its usage is counted.
    fn decide(
        &self,
        exchange: &mut Exchange,
        mut reservation: Reservation,
        found: &Found,
    ) -> Option<Response> {
        if self.tells_limits {
            self.tell(exchange, &reservation.counters, found);
        }
        if !found.allowed {
            self.meter.charge(&reservation.counters, |rule| self.counts_refused(rule), clock::now());
            return Some(self.refuse(exchange, &reservation.counters, found));
        }
        if reservation.made {
            exchange.observe_llm_usage(Box::new(move |exchange| reservation.settle(Some(exchange))));
        }
        None
    }

    /// Whether what a call used is of a rule.
    fn counts(&self, rule: usize, usage: &LlmUsage) -> bool {
        let group = self.groups.iter().find(|group| (group.first..group.end).contains(&rule));
        group.is_some_and(|group| match &group.of {
            Of::Requests => false,
            Of::CustomCosts => true,
            Of::Provider(name) => name == usage.provider,
            Of::Policy(matches) => matches.iter().all(|condition| condition.counts(usage)),
        })
    }

    /// Whether a request that is refused counts for a rule (Kong 3.11).
    fn counts_refused(&self, rule: &Rule) -> bool {
        rule.counted == Counted::Request && (rule.kind == WindowType::Fixed || self.counts_refused_sliding)
    }

    /// Limits, and what was left of them before this request (Kong 3.11: what it uses is told from the next on); where
    /// requests are counted, what this one counts and what it leaves.
    fn tell(&self, exchange: &mut Exchange, counters: &[Counter], found: &Found) {
        for (counter, used) in counters.iter().zip(&found.used) {
            let (Some(names), Some(rule)) =
                (self.names.get(counter.rule), self.meter.rules.get(counter.rule))
            else {
                continue;
            };
            let mut used = used.in_window(&counter.window);
            if rule.counted == Counted::Request {
                let count = number(counter.reserved);
                exchange.response_headers.set(&names.query_cost, count.as_bytes());
                exchange.response_headers.set("X-AI-RateLimit-Query-Cost", count.as_bytes());
                if found.allowed || self.counts_refused(rule) {
                    used += counter.reserved;
                }
            }
            let remaining = (rule.most - used).max(0.0);
            exchange.response_headers.set(&names.limit, names.most.as_bytes());
            exchange.response_headers.set(&names.remaining, number(remaining).as_bytes());
        }
    }

    fn refuse(&self, exchange: &mut Exchange, counters: &[Counter], found: &Found) -> Response {
        let jitter = if self.jitter > 0.0 { (fastrand::f64() * self.jitter).round() as u64 } else { 0 };
        let mut longest = 0;
        let full = counters.iter().zip(&found.used).filter(|(counter, used)| counter.is_full(used));
        for (counter, used) in full.clone() {
            let most = counter.most.unwrap_or_default();
            let reset = counter.window.seconds_until_room(most, used.current, used.previous);
            longest = longest.max(reset);
            let Some(names) = self.names.get(counter.rule) else { continue };
            set_seconds(exchange, &names.reset, reset);
            set_seconds(exchange, &names.retry_after, reset + jitter);
        }
        set_seconds(exchange, "X-AI-RateLimit-Reset", longest);
        set_seconds(exchange, "X-AI-RateLimit-Retry-After", longest + jitter);
        let is_full = |group: &&Group| {
            full.clone().any(|(counter, _)| (group.first..group.end).contains(&counter.rule))
        };
        let names: Vec<&str> = self.groups.iter().filter(is_full).map(|group| &*group.name).collect();
        let names = if self.names_groups { names.join(", ") } else { String::new() };
        exchange.exit(self.status, &json!({"message": format!("{}{names}", self.message)}))
    }
}

/// What is asked of a group's limits.
struct Asked {
    /// Whether the request has to keep them.
    keeps: bool,
    /// Whether it reserves something of them.
    reserves: bool,
}

fn set_seconds(exchange: &mut Exchange, name: &str, seconds: u64) {
    exchange.response_headers.set(name, itoa::Buffer::new().format(seconds));
}
