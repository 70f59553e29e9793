//! The error log: one place for everything a node has to say while it runs.
//!
//! A facade of our own and not `tracing`: levels are nginx's (`notice`, `crit`), which operators set in
//! `log_level`; the level changes at run time with one atomic; lines have nginx's form, which log shippers read,
//! and go through the same bounded queue as every other file.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use crate::sink::Sink;
use crate::time::Moment;

/// How severe a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Of interest to who looks for a fault in the gateway.
    Debug,
    /// Of interest to who looks into a request.
    Info,
    /// Normal, but worth knowing.
    Notice,
    /// Something is not as it should be; requests go on.
    Warn,
    /// A request failed, or something was lost.
    Error,
    /// The node cannot do what it is there for.
    Crit,
    /// The same, and somebody must act at once.
    Alert,
    /// The node is unusable.
    Emerg,
}

impl Level {
    /// All levels, the least severe first.
    pub const ALL: [Level; 8] = [
        Level::Debug,
        Level::Info,
        Level::Notice,
        Level::Warn,
        Level::Error,
        Level::Crit,
        Level::Alert,
        Level::Emerg,
    ];

    /// Its name in `log_level` and in lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Crit => "crit",
            Self::Alert => "alert",
            Self::Emerg => "emerg",
        }
    }

    /// The level of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Notice as u8);
/// The level that counts until [`UNTIL`].
static LEVEL_FOR_NOW: AtomicU8 = AtomicU8::new(Level::Notice as u8);
/// Seconds since 1970; 0 where nothing is only for now.
static UNTIL: AtomicU64 = AtomicU64::new(0);

fn target() -> &'static RwLock<Option<Arc<Sink>>> {
    static TARGET: OnceLock<RwLock<Option<Arc<Sink>>>> = OnceLock::new();
    TARGET.get_or_init(RwLock::default)
}

/// Sets where messages go from now on. Before, and with `None`, they go to standard error.
pub fn set_target(sink: Option<Arc<Sink>>) {
    *target().write().unwrap_or_else(std::sync::PoisonError::into_inner) = sink;
}

/// Sets the least severe level that is logged (`log_level`).
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
    UNTIL.store(0, Ordering::Relaxed);
}

/// Sets it for some seconds; then it is again what [`set_level`] said.
pub fn set_level_for(level: Level, seconds: u64) {
    LEVEL_FOR_NOW.store(level as u8, Ordering::Relaxed);
    UNTIL.store(crate::time::seconds().saturating_add(seconds), Ordering::Relaxed);
}

fn current() -> u8 {
    let until = UNTIL.load(Ordering::Relaxed);
    let level = if until != 0 && crate::time::seconds() < until { &LEVEL_FOR_NOW } else { &LEVEL };
    level.load(Ordering::Relaxed)
}

/// The least severe level that is logged.
pub fn level() -> Level {
    Level::ALL.get(usize::from(current())).copied().unwrap_or(Level::Notice)
}

/// Whether messages of a level are logged.
pub fn is_on(level: Level) -> bool {
    level as u8 >= current()
}

/// Writes a message, whatever its level; see [`log!`](crate::log!).
pub fn write(level: Level, message: fmt::Arguments<'_>) {
    let line = line(level, &message.to_string());
    match &*target().read().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(sink) => sink.write(line.into_bytes()),
        None => eprint!("{line}"),
    }
}

/// A line: no message can begin another one.
fn line(level: Level, message: &str) -> String {
    let mut line = format!("{} [{}] {}#0: ", Moment::now().slashed(), level.name(), std::process::id());
    for character in message.chars() {
        match character {
            control if control.is_control() => line.extend(control.escape_default()),
            other => line.push(other),
        }
    }
    line.push('\n');
    line
}

/// Makes panics lines of the error log.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        write(Level::Crit, format_args!("panic at {place}: {message}"));
    }));
}

/// Writes a message to the error log where its level is on: `log!(Error, "…", …)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($message:tt)+) => {
        if $crate::error_log::is_on($crate::Level::$level) {
            $crate::error_log::write($crate::Level::$level, format_args!($($message)+));
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line() {
        let line = line(Level::Error, "a\nb\t\u{1b}[0m é");
        assert!(line.ends_with("#0: a\\nb\\t\\u{1b}[0m é\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(line.contains(" [error] "));
    }

    #[test]
    fn levels_have_an_order_and_names() {
        assert!(Level::ALL.windows(2).all(|two| two[0] < two[1]));
        assert_eq!(Level::ALL.map(|level| Level::named(level.name())), Level::ALL.map(Some));
        assert_eq!(Level::named("verbose"), None);
    }
}
