//! Requests signed for AWS.

use std::time::SystemTime;

use tollgate_gateway::destination::{Destination, Host};
use tollgate_gateway::{BuildError, Exchange};
use tollgate_llm::Provider;
use tollgate_llm::sigv4::{Signer, ToSign};
use tollgate_llm::template::Template;

use super::config::{Auth, Options};
use super::render;

/// Fields of a signature; the client's own must not reach AWS beside them.
pub(super) const FIELDS: [&str; 4] =
    ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"];

/// An account in a region.
pub(super) struct Aws {
    signer: Signer,
    region: Template,
}

/// The region: the configured one, else the environment's (Kong 3.11: `AWS_REGION`, then `AWS_DEFAULT_REGION`).
pub(super) fn region(options: &Options) -> Option<String> {
    let configured = options.bedrock.as_ref().and_then(|bedrock| bedrock.aws_region.clone());
    configured.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Aws {
    /// The account that is configured, or the environment's; `None` for a provider that wants no signature.
    ///
    /// # Errors
    /// A region or a key that is nowhere.
    pub(super) fn of(
        provider: &dyn Provider,
        auth: &Auth,
        options: &Options,
    ) -> Result<Option<Self>, BuildError> {
        if !provider.wants_signature() {
            return Ok(None);
        }
        let failed =
            |field: &str, message: &str| BuildError { field: field.to_owned(), message: message.to_owned() };
        let region = region(options).ok_or_else(|| {
            let message = "AWS region not specified anywhere: set it, or AWS_REGION of the environment";
            failed("model.options.bedrock.aws_region", message)
        })?;
        let key = |configured: &Option<tollgate_model::Secret>, name: &str| {
            configured.as_ref().map(|secret| secret.expose().to_owned()).or_else(|| variable(name))
        };
        let key_id = key(&auth.aws_access_key_id, "AWS_ACCESS_KEY_ID").ok_or_else(|| {
            let message = "no AWS key anywhere: set it, or AWS_ACCESS_KEY_ID of the environment";
            failed("auth.aws_access_key_id", message)
        })?;
        let secret = key(&auth.aws_secret_access_key, "AWS_SECRET_ACCESS_KEY").ok_or_else(|| {
            let message = "no AWS secret key anywhere: set it, or AWS_SECRET_ACCESS_KEY of the environment";
            failed("auth.aws_secret_access_key", message)
        })?;
        // The environment's token belongs to the environment's keys.
        let token = match auth.aws_access_key_id {
            Some(_) => None,
            None => variable("AWS_SESSION_TOKEN"),
        };
        let signer = Signer::new(&key_id, &secret, token.as_deref());
        Ok(Some(Self { signer, region: Template::new(&region) }))
    }

    /// Signs the request as it is about to be sent to `destination`. The client's query goes: Bedrock knows none.
    ///
    /// # Errors
    /// What the client is told (status 400) where a value is missing.
    pub(super) fn sign(
        &self,
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
        let signed = self.signer.sign(&request, SystemTime::now()).map_err(|error| error.to_string())?;
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
