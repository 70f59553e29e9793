//! A service account: its key signs an assertion that is exchanged for a token.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::sign::SigningKey;
use serde_json::{Value, json};

use super::super::AccountError;
use super::super::fetch::Call;
use super::super::oauth::{Bearer, read_token};
use super::super::renewed::Lease;
use super::{ASSERTION, SCOPE, TOKEN_URL, member};

/// A service account and its key.
pub(super) struct ServiceAccount {
    email: String,
    key: std::sync::Arc<dyn SigningKey>,
    key_id: Option<String>,
    token_uri: String,
}

impl ServiceAccount {
    pub(super) fn read(value: &Value) -> Result<Self, AccountError> {
        let wrong = || AccountError("the credential's 'private_key' is no RSA key in PEM".to_owned());
        let pem = member(value, "private_key")?;
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| wrong())?;
        let key = any_supported_type(&key).map_err(|_| wrong())?;
        key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(wrong)?;
        Ok(Self {
            email: member(value, "client_email")?.to_owned(),
            key,
            key_id: value.get("private_key_id").and_then(Value::as_str).map(str::to_owned),
            token_uri: member(value, "token_uri").unwrap_or(TOKEN_URL).to_owned(),
        })
    }

    /// Exchanges an assertion for a token, at `own_url` where one is configured.
    pub(super) async fn token(&self, own_url: Option<&str>) -> Result<Lease<Bearer>, AccountError> {
        let assertion = self.assertion(SystemTime::now())?;
        let fields =
            [("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", &*assertion)];
        read_token(&Call::form(own_url.unwrap_or(&self.token_uri), &fields).send().await?.json()?)
    }

    /// A signed statement of who asks for what (RFC 7523).
    fn assertion(&self, now: SystemTime) -> Result<String, AccountError> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let Some(id) = &self.key_id {
            header["kid"] = id.as_str().into();
        }
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.token_uri,
            "iat": now,
            "exp": now + ASSERTION.as_secs(),
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let failed = || AccountError("the service account's key cannot sign".to_owned());
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).ok_or_else(failed)?;
        let signature = signer.sign(signed.as_bytes()).map_err(|_| failed())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
