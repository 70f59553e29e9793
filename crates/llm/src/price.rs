//! What tokens cost: prices that are configured, and a list of those that providers publish.
//!
//! The list that is compiled in (`price/list.json`) says of which date it is; a node may have one of its own in the
//! same form, which wins where both know a model. What is configured for a model wins over both.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use serde::Deserialize;

use crate::usage::Usage;

/// Prices of a million tokens of a model (Kong 3.14's names).
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Of the prompt.
    pub input_cost: Option<f64>,
    /// Of the answer, what was thought included.
    pub output_cost: Option<f64>,
    /// Of a prompt that was read from the provider's cache; else as any prompt.
    pub cache_read_cost: Option<f64>,
    /// Of a prompt that was written to the provider's cache; else as any prompt.
    pub cache_write_cost: Option<f64>,
    /// The same by how long the cache keeps it, as the provider writes that (`5m`, `1h`).
    #[serde(default)]
    pub cache_write_cost_list: Vec<CacheWriteCost>,
    /// What long prompts cost more.
    #[serde(default)]
    pub context_window_factor: Vec<ContextWindowFactor>,
    /// What service tiers cost more, or less.
    #[serde(default)]
    pub service_tier_factor: Vec<ServiceTierFactor>,
}

/// Price of what a cache keeps for a time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheWriteCost {
    /// That time.
    pub ttl: String,
    /// The price of a million tokens.
    pub cost: f64,
}

/// Factors of prompts of more than so many tokens.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextWindowFactor {
    /// That many tokens.
    pub above: u64,
    /// Factor of all prices of the prompt.
    pub input_factor: f64,
    /// Factor of the answer's price.
    pub output_factor: f64,
}

/// The factor of a service tier.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceTierFactor {
    /// Part of the tier's name, in letters of either size.
    pub tier: String,
    /// The factor of all prices.
    pub factor: f64,
}

impl Prices {
    /// Whether the price of a call follows from these alone: then no list is asked.
    fn stands_alone(&self) -> bool {
        self.input_cost.is_some() || self.output_cost.is_some()
    }

    /// These, with those of a list where they say nothing.
    fn over(&self, listed: &Prices) -> Prices {
        fn either<T: Clone>(own: &[T], listed: &[T]) -> Vec<T> {
            if own.is_empty() { listed.to_vec() } else { own.to_vec() }
        }
        Prices {
            input_cost: listed.input_cost,
            output_cost: listed.output_cost,
            cache_read_cost: self.cache_read_cost.or(listed.cache_read_cost),
            cache_write_cost: self.cache_write_cost.or(listed.cache_write_cost),
            cache_write_cost_list: either(&self.cache_write_cost_list, &listed.cache_write_cost_list),
            context_window_factor: either(&self.context_window_factor, &listed.context_window_factor),
            service_tier_factor: either(&self.service_tier_factor, &listed.service_tier_factor),
        }
    }

    /// Price of a call by these prices; 0 unless those of prompt and answer are both known (Kong 3.11).
    fn of(&self, usage: &Usage) -> f64 {
        let (Some(input), Some(output)) = (self.input_cost, self.output_cost) else { return 0.0 };
        let write_cost = |ttl: &str| {
            let of_time = self.cache_write_cost_list.iter().find(|each| each.ttl.eq_ignore_ascii_case(ttl));
            of_time.map(|each| each.cost).or(self.cache_write_cost).unwrap_or(input)
        };
        let read = usage.cached_tokens();
        let [short, long] = [usage.cache_write_tokens, usage.cache_write_hour_tokens];
        let fresh = usage.prompt_tokens.saturating_sub(read + short + long);
        let prompt = fresh as f64 * input
            + read as f64 * self.cache_read_cost.unwrap_or(input)
            + short as f64 * write_cost("5m")
            + long as f64 * write_cost("1h");
        let exceeded = self.context_window_factor.iter().filter(|factor| usage.prompt_tokens > factor.above);
        let window = exceeded.max_by_key(|factor| factor.above);
        let (input_factor, output_factor) =
            window.map_or((1.0, 1.0), |factor| (factor.input_factor, factor.output_factor));
        let answer = usage.completion_tokens as f64 * output;
        let tier = self.tier_factor(usage.service_tier.as_deref().unwrap_or_default());
        (prompt * input_factor + answer * output_factor) * tier / 1e6
    }

    /// The factor of the longest tier that is part of the provider's name of it (Kong 3.14).
    fn tier_factor(&self, tier: &str) -> f64 {
        let tier = tier.to_ascii_lowercase();
        let matching =
            self.service_tier_factor.iter().filter(|each| tier.contains(&each.tier.to_ascii_lowercase()));
        matching.max_by_key(|each| each.tier.len()).map_or(1.0, |each| each.factor)
    }
}

/// Price of a call of `provider`, of which the first of `models` that is known names the model: what is configured
/// counts, else the lists; 0 where nobody knows.
pub fn cost(configured: &Prices, provider: &str, models: [&str; 2], usage: &Usage) -> f64 {
    if configured.stands_alone() {
        return configured.of(usage);
    }
    let list = CURRENT.load();
    let listed = models.into_iter().find_map(|model| list.find(provider, model));
    listed.map_or(0.0, |listed| configured.over(listed).of(usage))
}

/// Prices by provider and model.
#[derive(Debug, Default, PartialEq)]
pub struct PriceList {
    prices: HashMap<String, OfProvider>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum OfProvider {
    /// The same as another's.
    As(String),
    Models(HashMap<String, Prices>),
}

/// How a list is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[allow(dead_code, reason = "tells people of which currency the prices are")]
    about: Option<String>,
    #[allow(dead_code, reason = "tells people of which date the prices are")]
    as_of: Option<String>,
    prices: HashMap<String, HashMap<String, Prices>>,
}

/// The list that is compiled in.
const SHIPPED: &str = include_str!("price/list.json");

static CURRENT: LazyLock<ArcSwap<PriceList>> = LazyLock::new(|| ArcSwap::from_pointee(PriceList::shipped()));

/// Why a list cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PriceListError(String);

impl PriceList {
    /// The list that is compiled in.
    pub fn shipped() -> Self {
        #[derive(Deserialize)]
        struct Shipped {
            prices: HashMap<String, OfProvider>,
        }
        // A test reads it too.
        serde_json::from_str::<Shipped>(SHIPPED).map(|list| Self { prices: list.prices }).unwrap_or_default()
    }

    /// The list that is compiled in, under one of a node's own: `{"prices": {"<provider>": {"<model>": {…}}}}`.
    ///
    /// # Errors
    /// What is wrong with the text, and where.
    pub fn with_own(text: &str) -> Result<Self, PriceListError> {
        let own: Written = serde_json::from_str(text).map_err(|error| PriceListError(error.to_string()))?;
        let mut list = Self::shipped();
        for (provider, models) in own.prices {
            for (model, prices) in &models {
                let all =
                    [prices.input_cost, prices.output_cost, prices.cache_read_cost, prices.cache_write_cost];
                if all.into_iter().flatten().any(|price| price < 0.0) {
                    return Err(PriceListError(format!("prices.{provider}.{model}: a price is negative")));
                }
            }
            let mut known = list.models(&provider).cloned().unwrap_or_default();
            known.extend(models);
            list.prices.insert(provider, OfProvider::Models(known));
        }
        Ok(list)
    }

    /// Makes this the list that is asked.
    pub fn install(self) {
        CURRENT.store(Arc::new(self));
    }

    fn models(&self, provider: &str) -> Option<&HashMap<String, Prices>> {
        match self.prices.get(provider)? {
            OfProvider::Models(models) => Some(models),
            OfProvider::As(other) => match self.prices.get(other)? {
                OfProvider::Models(models) => Some(models),
                OfProvider::As(_) => None,
            },
        }
    }

    /// Prices of a model: those under its own name, else under the name without the date or version at its end.
    fn find(&self, provider: &str, model: &str) -> Option<&Prices> {
        let models = self.models(provider)?;
        let model = if provider == "bedrock" { of_bedrock(model) } else { model };
        let whole = std::iter::once(model.len());
        let ends = model.char_indices().rev().filter(|(_, letter)| "-@:".contains(*letter));
        whole
            .chain(ends.map(|(at, _)| at))
            .map(|at| model.split_at(at))
            .take_while(|(_, rest)| is_version(rest))
            .find_map(|(name, rest)| models.get(name).filter(|_| !begins_short(rest)))
    }
}

/// Whether what stands behind a name can be part of a date or version: `-2024-08-06`, `-0613`, `@20240620`,
/// `-v1:0`, `-latest`.
fn is_version(rest: &str) -> bool {
    let mut parts = rest.split(['-', '@', ':']);
    parts.next().is_some_and(str::is_empty)
        && parts.all(|part| {
            let digits = part.strip_prefix('v').unwrap_or(part);
            part == "latest" || !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// Whether it begins with a number too short for a date: `claude-opus-4-1` is another model than `claude-opus-4`.
fn begins_short(rest: &str) -> bool {
    let first = rest.get(1..).unwrap_or_default().split(['-', '@', ':']).next().unwrap_or_default();
    (1..3).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_digit())
}

/// A model of Bedrock without the address or region before it: `us.amazon.nova-pro-v1:0`, or an ARN.
fn of_bedrock(model: &str) -> &str {
    let model = model.rsplit('/').next().unwrap_or(model);
    match model.split_once('.') {
        Some(("us" | "us-gov" | "eu" | "apac" | "jp" | "au" | "ca" | "global", rest)) => rest,
        _ => model,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_list_is_one() {
        let list = PriceList::shipped();
        for provider in ["openai", "azure", "anthropic", "gemini", "bedrock", "mistral", "cohere", "xai"] {
            let models = list.models(provider).unwrap();
            assert!(!models.is_empty(), "{provider}");
            assert!(
                models.values().all(|prices| prices.input_cost.is_some() && prices.output_cost.is_some())
            );
        }
        let written: serde_json::Value = serde_json::from_str(SHIPPED).unwrap();
        assert!(written["as_of"].as_str().is_some_and(|date| date.len() == 10));
    }

    #[test]
    fn models_by_name_and_date() {
        let list = PriceList::shipped();
        for (provider, model, expected) in [
            ("openai", "gpt-4o", Some(2.5)),
            ("openai", "gpt-4o-2024-11-20", Some(2.5)),
            ("openai", "gpt-4o-2024-05-13", Some(5.0)),
            ("azure", "gpt-4o-mini-2024-07-18", Some(0.15)),
            ("openai", "gpt-4-0613", Some(30.0)),
            ("openai", "gpt-4-32k-0613", None),
            ("openai", "gpt-4o-audio-preview", None),
            ("openai", "gpt-4o-", None),
            ("openai", "ft:gpt-4o-mini-2024-07-18:me::1", None),
            ("openai", "", None),
            ("anthropic", "claude-3-5-sonnet-latest", Some(3.0)),
            ("anthropic", "claude-opus-4-20250514", Some(15.0)),
            ("anthropic", "claude-opus-4-5-20251101", Some(5.0)),
            ("anthropic", "claude-opus-4-99", None),
            ("anthropic", "claude-opus-4-99-20990101", None),
            ("gemini", "gemini-2.0-flash-001", Some(0.1)),
            ("bedrock", "anthropic.claude-3-5-haiku-20241022-v1:0", Some(0.8)),
            ("bedrock", "eu.anthropic.claude-sonnet-4-20250514-v1:0", Some(3.0)),
            ("bedrock", "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-pro-v1:0", Some(0.8)),
            ("bedrock", "amazon.titan-embed-text-v2:0", Some(0.02)),
            ("ollama", "llama3", None),
        ] {
            let found = list.find(provider, model).and_then(|prices| prices.input_cost);
            assert_eq!(found, expected, "{provider} {model}");
        }
    }

    fn usage() -> Usage {
        Usage {
            prompt_tokens: 1000,
            completion_tokens: 100,
            total_tokens: 1100,
            cache_write_tokens: 200,
            cache_write_hour_tokens: 100,
            prompt_tokens_details: serde_json::from_str(r#"{"cached_tokens":300}"#).unwrap(),
            ..Usage::default()
        }
    }

    #[test]
    fn costs() {
        for (prices, tier, expected) in [
            (r#"{"input_cost":10,"output_cost":10}"#, "", 11_000.0),
            (r#"{"input_cost":10}"#, "", 0.0),
            (r#"{"output_cost":10}"#, "", 0.0),
            (r#"{"input_cost":10,"output_cost":10,"cache_read_cost":1}"#, "", 8300.0),
            (r#"{"input_cost":10,"output_cost":10,"cache_write_cost":20}"#, "", 14_000.0),
            (
                r#"{"input_cost":10,"output_cost":10,"cache_write_cost":20,"cache_write_cost_list":[{"ttl":"1H","cost":40}]}"#,
                "",
                16_000.0,
            ),
            (
                r#"{"input_cost":10,"output_cost":10,"context_window_factor":[{"above":999,"input_factor":2,"output_factor":3},{"above":500,"input_factor":9,"output_factor":9},{"above":1000,"input_factor":9,"output_factor":9}]}"#,
                "",
                23_000.0,
            ),
            (
                r#"{"input_cost":10,"output_cost":10,"service_tier_factor":[{"tier":"prior","factor":3},{"tier":"PRIORITY","factor":2},{"tier":"flex","factor":0.5}]}"#,
                "on_demand_priority",
                22_000.0,
            ),
            (
                r#"{"input_cost":10,"output_cost":10,"service_tier_factor":[{"tier":"flex","factor":0.5}]}"#,
                "default",
                11_000.0,
            ),
        ] {
            let prices: Prices = serde_json::from_str(prices).unwrap();
            let usage = Usage { service_tier: Some(tier.to_owned()), ..usage() };
            let cost = cost(&prices, "openai", ["gpt-4o", "gpt-4o"], &usage);
            assert!((cost * 1e6 - expected).abs() < 1e-6, "{prices:?}: {cost}");
        }
    }

    #[test]
    fn the_list_is_asked_where_nothing_is_configured() {
        let usage = Usage { prompt_tokens: 1_000_000, completion_tokens: 1_000_000, ..Usage::default() };
        let none = Prices::default();
        for (configured, models, expected) in [
            (&none, ["gpt-4o-2024-11-20", "x"], 12.5),
            (&none, ["x", "gpt-4o"], 12.5),
            (&none, ["x", "y"], 0.0),
            (&Prices { input_cost: Some(1.0), ..Prices::default() }, ["gpt-4o", ""], 0.0),
            (
                &Prices { input_cost: Some(1.0), output_cost: Some(0.0), ..Prices::default() },
                ["gpt-4o", ""],
                1.0,
            ),
        ] {
            assert_eq!(cost(configured, "openai", models, &usage), expected, "{models:?}");
        }
    }

    #[test]
    fn lists_of_ones_own() {
        let own = r#"{"prices": {"azure": {"my-deployment": {"input_cost": 7, "output_cost": 8}}, "ollama": {"llama3": {"input_cost": 1, "output_cost": 1}}}}"#;
        let list = PriceList::with_own(own).unwrap();
        let input = |provider, model| list.find(provider, model).and_then(|prices| prices.input_cost);
        assert_eq!(input("azure", "my-deployment"), Some(7.0));
        assert_eq!(input("azure", "gpt-4o"), Some(2.5));
        assert_eq!(input("openai", "my-deployment"), None);
        assert_eq!(input("ollama", "llama3"), Some(1.0));
        for (text, expected) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            (r#"{"prices": {"openai": {"m": {"input": 1}}}}"#, "unknown field `input`"),
            (r#"{"prices": {"openai": {"m": {"input_cost": -1}}}}"#, "prices.openai.m: a price is negative"),
            ("{}", "missing field `prices`"),
        ] {
            let error = PriceList::with_own(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
