//! Azure: a token of Entra ID for Cognitive Services, of an app with a secret, of a workload, or of the identity
//! that the machine has.

use std::path::PathBuf;

use tollgate_model::Secret;

use super::fetch::{Call, is_address};
use super::oauth::{Bearer, read_token};
use super::renewed::{Known, Lease, Source};
use super::{AccountError, Variables, read_file};

/// What tokens are for.
const RESOURCE: &str = "https://cognitiveservices.azure.com";
/// The same, as the newer endpoint wants it.
const SCOPE: &str = "https://cognitiveservices.azure.com/.default";
/// Entra ID of the public cloud.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// Metadata service of a machine.
const IMDS: &str = "http://169.254.169.254";

/// The accounts in use.
pub static ACCOUNTS: Known<AzureAccount> = Known::new();

/// What is configured of an account; the environment stands in for what is not.
#[derive(Debug, Clone, Default)]
pub struct AzureSettings {
    /// Client id of the app or of the user-assigned identity.
    pub client_id: Option<String>,
    /// Secret of the app.
    pub client_secret: Option<Secret>,
    /// Tenant of the app.
    pub tenant_id: Option<String>,
}

/// Where an account's tokens come from.
#[derive(Debug, Clone, PartialEq)]
pub struct AzureAccount(Origin);

#[derive(Debug, Clone, PartialEq)]
enum Origin {
    /// An app and its secret.
    Secret { url: String, client_id: String, secret: Secret },
    /// A workload (AKS): Entra ID trusts who made the token in the file.
    Federated { url: String, client_id: String, token_file: PathBuf },
    /// An App Service or a Container App.
    AppService { endpoint: String, header: Secret, client_id: Option<String> },
    /// A virtual machine.
    Machine { endpoint: String, client_id: Option<String> },
}

impl AzureAccount {
    /// The account of what is configured and of the environment, in the order of Azure's SDKs: secret, workload,
    /// machine.
    ///
    /// # Errors
    /// What is missing or no address.
    pub fn new(settings: &AzureSettings, variable: Variables<'_>) -> Result<Self, AccountError> {
        let client_id = settings.client_id.clone().or_else(|| variable("AZURE_CLIENT_ID"));
        let tenant = settings.tenant_id.clone().or_else(|| variable("AZURE_TENANT_ID"));
        let secret =
            settings.client_secret.clone().or_else(|| variable("AZURE_CLIENT_SECRET").map(Secret::new));
        let authority = variable("AZURE_AUTHORITY_HOST").unwrap_or_else(|| AUTHORITY.to_owned());
        // The variable may be a bare host.
        let authority = if authority.contains("://") { authority } else { format!("https://{authority}") };
        let authority = authority.trim_end_matches('/');
        if !is_address(authority) {
            return Err(AccountError(
                "AZURE_AUTHORITY_HOST is no address such as https://login.microsoftonline.com".to_owned(),
            ));
        }
        let token_url = |tenant: &str| format!("{authority}/{tenant}/oauth2/v2.0/token");
        let federated = variable("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from);
        let origin = match (client_id, tenant, secret, federated) {
            (Some(client_id), Some(tenant), Some(secret), _) => {
                Origin::Secret { url: token_url(&tenant), client_id, secret }
            }
            (_, _, Some(_), _) if settings.client_secret.is_some() => {
                return Err(AccountError(
                    "azure_client_secret wants azure_client_id and azure_tenant_id beside it".to_owned(),
                ));
            }
            (Some(client_id), Some(tenant), _, Some(token_file)) => {
                Origin::Federated { url: token_url(&tenant), client_id, token_file }
            }
            (client_id, ..) => match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
                (Some(endpoint), Some(header)) => {
                    Origin::AppService { endpoint, header: Secret::new(header), client_id }
                }
                _ => {
                    let endpoint = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
                    let endpoint = endpoint.unwrap_or_else(|| IMDS.to_owned());
                    Origin::Machine { endpoint: endpoint.trim_end_matches('/').to_owned(), client_id }
                }
            },
        };
        Ok(Self(origin))
    }

    fn call(&self) -> Result<Call, AccountError> {
        let of_identity = |endpoint: &str, version: &str, client_id: &Option<String>| {
            let client_id = client_id.as_deref().map(|id| ("client_id", Some(id)));
            let query = [("api-version", Some(version)), ("resource", Some(RESOURCE))];
            Call::get(format!(
                "{endpoint}?{}",
                tollgate_gateway::query::write(query.into_iter().chain(client_id))
            ))
        };
        Ok(match &self.0 {
            Origin::Secret { url, client_id, secret } => Call::form(
                &**url,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_secret", secret.expose()),
                    ("scope", SCOPE),
                ],
            ),
            Origin::Federated { url, client_id, token_file } => Call::form(
                &**url,
                &[
                    ("grant_type", "client_credentials"),
                    ("client_id", client_id),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", &read_file(token_file)?),
                    ("scope", SCOPE),
                ],
            ),
            Origin::AppService { endpoint, header, client_id } => {
                of_identity(endpoint, "2019-08-01", client_id).with("X-IDENTITY-HEADER", header.expose())
            }
            Origin::Machine { endpoint, client_id } => {
                let endpoint = format!("{endpoint}/metadata/identity/oauth2/token");
                of_identity(&endpoint, "2018-02-01", client_id).with("Metadata", "true")
            }
        })
    }
}

impl Source for AzureAccount {
    type Credential = Bearer;

    const NAME: &'static str = "Azure";

    async fn fetch(&self) -> Result<Lease<Bearer>, AccountError> {
        read_token(&self.call()?.send().await?.json()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let secret = || Some(Secret::new("s"));
        let own = |client_id: Option<&str>, client_secret, tenant_id: Option<&str>| AzureSettings {
            client_id: client_id.map(str::to_owned),
            client_secret,
            tenant_id: tenant_id.map(str::to_owned),
        };
        let machine = |endpoint: &str, client_id: Option<&str>| {
            Ok(Origin::Machine { endpoint: endpoint.to_owned(), client_id: client_id.map(str::to_owned) })
        };
        let app = |host: &str, tenant: &str, client_id: &str| {
            let url = format!("{host}/{tenant}/oauth2/v2.0/token");
            Ok(Origin::Secret { url, client_id: client_id.to_owned(), secret: Secret::new("s") })
        };
        for (settings, variables, expected) in [
            (own(None, None, None), "", machine(IMDS, None)),
            (own(Some("c"), None, None), "AZURE_CLIENT_ID=e", machine(IMDS, Some("c"))),
            (own(None, None, None), "AZURE_CLIENT_ID=e", machine(IMDS, Some("e"))),
            (
                own(None, None, None),
                "AZURE_POD_IDENTITY_AUTHORITY_HOST=http://m:1/",
                machine("http://m:1", None),
            ),
            (own(Some("c"), secret(), Some("t")), "", app(AUTHORITY, "t", "c")),
            (own(None, secret(), Some("t")), "AZURE_CLIENT_ID=e", app(AUTHORITY, "t", "e")),
            (
                own(None, None, None),
                "AZURE_CLIENT_ID=e AZURE_CLIENT_SECRET=s AZURE_TENANT_ID=t AZURE_AUTHORITY_HOST=login.microsoftonline.us",
                app("https://login.microsoftonline.us", "t", "e"),
            ),
            (
                own(Some("c"), secret(), None),
                "",
                Err("azure_client_secret wants azure_client_id and azure_tenant_id beside it"),
            ),
            (
                own(None, None, None),
                "AZURE_CLIENT_ID=e AZURE_TENANT_ID=t AZURE_FEDERATED_TOKEN_FILE=/f AZURE_AUTHORITY_HOST=http://a:1/",
                Ok(Origin::Federated {
                    url: "http://a:1/t/oauth2/v2.0/token".to_owned(),
                    client_id: "e".to_owned(),
                    token_file: "/f".into(),
                }),
            ),
            (
                own(None, None, None),
                "IDENTITY_ENDPOINT=http://i/x IDENTITY_HEADER=h",
                Ok(Origin::AppService {
                    endpoint: "http://i/x".to_owned(),
                    header: Secret::new("h"),
                    client_id: None,
                }),
            ),
            (
                own(None, None, None),
                "AZURE_AUTHORITY_HOST=ftp://x",
                Err("AZURE_AUTHORITY_HOST is no address such as https://login.microsoftonline.com"),
            ),
        ] {
            let variable = |name: &str| {
                let mut pairs = variables.split(' ').filter_map(|pair| pair.split_once('='));
                pairs.find(|(other, _)| *other == name).map(|(_, value)| value.to_owned())
            };
            let account = AzureAccount::new(&settings, &variable).map(|account| account.0);
            assert_eq!(
                account,
                expected.map_err(|error: &str| AccountError(error.to_owned())),
                "{variables}"
            );
        }
    }
}
