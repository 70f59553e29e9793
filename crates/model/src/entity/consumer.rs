//! `consumers`, their groups and their credentials

use uuid::Uuid;

use super::rules;
use crate::schema::EntityCheck;
use crate::{Config, Reference, Secret, Set, Source, Value};

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

/// Consumers that plugins treat alike (Kong Enterprise 3.11).
#[derive(Debug, Clone, Config)]
pub struct ConsumerGroup {
    /// Identifies the group.
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
    pub name: String,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
}

/// That a consumer belongs to a group.
#[derive(Debug, Clone, Config)]
pub struct ConsumerGroupConsumer {
    /// Identifies the membership; follows from the two ([`ConsumerGroupConsumer::id_of`]).
    #[config(auto)]
    pub id: Option<Uuid>,
    /// When it was made, in seconds since 1970.
    #[config(auto, timestamp)]
    pub created_at: Option<i64>,
    /// When it was last changed, in seconds since 1970.
    #[config(auto, timestamp)]
    pub updated_at: Option<i64>,
    /// Who belongs to the group.
    #[config(foreign = crate::Kind::Consumer)]
    pub consumer: Reference,
    /// The group.
    #[config(foreign = crate::Kind::ConsumerGroup)]
    pub consumer_group: Reference,
}

impl ConsumerGroupConsumer {
    /// The id of a consumer's membership in a group. Kong's memberships have none; this one follows from what they
    /// join, so that everybody who knows the two knows it.
    pub fn id_of(consumer: Uuid, group: Uuid) -> Uuid {
        Uuid::new_v5(&group, consumer.as_bytes())
    }
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
    #[config(auto, unique, optional, encrypted = false)]
    pub key: Option<Secret>,
    /// Labels to select by.
    #[config(each(required, check = rules::tag))]
    pub tags: Option<Set<String>>,
    /// Seconds until the key ceases to be valid; 0 for never.
    #[config(hidden, check = time_to_live)]
    pub ttl: Option<i64>,
}

fn time_to_live(value: &Value) -> Result<(), String> {
    match value.as_i64() {
        Some(0..=100_000_000) => Ok(()),
        _ => Err("must be an integer between 0 and 100000000".into()),
    }
}

/// 32 letters and digits.
pub(crate) fn random_key(source: &dyn Source) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut bits = (source.id().as_u128(), source.id().as_u128());
    let mut key = String::new();
    for index in 0..32 {
        // The fixed bits of a version 4 UUID stand in its middle: both ids are mixed for each letter.
        let mixed = bits.0 ^ bits.1.rotate_left(64);
        key.push(LETTERS[(mixed % LETTERS.len() as u128) as usize] as char);
        bits = if index % 2 == 0 { (bits.0 / 62, bits.1) } else { (bits.0, bits.1 / 62) };
    }
    key
}
