//! Calls to a Redis, whatever its connections do meanwhile.

use std::time::{Duration, Instant};

use redis::{ErrorKind, FromRedisValue, RedisError, ScriptInvocation, ServerErrorKind};
use thread_local::ThreadLocal;
use tokio::sync::Mutex;
use tollgate_http::client::TlsProfile;

use crate::connect::{self, Connection};
use crate::{Error, Settings};

/// How long calls fail at once after a connection could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// A Redis that can be called.
pub struct Redis {
    settings: Settings,
    tls: Option<TlsProfile>,
    /// Each thread's: a connection lives on the runtime that made it.
    slots: ThreadLocal<Slot>,
}

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Closed,
    Open(Connection, Generation),
    /// No attempt is made before the time has come.
    Down(Instant, Error),
}

/// Tells one connection from the next.
type Generation = Instant;

impl Redis {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// TLS settings that cannot be used.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let tls = connect::tls_profile(&settings)?;
        Ok(Self { settings, tls, slots: ThreadLocal::new() })
    }

    /// How it is reached.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs a script. Where the connection turns out to be gone, once more on a new one.
    ///
    /// # Errors
    /// Why there is no answer. That takes no longer than the timeouts of [`Settings`].
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        let slot = self.slots.get_or_default();
        let (mut connection, generation) = self.connection(slot).await?;
        let error = match script.invoke_async(&mut connection).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !is_over(&error) {
            return Err(self.describe(&error));
        }
        self.lost(slot, generation, &error).await;
        let (mut connection, generation) = self.connection(slot).await?;
        match script.invoke_async(&mut connection).await {
            Ok(value) => Ok(value),
            Err(error) => {
                if is_over(&error) {
                    self.lost(slot, generation, &error).await;
                }
                Err(self.describe(&error))
            }
        }
    }

    /// The thread's connection. While one is being made all who need it wait for that attempt.
    async fn connection(&self, slot: &Slot) -> Result<(Connection, Generation), Error> {
        let mut state = slot.0.lock().await;
        match &*state {
            State::Open(connection, generation) => return Ok((connection.clone(), *generation)),
            State::Down(until, error) if Instant::now() < *until => return Err(error.clone()),
            _ => {}
        }
        match connect::open(&self.settings, self.tls.as_ref()).await {
            Ok(connection) => {
                let generation = Instant::now();
                *state = State::Open(connection.clone(), generation);
                Ok((connection, generation))
            }
            Err(error) => {
                let reason = error.to_string();
                let error = Error::Unreachable { server: self.settings.to_string(), reason };
                *state = State::Down(Instant::now() + PAUSE, error.clone());
                Err(error)
            }
        }
    }

    /// Forgets a connection that is of no more use, unless another has taken its place.
    async fn lost(&self, slot: &Slot, generation: Generation, error: &RedisError) {
        let mut state = slot.0.lock().await;
        if matches!(&*state, State::Open(_, of) if *of == generation) {
            *state = match error.is_timeout() {
                // Who does not answer now will hardly answer the next one.
                true => State::Down(Instant::now() + PAUSE, self.describe(error)),
                false => State::Closed,
            };
        }
    }

    fn describe(&self, error: &RedisError) -> Error {
        let server = self.settings.to_string();
        match error.is_timeout() {
            true => Error::Timeout { server, after: self.settings.answer_timeout },
            false => Error::Failed { server, reason: error.to_string() },
        }
    }
}

/// Whether the connection is of no more use: broken, silent, or to a server that is no longer the master.
fn is_over(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
