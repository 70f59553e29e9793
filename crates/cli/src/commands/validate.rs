//! `validate`: every entity of some files against the server's schemas.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tollgate_declare::plan::{Known, Surroundings, desired};
use tollgate_declare::{Declaration, Problem};
use tollgate_model::Kind;

use super::{Now, control_plane, problems_of, schemas};
use crate::arguments::Validate;
use crate::remote::Remote;
use crate::settings::Settings;
use crate::{CliError, diagnostics, files};

/// Names that `--online-entities-list` knows, with the kinds that there are here.
const NAMES: [(&str, Option<Kind>); 21] = [
    ("ACLGroups", None),
    ("BasicAuths", None),
    ("CACertificates", Some(Kind::CaCertificate)),
    ("Certificates", Some(Kind::Certificate)),
    ("Consumers", Some(Kind::Consumer)),
    ("Documents", None),
    ("FilterChains", None),
    ("HMACAuths", None),
    ("JWTAuths", None),
    ("KeyAuths", Some(Kind::KeyAuthCredential)),
    ("Oauth2Creds", None),
    ("Partials", None),
    ("Plugins", Some(Kind::Plugin)),
    ("RBACEndpointPermissions", None),
    ("RBACRoles", None),
    ("Routes", Some(Kind::Route)),
    ("SNIs", Some(Kind::Sni)),
    ("Services", Some(Kind::Service)),
    ("Targets", Some(Kind::Target)),
    ("Upstreams", Some(Kind::Upstream)),
    ("Vaults", None),
];

/// Checks the files; silent where nothing is wrong.
pub(super) fn run(settings: &Settings, flags: &Validate) -> Result<ExitCode, CliError> {
    if flags.parallelism < 1 {
        return Err(CliError::Message(format!(
            "--parallelism cannot be less than 1, got {}",
            flags.parallelism
        )));
    }
    let kinds = kinds(&flags.online_entities_list)?;
    diagnostics::check_codes(&flags.diagnostics)?;
    let declaration = files::read(&flags.files)?;
    diagnostics::check(&declaration, &flags.diagnostics)?;
    let konnect = settings.is_konnect();
    if flags.konnect_compatibility || konnect {
        let problems = incompatible(settings, &declaration);
        if !problems.is_empty() {
            return Err(CliError::Problems(problems));
        }
    }
    if flags.konnect_compatibility && !konnect {
        return Ok(ExitCode::SUCCESS);
    }
    let workspace = flags.workspace.as_deref().or(declaration.workspace.as_deref());
    let remote = if konnect {
        Remote::konnect(settings, &control_plane(settings, Some(&declaration))?)?
    } else {
        Remote::kong(settings, workspace)?.0
    };
    if let Some(name) = workspace
        && !konnect
        && !settings.skip_workspaces
        && !remote.has_workspace(name)?
    {
        return Err(CliError::Message(format!("workspace '{name}' does not exist in Kong")));
    }
    let mut aside = Vec::new();
    for (kind, tags) in declaration.lookup_tags() {
        aside.extend(remote.entities_of(&[kind], &tags)?);
    }
    let (nothing, aside) = (Known::default(), Known::new(aside));
    let schemas = schemas(&remote, Some(&declaration), &[])?;
    let around = Surroundings { current: &nothing, referable: &aside, schemas: &schemas, source: &Now };
    let entities = desired(&declaration, &around).map_err(CliError::Problems)?;
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..usize::try_from(flags.parallelism).unwrap_or(1).min(entities.len()) {
            scope.spawn(|| {
                while let Some(entity) = entities.get(next.fetch_add(1, Ordering::Relaxed)) {
                    // decK has no groups checked.
                    let groups = matches!(entity.kind, Kind::ConsumerGroup | Kind::ConsumerGroupConsumer);
                    if groups || kinds.as_ref().is_some_and(|kinds| !kinds.contains(&entity.kind)) {
                        continue;
                    }
                    if let Err(error) = remote.validate(entity.kind, &Value::Object(entity.fields.clone())) {
                        let list = problems_of(&declaration, Some(entity.place), "", &error);
                        problems
                            .lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .extend(list.into_iter().map(|problem| (entity.place, problem)));
                    }
                }
            });
        }
    });
    let mut problems = problems.into_inner().unwrap_or_default();
    problems.sort_by_key(|(place, _)| *place);
    if problems.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(CliError::Problems(problems.into_iter().map(|(_, problem)| problem).collect()))
}

fn kinds(names: &[String]) -> Result<Option<Vec<Kind>>, CliError> {
    if names.is_empty() {
        return Ok(None);
    }
    let mut kinds = Vec::new();
    for name in names {
        match NAMES.iter().find(|(other, _)| other == name) {
            Some((_, kind)) => kinds.extend(kind),
            None => {
                let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
                return Err(CliError::Message(format!(
                    "--online-entities-list: there is no kind '{name}'; expected some of {}",
                    known.join(", ")
                )));
            }
        }
    }
    Ok(Some(kinds))
}

/// What Konnect would not take.
fn incompatible(settings: &Settings, declaration: &Declaration) -> Vec<Problem> {
    let mut problems = Vec::new();
    if !declaration.konnect && settings.control_plane.is_none() {
        problems.push(Problem::at(
            "",
            0,
            "",
            "[konnect] section not specified - ensure details are set via cli flags",
        ));
    }
    for declared in declaration.entities.iter().filter(|declared| declared.kind == Kind::Plugin) {
        let text = |fields: &serde_json::Map<String, Value>, name: &str| {
            fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let name = text(&declared.fields, "name");
        let enabled = declared.fields.get("enabled").is_none_or(|enabled| enabled != false);
        let strategy =
            declared.fields.get("config").and_then(Value::as_object).map(|config| text(config, "strategy"));
        let limits = [
            "rate-limiting",
            "rate-limiting-advanced",
            "response-ratelimiting",
            "graphql-rate-limiting-advanced",
        ];
        if enabled
            && ["jwt-signer", "vault-auth", "oauth2", "application-registration", "key-auth-enc", "openwhisk"]
                .contains(&name.as_str())
        {
            problems
                .push(declared.problem("name", format!("[{name}] plugin is not compatible with Konnect")));
        } else if enabled && limits.contains(&name.as_str()) && strategy.as_deref() == Some("cluster") {
            problems.push(
                declared.problem(
                    "config.strategy",
                    format!("[{name}] plugin can't be used with cluster strategy"),
                ),
            );
        }
    }
    problems
}
