//! Reading an upstream's settings.

use std::time::Duration;

use tollgate_model::entity::{Algorithm, HashOn, Upstream};

use super::{ActiveChecks, BalancerSettings, HashInput, HashSource, Thresholds};

impl From<&Upstream> for BalancerSettings {
    fn from(upstream: &Upstream) -> Self {
        let default = Self::default();
        Self {
            algorithm: upstream.algorithm.unwrap_or(Algorithm::RoundRobin),
            hash: HashInput { first: first_source(upstream), fallback: fallback_source(upstream) },
            slots: upstream.slots.and_then(|slots| usize::try_from(slots).ok()).unwrap_or(default.slots),
            passive: passive_checks(upstream).unwrap_or_default(),
            active: active_checks(upstream).unwrap_or_default(),
            threshold: upstream
                .healthchecks
                .as_ref()
                .and_then(|checks| checks.threshold)
                .unwrap_or(default.threshold),
        }
    }
}

fn first_source(upstream: &Upstream) -> HashSource {
    let arguments = [&upstream.hash_on_header, &upstream.hash_on_query_arg, &upstream.hash_on_uri_capture];
    source(upstream.hash_on, arguments, upstream)
}

fn fallback_source(upstream: &Upstream) -> HashSource {
    let arguments = [
        &upstream.hash_fallback_header,
        &upstream.hash_fallback_query_arg,
        &upstream.hash_fallback_uri_capture,
    ];
    source(upstream.hash_fallback, arguments, upstream)
}

/// The part of a request that `hash_on` names, with the name of the header, query argument or capture.
fn source(hash_on: Option<HashOn>, names: [&Option<String>; 3], upstream: &Upstream) -> HashSource {
    let named = |name: &Option<String>, source: fn(Box<str>) -> HashSource| match name {
        Some(name) => source(name.as_str().into()),
        None => HashSource::None,
    };
    let [header, query_argument, capture] = names;
    match hash_on.unwrap_or(HashOn::None) {
        HashOn::None => HashSource::None,
        HashOn::Consumer => HashSource::Consumer,
        HashOn::Ip => HashSource::Ip,
        HashOn::Path => HashSource::Path,
        HashOn::Header => named(header, HashSource::Header),
        HashOn::QueryArg => named(query_argument, HashSource::QueryArgument),
        HashOn::UriCapture => named(capture, HashSource::Capture),
        HashOn::Cookie => match &upstream.hash_on_cookie {
            Some(name) => HashSource::Cookie {
                name: name.as_str().into(),
                path: upstream.hash_on_cookie_path.as_deref().unwrap_or("/").into(),
            },
            None => HashSource::None,
        },
    }
}

fn count(value: Option<i64>) -> u32 {
    value.and_then(|value| u32::try_from(value).ok()).unwrap_or(0)
}

fn statuses(list: Option<&Vec<i64>>) -> Vec<u16> {
    list.into_iter().flatten().filter_map(|status| u16::try_from(*status).ok()).collect()
}

fn passive_checks(upstream: &Upstream) -> Option<Thresholds> {
    let passive = upstream.healthchecks.as_ref()?.passive.as_ref()?;
    let (healthy, unhealthy) = (passive.healthy.as_ref(), passive.unhealthy.as_ref()?);
    Some(Thresholds {
        healthy_statuses: statuses(healthy.and_then(|healthy| healthy.http_statuses.as_ref())),
        successes: count(healthy.and_then(|healthy| healthy.successes)),
        unhealthy_statuses: statuses(unhealthy.http_statuses.as_ref()),
        http_failures: count(unhealthy.http_failures),
        tcp_failures: count(unhealthy.tcp_failures),
        timeouts: count(unhealthy.timeouts),
    })
}

/// How targets are asked; `tcp` asks nobody here, only where streams are proxied (Kong 3.11).
fn active_checks(upstream: &Upstream) -> Option<ActiveChecks> {
    let active = upstream.healthchecks.as_ref()?.active.as_ref()?;
    let kind = active.r#type.as_deref().unwrap_or("http");
    if kind == "tcp" {
        return None;
    }
    let (healthy, unhealthy) = (active.healthy.as_ref(), active.unhealthy.as_ref());
    let seconds = |value: Option<f64>| Duration::from_secs_f64(value.unwrap_or(0.0).clamp(0.0, 65_535.0));
    Some(ActiveChecks {
        tls: matches!(kind, "https" | "grpcs"),
        verify: active.https_verify_certificate,
        server_name: active.https_sni.as_deref().map(Box::from),
        path: active.http_path.as_deref().unwrap_or("/").into(),
        headers: active
            .headers
            .iter()
            .flatten()
            .flat_map(|(name, values)| {
                values.iter().map(|value| (name.as_str().into(), value.as_str().into()))
            })
            .collect(),
        timeout: seconds(active.timeout.or(Some(1.0))),
        concurrency: active.concurrency.and_then(|count| usize::try_from(count).ok()).unwrap_or(10),
        healthy_interval: seconds(healthy.and_then(|healthy| healthy.interval)),
        unhealthy_interval: seconds(unhealthy.and_then(|unhealthy| unhealthy.interval)),
        thresholds: Thresholds {
            healthy_statuses: statuses(healthy.and_then(|healthy| healthy.http_statuses.as_ref())),
            successes: count(healthy.and_then(|healthy| healthy.successes)),
            unhealthy_statuses: statuses(unhealthy.and_then(|unhealthy| unhealthy.http_statuses.as_ref())),
            http_failures: count(unhealthy.and_then(|unhealthy| unhealthy.http_failures)),
            tcp_failures: count(unhealthy.and_then(|unhealthy| unhealthy.tcp_failures)),
            timeouts: count(unhealthy.and_then(|unhealthy| unhealthy.timeouts)),
        },
    })
}
