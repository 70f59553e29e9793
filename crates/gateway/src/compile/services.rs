//! Services, and the upstreams they may name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, OrdSet};
use tollgate_http::client::{Timeouts, TlsProfile};
use tollgate_model::{Kind, entity};
use uuid::Uuid;

use super::certificates::Certificates;
use super::{Change, Compilation, CompileError, Compiler, Read, read, second};
use crate::balancer::{BalancedTarget, Balancer, BalancerSettings, Peer};
use crate::destination::{Destination, Host};
use crate::snapshot::Service;

/// A workspace and the name of an upstream in it.
type Name = (Uuid, Box<str>);

/// Upstreams and their targets.
#[derive(Clone, Default)]
pub(super) struct Upstreams {
    by_id: OrdMap<Uuid, Arc<Read<entity::Upstream>>>,
    by_name: OrdMap<Name, Uuid>,
    targets: OrdMap<Uuid, (Uuid, Arc<BalancedTarget>)>,
    /// Upstreams and their targets.
    of_upstreams: OrdSet<(Uuid, Uuid)>,
}

impl Upstreams {
    fn named(&self, name: &Name) -> Option<&Read<entity::Upstream>> {
        self.by_name.get(name).and_then(|id| self.by_id.get(id)).map(|read| &**read)
    }
}

/// The services, enabled or not.
#[derive(Clone, Default)]
pub(super) struct Services {
    by_id: OrdMap<Uuid, Arc<Read<entity::Service>>>,
    /// Hosts, and the services that name them.
    by_host: OrdSet<(Name, Uuid)>,
    compiled: OrdMap<Uuid, Arc<Service>>,
}

impl Services {
    /// A service that is enabled.
    pub(super) fn compiled(&self, id: Uuid) -> Option<&Arc<Service>> {
        self.compiled.get(&id)
    }

    /// Those that show or trust one of these certificates, be it because their upstream says so.
    fn with_certificates<'a>(
        &'a self,
        upstreams: &'a Upstreams,
        certificates: &'a BTreeSet<Uuid>,
    ) -> impl Iterator<Item = Uuid> {
        let concerns = move |read: &Read<entity::Service>| {
            let upstream = upstreams.named(&host_of(read)).and_then(|read| read.entity.client_certificate);
            let shown = read.entity.client_certificate.into_iter().chain(upstream);
            shown.map(|reference| reference.id).any(|id| certificates.contains(&id))
                || read.entity.ca_certificates.iter().flatten().any(|id| certificates.contains(id))
        };
        self.by_id.iter().filter(move |(_, read)| concerns(read)).map(|(id, _)| *id)
    }
}

fn host_of(read: &Read<entity::Service>) -> Name {
    (read.workspace, read.entity.host.as_str().into())
}

impl Compilation<'_> {
    pub(super) fn take_target(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let target = read::<entity::Target>(change)?.and_then(|read| {
            let (host, port) = entity::Target::split(&read.entity.target)?;
            let weight = read.entity.weight.unwrap_or(100).clamp(0, 65_535) as u32;
            Some((read.entity.upstream.id, Arc::new(BalancedTarget { host: host.into(), port, weight })))
        });
        let upstreams = &mut self.parts().upstreams;
        let before = upstreams.targets.remove(&change.id);
        if let Some((upstream, _)) = &before {
            upstreams.of_upstreams.remove(&(*upstream, change.id));
        }
        if let Some(target) = &target {
            upstreams.of_upstreams.insert((target.0, change.id));
            upstreams.targets.insert(change.id, target.clone());
        }
        self.marks.upstreams.extend(before.iter().chain(&target).map(|(upstream, _)| *upstream));
        Ok(())
    }

    pub(super) fn take_upstream(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let read = read::<entity::Upstream>(change)?;
        let upstreams = &mut self.parts().upstreams;
        match read {
            Some(read) => drop(upstreams.by_id.insert(change.id, Arc::new(read))),
            None => drop(upstreams.by_id.remove(&change.id)),
        }
        self.marks.upstreams.insert(change.id);
        Ok(())
    }

    /// An upstream that has not changed keeps its place in the wheel, and what is known of a target stays known.
    pub(super) fn compile_upstreams(&mut self) {
        let marked = std::mem::take(&mut self.marks.upstreams);
        let mut concerned: BTreeSet<Name> = BTreeSet::new();
        // Names are given up before they are taken: two upstreams may have exchanged theirs.
        for id in &marked {
            let before = self.previous.and_then(|previous| previous.parts.upstreams.by_id.get(id));
            let Some(before) = before else { continue };
            let name: Name = (before.workspace, before.entity.name.as_str().into());
            self.parts().upstreams.by_name.remove(&name);
            Arc::make_mut(&mut self.next.upstreams).remove(&name);
            concerned.insert(name);
        }
        for id in marked {
            let Some(read) = self.next.parts.upstreams.by_id.get(&id).cloned() else { continue };
            let name: Name = (read.workspace, read.entity.name.as_str().into());
            let upstreams = &self.next.parts.upstreams;
            let targets: Vec<BalancedTarget> = second(&upstreams.of_upstreams, id)
                .filter_map(|target| upstreams.targets.get(&target))
                .map(|(_, target)| (**target).clone())
                .collect();
            let host_header = read.entity.host_header.as_deref();
            let settings = BalancerSettings::from(&read.entity);
            let old = self.previous.and_then(|previous| previous.upstreams.get(&name));
            let is_same = |old: &Balancer| {
                old.targets() == targets
                    && old.host_header.as_deref() == host_header
                    && *old.settings() == settings
            };
            let balancer = match old.filter(|old| is_same(old)) {
                Some(old) => Arc::clone(old),
                None => {
                    let old = old.map(Arc::as_ref);
                    Arc::new(Balancer::new(&read.entity.name, host_header, settings, targets, old))
                }
            };
            Arc::make_mut(&mut self.next.upstreams).insert(name.clone(), balancer);
            self.parts().upstreams.by_name.insert(name.clone(), id);
            concerned.insert(name);
        }
        let by_host = &self.next.parts.services.by_host;
        for name in concerned {
            let range = (name.clone(), Uuid::nil())..=(name, Uuid::max());
            self.marks.services.extend(by_host.range(range).map(|(_, service)| *service));
        }
    }

    pub(super) fn take_service(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let id = change.id;
        let read = read::<entity::Service>(change)?;
        let services = &mut self.parts().services;
        if let Some(before) = services.by_id.remove(&id) {
            services.by_host.remove(&(host_of(&before), id));
        }
        if let Some(read) = read {
            services.by_host.insert((host_of(&read), id));
            services.by_id.insert(id, Arc::new(read));
        }
        self.marks.services.insert(id);
        Ok(())
    }

    pub(super) fn compile_services(&mut self) -> Result<(), CompileError> {
        let mut marked = std::mem::take(&mut self.marks.services);
        if !self.marks.shown.is_empty() {
            let parts = &self.next.parts;
            marked.extend(parts.services.with_certificates(&parts.upstreams, &self.marks.shown));
        }
        for id in marked {
            let read = self.next.parts.services.by_id.get(&id).filter(|read| read.entity.enabled).cloned();
            match read {
                Some(read) => {
                    let compiled = Arc::new(self.service(id, &read)?);
                    self.parts().services.compiled.insert(id, compiled);
                }
                None => drop(self.parts().services.compiled.remove(&id)),
            }
            self.marks.routes.extend(second(&self.next.parts.routes.of_services, id));
        }
        Ok(())
    }

    fn service(&self, id: Uuid, read: &Read<entity::Service>) -> Result<Service, CompileError> {
        let service = &read.entity;
        let name = host_of(read);
        let parts = &self.next.parts;
        let shown = match &service.client_certificate {
            Some(own) => Some(own),
            None => parts.upstreams.named(&name).and_then(|read| read.entity.client_certificate.as_ref()),
        };
        let shown = parts.certificates.shown(shown).or(self.compiler.own_certificate());
        let tls = self.compiler.tls_of(service, &parts.certificates, shown);
        let tls = tls.map_err(|message| CompileError::Entity { kind: Kind::Service, id, message })?;
        let host = match self.next.upstreams.get(&name) {
            Some(balancer) => Host::Upstream(Arc::clone(balancer)),
            None => Host::One(Arc::new(Peer::new(&service.host, service.port, None))),
        };
        let http2 = matches!(service.protocol.as_str(), "grpc" | "grpcs");
        let milliseconds = |value: Option<i64>| Duration::from_millis(value.unwrap_or(60_000).max(1) as u64);
        Ok(Service {
            id,
            name: service.name.as_deref().map(Box::from),
            path: service.path.as_deref().map(Box::from),
            destination: Arc::new(Destination { host, tls, http2 }),
            timeouts: Timeouts {
                connect: milliseconds(service.connect_timeout),
                write: milliseconds(service.write_timeout),
                read: milliseconds(service.read_timeout),
            },
            retries: service.retries.unwrap_or(5).max(0) as u32,
            entity: Arc::clone(&read.fields),
        })
    }
}

impl Compiler {
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
