//! Tollgate's own calls: a whole sync in one transaction, the history, going back in it.

use tollgate_http::StatusCode;
use tollgate_model::{Kind, Value, json};
use tollgate_store::{Author, Change, Revision, StoreError, Transaction};
use uuid::Uuid;

use crate::answer::{Answer, Failure, ok};
use crate::{Admin, Call, form, id_of, list};

/// What a path of Tollgate's own leads to. A revision is named by its number.
pub(crate) enum Own<'a> {
    /// `POST /tollgate/transaction`
    Transaction,
    /// `GET /tollgate/revisions`
    Revisions,
    /// `GET /tollgate/revisions/{revision}`: what it changed
    Revision(&'a str),
    /// `GET /tollgate/revisions/{revision}/diff?from={revision}`: what changed since another, the latest where
    /// none is named
    Difference(&'a str),
    /// `POST /tollgate/revisions/{revision}/rollback`
    Rollback(&'a str),
}

impl<'a> Own<'a> {
    pub(crate) fn of(segments: &[&'a str]) -> Option<Self> {
        Some(match *segments {
            ["tollgate", "transaction"] => Self::Transaction,
            ["tollgate", "revisions"] => Self::Revisions,
            ["tollgate", "revisions", number] => Self::Revision(number),
            ["tollgate", "revisions", number, "diff"] => Self::Difference(number),
            ["tollgate", "revisions", number, "rollback"] => Self::Rollback(number),
            _ => return None,
        })
    }

    pub(crate) fn methods(&self) -> &'static [&'static str] {
        match self {
            Self::Transaction | Self::Rollback(_) => &["OPTIONS", "POST"],
            Self::Revisions | Self::Revision(_) | Self::Difference(_) => &["GET", "HEAD", "OPTIONS"],
        }
    }

    pub(crate) fn answer(&self, admin: &Admin, call: &Call) -> Answer {
        match self {
            Self::Transaction => transaction(admin, call),
            Self::Revisions => history(admin, call),
            Self::Revision(number) => show(admin, revision_number(number)?),
            Self::Difference(number) => difference(admin, call, revision_number(number)?),
            Self::Rollback(number) => rollback(admin, call, revision_number(number)?),
        }
    }
}

fn revision_number(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::message(StatusCode::BAD_REQUEST, "the revision must be a number");
    text.parse().map_err(|_| wrong())
}

fn summary(revision: &Revision) -> Value {
    json!({
        "revision": revision.number, "time": revision.time, "author": revision.author,
        "message": revision.message, "changes": revision.changes
    })
}

/// What happened to each entity. An update shows both states, as the Admin API shows entities.
fn changes(list: Vec<Change>) -> Value {
    let show = |change: Change| {
        let action = match (&change.before, &change.after) {
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        };
        json!({
            "action": action, "kind": change.kind.plural(), "id": change.id.to_string(),
            "workspace": change.workspace.to_string(), "before": change.before, "after": change.after
        })
    };
    list.into_iter().map(show).collect()
}

/// The latest revisions, all that are kept unless a `size` is given; `offset` is the number of the first.
fn history(admin: &Admin, call: &Call) -> Answer {
    let size = if call.has_query("size") { list::page_size(call)? } else { list::LARGEST_PAGE };
    let from = call.query("offset").map(revision_number).transpose()?;
    let mut revisions = admin.store.read(|view| view.history(size + 1, from))?;
    let next = if revisions.len() > size { revisions.pop() } else { None };
    let data: Vec<Value> = revisions.iter().map(summary).collect();
    let next = next.map(|next| next.number.to_string());
    let link = next.as_ref().map(|next| format!("/tollgate/revisions?offset={next}&size={size}"));
    ok(json!({"data": data, "next": link, "offset": next}))
}

fn show(admin: &Admin, number: u64) -> Answer {
    let (revision, made) = admin.store.read(|view| {
        let found = view.history(1, Some(number))?.pop().filter(|found| found.number == number);
        let found = found.ok_or(StoreError::NoRevision(number))?;
        // The first that is kept has none before it to be compared with.
        let made = match view.difference(number.saturating_sub(1), number) {
            Err(StoreError::NoRevision(_)) => None,
            made => Some(made?),
        };
        Ok((found, made))
    })?;
    let mut body = summary(&revision);
    if let Some(body) = body.as_object_mut() {
        body.insert("made".into(), made.map_or(Value::Null, changes));
    }
    ok(body)
}

fn difference(admin: &Admin, call: &Call, to: u64) -> Answer {
    let from = call.query("from").map(revision_number).transpose()?;
    let (from, made) = admin.store.read(|view| {
        let from = from.map_or_else(|| view.revision(), Ok)?;
        Ok((from, view.difference(from, to)?))
    })?;
    ok(json!({"from": from, "to": to, "data": changes(made)}))
}

fn rollback(admin: &Admin, call: &Call, number: u64) -> Answer {
    admin.must_have_store()?;
    let body = form::read(call, None)?;
    let author = body.get("author").and_then(Value::as_str).unwrap_or("admin-api");
    let message = format!("rollback to revision {number}");
    let revision = admin.store.rollback(number, Author { name: author, message: &message })?;
    ok(json!({"revision": revision}))
}

impl Admin {
    /// Whether entities can be changed at all.
    pub(crate) fn must_have_store(&self) -> Result<(), Failure> {
        if self.facts.declarative {
            let message = "cannot change entities when not using a database; change the declarative file, or POST /config";
            return Err(Failure::message(StatusCode::METHOD_NOT_ALLOWED, message));
        }
        Ok(())
    }
}

/// Applies a list of operations, all or none.
fn transaction(admin: &Admin, call: &Call) -> Answer {
    admin.must_have_store()?;
    let mut body = form::read(call, None)?;
    let text = |name: &str, default: &'static str| {
        body.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let (author, message) = (text("author", "deck"), text("message", "sync"));
    let workspace = match body.get("workspace").and_then(Value::as_str) {
        None => call.workspace,
        Some(name) => match admin.store.read(|view| view.get_by_name(Kind::Workspace, Uuid::nil(), name))? {
            Some(found) => found.id,
            None => {
                let message = format!("there is no workspace '{name}'");
                return Err(Failure::message(StatusCode::NOT_FOUND, &message));
            }
        },
    };
    let Some(Value::Array(operations)) = body.remove("operations") else {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "operations: expected an array"));
    };
    let mut refused: Vec<(usize, Failure)> = Vec::new();
    let outcome = admin.store.commit(Author { name: &author, message: &message }, |transaction| {
        for (index, operation) in operations.into_iter().enumerate() {
            match apply(admin, workspace, transaction, operation) {
                Ok(()) => {}
                // What refers to something refused before is refused because of that alone.
                Err(failure) if !refused.is_empty() && failure.is_about_references() => {}
                Err(failure) => refused.push((index, failure)),
            }
            // What fails in the store fails for every operation.
            let failed = refused.last().is_some_and(|(_, failure)| failure.status.is_server_error());
            if failed || refused.len() >= MOST_REFUSALS {
                break;
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(StoreError::Refused(String::new())) }
    });
    match outcome {
        Err(_) if !refused.is_empty() => Err(all_refused(refused)),
        Ok(((), revision)) => ok(json!({"revision": revision})),
        Err(error) => Err(error.into()),
    }
}

/// How many refused operations of a transaction are told.
const MOST_REFUSALS: usize = 100;

/// The first refusal, with all of them in `errors`; each says which `operation` it is about.
fn all_refused(refused: Vec<(usize, Failure)>) -> Failure {
    let status = refused.first().map_or(StatusCode::BAD_REQUEST, |(_, failure)| failure.status);
    let errors: Vec<Value> = refused
        .into_iter()
        .map(|(index, failure)| {
            let mut body = failure.body.unwrap_or_else(|| json!({}));
            if let Some(body) = body.as_object_mut() {
                body.insert("operation".into(), index.into());
            }
            body
        })
        .collect();
    let mut body = errors.first().cloned().unwrap_or_else(|| json!({}));
    if let Some(body) = body.as_object_mut() {
        body.insert("errors".into(), Value::Array(errors));
    }
    Failure { status, body: Some(body) }
}

fn apply(
    admin: &Admin,
    workspace: Uuid,
    transaction: &mut Transaction<'_>,
    mut operation: Value,
) -> Result<(), Failure> {
    let entity = operation.get_mut("entity").map(Value::take);
    let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
    let wrong = |message: String| Failure::message(StatusCode::BAD_REQUEST, &message);
    let kind = Kind::from_plural(text("kind"))
        .ok_or_else(|| wrong(format!("kind: there is no kind '{}'", text("kind"))))?;
    let id = id_of(text("id")).ok_or_else(|| wrong("id: expected a valid UUID".into()))?;
    // An id of another workspace is none here.
    let there = transaction.view().get(kind, id)?;
    let here = there.filter(|stored| !kind.workspaced() || stored.workspace == workspace).is_some();
    match text("action") {
        "delete" => {
            if here {
                transaction.delete(kind, id)?;
            }
            Ok(())
        }
        action @ ("create" | "update") => {
            // Who is a member already may join again.
            if action == "create" && here && kind != Kind::ConsumerGroupConsumer {
                return Err(StoreError::PrimaryKey { kind, id }.into());
            }
            let Some(Value::Object(mut input)) = entity else {
                return Err(wrong("entity: expected an object".into()));
            };
            input.insert("id".into(), id.to_string().into());
            admin.put_in_sync(transaction, workspace, kind, input)
        }
        other => Err(wrong(format!("action: expected create, update or delete, found '{other}'"))),
    }
}
