//! How the targets of an upstream fare, as the data plane sees them.

use std::sync::Arc;

use tollgate_gateway::balancer::{Balancer, Health};
use tollgate_http::StatusCode;
use tollgate_model::{Kind, Value, json};
use tollgate_store::Stored;
use uuid::Uuid;

use crate::answer::{Answer, Failure, not_found, nothing, ok};
use crate::{Admin, Call, list};

/// The data plane's upstreams.
pub trait Upstreams: Send + Sync {
    /// The balancer of an upstream.
    fn balancer(&self, workspace: Uuid, name: &str) -> Option<Arc<Balancer>>;
}

impl Admin {
    fn balancer(&self, upstream: &Stored) -> Option<Arc<Balancer>> {
        let name = upstream.fields.get("name").and_then(Value::as_str)?;
        self.upstreams.balancer(upstream.workspace, name)
    }

    /// `GET /upstreams/{upstream}/health` (Kong 3.11).
    pub(crate) fn upstream_health(&self, call: &Call, upstream: &str) -> Answer {
        let upstream = self.find(call, Kind::Upstream, upstream)?.ok_or_else(not_found)?;
        let balancer = self.balancer(&upstream);
        if call.query("balancer_health") == Some("1") {
            let data = balancer.map(|balancer| balancer_health(&upstream, &balancer));
            return ok(json!({"data": data, "next": null, "node_id": self.facts.node_id}));
        }
        let show = |mut target: Value| {
            let Some(balancer) = &balancer else { return Ok(target) };
            let address = target.get("target").and_then(Value::as_str).unwrap_or_default();
            let place = balancer.targets().iter().position(|there| is_at(&there.host, there.port, address));
            let (health, data) = match place {
                Some(place) => (target_health(balancer, place), target_status(balancer, place)),
                None => ("DNS_ERROR", Value::Null),
            };
            if let Some(target) = target.as_object_mut() {
                target.insert("health".into(), health.into());
                target.insert("data".into(), data);
            }
            Ok(target)
        };
        let mut answer = self.targets(call, &upstream, list::page_size(call)?, show)?;
        if let Some(Value::Object(body)) = &mut answer.body {
            body.insert("node_id".into(), self.facts.node_id.clone().into());
        }
        Ok(answer)
    }

    /// Makes a target healthy or unhealthy from now on.
    pub(crate) fn set_target_health(
        &self,
        call: &Call,
        upstream: &str,
        target: &str,
        healthy: bool,
    ) -> Answer {
        let upstream = self.find(call, Kind::Upstream, upstream)?.ok_or_else(not_found)?;
        let target = self.find_target(&upstream, target)?.ok_or_else(not_found)?;
        let address = target.fields.get("target").and_then(Value::as_str).unwrap_or_default();
        let balancer = self.balancer(&upstream);
        let checked = balancer.as_ref().and_then(|balancer| {
            let place =
                balancer.targets().iter().position(|there| is_at(&there.host, there.port, address))?;
            (balancer.health(place) != Some(Health::Off)).then_some((balancer, place))
        });
        match checked {
            Some((balancer, place)) => {
                balancer.set_healthy(place, healthy);
                nothing()
            }
            None => {
                let name = upstream.fields.get("name").and_then(Value::as_str).unwrap_or_default();
                let message = format!("no healthchecker found for {name}");
                Err(Failure::message(StatusCode::BAD_REQUEST, &message))
            }
        }
    }
}

fn is_at(host: &str, port: u16, address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(there, there_port)| {
        there.trim_matches(['[', ']']) == host.trim_matches(['[', ']']) && there_port.parse() == Ok(port)
    })
}

fn target_health(balancer: &Balancer, place: usize) -> &'static str {
    let idle = balancer.targets().get(place).is_none_or(|target| target.weight == 0);
    match balancer.health(place) {
        _ if idle => "HEALTHCHECKS_OFF",
        Some(Health::Healthy) => "HEALTHY",
        Some(Health::Unhealthy) => "UNHEALTHY",
        Some(Health::Off) | None => "HEALTHCHECKS_OFF",
    }
}

/// A target with its weight and address, as Kong's balancer shows it; a name counts as one address.
fn target_status(balancer: &Balancer, place: usize) -> Value {
    let Some(target) = balancer.targets().get(place) else { return Value::Null };
    let health = target_health(balancer, place);
    let unavailable = if health == "UNHEALTHY" { target.weight } else { 0 };
    let dns = if target.host.contains(':') { "AAAA" } else { "A" };
    json!({
        "host": target.host,
        "port": target.port,
        "dns": dns,
        "nodeWeight": target.weight,
        "weight": {
            "total": target.weight, "unavailable": unavailable, "available": target.weight - unavailable
        },
        "addresses": [
            {"ip": target.host, "port": target.port, "weight": target.weight, "health": health}
        ],
    })
}

/// An upstream as a whole.
fn balancer_health(upstream: &Stored, balancer: &Balancer) -> Value {
    let places = 0..balancer.targets().len();
    let hosts: Vec<Value> = places.clone().map(|place| target_status(balancer, place)).collect();
    let sum = |name: &str| -> u64 { hosts.iter().filter_map(|host| host["weight"][name].as_u64()).sum() };
    let (total, available) = (sum("total"), sum("available"));
    let threshold = balancer.settings().threshold;
    let healthy = available > 0 && (threshold == 0.0 || available as f64 * 100.0 > threshold * total as f64);
    let state = if healthy { "HEALTHY" } else { "UNHEALTHY" };
    let checked = places.into_iter().any(|place| !matches!(balancer.health(place), Some(Health::Off) | None));
    json!({
        "id": upstream.id.to_string(),
        "health": if checked { state } else { "HEALTHCHECKS_OFF" },
        "balancer_health": state,
        "details": {
            "healthy": healthy,
            "weight": {"total": total, "unavailable": sum("unavailable"), "available": available},
            "hosts": hosts,
        },
    })
}
