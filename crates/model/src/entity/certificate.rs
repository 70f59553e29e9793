//! `certificates`, `snis` and `ca_certificates`

use uuid::Uuid;
use x509_parser::pem::Pem;

use super::rules;
use crate::schema::EntityCheck;
use crate::{Config, Reference, Secret, Set, Value};

/// A certificate and its key.
#[derive(Debug, Clone, Config)]
#[config(checks = [EntityCheck::MutuallyRequired(vec!["cert_alt", "key_alt"])])]
pub struct Certificate {
    /// Identifies the certificate.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// The certificate chain, in PEM.
    #[config(referenceable, check = certificate)]
    pub cert: String,
    /// Its private key, in PEM.
    #[config(referenceable, encrypted, check = key)]
    pub key: Secret,
    /// A further chain, of another key type, in PEM.
    #[config(referenceable, check = certificate)]
    pub cert_alt: Option<String>,
    /// The further chain's private key, in PEM.
    #[config(referenceable, encrypted, check = key)]
    pub key_alt: Option<Secret>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}

/// A server name that is served with a certificate.
#[derive(Debug, Clone, Config)]
pub struct Sni {
    /// Identifies the name.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// The name; `*` may stand for the first or last label.
    #[config(unique, check = rules::server_name)]
    pub name: String,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// The certificate it is served with.
    #[config(foreign = crate::Kind::Certificate)]
    pub certificate: Reference,
}

/// A certificate authority to trust.
#[derive(Debug, Clone, Config)]
pub struct CaCertificate {
    /// Identifies the authority.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// One certificate, in PEM.
    #[config(check = authority)]
    pub cert: String,
    /// SHA-256 of the certificate, in hex; worked out from it.
    #[config(auto, unique)]
    pub cert_digest: Option<String>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}

fn blocks(value: &Value) -> Vec<Pem> {
    Pem::iter_from_buffer(value.as_str().unwrap_or_default().as_bytes()).filter_map(Result::ok).collect()
}

fn certificate(value: &Value) -> Result<(), String> {
    let is_certificate = |pem: &Pem| pem.label == "CERTIFICATE" && pem.parse_x509().is_ok();
    match blocks(value) {
        blocks if !blocks.is_empty() && blocks.iter().all(is_certificate) => Ok(()),
        _ => Err("invalid certificate: expected one or more PEM blocks 'CERTIFICATE'".into()),
    }
}

fn key(value: &Value) -> Result<(), String> {
    match blocks(value).as_slice() {
        [pem, ..] if pem.label.ends_with("PRIVATE KEY") => Ok(()),
        _ => Err("invalid key: expected a PEM block 'PRIVATE KEY'".into()),
    }
}

fn authority(value: &Value) -> Result<(), String> {
    let blocks = blocks(value);
    let [pem] = blocks.as_slice() else {
        return Err(match blocks.len() {
            0 => "invalid certificate: expected a PEM block 'CERTIFICATE'".into(),
            _ => "please submit only one certificate at a time".into(),
        });
    };
    let Ok(parsed) = pem.parse_x509() else {
        return Err("invalid certificate: expected a PEM block 'CERTIFICATE'".into());
    };
    if !parsed.validity().is_valid() {
        return Err("certificate expired, \"Not After\" time is in the past".into());
    }
    if !parsed.is_ca() {
        return Err(
            "certificate does not appear to be a CA because it is missing the \"CA\" basic constraint".into(),
        );
    }
    Ok(())
}
