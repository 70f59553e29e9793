//! An LLM's word on what an answer is: JSON with `status`, `headers` and `body`.

use serde_json::Value;
use tollgate_http::{Body, Response, StatusCode};

/// Fields that follow from the body and the connection.
const NOT_FOR_IT: [&str; 5] =
    ["connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"];

/// Makes an answer what the text says: fields are set over those that are there; without `body` the whole text is
/// the body, without `status` the status is 200.
///
/// # Errors
/// What cannot be understood.
pub(super) fn follow(text: &str, response: &mut Response) -> Result<(), String> {
    let instructions: Value = serde_json::from_str(text).map_err(|error| error_of(text, &error))?;
    if !instructions.is_object() && !instructions.is_array() {
        return Err("input not table or string".to_owned());
    }
    let member = |name: &str| instructions.get(name).filter(|value| !value.is_null());
    response.status = status(member("status"))?;
    let body = member("body").filter(|body| **body != Value::Bool(false)).unwrap_or(&instructions);
    response.body = match body {
        Value::String(text) => Body::from(bytes::Bytes::from(text.clone())),
        other => {
            response.headers.set("Content-Type", "application/json; charset=utf-8");
            Body::Full(other.to_string().into())
        }
    };
    for (name, value) in member("headers").and_then(Value::as_object).into_iter().flatten() {
        if NOT_FOR_IT.iter().any(|other| name.eq_ignore_ascii_case(other)) {
            continue;
        }
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(is) => is.to_string(),
            _ => return Err(format!("the header '{name}' is neither a text nor a number")),
        };
        let is_name = !name.is_empty() && name.bytes().all(http_name);
        if !is_name || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(format!("{name:?} with {value:?} can be no header"));
        }
        response.headers.set(name, value);
    }
    Ok(())
}

/// Whether a byte may stand in the name of a header (RFC 9110 §5.6.2).
fn http_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn status(value: Option<&Value>) -> Result<StatusCode, String> {
    let Some(value) = value else { return Ok(StatusCode::OK) };
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let number = number.filter(|number| (200.0..=599.0).contains(number) && number.fract() == 0.0);
    let status = number.and_then(|number| StatusCode::from_u16(number as u16).ok());
    status.ok_or_else(|| format!("the status {value} is not one from 200 to 599"))
}

/// What is wrong with JSON, in Kong's words where it does not begin as any.
fn error_of(text: &str, error: &serde_json::Error) -> String {
    let start = text.len() - text.trim_start().len();
    let rest = text.get(start..).unwrap_or_default();
    let place = start + 1;
    if rest.is_empty() {
        return format!("Expected value but found T_END at character {place}");
    }
    let begins = rest.starts_with(['{', '[', '"', '-']) || rest.starts_with(|c: char| c.is_ascii_digit());
    let begins = begins || ["true", "false", "null"].iter().any(|word| rest.starts_with(word));
    match begins {
        true => error.to_string(),
        false => format!("Expected value but found invalid token at character {place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(text: &str) -> Result<(u16, String, String), String> {
        let mut response = Response::new(StatusCode::NOT_FOUND);
        response.headers.set("Content-Type", "text/plain");
        follow(text, &mut response)?;
        let Body::Full(body) = response.body else { return Err("no body".into()) };
        let fields = response.headers.iter().map(|(name, value)| {
            format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        });
        let fields = fields.collect::<Vec<_>>().join(" ");
        Ok((response.status.as_u16(), fields, String::from_utf8_lossy(&body).into_owned()))
    }

    #[test]
    fn instructions() {
        let ok = |status, fields: &str, body: &str| Ok((status, fields.to_owned(), body.to_owned()));
        for (text, expected) in [
            (
                r#"{"status":209,"headers":{"content-type":"application/xml","X-A":1},"body":"<a/>"}"#,
                ok(209, "Content-Type=application/xml X-A=1", "<a/>"),
            ),
            (r#"{"body":"x","headers":{"Content-Length":9}}"#, ok(200, "Content-Type=text/plain", "x")),
            (
                r#"{"status":"201","body":{"a":1}}"#,
                ok(201, "Content-Type=application/json; charset=utf-8", r#"{"a":1}"#),
            ),
            (r#"{"a":1}"#, ok(200, "Content-Type=application/json; charset=utf-8", r#"{"a":1}"#)),
            (" Sure: {}", Err("Expected value but found invalid token at character 2".into())),
            (" ", Err("Expected value but found T_END at character 2".into())),
            ("5", Err("input not table or string".into())),
            (r#"{"status":101}"#, Err("the status 101 is not one from 200 to 599".into())),
            (
                r#"{"headers":{"a":"b\r\nc: d"},"body":"x"}"#,
                Err(r#""a" with "b\r\nc: d" can be no header"#.into()),
            ),
            (r#"{"headers":{"a b":"c"},"body":"x"}"#, Err(r#""a b" with "c" can be no header"#.into())),
            (
                r#"{"headers":{"a":[]},"body":"x"}"#,
                Err("the header 'a' is neither a text nor a number".into()),
            ),
        ] {
            assert_eq!(followed(text), expected, "{text}");
        }
    }
}
