//! Workload identity federation: another provider's token is exchanged for Google's.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::fetch::Call;
use super::super::oauth::{Bearer, read_token};
use super::super::renewed::Lease;
use super::super::{AccountError, read_file};
use super::{SCOPE, member};

/// Where the other provider's token is.
enum Subject {
    File(PathBuf),
    Url { url: String, headers: Vec<(String, String)> },
}

/// An `external_account`.
pub(super) struct External {
    audience: String,
    subject_token_type: String,
    token_url: String,
    subject: Subject,
    /// In which member of a JSON document the token stands; else the document is the token.
    member: Option<String>,
    /// Where the token is exchanged for one of a service account.
    impersonation_url: Option<String>,
}

impl External {
    pub(super) fn read(value: &Value) -> Result<Self, AccountError> {
        let source = value.get("credential_source").unwrap_or(&Value::Null);
        let text = |name: &str| source.get(name).and_then(Value::as_str);
        let headers = source.get("headers").and_then(Value::as_object).into_iter().flatten();
        let headers = headers.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let subject = match (text("file"), text("url")) {
            (Some(path), _) => Subject::File(path.into()),
            (None, Some(url)) if text("environment_id").is_none() => {
                Subject::Url { url: url.to_owned(), headers: headers.collect() }
            }
            _ => {
                return Err(AccountError(
                    "the credential's 'credential_source' cannot be used; expected 'file' or 'url'"
                        .to_owned(),
                ));
            }
        };
        let format = source.get("format").unwrap_or(&Value::Null);
        let member_name = match format.get("type").and_then(Value::as_str) {
            Some("json") => Some(member(format, "subject_token_field_name")?.to_owned()),
            _ => None,
        };
        let own = value.get("service_account_impersonation_url").and_then(Value::as_str);
        Ok(Self {
            audience: member(value, "audience")?.to_owned(),
            subject_token_type: member(value, "subject_token_type")?.to_owned(),
            token_url: member(value, "token_url")?.to_owned(),
            subject,
            member: member_name,
            impersonation_url: own.map(str::to_owned),
        })
    }

    async fn subject_token(&self) -> Result<String, AccountError> {
        let document = match &self.subject {
            Subject::File(path) => read_file(path)?,
            Subject::Url { url, headers } => {
                let mut call = Call::get(&**url);
                for (name, value) in headers {
                    call = call.with(name.clone(), value);
                }
                let answer = call.send().await.map_err(|error| error.during("the subject token"))?;
                String::from_utf8_lossy(&answer.body).trim().to_owned()
            }
        };
        match &self.member {
            None => Ok(document),
            Some(name) => {
                let value: Value = serde_json::from_str(&document)
                    .map_err(|_| AccountError("the subject token's document is not JSON".to_owned()))?;
                member(&value, name).map(str::to_owned).map_err(|error| error.during("the subject token"))
            }
        }
    }

    /// Exchanges the other provider's token (RFC 8693), and that of the exchange for a service account's.
    pub(super) async fn token(&self, own_url: Option<&str>) -> Result<Lease<Bearer>, AccountError> {
        let subject_token = self.subject_token().await?;
        let fields = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("audience", &*self.audience),
            ("scope", SCOPE),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", &subject_token),
        ];
        let answer = Call::form(own_url.unwrap_or(&self.token_url), &fields).send().await?.json()?;
        let Some(url) = &self.impersonation_url else { return read_token(&answer) };
        let federated = member(&answer, "access_token")?;
        let answer = Call::json(&**url, &json!({"scope": [SCOPE]}))
            .with("Authorization", format!("Bearer {federated}"))
            .send()
            .await
            .map_err(|error| error.during("the service account's token"))?
            .json()?;
        let token = Bearer::new(member(&answer, "accessToken")?);
        Lease::until(token, member(&answer, "expireTime")?)
    }
}
