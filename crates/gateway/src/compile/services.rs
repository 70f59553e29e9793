//! Services, and the upstreams they may name.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tollgate_http::client::{Timeouts, TlsProfile};
use tollgate_model::{Kind, Reference, entity};
use uuid::Uuid;

use super::certificates::Certificates;
use super::{CompileError, Compiler, EntitySource, read};
use crate::balancer::{BalancedTarget, Balancer, BalancerSettings, Peer};
use crate::destination::{Destination, Host};
use crate::snapshot::{Service, Snapshot};

/// Upstreams by workspace and name.
#[derive(Default)]
pub(super) struct Upstreams {
    pub(super) balancers: HashMap<(Uuid, Box<str>), Arc<Balancer>>,
    /// Certificates that targets are shown, where the service has none of its own.
    client_certificates: HashMap<(Uuid, Box<str>), Reference>,
}

/// Upstreams with their targets; one that has not changed keeps its place in the wheel, and what is known of a
/// target stays known.
pub(super) fn read_upstreams(
    source: &dyn EntitySource,
    previous: Option<&Snapshot>,
) -> Result<Upstreams, CompileError> {
    let mut targets: HashMap<Uuid, Vec<BalancedTarget>> = HashMap::new();
    for target in read::<entity::Target>(source, Kind::Target)? {
        let Some((host, port)) = entity::Target::split(&target.entity.target) else { continue };
        let weight = target.entity.weight.unwrap_or(100).clamp(0, 65_535) as u32;
        targets.entry(target.entity.upstream.id).or_default().push(BalancedTarget {
            host: host.into(),
            port,
            weight,
        });
    }
    let mut upstreams = Upstreams::default();
    for upstream in read::<entity::Upstream>(source, Kind::Upstream)? {
        let targets = targets.remove(&upstream.id).unwrap_or_default();
        let key = (upstream.workspace, Box::from(upstream.entity.name.as_str()));
        let host_header = upstream.entity.host_header.as_deref();
        let settings = BalancerSettings::from(&upstream.entity);
        let old = previous.and_then(|previous| previous.upstreams.get(&key));
        let is_same = |old: &Balancer| {
            old.targets() == targets
                && old.host_header.as_deref() == host_header
                && *old.settings() == settings
        };
        let balancer = match old.filter(|old| is_same(old)) {
            Some(old) => Arc::clone(old),
            None => {
                let old = old.map(Arc::as_ref);
                Arc::new(Balancer::new(&upstream.entity.name, host_header, settings, targets, old))
            }
        };
        if let Some(reference) = upstream.entity.client_certificate {
            upstreams.client_certificates.insert(key.clone(), reference);
        }
        upstreams.balancers.insert(key, balancer);
    }
    Ok(upstreams)
}

impl Compiler {
    pub(super) fn read_services(
        &self,
        source: &dyn EntitySource,
        certificates: &Certificates,
        upstreams: &Upstreams,
    ) -> Result<HashMap<Uuid, Arc<Service>>, CompileError> {
        let mut services = HashMap::new();
        for read in read::<entity::Service>(source, Kind::Service)? {
            let service = read.entity;
            if !service.enabled {
                continue;
            }
            let name = (read.workspace, Box::from(service.host.as_str()));
            let shown = match &service.client_certificate {
                Some(own) => Some(own),
                None => upstreams.client_certificates.get(&name),
            };
            let tls = self
                .tls_of(&service, certificates, certificates.shown(shown).or(self.own_certificate()))
                .map_err(|error| CompileError::Entity { kind: Kind::Service, id: read.id, message: error })?;
            let host = match upstreams.balancers.get(&name) {
                Some(balancer) => Host::Upstream(Arc::clone(balancer)),
                None => Host::One(Arc::new(Peer::new(&service.host, service.port, None))),
            };
            let http2 = matches!(service.protocol.as_str(), "grpc" | "grpcs");
            let destination = Destination { host, tls, http2 };
            let milliseconds =
                |value: Option<i64>| Duration::from_millis(value.unwrap_or(60_000).max(1) as u64);
            let compiled = Service {
                id: read.id,
                name: service.name.map(Box::from),
                path: service.path.map(Box::from),
                destination: Arc::new(destination),
                timeouts: Timeouts {
                    connect: milliseconds(service.connect_timeout),
                    write: milliseconds(service.write_timeout),
                    read: milliseconds(service.read_timeout),
                },
                retries: service.retries.unwrap_or(5).max(0) as u32,
                entity: Arc::new(read.fields),
            };
            services.insert(read.id, Arc::new(compiled));
        }
        Ok(services)
    }

    fn own_certificate(&self) -> Option<(&str, &str)> {
        self.client_certificate.as_ref().map(|(chain, key)| (chain.as_str(), key.expose()))
    }

    fn tls_of(
        &self,
        service: &entity::Service,
        certificates: &Certificates,
        shown: Option<(&str, &str)>,
    ) -> Result<Option<Arc<TlsProfile>>, String> {
        if !matches!(service.protocol.as_str(), "https" | "grpcs" | "tls") {
            return Ok(None);
        }
        let verify = service.tls_verify.unwrap_or(self.verify_upstreams);
        let trusted = service.ca_certificates.as_deref().unwrap_or_default();
        let trusted: Vec<&str> = certificates.authorities(trusted).collect();
        TlsProfile::new(verify, &trusted, shown)
            .map(|profile| Some(Arc::new(profile)))
            .map_err(|error| error.to_string())
    }
}
