//! Certificates and the list of server names that is shown with each (Kong 3.11: `snis`, which is no field of
//! the entity).

use tollgate_model::check::Mode;
use tollgate_model::{FieldErrors, Kind, Map, Value, json};
use tollgate_store::{StoreError, Transaction, View};
use uuid::Uuid;

use crate::answer::Failure;
use crate::entities::reference;
use crate::{Admin, Call, form};

/// Names of a certificate, sorted.
pub(crate) fn names(view: &View<'_>, certificate: Uuid) -> Result<Vec<String>, StoreError> {
    let snis = view.list_referring(Kind::Sni, "certificate", certificate, None, usize::MAX, None)?;
    let name = |fields: &Map<String, Value>| fields.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut names: Vec<String> = snis.entities.iter().filter_map(|sni| name(&sni.fields)).collect();
    names.sort();
    Ok(names)
}

/// The certificate that a server name has in a workspace.
pub(crate) fn by_name(view: &View<'_>, workspace: Uuid, name: &str) -> Result<Option<Uuid>, StoreError> {
    let sni = view.get_by_name(Kind::Sni, workspace, name)?;
    Ok(sni.filter(|sni| sni.workspace == workspace).and_then(|sni| reference(&sni.fields, "certificate")))
}

/// Takes the names a certificate shall have out of its input: `None` leaves them as they are. A replaced
/// certificate that says nothing of them has none; the name in its path is one of those it lists.
///
/// # Errors
/// What is no list of names, and names given twice.
pub(crate) fn take_names(
    call: &Call,
    input: &mut Map<String, Value>,
    path_name: Option<&str>,
) -> Result<Option<Vec<String>>, Failure> {
    let put = call.method == "PUT";
    let mut given = input.remove("snis");
    if form::is_form(call) && given.as_ref().and_then(Value::as_str) == Some("") {
        given = Some(Value::Null);
    }
    let mut names = match given {
        None if put => return Ok(Some(Vec::new())),
        None => return Ok(None),
        Some(Value::Null) => return Ok(Some(Vec::new())),
        Some(Value::String(name)) => read_names(vec![name.into()])?,
        Some(Value::Array(list)) => read_names(list)?,
        Some(_) => return Err(FieldErrors::of("snis", "expected an array").into()),
    };
    if let Some(name) = path_name.filter(|_| put)
        && !names.iter().any(|there| there == name)
    {
        names.push(name.to_owned());
    }
    names.sort();
    if let Some([twice, _]) = names.windows(2).find(|pair| pair.first() == pair.last()) {
        return Err(FieldErrors::of("snis", format!("{twice} is duplicated")).into());
    }
    Ok(Some(names))
}

/// Server names as they may be, or what is wrong with which.
fn read_names(list: Vec<Value>) -> Result<Vec<String>, Failure> {
    let field = Kind::Sni.schema().fields.iter().find(|field| field.name == "name");
    let check = |name: &Value| field.and_then(|field| field.shape.check(name.clone(), Mode::Insert).err());
    let wrong: Vec<Value> = list.iter().map(|name| check(name).unwrap_or_default()).collect();
    if wrong.iter().any(|error| !error.is_null()) {
        let mut errors = FieldErrors::new();
        errors.nest("snis", wrong.into());
        return Err(errors.into());
    }
    Ok(list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

/// Gives a certificate exactly these names.
///
/// # Errors
/// A name that another certificate has, or that is none.
pub(crate) fn put_names(
    transaction: &mut Transaction<'_>,
    workspace: Uuid,
    certificate: Uuid,
    names: &[String],
    admin: &Admin,
) -> Result<(), StoreError> {
    let mut kept = Vec::new();
    let there =
        transaction.view().list_referring(Kind::Sni, "certificate", certificate, None, usize::MAX, None)?;
    for sni in there.entities {
        let name = sni.fields.get("name").and_then(Value::as_str).unwrap_or_default();
        if names.iter().any(|wanted| wanted == name) {
            kept.push(name.to_owned());
        } else {
            transaction.delete(Kind::Sni, sni.id)?;
        }
    }
    for name in names.iter().filter(|name| !kept.contains(name)) {
        if let Some(other) = transaction.view().get_by_name(Kind::Sni, workspace, name)? {
            let owner = reference(&other.fields, "certificate").unwrap_or_default();
            let message = format!("{name} already associated with existing certificate '{owner}'");
            return Err(FieldErrors::of("snis", message).into());
        }
        let input = json!({"name": name, "certificate": {"id": certificate.to_string()}});
        let Value::Object(input) = input else { continue };
        let checked = tollgate_model::check_entity(Kind::Sni, input, None, &*admin.plugins, &*admin.source)?;
        transaction.insert(Kind::Sni, workspace, checked)?;
    }
    Ok(())
}
