//! `dump`

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tollgate_declare::plan::Known;
use tollgate_declare::write::{Header, Sanitizer, Style, document, to_yaml};
use uuid::Uuid;

use super::{open, schemas, tags_of};
use crate::CliError;
use crate::arguments::{Dump, Format};
use crate::output::{confirm, indented, print};
use crate::remote::Remote;
use crate::settings::Settings;

/// Writes the configuration.
pub(super) fn run(settings: &Settings, flags: &Dump) -> Result<ExitCode, CliError> {
    flags.selection.check()?;
    let workspace = flags.selection.workspace.as_deref();
    let format = match flags.format {
        Some(format) => format,
        None => match std::env::var("DECK_FORMAT").unwrap_or_default().to_ascii_lowercase().as_str() {
            "json" => Format::Json,
            _ => Format::Yaml,
        },
    };
    if !flags.all_workspaces {
        let remote = open(settings, workspace)?;
        let text = text(&remote, flags, workspace, format)?;
        return write(&flags.output_file, &text, format, flags.yes);
    }
    if workspace.is_some() {
        return Err(CliError::Message("workspace cannot be specified with --all-workspace flag".into()));
    }
    if flags.output_file != "-" {
        return Err(CliError::Message("output-file cannot be specified with --all-workspace flag".into()));
    }
    for name in open(settings, None)?.workspaces()? {
        let remote = open(settings, Some(&name))?;
        let text = text(&remote, flags, Some(&name), format)?;
        write(&name, &text, format, flags.yes)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(remote: &Remote, flags: &Dump, workspace: Option<&str>, format: Format) -> Result<String, CliError> {
    let select_tags = tags_of(&flags.selection);
    let mut entities = flags.selection.entities(remote, &select_tags, &Known::default())?;
    let needs_schemas = flags.skip_defaults || flags.sanitize;
    let schemas = if needs_schemas { Some(schemas(remote, None, &entities)?) } else { None };
    let sanitizer = schemas.as_ref().filter(|_| flags.sanitize).map(|schemas| {
        let salt = flags.sanitization_salt.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        Sanitizer { salt, schemas }
    });
    let mut select_tags = select_tags;
    if let Some(sanitizer) = &sanitizer {
        for entity in &mut entities {
            let failed = |error| CliError::Message(format!("a certificate cannot be made: {error}"));
            sanitizer.entity(entity).map_err(failed)?;
        }
        select_tags.iter_mut().for_each(|tag| *tag = sanitizer.text(tag));
    }
    let header = Header {
        workspace: workspace.map(str::to_owned),
        control_plane: remote.control_plane.clone(),
        select_tags,
    };
    let style = Style {
        with_id: flags.with_id || flags.sanitize,
        by_id: flags.sanitize,
        without_defaults: schemas.as_ref().filter(|_| flags.skip_defaults),
    };
    let document = document(entities, &header, style);
    Ok(match format {
        Format::Yaml => to_yaml(&document),
        Format::Json => indented(&document, b"  "),
    })
}

fn write(file: &str, text: &str, format: Format, yes: bool) -> Result<ExitCode, CliError> {
    if file == "-" {
        print(text);
        return Ok(ExitCode::SUCCESS);
    }
    let path = with_extension(file, format);
    let name = path.display().to_string();
    if path.exists()
        && !yes
        && !confirm(&format!("File '{name}' already exists. Do you want to overwrite it? "))
    {
        return Ok(ExitCode::SUCCESS);
    }
    let failed = |error: std::io::Error| CliError::Message(format!("writing {name}: {error}"));
    let mut options = std::fs::OpenOptions::new();
    let mut opened =
        options.write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    opened.write_all(text.as_bytes()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn with_extension(file: &str, format: Format) -> PathBuf {
    let path = Path::new(file);
    if path.extension().is_some() {
        return path.to_owned();
    }
    let extension = match format {
        Format::Yaml => "yaml",
        Format::Json => "json",
    };
    PathBuf::from(format!("{file}.{extension}"))
}
