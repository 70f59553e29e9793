//! What an expression is worth for a request, by Lua's rules.

use std::borrow::Cow;

use tollgate_gateway::{Exchange, query};
use tollgate_http::Headers;

use super::{Expression, Method, Name, Operator};

/// What templates see of a request.
pub struct Scope<'a> {
    /// The header fields.
    pub headers: &'a Headers,
    /// The query, without `?`.
    pub query: Option<&'a [u8]>,
    /// Captures of the route's path.
    pub captures: &'a [(Box<str>, Box<str>)],
}

impl<'a> Scope<'a> {
    /// The request as it is now.
    pub fn of(exchange: &'a Exchange) -> Self {
        Self {
            headers: &exchange.head.headers,
            query: exchange.query.as_deref(),
            captures: &exchange.captures,
        }
    }
}

/// An expression means nothing for a request; Lua's words for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluationError(String);

/// Longest text an expression may make, in bytes.
const LONGEST_TEXT: usize = 64 * 1024;

/// A value of Lua.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value<'a> {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Cow<'a, [u8]>),
    /// Several values of one name.
    List(Vec<Value<'a>>),
    /// `headers` and the like; `type`.
    Name(&'a Name),
}

/// What Lua reads as a number.
pub(super) fn number(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let digits = text.trim_start_matches(['-', '+']);
    if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        let number = u64::from_str_radix(hexadecimal, 16).ok()? as f64;
        return Some(if text.starts_with('-') { -number } else { number });
    }
    // Rust also reads words (`inf`, `nan`) that Lua does not.
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|_| is_number)
}

/// A number as Lua writes it (`%.14g`).
fn write_number(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e14 {
        return format!("{number:.0}");
    }
    if !number.is_finite() {
        return if number.is_nan() { "nan".into() } else { number.to_string() };
    }
    let scientific = format!("{number:.13e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    if (-4..14).contains(&exponent) {
        trim(&format!("{number:.*}", (13 - exponent) as usize))
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
    }
}

impl<'a> Value<'a> {
    fn is_true(&self) -> bool {
        !matches!(self, Self::Nil | Self::Boolean(false))
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::Nil => "nil",
            Self::Boolean(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Name(Name::Type) => "function",
            Self::List(_) | Self::Name(_) => "table",
        }
    }

    /// The value as text, whatever it is (Lua's `tostring`).
    pub(super) fn to_text(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Number(number) => Cow::Owned(write_number(*number).into_bytes()),
            Self::Boolean(true) => Cow::Borrowed(b"true"),
            Self::Boolean(false) => Cow::Borrowed(b"false"),
            Self::Nil | Self::List(_) | Self::Name(_) => Cow::Borrowed(self.type_name().as_bytes()),
        }
    }

    fn to_number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => number(text),
            _ => None,
        }
    }

    /// Text, or a number as text; nothing else can be concatenated.
    fn as_text(&self) -> Option<Cow<'_, [u8]>> {
        matches!(self, Self::Text(_) | Self::Number(_)).then(|| self.to_text())
    }

    /// None, one, or a list of values.
    fn of_all(mut values: impl Iterator<Item = Self>) -> Self {
        match (values.next(), values.next()) {
            (Some(first), Some(second)) => Self::List([first, second].into_iter().chain(values).collect()),
            (first, _) => first.unwrap_or(Self::Nil),
        }
    }
}

fn wrong(what: &str, value: &Value<'_>) -> EvaluationError {
    EvaluationError(format!("attempt to {what} a {} value", value.type_name()))
}

impl Scope<'_> {
    pub(super) fn evaluate<'a>(&'a self, expression: &'a Expression) -> Result<Value<'a>, EvaluationError> {
        Ok(match expression {
            Expression::Nil | Expression::Name(Name::Unknown(_)) => Value::Nil,
            Expression::Boolean(value) => Value::Boolean(*value),
            Expression::Number(number) => Value::Number(*number),
            Expression::Text(text) => Value::Text(Cow::Borrowed(text)),
            Expression::Name(name) => Value::Name(name),
            Expression::Index(of, key) => self.index(self.evaluate(of)?, &self.evaluate(key)?)?,
            Expression::Call(function, arguments) => match self.evaluate(function)? {
                Value::Name(Name::Type) => {
                    let argument = arguments.first().ok_or_else(|| {
                        EvaluationError("bad argument #1 to 'type' (value expected)".into())
                    })?;
                    Value::Text(Cow::Borrowed(self.evaluate(argument)?.type_name().as_bytes()))
                }
                other => return Err(wrong("call", &other)),
            },
            Expression::Method(of, method, arguments) => {
                let of = self.evaluate(of)?;
                let text = match &of {
                    Value::Text(text) => text,
                    _ => return Err(wrong("index", &of)),
                };
                let arguments: Result<Vec<_>, _> =
                    arguments.iter().map(|argument| self.evaluate(argument)).collect();
                call(*method, text, &arguments?)?
            }
            Expression::Not(value) => Value::Boolean(!self.evaluate(value)?.is_true()),
            Expression::Negative(value) => {
                let value = self.evaluate(value)?;
                Value::Number(-value.to_number().ok_or_else(|| wrong("perform arithmetic on", &value))?)
            }
            Expression::Length(value) => match self.evaluate(value)? {
                Value::Text(text) => Value::Number(text.len() as f64),
                Value::List(values) => Value::Number(values.len() as f64),
                Value::Name(name) if *name != Name::Type => Value::Number(0.0),
                other => return Err(wrong("get length of", &other)),
            },
            Expression::And(a, b) => match self.evaluate(a)? {
                value if value.is_true() => self.evaluate(b)?,
                value => value,
            },
            Expression::Or(a, b) => match self.evaluate(a)? {
                value if value.is_true() => value,
                _ => self.evaluate(b)?,
            },
            Expression::Operation(operator, a, b) => {
                operate(*operator, &self.evaluate(a)?, &self.evaluate(b)?)?
            }
        })
    }

    fn index<'a>(&'a self, of: Value<'a>, key: &Value<'_>) -> Result<Value<'a>, EvaluationError> {
        let name = match key {
            Value::Text(text) => String::from_utf8_lossy(text),
            Value::Number(number) => Cow::Owned(write_number(*number)),
            _ => return Ok(Value::Nil),
        };
        Ok(match of {
            Value::Name(Name::Headers) => self.header(&name),
            Value::Name(Name::QueryParams) => {
                let arguments = query::pairs(self.query.unwrap_or_default());
                let named = arguments.filter(|(other, _)| **other == *name.as_bytes());
                let values = named.map(|(_, value)| match value {
                    Some(value) => Value::Text(value),
                    None => Value::Boolean(true),
                });
                Value::of_all(values)
            }
            Value::Name(Name::UriCaptures) => {
                let found = self.captures.iter().find(|(other, _)| **other == *name);
                found.map_or(Value::Nil, |(_, text)| Value::Text(Cow::Borrowed(text.as_bytes())))
            }
            Value::List(values) => {
                let place = name.parse::<usize>().ok().and_then(|place| place.checked_sub(1));
                place.and_then(|place| values.into_iter().nth(place)).unwrap_or(Value::Nil)
            }
            Value::Text(_) | Value::Name(Name::Shared) => Value::Nil,
            other => return Err(wrong("index", &other)),
        })
    }

    /// A header; `_` in its name also stands for `-`.
    fn header(&self, name: &str) -> Value<'_> {
        let values = |name: &str| {
            let fields = self.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
            Value::of_all(fields.map(|(_, value)| Value::Text(Cow::Borrowed(value))))
        };
        match values(name) {
            Value::Nil if name.contains('_') => values(&name.replace('_', "-")),
            found => found,
        }
    }
}

fn operate<'a>(operator: Operator, a: &Value<'_>, b: &Value<'_>) -> Result<Value<'a>, EvaluationError> {
    let arithmetic = |compute: fn(f64, f64) -> f64| {
        let number =
            |value: &Value<'_>| value.to_number().ok_or_else(|| wrong("perform arithmetic on", value));
        Ok(Value::Number(compute(number(a)?, number(b)?)))
    };
    let compare = |holds: fn(std::cmp::Ordering) -> bool| {
        let ordering = match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.partial_cmp(b),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            _ => {
                let message = format!("attempt to compare {} with {}", a.type_name(), b.type_name());
                return Err(EvaluationError(message));
            }
        };
        Ok(Value::Boolean(ordering.is_some_and(holds)))
    };
    match operator {
        Operator::Equal => Ok(Value::Boolean(a == b)),
        Operator::NotEqual => Ok(Value::Boolean(a != b)),
        Operator::Less => compare(std::cmp::Ordering::is_lt),
        Operator::LessOrEqual => compare(std::cmp::Ordering::is_le),
        Operator::Greater => compare(std::cmp::Ordering::is_gt),
        Operator::GreaterOrEqual => compare(std::cmp::Ordering::is_ge),
        Operator::Concatenate => {
            let text = |value: &Value<'_>| {
                value.as_text().map(Cow::into_owned).ok_or_else(|| wrong("concatenate", value))
            };
            limited([text(a)?, text(b)?].concat())
        }
        Operator::Add => arithmetic(|a, b| a + b),
        Operator::Subtract => arithmetic(|a, b| a - b),
        Operator::Multiply => arithmetic(|a, b| a * b),
        Operator::Divide => arithmetic(|a, b| a / b),
        Operator::Modulo => arithmetic(|a, b| a - (a / b).floor() * b),
        Operator::Power => arithmetic(f64::powf),
    }
}

fn limited<'a>(text: Vec<u8>) -> Result<Value<'a>, EvaluationError> {
    if text.len() > LONGEST_TEXT {
        return Err(EvaluationError(format!("the text is longer than {LONGEST_TEXT} bytes")));
    }
    Ok(Value::Text(Cow::Owned(text)))
}

fn call<'a>(method: Method, text: &[u8], arguments: &[Value<'_>]) -> Result<Value<'a>, EvaluationError> {
    let integer = |place: usize, default: Option<i64>| match arguments.get(place) {
        None | Some(Value::Nil) if default.is_some() => Ok(default.unwrap_or_default()),
        argument => {
            let number = argument.and_then(Value::to_number);
            let name = argument.map_or("no value", Value::type_name);
            let message = || format!("bad argument #{} (number expected, got {name})", place + 1);
            number.map(|number| number as i64).ok_or_else(|| EvaluationError(message()))
        }
    };
    Ok(match method {
        Method::Len => Value::Number(text.len() as f64),
        Method::Lower => Value::Text(Cow::Owned(text.to_ascii_lowercase())),
        Method::Upper => Value::Text(Cow::Owned(text.to_ascii_uppercase())),
        Method::Reverse => Value::Text(Cow::Owned(text.iter().rev().copied().collect())),
        Method::Rep => {
            let times = usize::try_from(integer(0, None)?).unwrap_or_default();
            if text.len().saturating_mul(times) > LONGEST_TEXT {
                return limited(vec![0; LONGEST_TEXT + 1]);
            }
            Value::Text(Cow::Owned(text.repeat(times)))
        }
        Method::Sub => {
            let length = text.len() as i64;
            let place =
                |place: i64| if place < 0 { length.saturating_add(place).saturating_add(1) } else { place };
            let from = place(integer(0, None)?).max(1);
            let to = place(integer(1, Some(-1))?).min(length);
            let range = (from <= to).then(|| text.get(from as usize - 1..to as usize)).flatten();
            Value::Text(Cow::Owned(range.unwrap_or_default().to_vec()))
        }
    })
}
