//! Values that depend on the request: `$(…)` with a Lua expression inside, as Kong 3.11's transformers take them.
//!
//! What can stand inside: `headers`, `query_params`, `uri_captures` and `shared` (which is empty), indexed by
//! `.name` or `[…]`; strings, numbers, `nil`, `true`, `false`; `and`, `or`, `not`, comparisons, `..`, `#` and
//! arithmetic; `type(…)`; and of the methods of strings `len`, `lower`, `rep`, `reverse`, `sub` and `upper`. Any
//! other name is `nil`, as in Kong's sandbox. Not supported, and refused when the configuration is read: functions,
//! tables, long strings, and the methods of strings that take patterns.

mod evaluate;
mod parse;

use std::borrow::Cow;

use evaluate::Value;
pub use evaluate::{EvaluationError, Scope};

/// How deep expressions may be nested.
const MOST_NESTING: usize = 64;

/// A configured value, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(Box<str>),
    Value(Expression),
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Nil,
    Boolean(bool),
    Number(f64),
    Text(Box<[u8]>),
    Name(Name),
    Index(Box<Expression>, Box<Expression>),
    Call(Box<Expression>, Vec<Expression>),
    Method(Box<Expression>, Method, Vec<Expression>),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Length(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    Operation(Operator, Box<Expression>, Box<Expression>),
}

/// What a template can see.
#[derive(Debug, Clone, PartialEq)]
enum Name {
    Headers,
    QueryParams,
    UriCaptures,
    Shared,
    Type,
    /// Anything else: `nil`.
    Unknown(Box<str>),
}

/// Methods of strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Len,
    Lower,
    Rep,
    Reverse,
    Sub,
    Upper,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Concatenate,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

/// A template cannot be compiled; says what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl Template {
    /// Compiles a configured value; one without `$(…)` stands for itself.
    ///
    /// # Errors
    /// An expression that is not Lua, or more of Lua than is supported.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some(at) = rest.find("$(") {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let Some(length) = balanced(&rest[1..]) else {
                text.push('$');
                rest = &rest[1..];
                continue;
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(Piece::Value(parse::expression(&rest[2..length])?));
            rest = &rest[1 + length..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(Self { pieces })
    }

    /// Whether it stands for itself, whatever the request is.
    pub fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The value for a request. An undefined expression is empty.
    ///
    /// # Errors
    /// An expression that means nothing for this request, such as arithmetic with a word.
    pub fn render(&self, scope: &Scope<'_>) -> Result<Cow<'_, [u8]>, EvaluationError> {
        match self.pieces.as_slice() {
            [] => Ok(Cow::Borrowed(b"")),
            [Piece::Text(text)] => Ok(Cow::Borrowed(text.as_bytes())),
            pieces => {
                let mut out = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Value(expression) => match scope.evaluate(expression)? {
                            Value::Nil | Value::Boolean(false) => {}
                            value => out.extend_from_slice(&value.to_text()),
                        },
                    }
                }
                Ok(Cow::Owned(out))
            }
        }
    }
}

/// Length of the parenthesis that `text` begins with, both ends included; `None` where it is not closed.
fn balanced(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests;
