//! Who or what requests are counted by.

use std::fmt;
use std::net::IpAddr;

use tollgate_gateway::Exchange;
use uuid::Uuid;

/// What requests are counted by. What a request does not have is replaced by the client's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CountBy {
    /// The consumer, or the credential.
    Consumer,
    /// The credential.
    Credential,
    /// The consumer's group, of several the first by name.
    ConsumerGroup,
    /// The client's address.
    Ip,
    /// The service.
    Service,
    /// The value of a header.
    Header(Box<str>),
    /// The path, where it is this one.
    Path(Box<str>),
}

/// Who or what a request is counted for.
#[derive(Debug, Hash)]
pub enum Identifier<'a> {
    /// A consumer.
    Consumer(Uuid),
    /// A credential.
    Credential(Uuid),
    /// A group of consumers.
    ConsumerGroup(Uuid),
    /// A service.
    Service(Uuid),
    /// A header's value, or a path.
    Text(&'a [u8]),
    /// The client's address.
    Address(IpAddr),
}

impl CountBy {
    /// Who or what this request is counted for.
    pub fn identify<'a>(&self, exchange: &'a Exchange) -> Identifier<'a> {
        let credential =
            || exchange.credential.as_ref().map(|credential| Identifier::Credential(credential.id));
        let found = match self {
            Self::Consumer => {
                let consumer = exchange.consumer.as_ref();
                consumer.map(|consumer| Identifier::Consumer(consumer.id)).or_else(credential)
            }
            Self::Credential => credential(),
            Self::ConsumerGroup => {
                exchange.consumer_groups().first().map(|group| Identifier::ConsumerGroup(group.id))
            }
            Self::Ip => None,
            Self::Service => {
                let service = exchange.route.as_ref().and_then(|route| route.service.as_ref());
                service.map(|service| Identifier::Service(service.id))
            }
            Self::Header(name) => exchange.head.headers.get(name).map(Identifier::Text),
            Self::Path(path) => {
                (*exchange.path == *path.as_bytes()).then(|| Identifier::Text(&exchange.path))
            }
        };
        found.unwrap_or(Identifier::Address(exchange.client_ip))
    }
}

impl fmt::Display for Identifier<'_> {
    /// As part of a key in Redis (Kong 3.11).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer(id) | Self::Credential(id) | Self::ConsumerGroup(id) | Self::Service(id) => {
                id.fmt(f)
            }
            Self::Text(text) => String::from_utf8_lossy(text).fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}
