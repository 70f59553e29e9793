//! Reading Lua expressions.

use super::{Expression, MOST_NESTING, Method, Name, Operator, TemplateError};

/// Reads a whole expression.
pub(super) fn expression(source: &str) -> Result<Expression, TemplateError> {
    let mut parser = Parser { tokens: tokens(source)?, at: 0, depth: 0 };
    let expression = parser.binary(0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(unexpected(token)),
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(Vec<u8>),
    Number(f64),
    Sign(&'static str),
}

/// How many words and signs an expression may have.
const MOST_TOKENS: usize = 500;

/// Longer signs first.
const SIGNS: [&str; 23] = [
    "...", "..", "==", "~=", "<=", ">=", "<", ">", "=", "+", "-", "*", "/", "%", "^", "#", "(", ")", "[",
    "]", ".", ",", ":",
];

/// Words that Lua keeps for itself and that begin no expression we know.
const RESERVED: [&str; 16] = [
    "break", "do", "else", "elseif", "end", "for", "function", "goto", "if", "in", "local", "repeat",
    "return", "then", "until", "while",
];

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError(message.into())
}

fn unexpected(token: &Token) -> TemplateError {
    match token {
        Token::Word(word) => error(format!("unexpected '{word}'")),
        Token::Text(text) => error(format!("unexpected string \"{}\"", String::from_utf8_lossy(text))),
        Token::Number(number) => error(format!("unexpected number {number}")),
        Token::Sign("=") => error("unexpected '=': values can be read, not assigned"),
        Token::Sign(sign) => error(format!("unexpected '{sign}'")),
    }
}

fn tokens(source: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = source.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if first.is_ascii_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..length].to_owned()));
            length
        } else if first.is_ascii_digit()
            || first == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())
        {
            let (number, length) = number(rest)?;
            tokens.push(Token::Number(number));
            length
        } else if first == '"' || first == '\'' {
            let (text, length) = string(rest, first)?;
            tokens.push(Token::Text(text));
            length
        } else if rest.starts_with("[[") || rest.starts_with("[=") {
            return Err(error("strings in [[ ]] are not supported; use quotes"));
        } else if first == '{' {
            return Err(error("tables ({ }) are not supported"));
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| error(format!("unexpected '{first}'")))?;
            tokens.push(Token::Sign(sign));
            sign.len()
        };
        rest = rest[length..].trim_start();
        if tokens.len() > MOST_TOKENS {
            return Err(error(format!("longer than {MOST_TOKENS} words and signs")));
        }
    }
    Ok(tokens)
}

/// A number at the beginning of `text`, and its length.
fn number(text: &str) -> Result<(f64, usize), TemplateError> {
    let mut length = 0;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        let is_sign =
            matches!(character, '+' | '-') && matches!(before, 'e' | 'E') && !text.starts_with("0x");
        // Two dots are a concatenation.
        let is_dot = character == '.' && !text[at..].starts_with("..");
        if !character.is_ascii_alphanumeric() && !is_sign && !is_dot {
            break;
        }
        length = at + character.len_utf8();
        before = character;
    }
    let digits = &text[..length];
    match super::evaluate::number(digits.as_bytes()) {
        Some(number) => Ok((number, length)),
        None => Err(error(format!("malformed number '{digits}'"))),
    }
}

/// A string in quotes at the beginning of `text`, and its length.
fn string(text: &str, quote: char) -> Result<(Vec<u8>, usize), TemplateError> {
    let unfinished = || error(format!("unfinished string {text}"));
    let mut out = Vec::new();
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((at, character)) = characters.next() {
        if character == quote {
            return Ok((out, at + 1));
        }
        if character != '\\' {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (_, escaped) = characters.next().ok_or_else(unfinished)?;
        match escaped {
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            '0'..='9' => {
                let mut code = escaped.to_digit(10).unwrap_or_default();
                for _ in 0..2 {
                    let Some(digit) = characters.peek().and_then(|(_, digit)| digit.to_digit(10)) else {
                        break;
                    };
                    code = code * 10 + digit;
                    characters.next();
                }
                out.push(u8::try_from(code).map_err(|_| error(format!("no byte has the code {code}")))?);
            }
            '\\' | '"' | '\'' => out.push(escaped as u8),
            other => return Err(error(format!("the escape '\\{other}' is not supported"))),
        }
    }
    Err(unfinished())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

/// An operator between two values: how tight it binds to its left and to its right.
fn binding(token: &Token) -> Option<(u8, u8)> {
    Some(match token {
        Token::Word(word) if word == "or" => (1, 2),
        Token::Word(word) if word == "and" => (3, 4),
        Token::Sign("<" | ">" | "<=" | ">=" | "~=" | "==") => (5, 6),
        Token::Sign("..") => (8, 7),
        Token::Sign("+" | "-") => (9, 10),
        Token::Sign("*" | "/" | "%") => (11, 12),
        Token::Sign("^") => (16, 15),
        _ => return None,
    })
}

/// How tight `not`, `-` and `#` bind.
const UNARY: u8 = 13;

fn operator(token: &Token) -> Option<Operator> {
    Some(match token {
        Token::Sign("==") => Operator::Equal,
        Token::Sign("~=") => Operator::NotEqual,
        Token::Sign("<") => Operator::Less,
        Token::Sign("<=") => Operator::LessOrEqual,
        Token::Sign(">") => Operator::Greater,
        Token::Sign(">=") => Operator::GreaterOrEqual,
        Token::Sign("..") => Operator::Concatenate,
        Token::Sign("+") => Operator::Add,
        Token::Sign("-") => Operator::Subtract,
        Token::Sign("*") => Operator::Multiply,
        Token::Sign("/") => Operator::Divide,
        Token::Sign("%") => Operator::Modulo,
        Token::Sign("^") => Operator::Power,
        _ => return None,
    })
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Result<Token, TemplateError> {
        let token = self.peek().cloned().ok_or_else(|| error("unexpected end of the expression"))?;
        self.at += 1;
        Ok(token)
    }

    fn take(&mut self, sign: &'static str) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), TemplateError> {
        match self.take(sign) {
            true => Ok(()),
            false => Err(self.peek().map_or_else(|| error(format!("'{sign}' is missing")), unexpected)),
        }
    }

    /// An expression whose operators bind at least so tight.
    fn binary(&mut self, least: u8) -> Result<Expression, TemplateError> {
        self.depth += 1;
        if self.depth > MOST_NESTING {
            return Err(error(format!("nested deeper than {MOST_NESTING}")));
        }
        let mut left = self.unary()?;
        while let Some(token) = self.peek().cloned()
            && let Some((left_binding, right_binding)) = binding(&token)
            && left_binding >= least
        {
            self.at += 1;
            let (a, b) = (Box::new(left), Box::new(self.binary(right_binding)?));
            left = match operator(&token) {
                Some(operator) => Expression::Operation(operator, a, b),
                None if token == Token::Word("and".into()) => Expression::And(a, b),
                None => Expression::Or(a, b),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Result<Expression, TemplateError> {
        let make: fn(Box<Expression>) -> Expression = match self.peek() {
            Some(Token::Word(word)) if word == "not" => Expression::Not,
            Some(Token::Sign("-")) => Expression::Negative,
            Some(Token::Sign("#")) => Expression::Length,
            _ => return self.suffixed(),
        };
        self.at += 1;
        Ok(make(Box::new(self.binary(UNARY)?)))
    }

    /// A value with its indexes, calls and methods.
    fn suffixed(&mut self) -> Result<Expression, TemplateError> {
        let (mut value, can_have_suffix) = self.primary()?;
        if !can_have_suffix {
            return Ok(value);
        }
        loop {
            value = if self.take(".") {
                let name = self.word()?;
                Expression::Index(Box::new(value), Box::new(Expression::Text(name.into_bytes().into())))
            } else if self.take("[") {
                let index = self.binary(0)?;
                self.expect("]")?;
                Expression::Index(Box::new(value), Box::new(index))
            } else if self.take("(") {
                Expression::Call(Box::new(value), self.arguments()?)
            } else if self.take(":") {
                let name = self.word()?;
                let method = method(&name)?;
                self.expect("(")?;
                Expression::Method(Box::new(value), method, self.arguments()?)
            } else {
                return Ok(value);
            };
        }
    }

    /// A value, and whether an index, a call or a method can follow it.
    fn primary(&mut self) -> Result<(Expression, bool), TemplateError> {
        Ok(match self.next()? {
            Token::Text(text) => (Expression::Text(text.into()), false),
            Token::Number(number) => (Expression::Number(number), false),
            Token::Sign("(") => {
                let inner = self.binary(0)?;
                self.expect(")")?;
                (inner, true)
            }
            Token::Word(word) => match word.as_str() {
                "nil" => (Expression::Nil, false),
                "true" => (Expression::Boolean(true), false),
                "false" => (Expression::Boolean(false), false),
                "function" => return Err(error("functions are not supported")),
                word if RESERVED.contains(&word) || binding(&Token::Word(word.into())).is_some() => {
                    return Err(error(format!("unexpected '{word}'")));
                }
                "headers" => (Expression::Name(Name::Headers), true),
                "query_params" => (Expression::Name(Name::QueryParams), true),
                "uri_captures" => (Expression::Name(Name::UriCaptures), true),
                "shared" => (Expression::Name(Name::Shared), true),
                "type" => (Expression::Name(Name::Type), true),
                _ => (Expression::Name(Name::Unknown(word.into())), true),
            },
            other => return Err(unexpected(&other)),
        })
    }

    fn word(&mut self) -> Result<String, TemplateError> {
        match self.next()? {
            Token::Word(word) => Ok(word),
            other => Err(unexpected(&other)),
        }
    }

    /// The arguments of a call, behind its `(`.
    fn arguments(&mut self) -> Result<Vec<Expression>, TemplateError> {
        let mut arguments = Vec::new();
        if self.take(")") {
            return Ok(arguments);
        }
        loop {
            arguments.push(self.binary(0)?);
            if !self.take(",") {
                self.expect(")")?;
                return Ok(arguments);
            }
        }
    }
}

fn method(name: &str) -> Result<Method, TemplateError> {
    Ok(match name {
        "len" => Method::Len,
        "lower" => Method::Lower,
        "rep" => Method::Rep,
        "reverse" => Method::Reverse,
        "sub" => Method::Sub,
        "upper" => Method::Upper,
        _ => {
            let known = "len, lower, rep, reverse, sub and upper";
            return Err(error(format!("the method '{name}' is not supported; {known} are")));
        }
    })
}
