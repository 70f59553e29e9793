//! Tokens as OAuth's servers give them out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tollgate_http::Headers;
use tollgate_model::Secret;

use super::AccountError;
use super::renewed::Lease;

/// A token as it is sent.
#[derive(Debug)]
pub struct Bearer(Secret);

impl Bearer {
    /// Of a token.
    pub fn new(token: &str) -> Self {
        Self(Secret::new(format!("Bearer {token}")))
    }

    /// Sets `Authorization`.
    pub fn authorize(&self, headers: &mut Headers) {
        headers.set("Authorization", self.0.expose());
    }
}

/// An OAuth answer's token. Azure writes numbers as text in places, and may say when it wants to be asked again;
/// App Service tells the end alone.
///
/// # Errors
/// What is missing.
pub fn read_token(answer: &Value) -> Result<Lease<Bearer>, AccountError> {
    let number = |name: &str| {
        let value = answer.get(name)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let token = answer.get("access_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| AccountError("the answer has no access_token".to_owned()))?;
    let remaining = || {
        let end = UNIX_EPOCH + Duration::from_secs(number("expires_on")?);
        Some(end.duration_since(SystemTime::now()).unwrap_or_default())
    };
    let life = number("expires_in").map(Duration::from_secs).or_else(remaining);
    let life = life.ok_or_else(|| AccountError("the answer has no expires_in".to_owned()))?;
    let lease = Lease::lasting(Bearer::new(token), life);
    Ok(match number("refresh_in") {
        Some(seconds) => lease.renewed_after(Duration::from_secs(seconds)),
        None => lease,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (answer, expected) in [
            (r#"{"access_token":"t","expires_in":3600}"#, Ok("Bearer t")),
            (r#"{"access_token":"t","expires_in":"3600","refresh_in":"1800"}"#, Ok("Bearer t")),
            (r#"{"access_token":"t","expires_on":"1700000000"}"#, Ok("Bearer t")),
            (r#"{"access_token":"t"}"#, Err("the answer has no expires_in")),
            (r#"{"access_token":"","expires_in":1}"#, Err("the answer has no access_token")),
            ("[]", Err("the answer has no access_token")),
        ] {
            let token = read_token(&serde_json::from_str(answer).unwrap());
            let token = token.map(|lease| lease.into_credential().0.expose().to_owned());
            let token = token.map_err(|error| error.to_string());
            assert_eq!(token.as_deref().map_err(String::as_str), expected, "{answer}");
        }
    }
}
