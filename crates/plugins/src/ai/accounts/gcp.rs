//! Google Cloud: a token of a service account, of a workload that another identity provider vouches for, or of
//! the machine's own account.

mod external;
mod service_account;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tollgate_model::Secret;

use super::fetch::{Call, is_address};
use super::oauth::{Bearer, read_token};
use super::renewed::{Known, Lease, Source};
use super::{AccountError, Variables, read_file};
use external::External;
use service_account::ServiceAccount;

/// What tokens are for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where a service account without an address of its own gets tokens.
const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";
/// Metadata service of a machine.
const METADATA: &str = "http://metadata.google.internal";
/// Path of the machine's token.
const TOKEN_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";

/// The accounts in use.
pub static ACCOUNTS: Known<GcpAccount> = Known::new();

/// What is configured of an account.
#[derive(Debug, Clone, Default)]
pub struct GcpSettings {
    /// JSON of a service account; else `GCP_SERVICE_ACCOUNT`, else the file `GOOGLE_APPLICATION_CREDENTIALS`.
    pub service_account: Option<Secret>,
    /// Stands in for the machine's token address.
    pub metadata_url: Option<String>,
    /// Stands in for the address of OAuth tokens.
    pub token_url: Option<String>,
}

/// Where an account's tokens come from.
#[derive(Debug, Clone, PartialEq)]
pub struct GcpAccount {
    origin: Origin,
    token_url: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// JSON of a credential.
    Json(Secret),
    /// A file with such JSON; read anew each time.
    File(PathBuf),
    /// The address of the machine's token.
    Machine(String),
}

/// A credential as Google writes it down.
enum Written {
    ServiceAccount(ServiceAccount),
    External(External),
    /// A person's, as `gcloud` leaves it.
    User {
        client_id: String,
        client_secret: Secret,
        refresh_token: Secret,
    },
}

impl GcpAccount {
    /// The account that is configured, or the environment's.
    ///
    /// # Errors
    /// JSON that is no credential, or an address that is none.
    pub fn new(settings: &GcpSettings, variable: Variables<'_>) -> Result<Self, AccountError> {
        for (name, url) in
            [("gcp_metadata_url", &settings.metadata_url), ("gcp_oauth_token_url", &settings.token_url)]
        {
            if url.as_ref().is_some_and(|url| !is_address(url)) {
                return Err(AccountError(format!("{name} is no address such as http://host/path")));
            }
        }
        let json = settings.service_account.clone();
        let origin = match json.or_else(|| variable("GCP_SERVICE_ACCOUNT").map(Secret::new)) {
            Some(json) => {
                Written::read(json.expose())?;
                Origin::Json(json)
            }
            None => match variable("GOOGLE_APPLICATION_CREDENTIALS") {
                Some(path) => Origin::File(path.into()),
                None => Origin::Machine(settings.metadata_url.clone().unwrap_or_else(|| {
                    let host = variable("GCE_METADATA_HOST").map(|host| format!("http://{host}"));
                    host.unwrap_or_else(|| METADATA.to_owned()) + TOKEN_PATH
                })),
            },
        };
        Ok(Self { origin, token_url: settings.token_url.clone() })
    }
}

impl Source for GcpAccount {
    type Credential = Bearer;

    const NAME: &'static str = "GCP";

    async fn fetch(&self) -> Result<Lease<Bearer>, AccountError> {
        let written = match &self.origin {
            Origin::Machine(url) => {
                let call = Call::get(&**url).with("Metadata-Flavor", "Google");
                return read_token(&call.send().await?.json()?);
            }
            Origin::Json(json) => Written::read(json.expose())?,
            Origin::File(path) => Written::read(&read_file(path)?)
                .map_err(|error| error.during("the file that GOOGLE_APPLICATION_CREDENTIALS names"))?,
        };
        let own_url = self.token_url.as_deref();
        match written {
            Written::ServiceAccount(account) => account.token(own_url).await,
            Written::External(external) => external.token(own_url).await,
            Written::User { client_id, client_secret, refresh_token } => {
                let fields = [
                    ("grant_type", "refresh_token"),
                    ("client_id", &client_id),
                    ("client_secret", client_secret.expose()),
                    ("refresh_token", refresh_token.expose()),
                ];
                read_token(&Call::form(own_url.unwrap_or(TOKEN_URL), &fields).send().await?.json()?)
            }
        }
    }
}

/// A member of a credential that must be there.
fn member<'a>(value: &'a Value, name: &str) -> Result<&'a str, AccountError> {
    let text = value.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| AccountError(format!("the credential has no '{name}'")))
}

impl Written {
    fn read(json: &str) -> Result<Self, AccountError> {
        let value: Value =
            serde_json::from_str(json).map_err(|_| AccountError("the credential is not JSON".to_owned()))?;
        match member(&value, "type")? {
            "service_account" => ServiceAccount::read(&value).map(Self::ServiceAccount),
            "external_account" => External::read(&value).map(Self::External),
            "authorized_user" => Ok(Self::User {
                client_id: member(&value, "client_id")?.to_owned(),
                client_secret: Secret::new(member(&value, "client_secret")?),
                refresh_token: Secret::new(member(&value, "refresh_token")?),
            }),
            other => Err(AccountError(format!(
                "the credential's type '{other}' cannot be used; expected service_account, external_account or authorized_user"
            ))),
        }
    }
}

/// How long an assertion is good.
const ASSERTION: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str =
        r#"{"type":"authorized_user","client_id":"c","client_secret":"s","refresh_token":"r"}"#;

    #[test]
    fn origins() {
        let json = || Some(Secret::new(USER));
        for (service_account, metadata_url, variables, expected) in [
            (None, None, vec![], Ok(Origin::Machine(format!("{METADATA}{TOKEN_PATH}")))),
            (
                None,
                None,
                vec![("GCE_METADATA_HOST", "h:1")],
                Ok(Origin::Machine(format!("http://h:1{TOKEN_PATH}"))),
            ),
            (
                None,
                Some("http://own/token"),
                vec![("GCE_METADATA_HOST", "h:1")],
                Ok(Origin::Machine("http://own/token".to_owned())),
            ),
            (
                json(),
                None,
                vec![("GOOGLE_APPLICATION_CREDENTIALS", "/f")],
                Ok(Origin::Json(Secret::new(USER))),
            ),
            (None, None, vec![("GCP_SERVICE_ACCOUNT", USER)], Ok(Origin::Json(Secret::new(USER)))),
            (None, None, vec![("GOOGLE_APPLICATION_CREDENTIALS", "/f")], Ok(Origin::File("/f".into()))),
            (Some(Secret::new("{")), None, vec![], Err("the credential is not JSON")),
            (Some(Secret::new("{}")), None, vec![], Err("the credential has no 'type'")),
            (
                Some(Secret::new(r#"{"type":"authorized_user","client_id":"c"}"#)),
                None,
                vec![],
                Err("the credential has no 'client_secret'"),
            ),
            (
                Some(Secret::new(r#"{"type":"gdch"}"#)),
                None,
                vec![],
                Err(
                    "the credential's type 'gdch' cannot be used; expected service_account, external_account or authorized_user",
                ),
            ),
            (None, Some("own"), vec![], Err("gcp_metadata_url is no address such as http://host/path")),
        ] {
            let variable = |name: &str| {
                variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            };
            let metadata_url = metadata_url.map(str::to_owned);
            let settings = GcpSettings { service_account, metadata_url, token_url: None };
            let origin = GcpAccount::new(&settings, &variable).map(|account| account.origin);
            assert_eq!(origin, expected.map_err(|error: &str| AccountError(error.to_owned())));
        }
    }
}
