//! Calls to a Redis, whatever its connections do meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};
use thread_local::ThreadLocal;
use tokio::sync::Mutex;
use tollgate_http::client::TlsProfile;

use crate::connect::{self, Connection};
use crate::{Error, Settings};

/// How long no connection is tried after one could not be made.
const PAUSE: Duration = Duration::from_secs(1);

/// A Redis that can be called.
pub struct Redis {
    server: Arc<Server>,
    /// Each thread's: a connection lives on the runtime that made it.
    slots: ThreadLocal<Arc<Slot>>,
}

/// What is asked of a server.
#[derive(Clone, Copy)]
enum Question<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
}

impl Question<'_> {
    async fn ask<T: FromRedisValue>(self, connection: &mut Connection) -> RedisResult<T> {
        match self {
            Self::Script(script) => script.invoke_async(connection).await,
            Self::Command(command) => command.query_async(connection).await,
        }
    }
}

/// How connections are made.
struct Server {
    settings: Settings,
    tls: Option<TlsProfile>,
}

#[derive(Default)]
struct Slot(Mutex<State>);

#[derive(Default)]
enum State {
    /// Whoever needs a connection makes one, and the others wait for it.
    #[default]
    Closed,
    Open(Connection, Generation),
    /// Calls fail at once. From the time on a connection is tried beside them.
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
        Ok(Self { server: Arc::new(Server { settings, tls }), slots: ThreadLocal::new() })
    }

    /// How it is reached.
    pub fn settings(&self) -> &Settings {
        &self.server.settings
    }

    /// Runs a script. Where the connection turns out to be gone, once more on a new one.
    ///
    /// # Errors
    /// Why there is no answer. That takes no longer than the timeouts of [`Settings`].
    pub async fn run<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, Error> {
        self.ask(Question::Script(script)).await
    }

    /// Sends a command. Where the connection turns out to be gone, once more on a new one: it must be one that does
    /// no harm when it is done twice.
    ///
    /// # Errors
    /// As [`Redis::run`].
    pub async fn send<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        self.ask(Question::Command(command)).await
    }

    async fn ask<T: FromRedisValue>(&self, question: Question<'_>) -> Result<T, Error> {
        let slot = self.slots.get_or_default();
        let (mut connection, generation) = self.connection(slot).await?;
        let error = match question.ask(&mut connection).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !is_over(&error) {
            return Err(self.describe(&error));
        }
        self.lost(slot, generation, &error).await;
        let (mut connection, generation) = self.connection(slot).await?;
        match question.ask(&mut connection).await {
            Ok(value) => Ok(value),
            Err(error) => {
                if is_over(&error) {
                    self.lost(slot, generation, &error).await;
                }
                Err(self.describe(&error))
            }
        }
    }

    /// The thread's connection.
    async fn connection(&self, slot: &Arc<Slot>) -> Result<(Connection, Generation), Error> {
        let mut state = slot.0.lock().await;
        match &mut *state {
            State::Open(connection, generation) => Ok((connection.clone(), *generation)),
            State::Closed => {
                *state = self.server.connect().await;
                match &*state {
                    State::Open(connection, generation) => Ok((connection.clone(), *generation)),
                    State::Down(_, error) => Err(error.clone()),
                    State::Closed => Err(self.server.unreachable("closed")),
                }
            }
            State::Down(until, error) => {
                if Instant::now() >= *until {
                    *until = Instant::now() + self.server.patience() + PAUSE;
                    let (server, slot) = (Arc::clone(&self.server), Arc::clone(slot));
                    tokio::spawn(async move {
                        let connected = server.connect().await;
                        *slot.0.lock().await = connected;
                    });
                }
                Err(error.clone())
            }
        }
    }

    /// Forgets a connection that is of no more use, unless another has taken its place.
    async fn lost(&self, slot: &Arc<Slot>, generation: Generation, error: &RedisError) {
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
        let server = self.settings().to_string();
        match error.is_timeout() {
            true => Error::Timeout { server, after: self.settings().answer_timeout },
            false => Error::Failed { server, reason: error.to_string() },
        }
    }
}

impl Server {
    /// Makes a connection, or notes that there is none.
    async fn connect(&self) -> State {
        match connect::open(&self.settings, self.tls.as_ref()).await {
            Ok(connection) => State::Open(connection, Instant::now()),
            Err(error) => State::Down(Instant::now() + PAUSE, self.unreachable(&error.to_string())),
        }
    }

    fn unreachable(&self, reason: &str) -> Error {
        Error::Unreachable { server: self.settings.to_string(), reason: reason.to_owned() }
    }

    /// How long making a connection can take: TCP, TLS and the login, to a sentinel and to the master.
    fn patience(&self) -> Duration {
        (self.settings.connect_timeout * 2 + self.settings.answer_timeout * 2) * 2
    }
}

/// Whether the connection is of no more use: broken, silent, or to a server that is no longer the master.
fn is_over(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}
