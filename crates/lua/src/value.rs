//! JSON as Lua has it, and back (as lua-cjson does both).

use mlua::{Lua, Table, Value as Lua51};
use tollgate_model::{Map, Value};

/// Deepest nesting that is read or written.
const DEEPEST: usize = 100;

/// Longest list of which most members are missing.
const SPARSE: usize = 10;

/// A value for Lua; `null` for what is null.
pub(crate) fn to_lua(lua: &Lua, value: &Value, null: &Lua51) -> mlua::Result<Lua51> {
    Ok(match value {
        Value::Null => null.clone(),
        Value::Bool(value) => Lua51::Boolean(*value),
        Value::Number(number) => Lua51::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => Lua51::String(lua.create_string(text)?),
        Value::Array(items) => {
            let table = lua.create_table_with_capacity(items.len(), 0)?;
            for (place, item) in items.iter().enumerate() {
                table.raw_set(place + 1, to_lua(lua, item, null)?)?;
            }
            Lua51::Table(table)
        }
        Value::Object(members) => {
            let table = lua.create_table_with_capacity(0, members.len())?;
            for (name, member) in members {
                table.raw_set(name.as_str(), to_lua(lua, member, null)?)?;
            }
            Lua51::Table(table)
        }
    })
}

/// A value of Lua's as JSON; text that is not UTF-8 loses what is not.
///
/// # Errors
/// What JSON cannot say, in lua-cjson's words.
pub(crate) fn from_lua(value: &Lua51) -> Result<Value, String> {
    read(value, 0)
}

fn read(value: &Lua51, depth: usize) -> Result<Value, String> {
    if depth > DEEPEST {
        return Err(format!("Cannot serialise, excessive depth ({depth})"));
    }
    match value {
        Lua51::Nil => Ok(Value::Null),
        Lua51::LightUserData(pointer) if pointer.0.is_null() => Ok(Value::Null),
        Lua51::Boolean(value) => Ok((*value).into()),
        Lua51::Integer(number) => Ok((*number).into()),
        Lua51::Number(number) => {
            let whole = number.fract() == 0.0 && number.abs() < 1e15;
            if whole {
                return Ok((*number as i64).into());
            }
            serde_json::Number::from_f64(*number)
                .map(Value::Number)
                .ok_or_else(|| "Cannot serialise number: must not be NaN or Inf".to_owned())
        }
        Lua51::String(text) => Ok(text.to_string_lossy().into()),
        Lua51::Table(table) => read_table(table, depth),
        other => Err(format!("Cannot serialise {}: type not supported", other.type_name())),
    }
}

/// A list where all keys are numbers from 1 on, else an object; an empty table is an object.
fn read_table(table: &Table, depth: usize) -> Result<Value, String> {
    let failed = |error: mlua::Error| error.to_string();
    let (mut count, mut last) = (0_usize, Some(0_usize));
    for pair in table.pairs::<Lua51, Lua51>() {
        let (key, _) = pair.map_err(failed)?;
        count += 1;
        last = last.and_then(|last| place(&key).map(|place| place.max(last)));
    }
    if let Some(length) = last.filter(|_| count > 0) {
        if length > SPARSE && length / 2 > count {
            return Err("Cannot serialise table: excessively sparse array".into());
        }
        let item = |place| read(&table.raw_get::<Lua51>(place).map_err(failed)?, depth + 1);
        return (1..=length).map(item).collect();
    }
    let mut members = Map::new();
    for pair in table.pairs::<Lua51, Lua51>() {
        let (key, member) = pair.map_err(failed)?;
        let name = match &key {
            Lua51::String(text) => text.to_string_lossy(),
            Lua51::Integer(_) | Lua51::Number(_) => read(&key, depth)?.to_string(),
            _ => return Err("Cannot serialise table: table key must be a number or string".into()),
        };
        members.insert(name, read(&member, depth + 1)?);
    }
    Ok(Value::Object(members))
}

fn place(key: &Lua51) -> Option<usize> {
    match key {
        Lua51::Integer(number) => usize::try_from(*number).ok().filter(|place| *place > 0),
        Lua51::Number(number) if number.fract() == 0.0 && (1.0..1e9).contains(number) => {
            Some(*number as usize)
        }
        _ => None,
    }
}
