//! Routes.

use std::collections::HashMap;
use std::sync::Arc;

use tollgate_http::StatusCode;
use tollgate_model::{Kind, entity};
use uuid::Uuid;

use super::{CompileError, EntitySource, read};
use crate::chain::Plugins;
use crate::router::{RouteRule, Router};
use crate::snapshot::{Protocols, Route, Service};

pub(super) fn compile(
    source: &dyn EntitySource,
    services: &HashMap<Uuid, Arc<Service>>,
    plugins: &HashMap<Uuid, Plugins>,
    previous: Option<&Router>,
) -> Result<(Router, Vec<Arc<Route>>), CompileError> {
    let (mut rules, mut routes) = (Vec::new(), Vec::new());
    for read in read::<entity::Route>(source, Kind::Route)? {
        let route = read.entity;
        let protocols = Protocols::new(&route.protocols);
        if !protocols.is_served() {
            continue;
        }
        let service = match route.service {
            // A disabled service's routes are as if they were not there (Kong 3.11).
            Some(reference) => match services.get(&reference.id) {
                Some(service) => Some(Arc::clone(service)),
                None => continue,
            },
            None => None,
        };
        rules.push(RouteRule {
            route: routes.len(),
            created_at: route.created_at.unwrap_or_default(),
            methods: route.methods.map(|set| set.0).unwrap_or_default(),
            hosts: route.hosts.unwrap_or_default(),
            paths: route.paths.unwrap_or_default(),
            headers: route.headers.unwrap_or_default(),
            snis: route.snis.map(|set| set.0).unwrap_or_default(),
            regex_priority: route.regex_priority.unwrap_or_default(),
        });
        let service_id = service.as_ref().map(|service| service.id);
        routes.push(Arc::new(Route {
            id: read.id,
            name: route.name.map(Box::from),
            workspace: read.workspace,
            protocols,
            https_redirect_status_code: StatusCode::from_u16(route.https_redirect_status_code)
                .unwrap_or(StatusCode::UPGRADE_REQUIRED),
            strip_path: route.strip_path,
            // Kong 3.11: `v1` has an effect with the router flavour `traditional` only.
            path_handling: entity::PathHandling::V0,
            preserve_host: route.preserve_host,
            request_buffering: route.request_buffering,
            chain: plugins
                .get(&read.workspace)
                .map(|plugins| plugins.chain(Some(read.id), service_id))
                .unwrap_or_default(),
            service,
            entity: Arc::new(read.fields),
        }));
    }
    match Router::new(&rules, previous) {
        Ok(router) => Ok((router, routes)),
        Err(error) => {
            let id = routes.get(error.route).map_or(Uuid::nil(), |route: &Arc<Route>| route.id);
            Err(CompileError::Entity { kind: Kind::Route, id, message: error.to_string() })
        }
    }
}
