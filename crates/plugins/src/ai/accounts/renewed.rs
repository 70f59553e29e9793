//! A credential that is fetched when it is first needed, held, and renewed in the background ahead of its end.
//! Many requests wait for one fetch; none waits while what is held is valid.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tollgate_telemetry::log;

use super::AccountError;
use crate::background;

/// How long before its end a credential is renewed, at most a fifth of its life.
const AHEAD: Duration = Duration::from_secs(5 * 60);
/// How long before its end a credential is no longer used, at most a tenth of its life: it has to be good still
/// where it arrives.
const MARGIN: Duration = Duration::from_secs(10);
/// How long the error of a failed fetch stands before the next one is begun.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The same while what is held is valid.
const RETRY_AT_LEISURE: Duration = Duration::from_secs(10);

/// Where a credential comes from.
pub trait Source: Clone + PartialEq + Send + Sync + 'static {
    /// The credential.
    type Credential: Send + Sync + 'static;

    /// Whose it is, for errors.
    const NAME: &'static str;

    /// One that needs no fetching.
    fn fixed(&self) -> Option<Self::Credential> {
        None
    }

    /// Fetches one.
    fn fetch(&self) -> impl Future<Output = Result<Lease<Self::Credential>, AccountError>> + Send;
}

/// A credential and how long it may be held.
#[derive(Debug)]
pub struct Lease<T> {
    credential: T,
    renew_at: Instant,
    expires: Option<Instant>,
}

impl<T> Lease<T> {
    /// One that is valid for so long.
    pub fn lasting(credential: T, life: Duration) -> Self {
        let now = Instant::now();
        let renew_at = now + (life - AHEAD.min(life / 5));
        Self { credential, renew_at, expires: Some(now + (life - MARGIN.min(life / 10))) }
    }

    /// One that is valid until a time, written as AWS and Google do: `2026-01-31T12:00:00Z`.
    ///
    /// # Errors
    /// What is no time.
    pub fn until(credential: T, end: &str) -> Result<Self, AccountError> {
        let end = OffsetDateTime::parse(end, &Rfc3339)
            .map_err(|_| AccountError("the end of the credential's life is no time".to_owned()))?;
        let life = SystemTime::from(end).duration_since(SystemTime::now()).unwrap_or_default();
        Ok(Self::lasting(credential, life))
    }

    /// One without an end, which may change: it is looked for again after this time.
    pub fn without_end(credential: T, look_again: Duration) -> Self {
        Self { credential, renew_at: Instant::now() + look_again, expires: None }
    }

    /// The same, renewed this long from now where that is sooner.
    #[must_use]
    pub fn renewed_after(mut self, time: Duration) -> Self {
        self.renew_at = self.renew_at.min(Instant::now() + time);
        self
    }

    /// The same lease of what is made of the credential.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Lease<U> {
        Lease { credential: make(self.credential), renew_at: self.renew_at, expires: self.expires }
    }

    /// The credential, for one who needs it now only.
    pub fn into_credential(self) -> T {
        self.credential
    }
}

struct Held<T> {
    credential: Arc<T>,
    renew_at: Option<Instant>,
    expires: Option<Instant>,
}

type Outcome<T> = Result<Arc<T>, AccountError>;
type News<T> = watch::Receiver<Option<Outcome<T>>>;

struct Flight<T> {
    /// Hears of the fetch that is under way.
    under_way: Option<News<T>>,
    /// Until when the last failure stands.
    failed: Option<(Instant, AccountError)>,
}

/// A credential that stays valid.
pub struct Renewed<S: Source> {
    source: S,
    held: ArcSwapOption<Held<S::Credential>>,
    flight: Mutex<Flight<S::Credential>>,
}

fn runtime() -> Result<&'static Handle, AccountError> {
    background::runtime().map_err(|error| AccountError(format!("there is no thread to fetch with: {error}")))
}

impl<S: Source> Renewed<S> {
    fn new(source: S) -> Self {
        let fixed = source.fixed().map(|credential| {
            Arc::new(Held { credential: Arc::new(credential), renew_at: None, expires: None })
        });
        Self {
            source,
            held: ArcSwapOption::new(fixed),
            flight: Mutex::new(Flight { under_way: None, failed: None }),
        }
    }

    /// What is held and valid. Where it is to be renewed, or nothing is held, a fetch begins.
    pub fn held(self: &Arc<Self>) -> Option<Arc<S::Credential>> {
        let (valid, is_due) = self.look(Instant::now());
        if is_due {
            // What fails is told where it is waited for.
            drop(self.begin());
        }
        valid
    }

    /// What is held, else what comes.
    ///
    /// # Errors
    /// Why it cannot be had.
    pub async fn wait(self: &Arc<Self>) -> Outcome<S::Credential> {
        if let (Some(credential), false) = self.look(Instant::now()) {
            return Ok(credential);
        }
        let news = self.begin();
        if let (Some(credential), _) = self.look(Instant::now()) {
            return Ok(credential);
        }
        let broke_off = || AccountError(format!("the fetch of {}'s credential broke off", S::NAME));
        let mut news = news?.ok_or_else(broke_off)?;
        let outcome = news.wait_for(Option::is_some).await.map_err(|_| broke_off())?;
        outcome.clone().unwrap_or_else(|| Err(broke_off()))
    }

    /// What is held and valid, and whether it is time to fetch.
    fn look(&self, now: Instant) -> (Option<Arc<S::Credential>>, bool) {
        let held = self.held.load();
        let valid = held.as_ref().filter(|held| held.expires.is_none_or(|end| now < end));
        let is_due = valid.is_none_or(|held| held.renew_at.is_some_and(|time| time <= now));
        (valid.map(|held| Arc::clone(&held.credential)), is_due)
    }

    /// Joins the fetch that is under way, or begins one. `None` where what is held has just come.
    fn begin(self: &Arc<Self>) -> Result<Option<News<S::Credential>>, AccountError> {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        // A fetch that broke off has left its end of the channel.
        if let Some(news) = flight.under_way.as_ref().filter(|news| news.has_changed().is_ok()) {
            return Ok(Some(news.clone()));
        }
        // Another fetch may have landed since this one was found due.
        if !self.look(Instant::now()).1 {
            return Ok(None);
        }
        if let Some((until, error)) = &flight.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        let (tell, news) = watch::channel(None);
        let this = Arc::clone(self);
        runtime()?.spawn(async move {
            let outcome = this.fetch().await;
            // Whoever comes from here on sees what is held, or the failure.
            this.land(&outcome);
            tell.send_replace(Some(outcome));
        });
        flight.under_way = Some(news.clone());
        Ok(Some(news))
    }

    async fn fetch(&self) -> Outcome<S::Credential> {
        let lease = self.source.fetch().await?;
        let credential = Arc::new(lease.credential);
        let held = Held {
            credential: Arc::clone(&credential),
            renew_at: Some(lease.renew_at),
            expires: lease.expires,
        };
        self.held.store(Some(Arc::new(held)));
        Ok(credential)
    }

    fn land(&self, outcome: &Outcome<S::Credential>) {
        let mut flight = self.flight.lock().unwrap_or_else(PoisonError::into_inner);
        flight.under_way = None;
        flight.failed = outcome.as_ref().err().map(|error| {
            let now = Instant::now();
            let is_valid = self.look(now).0.is_some();
            match is_valid {
                true => log!(Warn, "{}: the credential cannot be renewed yet: {error}", S::NAME),
                false => log!(Error, "{}: cloud-authentication failed: {error}", S::NAME),
            }
            (now + if is_valid { RETRY_AT_LEISURE } else { RETRY_AFTER }, error.clone())
        });
    }
}

/// The accounts of one cloud that are in use: those with the same source share what they hold, and it outlives a
/// change of the configuration.
pub struct Known<S: Source>(Mutex<Vec<Weak<Renewed<S>>>>);

impl<S: Source> Known<S> {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    /// The account with this source.
    pub fn account(&self, source: S) -> Arc<Renewed<S>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|account| account.strong_count() > 0);
        let same = known.iter().filter_map(Weak::upgrade).find(|account| account.source == source);
        same.unwrap_or_else(|| {
            let account = Arc::new(Renewed::new(source));
            known.push(Arc::downgrade(&account));
            account
        })
    }
}

impl<S: Source> Default for Known<S> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::mpsc;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    /// Gives out leases as the test sends them.
    #[derive(Clone)]
    struct Scripted {
        leases: Arc<tokio::sync::Mutex<Take>>,
        fetches: Arc<AtomicUsize>,
    }

    impl PartialEq for Scripted {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.fetches, &other.fetches)
        }
    }

    impl Source for Scripted {
        type Credential = u32;
        const NAME: &'static str = "test";

        async fn fetch(&self) -> Result<Lease<u32>, AccountError> {
            self.fetches.fetch_add(1, Ordering::SeqCst);
            self.leases.lock().await.recv().await.unwrap()
        }
    }

    type Give = mpsc::UnboundedSender<Result<Lease<u32>, AccountError>>;
    type Take = mpsc::UnboundedReceiver<Result<Lease<u32>, AccountError>>;

    fn scripted() -> (Give, Scripted, Arc<Renewed<Scripted>>) {
        let (give, leases) = mpsc::unbounded_channel();
        let leases = Arc::new(tokio::sync::Mutex::new(leases));
        let source = Scripted { leases, fetches: Arc::default() };
        (give, source.clone(), Arc::new(Renewed::new(source)))
    }

    #[tokio::test]
    async fn many_wait_for_one_fetch() {
        let (give, source, account) = scripted();
        assert_eq!(account.held(), None);
        let waiting: Vec<_> = (0..50)
            .map(|_| {
                let account = Arc::clone(&account);
                tokio::spawn(async move { account.wait().await })
            })
            .collect();
        tokio::task::yield_now().await;
        give.send(Ok(Lease::lasting(1, HOUR))).unwrap();
        for task in waiting {
            assert_eq!(task.await.unwrap().as_deref(), Ok(&1));
        }
        assert_eq!((account.held().as_deref(), source.fetches.load(Ordering::SeqCst)), (Some(&1), 1));
    }

    #[tokio::test]
    async fn a_valid_one_is_not_waited_for_while_it_is_renewed() {
        let (give, source, account) = scripted();
        give.send(Ok(Lease::lasting(1, HOUR).renewed_after(Duration::ZERO))).unwrap();
        assert_eq!(account.wait().await.as_deref(), Ok(&1));
        // The second fetch is under way and does not end.
        for _ in 0..10 {
            assert_eq!(account.wait().await.as_deref(), Ok(&1));
        }
        give.send(Ok(Lease::lasting(2, HOUR))).unwrap();
        while account.held().as_deref() != Some(&2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(source.fetches.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_has_just_come_is_not_fetched_again() {
        let (give, source, account) = scripted();
        give.send(Ok(Lease::lasting(1, HOUR))).unwrap();
        account.wait().await.unwrap();
        // What is held is seen a moment before its fetch has landed.
        while account.flight.lock().unwrap().under_way.is_some() {
            tokio::task::yield_now().await;
        }
        // As one who found it due before it came.
        assert!(account.begin().unwrap().is_none());
        assert_eq!(source.fetches.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failed_renewal_leaves_what_is_valid() {
        let (give, source, account) = scripted();
        give.send(Ok(Lease::lasting(1, HOUR).renewed_after(Duration::ZERO))).unwrap();
        account.wait().await.unwrap();
        give.send(Err(AccountError("gone".to_owned()))).unwrap();
        while account.flight.lock().unwrap().failed.is_none() {
            assert_eq!(account.held().as_deref(), Some(&1));
            tokio::task::yield_now().await;
        }
        assert_eq!((account.held().as_deref(), source.fetches.load(Ordering::SeqCst)), (Some(&1), 2));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_and_stands_for_a_while() {
        let (give, source, account) = scripted();
        let failure = AccountError("gone".to_owned());
        give.send(Err(failure.clone())).unwrap();
        assert_eq!(account.wait().await, Err(failure.clone()));
        account.flight.lock().unwrap().failed = Some((Instant::now() + HOUR, failure.clone()));
        assert_eq!(account.wait().await, Err(failure));
        assert_eq!(source.fetches.load(Ordering::SeqCst), 1);
        account.flight.lock().unwrap().failed = None;
        give.send(Ok(Lease::lasting(1, HOUR))).unwrap();
        assert_eq!(account.wait().await.as_deref(), Ok(&1));
    }

    #[tokio::test]
    async fn one_that_has_ended_is_not_used() {
        let (give, _, account) = scripted();
        give.send(Ok(Lease::lasting(1, Duration::ZERO))).unwrap();
        give.send(Ok(Lease::lasting(2, HOUR))).unwrap();
        assert_eq!(account.wait().await.as_deref(), Ok(&1), "it came for this request");
        assert_eq!(account.wait().await.as_deref(), Ok(&2));
    }

    #[test]
    fn accounts_with_one_source_are_one() {
        let known = Known::new();
        let (_, source, _) = scripted();
        let first = known.account(source.clone());
        assert!(Arc::ptr_eq(&first, &known.account(source)));
        assert!(!Arc::ptr_eq(&first, &known.account(scripted().1)));
        drop(first);
        assert_eq!(known.0.lock().unwrap().iter().filter(|account| account.strong_count() > 0).count(), 0);
    }
}
