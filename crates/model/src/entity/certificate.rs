//! `certificates`, `snis` and `ca_certificates`

use uuid::Uuid;
use x509_parser::pem::Pem;
use x509_parser::public_key::PublicKey;

use super::rules;
use crate::schema::EntityCheck;
use crate::{Config, Map, Reference, Secret, Set, Value};

/// A certificate and its key.
#[derive(Debug, Clone, Config)]
#[config(checks = [
    EntityCheck::MutuallyRequired(vec!["cert_alt", "key_alt"]),
    EntityCheck::CustomOn { fields: vec!["cert", "key"], run_with_missing_fields: false, check: key_matches },
    EntityCheck::CustomOn {
        fields: vec!["cert_alt", "key_alt"],
        run_with_missing_fields: false,
        check: alternative_key_matches,
    },
    EntityCheck::CustomOn { fields: vec!["cert", "cert_alt"], run_with_missing_fields: false, check: types_differ },
])]
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
    #[config(optional, referenceable, check = certificate)]
    pub cert_alt: Option<String>,
    /// The further chain's private key, in PEM.
    #[config(optional, referenceable, encrypted, check = key)]
    pub key_alt: Option<Secret>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// Server names that are served with it: the exact list, where one is given.
    #[config(transient, optional, each(check = rules::server_name_or_wildcard))]
    pub snis: Option<Vec<String>>,
}

/// A server name that is served with a certificate.
#[derive(Debug, Clone, Config)]
pub struct Sni {
    /// Identifies the name.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// The name; `*` may stand for the first or last label.
    #[config(unique, check = rules::server_name_or_wildcard)]
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
#[config(checks = [
    EntityCheck::CustomOn { fields: vec!["cert"], run_with_missing_fields: false, check: authority },
])]
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
    #[config(check = certificate)]
    pub cert: String,
    /// SHA-256 of the certificate, in hex; worked out from it.
    #[config(unique)]
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

fn pem(fields: &Map<String, Value>, name: &str) -> Vec<Pem> {
    fields.get(name).map(blocks).unwrap_or_default()
}

fn authority(fields: &Map<String, Value>) -> Result<(), String> {
    let blocks = pem(fields, "cert");
    let [pem] = blocks.as_slice() else {
        return Err("please submit only one certificate at a time".into());
    };
    let Ok(parsed) = pem.parse_x509() else { return Ok(()) };
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

fn key_matches(fields: &Map<String, Value>) -> Result<(), String> {
    match belongs(&pem(fields, "cert"), &pem(fields, "key")) {
        Some(false) => Err("certificate does not match key".into()),
        _ => Ok(()),
    }
}

fn alternative_key_matches(fields: &Map<String, Value>) -> Result<(), String> {
    match belongs(&pem(fields, "cert_alt"), &pem(fields, "key_alt")) {
        Some(false) => Err("alternative certificate does not match key".into()),
        _ => Ok(()),
    }
}

/// Whether a key is that of a certificate; `None` where the key does not tell its public half.
///
/// A private key's DER holds the public half as the certificate has it: RSA's modulus, or the point of an
/// elliptic curve where the key has the optional part for it.
fn belongs(certificate: &[Pem], key: &[Pem]) -> Option<bool> {
    let (certificate, key) = (certificate.first()?.parse_x509().ok()?, key.first()?);
    let contains = |part: &[u8]| key.contents.windows(part.len().max(1)).any(|window| window == part);
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(public) => Some(contains(public.modulus)),
        PublicKey::EC(point) => {
            let found = contains(point.data());
            // A point starts with 4 in the part for it; without that part there is nothing to compare.
            (found || key.contents.len() > point.data().len() + MOST_AROUND_A_POINT).then_some(found)
        }
        _ => None,
    }
}

/// Bytes of an elliptic curve's private key in PKCS #8 besides its point: the scalar and what frames it.
const MOST_AROUND_A_POINT: usize = 48;

fn types_differ(fields: &Map<String, Value>) -> Result<(), String> {
    let kind = |name: &str| {
        let blocks = pem(fields, name);
        let parsed = blocks.first()?.parse_x509().ok()?;
        Some(parsed.public_key().algorithm.algorithm.to_id_string())
    };
    match (kind("cert"), kind("cert_alt")) {
        (Some(first), Some(second)) if first == second => Err(
            "certificate and alternative certificate need to have different type (e.g. RSA and ECDSA), the \
             provided certificates were both of the same type"
                .into(),
        ),
        _ => Ok(()),
    }
}
