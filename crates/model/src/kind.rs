//! The kinds of entities and how they hang together.

use crate::{Config, Record, entity};

/// A kind of entity. Its [`Kind::plural`] is the name in URLs, in decK files and in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A workspace (Kong) or control plane (Konnect): a named set of entities.
    Workspace,
    /// A certificate and its key.
    Certificate,
    /// A certificate authority to trust.
    CaCertificate,
    /// A server name that is served with a certificate.
    Sni,
    /// An upstream service.
    Service,
    /// A rule that leads requests to a service.
    Route,
    /// A user of the services.
    Consumer,
    /// Consumers that plugins treat alike.
    ConsumerGroup,
    /// That a consumer belongs to a group.
    ConsumerGroupConsumer,
    /// A key of a consumer for key-auth.
    KeyAuthCredential,
    /// A virtual host with targets to balance over.
    Upstream,
    /// An address an upstream balances to.
    Target,
    /// A configured plugin.
    Plugin,
}

/// How a kind refers to another.
#[derive(Debug, Clone, Copy)]
pub struct ForeignKey {
    /// Field that holds `{"id": …}`.
    pub field: &'static str,
    /// Kind referred to.
    pub to: Kind,
    /// Whether deleting the other deletes this one; else the delete is refused while this one exists.
    pub cascade: bool,
}

impl Kind {
    /// Every kind, each after those it refers to.
    pub const ALL: [Kind; 13] = [
        Kind::Workspace,
        Kind::Certificate,
        Kind::CaCertificate,
        Kind::Sni,
        Kind::Service,
        Kind::Route,
        Kind::Consumer,
        Kind::ConsumerGroup,
        Kind::ConsumerGroupConsumer,
        Kind::KeyAuthCredential,
        Kind::Upstream,
        Kind::Target,
        Kind::Plugin,
    ];

    /// Name in URLs, files and the store: `services`, `keyauth_credentials`, …
    pub fn plural(self) -> &'static str {
        match self {
            Kind::Workspace => "workspaces",
            Kind::Certificate => "certificates",
            Kind::CaCertificate => "ca_certificates",
            Kind::Sni => "snis",
            Kind::Service => "services",
            Kind::Route => "routes",
            Kind::Consumer => "consumers",
            Kind::ConsumerGroup => "consumer_groups",
            Kind::ConsumerGroupConsumer => "consumer_group_consumers",
            Kind::KeyAuthCredential => "keyauth_credentials",
            Kind::Upstream => "upstreams",
            Kind::Target => "targets",
            Kind::Plugin => "plugins",
        }
    }

    /// The kind with this plural name.
    pub fn from_plural(plural: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.plural() == plural)
    }

    /// Schema of the kind.
    pub fn schema(self) -> &'static Record {
        match self {
            Kind::Workspace => entity::Workspace::schema(),
            Kind::Certificate => entity::Certificate::schema(),
            Kind::CaCertificate => entity::CaCertificate::schema(),
            Kind::Sni => entity::Sni::schema(),
            Kind::Service => entity::Service::schema(),
            Kind::Route => entity::Route::schema(),
            Kind::Consumer => entity::Consumer::schema(),
            Kind::ConsumerGroup => entity::ConsumerGroup::schema(),
            Kind::ConsumerGroupConsumer => entity::ConsumerGroupConsumer::schema(),
            Kind::KeyAuthCredential => entity::KeyAuthCredential::schema(),
            Kind::Upstream => entity::Upstream::schema(),
            Kind::Target => entity::Target::schema(),
            Kind::Plugin => entity::Plugin::schema(),
        }
    }

    /// Whether each workspace has its own (Kong 3.11: CA certificates are shared by all).
    pub fn workspaced(self) -> bool {
        !matches!(self, Kind::Workspace | Kind::CaCertificate)
    }

    /// Groups of fields whose values must not occur twice in a workspace. Within a group null counts as a
    /// value only where the group has several fields.
    pub fn unique(self) -> &'static [&'static [&'static str]] {
        match self {
            Kind::Workspace
            | Kind::Sni
            | Kind::Service
            | Kind::Route
            | Kind::Upstream
            | Kind::ConsumerGroup => &[&["name"]],
            Kind::Consumer => &[&["username"], &["custom_id"]],
            Kind::KeyAuthCredential => &[&["key"]],
            Kind::CaCertificate => &[&["cert_digest"]],
            Kind::Target => &[&["target", "upstream"]],
            Kind::ConsumerGroupConsumer => &[&["consumer", "consumer_group"]],
            Kind::Plugin => {
                &[&["instance_name"], &["consumer", "name", "route", "service", "consumer_group"]]
            }
            Kind::Certificate => &[],
        }
    }

    /// The field by which an entity can be named besides its id: a service's `name`, a consumer's `username`.
    pub fn endpoint_key(self) -> Option<&'static str> {
        match self {
            Kind::Workspace
            | Kind::Sni
            | Kind::Service
            | Kind::Route
            | Kind::Upstream
            | Kind::ConsumerGroup => Some("name"),
            Kind::Consumer => Some("username"),
            Kind::KeyAuthCredential => Some("key"),
            Kind::Target => Some("target"),
            Kind::Plugin => Some("instance_name"),
            Kind::Certificate | Kind::CaCertificate | Kind::ConsumerGroupConsumer => None,
        }
    }

    /// References to other kinds (Kong 3.11: deleting a consumer takes its credentials and plugins along; a
    /// service with routes cannot be deleted).
    pub fn foreign_keys(self) -> &'static [ForeignKey] {
        const fn key(field: &'static str, to: Kind, cascade: bool) -> ForeignKey {
            ForeignKey { field, to, cascade }
        }
        match self {
            Kind::Service => const { &[key("client_certificate", Kind::Certificate, false)] },
            Kind::Route => const { &[key("service", Kind::Service, false)] },
            Kind::Sni => const { &[key("certificate", Kind::Certificate, true)] },
            Kind::KeyAuthCredential => const { &[key("consumer", Kind::Consumer, true)] },
            Kind::ConsumerGroupConsumer => {
                const { &[key("consumer", Kind::Consumer, true), key("consumer_group", Kind::ConsumerGroup, true)] }
            }
            Kind::Upstream => const { &[key("client_certificate", Kind::Certificate, false)] },
            Kind::Target => const { &[key("upstream", Kind::Upstream, true)] },
            Kind::Plugin => {
                const {
                    &[
                        key("route", Kind::Route, true),
                        key("service", Kind::Service, true),
                        key("consumer", Kind::Consumer, true),
                        key("consumer_group", Kind::ConsumerGroup, true),
                    ]
                }
            }
            Kind::Workspace
            | Kind::Certificate
            | Kind::CaCertificate
            | Kind::Consumer
            | Kind::ConsumerGroup => &[],
        }
    }
}
