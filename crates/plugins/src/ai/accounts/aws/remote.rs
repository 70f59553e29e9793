//! Keys that a container's or an instance's surroundings give out.

use std::path::PathBuf;

use serde_json::Value;
use tollgate_model::Secret;

use super::super::fetch::Call;
use super::super::renewed::Lease;
use super::super::{AccountError, read_file};
use super::AwsKeys;

/// Where ECS gives out keys.
const ECS: &str = "http://169.254.170.2";
/// Hosts that may be asked without TLS, besides loopback: ECS and EKS.
const PLAIN_HOSTS: [&str; 3] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];

/// The endpoint of a container's role (ECS, EKS Pod Identity).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Container {
    pub(super) url: String,
    pub(super) authorization: Option<Authorization>,
}

/// How a container shows that it is allowed to ask.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Authorization {
    Token(Secret),
    /// Read anew each time.
    File(PathBuf),
}

impl Container {
    pub(super) fn relative(path: &str) -> String {
        format!("{ECS}/{}", path.trim_start_matches('/'))
    }

    /// Whether the keys travel safely: over TLS, or within the machine.
    fn is_safe(&self) -> bool {
        let Ok(uri) = self.url.parse::<http::Uri>() else { return false };
        let host = uri.host().unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        uri.scheme_str() == Some("https") || is_loopback || PLAIN_HOSTS.contains(&host)
    }

    pub(super) async fn keys(&self) -> Result<Lease<AwsKeys>, AccountError> {
        if !self.is_safe() {
            let message =
                "AWS_CONTAINER_CREDENTIALS_FULL_URI must be https, or lead to this machine or to ECS or EKS";
            return Err(AccountError(message.to_owned()));
        }
        let mut call = Call::get(&*self.url).with("Accept", "application/json");
        match &self.authorization {
            None => {}
            Some(Authorization::Token(token)) => call = call.with("Authorization", token.expose()),
            Some(Authorization::File(path)) => call = call.with("Authorization", read_file(path)?),
        }
        read_keys(&call.send().await?.json()?)
    }
}

/// The metadata service of an instance, version 2.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Instance {
    pub(super) endpoint: String,
}

impl Instance {
    pub(super) async fn keys(&self) -> Result<Lease<AwsKeys>, AccountError> {
        let token = Call::put(format!("{}/latest/api/token", self.endpoint))
            .with("X-aws-ec2-metadata-token-ttl-seconds", "21600")
            .send()
            .await
            .map_err(|error| {
                error.during("no keys configured, in the environment or in files; the instance's metadata")
            })?;
        let token = String::from_utf8_lossy(&token.body).into_owned();
        let path = format!("{}/latest/meta-data/iam/security-credentials/", self.endpoint);
        let get = |url: String| Call::get(url).with("X-aws-ec2-metadata-token", &*token).send();
        let roles = get(path.clone()).await.map_err(|error| error.during("the instance's role"))?;
        let roles = String::from_utf8_lossy(&roles.body).into_owned();
        let role = roles.lines().next().map(str::trim).filter(|role| !role.is_empty());
        let role = role.ok_or_else(|| AccountError("the instance has no role".to_owned()))?;
        read_keys(&get(format!("{path}{role}")).await?.json()?)
    }
}

/// Keys as both services write them.
fn read_keys(answer: &Value) -> Result<Lease<AwsKeys>, AccountError> {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    if let Some(code) = text("Code").filter(|code| *code != "Success") {
        return Err(AccountError(format!("the service answered {code}")));
    }
    let (Some(id), Some(secret)) = (text("AccessKeyId"), text("SecretAccessKey")) else {
        return Err(AccountError("the answer has no AccessKeyId and SecretAccessKey".to_owned()));
    };
    let end = text("Expiration").ok_or_else(|| AccountError("the answer has no Expiration".to_owned()))?;
    Lease::until(AwsKeys::new(id, secret, text("Token")), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_where_it_is_safe() {
        for (url, expected) in [
            (Container::relative("/v2/c"), true),
            ("https://a.test/c".to_owned(), true),
            ("http://127.0.0.1:9/c".to_owned(), true),
            ("http://[::1]/c".to_owned(), true),
            ("http://localhost/c".to_owned(), true),
            ("http://169.254.170.23/v1/credentials".to_owned(), true),
            ("http://[fd00:ec2::23]/v1/credentials".to_owned(), true),
            ("http://a.test/c".to_owned(), false),
            ("http://169.254.169.254/c".to_owned(), false),
            ("nonsense".to_owned(), false),
        ] {
            let container = Container { url: url.clone(), authorization: None };
            assert_eq!(container.is_safe(), expected, "{url}");
        }
    }

    #[test]
    fn answers_without_keys() {
        for (answer, expected) in [
            (
                r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#,
                "the service answered AssumeRoleUnauthorizedAccess",
            ),
            (r#"{"AccessKeyId":"a"}"#, "the answer has no AccessKeyId and SecretAccessKey"),
            (
                r#"{"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"soon"}"#,
                "the end of the credential's life is no time",
            ),
            (r#"{"AccessKeyId":"a","SecretAccessKey":"b"}"#, "the answer has no Expiration"),
        ] {
            let answer = serde_json::from_str(answer).unwrap();
            assert_eq!(read_keys(&answer).err().unwrap().to_string(), expected);
        }
    }
}
