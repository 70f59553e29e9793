//! AWS's token service: temporary keys of a role.

use std::path::PathBuf;
use std::time::SystemTime;

use super::super::fetch::{Call, element};
use super::super::renewed::Lease;
use super::super::{AccountError, Variables, read_file};
use super::{AwsKeys, AwsSettings, SESSION};

/// The token service of a region.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sts {
    endpoint: String,
    region: String,
}

/// A role, assumed with keys.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: String,
    pub(super) external_id: Option<String>,
}

/// A role, assumed with a token that somebody else vouches for (EKS: a service account's).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WebIdentity {
    pub(super) token_file: PathBuf,
    pub(super) role_arn: String,
    pub(super) session: String,
}

impl WebIdentity {
    /// The environment's.
    pub(super) fn new(variable: Variables<'_>) -> Option<Self> {
        Some(Self {
            token_file: variable("AWS_WEB_IDENTITY_TOKEN_FILE")?.into(),
            role_arn: variable("AWS_ROLE_ARN")?,
            session: variable("AWS_ROLE_SESSION_NAME").unwrap_or_else(|| SESSION.to_owned()),
        })
    }
}

impl Sts {
    pub(super) fn new(settings: &AwsSettings, variable: Variables<'_>) -> Self {
        let ignored = variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
        let of_environment = || match ignored.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            true => None,
            false => variable("AWS_ENDPOINT_URL_STS").or_else(|| variable("AWS_ENDPOINT_URL")),
        };
        let regional = settings.region.as_ref().map(|region| {
            let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
            format!("https://sts.{region}.amazonaws.com{suffix}")
        });
        let endpoint = settings.sts_endpoint.clone().or_else(of_environment).or(regional);
        Self {
            endpoint: endpoint.unwrap_or_else(|| "https://sts.amazonaws.com".to_owned()),
            region: settings.region.clone().unwrap_or_else(|| "us-east-1".to_owned()),
        }
    }

    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Assumes a role with keys.
    pub(super) async fn assume(&self, role: &Role, keys: &AwsKeys) -> Result<Lease<AwsKeys>, AccountError> {
        let mut fields = vec![
            ("Action", "AssumeRole"),
            ("Version", "2011-06-15"),
            ("RoleArn", &*role.arn),
            ("RoleSessionName", &*role.session),
        ];
        fields.extend(role.external_id.as_deref().map(|id| ("ExternalId", id)));
        let mut call = Call::form(&*self.endpoint, &fields);
        let (host, path, body) = call.to_sign()?;
        let request = tollgate_llm::sigv4::ToSign {
            method: "POST",
            host: &host,
            path: &path,
            body: &body,
            region: &self.region,
            service: "sts",
        };
        let signed = keys.signer().sign(&request, SystemTime::now());
        for (name, value) in signed.map_err(|error| AccountError(error.to_string()))? {
            call = call.with(name, value);
        }
        self.ask(call)
            .await
            .map_err(|error| error.during(format_args!("the role {} cannot be assumed", role.arn)))
    }

    /// Assumes a role with a token.
    pub(super) async fn assume_with_web_identity(
        &self,
        identity: &WebIdentity,
    ) -> Result<Lease<AwsKeys>, AccountError> {
        let token = read_file(&identity.token_file)?;
        let call = Call::form(
            &*self.endpoint,
            &[
                ("Action", "AssumeRoleWithWebIdentity"),
                ("Version", "2011-06-15"),
                ("RoleArn", &identity.role_arn),
                ("RoleSessionName", &identity.session),
                ("WebIdentityToken", &token),
            ],
        );
        let what = format!("the role {} cannot be assumed with a web identity", identity.role_arn);
        self.ask(call).await.map_err(|error| error.during(what))
    }

    async fn ask(&self, call: Call) -> Result<Lease<AwsKeys>, AccountError> {
        let answer = call.with("Accept", "application/xml").send().await?;
        let xml = String::from_utf8_lossy(&answer.body);
        let text =
            |name: &str| element(&xml, name).ok_or_else(|| AccountError(format!("the answer has no {name}")));
        let keys =
            AwsKeys::new(&text("AccessKeyId")?, &text("SecretAccessKey")?, Some(&*text("SessionToken")?));
        Lease::until(keys, &text("Expiration")?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (own, region, variables, expected) in [
            (None, None, "", ("https://sts.amazonaws.com", "us-east-1")),
            (None, Some("eu-west-1"), "", ("https://sts.eu-west-1.amazonaws.com", "eu-west-1")),
            (None, Some("cn-north-1"), "", ("https://sts.cn-north-1.amazonaws.com.cn", "cn-north-1")),
            (None, Some("eu-west-1"), "AWS_ENDPOINT_URL=http://e", ("http://e", "eu-west-1")),
            (
                None,
                None,
                "AWS_ENDPOINT_URL=http://e AWS_ENDPOINT_URL_STS=http://s",
                ("http://s", "us-east-1"),
            ),
            (
                None,
                None,
                "AWS_ENDPOINT_URL=http://e AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true",
                ("https://sts.amazonaws.com", "us-east-1"),
            ),
            (
                Some("http://own"),
                Some("eu-west-1"),
                "AWS_ENDPOINT_URL_STS=http://s",
                ("http://own", "eu-west-1"),
            ),
        ] {
            let variable = |name: &str| {
                let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
            };
            let settings = AwsSettings {
                sts_endpoint: own.map(str::to_owned),
                region: region.map(str::to_owned),
                ..AwsSettings::default()
            };
            let sts = Sts::new(&settings, &variable);
            assert_eq!((&*sts.endpoint, &*sts.region), expected, "{variables}");
        }
    }
}
