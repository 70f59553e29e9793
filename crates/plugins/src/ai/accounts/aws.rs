//! AWS: the keys that requests are signed with, from where AWS's own SDKs look for them and in their order:
//! configured, environment, shared files, web identity, container, instance; a role may be assumed with any.

mod profile;
mod remote;
mod sts;

use std::path::PathBuf;
use std::time::Duration;

use tollgate_llm::sigv4::Signer;
use tollgate_model::Secret;

use super::renewed::{Known, Lease, Source};
use super::{AccountError, Variables, fetch};
use profile::Profile;
use remote::{Authorization, Container, Instance};
use sts::{Role, Sts, WebIdentity};

/// Name of a session where none is given.
const SESSION: &str = "tollgate";
/// How often shared files are looked at again.
const FILES_AGAIN: Duration = Duration::from_secs(5 * 60);

/// The accounts in use.
pub static ACCOUNTS: Known<AwsAccount> = Known::new();

/// What is configured of an account.
#[derive(Debug, Clone, Default)]
pub struct AwsSettings {
    /// Key id; with the secret key it stands for all other sources.
    pub key_id: Option<Secret>,
    /// Secret key.
    pub secret_key: Option<Secret>,
    /// Role to assume.
    pub role_arn: Option<String>,
    /// Name of the session under it.
    pub session_name: Option<String>,
    /// Address of the token service.
    pub sts_endpoint: Option<String>,
    /// Region whose token service is asked; without one, the global service is.
    pub region: Option<String>,
}

/// Why an account cannot be one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsSettingsError {
    /// A secret key without a key id.
    NoKeyId,
    /// A key id without a secret key.
    NoSecretKey,
    /// The token service's address is none.
    StsEndpoint,
    /// Nothing says where keys could come from.
    Nowhere,
}

/// Keys of an account.
#[derive(Debug, Clone, PartialEq)]
pub struct AwsKeys {
    id: String,
    secret: Secret,
    token: Option<Secret>,
}

impl AwsKeys {
    fn new(id: &str, secret: &str, token: Option<&str>) -> Self {
        Self { id: id.to_owned(), secret: Secret::new(secret), token: token.map(Secret::new) }
    }

    /// Signs with these keys.
    pub fn signer(&self) -> Signer {
        Signer::new(&self.id, self.secret.expose(), self.token.as_ref().map(Secret::expose))
    }
}

/// Where an account's keys come from.
#[derive(Debug, Clone, PartialEq)]
pub struct AwsAccount {
    origins: Vec<Origin>,
    role: Option<Role>,
    sts: Sts,
}

/// A place where keys may be.
#[derive(Debug, Clone, PartialEq)]
enum Origin {
    Keys(AwsKeys),
    Profile(Profile),
    WebIdentity(WebIdentity),
    Container(Container),
    Instance(Instance),
}

impl AwsAccount {
    /// The account that is configured, or the environment's.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &AwsSettings, variable: Variables<'_>) -> Result<Self, AwsSettingsError> {
        let sts = Sts::new(settings, variable);
        if !fetch::is_address(sts.endpoint()) {
            return Err(AwsSettingsError::StsEndpoint);
        }
        let environment = Environment { variable };
        let origins = match settings.key_id.is_some() || settings.secret_key.is_some() {
            true => vec![Origin::Keys(configured_keys(settings, variable)?)],
            false => environment.origins(),
        };
        if origins.is_empty() {
            return Err(AwsSettingsError::Nowhere);
        }
        let role = settings.role_arn.as_ref().map(|arn| Role {
            arn: arn.clone(),
            session: settings.session_name.clone().unwrap_or_else(|| SESSION.to_owned()),
            external_id: None,
        });
        Ok(Self { origins, role, sts })
    }

    /// The keys of the first place that has any, before a role is assumed.
    async fn base(&self) -> Result<Lease<AwsKeys>, AccountError> {
        for origin in &self.origins {
            let found = match origin {
                Origin::Keys(keys) => Some(Lease::without_end(keys.clone(), FILES_AGAIN)),
                Origin::Profile(profile) => profile.keys(self).await?,
                Origin::WebIdentity(identity) => Some(self.sts.assume_with_web_identity(identity).await?),
                Origin::Container(container) => Some(container.keys().await?),
                Origin::Instance(instance) => Some(instance.keys().await?),
            };
            if let Some(lease) = found {
                return Ok(lease);
            }
        }
        Err(AccountError("no keys anywhere: neither configured nor in the environment".to_owned()))
    }
}

impl Source for AwsAccount {
    type Credential = AwsKeys;

    const NAME: &'static str = "AWS";

    fn fixed(&self) -> Option<AwsKeys> {
        match (self.origins.first(), &self.role) {
            (Some(Origin::Keys(keys)), None) => Some(keys.clone()),
            _ => None,
        }
    }

    async fn fetch(&self) -> Result<Lease<AwsKeys>, AccountError> {
        let base = self.base().await?;
        match &self.role {
            None => Ok(base),
            Some(role) => self.sts.assume(role, &base.into_credential()).await,
        }
    }
}

/// Keys of which at least one half is configured; the environment may know the other. Its session token belongs to
/// its own keys.
fn configured_keys(settings: &AwsSettings, variable: Variables<'_>) -> Result<AwsKeys, AwsSettingsError> {
    let half = |configured: &Option<Secret>, name: &str| {
        configured.clone().or_else(|| variable(name).map(Secret::new))
    };
    let id = half(&settings.key_id, "AWS_ACCESS_KEY_ID").ok_or(AwsSettingsError::NoKeyId)?;
    let secret = half(&settings.secret_key, "AWS_SECRET_ACCESS_KEY").ok_or(AwsSettingsError::NoSecretKey)?;
    Ok(AwsKeys::new(id.expose(), secret.expose(), None))
}

/// What the environment says of AWS.
struct Environment<'a> {
    variable: Variables<'a>,
}

impl Environment<'_> {
    /// Where keys may be, in the order of AWS's SDKs.
    fn origins(&self) -> Vec<Origin> {
        let variable = self.variable;
        let keys = self.keys().map(Origin::Keys);
        // Keys are final: nothing behind them would be asked.
        if let Some(keys) = keys {
            return vec![keys];
        }
        let profile = Profile::new(variable).map(Origin::Profile);
        let identity = WebIdentity::new(variable).map(Origin::WebIdentity);
        let container = self.container().map(Origin::Container);
        let instance = self.instance().map(Origin::Instance);
        let last = container.or(instance);
        [profile, identity, last].into_iter().flatten().collect()
    }

    fn keys(&self) -> Option<AwsKeys> {
        let variable = self.variable;
        let (id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        Some(AwsKeys::new(&id, &secret, variable("AWS_SESSION_TOKEN").as_deref()))
    }

    fn container(&self) -> Option<Container> {
        let variable = self.variable;
        let relative =
            variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| Container::relative(&path));
        let url = relative.or_else(|| variable("AWS_CONTAINER_CREDENTIALS_FULL_URI"))?;
        let file = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").map(PathBuf::from);
        let token = || variable("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new);
        let authorization = file.map(Authorization::File).or_else(|| token().map(Authorization::Token));
        Some(Container { url, authorization })
    }

    fn instance(&self) -> Option<Instance> {
        let variable = self.variable;
        if variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return None;
        }
        let is_ipv6 = || {
            variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")
                .is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"))
        };
        let own = || if is_ipv6() { "http://[fd00:ec2::254]" } else { "http://169.254.169.254" }.to_owned();
        let endpoint = variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(own);
        Some(Instance { endpoint: endpoint.trim_end_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Origin {
        fn name(&self) -> &'static str {
            match self {
                Self::Keys(_) => "keys",
                Self::Profile(_) => "profile",
                Self::WebIdentity(_) => "web identity",
                Self::Container(_) => "container",
                Self::Instance(_) => "instance",
            }
        }
    }

    fn origins(settings: &AwsSettings, variables: &str) -> Result<Vec<&'static str>, AwsSettingsError> {
        let variable = |name: &str| {
            let all = variables.split(' ').filter_map(|pair| pair.split_once('='));
            all.into_iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
        };
        let account = AwsAccount::new(settings, &variable)?;
        Ok(account.origins.iter().map(Origin::name).collect())
    }

    #[test]
    fn places_in_order() {
        let off = "AWS_EC2_METADATA_DISABLED=true";
        for (variables, expected) in [
            ("", Ok(vec!["instance"])),
            ("HOME=/h", Ok(vec!["profile", "instance"])),
            ("HOME=/h AWS_ACCESS_KEY_ID=i AWS_SECRET_ACCESS_KEY=s", Ok(vec!["keys"])),
            ("AWS_ACCESS_KEY_ID=i", Ok(vec!["instance"])),
            (
                "HOME=/h AWS_WEB_IDENTITY_TOKEN_FILE=/t AWS_ROLE_ARN=r",
                Ok(vec!["profile", "web identity", "instance"]),
            ),
            ("AWS_WEB_IDENTITY_TOKEN_FILE=/t", Ok(vec!["instance"])),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/c", Ok(vec!["container"])),
            ("AWS_SHARED_CREDENTIALS_FILE=/f AWS_EC2_METADATA_DISABLED=TRUE", Ok(vec!["profile"])),
            (off, Err(AwsSettingsError::Nowhere)),
        ] {
            assert_eq!(origins(&AwsSettings::default(), variables), expected, "{variables}");
        }
    }

    #[test]
    fn configured_keys_stand_for_all() {
        let secret = |text: &str| Some(Secret::new(text));
        let both = AwsSettings { key_id: secret("i"), secret_key: secret("s"), ..AwsSettings::default() };
        let environment = "AWS_ACCESS_KEY_ID=e AWS_SECRET_ACCESS_KEY=e AWS_SESSION_TOKEN=e";
        let account = AwsAccount::new(&both, &|_| Some(environment.to_owned())).unwrap_err();
        assert_eq!(account, AwsSettingsError::StsEndpoint, "an endpoint of the environment is no address");
        assert_eq!(origins(&both, environment), Ok(vec!["keys"]));
        let half = AwsSettings { secret_key: None, ..both.clone() };
        assert_eq!(origins(&half, ""), Err(AwsSettingsError::NoSecretKey));
        assert_eq!(origins(&half, environment), Ok(vec!["keys"]));
        let half = AwsSettings { key_id: None, ..both.clone() };
        assert_eq!(origins(&half, ""), Err(AwsSettingsError::NoKeyId));
        let account = AwsAccount::new(&both, &|_| None).unwrap();
        let keys = account.fixed().unwrap();
        assert_eq!((&*keys.id, keys.secret.expose(), keys.token), ("i", "s", None));
        let role = AwsSettings { role_arn: Some("r".to_owned()), ..both };
        assert!(AwsAccount::new(&role, &|_| None).unwrap().fixed().is_none());
    }

    #[test]
    fn metadata_addresses() {
        for (variables, expected) in [
            ("", "http://169.254.169.254"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6", "http://[fd00:ec2::254]"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT=http://a:1/", "http://a:1"),
        ] {
            let variable = |name: &str| {
                variables
                    .split_once('=')
                    .filter(|(other, _)| *other == name)
                    .map(|(_, value)| value.to_owned())
            };
            assert_eq!(Environment { variable: &variable }.instance().unwrap().endpoint, expected);
        }
    }
}
