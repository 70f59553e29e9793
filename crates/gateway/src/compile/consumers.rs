//! Consumers, their credentials and their groups.

use smol_str::SmolStr;
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

use super::{Change, CompileError};
use crate::consumers::{Consumer, ConsumerGroup, Consumers, Credential, Membership};

/// Brings a change of a consumer, credential, group or membership into the tables.
pub(super) fn apply(consumers: &mut Consumers, change: &Change<'_>) -> Result<(), CompileError> {
    fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
        fields.get(name).and_then(Value::as_str)
    }
    fn reference(fields: &Map<String, Value>, name: &str) -> Option<Uuid> {
        fields.get(name)?.get("id")?.as_str().and_then(|id| Uuid::parse_str(id).ok())
    }
    let number = |fields: &Map<String, Value>, name: &str| fields.get(name).and_then(Value::as_u64);
    match (change.kind, change.after) {
        (Kind::Consumer, None) => {
            consumers.remove(change.id);
        }
        (Kind::Consumer, Some(fields)) => {
            let tags = fields.get("tags").and_then(Value::as_array);
            consumers.insert(Consumer {
                id: change.id,
                workspace: change.workspace,
                username: text(fields, "username").map(SmolStr::from),
                custom_id: text(fields, "custom_id").map(SmolStr::from),
                tags: tags.map(|tags| tags.iter().filter_map(Value::as_str).map(Box::from).collect()),
                created_at: number(fields, "created_at").unwrap_or_default(),
                updated_at: number(fields, "updated_at").unwrap_or_default(),
            });
        }
        (Kind::KeyAuthCredential, None) => consumers.remove_credential(change.id),
        (Kind::KeyAuthCredential, Some(fields)) => {
            let owner = reference(fields, "consumer").and_then(|id| consumers.get(id)).cloned();
            let (Some(consumer), Some(key)) = (owner, text(fields, "key")) else {
                let message = "its consumer does not exist".to_owned();
                return Err(CompileError::Entity { kind: change.kind, id: change.id, message });
            };
            let expires_at = number(fields, "ttl")
                .filter(|seconds| *seconds > 0)
                .map(|seconds| number(fields, "created_at").unwrap_or_default() + seconds);
            consumers.insert_credential(Credential {
                id: change.id,
                consumer,
                key: key.as_bytes().into(),
                expires_at,
                kind: change.kind,
            });
        }
        (Kind::ConsumerGroup, None) => consumers.remove_group(change.id),
        (Kind::ConsumerGroup, Some(fields)) => {
            let name = text(fields, "name").unwrap_or_default().into();
            consumers.insert_group(ConsumerGroup { id: change.id, name });
        }
        (Kind::ConsumerGroupConsumer, None) => consumers.remove_membership(change.id),
        (Kind::ConsumerGroupConsumer, Some(fields)) => {
            let (Some(consumer), Some(group)) =
                (reference(fields, "consumer"), reference(fields, "consumer_group"))
            else {
                let message = "it joins no consumer with a group".to_owned();
                return Err(CompileError::Entity { kind: change.kind, id: change.id, message });
            };
            consumers.insert_membership(Membership { id: change.id, consumer, group });
        }
        _ => {}
    }
    Ok(())
}
