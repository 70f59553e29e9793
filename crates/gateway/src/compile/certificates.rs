//! Certificates: those that are served, those that are shown to upstreams, and those that vouch for them.

use std::collections::HashMap;
use std::sync::Arc;

use imbl::OrdMap;
use tollgate_model::{Kind, Reference, entity};
use uuid::Uuid;

use super::{Change, Compilation, CompileError, read};
use crate::snapshot::ServedCertificate;

/// Certificates by id.
#[derive(Clone, Default)]
pub(super) struct Certificates {
    certificates: OrdMap<Uuid, Arc<entity::Certificate>>,
    /// PEM texts of the CA certificates.
    authorities: OrdMap<Uuid, Arc<str>>,
    names: OrdMap<Uuid, Arc<entity::Sni>>,
}

impl Certificates {
    /// Chain and key that a reference names.
    pub(super) fn shown(&self, reference: Option<&Reference>) -> Option<(&str, &str)> {
        let certificate = self.certificates.get(&reference?.id)?;
        Some((certificate.cert.as_str(), certificate.key.expose()))
    }

    /// The CA certificates with these ids.
    pub(super) fn authorities<'a>(&'a self, ids: &'a [Uuid]) -> impl Iterator<Item = &'a str> {
        ids.iter().filter_map(|id| self.authorities.get(id).map(|text| &**text))
    }

    /// Certificates with the server names they are served for.
    pub(super) fn served(&self) -> Vec<ServedCertificate> {
        let mut names: HashMap<Uuid, Vec<Box<str>>> = HashMap::new();
        for (_, sni) in &self.names {
            names.entry(sni.certificate.id).or_default().push(sni.name.as_str().into());
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
        served
    }
}

impl Compilation<'_> {
    pub(super) fn take_certificate(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let id = change.id;
        let known = &mut self.parts().certificates;
        match change.kind {
            Kind::Certificate => match read::<entity::Certificate>(change)? {
                Some(read) => drop(known.certificates.insert(id, Arc::new(read.entity))),
                None => drop(known.certificates.remove(&id)),
            },
            Kind::CaCertificate => match read::<entity::CaCertificate>(change)? {
                Some(read) => drop(known.authorities.insert(id, read.entity.cert.into())),
                None => drop(known.authorities.remove(&id)),
            },
            _ => match read::<entity::Sni>(change)? {
                Some(read) => drop(known.names.insert(id, Arc::new(read.entity))),
                None => drop(known.names.remove(&id)),
            },
        }
        if change.kind != Kind::Sni {
            self.marks.shown.insert(id);
        }
        self.marks.served |= change.kind != Kind::CaCertificate;
        Ok(())
    }
}
