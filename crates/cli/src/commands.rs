//! What each command does.

mod apply;
mod dump;
mod node;
mod reset;
mod validate;

use std::collections::HashSet;
use std::process::ExitCode;

use serde_json::{Map, Value};
use tollgate_declare::plan::{Existing, Known, Schemas};
use tollgate_declare::{Declaration, Declared, Problem};
use tollgate_model::{FieldErrors, Kind, Source};

use crate::CliError;
use crate::arguments::{Connection, GatewayCommand, Selection};
use crate::client::CallError;
use crate::remote::Remote;
use crate::settings::Settings;

/// Runs a command.
///
/// # Errors
/// What went wrong.
pub fn run(connection: &Connection, command: GatewayCommand) -> Result<ExitCode, CliError> {
    let settings = Settings::gather(connection, &|name| std::env::var(name).ok())?;
    match command {
        GatewayCommand::Ping(ping) => node::ping(&settings, ping.workspace.as_deref()),
        GatewayCommand::Sync(sync) => apply::sync(&settings, &sync),
        GatewayCommand::Apply(apply) => apply::apply(&settings, &apply),
        GatewayCommand::Diff(diff) => apply::diff(&settings, &diff),
        GatewayCommand::Dump(dump) => dump::run(&settings, &dump),
        GatewayCommand::Validate(validate) => validate::run(&settings, &validate),
        GatewayCommand::Reset(reset) => reset::run(&settings, &reset),
        GatewayCommand::History => node::history(&settings),
        GatewayCommand::Rollback { revision } => node::rollback(&settings, revision),
    }
}

/// The system's clock, and random ids.
struct Now;

impl Source for Now {
    fn now(&self) -> f64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0.0, |since| since.as_secs_f64())
    }
}

/// The control plane that is meant, from the flag and the files, which must agree.
fn control_plane(settings: &Settings, declaration: Option<&Declaration>) -> Result<String, CliError> {
    let of_file = declaration.and_then(|declaration| declaration.control_plane.as_deref());
    match (settings.control_plane.as_deref(), of_file) {
        (Some(flag), Some(file)) if flag != file => Err(CliError::Message(format!(
            "warning: control plane '{flag}' specified via --konnect-[control-plane|runtime-group]-name flag is different \
             from '{file}' found in state file(s)"
        ))),
        (flag, file) => Ok(file.or(flag).unwrap_or("default").to_owned()),
    }
}

/// The set of entities that a command without files is about.
fn open(settings: &Settings, workspace: Option<&str>) -> Result<Remote, CliError> {
    if settings.is_konnect() {
        return Remote::konnect(settings, &control_plane(settings, None)?);
    }
    let (remote, _) = Remote::kong(settings, workspace)?;
    if let Some(name) = workspace
        && !settings.skip_workspaces
        && !remote.has_workspace(name)?
    {
        return Err(CliError::Message(format!("workspace '{name}' does not exist in Kong")));
    }
    Ok(remote)
}

/// Tags as decK sorts them.
fn tags_of(selection: &Selection) -> Vec<String> {
    let mut tags = selection.select_tag.clone();
    tags.sort();
    tags.dedup();
    tags
}

impl Selection {
    /// Whether an entity is looked at.
    fn takes(&self, kind: Kind, fields: &Map<String, Value>) -> bool {
        let is_set = |field: &str| fields.get(field).is_some_and(|value| !value.is_null());
        match kind {
            Kind::Consumer | Kind::ConsumerGroup | Kind::ConsumerGroupConsumer | Kind::KeyAuthCredential => {
                !self.skip_consumers
            }
            Kind::Plugin => !(self.skip_consumers && (is_set("consumer") || is_set("consumer_group"))),
            Kind::CaCertificate => !self.skip_ca_certificates,
            _ => true,
        }
    }

    /// The entities of a server that are looked at: those with all of the tags, and who of them belongs to a group of
    /// them or of those that are looked up `aside`.
    fn entities(&self, remote: &Remote, tags: &[String], aside: &Known) -> Result<Vec<Existing>, CliError> {
        let mut entities = remote.entities(tags)?;
        entities.retain(|entity| self.takes(entity.kind, &entity.fields));
        if self.skip_consumers || self.skip_consumers_with_consumer_groups {
            return Ok(entities);
        }
        let all = || entities.iter().chain(aside.entities());
        let groups: Vec<&Existing> = all().filter(|entity| entity.kind == Kind::ConsumerGroup).collect();
        let mut memberships = remote.memberships(&groups)?;
        let own: HashSet<&str> = entities.iter().map(|entity| entity.id.as_str()).collect();
        let known: HashSet<&str> = all().map(|entity| entity.id.as_str()).collect();
        memberships.retain(|membership| {
            let joins = ["consumer", "consumer_group"].map(|field| {
                membership.fields.get(field).and_then(|to| to.get("id")).and_then(Value::as_str)
            });
            let mut joins = joins.into_iter().flatten();
            joins.clone().all(|id| known.contains(id)) && joins.any(|id| own.contains(id))
        });
        entities.extend(memberships);
        Ok(entities)
    }

    /// Refuses members of groups in files where they are not to be looked at.
    fn check_members(&self, declaration: &Declaration) -> Result<(), CliError> {
        let is_membership = |declared: &&Declared| declared.kind == Kind::ConsumerGroupConsumer;
        match declaration.entities.iter().find(is_membership) {
            Some(declared) if self.skip_consumers_with_consumer_groups => {
                let message = "members of consumer groups cannot be declared with --skip-consumers-with-consumer-groups";
                Err(CliError::Problems(vec![declared.problem("", message)]))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what there is nothing of here.
    fn check(&self) -> Result<(), CliError> {
        if self.rbac_resources_only {
            let message = "--rbac-resources-only: RBAC roles and permissions are not managed by this command; leave the flag out to manage everything else";
            return Err(CliError::Message(message.into()));
        }
        Ok(())
    }
}

/// Gathers the schemas of everything there is and should be. A declared plugin that the server does not know
/// is a problem of the file.
fn schemas(
    remote: &Remote,
    declaration: Option<&Declaration>,
    existing: &[Existing],
) -> Result<Schemas, CliError> {
    let mut schemas = Schemas::default();
    remote.entity_schemas(&mut schemas)?;
    let mut problems = Vec::new();
    let name_of = |fields: &Map<String, Value>| fields.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut refused: Vec<String> = Vec::new();
    for declared in declaration.into_iter().flat_map(|declaration| &declaration.entities) {
        let Some(name) = name_of(&declared.fields).filter(|_| declared.kind == Kind::Plugin) else {
            continue;
        };
        if schemas.plugin(&name).is_some() {
            continue;
        }
        let answer = if refused.contains(&name) { None } else { Some(remote.plugin_schema(&name)) };
        match answer {
            Some(Ok(schema)) => schemas.add_plugin(&name, schema),
            Some(Err(error)) if error.status() != Some(404) => return Err(error.into()),
            Some(Err(error)) => {
                problems
                    .push(declared.problem("name", format!("the server has no plugin '{name}': {error}")));
                refused.push(name);
            }
            None => problems.push(declared.problem("name", format!("the server has no plugin '{name}'"))),
        }
    }
    for entity in existing.iter().filter(|entity| entity.kind == Kind::Plugin) {
        let Some(name) = name_of(&entity.fields) else { continue };
        if schemas.plugin(&name).is_none()
            && let Ok(schema) = remote.plugin_schema(&name)
        {
            schemas.add_plugin(&name, schema);
        }
    }
    if problems.is_empty() { Ok(schemas) } else { Err(CliError::Problems(problems)) }
}

/// What a server finds wrong with a declared entity, by field and line.
fn problems_of(
    declaration: &Declaration,
    place: Option<usize>,
    what: &str,
    error: &CallError,
) -> Vec<Problem> {
    let Some(declared) = place.and_then(|place| declaration.entities.get(place)) else {
        return vec![Problem::at("", 0, "", format!("while processing event: {what} failed: {error}"))];
    };
    let CallError::Status { body, .. } = error else {
        return vec![declared.problem("", error.to_string())];
    };
    // Only a schema violation has messages by field; other errors have the values there.
    let fields = body
        .get("fields")
        .and_then(Value::as_object)
        .filter(|_| body.get("code").is_some_and(|code| code == 2));
    let mut errors = FieldErrors::new();
    for (name, value) in fields.into_iter().flatten() {
        errors.nest(name, value.clone());
    }
    let mut problems: Vec<Problem> =
        errors.flat().into_iter().map(|(path, message)| declared.problem(&path, message)).collect();
    if problems.is_empty() {
        let field = body.get("fields").and_then(Value::as_object).and_then(|fields| fields.keys().next());
        let field = field.map_or("", String::as_str).trim_start_matches('@');
        problems.push(declared.problem(field, error.to_string()));
    }
    problems
}
