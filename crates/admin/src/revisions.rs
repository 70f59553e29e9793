//! Tollgate's own calls: a whole sync in one transaction, the history, going back in it.

use tollgate_http::{Method, StatusCode};
use tollgate_model::{Kind, Map, Value, json};
use tollgate_store::{Author, StoreError};
use uuid::Uuid;

use crate::answer::{Answer, Failure, method_not_allowed, ok};
use crate::{Admin, Call, entities, form};

/// Answers one of Tollgate's own calls.
pub(crate) fn answer(admin: &Admin, call: &Call) -> Option<Answer> {
    let segments = call.segments();
    match (call.method.clone(), &segments[..]) {
        (Method::POST, ["tollgate", "transaction"]) => Some(transaction(admin, call)),
        (Method::GET, ["tollgate", "revisions"]) => Some(history(admin)),
        (Method::POST, ["tollgate", "revisions", number, "rollback"]) => Some(rollback(admin, number)),
        (_, ["tollgate", ..]) => Some(Err(method_not_allowed())),
        _ => None,
    }
}

fn history(admin: &Admin) -> Answer {
    let revisions = admin.store.read(|view| view.history())?;
    let data: Vec<Value> = revisions
        .iter()
        .map(|revision| {
            json!({"revision": revision.number, "time": revision.time, "author": revision.author, "message": revision.message, "changes": revision.changes})
        })
        .collect();
    ok(json!({"data": data}))
}

fn rollback(admin: &Admin, number: &str) -> Answer {
    let Ok(number) = number.parse::<u64>() else {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "the revision must be a number"));
    };
    let message = format!("rollback to revision {number}");
    let revision = admin.store.rollback(number, Author { name: "admin-api", message: &message })?;
    ok(json!({"revision": revision}))
}

/// Applies a list of operations, all or none.
fn transaction(admin: &Admin, call: &Call) -> Answer {
    if admin.facts.declarative {
        let message =
            "cannot change entities when not using a database; change the declarative file, or POST /config";
        return Err(Failure::message(StatusCode::METHOD_NOT_ALLOWED, message));
    }
    let body = form::read(call, None)?;
    let text = |name: &str, default: &'static str| {
        body.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
    };
    let (author, message) = (text("author", "deck"), text("message", "sync"));
    let workspace = match body.get("workspace").and_then(Value::as_str) {
        None => call.workspace,
        Some(name) => match admin.store.read(|view| view.get_by_name(Kind::Workspace, Uuid::nil(), name))? {
            Some(found) => found.id,
            None => {
                return Err(Failure::message(
                    StatusCode::NOT_FOUND,
                    &format!("there is no workspace '{name}'"),
                ));
            }
        },
    };
    let Some(operations) = body.get("operations").and_then(Value::as_array) else {
        return Err(Failure::message(StatusCode::BAD_REQUEST, "operations: expected an array"));
    };
    let own = Call {
        workspace,
        method: call.method.clone(),
        path: Vec::new(),
        query: Vec::new(),
        content_type: None,
        body: call.body.clone(),
        base: String::new(),
        konnect: false,
    };
    let mut refused: Vec<(usize, Failure)> = Vec::new();
    let outcome = admin.store.commit(Author { name: &author, message: &message }, |transaction| {
        for (index, operation) in operations.iter().enumerate() {
            match apply(admin, &own, transaction, operation) {
                Ok(()) => {}
                // What refers to something refused before is refused because of that alone.
                Err(failure) if !refused.is_empty() && failure.is_about_references() => {}
                Err(failure) => refused.push((index, failure)),
            }
            if refused.len() >= MOST_REFUSALS {
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
    call: &Call,
    transaction: &mut tollgate_store::Transaction<'_>,
    operation: &Value,
) -> Result<(), Failure> {
    let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
    let wrong = |message: String| Failure::message(StatusCode::BAD_REQUEST, &message);
    let kind = Kind::from_plural(text("kind"))
        .ok_or_else(|| wrong(format!("kind: there is no kind '{}'", text("kind"))))?;
    let id = Uuid::parse_str(text("id")).map_err(|_| wrong("id: expected a valid UUID".into()))?;
    match text("action") {
        "delete" => {
            transaction.delete(kind, id)?;
            Ok(())
        }
        "create" | "update" => {
            let mut input: Map<String, Value> =
                operation.get("entity").and_then(Value::as_object).cloned().unwrap_or_default();
            input.insert("id".into(), id.to_string().into());
            let checked = admin.check(&transaction.view(), call, kind, input, None)?;
            entities::put(
                transaction,
                call.workspace,
                kind,
                checked,
                text("action") == "create",
                &*admin.source,
            )?;
            Ok(())
        }
        other => Err(wrong(format!("action: expected create, update or delete, found '{other}'"))),
    }
}
