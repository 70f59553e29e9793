//! What of a request conditions of plugins look at (Kong 3.14: `match` of policies and of access rules).

use std::borrow::Cow;

use tollgate_gateway::consumers::ConsumerGroup;
use tollgate_gateway::{BuildError, Exchange};

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Attribute {
    ConsumerId,
    ConsumerUsername,
    ConsumerCustomId,
    ConsumerGroup(GroupKey),
    Header(String),
    Ip,
    Model,
    Path,
    Provider,
}

/// By what groups of consumers are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKey {
    Id,
    Name,
    Either,
}

impl Attribute {
    /// The attribute of a configured `type`, and the `key` beside it, at `field`.
    ///
    /// # Errors
    /// What cannot be looked at.
    pub(super) fn new(kind: &str, key: Option<&str>, field: &str) -> Result<Self, BuildError> {
        let refused = |name: &str, message: &str| {
            Err(BuildError { field: format!("{field}.{name}"), message: message.to_owned() })
        };
        Ok(match (kind, key) {
            ("consumer", None | Some("id")) => Self::ConsumerId,
            ("consumer", Some("username")) => Self::ConsumerUsername,
            ("consumer", Some("custom_id")) => Self::ConsumerCustomId,
            ("consumer", Some(_)) => {
                return refused("key", "use 'id', 'username' or 'custom_id' of a consumer");
            }
            ("consumer_group", None) => Self::ConsumerGroup(GroupKey::Either),
            ("consumer_group", Some("id")) => Self::ConsumerGroup(GroupKey::Id),
            ("consumer_group", Some("name")) => Self::ConsumerGroup(GroupKey::Name),
            ("consumer_group", Some(_)) => return refused("key", "use 'id' or 'name' of a consumer group"),
            ("header", Some(name)) if !name.is_empty() => Self::Header(name.to_owned()),
            ("header", _) => return refused("key", "name the header"),
            ("ip", _) => Self::Ip,
            ("model", _) => Self::Model,
            ("path", _) => Self::Path,
            ("provider", _) => Self::Provider,
            _ => return refused("type", "there is nothing of this name to look at"),
        })
    }

    /// What it is of a request that asks `model` of `provider`, as far as these are known, where that is accepted; of
    /// the consumer's groups, the first by name that is.
    pub(super) fn find<'a>(
        &self,
        exchange: &'a Exchange,
        model: Option<&'a str>,
        provider: Option<&'a str>,
        accepts: impl Fn(&str) -> bool,
    ) -> Option<Cow<'a, str>> {
        let consumer = exchange.consumer.as_deref();
        let value = match self {
            Self::ConsumerId => Cow::Owned(consumer?.id.to_string()),
            Self::ConsumerUsername => Cow::Borrowed(consumer?.username.as_deref()?),
            Self::ConsumerCustomId => Cow::Borrowed(consumer?.custom_id.as_deref()?),
            Self::ConsumerGroup(key) => {
                let known_by = |group: &'a ConsumerGroup| {
                    let name = (*key != GroupKey::Id).then(|| Cow::Borrowed(&*group.name));
                    let id = (*key != GroupKey::Name).then(|| Cow::Owned(group.id.to_string()));
                    name.into_iter().chain(id)
                };
                return exchange
                    .consumer_groups()
                    .into_iter()
                    .flat_map(known_by)
                    .find(|value| accepts(value));
            }
            Self::Header(name) => exchange.head.headers.get_str(name)?.into(),
            Self::Ip => Cow::Owned(exchange.client_ip.to_string()),
            Self::Model => Cow::Borrowed(model?),
            Self::Path => String::from_utf8_lossy(&exchange.path),
            Self::Provider => Cow::Borrowed(provider?),
        };
        accepts(&value).then_some(value)
    }
}
