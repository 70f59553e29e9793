//! Who the gateway is to a cloud: keys and tokens that are fetched, held, and renewed ahead of their end.
//!
//! An account says where its credential comes from ([`aws`], [`azure`], [`gcp`]: the sources their own SDKs know,
//! found by the same variables of the environment); [`renewed`] holds what came. Our own chain over the gateway's
//! HTTP client, since AWS's SDK alone would add 42 crates and know neither Azure nor Google.

pub mod aws;
pub mod azure;
pub mod fetch;
pub mod gcp;
pub mod oauth;
pub mod renewed;

use std::sync::Arc;

use aws::{AwsAccount, AwsKeys};
use azure::AzureAccount;
use gcp::GcpAccount;
use oauth::Bearer;
use renewed::Renewed;

/// What the client is told (status 500) where a credential cannot be had; the error log has the cause (Kong 3.11).
pub const FAILED: &str = "LLM request failed before proxying";

/// Why a credential cannot be had. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AccountError(pub String);

impl AccountError {
    /// The same, with what was being done.
    pub(crate) fn during(self, what: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {}", self.0))
    }
}

/// Reads a variable of the environment; `None` for one that is empty.
pub type Variables<'a> = &'a (dyn Fn(&str) -> Option<String> + Sync);

/// The process's environment.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A file that holds a token or key; without the blanks around it.
fn read_file(path: &std::path::Path) -> Result<String, AccountError> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| AccountError(format!("{}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(AccountError(format!("{} is empty", path.display()))),
        text => Ok(text.to_owned()),
    }
}

/// An account of a cloud.
pub enum Account {
    /// Signs requests.
    Aws(Arc<Renewed<AwsAccount>>),
    /// Shows a token of Entra ID.
    Azure(Arc<Renewed<AzureAccount>>),
    /// Shows a token of Google.
    Gcp(Arc<Renewed<GcpAccount>>),
}

/// What proves an account.
pub enum Proof {
    /// Keys to sign with.
    Aws(Arc<AwsKeys>),
    /// A token to show.
    Bearer(Arc<Bearer>),
}

impl Account {
    /// What is held and valid; a new one is fetched in the background where the time has come. `None` where
    /// [`Account::wait`] has to be waited for.
    pub fn held(&self) -> Option<Proof> {
        match self {
            Self::Aws(keys) => keys.held().map(Proof::Aws),
            Self::Azure(token) => token.held().map(Proof::Bearer),
            Self::Gcp(token) => token.held().map(Proof::Bearer),
        }
    }

    /// What is held, else what comes.
    ///
    /// # Errors
    /// Why it cannot be had; the error log has been told.
    pub async fn wait(&self) -> Result<Proof, AccountError> {
        Ok(match self {
            Self::Aws(keys) => Proof::Aws(keys.wait().await?),
            Self::Azure(token) => Proof::Bearer(token.wait().await?),
            Self::Gcp(token) => Proof::Bearer(token.wait().await?),
        })
    }
}
