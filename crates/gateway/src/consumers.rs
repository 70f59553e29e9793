//! Consumers, their credentials and their groups: the part of a snapshot that grows with the number of users.
//!
//! Shared between snapshots: a change copies one small shard of a table, not the table, so a key added to a
//! million is there in microseconds. Keys are compared only within a bucket that a keyed hash chose.

use std::sync::Arc;

use imbl::OrdMap;
use smallvec::SmallVec;
use smol_str::SmolStr;
use uuid::Uuid;

use crate::table::{Table, hash};

/// A consumer, as plugins see it.
#[derive(Debug)]
pub struct Consumer {
    /// The id.
    pub id: Uuid,
    /// Workspace it belongs to.
    pub workspace: Uuid,
    /// Its name.
    pub username: Option<SmolStr>,
    /// Its name in the user's own system.
    pub custom_id: Option<SmolStr>,
    /// Labels.
    pub tags: Option<Box<[Box<str>]>>,
    /// When it was made, in seconds since 1970.
    pub created_at: u64,
    /// When it was last changed, in seconds since 1970.
    pub updated_at: u64,
}

/// A group of consumers.
#[derive(Debug, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// The id.
    pub id: Uuid,
    /// Its name, which no other group of the workspace has.
    pub name: SmolStr,
}

/// That a consumer belongs to a group.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) id: Uuid,
    pub(crate) consumer: Uuid,
    pub(crate) group: Uuid,
}

/// The groups of a consumer, by name; mostly there is one at the most.
pub type Groups<'a> = SmallVec<[&'a ConsumerGroup; 2]>;

/// Something a consumer shows to prove who it is.
pub struct Credential {
    /// The id.
    pub id: Uuid,
    /// Whose it is.
    pub consumer: Arc<Consumer>,
    /// What is looked up: a key, a user name. Mostly short enough to stand here, so that finding it is one look at
    /// memory less.
    pub key: SmallVec<[u8; 40]>,
    /// When it ceases to be valid, in seconds since 1970.
    pub expires_at: Option<u64>,
    /// Kind of credential.
    pub kind: tollgate_model::Kind,
}

impl std::fmt::Debug for Credential {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("consumer", &self.consumer.id)
            .finish_non_exhaustive()
    }
}

/// All consumers and credentials of all workspaces. Cloning is cheap.
#[derive(Clone, Default)]
pub struct Consumers {
    by_id: Table<Consumer>,
    by_username: Table<Consumer>,
    by_custom_id: Table<Consumer>,
    credentials: Table<Credential>,
    credentials_by_id: Table<Credential>,
    credentials_by_consumer: Table<Credential>,
    groups: OrdMap<Uuid, Arc<ConsumerGroup>>,
    /// Who is in no group takes no room here.
    memberships: Table<Membership>,
    memberships_by_consumer: Table<Membership>,
}

impl Consumers {
    /// The consumer with this id.
    pub fn get(&self, id: Uuid) -> Option<&Arc<Consumer>> {
        self.by_id.find(&id, |consumer| consumer.id == id)
    }

    /// The consumer with this `username` in a workspace.
    pub fn by_username(&self, workspace: Uuid, username: &str) -> Option<&Arc<Consumer>> {
        self.by_username.find(&(workspace, username), |consumer| {
            consumer.workspace == workspace && consumer.username.as_deref() == Some(username)
        })
    }

    /// The consumer with this `custom_id` in a workspace.
    pub fn by_custom_id(&self, workspace: Uuid, custom_id: &str) -> Option<&Arc<Consumer>> {
        self.by_custom_id.find(&(workspace, custom_id), |consumer| {
            consumer.workspace == workspace && consumer.custom_id.as_deref() == Some(custom_id)
        })
    }

    /// The credential of a kind with this key in a workspace. Whether it has expired is the caller's to see.
    pub fn credential(
        &self,
        kind: tollgate_model::Kind,
        workspace: Uuid,
        key: &str,
    ) -> Option<&Arc<Credential>> {
        self.credentials.find(&(kind, workspace, key.as_bytes()), |credential| {
            credential.kind == kind
                && credential.consumer.workspace == workspace
                && *credential.key == *key.as_bytes()
        })
    }

    /// The groups a consumer belongs to, by name.
    pub fn groups_of(&self, consumer: Uuid) -> Groups<'_> {
        let mut groups = Groups::new();
        if self.memberships.len() > 0 {
            let memberships =
                self.memberships_by_consumer.find_all(&consumer, |one| one.consumer == consumer);
            groups.extend(memberships.filter_map(|one| self.groups.get(&one.group).map(|group| &**group)));
            groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        }
        groups
    }

    /// Adds a group, or replaces the one with the same id; its members stay in it.
    pub fn insert_group(&mut self, group: ConsumerGroup) {
        self.groups.insert(group.id, Arc::new(group));
    }

    /// Removes a group.
    pub fn remove_group(&mut self, id: Uuid) {
        self.groups.remove(&id);
    }

    /// Adds a membership, or replaces the one with the same id.
    pub(crate) fn insert_membership(&mut self, membership: Membership) {
        self.remove_membership(membership.id);
        let membership = Arc::new(membership);
        self.memberships.insert(&membership.id, Arc::clone(&membership), |one| hash(&one.id));
        self.memberships_by_consumer
            .insert(&membership.consumer, Arc::clone(&membership), |one| hash(&one.consumer));
    }

    /// Removes a membership.
    pub(crate) fn remove_membership(&mut self, id: Uuid) {
        if let Some(membership) = self.memberships.remove(&id, |one| one.id == id) {
            self.memberships_by_consumer.remove(&membership.consumer, |one| one.id == id);
        }
    }

    /// Adds a consumer, or replaces the one with the same id; its credentials move along.
    pub fn insert(&mut self, consumer: Consumer) {
        let consumer = Arc::new(consumer);
        let id = consumer.id;
        let credentials = self.remove(id);
        self.by_id.insert(&id, Arc::clone(&consumer), |consumer| hash(&consumer.id));
        if let Some(username) = &consumer.username {
            self.by_username.insert(&(consumer.workspace, &**username), Arc::clone(&consumer), |consumer| {
                hash(&(consumer.workspace, consumer.username.as_deref().unwrap_or_default()))
            });
        }
        if let Some(custom_id) = &consumer.custom_id {
            self.by_custom_id.insert(
                &(consumer.workspace, &**custom_id),
                Arc::clone(&consumer),
                |consumer| hash(&(consumer.workspace, consumer.custom_id.as_deref().unwrap_or_default())),
            );
        }
        for credential in credentials {
            self.insert_credential(Credential {
                id: credential.id,
                consumer: Arc::clone(&consumer),
                key: credential.key.clone(),
                expires_at: credential.expires_at,
                kind: credential.kind,
            });
        }
    }

    /// Removes a consumer and its credentials, which are returned.
    pub fn remove(&mut self, id: Uuid) -> Vec<Arc<Credential>> {
        let Some(consumer) = self.by_id.remove(&id, |consumer| consumer.id == id) else { return Vec::new() };
        if let Some(username) = &consumer.username {
            self.by_username.remove(&(consumer.workspace, &**username), |other| other.id == id);
        }
        if let Some(custom_id) = &consumer.custom_id {
            self.by_custom_id.remove(&(consumer.workspace, &**custom_id), |other| other.id == id);
        }
        let mut credentials = Vec::new();
        while let Some(credential) =
            self.credentials_by_consumer.find(&id, |credential| credential.consumer.id == id).cloned()
        {
            self.remove_credential(credential.id);
            credentials.push(credential);
        }
        credentials
    }

    /// Adds a credential, or replaces the one with the same id.
    pub fn insert_credential(&mut self, credential: Credential) {
        self.remove_credential(credential.id);
        let credential = Arc::new(credential);
        self.credentials_by_id
            .insert(&credential.id, Arc::clone(&credential), |credential| hash(&credential.id));
        self.credentials_by_consumer.insert(&credential.consumer.id, Arc::clone(&credential), |credential| {
            hash(&credential.consumer.id)
        });
        let workspace = credential.consumer.workspace;
        self.credentials.insert(
            &(credential.kind, workspace, &*credential.key),
            Arc::clone(&credential),
            |credential| hash(&(credential.kind, credential.consumer.workspace, &*credential.key)),
        );
    }

    /// Removes a credential.
    pub fn remove_credential(&mut self, id: Uuid) {
        let Some(credential) = self.credentials_by_id.remove(&id, |credential| credential.id == id) else {
            return;
        };
        self.credentials_by_consumer.remove(&credential.consumer.id, |other| other.id == id);
        let workspace = credential.consumer.workspace;
        self.credentials.remove(&(credential.kind, workspace, &*credential.key), |other| other.id == id);
    }

    /// Number of consumers.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there is no consumer.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of credentials.
    pub fn credentials_len(&self) -> usize {
        self.credentials_by_id.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_model::Kind::KeyAuthCredential;

    fn consumer(id: u128, name: &str) -> Consumer {
        Consumer {
            id: Uuid::from_u128(id),
            workspace: Uuid::nil(),
            username: Some(name.into()),
            custom_id: None,
            tags: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    #[test]
    fn old_snapshots_keep_what_new_ones_change() {
        let mut consumers = Consumers::default();
        for number in 1..=3000u128 {
            consumers.insert(consumer(number, &format!("user{number}")));
            let owner = Arc::clone(consumers.get(Uuid::from_u128(number)).unwrap());
            consumers.insert_credential(Credential {
                id: Uuid::from_u128(number << 64),
                consumer: owner,
                key: format!("key{number}").as_bytes().into(),
                expires_at: None,
                kind: KeyAuthCredential,
            });
        }
        let old = consumers.clone();
        consumers.insert(consumer(7, "renamed"));
        consumers.remove(Uuid::from_u128(8));
        assert!(old.by_username(Uuid::nil(), "user7").is_some());
        assert!(old.credential(KeyAuthCredential, Uuid::nil(), "key8").is_some());
        assert!(consumers.by_username(Uuid::nil(), "user7").is_none());
        let moved = consumers.credential(KeyAuthCredential, Uuid::nil(), "key7").unwrap();
        assert_eq!(moved.consumer.username.as_deref(), Some("renamed"));
        assert!(consumers.credential(KeyAuthCredential, Uuid::nil(), "key8").is_none());
        assert!(consumers.credential(KeyAuthCredential, Uuid::max(), "key7").is_none());
        assert_eq!((consumers.len(), consumers.credentials_len(), old.len()), (2999, 2999, 3000));
    }

    #[test]
    fn groups_of_a_consumer_stand_by_name() {
        let mut consumers = Consumers::default();
        let group = |id: u128, name: &str| ConsumerGroup { id: Uuid::from_u128(id), name: name.into() };
        let join = |id: u128, consumer: u128, group: u128| {
            let [id, consumer, group] = [id, consumer, group].map(Uuid::from_u128);
            Membership { id, consumer, group }
        };
        // In any order: a membership may be there before what it joins.
        [join(1, 7, 11), join(2, 7, 10), join(3, 8, 10), join(4, 7, 12)]
            .into_iter()
            .for_each(|membership| consumers.insert_membership(membership));
        consumers.insert_group(group(10, "silver"));
        consumers.insert_group(group(11, "gold"));
        let names = |consumers: &Consumers, id: u128| -> Vec<String> {
            let groups = consumers.groups_of(Uuid::from_u128(id));
            groups.iter().map(|group| group.name.to_string()).collect()
        };
        assert_eq!(names(&consumers, 7), ["gold", "silver"]);
        let old = consumers.clone();
        consumers.insert_group(group(11, "tin"));
        consumers.remove_membership(Uuid::from_u128(3));
        assert_eq!(names(&consumers, 7), ["silver", "tin"]);
        assert_eq!((names(&consumers, 8), names(&consumers, 9)), (vec![], vec![]));
        assert_eq!(
            (names(&old, 7), names(&old, 8)),
            (vec!["gold".into(), "silver".into()], vec!["silver".into()])
        );
    }
}
