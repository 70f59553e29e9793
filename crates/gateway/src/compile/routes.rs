//! Routes.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet, Vector};
use tollgate_http::StatusCode;
use tollgate_model::entity;
use uuid::Uuid;

use super::{Change, Compilation, CompileError, read, second};
use crate::router::{RouteGroups, RouteRule};
use crate::snapshot::{Protocols, Route};

/// The routes, served or not.
#[derive(Clone, Default)]
pub(super) struct Routes {
    by_id: OrdMap<Uuid, Part>,
    /// Services and their routes.
    pub(super) of_services: OrdSet<(Uuid, Uuid)>,
    /// Numbers that no route has.
    free: Vector<usize>,
}

#[derive(Clone)]
struct Part {
    /// The route's place in the snapshot, by which the router knows it.
    number: usize,
    groups: Arc<RouteGroups>,
    in_router: bool,
    service: Option<Uuid>,
    /// As it was compiled last.
    route: Arc<Route>,
}

impl Routes {
    pub(super) fn of_workspace(&self, workspace: Uuid) -> impl Iterator<Item = Uuid> {
        let here = self.by_id.iter().filter(move |(_, part)| part.route.workspace == workspace);
        here.map(|(id, _)| *id)
    }
}

impl Compilation<'_> {
    pub(super) fn take_route(&mut self, change: &Change<'_>) -> Result<(), CompileError> {
        let id = change.id;
        let read = read::<entity::Route>(change)?;
        let before = self.next.parts.routes.by_id.get(&id).cloned();
        if let Some(before) = &before {
            if before.in_router {
                self.next.router.remove(&before.groups);
            }
            if let Some(service) = before.service {
                self.parts().routes.of_services.remove(&(service, id));
            }
        }
        let Some(read) = read else {
            if let Some(before) = before {
                self.next.routes.set(before.number, None);
                self.parts().routes.by_id.remove(&id);
                self.parts().routes.free.push_back(before.number);
            }
            return Ok(());
        };
        let free = || self.next.parts.routes.free.back().copied();
        let number =
            before.as_ref().map(|before| before.number).or_else(free).unwrap_or(self.next.routes.len());
        let entity = read.entity;
        let rule = RouteRule {
            route: number,
            created_at: entity.created_at.unwrap_or_default(),
            id,
            methods: entity.methods.map(|set| set.0).unwrap_or_default(),
            hosts: entity.hosts.unwrap_or_default(),
            paths: entity.paths.unwrap_or_default(),
            headers: entity.headers.unwrap_or_default(),
            snis: entity.snis.map(|set| set.0).unwrap_or_default(),
            regex_priority: entity.regex_priority.unwrap_or_default(),
        };
        let groups = RouteGroups::new(&rule, before.as_ref().map(|before| &*before.groups))
            .map_err(|error| CompileError::Entity { kind: change.kind, id, message: error.to_string() })?;
        let route = Route {
            id,
            name: entity.name.map(Arc::from),
            workspace: read.workspace,
            protocols: Protocols::new(&entity.protocols),
            https_redirect_status_code: StatusCode::from_u16(entity.https_redirect_status_code)
                .unwrap_or(StatusCode::UPGRADE_REQUIRED),
            strip_path: entity.strip_path,
            // Kong 3.11: `v1` has an effect with the router flavour `traditional` only.
            path_handling: entity::PathHandling::V0,
            preserve_host: entity.preserve_host,
            request_buffering: entity.request_buffering,
            service: None,
            chain: Arc::default(),
            entity: read.fields,
        };
        let service = entity.service.map(|reference| reference.id);
        if before.is_none() {
            if number == self.next.routes.len() {
                self.next.routes.push_back(None);
            } else {
                self.parts().routes.free.pop_back();
            }
        }
        let routes = &mut self.parts().routes;
        if let Some(service) = service {
            routes.of_services.insert((service, id));
        }
        let part =
            Part { number, groups: Arc::new(groups), in_router: false, service, route: Arc::new(route) };
        routes.by_id.insert(id, part);
        self.marks.chains.insert(id);
        Ok(())
    }

    pub(super) fn compile_routes(&mut self) {
        let marks = &mut self.marks;
        let routes = &self.next.parts.routes;
        for service in &marks.chains_of_services {
            marks.chains.extend(second(&routes.of_services, *service));
        }
        for workspace in &marks.chains_of_workspaces {
            marks.chains.extend(routes.of_workspace(*workspace));
        }
        let mut marked = std::mem::take(&mut marks.routes);
        marked.extend(&marks.chains);
        for id in marked {
            let Some(part) = self.next.parts.routes.by_id.get(&id) else { continue };
            let service = part.service.map(|service| self.next.parts.services.compiled(service).cloned());
            // A disabled service's routes are as if they were not there (Kong 3.11).
            let is_served = part.route.protocols.is_served() && !matches!(service, Some(None));
            let mut part = part.clone();
            let chain = match self.marks.chains.contains(&id) {
                true => Arc::new(self.next.parts.plugins.chain(part.route.workspace, Some(id), part.service)),
                false => Arc::clone(&part.route.chain),
            };
            part.route = Arc::new(Route { service: service.flatten(), chain, ..(*part.route).clone() });
            match (is_served, part.in_router) {
                (true, false) => self.next.router.add(&part.groups),
                (false, true) => self.next.router.remove(&part.groups),
                _ => {}
            }
            part.in_router = is_served;
            self.next.routes.set(part.number, is_served.then(|| Arc::clone(&part.route)));
            self.parts().routes.by_id.insert(id, part);
        }
    }
}
