//! What is used of limits: reserved before a request is sent, settled once its usage is known.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tollgate_gateway::exchange::LlmUsage;
use tollgate_limit::{Change, Claim, Found, KeyHash, Part, Shared, Used, Window, WindowType, Windows, take};
use tollgate_model::Config;
use tollgate_redis::{Error, Redis};
use tollgate_telemetry::log;

use crate::kept::Kept;

/// What is counted of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Config)]
pub enum CountedTokens {
    /// Tokens of prompt and answer.
    #[config(rename = "total_tokens")]
    Total,
    /// Tokens of the prompt.
    #[config(rename = "prompt_tokens")]
    Prompt,
    /// Tokens of the answer.
    #[config(rename = "completion_tokens")]
    Completion,
    /// The price.
    #[config(rename = "cost")]
    Cost,
}

impl CountedTokens {
    fn of(self, usage: &LlmUsage) -> f64 {
        match self {
            Self::Total => usage.total_tokens as f64,
            Self::Prompt => usage.prompt_tokens as f64,
            Self::Completion => usage.completion_tokens as f64,
            Self::Cost => usage.cost,
        }
    }
}

/// What a rule counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Of what a call used.
    Usage(CountedTokens),
    /// What a Lua function says of the request, before it is sent.
    Request,
    /// What a Lua function says of the call, once it has been answered.
    Custom,
}

impl Counted {
    /// Whether tokens of the prompt are counted.
    pub(super) fn has_prompt(self) -> bool {
        matches!(self, Self::Usage(CountedTokens::Total | CountedTokens::Prompt))
    }
}

/// What a call used.
pub(super) struct Spent<'a> {
    pub usage: &'a LlmUsage,
    /// By the Lua function.
    pub custom: f64,
}

impl Spent<'_> {
    /// Nothing of what is known without it.
    fn of(&self, counted: Counted) -> f64 {
        match counted {
            Counted::Usage(tokens) => tokens.of(self.usage),
            Counted::Request => 0.0,
            Counted::Custom => self.custom,
        }
    }
}

/// A limit in windows of one length.
pub(super) struct Rule {
    /// Whose it is in the keys of counters, such as a provider.
    pub group: Arc<str>,
    pub most: f64,
    /// Seconds.
    pub size: u64,
    pub kind: WindowType,
    pub counted: Counted,
}

/// A limit of one request: whose counter, and what is taken of it.
pub(super) struct Counter {
    /// Place of its rule.
    pub rule: usize,
    /// Whom it counts for.
    pub whom: Arc<str>,
    pub window: Window,
    /// With so much used there is no room; `None` where it is only looked at.
    pub most: Option<f64>,
    /// Reserved until the usage is known.
    pub reserved: f64,
}

impl Counter {
    /// Whether there was no room, by what had been used.
    pub(super) fn is_full(&self, used: &Used) -> bool {
        self.most.is_some_and(|most| used.in_window(&self.window) >= most)
    }
}

/// The limits of a plugin with their counters.
pub(super) struct Meter {
    pub rules: Vec<Rule>,
    namespace: Box<str>,
    store: Store,
    /// Whether amounts are whole numbers.
    whole: bool,
    /// What calls used lately, in the order of [`MEASURED`].
    means: [Mean; MEASURED.len()],
}

/// What is known once a call has been answered.
const MEASURED: [Counted; 5] = [
    Counted::Usage(CountedTokens::Total),
    Counted::Usage(CountedTokens::Prompt),
    Counted::Usage(CountedTokens::Completion),
    Counted::Usage(CountedTokens::Cost),
    Counted::Custom,
];

/// Where the counters are.
enum Store {
    /// In this process, in the order of the rules.
    Here(Vec<Arc<Windows>>),
    Redis(Arc<Shared>),
}

impl Meter {
    /// Counters in this process. They are shared by all meters of the namespace.
    pub(super) fn here(rules: Vec<Rule>, namespace: &str) -> Self {
        static KEPT: LazyLock<Kept<(String, u64), Windows>> = LazyLock::new(Kept::default);
        let windows = |rule: &Rule| {
            let make = || Ok::<_, Infallible>(Windows::new(rule.size));
            KEPT.get((namespace.to_owned(), rule.size), |_| true, make).unwrap_or_else(|never| match never {})
        };
        let store = Store::Here(rules.iter().map(windows).collect());
        Self { rules, namespace: namespace.into(), store, whole: false, means: Default::default() }
    }

    /// Counters in a Redis; without an `interval` it is asked at every request. `fractions` are kept, or all amounts
    /// rounded up.
    pub(super) fn in_redis(
        rules: Vec<Rule>,
        namespace: &str,
        redis: Redis,
        interval: Option<Duration>,
        fractions: bool,
    ) -> Self {
        static KEPT: LazyLock<Kept<String, Shared>> = LazyLock::new(Kept::default);
        let settings = redis.settings().clone();
        let fits = |kept: &Shared| *kept.redis().settings() == settings && kept.interval() == interval;
        let make = || Ok::<_, Infallible>(Shared::new(redis, interval));
        let shared = KEPT.get(namespace.to_owned(), fits, make).unwrap_or_else(|never| match never {});
        Self {
            rules,
            namespace: namespace.into(),
            store: Store::Redis(shared),
            whole: !fractions,
            means: Default::default(),
        }
    }

    /// Whether counters are in this process, so that nothing needs to be waited for.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.store, Store::Here(_))
    }

    /// What a call is expected to use: what calls used lately, but no less than its `prompt_tokens`. Before anything
    /// is known of calls, `first` tokens of the prompt.
    pub(super) fn expected(&self, counted: Counted, prompt_tokens: f64, first: f64) -> f64 {
        let (prompt, first) = if counted.has_prompt() { (prompt_tokens, first) } else { (0.0, 0.0) };
        let place = MEASURED.iter().position(|measured| *measured == counted);
        let mean = place.and_then(|place| self.means.get(place)).map_or(0.0, Mean::value);
        self.amount(if mean > 0.0 { mean } else { first }.max(prompt))
    }

    /// An amount as it is counted.
    pub(super) fn amount(&self, amount: f64) -> f64 {
        if self.whole { amount.ceil() } else { amount }
    }

    /// Takes what is reserved of every counter, where all have room; for counters in this process.
    pub(super) fn take_here(&self, counters: &[Counter]) -> Found {
        let Store::Here(windows) = &self.store else {
            return Found { allowed: true, used: vec![Used::default(); counters.len()] };
        };
        let claims: Vec<Claim<'_>> = counters
            .iter()
            .filter_map(|counter| {
                let (key, window) = (self.hash(counter), counter.window);
                let windows = windows.get(counter.rule)?;
                Some(Claim { windows, key, window, most: counter.most, amount: counter.reserved })
            })
            .collect();
        let mut used = Vec::with_capacity(claims.len());
        let allowed = take(&claims, &mut used);
        Found { allowed, used }
    }

    /// Takes what is reserved of every counter, where all have room. `now` since 1970.
    ///
    /// # Errors
    /// Redis cannot be asked; the answer beside the error is by what is known here.
    pub(super) async fn take(&self, counters: &[Counter], now: Duration) -> (Found, Option<Error>) {
        let Store::Redis(shared) = &self.store else { return (self.take_here(counters), None) };
        let parts: Vec<Part> = counters
            .iter()
            .map(|counter| {
                let Window { start, previous_weight, .. } = counter.window;
                let previous = counter.window.previous_start();
                Part {
                    key: self.key(counter, start),
                    previous: (previous_weight > 0.0).then(|| (self.key(counter, previous), previous_weight)),
                    most: counter.most,
                    amount: counter.reserved,
                    kept: kept(&counter.window),
                }
            })
            .collect();
        match shared.take(&parts, now.as_secs()).await {
            Ok(found) => (found, None),
            Err(error) => (shared.take_here(&parts, now.as_secs()), Some(error)),
        }
    }

    /// Counts what was used in place of what was reserved. `counts` tells of which rules the usage is. What is counted
    /// of requests stays.
    pub(super) fn settle(
        &self,
        counters: &[Counter],
        spent: Option<&Spent<'_>>,
        counts: impl Fn(usize, &LlmUsage) -> bool,
        now: Duration,
    ) {
        let mut changes: Vec<(&Counter, Window, f64)> = Vec::with_capacity(counters.len());
        for counter in counters {
            let Some(rule) = self.rules.get(counter.rule).filter(|rule| rule.counted != Counted::Request)
            else {
                continue;
            };
            let spent = spent.filter(|spent| counts(counter.rule, spent.usage));
            let used = self.amount(spent.map_or(0.0, |spent| spent.of(rule.counted)));
            let current = Window::at(rule.kind, rule.size, now);
            if current.start == counter.window.start {
                changes.push((counter, current, used - counter.reserved));
            } else {
                // It counts when it is known (Kong 3.11).
                changes.push((counter, counter.window, -counter.reserved));
                changes.push((counter, current, used));
            }
        }
        if let Some(spent) = spent {
            MEASURED.iter().zip(&self.means).for_each(|(counted, mean)| mean.add(spent.of(*counted)));
        }
        self.change(changes, now);
    }

    /// Counts a request that is refused all the same, where `counts` says so.
    pub(super) fn charge(&self, counters: &[Counter], counts: impl Fn(&Rule) -> bool, now: Duration) {
        let charged = counters.iter().filter(|counter| self.rules.get(counter.rule).is_some_and(&counts));
        self.change(charged.map(|counter| (counter, counter.window, counter.reserved)).collect(), now);
    }

    fn change(&self, mut changes: Vec<(&Counter, Window, f64)>, now: Duration) {
        changes.retain(|(.., amount)| *amount != 0.0);
        match &self.store {
            Store::Here(windows) => {
                for (counter, window, amount) in changes {
                    if let Some(windows) = windows.get(counter.rule) {
                        windows.add(self.hash(counter), window.start, amount);
                    }
                }
            }
            Store::Redis(shared) => {
                let change = |(counter, window, amount): (&Counter, Window, f64)| Change {
                    key: self.key(counter, window.start),
                    amount,
                    kept: kept(&window),
                };
                tell(shared, changes.into_iter().map(change).collect(), now.as_secs());
            }
        }
    }

    fn group(&self, counter: &Counter) -> &str {
        self.rules.get(counter.rule).map_or("", |rule| &rule.group)
    }

    fn hash(&self, counter: &Counter) -> KeyHash {
        KeyHash::of(&(&*counter.whom, self.group(counter)))
    }

    /// Key in Redis. All of a namespace are in one place of a cluster, as limits are looked at together.
    fn key(&self, counter: &Counter, start: u64) -> String {
        let (namespace, size) = (&self.namespace, counter.window.size);
        format!("{{{namespace}}}:{}:{}:{size}:{start}", counter.whom, self.group(counter))
    }
}

/// Tells Redis of changes, without waiting for it.
fn tell(shared: &Arc<Shared>, changes: Vec<Change>, now: u64) {
    if changes.is_empty() {
        return;
    }
    if shared.interval().is_some() {
        return shared.add_here(&changes, now);
    }
    let shared = Arc::clone(shared);
    // While the node stops there may be no runtime any more.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    runtime.spawn(async move {
        if let Err(error) = shared.add(&changes, now).await {
            log!(Error, "ai-rate-limiting-advanced: usage is to be told later: {error}");
        }
    });
}

/// Seconds a counter is kept: while its window counts as the one before, and some more.
fn kept(window: &Window) -> u64 {
    2 * window.size + 60
}

/// What calls used lately: a mean in which the latest count most.
#[derive(Default)]
struct Mean(AtomicU64);

/// How much the latest call counts.
const LATEST: f64 = 1.0 / 16.0;

impl Mean {
    /// 0 before the first.
    fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn add(&self, amount: f64) {
        let add = |bits| {
            let mean = f64::from_bits(bits);
            let next = if mean == 0.0 { amount } else { mean + (amount - mean) * LATEST };
            Some(next.to_bits())
        };
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

/// A number as header fields show it: without what floating point adds.
pub(super) fn number(value: f64) -> Cow<'static, str> {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return itoa::Buffer::new().format(value as i64).to_owned().into();
    }
    let text = format!("{value:.10}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: Counted = Counted::Usage(CountedTokens::Total);

    fn usage(tokens: u64) -> LlmUsage {
        LlmUsage {
            provider: "openai",
            model: "gpt".into(),
            prompt_tokens: tokens / 3,
            completion_tokens: tokens - tokens / 3,
            total_tokens: tokens,
            cost: tokens as f64 / 1e6,
        }
    }

    fn meter(namespace: &str, most: f64) -> Meter {
        let rule = Rule { group: "openai".into(), most, size: 60, kind: WindowType::Fixed, counted: TOTAL };
        Meter::here(vec![rule], namespace)
    }

    fn counter(meter: &Meter, now: Duration) -> Counter {
        Counter {
            rule: 0,
            whom: "a".into(),
            window: Window::at(WindowType::Fixed, 60, now),
            most: Some(meter.rules[0].most),
            reserved: meter.expected(TOTAL, 0.0, 0.0),
        }
    }

    #[test]
    fn what_is_reserved_is_settled_by_what_was_used() {
        let meter = meter("settled", 100.0);
        let now = Duration::from_secs(6000);
        let ask = || {
            let counters = vec![counter(&meter, now)];
            let found = meter.take_here(&counters);
            (found.allowed, found.used[0].current, counters)
        };
        let (allowed, used, first) = ask();
        assert_eq!((allowed, used, first[0].reserved), (true, 0.0, 0.0));
        meter.settle(&first, Some(&Spent { usage: &usage(40), custom: 0.0 }), |_, _| true, now);
        let (allowed, used, second) = ask();
        assert_eq!((allowed, used, second[0].reserved), (true, 40.0, 40.0));
        // The reservation of the second counts for the third.
        let (allowed, used, third) = ask();
        assert_eq!((allowed, used), (true, 80.0));
        assert_eq!((ask().0, ask().1), (false, 120.0));
        // The second fails; the third's answer is of another's rule: neither counts.
        meter.settle(&second, None, |_, _| true, now);
        meter.settle(&third, Some(&Spent { usage: &usage(40), custom: 0.0 }), |_, _| false, now);
        assert_eq!(ask().1, 40.0);
    }

    #[test]
    fn usage_counts_when_it_is_known() {
        let meter = meter("known", 100.0);
        let (before, after) = (Duration::from_secs(6059), Duration::from_secs(6060));
        meter.settle(
            &[counter(&meter, before)],
            Some(&Spent { usage: &usage(10), custom: 0.0 }),
            |_, _| true,
            before,
        );
        let counters = [counter(&meter, before)];
        assert!(meter.take_here(&counters).allowed);
        meter.settle(&counters, Some(&Spent { usage: &usage(70), custom: 0.0 }), |_, _| true, after);
        let used =
            |now| meter.take_here(&[Counter { reserved: 0.0, ..counter(&meter, now) }]).used[0].current;
        assert_eq!(used(after), 70.0);
    }

    #[test]
    fn a_mean_follows_what_calls_use() {
        let mean = Mean::default();
        mean.add(160.0);
        assert_eq!(mean.value(), 160.0);
        mean.add(0.0);
        assert_eq!(mean.value(), 150.0);
    }

    #[test]
    fn numbers_without_noise() {
        for (value, text) in
            [(5.0, "5"), (0.3 - 0.1, "0.2"), (0.000_002, "0.000002"), (12.5, "12.5"), (0.0, "0")]
        {
            assert_eq!(number(value), text);
        }
    }
}
