//! What a path leads to, and which methods it has.

use tollgate_model::Kind;
use tollgate_model::kind::ForeignKey;

use crate::Call;
use crate::absent::Absent;
use crate::groups::Groups;
use crate::konnect::Konnect;
use crate::names;
use crate::revisions::Own;

/// An entity that others belong to: the key its path names it by, and how they refer to it.
pub(crate) type Above<'a> = (&'a str, &'static ForeignKey);

/// What a path leads to.
pub(crate) enum Endpoint<'a> {
    /// `/`, `/{workspace}/kong`
    Root,
    /// `/status`
    Status,
    /// `/status/dns`
    StatusDns,
    /// `/metrics`
    Metrics,
    /// `/robots.txt`
    Robots,
    /// `/endpoints`
    Endpoints,
    /// `/plugins/enabled`
    EnabledPlugins,
    /// `/plugins/schema/{name}`
    PluginConfigSchema(&'a str),
    /// `/schemas/{entity}`
    Schema(&'a str),
    /// `/schemas/plugins/{name}`
    PluginSchema(&'a str),
    /// `/schemas/vaults/{name}` and `/schemas/partials/{type}`: a kind of thing, its name
    AbsentSchema(&'static str, &'a str),
    /// `/schemas/{entity}/validate`
    Validate(&'a str),
    /// `/cache`
    WholeCache,
    /// `/cache/{key}`
    Cache,
    /// `/debug/node/log-level`, `/debug/node/log-level/{level}`, `/debug/cluster/log-level/{level}`
    LogLevel(Option<&'a str>),
    /// `/tags`, `/tags/{tag}`
    Tags(Option<&'a str>),
    /// `/clustering/data-planes`, `/clustering/status`
    Clustering,
    /// `/config`
    Config,
    /// `/workspaces/{workspace}/meta`
    WorkspaceMeta(&'a str),
    /// Konnect's own.
    Konnect(Konnect<'a>),
    /// Tollgate's own.
    Own(Own<'a>),
    /// `/{children}`, `/{parents}/{parent}/{children}`
    Collection(Kind, Option<Above<'a>>),
    /// `/{children}/{child}`, `/{parents}/{parent}/{children}/{child}`
    Item(Kind, &'a str, Option<Above<'a>>),
    /// `/{children}/{child}/{field}`: what an entity refers to
    Linked(Kind, &'a str, &'static ForeignKey),
    /// Who belongs to which consumer group
    Groups(Groups<'a>),
    /// `/upstreams/{upstream}/health`
    UpstreamHealth(&'a str),
    /// `/upstreams/{upstream}/targets/all`
    AllTargets(&'a str),
    /// `/upstreams/{upstream}/targets/{target}[/{address}]/{healthy|unhealthy}`
    TargetHealth { upstream: &'a str, target: &'a str, healthy: bool },
    /// A collection of a kind that is not there.
    Absent(Absent),
}

/// First segments that are the node's own, and so no workspace.
pub(crate) fn is_reserved(segment: &str) -> bool {
    const OWN: [&str; 16] = [
        "cache",
        "debug",
        "robots.txt",
        "status",
        "schemas",
        "tags",
        "endpoints",
        "config",
        "kong",
        "konnect-api",
        "v1",
        "v2",
        "v3",
        "tollgate",
        "clustering",
        "metrics",
    ];
    OWN.contains(&segment) || names::by_top(segment).is_some() || Absent::is_name(segment)
}

impl<'a> Endpoint<'a> {
    /// What a call's path leads to; `None` for nothing.
    pub(crate) fn of(call: &'a Call) -> Option<Self> {
        let segments = call.segments();
        if let Some(konnect) = Konnect::of(&segments, call.konnect) {
            return Some(Self::Konnect(konnect));
        }
        Some(match segments[..] {
            [] | ["kong"] => Self::Root,
            ["status"] => Self::Status,
            ["status", "dns"] => Self::StatusDns,
            ["metrics"] => Self::Metrics,
            ["robots.txt"] => Self::Robots,
            ["endpoints"] => Self::Endpoints,
            ["plugins", "enabled"] => Self::EnabledPlugins,
            ["plugins", "schema", name] => Self::PluginConfigSchema(name),
            ["schemas", entity, "validate"] => Self::Validate(entity),
            ["schemas", "plugins", name] => Self::PluginSchema(name),
            ["schemas", "vaults", name] => Self::AbsentSchema("vault", name),
            ["schemas", "partials", name] => Self::AbsentSchema("partial", name),
            ["schemas", entity] => Self::Schema(entity),
            ["cache"] => Self::WholeCache,
            ["cache", _] => Self::Cache,
            ["debug", "node", "log-level"] => Self::LogLevel(None),
            ["debug", "node" | "cluster", "log-level", level] => Self::LogLevel(Some(level)),
            ["tags"] => Self::Tags(None),
            ["tags", tag] => Self::Tags(Some(tag)),
            ["clustering", "data-planes" | "status"] => Self::Clustering,
            ["config"] => Self::Config,
            ["workspaces", ..] if call.konnect => Self::Absent(Absent::of(&segments)?),
            ["workspaces", workspace, "meta"] => Self::WorkspaceMeta(workspace),
            ["tollgate", ..] => Self::Own(Own::of(&segments)?),
            _ => return Self::of_entities(&segments, call.konnect),
        })
    }

    fn of_entities(segments: &[&'a str], konnect: bool) -> Option<Self> {
        let absent = || Absent::of(segments).map(Self::Absent);
        let (first, rest) = segments.split_first()?;
        let Some(kind) = names::by_top(first) else { return absent() };
        // Kong 3.11: targets are reached through their upstream.
        if kind == Kind::Target && !konnect {
            return None;
        }
        if let Some(groups) = Groups::of(segments) {
            return Some(Self::Groups(groups));
        }
        match *rest {
            [] => Some(Self::Collection(kind, None)),
            [key] => Some(Self::Item(kind, key, None)),
            [key, "health"] if kind == Kind::Upstream => Some(Self::UpstreamHealth(key)),
            [key, "targets", "all"] if kind == Kind::Upstream => Some(Self::AllTargets(key)),
            [upstream, "targets", target, state @ ("healthy" | "unhealthy")]
            | [upstream, "targets", target, _, state @ ("healthy" | "unhealthy")]
                if kind == Kind::Upstream =>
            {
                Some(Self::TargetHealth { upstream, target, healthy: state == "healthy" })
            }
            // Kong 3.11: use /certificates/{name}.
            [_, "certificate"] if kind == Kind::Sni => None,
            [key, name] => match names::child(kind, name) {
                Some((child, link)) => Some(Self::Collection(child, Some((key, link)))),
                None => match kind.foreign_keys().iter().find(|link| link.field == name) {
                    Some(link) => Some(Self::Linked(kind, key, link)),
                    None => absent(),
                },
            },
            [key, name, child_key] => match names::child(kind, name) {
                Some((child, link)) => Some(Self::Item(child, child_key, Some((key, link)))),
                None => absent(),
            },
            _ => absent(),
        }
    }

    /// Its methods, sorted; `HEAD` comes with `GET`, `OPTIONS` always.
    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Root
            | Self::Status
            | Self::StatusDns
            | Self::Metrics
            | Self::Robots
            | Self::Endpoints
            | Self::EnabledPlugins
            | Self::PluginConfigSchema(_)
            | Self::Schema(_)
            | Self::PluginSchema(_)
            | Self::AbsentSchema(..)
            | Self::LogLevel(None)
            | Self::Tags(_)
            | Self::Clustering
            | Self::WorkspaceMeta(_)
            | Self::UpstreamHealth(_)
            | Self::AllTargets(_) => &["GET", "HEAD", "OPTIONS"],
            Self::WholeCache => &["DELETE", "OPTIONS"],
            Self::Cache => &["DELETE", "GET", "HEAD", "OPTIONS"],
            Self::Validate(_) => &["OPTIONS", "POST"],
            Self::LogLevel(Some(_)) | Self::TargetHealth { .. } => &["OPTIONS", "PUT"],
            Self::Config | Self::Collection(..) => &["GET", "HEAD", "OPTIONS", "POST"],
            Self::Item(..) | Self::Linked(..) => &["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"],
            Self::Groups(groups) => groups.methods(),
            Self::Konnect(konnect) => konnect.methods(),
            Self::Own(own) => own.methods(),
            Self::Absent(absent) => absent.methods(),
        }
    }
}
