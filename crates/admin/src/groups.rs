//! Who belongs to which consumer group, seen from both sides (Kong Enterprise 3.11).

use tollgate_http::StatusCode;
use tollgate_model::{FieldErrors, Kind, Map, Value, json, membership_id};
use tollgate_store::{StoreError, Stored, View};

use crate::answer::{Answer, Failure, created, not_found, nothing, ok};
use crate::entities::{Write, reference};
use crate::{Admin, Call, form};

const MEMBERSHIP: Kind = Kind::ConsumerGroupConsumer;

/// One of the two sides of a membership.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    kind: Kind,
    /// The field by which a membership refers to it.
    pub(crate) field: &'static str,
    /// Its name in a body that adds one.
    added: &'static str,
}

const CONSUMER: Side = Side { kind: Kind::Consumer, field: "consumer", added: "consumer" };
const GROUP: Side = Side { kind: Kind::ConsumerGroup, field: "consumer_group", added: "group" };

/// What a path of consumer groups leads to besides the groups themselves and their plugins.
pub(crate) struct Groups<'a> {
    /// Whose memberships they are: a consumer's, or a group's.
    of: Side,
    key: &'a str,
    what: What<'a>,
}

enum What<'a> {
    /// `/consumer_groups/{group}/consumers`, `/consumers/{consumer}/consumer_groups`
    All,
    /// The same with a further `/{consumer}` or `/{group}`
    One(&'a str),
    /// `/consumer_groups/{group}/overrides/plugins/rate-limiting-advanced`
    Overrides,
}

impl Side {
    /// Who or what a membership joins on this side.
    pub(crate) fn joined(self, view: &View<'_>, membership: &Stored) -> Result<Option<Value>, StoreError> {
        let Some(id) = reference(&membership.fields, self.field) else { return Ok(None) };
        Ok(view.get(self.kind, id)?.map(|stored| Value::Object(stored.fields)))
    }
}

impl<'a> Groups<'a> {
    pub(crate) fn of(segments: &[&'a str]) -> Option<Self> {
        let (of, key, what) = match *segments {
            ["consumer_groups", key, "consumers"] => (GROUP, key, What::All),
            ["consumer_groups", key, "consumers", other] => (GROUP, key, What::One(other)),
            ["consumers", key, "consumer_groups"] => (CONSUMER, key, What::All),
            ["consumers", key, "consumer_groups", other] => (CONSUMER, key, What::One(other)),
            ["consumer_groups", key, "overrides", "plugins", "rate-limiting-advanced"] => {
                (GROUP, key, What::Overrides)
            }
            _ => return None,
        };
        Some(Self { of, key, what })
    }

    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self.what {
            What::All => &["DELETE", "GET", "HEAD", "OPTIONS", "POST"],
            What::One(_) => &["DELETE", "OPTIONS"],
            What::Overrides => &["DELETE", "OPTIONS", "PUT"],
        }
    }

    fn other(&self) -> Side {
        if self.of.kind == Kind::Consumer { GROUP } else { CONSUMER }
    }

    pub(crate) fn answer(&self, admin: &Admin, call: &Call) -> Answer {
        let own = admin.find(call, self.of.kind, self.key)?.ok_or_else(not_found)?;
        match (&self.what, call.method.as_str()) {
            (What::All, "GET") => admin.list_members(call, &own, self.of, self.other()),
            (What::All, "POST") => self.add(admin, call, own),
            (What::All, _) => {
                admin.transact(call, MEMBERSHIP, Write::Remove(self.key), |transaction| {
                    let all = transaction.view().list_referring(
                        MEMBERSHIP,
                        self.of.field,
                        own.id,
                        None,
                        usize::MAX,
                        None,
                    )?;
                    for membership in all.entities {
                        transaction.delete(MEMBERSHIP, membership.id)?;
                    }
                    Ok(())
                })?;
                nothing()
            }
            (What::One(key), _) => {
                let other = admin.find(call, self.other().kind, key)?.ok_or_else(not_found)?;
                let id = membership_id(MEMBERSHIP, &self.join(&own, &other)).unwrap_or_default();
                admin.transact(call, MEMBERSHIP, Write::Remove(key), |transaction| {
                    Ok(transaction.delete(MEMBERSHIP, id)?)
                })?;
                // Who was no member is none either.
                nothing()
            }
            (What::Overrides, _) => {
                let message = "there is no plugin 'rate-limiting-advanced' to override settings of; \
                               bind a plugin to the group instead: POST /consumer_groups/{group}/plugins";
                Err(Failure::message(StatusCode::NOT_FOUND, message))
            }
        }
    }

    /// A membership of both.
    fn join(&self, own: &Stored, other: &Stored) -> Map<String, Value> {
        let refer = |side: Side, to: &Stored| (side.field.to_owned(), json!({"id": to.id.to_string()}));
        Map::from_iter([refer(self.of, own), refer(self.other(), other)])
    }

    /// Adds one or several, by id or name; who is a member already stays one.
    fn add(&self, admin: &Admin, call: &Call, own: Stored) -> Answer {
        let other = self.other();
        let mut body = form::read(call, None)?;
        let keys: Option<Vec<String>> = match body.remove(other.added) {
            Some(Value::String(key)) => Some(vec![key]),
            Some(Value::Array(keys)) => keys.iter().map(|key| key.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
            None => return Err(FieldErrors::of(other.added, "required field missing").into()),
        };
        let keys =
            keys.ok_or_else(|| FieldErrors::of(other.added, "expected an id or a name, or a list of them"))?;
        let mut added = Vec::new();
        for key in &keys {
            let missing = || {
                let message = format!("there is no {} '{key}'", other.added);
                Failure::message(StatusCode::NOT_FOUND, &message)
            };
            added.push(admin.find(call, other.kind, key)?.ok_or_else(missing)?);
        }
        admin.transact(call, MEMBERSHIP, Write::Create, |transaction| {
            for one in &added {
                let membership = self.join(&own, one);
                let id = membership_id(MEMBERSHIP, &membership).unwrap_or_default();
                if transaction.view().get(MEMBERSHIP, id)?.is_none() {
                    admin.put_in_sync(transaction, call.workspace, MEMBERSHIP, membership)?;
                }
            }
            Ok(())
        })?;
        let shown =
            |list: Vec<Stored>| list.into_iter().map(|one| Value::Object(one.fields)).collect::<Value>();
        created(json!({self.of.field: own.fields, other.kind.plural(): shown(added)}))
    }
}

impl Admin {
    /// A group as Kong shows it by itself: with its members, unless `list_consumers` is false, and its plugins, which
    /// decK wants to list by themselves in Konnect.
    pub(crate) fn show_group(&self, call: &Call, group: Stored) -> Answer {
        let (mut consumers, mut plugins) = (Vec::new(), Vec::new());
        let everyone = call.query("list_consumers") != Some("false");
        self.store.read(|view| {
            let belonging =
                |kind: Kind| view.list_referring(kind, GROUP.field, group.id, None, usize::MAX, None);
            if everyone {
                for membership in belonging(MEMBERSHIP)?.entities {
                    consumers.extend(CONSUMER.joined(view, &membership)?);
                }
            }
            if !call.konnect {
                plugins = belonging(Kind::Plugin)?
                    .entities
                    .into_iter()
                    .map(|one| Value::Object(one.fields))
                    .collect();
            }
            Ok::<_, StoreError>(())
        })?;
        let mut shown = json!({"consumer_group": group.fields, "plugins": plugins});
        if let Some(shown) = shown.as_object_mut().filter(|_| everyone) {
            shown.insert("consumers".into(), consumers.into());
        }
        ok(shown)
    }
}
