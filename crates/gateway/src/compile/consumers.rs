//! Consumers and their credentials.

use smol_str::SmolStr;
use tollgate_model::{Kind, Map, Value};
use uuid::Uuid;

use super::{Change, CompileError};
use crate::consumers::{Consumer, Consumers, Credential};

/// Brings a change of a consumer or credential into the tables.
pub(super) fn apply(consumers: &mut Consumers, change: &Change<'_>) -> Result<(), CompileError> {
    fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
        fields.get(name).and_then(Value::as_str)
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
            let owner = fields.get("consumer").and_then(|owner| owner.get("id")).and_then(Value::as_str);
            let owner =
                owner.and_then(|id| Uuid::parse_str(id).ok()).and_then(|id| consumers.get(id)).cloned();
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
        _ => {}
    }
    Ok(())
}
