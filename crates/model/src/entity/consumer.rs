//! `consumers` and their credentials

use uuid::Uuid;

use super::rules;
use crate::schema::EntityCheck;
use crate::{Config, Reference, Secret, Set};

/// A user of the services.
#[derive(Debug, Clone, Config)]
#[config(checks = [EntityCheck::AtLeastOneOf(vec!["custom_id", "username"])])]
pub struct Consumer {
    /// Identifies the consumer.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// Its name.
    #[config(unique)]
    pub username: Option<String>,
    /// Its name in your own system.
    #[config(unique)]
    pub custom_id: Option<String>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}

/// A key of a consumer for key-auth.
#[derive(Debug, Clone, Config)]
pub struct KeyAuthCredential {
    /// Identifies the credential.
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// Whose key it is.
    #[config(foreign = crate::Kind::Consumer)]
    pub consumer: Reference,
    /// The key; made up where none is given.
    #[config(auto, unique, optional)]
    pub key: Option<Secret>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// Seconds until the key ceases to be valid; 0 for never.
    #[config(between(0, 100_000_000))]
    pub ttl: Option<i64>,
}
