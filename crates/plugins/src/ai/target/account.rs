//! Requests that a cloud's account answers for: signed for AWS, with a token for Azure and Google.

use std::time::SystemTime;

use tollgate_gateway::destination::{Destination, Host};
use tollgate_gateway::{BuildError, Exchange};
use tollgate_llm::Provider;
use tollgate_llm::sigv4::ToSign;
use tollgate_llm::template::Template;

use super::config::{Auth, Options};
use super::render;
use crate::ai::accounts::aws::{self, AwsAccount, AwsKeys, AwsSettings, AwsSettingsError};
use crate::ai::accounts::azure::{self, AzureAccount, AzureSettings};
use crate::ai::accounts::gcp::{self, GcpAccount, GcpSettings};
use crate::ai::accounts::{Account, AccountError, Proof, environment};

/// Fields of a signature; the client's own must not reach AWS beside them.
const FIELDS: [&str; 4] = ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// The account that answers for a target's requests.
pub(super) struct TargetAccount {
    account: Account,
    /// Where AWS's signatures are for.
    region: Template,
}

/// The region: the configured one, else the environment's (Kong 3.11: `AWS_REGION`, then `AWS_DEFAULT_REGION`).
pub(super) fn region(options: &Options) -> Option<String> {
    let configured = options.bedrock.as_ref().and_then(|bedrock| bedrock.aws_region.clone());
    configured.or_else(|| environment("AWS_REGION")).or_else(|| environment("AWS_DEFAULT_REGION"))
}

fn failed(field: &str, message: impl Into<String>) -> BuildError {
    BuildError { field: field.to_owned(), message: message.into() }
}

impl TargetAccount {
    /// The account of what is configured; `None` where no cloud's account is asked for.
    ///
    /// # Errors
    /// What is missing, or can be none.
    pub(super) fn of(
        provider: &dyn Provider,
        auth: &Auth,
        options: &Options,
    ) -> Result<Option<Self>, BuildError> {
        let account = if provider.wants_signature() {
            return Self::of_aws(auth, options).map(Some);
        } else if provider.name() == "azure" && auth.azure_use_managed_identity == Some(true) {
            let settings = AzureSettings {
                client_id: auth.azure_client_id.clone(),
                client_secret: auth.azure_client_secret.clone(),
                tenant_id: auth.azure_tenant_id.clone(),
            };
            let account = AzureAccount::new(&settings, &environment);
            let account = account.map_err(|error| failed("auth.azure_use_managed_identity", error.0))?;
            Account::Azure(azure::ACCOUNTS.account(account))
        } else if provider.name() == "gemini" && auth.gcp_use_service_account == Some(true) {
            let settings = GcpSettings {
                service_account: auth.gcp_service_account_json.clone(),
                metadata_url: auth.gcp_metadata_url.clone(),
                token_url: auth.gcp_oauth_token_url.clone(),
            };
            let account = GcpAccount::new(&settings, &environment);
            let account = account.map_err(|error| failed("auth.gcp_use_service_account", error.0))?;
            Account::Gcp(gcp::ACCOUNTS.account(account))
        } else {
            return Ok(None);
        };
        Ok(Some(Self { account, region: Template::new("") }))
    }

    fn of_aws(auth: &Auth, options: &Options) -> Result<Self, BuildError> {
        let region = region(options).ok_or_else(|| {
            let message = "AWS region not specified anywhere: set it, or AWS_REGION of the environment";
            failed("model.options.bedrock.aws_region", message)
        })?;
        let region = Template::new(&region);
        let bedrock = options.bedrock.clone().unwrap_or_default();
        for (name, value) in [
            ("aws_assume_role_arn", &bedrock.aws_assume_role_arn),
            ("aws_role_session_name", &bedrock.aws_role_session_name),
        ] {
            if value.as_deref().is_some_and(|value| Template::new(value).fixed().is_none()) {
                let message = "a request's values cannot choose the role; write it without placeholders";
                return Err(failed(&format!("model.options.bedrock.{name}"), message));
            }
        }
        let settings = AwsSettings {
            key_id: auth.aws_access_key_id.clone(),
            secret_key: auth.aws_secret_access_key.clone(),
            role_arn: bedrock.aws_assume_role_arn,
            session_name: bedrock.aws_role_session_name,
            sts_endpoint: bedrock.aws_sts_endpoint_url,
            region: region.fixed().map(str::to_owned),
        };
        let account = AwsAccount::new(&settings, &environment).map_err(|error| match error {
            AwsSettingsError::Nowhere => failed(
                "auth.aws_access_key_id",
                "no AWS key anywhere: set it, or AWS_ACCESS_KEY_ID of the environment",
            ),
            AwsSettingsError::NoKeyId => failed(
                "auth.aws_access_key_id",
                "no AWS key id beside the secret key: set it, or AWS_ACCESS_KEY_ID of the environment",
            ),
            AwsSettingsError::NoSecretKey => failed(
                "auth.aws_secret_access_key",
                "no AWS secret key anywhere: set it, or AWS_SECRET_ACCESS_KEY of the environment",
            ),
            AwsSettingsError::StsEndpoint => failed(
                "model.options.bedrock.aws_sts_endpoint_url",
                "no address; expected http(s)://host[:port][/path], here or in AWS_ENDPOINT_URL_STS",
            ),
        })?;
        Ok(Self { account: Account::Aws(aws::ACCOUNTS.account(account)), region })
    }

    /// What is held to prove the account with.
    pub(super) fn held(&self) -> Option<Proof> {
        self.account.held()
    }

    /// Waits until something is held to prove the account with.
    ///
    /// # Errors
    /// Why there is nothing.
    pub(super) async fn ready(&self) -> Result<(), AccountError> {
        self.account.wait().await.map(drop)
    }

    /// Fields of a request that hold secrets of it, beside `Authorization`.
    pub(super) fn secret_names(&self) -> impl Iterator<Item = String> {
        matches!(self.account, Account::Aws(_)).then(|| "x-amz-security-token".to_owned()).into_iter()
    }

    /// Proves the request as it is about to be sent to `destination`.
    ///
    /// # Errors
    /// What the client is told (status 400) where a value is missing.
    pub(super) fn prove(
        &self,
        proof: &Proof,
        exchange: &mut Exchange,
        destination: &Destination,
        path: &[u8],
        body: &[u8],
    ) -> Result<(), String> {
        match proof {
            Proof::Bearer(token) => {
                token.authorize(&mut exchange.head.headers);
                Ok(())
            }
            Proof::Aws(keys) => self.sign(keys, exchange, destination, path, body),
        }
    }

    /// The client's query goes: Bedrock knows none.
    fn sign(
        &self,
        keys: &AwsKeys,
        exchange: &mut Exchange,
        destination: &Destination,
        path: &[u8],
        body: &[u8],
    ) -> Result<(), String> {
        let Host::One(peer) = &destination.host else {
            return Err("requests to upstreams cannot be signed".to_owned());
        };
        let host = peer.host_field(destination.tls.is_some());
        let region = render(&self.region, exchange)?;
        let request = ToSign {
            method: exchange.head.method.as_str(),
            host,
            path: &String::from_utf8_lossy(path),
            body,
            region: &region,
            service: "bedrock",
        };
        let signed = keys.signer().sign(&request, SystemTime::now()).map_err(|error| error.to_string())?;
        for name in FIELDS {
            exchange.head.headers.remove(name);
        }
        for (name, value) in signed {
            exchange.head.headers.set(name, &*value);
        }
        exchange.upstream_host = Some(host.into());
        exchange.query = None;
        Ok(())
    }
}
