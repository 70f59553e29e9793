//! The Lua state of a worker: made when its first snippet runs, never shared.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mlua::chunk::ChunkMode;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, LuaString, MultiValue, StdLib, Value as Lua51, Variadic,
    VmState,
};
use tollgate_model::Value;

use crate::budget::Budget;
use crate::pattern::{self, Capture, PatternError};
use crate::policy::{Policy, Untrusted};
use crate::value::{from_lua, to_lua};
use crate::{LuaError, Source};

/// Bytes that a state may have at most.
pub(crate) const MEMORY: usize = 32 << 20;

/// Bytes beyond which a call leaves no garbage behind.
const GARBAGE: usize = 2 << 20;

/// After so many instructions it is seen whether a call has time left.
const INSTRUCTIONS: u32 = 100;

/// What a function of the PDK answers: its results, or what the snippet is told is wrong.
pub(crate) type Answer = mlua::Result<Result<MultiValue, String>>;

/// Answers a function of the PDK by its number.
pub(crate) type Ask<'a> = &'a dyn Fn(&Lua, usize, &[Lua51]) -> Answer;

thread_local! {
    static STATE: RefCell<Option<State>> = const { RefCell::new(None) };
}

struct State {
    lua: Lua,
    budget: Rc<Budget>,
    /// Makes environments.
    environment: Function,
    /// Snippets by their ids, while they are configured.
    compiled: HashMap<u64, (Weak<Source>, Function)>,
}

/// Whether this is Lua; in a state of its own, as configurations are not read by workers alone.
///
/// # Errors
/// [`LuaError::Syntax`]
pub(crate) fn check(text: &str) -> Result<(), LuaError> {
    let lua =
        Lua::new_with(StdLib::NONE, LuaOptions::new()).map_err(|error| LuaError::Raised(message(&error)))?;
    let _ = lua.set_memory_limit(MEMORY);
    load(&lua, text).map(drop)
}

/// Runs a snippet in this thread's state. `names` are the functions that `ask` answers.
///
/// # Errors
/// Why the call has failed.
pub(crate) fn run(source: &Arc<Source>, names: &[&str], ask: Ask<'_>) -> Result<Value, LuaError> {
    let gone = || LuaError::Raised("the worker is at its end".into());
    STATE
        .try_with(|slot| {
            let mut slot = slot.try_borrow_mut().map_err(|_| gone())?;
            let state = match &mut *slot {
                Some(state) => state,
                empty => {
                    let state = State::new(names).map_err(|error| LuaError::Raised(message(&error)))?;
                    empty.insert(state)
                }
            };
            let result = state.call(source, ask);
            if state.lua.used_memory() > GARBAGE || result.is_err() {
                let _ = state.lua.gc_collect();
            }
            result
        })
        .unwrap_or_else(|_| Err(gone()))
}

fn load(lua: &Lua, text: &str) -> Result<Function, LuaError> {
    // Lua's name of the chunk is its text, of which messages show the first line.
    lua.load(text).set_name(text).set_mode(ChunkMode::Text).into_function().map_err(|error| match error {
        Error::MemoryError(_) => LuaError::TooLarge,
        error => LuaError::Syntax(message(&error)),
    })
}

impl State {
    fn new(names: &[&str]) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        lua.set_memory_limit(MEMORY)?;
        let budget = Rc::new(Budget::new());
        let native = native(&lua, &budget)?;
        lua.load(format!("math.randomseed({})", fastrand::u32(..1 << 31))).exec()?;
        let environment = lua
            .load(include_str!("environment.lua"))
            .set_name("=environment.lua")
            .set_mode(ChunkMode::Text)
            .call((native, lua.create_sequence_from(names.iter().copied())?))?;
        let clock = Rc::clone(&budget);
        lua.set_hook(HookTriggers::new().every_nth_instruction(INSTRUCTIONS), move |_, _| {
            clock.spend_and_look(INSTRUCTIONS.into()).map_err(Error::external)?;
            Ok(VmState::Continue)
        })?;
        Ok(Self { lua, budget, environment, compiled: HashMap::new() })
    }

    fn function(&mut self, source: &Arc<Source>) -> Result<Function, LuaError> {
        if let Some((_, function)) = self.compiled.get(&source.id) {
            return Ok(function.clone());
        }
        self.compiled.retain(|_, (source, _)| source.strong_count() > 0);
        let function = load(&self.lua, &source.text)?;
        self.compiled.insert(source.id, (Arc::downgrade(source), function.clone()));
        Ok(function)
    }

    fn call(&mut self, source: &Arc<Source>, ask: Ask<'_>) -> Result<Value, LuaError> {
        self.budget.begin();
        let function = self.function(source)?;
        let everything = Policy::current().untrusted == Untrusted::On;
        let result = self.lua.scope(|scope| {
            let ask =
                scope.create_function(|lua, (number, arguments): (usize, Variadic<Lua51>)| {
                    match ask(lua, number, &arguments)? {
                        Ok(results) => {
                            let mut all = results;
                            all.push_front(Lua51::Boolean(true));
                            Ok(all)
                        }
                        Err(message) => refused(lua, &message),
                    }
                })?;
            let environment: mlua::Table = self.environment.call((ask, everything))?;
            function.set_environment(environment)?;
            let returned: Lua51 = function.call(())?;
            Ok(from_lua(&returned))
        });
        match result {
            Ok(returned) => returned.map_err(LuaError::Returned),
            Err(_) if self.budget.is_spent() => Err(LuaError::TooLong(crate::budget::Spent.to_string())),
            Err(error) if is_of_memory(&error) => Err(LuaError::TooLarge),
            Err(error) => Err(LuaError::Raised(message(&error))),
        }
    }
}

/// `false` and a message, which the environment raises as an error.
fn refused(lua: &Lua, message: &str) -> mlua::Result<MultiValue> {
    Ok(MultiValue::from_iter([Lua51::Boolean(false), Lua51::String(lua.create_string(message)?)]))
}

/// What the environment needs that is not Lua.
fn native(lua: &Lua, budget: &Rc<Budget>) -> mlua::Result<mlua::Table> {
    let native = lua.create_table()?;
    let null = Lua51::NULL;
    native.set("null", null.clone())?;
    let clock = Rc::clone(budget);
    native.set("spent", lua.create_function(move |_, ()| Ok(clock.is_spent()))?)?;
    let clock = Rc::clone(budget);
    let search = move |lua: &Lua, (text, pattern, from, how): (LuaString, LuaString, f64, LuaString)| {
        search(lua, [&text.as_bytes(), &pattern.as_bytes()], from, &how.as_bytes(), &clock)
    };
    native.set("search", lua.create_function(search)?)?;
    native.set(
        "may_require",
        lua.create_function(|_, name: Lua51| {
            Ok(name.as_string().is_some_and(|name| Policy::current().may_require(&name.to_string_lossy())))
        })?,
    )?;
    let encode = |lua: &Lua, value: Lua51| match from_lua(&value) {
        Ok(value) => Ok(MultiValue::from_iter([
            Lua51::Boolean(true),
            Lua51::String(lua.create_string(value.to_string())?),
        ])),
        Err(message) => refused(lua, &message),
    };
    native.set("encode", lua.create_function(encode)?)?;
    let decode = move |lua: &Lua, text: LuaString| match serde_json::from_slice::<Value>(&text.as_bytes()) {
        Ok(value) => Ok(MultiValue::from_iter([Lua51::Boolean(true), to_lua(lua, &value, &null)?])),
        Err(error) => refused(lua, &error.to_string()),
    };
    native.set("decode", lua.create_function(decode)?)?;
    for (encode, decode, engine) in [
        ("encode_base64", "decode_base64", STANDARD),
        ("encode_base64url", "decode_base64url", URL_SAFE_NO_PAD),
    ] {
        let engine = Rc::new(engine);
        let other = Rc::clone(&engine);
        native.set(
            encode,
            lua.create_function(move |lua, bytes: LuaString| {
                lua.create_string(engine.encode(bytes.as_bytes()))
            })?,
        )?;
        let decoded = move |lua: &Lua, text: LuaString| {
            other.decode(text.as_bytes()).ok().map(|bytes| lua.create_string(bytes)).transpose()
        };
        native.set(decode, lua.create_function(decoded)?)?;
    }
    Ok(native)
}

/// Where a pattern matches, from 1, and what it captured; `false` and a message where it is malformed. Without captures
/// the whole match is one, but for `find`.
fn search(
    lua: &Lua,
    [text, pattern]: [&[u8]; 2],
    from: f64,
    how: &[u8],
    budget: &Budget,
) -> mlua::Result<MultiValue> {
    // From behind, and never before the beginning.
    let from = if from < 0.0 { (text.len() as f64 + from + 1.0).max(1.0) } else { from.max(1.0) };
    let from = from as usize - 1;
    let Some(rest) = text.get(from..) else { return Ok(MultiValue::new()) };
    let number = |place: usize| Lua51::Number(place as f64);
    if how == b"plain" || (how == b"find" && !pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))) {
        let at = memchr::memmem::find(rest, pattern).map(|at| from + at);
        return Ok(at.map(|at| [number(at + 1), number(at + pattern.len())]).into_iter().flatten().collect());
    }
    let found = match pattern::find(text, pattern, from, how != b"each", budget) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(MultiValue::new()),
        Err(PatternError::Malformed(message)) => return refused(lua, message),
        Err(PatternError::Spent(spent)) => return Err(Error::external(spent)),
    };
    let mut results = MultiValue::from_iter([number(found.start + 1), number(found.end)]);
    let taken = |start, end| lua.create_string(text.get(start..end).unwrap_or_default()).map(Lua51::String);
    for capture in &found.captures {
        results.push_back(match *capture {
            Capture::Text(start, end) => taken(start, end)?,
            Capture::Position(place) => number(place + 1),
        });
    }
    if found.captures.is_empty() && how != b"find" {
        results.push_back(taken(found.start, found.end)?);
    }
    Ok(results)
}

fn is_of_memory(error: &Error) -> bool {
    match error {
        Error::MemoryError(_) => true,
        Error::CallbackError { cause, .. } | Error::BadArgument { cause, .. } => is_of_memory(cause),
        Error::RuntimeError(message) => message.starts_with("not enough memory"),
        _ => false,
    }
}

/// What an error says, without the way to it.
fn message(error: &Error) -> String {
    match error {
        Error::RuntimeError(message) | Error::SyntaxError { message, .. } => {
            message.split("\nstack traceback:").next().unwrap_or_default().to_owned()
        }
        Error::CallbackError { cause, .. } => message(cause),
        other => other.to_string(),
    }
}
