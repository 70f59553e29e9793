//! Certificates: those that are served, those that are shown to upstreams, and those that vouch for them.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_model::{Kind, Reference, entity};
use uuid::Uuid;

use super::{CompileError, EntitySource, read};
use crate::snapshot::ServedCertificate;

/// Certificates by id.
pub(super) struct Certificates {
    certificates: HashMap<Uuid, entity::Certificate>,
    /// PEM texts of the CA certificates.
    authorities: HashMap<Uuid, String>,
}

impl Certificates {
    pub(super) fn read(source: &dyn EntitySource) -> Result<Self, CompileError> {
        let certificates = read::<entity::Certificate>(source, Kind::Certificate)?;
        let authorities = read::<entity::CaCertificate>(source, Kind::CaCertificate)?;
        Ok(Self {
            certificates: certificates.into_iter().map(|read| (read.id, read.entity)).collect(),
            authorities: authorities.into_iter().map(|read| (read.id, read.entity.cert)).collect(),
        })
    }

    /// Chain and key that a reference names.
    pub(super) fn shown(&self, reference: Option<&Reference>) -> Option<(&str, &str)> {
        let certificate = self.certificates.get(&reference?.id)?;
        Some((certificate.cert.as_str(), certificate.key.expose()))
    }

    /// The CA certificates with these ids.
    pub(super) fn authorities<'a>(&'a self, ids: &'a [Uuid]) -> impl Iterator<Item = &'a str> {
        ids.iter().filter_map(|id| self.authorities.get(id).map(String::as_str))
    }

    /// Certificates with the server names they are served for.
    pub(super) fn served(&self, source: &dyn EntitySource) -> Result<Vec<ServedCertificate>, CompileError> {
        let mut names: HashMap<Uuid, Vec<Box<str>>> = HashMap::new();
        for sni in read::<entity::Sni>(source, Kind::Sni)? {
            names.entry(sni.entity.certificate.id).or_default().push(sni.entity.name.into());
        }
        let mut served = Vec::new();
        for (id, names) in names {
            let Some(certificate) = self.certificates.get(&id) else { continue };
            let mut pairs = vec![(Arc::from(certificate.cert.as_str()), certificate.key.clone())];
            if let (Some(cert), Some(key)) = (&certificate.cert_alt, &certificate.key_alt) {
                pairs.push((Arc::from(cert.as_str()), key.clone()));
            }
            served.push(ServedCertificate { names, pairs });
        }
        Ok(served)
    }
}
